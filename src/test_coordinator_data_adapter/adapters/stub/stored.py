"""What the stubs of the four stored kinds answer alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final, TypeVar

from test_coordinator_data_adapter.adapters.stub.store import MemoryStore
from test_coordinator_data_adapter.adapters.stub.table import Table
from test_coordinator_data_adapter.errors import ConflictError
from test_coordinator_data_adapter.interfaces.arguments import (
    batch_size_of,
    boolean,
    moment,
    page_limit,
)
from test_coordinator_data_adapter.interfaces.queries import (
    Condition,
    NotAfter,
    OneOf,
    Page,
    Position,
    Query,
)
from test_coordinator_data_adapter.interfaces.stored import StoredRepository
from test_coordinator_data_adapter.models.entity import Entity

__all__ = ["StubStoredRepository", "require"]

EntityT = TypeVar("EntityT", bound=Entity)
QueryT = TypeVar("QueryT", bound=Query)
StatusT = TypeVar("StatusT", bound=StrEnum)

_BATCH: Final = 100


class StubStoredRepository(StoredRepository[EntityT, QueryT]):
    """Answers queries from one in-memory table."""

    _prunable: ClassVar[tuple[Condition, ...]] = ()

    def __init__(self, store: MemoryStore, table: Table[EntityT]) -> None:
        """Answer from ``table``, by the clock of ``store``."""
        self._store = store
        self._table = table

    async def find(
        self,
        query: QueryT,
        *,
        limit: int = 100,
        cursor: str | None = None,
        newest_first: bool = False,
    ) -> Page[EntityT]:
        wanted, newest = page_limit(limit), boolean(newest_first, "newest_first")
        after = None if cursor is None else Position.from_cursor(cursor, newest_first=newest)
        return self._page(query, wanted, after, newest)

    async def list_matching(self, query: QueryT) -> list[EntityT]:
        return self._table.select(self._conditions(query))

    async def stream(
        self, query: QueryT, *, batch_size: int | None = None, newest_first: bool = False
    ) -> AsyncIterator[EntityT]:
        newest = boolean(newest_first, "newest_first")
        wanted = _BATCH if batch_size is None else batch_size_of(batch_size)
        after: Position | None = None
        while True:
            page = self._page(query, wanted, after, newest)
            for entity in page.items:
                yield entity
            if page.next_cursor is None:
                return
            after = Position.from_cursor(page.next_cursor, newest_first=newest)
            await asyncio.sleep(0)

    async def count(self, query: QueryT) -> int:
        return self._table.count(self._conditions(query))

    async def prune(self, older_than: datetime, *, batch_size: int | None = None) -> int:
        before = moment(older_than, "older_than")
        if batch_size is not None:
            batch_size_of(batch_size)
        strictly_before = NotAfter("created_at", before - timedelta(microseconds=1))
        return self._table.delete_matching((strictly_before, *self._prunable))

    def _count_by(self, query: QueryT, kind: type[StatusT]) -> dict[StatusT, int]:
        conditions = self._conditions(query)
        counted = {
            status: self._table.count((*conditions, OneOf("status", (status,)))) for status in kind
        }
        return {status: number for status, number in counted.items() if number}

    def _sum_of(self, query: QueryT, field: str) -> tuple[int, int]:
        held = [
            value
            for value in self._table.values(self._conditions(query), field)
            if isinstance(value, int)
        ]
        return sum(held), len(held)

    def _page(
        self,
        query: QueryT,
        limit: int,
        after: Position | None,
        newest_first: bool,  # noqa: FBT001 - private
    ) -> Page[EntityT]:
        found = self._table.select(
            self._conditions(query),
            after=None if after is None else (after.created_at, after.id),
            limit=limit + 1,
            reverse=newest_first,
        )
        if len(found) <= limit:
            return Page(found)
        return Page(
            found[:limit], Position.of(found[limit - 1]).to_cursor(newest_first=newest_first)
        )


def require(met: bool, entity: Entity) -> None:  # noqa: FBT001 - a condition reads best in place
    """Refuse a change of an entity that is not in the state the caller expected."""
    if not met:
        raise ConflictError.of(entity.entity_name, entity.identity)
