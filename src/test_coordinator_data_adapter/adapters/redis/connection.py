"""One connection to a server: redis-py opens it, this library sends and reads on it."""

from __future__ import annotations

import select
from collections.abc import Callable
from typing import Final, cast

import hiredis
from redis import exceptions
from redis.asyncio.connection import AbstractConnection

from test_coordinator_data_adapter.adapters.redis.route import Command, Greeting, Reply
from test_coordinator_data_adapter.adapters.redis.translation import code_of

__all__ = ["ServerConnection", "connected", "pack"]

# hiredis declares a tuple of one; it takes any number.
pack = cast(
    "Callable[[Command], bytes]",
    hiredis.pack_command,  # pyright: ignore[reportUnknownMemberType] # it declares no result
)

_HELLO: Final = pack(("HELLO",))
# Without poll (on Windows), a connection that has died is noticed when it is used.
_READABLE: Final = select.POLLIN if hasattr(select, "poll") else None


class ServerConnection:
    """A connection that is used by one request at a time.

    redis-py opens it, speaks TLS and authenticates; its clients and pools are not used, because
    they cost more than the round trip.

    Attributes:
        greeting: what the server said when it was asked last.
        released_at: when it was used last, on the event loop's clock.
    """

    __slots__ = ("_connection", "_poll", "greeting", "released_at")

    def __init__(self, connection: AbstractConnection) -> None:
        """Wrap a connection that is not connected yet and has no timeout for reading."""
        self._connection = connection
        self._poll: Callable[[int], object] | None = None
        self.greeting = Greeting()
        self.released_at = 0.0

    async def connect(self) -> None:
        """Connect, authenticate, and make sure that the server takes requests."""
        await self._connection.connect()  # type: ignore[no-untyped-call] # redis-py's gap
        writer = self._connection._writer  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # redis-py offers no other way
        if _READABLE is not None and writer is not None:
            poll = select.poll()
            poll.register(writer.get_extra_info("socket").fileno(), _READABLE)
            self._poll = poll.poll
        await self.greet()

    async def greet(self) -> None:
        """Ask the server who it is, for which no user needs a right.

        The reply proves that the server reads requests: one that has reached ``maxclients``
        accepts a connection, says so, and closes it.
        """
        (reply,) = await self.exchange(_HELLO, 1)
        if isinstance(reply, exceptions.ResponseError):
            if code_of(reply) != "ERR":
                raise reply
            self.greeting = Greeting()  # a proxy, for instance, that does not know the command
            return
        fields = cast("list[object]", reply) if isinstance(reply, list) else []
        greeting = dict(zip(fields[::2], fields[1::2], strict=False))
        self.greeting = Greeting(
            *(
                value.decode() if isinstance(value := greeting.get(name), bytes) else None
                for name in (b"role", b"version")
            )
        )

    async def exchange(self, packed: bytes, replies: int) -> list[Reply]:
        """Send requests and read as many replies, error replies included."""
        await self._connection.send_packed_command(packed, check_health=False)
        return [await self._reply() for _ in range(replies)]

    async def is_quiet(self) -> bool:
        """Whether nothing has arrived since the last reply, neither data nor an end or a reset.

        The socket is asked, too: the event loop may not have had a turn to notice.
        """
        try:
            if not self._connection.is_connected or await self._connection.can_read():
                return False
            return self._poll is None or not self._poll(0)
        except OSError:
            return False

    async def abort(self) -> None:
        """Close at once: to end TLS in order would mean to wait for a server that may be frozen."""
        writer = self._connection._writer  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] # redis-py offers no other way
        if writer is not None:
            writer.transport.abort()
        await self._connection.disconnect(nowait=True)

    async def _reply(self) -> Reply:
        try:
            return cast(
                "Reply",
                await self._connection.read_response(
                    disable_decoding=True, disconnect_on_error=False
                ),
            )
        except exceptions.ResponseError as refusal:
            return refusal


async def connected(connection: AbstractConnection) -> ServerConnection:
    """The connection, connected; where that fails, nothing stays open."""
    opened = ServerConnection(connection)
    try:
        await opened.connect()
    except BaseException:
        await opened.abort()
        raise
    return opened
