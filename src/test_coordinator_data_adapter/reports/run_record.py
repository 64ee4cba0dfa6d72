"""Everything that is stored about one run, read through the ports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime

from test_coordinator_data_adapter.errors import NotFoundError
from test_coordinator_data_adapter.interfaces import (
    ChaosEventsRepository,
    ScenariosRepository,
    TestResultsRepository,
    TestRunQuery,
    TestRunsRepository,
)
from test_coordinator_data_adapter.models import (
    ChaosEvent,
    ResultStatus,
    RunStatus,
    Scenario,
    TestResult,
    TestRun,
)

__all__ = ["RunRecord", "RunRecords", "assertion_name", "verdict_problem"]

_WITHOUT_VERDICT = frozenset({RunStatus.PENDING, RunStatus.RUNNING})
_BROKEN = frozenset({RunStatus.ERROR, RunStatus.TIMEOUT, RunStatus.CANCELLED})


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run and all that belongs to it.

    Attributes:
        run: the run.
        scenario: its scenario; None when that one no longer exists.
        events: its chaos events, ordered by (created_at, event_id).
        results: its results, ordered by (created_at, result_id).
    """

    run: TestRun
    scenario: Scenario | None
    events: tuple[ChaosEvent, ...]
    results: tuple[TestResult, ...]

    @property
    def name(self) -> str:
        """The name of the scenario, or its id when the scenario no longer exists."""
        return self.run.scenario_id if self.scenario is None else self.scenario.name

    @property
    def began_at(self) -> datetime:
        """When the run started, or was created when it never started; UTC."""
        return self.run.started_at or self.run.created_at


class RunRecords:
    """Reads run records from the ports of the four stored kinds."""

    def __init__(
        self,
        scenarios: ScenariosRepository,
        test_runs: TestRunsRepository,
        chaos_events: ChaosEventsRepository,
        test_results: TestResultsRepository,
    ) -> None:
        """Read from these repositories; nothing is read yet."""
        self._scenarios = scenarios
        self._test_runs = test_runs
        self._chaos_events = chaos_events
        self._test_results = test_results

    async def get(self, run_id: str) -> RunRecord:
        """The record of one run.

        Raises:
            NotFoundError: there is no such run.
        """
        run = await self._test_runs.get_by_id(run_id)
        if run is None:
            raise NotFoundError.of(TestRun.entity_name, run_id)
        return await self._record(run)

    async def stream(self, query: TestRunQuery) -> AsyncIterator[RunRecord]:
        """The records of all runs that match, ordered by (created_at, run_id).

        At most one record is in memory at a time.
        """
        async for run in self._test_runs.stream(query):
            yield await self._record(run)

    async def _record(self, run: TestRun) -> RunRecord:
        return RunRecord(
            run,
            await self._scenarios.get_by_id(run.scenario_id),
            tuple(await self._chaos_events.get_by_run(run.run_id)),
            tuple(await self._test_results.get_by_run(run.run_id)),
        )


def assertion_name(result: TestResult) -> str:
    """What to call the assertion of a result: its name, or its type when it has none."""
    return result.name or result.assertion_type.value


def verdict_problem(record: RunRecord) -> tuple[ResultStatus, str] | None:
    """What the verdict of a run states that no result of it shows, as (status, text).

    A run that ended in error, by a timeout or by a cancellation may have passed every assertion,
    and a failed one may have none: a reader who looks only at assertions must not take it for a
    pass. A run without a verdict yet is skipped.

    Returns:
        None when the results show the verdict by themselves.
    """
    run = record.run
    reason = f": {run.error_message}" if run.error_message else ""
    if run.status in _WITHOUT_VERDICT:
        return ResultStatus.SKIPPED, f"the run has no verdict yet: it is {run.status.value}"
    if run.status in _BROKEN:
        return ResultStatus.ERROR, f"the run ended as {run.status.value}{reason}"
    bad = (ResultStatus.FAILED, ResultStatus.ERROR)
    if run.status is RunStatus.FAILED and all(one.status not in bad for one in record.results):
        return ResultStatus.FAILED, f"the run failed{reason}"
    return None
