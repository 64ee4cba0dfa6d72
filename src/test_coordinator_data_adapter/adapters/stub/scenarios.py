"""Scenarios in memory."""

from __future__ import annotations

from datetime import datetime

from test_coordinator_data_adapter.adapters.stub.store import MemoryStore
from test_coordinator_data_adapter.adapters.stub.stored import StubStoredRepository, require
from test_coordinator_data_adapter.interfaces.arguments import (
    identifier,
    moment,
    offset_of,
    page_limit,
)
from test_coordinator_data_adapter.interfaces.queries import ScenarioQuery
from test_coordinator_data_adapter.interfaces.scenarios import (
    ScenarioChanges,
    ScenariosRepository,
)
from test_coordinator_data_adapter.models.scenario import Scenario, ScenarioStatus

__all__ = ["StubScenariosRepository"]


class StubScenariosRepository(StubStoredRepository[Scenario, ScenarioQuery], ScenariosRepository):
    """Scenarios in memory."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        """Use ``store``, or one of its own."""
        store = store or MemoryStore()
        super().__init__(store, store.scenarios)

    async def create(self, scenario: Scenario) -> Scenario:
        return self._table.insert([scenario])[0]

    async def get_by_id(self, scenario_id: str) -> Scenario | None:
        return self._table.get(identifier(scenario_id, "scenario_id"))

    async def update(
        self, scenario: Scenario, *, if_unchanged_since: datetime | None = None
    ) -> Scenario:
        fresh = Scenario.checked(scenario)
        since = (
            None if if_unchanged_since is None else moment(if_unchanged_since, "if_unchanged_since")
        )

        def replaced(stored: Scenario) -> dict[str, object]:
            require(since is None or stored.updated_at == since, stored)
            return fresh.__dict__ | {
                "created_at": stored.created_at,
                "updated_at": self._store.later_than(stored.updated_at),
            }

        return self._table.change(fresh.scenario_id, replaced)

    async def transition(
        self,
        scenario_id: str,
        changes: ScenarioChanges,
        expected: tuple[ScenarioStatus, ...] | None = None,
    ) -> Scenario:
        def changed(stored: Scenario) -> dict[str, object]:
            require(expected is None or stored.status in expected, stored)
            return {
                "status": changes.status,
                "updated_at": self._store.later_than(stored.updated_at),
            }

        return self._table.change(identifier(scenario_id, "scenario_id"), changed)

    async def delete(self, scenario_id: str) -> bool:
        return self._table.delete(identifier(scenario_id, "scenario_id"))

    async def list_all(self, limit: int = 100, offset: int = 0) -> list[Scenario]:
        return self._table.select(limit=page_limit(limit), offset=offset_of(offset))
