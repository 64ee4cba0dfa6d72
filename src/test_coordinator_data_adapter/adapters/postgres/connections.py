"""The engine's connections, and the few that are leased from it to run statements directly."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import asyncpg
import orjson
from sqlalchemy import event, exc
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, PoolProxiedConnection
from sqlalchemy.pool.base import (
    _ConnectionRecord,  # pyright: ignore[reportPrivateUsage] - the only entry there is
)

from test_coordinator_data_adapter.adapters.postgres.codec import (
    speak_json,
    speak_text,
    speak_usually,
)
from test_coordinator_data_adapter.adapters.postgres.endpoint import Endpoint
from test_coordinator_data_adapter.adapters.postgres.jsonb import json_bytes
from test_coordinator_data_adapter.adapters.postgres.refusals import Refusals
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.adapters.postgres.translation import is_full
from test_coordinator_data_adapter.errors import UnavailableError
from test_coordinator_data_adapter.resilience.observation import PoolUse

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection

__all__ = ["Connection", "Connections", "Lease"]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_BORN: Final = "born"
_CLOSED: Final = "closed: open the factory again"
# How often deadlines are looked at, in seconds; so much later than its time a trip may end.
_WATCH: Final = 0.05
# For how long closing lets connections finish opening, in seconds.
_SETTLING: Final = 0.1


class Lease:
    """One asyncpg connection, checked out of the engine's pool."""

    __slots__ = ("connection", "deadline", "expired", "good_until", "idle_since", "proxy")

    def __init__(self, proxy: PoolProxiedConnection, good_until: float, now: float) -> None:
        self.proxy = proxy
        self.connection = cast("Connection", proxy.driver_connection)
        self.good_until = good_until
        self.idle_since = now
        self.deadline = inf
        self.expired = False


class _LeasablePool(AsyncAdaptedQueuePool):
    """SQLAlchemy's pool; counts who waits, and asks leases back before anyone has to."""

    __module__ = AsyncAdaptedQueuePool.__module__  # what it logs is SQLAlchemy's, and not ours
    waiting = 0
    arrived: Callable[[], object] | None = None
    surrender: Callable[[], object] | None = None

    def _do_get(self) -> ConnectionPoolEntry:
        if self.arrived is not None:
            self.arrived()
        if self.surrender is not None and not self.checkedin():
            self.surrender()
        self.waiting += 1
        try:
            return super()._do_get()
        finally:
            self.waiting -= 1

    def _create_connection(self) -> ConnectionPoolEntry:
        # Left to connect by itself, an entry that fails to tells nobody who waits that there is
        # room again: they would wait out their time while the server is back.
        return _ConnectionRecord(self, connect=False)

    def _do_return_conn(self, record: ConnectionPoolEntry) -> None:
        if record.dbapi_connection is None and self.waiting <= self.checkedin():
            # Kept without anybody waiting for it, it would be preferred to connections that are
            # open, and ask a server for another that may have no room for one.
            self._dec_overflow()
            return
        super()._do_return_conn(record)


