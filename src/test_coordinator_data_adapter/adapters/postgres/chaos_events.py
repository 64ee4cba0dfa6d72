"""Chaos events in PostgreSQL."""

from __future__ import annotations

from test_coordinator_data_adapter.adapters.postgres import tables
from test_coordinator_data_adapter.adapters.postgres.database import Database
from test_coordinator_data_adapter.adapters.postgres.statements import Change
from test_coordinator_data_adapter.adapters.postgres.stored import PostgresStoredRepository
from test_coordinator_data_adapter.interfaces.arguments import identifier, integer
from test_coordinator_data_adapter.interfaces.chaos_events import (
    ChaosEventsRepository,
    EventChanges,
)
from test_coordinator_data_adapter.interfaces.queries import ChaosEventQuery
from test_coordinator_data_adapter.models.chaos_event import ChaosEvent, EventStatus

__all__ = ["PostgresChaosEventsRepository"]


class PostgresChaosEventsRepository(
    PostgresStoredRepository[ChaosEvent, ChaosEventQuery], ChaosEventsRepository
):
    """Chaos events in PostgreSQL."""

    def __init__(self, database: Database, *, batch_size: int = 100) -> None:
        """Keep them in the schema of ``database``; streams travel by ``batch_size``."""
        super().__init__(database, ChaosEvent, tables.chaos_events, batch_size=batch_size)

    async def create(self, event: ChaosEvent) -> ChaosEvent:
        return await self._create_in_company(event)

    async def get_by_id(self, event_id: str) -> ChaosEvent | None:
        return await self._get(event_id)

    async def update(self, event: ChaosEvent) -> ChaosEvent:
        return await self._replace(event)

    async def transition(
        self,
        event_id: str,
        changes: EventChanges,
        expected: tuple[EventStatus, ...] | None = None,
    ) -> ChaosEvent:
        change = Change(identifier(event_id, "event_id"))
        change.set("status = {}", changes.status)
        if changes.recovery_time_ms is not None:
            recovery_time = integer(changes.recovery_time_ms, "recovery_time_ms", least=0)
            change.set("recovery_time_ms = {}", recovery_time)
        if expected is not None:
            change.only_if("status = ANY({})", expected)
        return await self._apply(change)

    async def total_recovery_time(self, query: ChaosEventQuery) -> tuple[int, int]:
        return await self._sum_of(query, "recovery_time_ms")
