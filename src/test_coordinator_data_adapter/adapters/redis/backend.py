"""Redis as a factory supervises it: the keyspace, and what is handed out over it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Final, TypeAlias

from test_coordinator_data_adapter.adapters.redis.address import KeyspaceSettings
from test_coordinator_data_adapter.adapters.redis.cache import RedisCacheRepository
from test_coordinator_data_adapter.adapters.redis.keyspace import Keyspace
from test_coordinator_data_adapter.adapters.redis.read_cache import RedisReadCache
from test_coordinator_data_adapter.adapters.redis.service_discovery import (
    RedisServiceDiscoveryRepository,
)
from test_coordinator_data_adapter.errors import UnavailableError
from test_coordinator_data_adapter.models.values import JsonValue
from test_coordinator_data_adapter.resilience.observation import HooksAt, no_hooks

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.cluster import RedisCluster

__all__ = ["Client", "OpenRedis", "RedisBackend"]

Client: TypeAlias = "Redis | RedisCluster"
"""One of redis-py's clients."""

_CLOSED: Final = "redis is not open: initialise the factory first"


class OpenRedis:
    """One keyspace and the repositories over it.

    Attributes:
        keyspace: the waist.
        cache: the cache.
        services: the registry of services.
        read_cache: where cached reads are answered from.
    """

    def __init__(self, keyspace: Keyspace) -> None:
        self.keyspace = keyspace
        self.cache = RedisCacheRepository(keyspace)
        self.services = RedisServiceDiscoveryRepository(keyspace)
        self.read_cache = RedisReadCache(keyspace)

    async def aclose(self) -> None:
        await self.cache.aclose()
        await self.keyspace.aclose()


class RedisBackend:
    """One Redis: standalone, behind Sentinels, or a cluster."""

    def __init__(self, settings: KeyspaceSettings, *, hooks_at: HooksAt = no_hooks) -> None:
        """Know where it is; nothing is opened yet.

        Args:
            settings: where, and how to treat it.
            hooks_at: hands out what is to be called, once it is known where Redis is.
        """
        self._settings = settings
        self._hooks_at = hooks_at
        self._opened: OpenRedis | None = None

    @property
    def name(self) -> str:
        """What health and events call it."""
        return "redis"

    @property
    def opened(self) -> OpenRedis:
        """The keyspace and what is handed out over it.

        Raises:
            UnavailableError: it is not open.
        """
        if self._opened is None:
            raise UnavailableError(_CLOSED)
        return self._opened

    async def open(self) -> None:
        """Connect and ask one question.

        Raises:
            AdapterError: Redis cannot be used.
        """
        opened = OpenRedis(Keyspace(self._settings, hooks_at=self._hooks_at))
        try:
            await opened.keyspace.probe()
        except BaseException:
            await opened.aclose()
            raise
        self._opened = opened
        if opened.keyspace.hooks.on_pool is not None:
            opened.keyspace.hooks.on_pool(opened.keyspace.pool_use)

    def known(self) -> dict[str, JsonValue]:
        """What is known of Redis without asking it; nothing before it was opened."""
        if self._opened is None:
            return {}
        keyspace = self._opened.keyspace
        return {
            "topology": keyspace.topology,
            "tls": keyspace.encrypted,
            "pool": asdict(keyspace.pool_use()),
        }

    @property
    def answered_at(self) -> float:
        """When it last answered anything; 0.0 while it is not open."""
        return 0.0 if self._opened is None else self._opened.keyspace.answered_at

    async def facts(self) -> dict[str, JsonValue]:
        """What Redis tells of itself, where it may.

        Raises:
            AdapterError: Redis does not answer as it should.
        """
        await self.opened.keyspace.probe()
        greeting = self.opened.keyspace.greeting
        return {"server_version": greeting.version, "role": greeting.role}

    async def answers(self) -> bool:
        """Whether Redis answers on another connection while those of the pool are in use."""
        return await self.opened.keyspace.answers()

    async def aclose(self) -> None:
        """Close every connection."""
        opened, self._opened = self._opened, None
        if opened is not None:
            if opened.keyspace.hooks.on_pool is not None:
                opened.keyspace.hooks.on_pool(None)
            await opened.aclose()
