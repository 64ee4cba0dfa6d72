"""Connections to one server, as many as allowed and no more, each used by one trip at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Final, cast

import hiredis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection

from test_coordinator_data_adapter.adapters.redis.limit import Limit
from test_coordinator_data_adapter.adapters.redis.route import (
    Command,
    Nature,
    Node,
    Reply,
    Stopwatch,
)
from test_coordinator_data_adapter.adapters.redis.translation import (
    DRIVER_ERRORS,
    Phase,
    code_of,
    translate,
)
from test_coordinator_data_adapter.errors import AdapterError, UnavailableError
from test_coordinator_data_adapter.resilience.observation import PoolUse

__all__ = ["Connections"]

_CLOSED: Final = "the connection to Redis has been closed: open the factory again"


class Connections:
    """The route to a single server, found by address or by Sentinels.

    redis-py opens the connections, speaks TLS and authenticates; its clients and pools are passed
    by, because they cost more than the trip. A connection whose trip did not end with all replies
    read is closed, never reused.
    """

    spreads = False

    def __init__(
        self,
        make: Callable[[], AbstractConnection],
        *,
        size: int,
        pool_timeout: float,
        connect_timeout: float,
        socket_timeout: float,
    ) -> None:
        """Open nothing yet.

        Args:
            make: makes a connection that is not connected yet, without timeouts for reading.
            size: how many there are at most.
            pool_timeout: seconds to wait for a free one.
            connect_timeout: seconds to connect in.
            socket_timeout: seconds for a trip, the second try included.
        """
        self._make = make
        self._limit = Limit(size, pool_timeout)
        self._connect_timeout = connect_timeout
        self._socket_timeout = socket_timeout
        self._idle: list[AbstractConnection] = []
        self._busy: set[AbstractConnection] = set()
        self._opening: set[asyncio.Timeout] = set()
        self.answered_at = 0.0
        self._closed = False

    def pool_use(self) -> PoolUse:
        busy, limit = len(self._busy), self._limit
        return PoolUse(
            size=limit.size,
            limit=limit.size,
            open=busy + len(self._idle),
            in_use=busy,
            waiting=limit.waiting,
        )

    async def nodes(self) -> Sequence[Node]:
        return (None,)

    async def trip(
        self,
        commands: Sequence[Command],
        nature: Nature,
        *,
        node: Node | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> list[Reply]:
        del node  # there is one
        if len(commands) == 1:
            packed = _packed(commands[0])
        else:
            packed = b"".join([_packed(command) for command in commands])
        await self._limit.acquire(stopwatch)
        try:
            return await self._there_and_back(packed, len(commands), nature, stopwatch)
        finally:
            self._limit.release()

    async def aclose(self) -> None:
        self._closed = True
        for patience in self._opening:
            if not patience.expired():
                patience.reschedule(0)
        connections = [*self._idle, *self._busy]
        self._idle.clear()
        for connection in connections:
            await _hang_up(connection)
        await asyncio.sleep(0)  # the sockets are closed in the loop's next turn

    async def _there_and_back(
        self, packed: bytes, replies: int, nature: Nature, stopwatch: Stopwatch | None
    ) -> list[Reply]:
        connection = await self._idle_one()
        fresh = connection is None
        if connection is None:
            connection = await self._new_one(stopwatch)
        if stopwatch is not None:
            stopwatch.sent()
        deadline = asyncio.get_running_loop().time() + self._socket_timeout
        try:
            return await self._exchange(connection, packed, replies, deadline)
        except DRIVER_ERRORS as error:
            worth_another_try = nature.repeatable and not fresh and _is_lost(error)
            failure = translate(error, phase=Phase.SENT, writes=nature.writes)
            if stopwatch is not None:
                stopwatch.failed(error)
        if not worth_another_try:
            raise failure
        # What killed one connection has killed the idle ones with it.
        await self._close_idle()
        try:
            return await self._second_try(packed, replies, nature, deadline, stopwatch)
        except AdapterError as error:
            # Whatever keeps a write from being repeated says nothing about the first try.
            raise (failure if nature.writes else error) from None

    async def _second_try(
        self,
        packed: bytes,
        replies: int,
        nature: Nature,
        deadline: float,
        stopwatch: Stopwatch | None,
    ) -> list[Reply]:
        connection = await self._new_one(stopwatch)
        if stopwatch is not None:
            stopwatch.repeats += 1
        try:
            answers = await self._exchange(connection, packed, replies, deadline)
        except DRIVER_ERRORS as error:
            if stopwatch is not None:
                stopwatch.failed(error)
            raise translate(error, phase=Phase.SENT, writes=nature.writes) from None
        if nature.writes:
            for answer in answers:
                if isinstance(answer, exceptions.ResponseError):
                    raise translate(answer, phase=Phase.SENT, writes=True)
        return answers

    async def _exchange(
        self, connection: AbstractConnection, packed: bytes, replies: int, deadline: float
    ) -> list[Reply]:
        if self._closed:
            await _hang_up(connection)
            raise UnavailableError(_CLOSED)
        self._busy.add(connection)
        try:
            async with asyncio.timeout_at(deadline):
                await connection.send_packed_command(packed, check_health=False)
                answers = [await _reply(connection) for _ in range(replies)]
        except BaseException:
            await _hang_up(connection)
            raise
        finally:
            self._busy.discard(connection)
        self.answered_at = monotonic()
        if self._closed:
            await _hang_up(connection)
        elif any(
            isinstance(answer, exceptions.ResponseError) and code_of(answer) == "READONLY"
            for answer in answers
        ):
            # A replica now: whoever resolves the name or asks the Sentinels finds the primary.
            await _hang_up(connection)
            await self._close_idle()
        else:
            self._idle.append(connection)
        return answers

    async def _idle_one(self) -> AbstractConnection | None:
        while self._idle:
            connection = self._idle.pop()
            # Readable without having been asked: the server hung up.
            if connection.is_connected and not await connection.can_read():
                return connection
            await _hang_up(connection)
        return None

    async def _new_one(self, stopwatch: Stopwatch | None) -> AbstractConnection:
        if self._closed:
            raise UnavailableError(_CLOSED)
        connection = self._make()
        patience = asyncio.timeout(self._connect_timeout)
        self._opening.add(patience)
        try:
            async with patience:
                await connection.connect()  # type: ignore[no-untyped-call] # redis-py's gap
        except DRIVER_ERRORS as error:
            await _hang_up(connection)
            if self._closed:
                raise UnavailableError(_CLOSED) from None
            if stopwatch is not None:
                stopwatch.failed(error)
            raise translate(error, phase=Phase.CONNECTING, writes=False) from None
        except BaseException:
            await _hang_up(connection)
            raise
        finally:
            self._opening.discard(patience)
        return connection

    async def _close_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await _hang_up(connection)


# hiredis declares a tuple of one; it takes any number.
_packed = cast(
    "Callable[[Command], bytes]",
    hiredis.pack_command,  # pyright: ignore[reportUnknownMemberType] # it declares no result
)


async def _hang_up(connection: AbstractConnection) -> None:
    """Close at once: a farewell by TLS would wait for a server that may be frozen."""
    writer = connection._writer  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # redis-py cannot
    if writer is not None:
        writer.transport.abort()
    await connection.disconnect(nowait=True)


async def _reply(connection: AbstractConnection) -> Reply:
    try:
        return cast(
            "Reply",
            await connection.read_response(disable_decoding=True, disconnect_on_error=False),
        )
    except exceptions.ResponseError as refusal:
        return refusal


def _is_lost(error: BaseException) -> bool:
    """Whether the connection broke; one that was merely slow gets no second chance."""
    if isinstance(error, exceptions.AuthenticationError | exceptions.BusyLoadingError):
        return False
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return False
    return isinstance(error, exceptions.ConnectionError | OSError)