class Connections:
    """All connections to one database.

    SQLAlchemy's pool owns them: its limits and its sessions hold for all. Checking one out costs
    more than half a trip, so those that ran a statement stay checked out in a free list, at most
    as many as the pool keeps anyway; whoever asks the pool itself gets them back.
    """

    def __init__(self, settings: DatabaseSettings, endpoint: Endpoint) -> None:
        self._settings = settings
        self._endpoint = endpoint
        self._idle: list[Lease] = []
        self._leased: set[Lease] = set()
        self._queue: deque[asyncio.Future[Lease | None]] = deque()
        self._session_was_last = False
        self._attempts: set[asyncio.Task[Lease]] = set()
        self._coming: set[asyncio.Task[Any] | None] = set()
        self._set_up: dict[object, Connection] = {}
        self._open = 0
        self._not_before = 0.0
        self._refusals = Refusals(self._serve)
        self._watching = False
        self._closed = False
        self.engine: Final[AsyncEngine] = create_async_engine(
            endpoint.url,
            poolclass=_LeasablePool,
            pool_size=settings.pool_size,
            max_overflow=settings.max_overflow,
            pool_timeout=settings.pool_timeout,
            hide_parameters=True,
            json_deserializer=orjson.loads,
            json_serializer=_json_text,
            connect_args={
                "async_creator_fn": self._connect,
                "timeout": settings.connect_timeout,
                "command_timeout": settings.query_timeout,
                "server_settings": _session_settings(
                    settings, endpoint.application_name or settings.application_name
                ),
            },
        )
        pool = self.engine.sync_engine.pool
        assert isinstance(pool, _LeasablePool)  # noqa: S101 - tells the type checkers what was just asked for
        pool.surrender = self._surrender
        pool.arrived = lambda: self._coming.discard(asyncio.current_task())
        self._pool: Final = pool
        event.listen(pool, "connect", self._connected)
        event.listen(pool, "checkout", self._checked_out)
        event.listen(pool, "close", self._closing)
        event.listen(pool, "checkin", self._checked_in)

    def take(self, now: float) -> Lease | None:
        """A leased connection that is ready, without waiting; None if there is none."""
        while self._idle:
            lease = self._idle.pop()
            if now < lease.good_until and not lease.connection.is_closed():
                return lease
            self.discard(lease)
        return None

    async def lease(self, patience: float) -> Lease:
        """A connection: one that is free, a new one, or the next to become free.

        Whoever came first is served first; SQLAlchemy's own queue serves whoever asks in the
        right moment, which under load is whoever has just given one back. Where the server has
        no room for a new one, one of those that are open is waited for, and the server is asked
        again after pauses that grow to a second.

        Args:
            patience: how many seconds to wait for one.

        Raises:
            sqlalchemy.exc.TimeoutError: all were in use all that time.
            Exception: whatever kept a new connection from being opened.
        """
        deadline = monotonic() + patience
        in_turn = not self._queue
        while True:
            # One may have become free while this caller saw to another.
            if (lease := self.take(monotonic())) is not None:
                return lease
            if in_turn and self._has_room:
                try:
                    return await self._check_out()
                except Exception as error:
                    if not (is_full(error) and self._others):
                        raise
            elif (lease := await self._stand_in_line(deadline, first=in_turn)) is not None:
                return lease
            in_turn = True

    async def _check_out(self) -> Lease:
        """A connection from the pool, which opens one if it has none.

        Opening one is nothing to break off halfway: whoever asked for it may leave, and the next
        in line has it. It counts against the limits of the pool all the while.
        """
        attempt = asyncio.create_task(self._attempt())
        for tasks in (self._attempts, self._coming):
            tasks.add(attempt)
            attempt.add_done_callback(tasks.discard)
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            if attempt.cancelled() and self._closed:
                raise UnavailableError(_CLOSED) from None
            attempt.add_done_callback(self._inherit)
            raise

    async def _attempt(self) -> Lease:
        task = asyncio.current_task()
        fairy: PoolProxiedConnection | None = None
        try:
            async with asyncio.timeout(self._settings.connect_timeout) as limit:
                fairy = await self._ask(limit)
                if self._closed:
                    raise UnavailableError(_CLOSED)
                await speak_text(cast("Connection", fairy.driver_connection))
        except BaseException as error:
            if fairy is not None:
                cast("Connection", fairy.driver_connection).terminate()
                fairy.invalidate()
            # SQLAlchemy before 2.1 forgets a connection whose setting up is broken off.
            if (stranded := self._set_up.get(task)) is not None:
                stranded.terminate()
            if not is_full(error):
                self._refusals.forget()
                self._serve()
            elif not self._others:
                self._fail(error)
            raise
        finally:
            self._set_up.pop(task, None)
        good_until = cast("float", fairy.info[_BORN]) + self._settings.pool_recycle
        lease = Lease(fairy, good_until, monotonic())
        _bound(lease.connection, None)
        self._leased.add(lease)
        # Where there was room for one there may be room for the next.
        self._refusals.forget()
        self._serve()
        return lease

    async def _ask(self, limit: asyncio.Timeout) -> PoolProxiedConnection:
        """A connection of the pool; a server that refuses the only one may do so for a moment."""
        loop, ends = asyncio.get_running_loop(), cast("float", limit.when())
        while True:
            try:
                return await self.engine.raw_connection()
            except Exception as error:
                if not is_full(error):
                    raise
                pause = self._refusals.add()
                if self._others or self._refusals.final or loop.time() + pause >= ends:
                    raise
            self._coming.add(asyncio.current_task())
            await asyncio.sleep(pause)

    def _inherit(self, attempt: asyncio.Task[Lease]) -> None:
        if not attempt.cancelled() and attempt.exception() is None:
            self.give_back(attempt.result(), monotonic())

    async def _stand_in_line(self, deadline: float, *, first: bool = False) -> Lease | None:
        """A connection that was handed over; None when there is room in the pool."""
        loop = asyncio.get_running_loop()
        place: asyncio.Future[Lease | None] = loop.create_future()
        if first:
            self._queue.appendleft(place)
        else:
            self._queue.append(place)
        alarm = loop.call_later(deadline - monotonic(), _give_up, place)
        try:
            return await place
        except asyncio.CancelledError:
            # What it was just given goes to the next.
            if place.done() and not place.cancelled() and place.exception() is None:
                lease = place.result()
                if lease is not None:
                    self.give_back(lease, monotonic())
                else:
                    self._serve()
            raise
        finally:
            alarm.cancel()
            with suppress(ValueError):
                self._queue.remove(place)

    @property
    def _has_room(self) -> bool:
        """Whether the pool has, or may open, a connection that nobody is about to take."""
        pool = self._pool
        limit = self._settings.pool_size + self._settings.max_overflow
        if self._refusals:
            # One at a time may ask; without any that is open, for the first at any time.
            limit = min(limit, max(1, self._open + (not self._refusals.pausing)))
        return pool.checkedout() + pool.waiting + len(self._coming) < limit

    @property
    def _others(self) -> bool:
        """Whether there is a connection to wait for, or somebody who may yet get one."""
        return self._open > 0 or self._pool.checkedout() > 0 or bool(self._coming)

    def _fail(self, error: BaseException) -> None:
        """Tell all in line what there is to tell when no connection is left to wait for."""
        for place in self._queue:
            if not place.done():
                place.set_exception(error)

    def _serve(self) -> None:
        """Tell the first in line that there may be room."""
        while self._queue and self._has_room:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(None)
                return

    def watch(self, lease: Lease, deadline: float) -> None:
        """Cut the connection if it is still busy then; until the deadline is lifted or moved.

        One timer watches all: one for every trip would cost more than all the rest done here.
        """
        lease.deadline = deadline
        if not self._watching:
            self._watching = True
            asyncio.get_running_loop().call_later(_WATCH, self._sweep)

    def give_back(self, lease: Lease, now: float) -> None:
        """Keep a connection whose statement is over for the next one."""
        lease.deadline = inf
        lease.idle_since = now
        connection = lease.connection
        if connection.is_closed() or connection.is_in_transaction() or self._closed:
            # A transaction left open would swallow everything that follows it.
            self.discard(lease)
        elif self._queue or self._pool.waiting:
            self._hand_over(lease)
        elif self._open > self._settings.pool_size:
            self.discard(lease)
        else:
            self._idle.append(lease)

    def _hand_over(self, lease: Lease) -> None:
        """Pass a connection on to whoever waits, to sessions and statements by turns."""
        # What its queue does not hold, the pool would close, which takes a greenlet.
        room = min(self._pool.waiting, self._settings.pool_size)
        sessions_wait = room > self._pool.checkedin()
        if sessions_wait and not (self._queue and self._session_was_last):
            self._session_was_last = True
            self._return(lease)
            return
        self._session_was_last = False
        while self._queue:
            place = self._queue.popleft()
            if not place.done():
                place.set_result(lease)
                return
        self._idle.append(lease)

    def discard(self, lease: Lease) -> None:
        """Cut a connection nobody can know the state of."""
        self._leased.discard(lease)
        lease.connection.terminate()
        lease.proxy.invalidate()

    def distrust(self, moment: float) -> None:
        """Replace every connection opened before a moment before it is used again."""
        self._not_before = max(moment, self._not_before)
        latest = self._not_before + self._settings.pool_recycle
        for lease in self._leased:
            if lease.good_until < latest:
                lease.good_until = 0.0

    @property
    def answered_at(self) -> float:
        """When the server last answered on one of the leased connections; 0.0 without any."""
        return max((lease.idle_since for lease in self._leased), default=0.0)

    def pool_use(self) -> PoolUse:
        """How busy the pool is."""
        # Once it is disposed of, SQLAlchemy's pool counts from the beginning.
        taken = 0 if self._closed else self._pool.checkedout() - len(self._idle)
        return PoolUse(
            size=self._settings.pool_size,
            limit=self._settings.pool_size + self._settings.max_overflow,
            open=self._open,
            in_use=taken,
            waiting=self._pool.waiting + len(self._queue),
        )

    async def aclose(self) -> None:
        """Close everything at once; a trip under way fails."""
        self._closed = True
        for place in self._queue:
            if not place.done():
                place.set_exception(UnavailableError(_CLOSED))
        if self._attempts:
            # Broken off while the kernel connects, the driver leaves a future behind whose error
            # asyncio logs; a moment later nothing of the kind is left.
            await asyncio.wait(self._attempts, timeout=_SETTLING)
        self._refusals.forget()
        for attempt in self._attempts:
            attempt.cancel()
        await asyncio.gather(*self._attempts, return_exceptions=True)
        for lease in tuple(self._leased):
            lease.connection.terminate()
        while self._idle:
            self.discard(self._idle.pop())
        await self.engine.dispose()

    def _sweep(self) -> None:
        now = monotonic()
        self._watching = False
        for lease in self._leased:
            if lease.deadline <= now:
                # Nothing gentler is safe: asking the server to cancel opens another connection,
                # and a server that is frozen answers neither.
                lease.deadline = inf
                lease.expired = True
                lease.connection.terminate()
            elif lease.deadline < inf:
                self._watching = True
        if self._watching:
            asyncio.get_running_loop().call_later(_WATCH, self._sweep)

    def _return(self, lease: Lease) -> None:
        self._leased.discard(lease)
        _bound(lease.connection, self._settings.query_timeout)
        speak_usually(lease.connection)
        lease.proxy.close()

    def _surrender(self) -> None:
        if self._idle:
            self._return(self._idle.pop(0))

    async def _connect(self, **options: Any) -> Connection:
        connection = await self._endpoint.connect(**options)
        task = asyncio.current_task()
        if task in self._attempts:
            self._set_up[task] = connection
        return connection

    def _connected(self, connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        connection.run_async(speak_json)
        record.info[_BORN] = monotonic()
        self._open += 1
        self._set_up.pop(asyncio.current_task(), None)

    def _checked_out(
        self, connection: DBAPIConnection, record: ConnectionPoolEntry, _: PoolProxiedConnection
    ) -> None:
        driver = cast("Connection", connection.driver_connection)
        born = cast("float", record.info[_BORN])
        too_old = born < self._not_before or monotonic() - born > self._settings.pool_recycle
        if too_old or driver.is_closed():
            raise exc.DisconnectionError

    def _checked_in(self, _: DBAPIConnection | None, __: ConnectionPoolEntry) -> None:
        if self._queue:
            # Told before it is back in the pool.
            asyncio.get_running_loop().call_soon(self._serve)

    def _closing(self, connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # However the pool closes a connection, it never waits for a server that may be frozen.
        self._open -= 1
        cast("Connection", connection.driver_connection).terminate()


def _give_up(place: asyncio.Future[Lease | None]) -> None:
    if not place.done():
        place.set_exception(exc.TimeoutError())


def _bound(connection: Connection, seconds: float | None) -> None:
    """Set the driver's own deadline for each of a connection's trips.

    ORM sessions have no other. Leases have a better one, and this costs a tenth of a point read.
    """
    # The driver takes it when it connects and offers no way to change it; a test freezes a
    # server under a session, to notice should this ever stop working.
    driver = cast("Any", connection)
    driver._config = driver._config._replace(command_timeout=seconds)  # noqa: SLF001 - see above


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
