"""Who else is measured, each only if it is installed."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import Any

from benchmarks.clients import CacheOpener, StoreOpener

_STORES = {
    "psycopg 3 pool": ("benchmarks.postgres_drivers", "psycopg_pool"),
    "SQLAlchemy Core": ("benchmarks.postgres_alchemy", "core"),
    "SQLAlchemy ORM": ("benchmarks.postgres_alchemy", "orm"),
    "advanced-alchemy": ("benchmarks.postgres_alchemy", "advanced_alchemy"),
    "Tortoise ORM": ("benchmarks.postgres_tortoise", "tortoise"),
    "Piccolo": ("benchmarks.postgres_piccolo", "piccolo"),
}
_CACHES = {
    "aiocache": ("benchmarks.redis_peers", "aiocache"),
    "cashews": ("benchmarks.redis_peers", "cashews"),
    "coredis": ("benchmarks.redis_peers", "coredis"),
    "valkey-glide": ("benchmarks.redis_peers", "glide"),
}


def store_peers() -> dict[str, StoreOpener]:
    """What else speaks to PostgreSQL."""
    return {name: _late(*where) for name, where in _STORES.items()}


def cache_peers() -> dict[str, CacheOpener]:
    """What else speaks to Redis."""
    return {name: _late(*where) for name, where in _CACHES.items()}


def _late(module: str, opener: str) -> Any:
    """An opener that is imported when it is used: a missing library is only its own loss."""

    def opened(*arguments: Any) -> AbstractAsyncContextManager[Any]:
        made: AbstractAsyncContextManager[Any] = getattr(import_module(module), opener)(*arguments)
        return made

    return opened
