"""Chaos events in memory."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from test_coordinator_data_adapter.adapters.stub.store import MemoryStore
from test_coordinator_data_adapter.adapters.stub.stored import StubStoredRepository, require
from test_coordinator_data_adapter.interfaces.arguments import identifier
from test_coordinator_data_adapter.interfaces.chaos_events import (
    ChaosEventsRepository,
    EventChanges,
    recovery_too_late,
)
from test_coordinator_data_adapter.interfaces.queries import ChaosEventQuery
from test_coordinator_data_adapter.models.chaos_event import ChaosEvent, EventStatus
from test_coordinator_data_adapter.models.values import MAX_MOMENT

__all__ = ["StubChaosEventsRepository"]

_MILLISECOND: Final = timedelta(milliseconds=1)


class StubChaosEventsRepository(
    StubStoredRepository[ChaosEvent, ChaosEventQuery], ChaosEventsRepository
):
    """Chaos events in memory."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        """Use ``store``, or one of its own."""
        store = store or MemoryStore()
        super().__init__(store, store.chaos_events)

    async def create(self, event: ChaosEvent) -> ChaosEvent:
        return self._table.insert([event])[0]

    async def get_by_id(self, event_id: str) -> ChaosEvent | None:
        return self._table.get(identifier(event_id, "event_id"))

    async def update(self, event: ChaosEvent) -> ChaosEvent:
        fresh = ChaosEvent.checked(event)
        return self._table.change(
            fresh.event_id, lambda stored: fresh.__dict__ | {"created_at": stored.created_at}
        )

    async def transition(
        self,
        event_id: str,
        changes: EventChanges,
        expected: tuple[EventStatus, ...] | None = None,
    ) -> ChaosEvent:
        def changed(stored: ChaosEvent) -> dict[str, object]:
            require(expected is None or stored.status in expected, stored)
            fields: dict[str, object] = {"status": changes.status}
            if changes.detected_at is not None:
                fields["detected_at"] = changes.detected_at
            if changes.recovery_time_ms is not None:
                fields["recovery_time_ms"] = changes.recovery_time_ms
                fields["recovered_at"] = _recovered_at(stored, changes.recovery_time_ms)
            return fields

        return self._table.change(identifier(event_id, "event_id"), changed)

    async def total_recovery_time(self, query: ChaosEventQuery) -> tuple[int, int]:
        return self._sum_of(query, "recovery_time_ms")


def _recovered_at(event: ChaosEvent, recovery_time_ms: int) -> datetime:
    if recovery_time_ms > (MAX_MOMENT - event.injected_at) // _MILLISECOND:
        raise recovery_too_late(event.event_id)
    return event.injected_at + recovery_time_ms * _MILLISECOND
