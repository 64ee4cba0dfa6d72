"""PostgreSQL as a factory supervises it: the database, and what is handed out over it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Final, TypeAlias

from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from test_coordinator_data_adapter.adapters.postgres.audit import PostgresAuditRepository
from test_coordinator_data_adapter.adapters.postgres.chaos_events import (
    PostgresChaosEventsRepository,
)
from test_coordinator_data_adapter.adapters.postgres.database import Database, ServerFacts
from test_coordinator_data_adapter.adapters.postgres.endpoint import warn_unencrypted
from test_coordinator_data_adapter.adapters.postgres.migration import SchemaState, schema_state
from test_coordinator_data_adapter.adapters.postgres.privileges import require_privileges
from test_coordinator_data_adapter.adapters.postgres.retention import (
    PostgresRetentionRepository,
)
from test_coordinator_data_adapter.adapters.postgres.scenarios import PostgresScenariosRepository
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.adapters.postgres.test_results import (
    PostgresTestResultsRepository,
)
from test_coordinator_data_adapter.adapters.postgres.test_runs import PostgresTestRunsRepository
from test_coordinator_data_adapter.errors import UnavailableError
from test_coordinator_data_adapter.models.values import JsonValue
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.resilience.observation import HooksAt, no_hooks

__all__ = ["OpenPostgres", "PostgresBackend", "SessionMaker"]

SessionMaker: TypeAlias = async_sessionmaker[AsyncSession]
"""Makes SQLAlchemy sessions."""

_CLOSED: Final = "postgres is not open: initialise the factory first"


class OpenPostgres:
    """One database and the repositories over it.

    Attributes:
        database: the waist.
        scenarios: where scenarios are kept.
        test_runs: where test runs are kept.
        chaos_events: where chaos events are kept.
        test_results: where test results are kept.
        retention: what deletes what was kept long enough.
        audit: where every mutation is recorded.
    """

    def __init__(self, database: Database, batch_size: int) -> None:
        self.database = database
        self.scenarios = PostgresScenariosRepository(database, batch_size=batch_size)
        self.test_runs = PostgresTestRunsRepository(database, batch_size=batch_size)
        self.chaos_events = PostgresChaosEventsRepository(database, batch_size=batch_size)
        self.test_results = PostgresTestResultsRepository(database, batch_size=batch_size)
        self.retention = PostgresRetentionRepository(database)
        self.audit = PostgresAuditRepository(database, batch_size=batch_size)

    async def aclose(self) -> None:
        for repository in (self.scenarios, self.test_runs, self.chaos_events, self.test_results):
            await repository.aclose()
        await self.database.aclose()


class PostgresBackend:
    """One schema of one PostgreSQL database."""

    def __init__(
        self,
        settings: DatabaseSettings,
        *,
        batch_size: int = 100,
        hooks_at: HooksAt = no_hooks,
        events: EventLog | None = None,
    ) -> None:
        """Know where it is; nothing is opened yet.

        Args:
            settings: where, and how to treat it.
            batch_size: rows that travel at once in streams.
            hooks_at: hands out what is to be called, once it is known where PostgreSQL is.
            events: where it is logged, once, that a connection to another machine is not
                encrypted.
        """
        self._settings = settings
        self._batch_size = batch_size
        self._hooks_at = hooks_at
        self._events = events
        self._has_warned = False
        self._opened: OpenPostgres | None = None
        self._learned: dict[str, JsonValue] = {}

    @property
    def name(self) -> str:
        """What health and events call it."""
        return "postgres"

    @property
    def opened(self) -> OpenPostgres:
        """The database and the repositories over it.

        Raises:
            UnavailableError: it is not open.
        """
        if self._opened is None:
            raise UnavailableError(_CLOSED)
        return self._opened

    async def open(self) -> None:
        """Connect and see that the schema is the one this library works with.

        Raises:
            AdapterError: PostgreSQL cannot be used.
        """
        database = Database(
            self._settings, hooks_at=self._hooks_at, on_unencrypted=self._on_unencrypted
        )
        try:
            await self._require_usable(database)
        except BaseException:
            await database.aclose()
            raise
        self._opened = OpenPostgres(database, self._batch_size)
        if database.hooks.on_pool is not None:
            database.hooks.on_pool(database.pool_use)

    def known(self) -> dict[str, JsonValue]:
        """What is known of PostgreSQL without asking it, also where it cannot be used."""
        if self._opened is None:
            return self._learned
        database = self._opened.database
        return {
            **self._learned,
            "tls_asked": database.tls_mode,
            "pool": asdict(database.pool_use()),
        }

    @property
    def answered_at(self) -> float:
        """When it last answered anything; 0.0 while it is not open."""
        return 0.0 if self._opened is None else self._opened.database.answered_at

    async def facts(self) -> dict[str, JsonValue]:
        """What PostgreSQL tells of itself, and the revision of the schema.

        Raises:
            AdapterError: PostgreSQL does not answer as it should.
        """
        await self._require_usable(self.opened.database)
        return self._learned

    async def answers(self) -> bool:
        """Whether the server answers on another connection while those of the pool are in use."""
        return await self.opened.database.answers()

    async def _require_usable(self, database: Database) -> None:
        """Check everything that calls need.

        Raises:
            AdapterError: calls would fail, and why.
        """
        facts = await database.ping()
        (await self._learn(database, facts)).require_current()
        _require_writable(facts)
        await require_privileges(database)

    async def _learn(self, database: Database, facts: ServerFacts) -> SchemaState:
        """Remember what the server said, however that turns out to fit."""
        state = await schema_state(database)
        self._learned = {
            "schema": database.schema,
            "server_version": facts.version,
            "read_only": facts.in_recovery or facts.read_only,
            "tls": facts.tls,
            "schema_revision": {"found": state.found, "wanted": state.wanted},
            "warnings": [*_encryption_warnings(database), *_durability_warnings(facts)],
        }
        return state

    def _on_unencrypted(self, warning: str) -> None:
        # A backend that is opened again, such as while its schema is missing, repeats nothing.
        if not self._has_warned:
            self._has_warned = True
            warn_unencrypted(warning, self._events)

    async def aclose(self) -> None:
        """Close every connection."""
        opened, self._opened = self._opened, None
        self._learned = {}
        if opened is not None:
            if opened.database.hooks.on_pool is not None:
                opened.database.hooks.on_pool(None)
            await opened.aclose()


def _encryption_warnings(database: Database) -> Iterator[JsonValue]:
    if database.encryption_warning is not None:
        yield database.encryption_warning


def _durability_warnings(facts: ServerFacts) -> Iterator[JsonValue]:
    """The settings of the server under which it can lose what it has acknowledged."""
    if not facts.fsync:
        yield "fsync is off: the server can lose or damage everything when its machine crashes"
    if not facts.synchronous_commit:
        yield "synchronous_commit is off: a crash of the server can lose the last commits"


def _require_writable(facts: ServerFacts) -> None:
    if facts.in_recovery or facts.read_only:
        raise UnavailableError("postgres accepts no writes: it is a standby or set to read-only")
