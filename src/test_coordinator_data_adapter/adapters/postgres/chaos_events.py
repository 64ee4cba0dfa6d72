"""Chaos events in PostgreSQL."""

from __future__ import annotations

from typing import Final

from test_coordinator_data_adapter.adapters.postgres import tables
from test_coordinator_data_adapter.adapters.postgres.database import Database
from test_coordinator_data_adapter.adapters.postgres.statements import Change
from test_coordinator_data_adapter.adapters.postgres.stored import PostgresStoredRepository
from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.interfaces.arguments import identifier, integer
from test_coordinator_data_adapter.interfaces.chaos_events import (
    ChaosEventsRepository,
    EventChanges,
    recovery_too_late,
)
from test_coordinator_data_adapter.interfaces.queries import ChaosEventQuery
from test_coordinator_data_adapter.models.chaos_event import ChaosEvent, EventStatus

__all__ = ["PostgresChaosEventsRepository"]

_RECOVERED_AT_RANGE: Final = "ck_chaos_events_recovered_at_range"
# More milliseconds than from any timestamp to the last one, in hours that fit an int4. An interval
# is multiplied as a float: that is exact for what is less than an hour.
_MILLISECONDS: Final = "least({0}::bigint, 253402300800000)"
_RECOVERY: Final = (
    f"injected_at + make_interval(hours => ({_MILLISECONDS} / 3600000)::int)"
    f" + ({_MILLISECONDS} % 3600000) * interval '1 millisecond'"
)
# The constraint refuses an infinite timestamp.
_RECOVERED_AT: Final = (
    f"recovered_at = CASE WHEN {_RECOVERY} <= '9999-12-31 00:00:00+00'"
    f" THEN {_RECOVERY} ELSE 'infinity' END"
)


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
        if changes.detected_at is not None:
            change.set("detected_at = {}", changes.detected_at)
        if changes.recovery_time_ms is not None:
            recovery_time = integer(changes.recovery_time_ms, "recovery_time_ms", least=0)
            change.set("recovery_time_ms = {}", recovery_time)
            change.set(_RECOVERED_AT, recovery_time)
        if expected is not None:
            change.only_if("status = ANY({})", expected)
        try:
            return await self._apply(change)
        except InvalidValueError as error:
            if error.constraint == _RECOVERED_AT_RANGE:
                raise recovery_too_late(change.id) from None
            raise

    async def total_recovery_time(self, query: ChaosEventQuery) -> tuple[int, int]:
        return await self._sum_of(query, "recovery_time_ms")
