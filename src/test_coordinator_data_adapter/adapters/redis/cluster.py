"""The transport to a Redis Cluster: finds the server of each key, and follows keys that move."""

from __future__ import annotations

import asyncio
from binascii import crc_hqx
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Final, TypeAlias, cast

from redis import exceptions

from test_coordinator_data_adapter.adapters.redis.route import (
    Command,
    Greeting,
    Nature,
    Node,
    Reply,
    Stopwatch,
)
from test_coordinator_data_adapter.adapters.redis.server import CLOSED, ServerTransport
from test_coordinator_data_adapter.adapters.redis.translation import Phase, translate
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    OutcomeUnknownError,
    UnavailableError,
)
from test_coordinator_data_adapter.resilience.event_loop import only_loop
from test_coordinator_data_adapter.resilience.observation import PoolUse

__all__ = ["ClusterTransport", "slot_of"]

Address: TypeAlias = tuple[str, int]

_SLOTS: Final = 16384
_ASK_SLOTS: Final = ("CLUSTER", "SLOTS")
_READ: Final = Nature(writes=False, repeatable=True)
# A slot that is being moved may be elsewhere again by the time a command has followed it.
_MAX_REDIRECTS: Final = 3
# An outage must not have every call ask all servers for the slots.
_REFRESHED_AFTER: Final = 0.25
# Beside the configured servers, so many of the known ones are asked for the slots.
_ASKED_BESIDES: Final = 5


def slot_of(key: str | bytes) -> int:
    """The slot of a key, by its hash tag if it has one."""
    raw = key.encode() if isinstance(key, str) else key
    _, opening, rest = raw.partition(b"{")
    tag, closing, _ = rest.partition(b"}")
    return crc_hqx(tag if opening and closing and tag else raw, 0) % _SLOTS


