"""aiocache, cashews, coredis and valkey-glide."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import Any

import orjson

from benchmarks.clients import CacheClient, CacheClients
from benchmarks.redis_drivers import SECONDS

_SCANNED = 1_000


@asynccontextmanager
async def aiocache(host: str, port: int) -> CacheClients:
    """The cache aiocache with its own JSON serializer."""
    from aiocache import RedisCache
    from aiocache.serializers import JsonSerializer

    cache = RedisCache(endpoint=host, port=port, serializer=JsonSerializer(), namespace="aiocache")
    try:
        yield CacheClient(
            get=cache.get,
            set=lambda key, value: cache.set(key, value, ttl=SECONDS),
            get_many=cache.multi_get,
            set_many=lambda items: cache.multi_set(list(items.items()), ttl=SECONDS),
            prefix="aiocache:",
        )
    finally:
        await cache.close()


@asynccontextmanager
async def cashews(host: str, port: int) -> CacheClients:
    """The cache cashews with its own JSON serializer; its usual one is pickle."""
    from cashews import Cache

    cache = Cache()
    cache.setup(f"redis://{host}:{port}/0", suppress=False, pickle_type="json")
    await cache.init()

    async def get_many(keys: list[str]) -> Any:
        return await cache.get_many(*keys)

    async def delete_pattern(pattern: str) -> Any:
        await cache.delete_match(pattern)

    try:
        yield CacheClient(
            get=cache.get,
            set=lambda key, value: cache.set(key, value, expire=SECONDS),
            get_many=get_many,
            set_many=lambda items: cache.set_many(items, expire=SECONDS),
            delete_pattern=delete_pattern,
        )
    finally:
        await cache.close()


@asynccontextmanager
async def coredis(host: str, port: int) -> CacheClients:
    """The client coredis, with orjson."""
    from coredis import Redis

    async with Redis(host=host, port=port) as redis:

        async def get(key: str) -> Any:
            raw = await redis.get(key)
            return None if raw is None else orjson.loads(raw)

        async def set_(key: str, value: Any) -> Any:
            return await redis.set(key, orjson.dumps(value), ex=SECONDS)

        async def get_many(keys: list[str]) -> Any:
            raws = await redis.mget(keys)
            return [None if raw is None else orjson.loads(raw) for raw in raws]

        async def set_many(items: dict[str, Any]) -> Any:
            async with redis.pipeline(transaction=False) as pipeline:
                for key, value in items.items():
                    pipeline.set(key, orjson.dumps(value), ex=SECONDS)

        async def delete_pattern(pattern: str) -> Any:
            cursor: int | None = None
            while cursor != 0:
                cursor, keys = await redis.scan(cursor or 0, match=pattern, count=_SCANNED)
                if keys:
                    await redis.unlink(keys)

        yield CacheClient(
            get=get, set=set_, get_many=get_many, set_many=set_many, delete_pattern=delete_pattern
        )


@asynccontextmanager
async def glide(host: str, port: int) -> CacheClients:
    """The client valkey-glide, with orjson."""
    from glide import (
        Batch,
        ExpirySet,
        ExpiryType,
        GlideClient,
        GlideClientConfiguration,
        NodeAddress,
    )

    client = await GlideClient.create(GlideClientConfiguration([NodeAddress(host, port)]))
    expiry = ExpirySet(ExpiryType.SEC, SECONDS)

    async def get(key: str) -> Any:
        raw = await client.get(key)
        return None if raw is None else orjson.loads(raw)

    async def set_(key: str, value: Any) -> Any:
        return await client.set(key, orjson.dumps(value), expiry=expiry)

    async def get_many(keys: list[str]) -> Any:
        raws = await client.mget(list(keys))
        return [None if raw is None else orjson.loads(raw) for raw in raws]

    async def set_many(items: dict[str, Any]) -> Any:
        batch = Batch(is_atomic=False)
        for key, value in items.items():
            batch.set(key, orjson.dumps(value), expiry=expiry)
        return await client.exec(batch, raise_on_error=True)

    async def delete_pattern(pattern: str) -> Any:
        cursor: Any = b"0"
        while True:
            cursor, keys = await client.scan(cursor, match=pattern, count=_SCANNED)
            if keys:
                await client.unlink(list(keys))
            if cursor == b"0":
                return

    try:
        yield CacheClient(
            get=get, set=set_, get_many=get_many, set_many=set_many, delete_pattern=delete_pattern
        )
    finally:
        await client.close()
