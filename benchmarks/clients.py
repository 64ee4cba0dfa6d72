"""What every competitor offers, as far as it can, in its own way."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

from test_coordinator_data_adapter.models import RunStatus, TestResult

Values: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, kw_only=True)
class StoreClient:
    """One way to the four tables; None: it has no way, or none that would be its own.

    Attributes:
        get_by_id: a test result, complete.
        get_by_run: the results of a run in the order they were created, complete.
        bulk_create: stores results in one transaction; given as models and as rows of values.
        update_status: a run that it then tells as it is stored.
        pass_rate: of a run.
        has_pool: whether it may be called by many at once, and then uses ten connections.
    """

    get_by_id: Callable[[str], Awaitable[Any]] | None = None
    get_by_run: Callable[[str], Awaitable[Sequence[Any]]] | None = None
    bulk_create: Callable[[list[TestResult], list[Values]], Awaitable[Any]] | None = None
    update_status: Callable[[str, RunStatus], Awaitable[Any]] | None = None
    pass_rate: Callable[[str], Awaitable[Any]] | None = None
    has_pool: bool = False


@dataclass(frozen=True, kw_only=True)
class CacheClient:
    """One way to a cache of JSON values.

    Attributes:
        get: the value of a key.
        set: a value under a key, for a minute.
        get_many: the values of keys.
        set_many: values under their keys, for a minute.
        delete_pattern: removes every key that a glob matches, and tells how many.
        prefix: what its keys begin with on the server.
        takes_bytes: whether it is given values that are encoded already.
    """

    get: Callable[[str], Awaitable[Any]] | None = None
    set: Callable[[str, Any], Awaitable[Any]] | None = None
    get_many: Callable[[list[str]], Awaitable[Any]] | None = None
    set_many: Callable[[dict[str, Any]], Awaitable[Any]] | None = None
    delete_pattern: Callable[[str], Awaitable[Any]] | None = None
    prefix: str = ""
    takes_bytes: bool = False


StoreOpener: TypeAlias = Callable[[str, str], AbstractAsyncContextManager[StoreClient]]
"""Given a URL without a driver's name and a schema."""

CacheOpener: TypeAlias = Callable[[str, int], AbstractAsyncContextManager[CacheClient]]
"""Given a host and a port."""

StoreClients: TypeAlias = AsyncGenerator[StoreClient]
CacheClients: TypeAlias = AsyncGenerator[CacheClient]
