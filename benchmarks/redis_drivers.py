"""The bare driver: redis-py with hiredis, with and without JSON."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import orjson
from redis.asyncio import BlockingConnectionPool, Redis

from benchmarks.clients import CacheClient, CacheClients, CacheOpener

BARE = "redis-py (bytes)"
JSON = "redis-py + orjson"
POOL_OF_TEN = "redis-py (bytes, pool of 10)"
SECONDS = 60
_POOL_SIZE = 10
_SCANNED = 1_000


def _same(value: Any) -> Any:
    return value


@asynccontextmanager
async def _redis_py(
    host: str, port: int, *, json: bool = False, pool_size: int | None = None
) -> CacheClients:
    written: Callable[[Any], Any] = orjson.dumps if json else _same
    read: Callable[[Any], Any] = (
        (lambda raw: None if raw is None else orjson.loads(raw)) if json else _same
    )
    if pool_size is None:
        redis = Redis(host=host, port=port)
    else:
        pool = BlockingConnectionPool(host=host, port=port, max_connections=pool_size)
        redis = Redis(connection_pool=pool)

    async def get(key: str) -> Any:
        return read(await redis.get(key))

    async def set_(key: str, value: Any) -> Any:
        return await redis.set(key, written(value), ex=SECONDS)

    async def get_many(keys: list[str]) -> Any:
        raws = await redis.mget(keys)
        return [read(raw) for raw in raws] if json else raws

    async def set_many(items: dict[str, Any]) -> Any:
        async with redis.pipeline(transaction=False) as pipeline:
            for key, value in items.items():
                pipeline.set(key, written(value), ex=SECONDS)
            return await pipeline.execute()

    async def delete_pattern(pattern: str) -> Any:
        cursor, removed = 0, 0
        while True:
            cursor, keys = await redis.scan(cursor, match=pattern, count=_SCANNED)
            if keys:
                removed += await redis.unlink(*keys)
            if cursor == 0:
                return removed

    try:
        yield CacheClient(
            get=get,
            set=set_,
            get_many=get_many,
            set_many=set_many,
            delete_pattern=delete_pattern,
            takes_bytes=not json,
        )
    finally:
        await redis.aclose()


DRIVERS: dict[str, CacheOpener] = {
    BARE: _redis_py,
    JSON: partial(_redis_py, json=True),
    POOL_OF_TEN: partial(_redis_py, pool_size=_POOL_SIZE),
}
"""These need nothing that the library does not need."""