class ClusterTransport:
    """The transport to the servers of a cluster: one request to each server whose keys are meant.

    Which server has which slots is asked of the known servers and of the configured ones at once,
    so that it is also found when every known address has changed. It is asked anew after every
    failure and every redirection.
    """

    spreads = True
    greeting = Greeting()
    """The servers may differ: nothing is said about them."""

    def __init__(
        self,
        transport_to: Callable[[str, int], ServerTransport],
        configured: Iterable[Address],
        *,
        connect_timeout: float,
    ) -> None:
        """Open nothing yet.

        Args:
            transport_to: makes the transport to one server.
            configured: servers of the cluster, by names that lead to it at any time.
            connect_timeout: seconds to find out which server has which slots.
        """
        self._transport_to = transport_to
        self._configured = tuple(configured)
        self._connect_timeout = connect_timeout
        self._servers: dict[Address, ServerTransport] = {}
        self._owners: list[Address | None] = [None] * _SLOTS
        self._is_current = False
        self._refreshed_at = -_REFRESHED_AFTER
        self._refreshing: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def answered_at(self) -> float:
        return max((server.answered_at for server in self._servers.values()), default=0.0)

    def pool_use(self) -> PoolUse:
        uses = [server.pool_use() for server in self._servers.values()]
        return PoolUse(
            size=sum(use.size for use in uses),
            limit=sum(use.limit for use in uses),
            open=sum(use.open for use in uses),
            in_use=sum(use.in_use for use in uses),
            waiting=sum(use.waiting for use in uses),
        )

    async def nodes(self) -> Sequence[Node]:
        await self._refresh()
        return list(dict.fromkeys(owner for owner in self._owners if owner is not None))

    async def trip(
        self,
        commands: Sequence[Command],
        nature: Nature,
        *,
        node: Node | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> list[Reply]:
        await self._refresh()
        replies: list[Reply] = [None] * len(commands)
        if node is not None:
            target = cast("Address", node)
            await self._send(
                {target: list(range(len(commands)))}, commands, nature, replies, stopwatch
            )
            return replies
        to_send: dict[Address, list[int]] = {}
        for index, command in enumerate(commands):
            to_send.setdefault(self._owner_of(command), []).append(index)
        for _ in range(_MAX_REDIRECTS):
            await self._send(to_send, commands, nature, replies, stopwatch)
            sent = [index for indexes in to_send.values() for index in indexes]
            to_send = await self._follow(sent, commands, nature, replies)
            if not to_send:
                return replies
        for indexes in to_send.values():
            for index in indexes:
                replies[index] = exceptions.TryAgainError("", status_code="TRYAGAIN")
        return replies

    async def aclose(self) -> None:
        self._closed = True
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.wait([self._refreshing])
        for server in self._servers.values():
            await server.aclose()

    async def _send(
        self,
        to_send: dict[Address, list[int]],
        commands: Sequence[Command],
        nature: Nature,
        replies: list[Reply],
        stopwatch: Stopwatch | None,
    ) -> None:
        """Send commands, by their indexes, to servers; put the replies in their places."""

        async def send(address: Address, indexes: list[int]) -> None:
            some = commands if len(indexes) == len(commands) else [commands[i] for i in indexes]
            answers = await self._server(address).trip(some, nature, stopwatch=stopwatch)
            for index, answer in zip(indexes, answers, strict=True):
                replies[index] = answer
                if isinstance(answer, exceptions.ReadOnlyError | exceptions.ClusterDownError):
                    self._is_current = False

        if len(to_send) == 1:
            ((address, indexes),) = to_send.items()
            try:
                return await send(address, indexes)
            except AdapterError:
                self._is_current = False
                raise
        ends = await asyncio.gather(
            *(send(address, indexes) for address, indexes in to_send.items()),
            return_exceptions=True,
        )
        failures = [end for end in ends if isinstance(end, BaseException)]
        if not failures:
            return None
        self._is_current = False
        for failure in failures:
            if not isinstance(failure, AdapterError) or failure.outcome != "not_applied":
                raise failure
        if nature.writes and len(failures) < len(ends):
            raise OutcomeUnknownError(
                f"the keys on some servers of the cluster were changed, then it failed:"
                f" {failures[0]}"
            )
        raise failures[0]

    async def _follow(
        self,
        sent: Iterable[int],
        commands: Sequence[Command],
        nature: Nature,
        replies: list[Reply],
    ) -> dict[Address, list[int]]:
        """Where to send again what a server has refused because another one has the slot."""
        moved: dict[Address, list[int]] = {}
        for index in sent:
            reply = replies[index]
            if isinstance(reply, exceptions.MovedError):
                self._is_current = False
                target = self._redirected(reply)
                self._owners[reply.slot_id] = target
                moved.setdefault(target, []).append(index)
            elif isinstance(reply, exceptions.AskError):
                # The slot is being moved: this key only is there already.
                replies[index] = await self._ask(self._redirected(reply), commands[index], nature)
        return moved

    def _redirected(self, reply: exceptions.AskError) -> Address:
        # A server that does not know the other's name means its own.
        owner = self._owners[reply.slot_id] or self._configured[0]
        host = cast("str", reply.host)  # pyright: ignore[reportUnknownMemberType] # redis-py's gap
        return host or owner[0], reply.port

    async def _ask(self, target: Address, command: Command, nature: Nature) -> Reply:
        _, reply = await self._server(target).trip([("ASKING",), command], nature)
        return reply

    def _owner_of(self, command: Command) -> Address:
        owner = self._owners[slot_of(cast("str | bytes", command[1]))]
        if owner is None:
            raise UnavailableError(
                "no server of the Redis Cluster has the slot of the key: check `CLUSTER INFO`"
            )
        return owner

    def _server(self, address: Address) -> ServerTransport:
        server = self._servers.get(address)
        if server is None:
            server = self._servers[address] = self._transport_to(*address)
        return server

    async def _refresh(self) -> None:
        """Find out which server has which slots, if that may have changed."""
        if (loop := asyncio.get_running_loop()) is not self._loop:
            self._loop = only_loop(self._loop, loop)
        if self._closed:
            raise UnavailableError(CLOSED)
        if self._is_current or loop.time() - self._refreshed_at < _REFRESHED_AFTER:
            return
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._find_owners())
            self._refreshing.add_done_callback(_retrieve)
        try:
            await asyncio.shield(self._refreshing)
        except AdapterError as error:
            # Several calls may wait for it: each gets an error of its own.
            raise copy(error).with_traceback(None) from None

    async def _find_owners(self) -> None:
        known = list(dict.fromkeys(owner for owner in self._owners if owner is not None))
        candidates = list(dict.fromkeys([*self._configured, *known[:_ASKED_BESIDES]]))
        asking = [asyncio.create_task(self._ask_slots(address)) for address in candidates]
        failures: list[AdapterError] = []
        try:
            async with asyncio.timeout(self._connect_timeout):
                for next_done in asyncio.as_completed(asking):
                    try:
                        owners = await next_done
                    except AdapterError as failure:
                        failures.append(failure)
                        continue
                    await self._adopt(owners)
                    return
        except TimeoutError as late:
            failures.append(translate(late, phase=Phase.CONNECTING, writes=False))
        finally:
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
        refusals = (error for error in failures if isinstance(error, ConfigurationError))
        raise next(refusals, failures[0])

    async def _ask_slots(self, address: Address) -> list[Address | None]:
        (reply,) = await self._server(address).trip([_ASK_SLOTS], _READ)
        if isinstance(reply, exceptions.ResponseError):
            raise translate(reply, phase=Phase.CONNECTING, writes=False)
        owners: list[Address | None] = [None] * _SLOTS
        for first, last, primary, *_ in cast("list[list[object]]", reply):
            host, port = cast("list[object]", primary)[:2]
            # A server that does not know under which name it is reached says nothing.
            name = host.decode() if isinstance(host, bytes) and host else address[0]
            start, end = cast("int", first), cast("int", last) + 1
            owners[start:end] = [(name, cast("int", port))] * (end - start)
        return owners

    async def _adopt(self, owners: list[Address | None]) -> None:
        self._owners = owners
        self._is_current = True
        self._refreshed_at = asyncio.get_running_loop().time()
        in_use = {*owners, *self._configured}
        for address in [one for one in self._servers if one not in in_use]:
            if self._servers[address].pool_use().in_use == 0:
                await self._servers.pop(address).aclose()


def _retrieve(task: asyncio.Task[None]) -> None:
    """Take the failure of a task whose last caller was cancelled: nobody else is told."""
    if not task.cancelled():
        task.exception()
