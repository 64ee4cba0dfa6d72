"""The port of scenarios."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from datetime import datetime

from test_coordinator_data_adapter.interfaces.arguments import OneOrMore, member, members
from test_coordinator_data_adapter.interfaces.queries import ScenarioQuery
from test_coordinator_data_adapter.interfaces.stored import StoredRepository
from test_coordinator_data_adapter.models.scenario import Scenario, ScenarioStatus, ScenarioType

__all__ = ["ScenarioChanges", "ScenariosRepository"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioChanges:
    """What one transition of a scenario sets.

    Attributes:
        status: the new status.

    Raises:
        InvalidValueError: no such status.
    """

    status: ScenarioStatus

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", member(self.status, ScenarioStatus, "status"))


class ScenariosRepository(StoredRepository[Scenario, ScenarioQuery]):
    """Where scenario definitions are kept."""

    entity_kind = Scenario
    query_kind = ScenarioQuery

    @abstractmethod
    async def create(self, scenario: Scenario) -> Scenario:
        """Store a new scenario exactly as given, its times included.

        Raises:
            DuplicateError: there is one with that id already; it stays as it is.
        """

    @abstractmethod
    async def get_by_id(self, scenario_id: str) -> Scenario | None:
        """The scenario with that id, or None."""

    @abstractmethod
    async def update(
        self, scenario: Scenario, *, if_unchanged_since: datetime | None = None
    ) -> Scenario:
        """Replace the stored scenario of that id, all but ``created_at``.

        ``updated_at`` becomes the store's time, later than the stored one in any case.

        Args:
            scenario: what to store; its own ``created_at`` and ``updated_at`` are ignored.
            if_unchanged_since: replace only when the stored ``updated_at`` equals this.

        Raises:
            NotFoundError: there is none with that id.
            ConflictError: it was changed since; nothing was applied.
        """

    @abstractmethod
    async def transition(
        self,
        scenario_id: str,
        changes: ScenarioChanges,
        expected: tuple[ScenarioStatus, ...] | None = None,
    ) -> Scenario:
        """Apply changes in one atomic step; ``updated_at`` as in `update`.

        Args:
            scenario_id: which one.
            changes: what to set.
            expected: apply only when the status is one of these; None: whatever it is.

        Raises:
            NotFoundError: there is none with that id.
            ConflictError: its status is another; nothing was applied.
        """

    @abstractmethod
    async def delete(self, scenario_id: str) -> bool:
        """Remove it; its runs stay. True when it was there."""

    @abstractmethod
    async def list_all(self, limit: int = 100, offset: int = 0) -> list[Scenario]:
        """Scenarios by (created_at, id), ``limit`` of them (1 to 1000) after ``offset`` others."""

    async def get_by_type(self, scenario_type: ScenarioType) -> list[Scenario]:
        """All scenarios of that type."""
        return await self.list_matching(ScenarioQuery(scenario_type=scenario_type))

    async def get_by_status(self, status: ScenarioStatus) -> list[Scenario]:
        """All scenarios with that status."""
        return await self.list_matching(ScenarioQuery(status=status))

    async def update_status(
        self,
        scenario_id: str,
        status: ScenarioStatus,
        *,
        expected: OneOrMore[ScenarioStatus] | None = None,
    ) -> Scenario:
        """Set the status: `transition`, where of N concurrent calls that expect the same
        status and set another exactly one wins.

        Args:
            scenario_id: which one.
            status: the new status; any is allowed.
            expected: apply only when the status is this one or one of these.

        Raises:
            NotFoundError: there is none with that id.
            ConflictError: its status is another; nothing was applied.
        """
        return await self.transition(
            scenario_id,
            ScenarioChanges(status=status),
            None if expected is None else members(expected, ScenarioStatus, "expected"),
        )

    async def search_by_tag(self, tag: str) -> list[Scenario]:
        """All scenarios that carry that tag."""
        return await self.list_matching(ScenarioQuery(tag=tag))

    async def get_active_scenarios(self) -> list[Scenario]:
        """All scenarios with status ACTIVE."""
        return await self.list_matching(ScenarioQuery(status=ScenarioStatus.ACTIVE))
