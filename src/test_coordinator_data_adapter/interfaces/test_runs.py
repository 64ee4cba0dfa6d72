"""The port of test runs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final, Literal, cast, get_args

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.interfaces.arguments import (
    OneOrMore,
    integer,
    member,
    members,
    moment,
)
from test_coordinator_data_adapter.interfaces.queries import TestRunQuery
from test_coordinator_data_adapter.interfaces.stored import StoredRepository
from test_coordinator_data_adapter.models.test_run import RunStatus, TestRun

__all__ = ["RunChanges", "RunMoment", "TestRunsRepository", "run_moment"]

RunMoment = Literal["created_at", "started_at", "completed_at"]
_MOMENTS: Final = get_args(RunMoment)
_SET_BY_AN_END: Final = ("completed_at", "duration_ms", "exit_code", "error_message")


def run_moment(value: object) -> RunMoment:
    """One of the times of a run that lists can be ordered by.

    Raises:
        InvalidValueError: it is none of them.
    """
    if value not in _MOMENTS:
        rule = f"must be one of: {', '.join(_MOMENTS)}"
        raise InvalidValueError(f"by {rule}", field="by", rule=rule)
    return cast("RunMoment", value)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunChanges:
    """What one transition of a run sets; None leaves what is stored.

    Attributes:
        status: the new status.
        starts: ``started_at`` becomes the store's time, and what an earlier end of the run
            has set is cleared.
        completes: ``completed_at`` becomes the store's time, and ``duration_ms``, unless
            given, the whole milliseconds since ``started_at`` (0 when that lies ahead);
            without a ``started_at`` it stays.
        exit_code: what the process ended with.
        duration_ms: how long it took, in milliseconds.

    Raises:
        InvalidValueError: no such status; a status that ends a run with ``starts``, or one
            that does not with ``completes``; an exit code or a duration out of range.
    """

    status: RunStatus
    starts: bool = False
    completes: bool = False
    exit_code: int | None = None
    duration_ms: int | None = None

    def __post_init__(self) -> None:
        status = member(self.status, RunStatus, "status")
        object.__setattr__(self, "status", status)
        if (self.completes and not status.is_finished) or (self.starts and status.is_finished):
            allowed = ", ".join(one for one in RunStatus if one.is_finished is self.completes)
            rule = f"must {'end' if self.completes else 'not end'} a run; it is one of: {allowed}"
            raise InvalidValueError(f"status {rule}", field="status", rule=rule)
        if self.exit_code is not None:
            integer(self.exit_code, "exit_code")
        if self.duration_ms is not None:
            integer(self.duration_ms, "duration_ms", least=0)

    @property
    def cleared_fields(self) -> tuple[str, ...]:
        """The fields that become None: what an earlier end of the run has set."""
        if not self.starts:
            return ()
        return tuple(name for name in _SET_BY_AN_END if getattr(self, name, None) is None)


class TestRunsRepository(StoredRepository[TestRun, TestRunQuery]):
    """Where test runs are kept."""

    __test__: ClassVar[bool] = False  # pytest collects what is called Test*
    entity_kind = TestRun
    query_kind = TestRunQuery

    @abstractmethod
    async def create(self, run: TestRun) -> TestRun:
        """Store a new run exactly as given, its times included.

        Raises:
            DuplicateError: there is one with that id already; it stays as it is.
        """

    @abstractmethod
    async def get_by_id(self, run_id: str) -> TestRun | None:
        """The run with that id, or None."""

    @abstractmethod
    async def update(self, run: TestRun, *, if_unchanged_since: datetime | None = None) -> TestRun:
        """Replace the stored run of that id, all but ``created_at``.

        ``updated_at`` becomes the store's time, later than the stored one in any case.

        Args:
            run: what to store; its own ``created_at`` and ``updated_at`` are ignored.
            if_unchanged_since: replace only when the stored ``updated_at`` equals this.

        Raises:
            NotFoundError: there is none with that id.
            ConflictError: it was changed since; nothing was applied.
        """

    @abstractmethod
    async def transition(
        self,
        run_id: str,
        changes: RunChanges,
        expected: tuple[RunStatus, ...] | None = None,
    ) -> TestRun:
        """Apply changes in one atomic step; ``updated_at`` as in `update`.

        Args:
            run_id: which one.
            changes: what to set.
            expected: apply only when the status is one of these; None: whatever it is.

        Raises:
            NotFoundError: there is none with that id.
            ConflictError: its status is another; nothing was applied.
        """

    @abstractmethod
    async def delete(self, run_id: str, *, with_children: bool = False) -> bool:
        """Remove it. True when it was there.

        Args:
            run_id: which one.
            with_children: also remove its events and results, in the same transaction, whether
                or not the run itself is there; the audit trail records each of them. Otherwise
                they stay. An event or result that is stored meanwhile may stay.
        """

    @abstractmethod
    async def list_newest(self, query: TestRunQuery, *, by: RunMoment, limit: int) -> list[TestRun]:
        """What matches, newest first by one of its times; runs without it come last.

        Ties, and the runs without that time, are ordered by (created_at, id).

        Args:
            query: what to look for.
            by: the time to order by.
            limit: how many at the most, 1 to 1000.

        Raises:
            InvalidValueError: no such time, or ``limit`` out of range.
        """

    @abstractmethod
    async def count_by_status_matching(self, query: TestRunQuery) -> Mapping[RunStatus, int]:
        """How many match, by status; a status without any is left out. One moment's answer."""

    @abstractmethod
    async def total_duration(self, query: TestRunQuery) -> tuple[int, int]:
        """The sum of ``duration_ms`` over what matches, and how many have one. Exact."""

    async def get_by_scenario(self, scenario_id: str) -> list[TestRun]:
        """All runs of that scenario."""
        return await self.list_matching(TestRunQuery(scenario_id=scenario_id))

    async def get_by_status(self, status: RunStatus) -> list[TestRun]:
        """All runs with that status."""
        return await self.list_matching(TestRunQuery(status=status))

    async def update_status(
        self,
        run_id: str,
        status: RunStatus,
        *,
        expected: OneOrMore[RunStatus] | None = None,
    ) -> TestRun:
        """Set the status: `transition`, where of N concurrent calls that expect the same
        status and set another exactly one wins.

        Args:
            run_id: which one.
            status: the new status; any is allowed.
            expected: apply only when the status is this one or one of these.

        Raises:
            NotFoundError: there is none with that id.
            ConflictError: its status is another; nothing was applied.
        """
        return await self.transition(
            run_id,
            RunChanges(status=status),
            None if expected is None else members(expected, RunStatus, "expected"),
        )

    async def start_run(self, run_id: str) -> TestRun:
        """Start the run: RUNNING, ``started_at`` the store's time; a run may start again.

        ``completed_at``, ``duration_ms``, ``exit_code`` and ``error_message``, which an earlier
        end of the run has set, become None.

        Raises:
            NotFoundError: there is none with that id.
        """
        return await self.transition(run_id, RunChanges(status=RunStatus.RUNNING, starts=True))

    async def complete_run(
        self, run_id: str, status: RunStatus, exit_code: int | None = None
    ) -> TestRun:
        """The run ends: ``completed_at`` the store's time, ``duration_ms`` since
        ``started_at`` where there is one.

        Args:
            run_id: which one.
            status: how it ended: one that `RunStatus.is_finished` holds for.
            exit_code: what its process ended with; None leaves the stored one.

        Raises:
            InvalidValueError: the status does not end a run; nothing was applied.
            NotFoundError: there is none with that id.
        """
        return await self.transition(
            run_id,
            RunChanges(status=status, completes=True, exit_code=exit_code),
        )

    async def record_completion(self, run_id: str, exit_code: int, duration_ms: int) -> TestRun:
        """The run ended by itself: PASSED for exit code 0, else FAILED; ``completed_at``
        the store's time.

        Args:
            run_id: which one.
            exit_code: what its process ended with.
            duration_ms: how long it took, in milliseconds.

        Raises:
            NotFoundError: there is none with that id.
        """
        return await self.transition(
            run_id,
            RunChanges(
                status=RunStatus.PASSED if exit_code == 0 else RunStatus.FAILED,
                completes=True,
                exit_code=integer(exit_code, "exit_code"),
                duration_ms=integer(duration_ms, "duration_ms", least=0),
            ),
        )

    async def get_recent_runs(self, limit: int = 10) -> list[TestRun]:
        """The runs that started last, newest first; those that never started come last."""
        return await self.list_newest(TestRunQuery(), by="started_at", limit=limit)

    async def get_failed_runs(self, limit: int = 10) -> list[TestRun]:
        """The FAILED runs that completed last, newest first; those without that time last."""
        return await self.list_newest(
            TestRunQuery(status=RunStatus.FAILED), by="completed_at", limit=limit
        )

    async def get_runs_by_date_range(self, start: datetime, end: datetime) -> list[TestRun]:
        """All runs with ``started_at`` from ``start`` to ``end``, both included.

        Of an ``end`` before ``start``, none.
        """
        return await self.list_matching(
            TestRunQuery(started_since=moment(start, "start"), started_until=moment(end, "end"))
        )

    async def calculate_pass_rate(self, scenario_id: str) -> float:
        """PASSED runs over all runs of that scenario, 0.0 to 1.0; 0.0 without any."""
        counted = await self.count_by_status_matching(TestRunQuery(scenario_id=scenario_id))
        return counted.get(RunStatus.PASSED, 0) / max(1, sum(counted.values()))

    async def get_average_duration(self, scenario_id: str) -> float:
        """The mean ``duration_ms`` over the scenario's runs that have one; 0.0 without any."""
        total, runs = await self.total_duration(TestRunQuery(scenario_id=scenario_id))
        return total / max(1, runs)
