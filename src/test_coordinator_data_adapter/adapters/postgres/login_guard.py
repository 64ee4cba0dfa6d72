"""Checks what a server sends while a connection without TLS is opened."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

__all__ = ["GuardedLoop"]

_AUTHENTICATION: Final = ord("R")
_READY_FOR_QUERY: Final = ord("Z")
# What a server may send before: Authentication, BackendKeyData, Error, Notice, ParameterStatus,
# NegotiateProtocolVersion, ReadyForQuery.
_KINDS: Final = frozenset(b"RKENSvZ")
_CLEARTEXT_PASSWORD: Final = (3).to_bytes(4, "big")
_HEADER: Final = 5  # the type of a message, and its length, which counts itself
_LENGTHS: Final = range(4, 1_000_000)


class GuardedLoop:
    """An event loop for `asyncpg.connect`, whose connections are guarded until they are ready.

    The driver gives the server whatever password it asks for, and never returns from reading
    certain data that are no messages, such as zeros of another service on that port. It opens its
    connections through the event loop that it is given, so this is where they can be checked.

    Attributes:
        refused: whether a server asked for the password in clear text. The connection was then
            closed before the driver could answer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *, allows_clear_text: bool) -> None:
        """Guard what is opened through ``loop``.

        Args:
            loop: what opens the connections.
            allows_clear_text: whether the password may be sent in clear text.
        """
        self.allows_clear_text = allows_clear_text
        self.refused = False
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        """What the loop itself offers, looked up once."""
        value = getattr(self._loop, name)
        setattr(self, name, value)
        return value

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], *arguments: Any, **options: Any
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        """As the loop does; the protocol is guarded, and returned as it is."""
        transport, guard = await self._loop.create_connection(
            lambda: _Guard(factory(), self), *arguments, **options
        )
        return transport, guard.protocol


class _Guard(asyncio.Protocol):
    """Passes on whole messages until the first ReadyForQuery, then leaves the connection alone."""

    def __init__(self, protocol: asyncio.Protocol, loop: GuardedLoop) -> None:
        self.protocol = protocol
        self._loop = loop
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._received += data
        checked, ready = 0, False
        while not ready and len(self._received) - checked >= _HEADER:
            kind = self._received[checked]
            length = int.from_bytes(self._received[checked + 1 : checked + _HEADER], "big")
            end = checked + 1 + length
            if kind not in _KINDS or length not in _LENGTHS:
                self._abort()
                return
            if end > len(self._received):
                break
            body = self._received[checked + _HEADER : end]
            asks = kind == _AUTHENTICATION and body.startswith(_CLEARTEXT_PASSWORD)
            if asks and not self._loop.allows_clear_text:
                self._loop.refused = True
                self._abort()
                return
            ready = kind == _READY_FOR_QUERY
            checked = end
        passed_on = bytes(self._received if ready else self._received[:checked])
        del self._received[: len(passed_on)]
        if ready and self._transport is not None:
            self._transport.set_protocol(self.protocol)
        if passed_on:
            self.protocol.data_received(passed_on)

    def eof_received(self) -> bool | None:
        return self.protocol.eof_received()

    def pause_writing(self) -> None:
        self.protocol.pause_writing()

    def resume_writing(self) -> None:
        self.protocol.resume_writing()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
