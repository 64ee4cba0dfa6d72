"""The route to a Redis Cluster: redis-py's cluster client finds the server of each key."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import monotonic
from typing import Final, cast

from redis import exceptions
from redis.asyncio.cluster import ClusterNode, RedisCluster

from test_coordinator_data_adapter.adapters.redis.limit import Limit
from test_coordinator_data_adapter.adapters.redis.route import (
    Command,
    Nature,
    Node,
    Reply,
    Stopwatch,
)
from test_coordinator_data_adapter.adapters.redis.translation import DRIVER_ERRORS, Phase, translate
from test_coordinator_data_adapter.errors import AdapterError, UnavailableError
from test_coordinator_data_adapter.resilience.observation import PoolUse

__all__ = ["Shards"]

# Reading the map of 16,384 slots takes 5 to 20 ms: an outage must not have every call do so.
_FIND_AGAIN_AFTER: Final = 0.25


class Shards:
    """Trips to the servers of a cluster: one per server that a trip's keys live on.

    A trip that fails makes the next one ask the cluster anew who serves what.
    """

    spreads = True

    def __init__(
        self,
        client: RedisCluster,
        *,
        size: int,
        pool_timeout: float,
        connect_timeout: float,
        socket_timeout: float,
    ) -> None:
        """Open nothing yet.

        Args:
            client: closed by `aclose`; must not retry by itself.
            size: how many trips there are at once at most.
            pool_timeout: seconds to wait until there is one fewer.
            connect_timeout: seconds to find the cluster's servers in.
            socket_timeout: seconds for a trip, the second try included.
        """
        self._client = client
        self._limit = Limit(size, pool_timeout)
        self._connect_timeout = connect_timeout
        self._socket_timeout = socket_timeout
        self.answered_at = 0.0
        self._in_use = 0
        self._known = False
        self._found_at = -_FIND_AGAIN_AFTER
        self._closed = False

    def pool_use(self) -> PoolUse:
        limit, in_use = self._limit, self._in_use
        return PoolUse(
            size=limit.size,
            limit=limit.size,
            open=in_use,
            in_use=in_use,
            waiting=limit.waiting,
        )

    async def nodes(self) -> Sequence[Node]:
        self._limit.require_its_loop()
        await self._find()
        return self._client.get_primaries()

    async def trip(
        self,
        commands: Sequence[Command],
        nature: Nature,
        *,
        node: Node | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> list[Reply]:
        await self._limit.acquire(stopwatch)
        self._in_use += 1
        try:
            await self._find(stopwatch)
            if stopwatch is not None:
                stopwatch.sent()
            return await self._there_and_back(
                cast("ClusterNode | None", node), commands, nature, stopwatch
            )
        finally:
            self._in_use -= 1
            self._limit.release()

    async def aclose(self) -> None:
        self._closed = True
        await self._client.aclose()
        # After a failure the client takes itself for closed already, which it is not.
        await self._client.nodes_manager.aclose()
        await self._client.nodes_manager.aclose("startup_nodes")

    async def _there_and_back(
        self,
        node: ClusterNode | None,
        commands: Sequence[Command],
        nature: Nature,
        stopwatch: Stopwatch | None,
    ) -> list[Reply]:
        deadline = asyncio.get_running_loop().time() + self._socket_timeout
        ended = await self._tried(node, commands, nature, deadline, stopwatch)
        if isinstance(ended, list):
            return ended
        broken, error = ended
        if not (broken and nature.repeatable and node is None):
            raise error
        try:
            return await self._second_try(commands, nature, deadline, stopwatch)
        except AdapterError as again:
            # Whatever keeps a write from being repeated says nothing about the first try.
            raise (error if nature.writes else again) from None

    async def _second_try(
        self,
        commands: Sequence[Command],
        nature: Nature,
        deadline: float,
        stopwatch: Stopwatch | None,
    ) -> list[Reply]:
        await self._find(stopwatch)
        if stopwatch is not None:
            stopwatch.repeats += 1
        ended = await self._tried(None, commands, nature, deadline, stopwatch)
        if not isinstance(ended, list):
            raise ended[1]
        if nature.writes:
            for reply in ended:
                if isinstance(reply, exceptions.ResponseError):
                    raise translate(reply, phase=Phase.SENT, writes=True)
        return ended

    async def _tried(
        self,
        node: ClusterNode | None,
        commands: Sequence[Command],
        nature: Nature,
        deadline: float,
        stopwatch: Stopwatch | None,
    ) -> list[Reply] | tuple[bool, AdapterError]:
        """The replies, or whether the connection broke and what that means."""
        try:
            async with asyncio.timeout_at(deadline):
                replies = await self._sent(node, commands)
        except DRIVER_ERRORS as error:
            self._known = False
            if stopwatch is not None:
                stopwatch.failed(error)
            broken = isinstance(error, exceptions.ConnectionError)
            return broken, translate(error, phase=Phase.SENT, writes=nature.writes)
        for reply in replies:
            if isinstance(reply, exceptions.ResponseError):
                if isinstance(reply, exceptions.ReadOnlyError | exceptions.ClusterDownError):
                    self._known = False
            elif isinstance(reply, BaseException):
                self._known = False
                if stopwatch is not None:
                    stopwatch.failed(reply)
                broken = isinstance(reply, exceptions.ConnectionError)
                return broken, translate(reply, phase=Phase.SENT, writes=nature.writes)
        self.answered_at = monotonic()
        return replies

    async def _sent(self, node: ClusterNode | None, commands: Sequence[Command]) -> list[Reply]:
        if node is not None:
            return [await _reply(node, command) for command in commands]
        if len(commands) == 1:
            try:
                return [await self._client.execute_command(*commands[0])]
            except exceptions.ResponseError as refusal:
                return [refusal]
        pipeline = self._client.pipeline()
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    async def _find(self, stopwatch: Stopwatch | None = None) -> None:
        if self._closed:
            raise UnavailableError(
                "the connection to Redis has been closed: open the factory again"
            )
        now = asyncio.get_running_loop().time()
        if self._known or now - self._found_at < _FIND_AGAIN_AFTER:
            return
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._client.initialize()
                await self._client.nodes_manager.initialize()
        except DRIVER_ERRORS as error:
            if stopwatch is not None:
                stopwatch.failed(error)
            raise translate(error, phase=Phase.CONNECTING, writes=False) from None
        self._known = True
        self._found_at = now


async def _reply(node: ClusterNode, command: Command) -> Reply:
    try:
        return await node.execute_command(*command)
    except exceptions.ResponseError as refusal:
        return refusal
