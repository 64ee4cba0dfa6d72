"""The transport to a single server: a pool of connections, each used by one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Final

from redis import exceptions

from test_coordinator_data_adapter.adapters.redis.connection import ServerConnection, pack
from test_coordinator_data_adapter.adapters.redis.route import (
    Command,
    Greeting,
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
from test_coordinator_data_adapter.resilience.event_loop import only_loop
from test_coordinator_data_adapter.resilience.observation import PoolUse

__all__ = ["CLOSED", "ServerTransport"]

CLOSED: Final = "the connection to Redis has been closed: open the factory again"

# A connection that was idle for longer is verified before it is used: a firewall may have dropped
# it without a word, and a request that gets lost there costs its caller a whole timeout.
_TRUSTED_FOR: Final = 1.0
_VERIFIED_WITHIN: Final = 1.0


class ServerTransport:
    """The transport to a single server, found by address or by Sentinels.

    * A connection whose request did not end with all replies read is closed, never used again.
    * An idle connection is checked before it is used: whether the server has closed or reset it,
      and, when it was idle for a second or another one has timed out, whether the server answers.
      Where one does not, the other idle ones are closed. So a request is sent where the server
      reads it, as far as anybody can know, and connections that died cost no call its outcome.
    """

    spreads = False

    def __init__(
        self,
        connect: Callable[[], Awaitable[ServerConnection]],
        *,
        size: int,
        pool_timeout: float,
        connect_timeout: float,
        socket_timeout: float,
    ) -> None:
        """Open nothing yet.

        Args:
            connect: opens a connection; its failures are those of redis-py, or AdapterErrors.
            size: how many connections there are at most.
            pool_timeout: seconds to wait for a free one.
            connect_timeout: seconds to verify an idle one, or to connect.
            socket_timeout: seconds for the replies, those to a second attempt included.
        """
        self._connect = connect
        self._size = size
        self._pool_timeout = pool_timeout
        self._connect_timeout = connect_timeout
        self._socket_timeout = socket_timeout
        self._free = asyncio.Semaphore(size)
        self._waiting = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: list[ServerConnection] = []
        self._busy: set[ServerConnection] = set()
        self._connecting: set[asyncio.Timeout] = set()
        self._trusted_since = 0.0
        self._closed = False
        self.answered_at = 0.0
        self.greeting = Greeting()
        """What the server said about itself when a connection was opened or verified last."""

    def pool_use(self) -> PoolUse:
        busy = len(self._busy)
        return PoolUse(
            size=self._size,
            limit=self._size,
            open=busy + len(self._idle),
            in_use=busy,
            waiting=self._waiting,
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
            packed = pack(commands[0])
        else:
            packed = b"".join([pack(command) for command in commands])
        await self._wait_for_slot(stopwatch)
        try:
            return await self._round_trip(packed, len(commands), nature, stopwatch)
        finally:
            self._free.release()

    async def aclose(self) -> None:
        self._closed = True
        for timeout in self._connecting:
            if not timeout.expired():
                timeout.reschedule(0)
        connections = [*self._idle, *self._busy]
        self._idle.clear()
        for connection in connections:
            await connection.abort()
        await asyncio.sleep(0)  # the sockets are closed in the loop's next turn

    async def _wait_for_slot(self, stopwatch: Stopwatch | None) -> None:
        # A caller from another event loop must not even wait: it would disturb those who do.
        if (loop := asyncio.get_running_loop()) is not self._loop:
            self._loop = only_loop(self._loop, loop)
        if not self._free.locked():
            await self._free.acquire()
            return
        self._waiting += 1
        try:
            async with asyncio.timeout(self._pool_timeout):
                await self._free.acquire()
        except TimeoutError as late:
            if stopwatch is not None:
                stopwatch.failed(late)
            raise translate(late, phase=Phase.WAITING, writes=False) from None
        finally:
            self._waiting -= 1

    async def _round_trip(
        self, packed: bytes, replies: int, nature: Nature, stopwatch: Stopwatch | None
    ) -> list[Reply]:
        connection = await self._trusted_idle()
        is_new = connection is None
        if connection is None:
            connection, is_new = await self._verify_or_connect(stopwatch)
        if stopwatch is not None:
            stopwatch.sent()
        deadline = asyncio.get_running_loop().time() + self._socket_timeout
        try:
            return await self._exchange(connection, packed, replies, deadline)
        except DRIVER_ERRORS as error:
            can_repeat = nature.repeatable and not is_new and _is_broken(error)
            failure = translate(error, phase=Phase.SENT, writes=nature.writes)
            if stopwatch is not None:
                stopwatch.failed(error)
        if not can_repeat:
            raise failure
        # What killed one connection has probably killed the idle ones with it.
        await self._close_idle()
        try:
            return await self._second_attempt(packed, replies, nature, deadline, stopwatch)
        except AdapterError as error:
            # Whatever keeps a write from being repeated says nothing about the first attempt.
            raise (failure if nature.writes else error) from None

    async def _second_attempt(
        self,
        packed: bytes,
        replies: int,
        nature: Nature,
        deadline: float,
        stopwatch: Stopwatch | None,
    ) -> list[Reply]:
        connection, _ = await self._verify_or_connect(stopwatch)
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
        self, connection: ServerConnection, packed: bytes, replies: int, deadline: float
    ) -> list[Reply]:
        if self._closed:
            await connection.abort()
            raise UnavailableError(CLOSED)
        self._busy.add(connection)
        try:
            async with asyncio.timeout_at(deadline):
                answers = await connection.exchange(packed, replies)
        except TimeoutError:
            # The connection may have died; then the idle ones have died with it.
            self._trusted_since = asyncio.get_running_loop().time()
            await connection.abort()
            raise
        except BaseException:
            await connection.abort()
            raise
        finally:
            self._busy.discard(connection)
        self.answered_at = monotonic()
        if self._closed:
            await connection.abort()
        elif any(
            isinstance(answer, exceptions.ResponseError) and code_of(answer) == "READONLY"
            for answer in answers
        ):
            # It is a replica now. Resolving the name or asking the Sentinels finds the primary.
            await connection.abort()
            await self._close_idle()
        else:
            self._release(connection)
        return answers

    def _release(self, connection: ServerConnection) -> None:
        connection.released_at = asyncio.get_running_loop().time()
        self._idle.append(connection)

    async def _trusted_idle(self) -> ServerConnection | None:
        """An idle connection that needs no verification, None without one."""
        trusted_since = max(asyncio.get_running_loop().time() - _TRUSTED_FOR, self._trusted_since)
        while self._idle and self._idle[-1].released_at >= trusted_since:
            connection = self._idle.pop()
            if await connection.is_quiet():
                return connection
            await connection.abort()
        return None

    async def _verify_or_connect(
        self, stopwatch: Stopwatch | None
    ) -> tuple[ServerConnection, bool]:
        """A connection on which the server answers just now, and whether it is a new one."""
        if self._closed:
            raise UnavailableError(CLOSED)
        timeout = asyncio.timeout(self._connect_timeout)
        self._connecting.add(timeout)
        try:
            async with timeout:
                connection = await self._verified_idle()
                is_new = connection is None
                if connection is None:
                    connection = await self._connect()
        except DRIVER_ERRORS as error:
            if self._closed:
                raise UnavailableError(CLOSED) from None
            if stopwatch is not None:
                stopwatch.failed(error)
            raise translate(error, phase=Phase.CONNECTING, writes=False) from None
        finally:
            self._connecting.discard(timeout)
        self.answered_at = monotonic()
        self.greeting = connection.greeting
        return connection, is_new

    async def _verified_idle(self) -> ServerConnection | None:
        while self._idle:
            connection = self._idle.pop()
            role = connection.greeting.role
            self._busy.add(connection)
            try:
                async with asyncio.timeout(min(_VERIFIED_WITHIN, self._connect_timeout / 2)):
                    if await connection.is_quiet():
                        await connection.greet()
                        if connection.greeting.role == role:
                            return connection
            except DRIVER_ERRORS:
                await connection.abort()
                await self._close_idle()  # what killed this one has probably killed the others
            except BaseException:
                await connection.abort()
                raise
            else:
                await connection.abort()
            finally:
                self._busy.discard(connection)
        return None

    async def _close_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.abort()


def _is_broken(error: BaseException) -> bool:
    """Whether the connection broke; after a timeout there is no time for a second attempt."""
    if isinstance(error, exceptions.AuthenticationError | exceptions.BusyLoadingError):
        return False
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        return False
    return isinstance(error, exceptions.ConnectionError | OSError)
