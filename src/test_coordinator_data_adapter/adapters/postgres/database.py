"""The waist: every statement travels to PostgreSQL through here, and nothing travels otherwise."""

from __future__ import annotations

import asyncio
import random as randomness
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Any, Final, TypeAlias, TypeVar

import asyncpg
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from test_coordinator_data_adapter.adapters.postgres.audit_setting import AUDIT_SETTING, Teller
from test_coordinator_data_adapter.adapters.postgres.connections import Connections, Lease
from test_coordinator_data_adapter.adapters.postgres.endpoint import Endpoint
from test_coordinator_data_adapter.adapters.postgres.observer import Observer, rows_touched
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.adapters.postgres.statement import Statement
from test_coordinator_data_adapter.adapters.postgres.transaction import Transaction
from test_coordinator_data_adapter.adapters.postgres.translation import (
    FORGOTTEN,
    READ_ONLY,
    USELESS,
    Failure,
    Phase,
    classify,
    normalize_error,
    translate,
)
from test_coordinator_data_adapter.errors import (
    AdapterError,
    UnavailableError,
)
from test_coordinator_data_adapter.resilience.backoff import Backoff
from test_coordinator_data_adapter.resilience.event_loop import only_loop
from test_coordinator_data_adapter.resilience.observation import HooksAt, Place, PoolUse, no_hooks
from test_coordinator_data_adapter.tls import TlsMode

__all__ = ["Database", "ServerFacts", "Statement", "Transaction"]

_AnswerT = TypeVar("_AnswerT")
_Coming: TypeAlias = Coroutine[Any, Any, _AnswerT]
_Verb: TypeAlias = Callable[..., Awaitable[_AnswerT]]

_FETCH: Final[_Verb[list[asyncpg.Record]]] = asyncpg.Connection.fetch
_FETCHROW: Final[_Verb[asyncpg.Record | None]] = asyncpg.Connection.fetchrow
_EXECUTE: Final[_Verb[str]] = asyncpg.Connection.execute

