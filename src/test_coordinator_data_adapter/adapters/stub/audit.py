"""The audit trail in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from operator import attrgetter
from typing import Final

from test_coordinator_data_adapter.adapters.stub.store import MemoryStore
from test_coordinator_data_adapter.adapters.stub.trail import Fact
from test_coordinator_data_adapter.interfaces.arguments import (
    batch_size_of,
    identifier,
    member,
    page_limit,
)
from test_coordinator_data_adapter.interfaces.audit import AuditRepository, record_behind
from test_coordinator_data_adapter.interfaces.queries import (
    AuditQuery,
    Condition,
    NotAfter,
    NotBefore,
    OneOf,
    Page,
    conditions_of,
)
from test_coordinator_data_adapter.models.audit import AuditKind, AuditOperation, AuditRecord

__all__ = ["StubAuditRepository"]

_BATCH: Final = 100


class StubAuditRepository(AuditRepository):
    """The audit trail in memory."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        """Read the trail of ``store``, or of one of its own."""
        self._facts = (store or MemoryStore()).trail.facts

    async def history(self, kind: AuditKind, entity_id: str) -> list[AuditRecord]:
        wanted = member(kind, AuditKind, "kind")
        id_ = identifier(entity_id, "entity_id")
        return [
            fact.as_record()
            for fact in self._facts
            if fact.kind is wanted and any(entity.identity == id_ for entity in fact.entities)
        ]

    async def find(
        self, query: AuditQuery, *, limit: int = 100, cursor: str | None = None
    ) -> Page[AuditRecord]:
        wanted = page_limit(limit)
        records = self._behind(query, record_behind(cursor), wanted + 1)
        if len(records) <= wanted:
            return Page(records)
        return Page(records[:wanted], str(records[wanted - 1].record_id))

    async def stream(
        self, query: AuditQuery, *, batch_size: int | None = None
    ) -> AsyncIterator[AuditRecord]:
        wanted = _BATCH if batch_size is None else batch_size_of(batch_size)
        after = record_behind(None)
        while records := self._behind(query, after, wanted):
            for record in records:
                yield record
            after = records[-1].record_id
            await asyncio.sleep(0)

    async def list_of_run(self, run_id: str) -> list[tuple[AuditRecord, Sequence[str]]]:
        id_ = identifier(run_id, "run_id")
        found: list[tuple[AuditRecord, Sequence[str]]] = []
        for fact in self._facts:
            of_run = (entity for entity in fact.entities if entity.__dict__.get("run_id") == id_)
            ids = sorted(entity.identity for entity in of_run)
            if ids and fact.operation is not AuditOperation.PRUNE:
                found.append((fact.as_record(), ids))
        return found

    def _behind(self, query: AuditQuery, after: int, limit: int) -> list[AuditRecord]:
        conditions = conditions_of(query, AuditQuery)
        found: list[AuditRecord] = []
        # The trail has no gaps: the first fact behind a number stands at that place.
        for fact in self._facts[max(after, 0) :]:
            if all(_meets(fact, condition) for condition in conditions):
                found.append(fact.as_record())
                if len(found) == limit:
                    break
        return found


def _entity_id(fact: Fact) -> str | None:
    return None if fact.is_of_many else fact.entities[0].identity


_VALUES: Final[dict[str, Callable[[Fact], object]]] = {
    "kind": attrgetter("kind"),
    "operation": attrgetter("operation"),
    "entity_id": _entity_id,
    "actor": attrgetter("actor"),
    "correlation_id": attrgetter("context.correlation_id"),
}


def _meets(fact: Fact, condition: Condition) -> bool:
    match condition:
        case NotBefore(_, moment):
            return fact.recorded_at >= moment
        case NotAfter(_, moment):
            return fact.recorded_at <= moment
        case OneOf(field, values):
            return _VALUES[field](fact) in values
        case _:
            raise NotImplementedError
