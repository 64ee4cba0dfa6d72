"""The port of chaos events."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from datetime import datetime

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.interfaces.arguments import (
    OneOrMore,
    integer,
    member,
    members,
    moment,
)
from test_coordinator_data_adapter.interfaces.queries import ChaosEventQuery
from test_coordinator_data_adapter.interfaces.stored import StoredRepository
from test_coordinator_data_adapter.models.chaos_event import ChaosEvent, EventStatus, EventType

__all__ = ["ChaosEventsRepository", "EventChanges", "recovery_too_late"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventChanges:
    """What one transition of an event sets; None leaves what is stored.

    Attributes:
        status: the new status.
        recovery_time_ms: how long the service took to recover, in milliseconds; ``recovered_at``
            becomes ``injected_at`` plus this time.
        detected_at: when the fault was detected.

    Raises:
        InvalidValueError: no such status, or a recovery time or a timestamp out of range.
    """

    status: EventStatus
    recovery_time_ms: int | None = None
    detected_at: datetime | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "status", member(self.status, EventStatus, "status"))
        if self.recovery_time_ms is not None:
            integer(self.recovery_time_ms, "recovery_time_ms", least=0)
        if self.detected_at is not None:
            object.__setattr__(self, "detected_at", moment(self.detected_at, "detected_at"))


def recovery_too_late(event_id: str) -> InvalidValueError:
    """The error every backend raises when ``recovered_at`` would lie after 9999-12-31."""
    rule = "must end by 9999-12-31"
    return InvalidValueError(
        f"chaos_event {event_id!r}: recovery_time_ms {rule}",
        entity="chaos_event",
        id=event_id,
        field="recovery_time_ms",
        rule=rule,
    )


class ChaosEventsRepository(StoredRepository[ChaosEvent, ChaosEventQuery]):
    """Where injected faults are kept."""

    entity_kind = ChaosEvent
    query_kind = ChaosEventQuery

    @abstractmethod
    async def create(self, event: ChaosEvent) -> ChaosEvent:
        """Store a new event exactly as given, its times included.

        Raises:
            DuplicateError: there is one with that id already; it stays as it is.
        """

    @abstractmethod
    async def get_by_id(self, event_id: str) -> ChaosEvent | None:
        """The event with that id, or None."""

    @abstractmethod
    async def update(self, event: ChaosEvent) -> ChaosEvent:
        """Replace the stored event of that id, all but ``created_at``.

        Raises:
            NotFoundError: there is none with that id.
        """

    @abstractmethod
    async def transition(
        self,
        event_id: str,
        changes: EventChanges,
        expected: tuple[EventStatus, ...] | None = None,
    ) -> ChaosEvent:
        """Apply changes in one atomic step.

        Args:
            event_id: which one.
            changes: what to set.
            expected: apply only when the status is one of these; None: whatever it is.

        Raises:
            NotFoundError: there is none with that id.
            ConflictError: its status is another; nothing was applied.
            InvalidValueError: ``recovered_at`` would lie after 9999-12-31; nothing was applied.
        """

    @abstractmethod
    async def total_recovery_time(self, query: ChaosEventQuery) -> tuple[int, int]:
        """The sum of ``recovery_time_ms`` over what matches, and how many have one. Exact."""

    async def get_by_run(self, run_id: str) -> list[ChaosEvent]:
        """All events of that run."""
        return await self.list_matching(ChaosEventQuery(run_id=run_id))

    async def get_by_type(self, event_type: EventType) -> list[ChaosEvent]:
        """All events of that type."""
        return await self.list_matching(ChaosEventQuery(event_type=event_type))

    async def get_by_service(self, service_name: str) -> list[ChaosEvent]:
        """All events that hit that service."""
        return await self.list_matching(ChaosEventQuery(target_service=service_name))

    async def update_status(
        self,
        event_id: str,
        status: EventStatus,
        *,
        expected: OneOrMore[EventStatus] | None = None,
    ) -> ChaosEvent:
        """Set the status: `transition`, where of N concurrent calls that expect the same
        status and set another exactly one wins.

        Args:
            event_id: which one.
            status: the new status; any is allowed.
            expected: apply only when the status is this one or one of these.

        Raises:
            NotFoundError: there is none with that id.
            ConflictError: its status is another; nothing was applied.
        """
        return await self.transition(
            event_id,
            EventChanges(status=status),
            None if expected is None else members(expected, EventStatus, "expected"),
        )

    async def record_recovery(
        self,
        event_id: str,
        recovery_time_ms: int,
        *,
        detected_at: datetime | None = None,
    ) -> ChaosEvent:
        """Record that the service recovered: status RECOVERED, with the time it took.

        ``recovered_at`` becomes ``injected_at`` plus ``recovery_time_ms``.

        Args:
            event_id: which one.
            recovery_time_ms: milliseconds from ``injected_at`` to the recovery.
            detected_at: when the first check missed; None leaves what is stored.

        Raises:
            NotFoundError: there is none with that id.
            InvalidValueError: ``recovered_at`` would lie after 9999-12-31; nothing was applied.
        """
        return await self.transition(
            event_id,
            EventChanges(
                status=EventStatus.RECOVERED,
                recovery_time_ms=integer(recovery_time_ms, "recovery_time_ms", least=0),
                detected_at=detected_at,
            ),
        )

    async def get_active_events(self) -> list[ChaosEvent]:
        """All events that are INJECTED or IN_PROGRESS."""
        return await self.list_matching(
            ChaosEventQuery(status=(EventStatus.INJECTED, EventStatus.IN_PROGRESS))
        )

    async def calculate_average_recovery_time(self, event_type: EventType) -> float:
        """The mean ``recovery_time_ms`` over events of that type that have one; else 0.0."""
        total, events = await self.total_recovery_time(ChaosEventQuery(event_type=event_type))
        return total / max(1, events)