# An end of the connection that arrived while nobody looked is noticed within so many turns of the
# event loop: the server's last words, the end itself, the transport's closing, and one to spare.
_TURNS_TO_NOTICE: Final = 5
# For how many seconds a connection that was just used is taken to be there still.
_JUST_USED: Final = 0.005
_PORT: Final = 5432


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What the server says of itself.

    Attributes:
        version: such as "15.18".
        in_recovery: whether it is a standby.
        read_only: whether it refuses writes.
        tls: the protocol in force on the connection that asked, such as "TLSv1.3"; None without.
        fsync: whether the server syncs its files to disk.
        synchronous_commit: whether a commit waits until it is on disk.
    """

    version: str
    in_recovery: bool
    read_only: bool
    tls: str | None
    fsync: bool = True
    synchronous_commit: bool = True


_BEGIN: Final = Statement("BEGIN", None, writes=False)
# The deadline of a COPY holds between its batches; as a whole it may take as long as it has to.
_BEGIN_COPY: Final = Statement("BEGIN; SET LOCAL statement_timeout = 0", None, writes=False)
_FACTS: Final = Statement(
    "SELECT current_setting('server_version') AS version, pg_is_in_recovery() AS in_recovery,"
    " current_setting('transaction_read_only') = 'on' AS read_only,"
    " current_setting('fsync') = 'on' AS fsync,"
    " current_setting('synchronous_commit') <> 'off' AS synchronous_commit,"
    " (SELECT s.version FROM pg_stat_ssl s WHERE s.pid = pg_backend_pid() AND s.ssl) AS tls",
    None,
    writes=False,
)


class Database:
    """One PostgreSQL database, spoken to with a handful of verbs.

    Whatever is asked of it ends: waiting for a connection after ``pool_timeout``, opening one
    after ``connect_timeout``, the trip with all its repeats after ``query_timeout``. What cannot
    be answered ends in one of this library's errors; a cancelled call ends at once, and its
    connection with it. Belongs to the event loop that uses it first.
    """

    def __init__(
        self,
        settings: DatabaseSettings,
        *,
        hooks_at: HooksAt = no_hooks,
        on_unencrypted: Callable[[str], object] | None = None,
        random: Callable[[], float] = randomness.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        backoff: Backoff = Backoff(),  # noqa: B008 - immutable
    ) -> None:
        """Prepare everything; connect to nothing yet.

        Args:
            settings: which database, and how to treat it.
            hooks_at: hands out what is to be called, once it is known where the database is.
            on_unencrypted: is called with a warning when a connection to another machine is not
                encrypted; it is logged unless given.
            random: draws the pauses between repeats, from 0 to 1.
            sleep: waits through them.
            backoff: bounds them.

        Raises:
            ConfigurationError: the URL or the TLS settings make no sense.
        """
        self._settings: Final = settings
        self._endpoint: Final = Endpoint.of(
            settings.url, settings.tls, on_unencrypted=on_unencrypted
        )
        self._connections: Final = Connections(settings, self._endpoint)
        self.tell: Final = Teller(settings.audit_actor)
        self.hooks: Final = hooks_at(self.place)
        self._observer = Observer(self.hooks)
        self._random = random
        self._sleep = sleep
        self._backoff = backoff
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def schema(self) -> str:
        """Where the tables are."""
        return self._settings.schema

    @property
    def place(self) -> Place:
        """Where it is, without any secret."""
        endpoint = self._endpoint
        host, port = endpoint.hosts[0] if len(endpoint.hosts) == 1 else ("", _PORT)
        return Place(
            "postgres",
            namespace=f"{endpoint.database}|{self.schema}",
            address=host or None,
            port=None if port == _PORT else port,
        )

    @property
    def tls_mode(self) -> TlsMode:
        """What is demanded of TLS; whether a connection is encrypted is among the facts."""
        return self._endpoint.tls.mode

    @property
    def encryption_warning(self) -> str | None:
        """What is wrong with the encryption of the connections, if anything is."""
        return self._endpoint.encryption_warning

    async def aclose(self) -> None:
        """Close every connection without waiting for the server; trips under way fail."""
        self._closed = True
        await self._connections.aclose()

    # These hand out the coroutine they would otherwise wait for: each one between the caller and
    # the socket costs a point read one part in fifty.

    def fetch(self, statement: Statement, *parameters: object) -> _Coming[list[asyncpg.Record]]:
        """All rows.

        Args:
            statement: what to send.
            parameters: its parameters; objects and lists for jsonb go in and come back as such.

        Raises:
            AdapterError: any but NotFoundError and ConflictError.
        """
        return self._run(statement, _FETCH, parameters)

    def fetch_one(
        self, statement: Statement, *parameters: object
    ) -> _Coming[asyncpg.Record | None]:
        """The first row, or None; otherwise like ``fetch``."""
        return self._run(statement, _FETCHROW, parameters)

    async def execute(self, statement: Statement, *parameters: object) -> int:
        """How many rows it touched; otherwise like ``fetch``."""
        status = await self._run(statement, _EXECUTE, parameters)
        return rows_touched(status)

    async def copy(
        self,
        table: str,
        columns: Mapping[str, type],
        records: Iterable[tuple[object, ...]],
        *,
        entity: str | None = None,
    ) -> None:
        """Store many rows by one COPY, all or none.

        The records are taken some at a time as the connection drains, so their number is bounded
        by nothing; the event loop gets its turn in between.

        Args:
            table: its name, in the schema.
            columns: their names, and what each holds beside None: str, int, float or datetime.
            records: the rows, a value for each column.
            entity: what they are, for errors.

        Raises:
            AdapterError: like ``fetch``; nothing was applied, except with OutcomeUnknownError.
        """
        told = self.tell().replace("\\", "\\\\").replace("'", "''")

        async def begin(connection: asyncpg.Connection[asyncpg.Record], sql: str) -> str:
            # It may quote a caller: it travels along, but is no part of what is logged.
            return await connection.execute(f"{sql}; SET LOCAL {AUDIT_SETTING} = E'{told}'")

        async with self._transaction(_BEGIN_COPY, begin) as transaction:
            await transaction.copy(table, columns, records, entity=entity)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[Transaction]:
        """The same verbs on one connection, applied together when the block ends, or not at all.

        Nothing in it is tried again but its beginning: what is lost before the end was not
        applied (UnavailableError); of an end whose answer is lost nobody knows. A statement
        that failed dooms the whole, even if the block keeps its error to itself.
        """
        async with self._transaction(_BEGIN) as transaction:
            yield transaction

    async def ping(self) -> ServerFacts:
        """What the server says of itself, in one trip.

        Raises:
            AdapterError: like ``fetch``.
        """
        row = await self.fetch_one(_FACTS)
        assert row is not None  # noqa: S101 - tells the type checkers: this SELECT has no FROM
        if row["in_recovery"] or row["read_only"]:
            # Set to read-only while connected: a new connection finds the one that accepts writes.
            self._connections.expire_connections_before(monotonic())
            row = await self.fetch_one(_FACTS)
            assert row is not None  # noqa: S101 - as above
        return ServerFacts(
            version=str(row["version"]).split()[0],
            in_recovery=bool(row["in_recovery"]),
            read_only=bool(row["read_only"]),
            tls=row["tls"],
            fsync=bool(row["fsync"]),
            synchronous_commit=bool(row["synchronous_commit"]),
        )

    @property
    def answered_at(self) -> float:
        """When the server last answered anything, on the clock of `time.monotonic`."""
        return self._connections.answered_at

    async def answers(self) -> bool:
        """Whether the server answers on another connection while those of the pool are in use."""
        return await self._connections.answers()

    def pool_use(self) -> PoolUse:
        """How busy the pool is."""
        return self._connections.pool_use()

    def session_maker(self) -> async_sessionmaker[AsyncSession]:
        """Makes SQLAlchemy sessions on the same engine and in the same schema.

        What they raise is SQLAlchemy's own; nothing is translated or repeated there.
        """
        return async_sessionmaker(self._connections.engine, expire_on_commit=False)

    async def _run(
        self,
        statement: Statement,
        verb: _Verb[_AnswerT],
        parameters: tuple[object, ...],
        *,
        keep: Callable[[Lease, float], object] | None = None,
    ) -> _AnswerT:
        """One trip and its repeats; the connection is given back, or left to who keeps it."""
        if (loop := asyncio.get_running_loop()) is not self._loop:
            self._loop = only_loop(self._loop, loop)
        connections = self._connections
        left = self._settings.query_timeout
        patience = self._settings.pool_timeout
        repeats: _Repeats | None = None
        while True:
            asked = sent = monotonic()
            lease = connections.acquire_idle(sent)
            if lease is None or (statement.writes and sent - lease.idle_since > _JUST_USED):
                lease = await self._ready(statement, lease, patience)
                sent = monotonic()
                patience -= sent - asked
            connections.set_deadline(lease, sent + left)
            again = repeats is not None
            try:
                answer = await verb(lease.connection, statement.sql, *parameters)
            except BaseException as error:
                took = monotonic() - sent
                left -= took
                told = self._settle(statement, lease, error, asked, sent, again=again)
                if told is None:
                    raise
                repeats = repeats or _Repeats(statement, self._backoff, self._random)
                pause = repeats.pause(lease, error, took, left)
                if pause is None:
                    self._observer.report_failure(statement, told)
                    raise told from None
            else:
                now = monotonic()
                took = now - sent
                (keep or connections.release)(lease, now)
                observer = self._observer
                if observer.calls.failing:
                    observer.report_success(statement)
                if took < observer.plain_below and sent == asked and not again:
                    observer.on_plain_trip(statement.sql, took)
                elif took >= observer.threshold:
                    observer.tell(
                        statement, waited=sent - asked, took=took, answer=answer, again=again
                    )
                return answer
            if pause:
                left -= pause
                await self._sleep(pause)

    @asynccontextmanager
    async def _transaction(
        self, begin: Statement, verb: _Verb[str] = _EXECUTE
    ) -> AsyncGenerator[Transaction]:
        kept: list[Lease] = []
        await self._run(begin, verb, (), keep=lambda lease, _: kept.append(lease))
        (lease,) = kept
        lease.deadline = inf
        transaction = Transaction(
            lease,
            self._connections,
            schema=self._settings.schema,
            limit=self._settings.query_timeout,
            observer=self._observer,
            server=self._endpoint.description,
        )
        try:
            yield transaction
            await transaction.end()
        except Exception:
            await transaction.abandon()
            raise
        finally:
            # Whoever was cancelled, or could not even roll back, leaves it open: it is cut then.
            self._connections.release(lease, monotonic())

    async def _lease(self, statement: Statement, patience: float) -> Lease:
        if self._closed:
            raise UnavailableError("closed: open the factory again", entity=statement.entity)
        began = monotonic()
        try:
            return await self._connections.acquire(patience)
        except AdapterError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever keeps a connection from opening
            phase = Phase.CONNECTING
            if classify(error) is Failure.OVERLOAD:
                # None being open is not being busy: the server lets nobody in.
                if self._connections.pool_use().open:
                    phase = Phase.WAITING
                else:
                    error = TimeoutError()
            told = translate(
                normalize_error(error, expired=False, closed=False, connecting=True),
                phase=phase,
                writes=statement.writes,
                entity=statement.entity,
                server=self._endpoint.description,
            )
            if self._observer.threshold <= 0:
                self._observer.tell(
                    statement,
                    waited=monotonic() - began,
                    took=0.0,
                    error=told,
                    expired=isinstance(error, TimeoutError) or phase is Phase.WAITING,
                )
            self._observer.report_failure(statement, told)
            raise told from None

    async def _ready(self, statement: Statement, lease: Lease | None, patience: float) -> Lease:
        """A connection that is good for something sent only once: this one, or another."""
        if lease is not None:
            try:
                for _ in range(_TURNS_TO_NOTICE):
                    await asyncio.sleep(0)
            except BaseException:
                self._connections.release(lease, lease.idle_since)
                raise
            if not lease.connection.is_closed():
                return lease
            self._connections.abort(lease)
        return await self._lease(statement, patience)

    def _settle(
        self,
        statement: Statement,
        lease: Lease,
        error: BaseException,
        asked: float,
        sent: float,
        *,
        again: bool,
    ) -> AdapterError | None:
        """Decide what becomes of the connection; what to tell the caller, None for nothing."""
        now = monotonic()
        told: AdapterError | None = None
        closed = lease.connection.is_closed()
        error = normalize_error(error, expired=lease.expired, closed=closed)
        if isinstance(error, Exception):
            told = translate(
                error,
                phase=Phase.SENT,
                writes=statement.writes,
                entity=statement.entity,
                server=self._endpoint.description,
            )
        if told is None or told.sqlstate is None or told.sqlstate in USELESS:
            self._connections.abort(lease)
        else:
            self._connections.release(lease, now)
        unreadable = classify(error) is Failure.CORRUPT_ROW
        if told is not None and lease.connection.is_closed() and not unreadable:
            # What was lost here is lost everywhere: a restarted server, a cut network.
            self._connections.expire_connections_before(sent)
        if now - sent >= self._observer.threshold:
            self._observer.tell(
                statement,
                waited=sent - asked,
                took=now - sent,
                error=told,
                abandoned=told is None,
                again=again,
                expired=lease.expired,
            )
        return told


class _Repeats:
    """Decides, failure by failure, whether one call is tried again."""

    __slots__ = ("_backoff", "_failures", "_lost", "_random", "_statement")

    def __init__(self, statement: Statement, backoff: Backoff, random: Callable[[], float]) -> None:
        self._statement = statement
        self._backoff = backoff
        self._random = random
        self._failures = 0
        self._lost = False

    def pause(self, lease: Lease, error: BaseException, took: float, left: float) -> float | None:
        """Seconds to wait before trying again; None to leave it."""
        self._failures += 1
        failure = classify(error)
        if lease.expired or left <= 0.0:
            return None
        if failure is Failure.TRANSIENT and not self._statement.batched:
            # What waited for a lock that long would wait as long again, and be cut off.
            pause = self._backoff.pause(self._failures, self._random)
            return None if pause is None or max(took, pause) > left else pause
        if failure is Failure.TIMEOUT:
            return 0.0 if self._failures == 1 and left >= took else None
        # Nothing was executed; a new connection is one to the server that accepts writes.
        unsent = getattr(error, "sqlstate", None) in {FORGOTTEN, READ_ONLY}
        lost = failure is Failure.LOST and not self._statement.writes
        if (lost or unsent) and not self._lost:
            self._lost = True
            return 0.0
        return None
