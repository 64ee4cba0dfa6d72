"""The cache in Redis."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

from test_coordinator_data_adapter.adapters.redis.codec import decoded, encoded
from test_coordinator_data_adapter.adapters.redis.keyspace import (
    READ,
    REMOVED,
    WRITTEN,
    Keyspace,
)
from test_coordinator_data_adapter.adapters.redis.route import Command
from test_coordinator_data_adapter.interfaces.arguments import (
    cache_items,
    cache_key,
    cache_keys,
    cache_pattern,
    cache_value,
    integer,
    not_an_integer,
    sum_out_of_range,
    time_to_live,
)
from test_coordinator_data_adapter.interfaces.cache import CacheRepository
from test_coordinator_data_adapter.models.values import JsonValue
from test_coordinator_data_adapter.resilience.coalescing import Coalescer

__all__ = ["RedisCacheRepository"]

_KEY: Final = "cache_key"


class RedisCacheRepository(CacheRepository):
    """The cache in Redis: one key an entry, under the keyspace's namespace."""

    def __init__(self, keyspace: Keyspace) -> None:
        """Use a keyspace, which stays its owner's to close."""
        self._keyspace = keyspace
        self._prefix = keyspace.prefix
        self._read: Coalescer[str, bytes | None] = Coalescer(
            self._values, operation="cache.get", on_batch=keyspace.hooks.on_batch
        )

    async def aclose(self) -> None:
        """Cut off the reads that travel together."""
        await self._read.aclose()

    async def get(self, key: str) -> JsonValue:
        raw = await self._read(cache_key(key))
        return None if raw is None else decoded(raw, key)

    async def set(self, key: str, value: JsonValue, ttl: int | None = None) -> bool:
        expiry = _expiry(ttl)
        await self._keyspace.call(
            ("SET", self._prefix + cache_key(key), encoded(cache_value(value)), *expiry),
            WRITTEN,
            entity=_KEY,
            id=key,
        )
        return True

    async def delete(self, key: str) -> bool:
        command = ("UNLINK", self._prefix + cache_key(key))
        return await self._keyspace.call(command, REMOVED, entity=_KEY, id=key) == 1

    async def exists(self, key: str) -> bool:
        command = ("EXISTS", self._prefix + cache_key(key))
        return await self._keyspace.call(command, READ, entity=_KEY, id=key) == 1

    async def expire(self, key: str, ttl: int) -> bool:
        command = ("EXPIRE", self._prefix + cache_key(key), time_to_live(ttl))
        return await self._keyspace.call(command, WRITTEN, entity=_KEY, id=key) == 1

    async def get_ttl(self, key: str) -> int | None:
        command = ("PTTL", self._prefix + cache_key(key))
        milliseconds = cast("int", await self._keyspace.call(command, READ, entity=_KEY, id=key))
        return None if milliseconds < 0 else -(-milliseconds // 1000)

    async def increment(self, key: str, amount: int = 1) -> int:
        complete = self._prefix + cache_key(key)
        total = await self._keyspace.add(complete, integer(amount, "amount"), entity=_KEY, id=key)
        if total is not None:
            return total
        (raw,) = await self._values((key,))
        countable = raw is not None and type(decoded(raw, key)) is int
        raise sum_out_of_range(key) if countable else not_an_integer(key)

    async def get_many(self, keys: Iterable[str]) -> dict[str, JsonValue]:
        names = cache_keys(keys)
        raws = await self._values(names)
        return {
            name: decoded(raw, name)
            for name, raw in zip(names, raws, strict=True)
            if raw is not None
        }

    async def set_many(self, items: Mapping[str, JsonValue], ttl: int | None = None) -> bool:
        expiry = _expiry(ttl)
        prefix = self._prefix
        commands: list[Command] = [
            ("SET", prefix + key, encoded(value), *expiry)
            for key, value in cache_items(items).items()
        ]
        await self._keyspace.write_all(commands, entity=_KEY)
        return True

    async def delete_many(self, keys: Iterable[str]) -> int:
        complete = [self._prefix + key for key in cache_keys(keys)]
        return await self._keyspace.remove(complete, entity=_KEY)

    async def keys(self, pattern: str = "*") -> list[str]:
        names: set[str] = set()
        async for found in self._keyspace.matching(cache_pattern(pattern), entity=_KEY):
            names.update(filter(None, map(self._keyspace.name_of, found)))
        return sorted(names)

    async def delete_pattern(self, pattern: str) -> int:
        return await self._keyspace.remove_matching(cache_pattern(pattern), entity=_KEY)

    async def _values(self, keys: Sequence[str]) -> list[bytes | None]:
        prefix = self._prefix
        return await self._keyspace.values([prefix + key for key in keys], entity=_KEY)


def _expiry(ttl: int | None) -> tuple[str, int] | tuple[()]:
    return () if ttl is None else ("EX", time_to_live(ttl))
