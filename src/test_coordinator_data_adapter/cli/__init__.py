"""The command line, one module for each group of commands."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Annotated, Final

import structlog
import typer
from structlog.typing import EventDict, Processor

from test_coordinator_data_adapter import __version__
from test_coordinator_data_adapter.cli import (
    audit,
    config,
    demo,
    health,
    import_,
    migrate,
    prune,
    redis,
    sql,
)
from test_coordinator_data_adapter.cli.program import Program
from test_coordinator_data_adapter.cli.screen import errors, has_colors

__all__ = ["app"]

# a new group of commands is a module with a function `register`, and its name here
_GROUPS = (audit, config, demo, health, import_, migrate, prune, redis, sql)

# Every command says itself whether the database can be used, and what it does instead.
_OF_THE_DATABASE: Final = frozenset(
    {("backend_unavailable", "postgres"), ("backend_misconfigured", "postgres")}
)
# How the backends are is all that `health` says.
_OF_BACKENDS: Final = frozenset(
    product(("backend_unavailable", "backend_misconfigured", "backend_lost"), ("postgres", "redis"))
)

app = typer.Typer(
    cls=Program,
    help="The data of test-coordinator-py: databases, imports, health, audit.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,  # they print local variables, and with them passwords
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it with the value
    if wanted:
        sys.stdout.write(f"{__version__}\n")
        raise typer.Exit


def _logging_as_it_is() -> Callable[[], None]:
    """How to put structlog's configuration back to what it is now."""
    if structlog.is_configured():
        return partial(structlog.configure, **structlog.get_config())
    return structlog.reset_defaults


def _leave_out(said: frozenset[tuple[str, str]]) -> Processor:
    """Leaves out events of backends that the command tells of in words of its own."""

    def leave_out(_logger: object, _name: str, event: EventDict) -> EventDict:
        if (event.get("event"), event.get("backend")) in said:
            raise structlog.DropEvent
        return event

    return leave_out


@app.callback()
def _every_command(
    context: typer.Context,
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Show all log messages, not only warnings; may stand anywhere.",
        ),
    ] = False,
) -> None:
    # who calls the command line inside another program gets that program's logging back
    context.call_on_close(_logging_as_it_is())
    *told, renderer = structlog.get_config()["processors"]
    if isinstance(renderer, structlog.dev.ConsoleRenderer):
        # by itself it asks standard output whether there is anybody to see colours
        renderer = structlog.dev.ConsoleRenderer(colors=has_colors(errors()))
    told = [*told, renderer]
    said = _OF_BACKENDS if context.invoked_subcommand == "health" else _OF_THE_DATABASE
    # standard output belongs to the answer, which other programs read
    structlog.configure(
        processors=told if verbose else [_leave_out(said), *told],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.NOTSET if verbose else logging.WARNING
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # a terminal that cannot show a character gets it escaped instead of a crash
            stream.reconfigure(errors="backslashreplace")


for _group in _GROUPS:
    _group.register(app)
