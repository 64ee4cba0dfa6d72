"""The cache in memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from test_coordinator_data_adapter.adapters.stub.glob import glob_matcher
from test_coordinator_data_adapter.adapters.stub.store import MemoryStore
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
from test_coordinator_data_adapter.models.values import MAX_INTEGER, JsonValue

__all__ = ["StubCacheRepository"]


class StubCacheRepository(CacheRepository):
    """The cache in memory."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        """Use ``store``, or one of its own."""
        self._entries = (store or MemoryStore()).cache

    async def get(self, key: str) -> JsonValue:
        return self._entries.get(cache_key(key))

    async def set(self, key: str, value: JsonValue, ttl: int | None = None) -> bool:
        seconds = None if ttl is None else time_to_live(ttl)
        self._entries.put(cache_key(key), cache_value(value), seconds)
        return True

    async def delete(self, key: str) -> bool:
        return self._entries.drop(cache_key(key))

    async def exists(self, key: str) -> bool:
        return cache_key(key) in self._entries

    async def expire(self, key: str, ttl: int) -> bool:
        return self._entries.expire(cache_key(key), time_to_live(ttl))

    async def get_ttl(self, key: str) -> int | None:
        left = self._entries.left(cache_key(key))
        return None if left is None else math.ceil(left)

    async def increment(self, key: str, amount: int = 1) -> int:
        name, step = cache_key(key), integer(amount, "amount")
        held = self._entries.get(name) if name in self._entries else 0
        if type(held) is not int:
            raise not_an_integer(name)
        total = held + step
        if not -MAX_INTEGER - 1 <= total <= MAX_INTEGER:
            raise sum_out_of_range(name)
        self._entries.change(name, total)
        return total

    async def get_many(self, keys: Iterable[str]) -> dict[str, JsonValue]:
        return {key: self._entries.get(key) for key in cache_keys(keys) if key in self._entries}

    async def set_many(self, items: Mapping[str, JsonValue], ttl: int | None = None) -> bool:
        seconds = None if ttl is None else time_to_live(ttl)
        for key, value in cache_items(items).items():
            self._entries.put(key, value, seconds)
        return True

    async def delete_many(self, keys: Iterable[str]) -> int:
        return sum(self._entries.drop(key) for key in cache_keys(keys))

    async def keys(self, pattern: str = "*") -> list[str]:
        matches = glob_matcher(cache_pattern(pattern))
        return sorted(filter(matches, self._entries.names()))

    async def delete_pattern(self, pattern: str) -> int:
        return sum([self._entries.drop(key) for key in await self.keys(pattern)])
