"""The pool: a bounded number of connections to one database, handed out in the order of asking."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import asyncpg
import orjson
from sqlalchemy import event, exc
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from test_coordinator_data_adapter.adapters.postgres.codec import (
    set_jsonb_codec,
    set_text_timestamps,
)
from test_coordinator_data_adapter.adapters.postgres.endpoint import Endpoint
from test_coordinator_data_adapter.adapters.postgres.jsonb import json_bytes
from test_coordinator_data_adapter.adapters.postgres.refusals import TooManyConnectionsBackoff
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.adapters.postgres.translation import is_full
from test_coordinator_data_adapter.errors import UnavailableError
from test_coordinator_data_adapter.resilience.observation import PoolUse

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

__all__ = ["Connection", "Connections", "Lease"]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_CLOSED: Final = "closed: open the factory again"
# How often deadlines are checked, in seconds; a round trip may end this much after its deadline.
_SWEEP_INTERVAL: Final = 0.05
# How long closing lets connections finish opening, in seconds.
_CLOSE_GRACE: Final = 0.1


class Lease:
    """One open connection of the pool.

    Attributes:
        connection: the driver's connection.
        usable_until: when it must be replaced; all times on the clock of ``time.monotonic``.
        idle_since: when the server last answered on it.
        deadline: when the round trip that it is used for is cut off.
        expired: whether that happened.
    """

    __slots__ = ("connection", "deadline", "expired", "idle_since", "usable_until")

    def __init__(self, connection: Connection, opened_at: float, max_age: float) -> None:
        self.connection = connection
        self.usable_until = opened_at + max_age
        self.idle_since = opened_at
        self.deadline = inf
        self.expired = False


class _Waiter:
    """One call, or one SQLAlchemy session, that waits for a connection."""

    __slots__ = ("deadline", "for_session", "future", "opening")

    def __init__(self, future: asyncio.Future[Lease], deadline: float, *, session: bool) -> None:
        self.future = future
        self.deadline = deadline
        self.for_session = session
        self.opening = False  # whether a connection is being opened for this session


class Connections:
    """All connections to one database.

    At most ``pool_size + max_overflow`` are open at a time, ``pool_size`` of them while idle.
    Calls and sessions wait in one queue, first come, first served. Connections are opened by
    tasks of their own, so a caller that is cancelled breaks nothing off: the next one gets what
    it asked for.

    SQLAlchemy's sessions have connections of their own, because the driver's options cannot be
    changed once a connection is open. They count against the same limit; an idle connection of
    one kind is closed when the other kind needs the room.
    """

    def __init__(self, settings: DatabaseSettings, endpoint: Endpoint) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._leases: set[Lease] = set()
        self._idle: list[Lease] = []
        self._session_leases: dict[object, Lease] = {}
        self._idle_sessions: set[Lease] = set()
        self._queue: deque[_Waiter] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._session_openings = 0
        self._backoff = TooManyConnectionsBackoff(self._dispatch)
        self._engine: AsyncEngine | None = None
        self._sweeping = False
        self._closed = False

    @property
    def engine(self) -> AsyncEngine:
        """The engine for sessions; created when it is first asked for."""
        if self._engine is None:
            self._engine = self._create_engine()
        return self._engine

    def acquire_idle(self, now: float) -> Lease | None:
        """Return a connection that is ready, without waiting; None if there is none."""
        while self._idle:
            lease = self._idle.pop()
            if now < lease.usable_until and not lease.connection.is_closed():
                return lease
            self._remove(lease)
        return None

    async def acquire(self, timeout: float) -> Lease:  # noqa: ASYNC109 - one timer serves all waiters
        """Wait for a connection: the next that becomes free, or a new one.

        A server that has no room for another connection is asked again after pauses that grow to
        a second; meanwhile the call waits for one of those that are open.

        Args:
            timeout: how many seconds to wait.

        Raises:
            sqlalchemy.exc.TimeoutError: none became free in time.
            Exception: whatever kept a new connection from being opened.
        """
        return await self._wait(timeout, session=False)

    def release(self, lease: Lease, now: float) -> None:
        """Return a connection whose statement is over."""
        lease.deadline = inf
        lease.idle_since = now
        connection = lease.connection
        if connection.is_closed() or connection.is_in_transaction() or self._closed:
            # An open transaction would swallow the statements that follow.
            self.abort(lease)
            return
        queue = self._queue
        while queue:
            waiter = queue[0]
            if waiter.for_session and not waiter.future.done():
                self._idle.append(lease)
                self._dispatch()
                return
            queue.popleft()
            if not waiter.future.done():
                waiter.future.set_result(lease)
                return
        if len(self._leases) > self._settings.pool_size:
            self._remove(lease)
        else:
            self._idle.append(lease)

    def abort(self, lease: Lease) -> None:
        """Close a connection abruptly, and let the next waiter have the room."""
        self._remove(lease)
        self._dispatch()

    def set_deadline(self, lease: Lease, deadline: float) -> None:
        """Cut the connection if it is still busy then.

        One timer checks all deadlines: one for each round trip would cost more than the rest of
        the work on it.
        """
        lease.deadline = deadline
        if not self._sweeping:
            self._start_sweeping()

    def expire_connections_before(self, timestamp: float) -> None:
        """Replace every connection that was opened before, when it is next used."""
        latest = timestamp + self._settings.pool_recycle
        for lease in self._leases:
            if lease.usable_until < latest:
                lease.usable_until = 0.0

    @property
    def answered_at(self) -> float:
        """When the server last answered on one of the connections; 0.0 without any."""
        return max((lease.idle_since for lease in self._leases), default=0.0)

    async def answers(self) -> bool:
        """Whether the server accepts one more connection than the pool has, or is merely full."""
        try:
            lease = await self._connect(session=True)
        except Exception as error:  # noqa: BLE001 - whatever keeps it from answering
            return is_full(error)
        lease.connection.terminate()
        return True

    def pool_use(self) -> PoolUse:
        """How busy the pool is; a connection that is being opened is in use."""
        idle = len(self._idle) + len(self._idle_sessions)
        return PoolUse(
            size=self._settings.pool_size,
            limit=self._settings.pool_size + self._settings.max_overflow,
            open=len(self._leases),
            in_use=self._size - idle,
            waiting=max(0, len(self._queue) - len(self._opening)),
        )

    async def aclose(self) -> None:
        """Close everything at once; a round trip under way fails."""
        self._closed = True
        for waiter in self._queue:
            _fail(waiter, UnavailableError(_CLOSED))
        if self._opening:
            # Cancelled while the kernel connects, the driver leaves a future behind whose error
            # asyncio logs; a little later nothing of the kind is left.
            await asyncio.wait(self._opening, timeout=_CLOSE_GRACE)
        self._backoff.reset()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for lease in tuple(self._leases):
            self._remove(lease)
        self._idle.clear()
        if self._engine is not None:
            await self._engine.dispose()

    # Waiting

    async def _wait(self, timeout: float, *, session: bool) -> Lease:  # noqa: ASYNC109 - as above
        if self._closed:
            raise UnavailableError(_CLOSED)
        loop = asyncio.get_running_loop()
        waiter = _Waiter(loop.create_future(), monotonic() + timeout, session=session)
        self._queue.append(waiter)
        self._dispatch()
        if not self._sweeping:
            self._start_sweeping()
        future = waiter.future
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                # Handed over in the same turn of the event loop: the next waiter gets it.
                if session:
                    self.abort(future.result())
                else:
                    self.release(future.result(), monotonic())
            raise
        finally:
            with suppress(ValueError):
                self._queue.remove(waiter)

    def _dispatch(self) -> None:
        """Serve the waiters in order, as far as there is room for new connections."""
        if self._closed or not self._has_room:
            return
        coming = len(self._opening) - self._session_openings
        for waiter in tuple(self._queue):
            if waiter.future.done() or waiter.opening:
                continue
            if waiter.for_session:
                if not self._make_room(session=True):
                    return
                waiter.opening = True
                self._start_opening(waiter)
            elif (lease := self.acquire_idle(monotonic())) is not None:
                self._queue.remove(waiter)
                waiter.future.set_result(lease)
            elif coming:
                coming -= 1
            elif self._make_room(session=False):
                self._start_opening(None)
            else:
                return

    @property
    def _size(self) -> int:
        return len(self._leases) + len(self._opening)

    @property
    def _limit(self) -> int:
        limit = self._settings.pool_size + self._settings.max_overflow
        if self._backoff:
            # One at a time may ask the server; while none is open, at any time.
            limit = min(limit, max(1, len(self._leases) + (not self._backoff.pausing)))
        return limit

    @property
    def _has_room(self) -> bool:
        """Whether a connection may be opened, if need be after an idle one is closed."""
        return self._size - len(self._idle) - len(self._idle_sessions) < self._limit

    def _make_room(self, *, session: bool) -> bool:
        """Close an idle connection of the other kind where there is no room for a new one."""
        if self._size < self._limit:
            return True
        if self._idle_sessions:
            self._remove(next(iter(self._idle_sessions)))
        elif session and self._idle:
            self._remove(self._idle.pop(0))
        else:
            return False
        return True

    # Opening

    def _start_opening(self, waiter: _Waiter | None) -> None:
        self._session_openings += waiter is not None
        task = asyncio.create_task(self._open(waiter))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self, waiter: _Waiter | None) -> None:
        """Open a connection for a session, or for the first call that waits by then."""
        lease: Lease | None = None
        failure: Exception | None = None
        try:
            lease = await self._connect_patiently(session=waiter is not None)
        except Exception as error:  # noqa: BLE001 - a waiter raises it
            failure = error
        finally:
            self._opening.discard(cast("asyncio.Task[None]", asyncio.current_task()))
            self._session_openings -= waiter is not None
        if lease is not None:
            # Where there was room for one there may be room for the next.
            self._backoff.reset()
            self._leases.add(lease)
            if waiter is None:
                self.release(lease, lease.idle_since)
            elif waiter.future.done():
                self._remove(lease)
            else:
                self._queue.remove(waiter)
                waiter.future.set_result(lease)
        elif failure is not None:
            self._report(failure, waiter)
        self._dispatch()

    def _report(self, failure: Exception, waiter: _Waiter | None) -> None:
        """Raise a failure to connect in whichever calls it concerns."""
        if not is_full(failure):
            self._backoff.reset()
            _fail(waiter or self._first_call(), failure)
        elif self._leases or self._opening:
            # The waiter may have one of those, or another attempt after the pause.
            if waiter is not None:
                waiter.opening = False
        else:
            for each in self._queue:
                _fail(each, failure)

    def _first_call(self) -> _Waiter | None:
        calls = (each for each in self._queue if not (each.for_session or each.future.done()))
        return next(calls, None)

    async def _connect_patiently(self, *, session: bool) -> Lease:
        """Connect; a server that refuses the only connection may do so for a short while."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + self._settings.connect_timeout
        while True:
            try:
                async with asyncio.timeout_at(ends):
                    return await self._connect(session=session)
            except Exception as error:
                if not is_full(error):
                    raise
                pause = self._backoff.add()
                others = self._leases or len(self._opening) > 1
                if others or self._backoff.final or loop.time() + pause >= ends:
                    raise
            await asyncio.sleep(pause)

    async def _connect(self, *, session: bool) -> Lease:
        settings = self._settings
        connection = await self._endpoint.connect(
            timeout=settings.connect_timeout,
            # Calls have deadlines of the pool's own: the driver's cost a tenth of a point read.
            command_timeout=settings.query_timeout if session else None,
            server_settings=_session_settings(
                settings, self._endpoint.application_name or settings.application_name
            ),
        )
        try:
            if not session:
                await set_jsonb_codec(connection)
                await set_text_timestamps(connection)
        except BaseException:
            connection.terminate()
            raise
        return Lease(connection, monotonic(), settings.pool_recycle)

    def _remove(self, lease: Lease) -> None:
        self._leases.discard(lease)
        self._idle_sessions.discard(lease)
        self._session_leases.pop(lease.connection, None)
        # Nothing gentler is safe: a server that is frozen answers no request to close or cancel.
        lease.connection.terminate()

    # Deadlines

    def _start_sweeping(self) -> None:
        self._sweeping = True
        asyncio.get_running_loop().call_later(_SWEEP_INTERVAL, self._sweep)

    def _sweep(self) -> None:
        now = monotonic()
        self._sweeping = False
        for waiter in self._queue:
            if waiter.deadline <= now:
                _fail(waiter, exc.TimeoutError())
        busy = bool(self._queue)
        for lease in self._leases:
            if lease.deadline <= now:
                lease.deadline = inf
                lease.expired = True
                lease.connection.terminate()
            elif lease.deadline < inf:
                busy = True
        if busy:
            self._start_sweeping()

    # Sessions

    def _create_engine(self) -> AsyncEngine:
        settings = self._settings
        engine = create_async_engine(
            self._endpoint.url,
            async_creator=self._connect_session,
            pool_size=settings.pool_size,
            max_overflow=settings.max_overflow,
            pool_timeout=settings.pool_timeout,
            hide_parameters=True,
            json_deserializer=orjson.loads,
            json_serializer=_json_text,
        )
        pool = engine.sync_engine.pool
        event.listen(pool, "connect", _set_session_codec)
        event.listen(pool, "checkout", self._on_checkout)
        event.listen(pool, "checkin", self._on_checkin)
        event.listen(pool, "close", _terminate)
        return engine

    async def _connect_session(self) -> Connection:
        lease = await self._wait(self._settings.pool_timeout, session=True)
        connection = lease.connection
        self._session_leases[connection] = lease
        connection.add_termination_listener(self._on_termination)
        # SQLAlchemy before 2.1 forgets a connection whose setting up is cancelled.
        self.set_deadline(lease, monotonic() + self._settings.connect_timeout)
        return connection

    def _on_termination(self, connection: object) -> None:
        if (lease := self._session_leases.get(connection)) is not None:
            self.abort(lease)

    def _on_checkout(
        self, connection: DBAPIConnection, _: ConnectionPoolEntry, __: PoolProxiedConnection
    ) -> None:
        lease = self._session_leases.get(connection.driver_connection)
        if lease is None or lease.connection.is_closed() or lease.usable_until <= monotonic():
            raise exc.DisconnectionError
        lease.deadline = inf
        self._idle_sessions.discard(lease)

    def _on_checkin(self, connection: DBAPIConnection | None, _: ConnectionPoolEntry) -> None:
        if connection is None:
            return
        lease = self._session_leases.get(connection.driver_connection)
        if lease is None:
            return
        lease.idle_since = monotonic()
        if self._queue:
            self.abort(lease)
        else:
            self._idle_sessions.add(lease)


def _fail(waiter: _Waiter | None, error: Exception) -> None:
    if waiter is not None and not waiter.future.done():
        waiter.future.set_exception(error)


def _set_session_codec(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    connection.run_async(set_jsonb_codec)


def _terminate(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
    cast("Connection", connection.driver_connection).terminate()


def _session_settings(settings: DatabaseSettings, application_name: str) -> dict[str, str]:
    """What every session is set to, sent with the first message of the connection."""
    return {
        "application_name": application_name,
        "search_path": f'"{settings.schema}"',
        "datestyle": "ISO",
        "timezone": "UTC",
        "statement_timeout": _milliseconds(settings.server_side_timeout),
        "lock_timeout": _milliseconds(settings.lock_timeout),
        "idle_in_transaction_session_timeout": _milliseconds(settings.idle_in_transaction_timeout),
        # A statement whose caller is gone ends within a second instead of running on.
        "client_connection_check_interval": "1000",
    }


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def _json_text(value: object) -> str:
    return json_bytes(value).decode()
