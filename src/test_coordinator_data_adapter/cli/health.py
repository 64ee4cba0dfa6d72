"""`health`: whether the backends answer, for people, for programs and for container runtimes."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import Annotated, Final, cast

import orjson
import typer
from rich.table import Table
from rich.text import Text

from test_coordinator_data_adapter import __version__, adapters
from test_coordinator_data_adapter.cli.program import ExitCode, add_command, run
from test_coordinator_data_adapter.cli.screen import plain, say, show, table
from test_coordinator_data_adapter.cli.store import BackendStates
from test_coordinator_data_adapter.config import AdapterConfig
from test_coordinator_data_adapter.factory import AdapterFactory
from test_coordinator_data_adapter.models.values import JsonObject, JsonValue
from test_coordinator_data_adapter.resilience.supervision import BackendState

__all__ = ["register"]

_BACKENDS: Final = ("postgres", "redis")
# Of the time for all; the rest is for one trip to each.
_FOR_OPENING: Final = 0.7
_STYLES: Final = {
    **dict.fromkeys(("live", "healthy"), "green"),
    **dict.fromkeys(("misconfigured", "unavailable", "lost"), "red"),
}


def register(app: typer.Typer) -> None:
    """Adds the command `health`."""
    add_command(app, "health", health)


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
    both respond, 1 when one does not respond and memory would take its place, 2 when a setting
    is wrong, 3 when a server refuses, for instance the password, or, with --strict, does not
    respond.
    """
    states = BackendStates()

    async def command() -> tuple[JsonObject, bool]:
        config = AdapterConfig()
        told = await _asked(config, states)
        return told, config.startup_strict if strict is None else strict

    told, strictly = run(command)
    if json:
        sys.stdout.write(orjson.dumps(told, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _show(told)
    raise typer.Exit(_exit_code(str(told["status"]), states, strictly=strictly))


def _exit_code(status: str, states: BackendStates, *, strictly: bool) -> ExitCode:
    if status == "healthy":
        return ExitCode.DONE
    if status == "misconfigured":
        wrong_setting = any(map(states.has_wrong_setting, _BACKENDS))
        return ExitCode.USAGE if wrong_setting else ExitCode.DATABASE
    return ExitCode.DATABASE if strictly else ExitCode.NEGATIVE


async def _asked(config: AdapterConfig, states: BackendStates) -> JsonObject:
    """What `health_check` says, opening included within the time it may take."""
    # Loading the drivers is this process's affair: it shall not count against the servers.
    for backend in _BACKENDS:
        import_module(f"{adapters.__name__}.{backend}.backend")
    patience = config.health_check_timeout * _FOR_OPENING
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


def _late(states: BackendStates, seconds: float) -> JsonObject:
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
            "error": None if opened else str(states.errors.get(backend, late)),
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
            say(f"{backend}: {plain(str(error))}")
        for warning in cast("list[str]", _facts(told, backend)["warnings"]):
            say(f"{backend}: warning: {plain(warning)}")


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
