"""Scenarios in PostgreSQL."""

from __future__ import annotations

from datetime import datetime

from test_coordinator_data_adapter.adapters.postgres import tables
from test_coordinator_data_adapter.adapters.postgres.database import Database
from test_coordinator_data_adapter.adapters.postgres.statements import Change, Where
from test_coordinator_data_adapter.adapters.postgres.stored import (
    TOUCHED,
    PostgresStoredRepository,
)
from test_coordinator_data_adapter.interfaces.arguments import identifier, offset_of, page_limit
from test_coordinator_data_adapter.interfaces.queries import ScenarioQuery
from test_coordinator_data_adapter.interfaces.scenarios import (
    ScenarioChanges,
    ScenariosRepository,
)
from test_coordinator_data_adapter.models.scenario import Scenario, ScenarioStatus

__all__ = ["PostgresScenariosRepository"]


class PostgresScenariosRepository(
    PostgresStoredRepository[Scenario, ScenarioQuery], ScenariosRepository
):
    """Scenarios in PostgreSQL."""

    def __init__(self, database: Database, *, batch_size: int = 100) -> None:
        """Keep them in the schema of ``database``; streams travel by ``batch_size``."""
        super().__init__(database, Scenario, tables.scenarios, batch_size=batch_size)

    async def create(self, scenario: Scenario) -> Scenario:
        return await self._create(scenario)

    async def get_by_id(self, scenario_id: str) -> Scenario | None:
        return await self._get(scenario_id)

    async def update(
        self, scenario: Scenario, *, if_unchanged_since: datetime | None = None
    ) -> Scenario:
        return await self._replace(scenario, since=if_unchanged_since)

    async def transition(
        self,
        scenario_id: str,
        changes: ScenarioChanges,
        expected: tuple[ScenarioStatus, ...] | None = None,
    ) -> Scenario:
        change = Change(identifier(scenario_id, "scenario_id"))
        change.set("status = {}", changes.status)
        change.set(TOUCHED)
        if expected is not None:
            change.only_if("status = ANY({})", expected)
        return await self._apply(change)

    async def delete(self, scenario_id: str) -> bool:
        return await self._delete(scenario_id)

    async def list_all(self, limit: int = 100, offset: int = 0) -> list[Scenario]:
        where = Where()
        where.cut(page_limit(limit), offset_of(offset))
        return await self._entities(await self._select(where))
