"""`health`: whether the backends answer, for people, for programs and for container runtimes."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass, field
from importlib import import_module
from typing import Annotated, Final, cast

import orjson
import typer
from rich.table import Table
from rich.text import Text

from test_coordinator_data_adapter import __version__, adapters
from test_coordinator_data_adapter.cli.screen import errors, plain, show, table
from test_coordinator_data_adapter.cli.store import run
from test_coordinator_data_adapter.config import AdapterConfig
from test_coordinator_data_adapter.factory import AdapterFactory
from test_coordinator_data_adapter.models.values import JsonObject, JsonValue
from test_coordinator_data_adapter.observability import Fact, Probed, StateChanged
from test_coordinator_data_adapter.resilience.supervision import BackendState

__all__ = ["EXIT_DEGRADED", "EXIT_DOWN", "register"]

EXIT_DEGRADED: Final = 1
"""It works with less than it should."""
EXIT_DOWN: Final = 2
"""A setting is wrong, or strictness holds and a backend is missing."""

_BACKENDS: Final = ("postgres", "redis")
# Of the time for all; the rest is for one trip to each.
_FOR_OPENING: Final = 0.7
_STYLES: Final = {"live": "green", "healthy": "green", "misconfigured": "red", "unavailable": "red"}


def register(app: typer.Typer) -> None:
    """Adds the command `health`."""
    app.command("health")(health)


def health(
    *,
    json: Annotated[
        bool, typer.Option("--json", help="Print everything there is to tell, as JSON.")
    ] = False,
    strict: Annotated[
        bool | None,
        typer.Option(
            "--strict/--no-strict",
            help="Whether a backend that does not answer is a failure rather than degradation;"
            " startup_strict of the configuration unless given.",
        ),
    ] = None,
) -> None:
    """Open the backends as the service would, and say how they are.

    Takes no longer than health_check_timeout, and a second to close. Exit code 0 when
    both answer, 1 when one does not and memory would take its place, 2 when a setting is
    wrong, or when one does not answer and --strict holds.
    """

    async def command() -> tuple[JsonObject, bool]:
        config = AdapterConfig()
        told = await _asked(config)
        return told, config.startup_strict if strict is None else strict

    told, strictly = run(command)
    if json:
        sys.stdout.write(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _show(told)
    code = _exit_code(str(told["status"]), strictly=strictly)
    if code:
        raise typer.Exit(code)


def _exit_code(status: str, *, strictly: bool) -> int:
    if status == "healthy":
        return 0
    return EXIT_DOWN if strictly or status == "misconfigured" else EXIT_DEGRADED


@dataclass(slots=True)
class _States:
    """An observer that keeps what became of each backend before it was closed, and why."""

    by_backend: dict[str, str] = field(default_factory=dict[str, str])
    errors: dict[str, str] = field(default_factory=dict[str, str])

    def notice(self, fact: Fact, /) -> None:
        if isinstance(fact, StateChanged) and fact.state != "closed":
            self.by_backend[fact.backend] = fact.state
        elif isinstance(fact, Probed) and fact.error is not None:
            self.errors[fact.backend] = str(fact.error)


async def _asked(config: AdapterConfig) -> JsonObject:
    """What `health_check` says, opening included within the time it may take."""
    # Loading the drivers is this process's affair: it shall not count against the servers.
    for backend in _BACKENDS:
        import_module(f"{adapters.__name__}.{backend}.backend")
    patience = config.health_check_timeout * _FOR_OPENING
    states = _States()
    factory = AdapterFactory(
        config.model_copy(
            update={
                "health_check_timeout": config.health_check_timeout - patience,
                "startup_strict": False,  # what is wrong is to be shown, not raised
            }
        ),
        observers=[states],
    )
    try:
        async with asyncio.timeout(patience):
            await factory.initialize()
    except TimeoutError:
        return _late(states, patience)
    try:
        return await factory.health_check()
    finally:
        await factory.cleanup()


def _late(states: _States, seconds: float) -> JsonObject:
    """What is known when not all backends could be opened in time."""
    broken = BackendState.MISCONFIGURED in states.by_backend.values()
    told: JsonObject = {
        "factory_initialized": False,
        "status": "misconfigured" if broken else "degraded",
        "version": __version__,
    }
    for backend in _BACKENDS:
        state = states.by_backend.get(backend, BackendState.UNAVAILABLE.value)
        opened = state == BackendState.LIVE
        late = (
            f"it could not be opened within {seconds:g} s: check that it runs, can be reached and"
            " speaks TLS where its URL says so; health_check_timeout gives it longer"
        )
        told[backend] = {
            "connected": opened,
            "state": state,
            "error": None if opened else states.errors.get(backend, late),
            "warnings": [],
        }
    return told


def _show(told: JsonObject) -> None:
    status = str(told["status"])
    shown: Table = table("Backends", ("Backend", "State", "Answered in", "More"))
    for backend in _BACKENDS:
        facts = _facts(told, backend)
        state = str(facts.get("state"))
        latency = facts.get("latency_ms")
        shown.add_row(
            backend,
            Text(plain(state), style=_STYLES.get(state, "yellow")),
            f"{latency:.1f} ms" if isinstance(latency, float) else "-",
            plain(", ".join(_more(facts))),
        )
    show(shown, Text(f"Status: {status}", style=_STYLES.get(status, "yellow")))
    for backend in _BACKENDS:
        error = _facts(told, backend).get("error")
        if error is not None:
            errors().print(plain(f"{backend}: {error}"), soft_wrap=True)
        for warning in cast("list[str]", _facts(told, backend)["warnings"]):
            errors().print(plain(f"{backend}: warning: {warning}"), soft_wrap=True)


def _facts(told: JsonObject, backend: str) -> JsonObject:
    return cast("JsonObject", told[backend])


def _more(facts: JsonObject) -> list[str]:
    more: list[str] = []
    version: JsonValue = facts.get("server_version")
    if version is not None:
        more.append(f"version {version}")
    revision = cast("JsonObject | None", facts.get("schema_revision"))
    if revision is not None:
        more.append(f"schema {facts.get('schema')} at {revision['found'] or 'nothing'}")
    pool = cast("JsonObject | None", facts.get("pool"))
    if pool is not None:
        more.append(f"{pool['in_use']} of {pool['limit']} connections in use")
    if facts.get("tls"):
        more.append("encrypted")
    since = facts.get("degraded_since")
    if since is not None:
        more.append(f"since {since}")
    return more
