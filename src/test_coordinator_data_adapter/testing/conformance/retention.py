"""The promises of retention, each a test."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from test_coordinator_data_adapter.interfaces.chaos_events import ChaosEventsRepository
from test_coordinator_data_adapter.interfaces.queries import (
    ChaosEventQuery,
    ScenarioQuery,
    TestResultQuery,
    TestRunQuery,
)
from test_coordinator_data_adapter.interfaces.retention import (
    KINDS,
    Kept,
    Kind,
    KindReport,
    RetentionPolicy,
    RetentionRepository,
)
from test_coordinator_data_adapter.interfaces.scenarios import ScenariosRepository
from test_coordinator_data_adapter.interfaces.test_results import TestResultsRepository
from test_coordinator_data_adapter.interfaces.test_runs import TestRunsRepository
from test_coordinator_data_adapter.models.scenario import ScenarioStatus
from test_coordinator_data_adapter.models.test_run import RunStatus, TestRun
from test_coordinator_data_adapter.testing.builders import (
    a_chaos_event,
    a_scenario,
    a_test_result,
    a_test_run,
)
from test_coordinator_data_adapter.testing.conformance.suite import Suite

__all__ = ["RetentionStores", "RetentionSuite"]

LIMIT = datetime(2026, 6, 1, tzinfo=UTC)
OLD = LIMIT - timedelta(microseconds=1)
YOUNG = LIMIT
EVERYTHING = RetentionPolicy(
    scenarios=LIMIT, test_runs=LIMIT, chaos_events=LIMIT, test_results=LIMIT
)
NOTHING = KindReport()


@dataclass(frozen=True)
class RetentionStores:
    """Retention, and the repositories of what it applies to; all empty, all on one store."""

    retention: RetentionRepository
    scenarios: ScenariosRepository
    test_runs: TestRunsRepository
    chaos_events: ChaosEventsRepository
    test_results: TestResultsRepository

    async def a_run(
        self,
        run_id: str,
        created_at: datetime = OLD,
        *,
        scenario_id: str = "s",
        status: RunStatus = RunStatus.PASSED,
        children_at: datetime | None = None,
    ) -> None:
        """Store a run with one event and two results, as old as the run unless said otherwise."""
        born = created_at if children_at is None else children_at
        await self.test_runs.create(
            a_test_run(run_id=run_id, scenario_id=scenario_id, status=status, created_at=created_at)
        )
        await self.chaos_events.create(
            a_chaos_event(event_id=f"{run_id}-e", run_id=run_id, created_at=born)
        )
        await self.test_results.bulk_create(
            a_test_result(result_id=f"{run_id}-{number}", run_id=run_id, created_at=born)
            for number in range(2)
        )

    async def left(self) -> dict[Kind, list[str]]:
        """The ids that are still stored, sorted."""
        return {
            "chaos_events": sorted(
                one.event_id for one in await self.chaos_events.list_matching(ChaosEventQuery())
            ),
            "test_results": sorted(
                one.result_id for one in await self.test_results.list_matching(TestResultQuery())
            ),
            "test_runs": sorted(
                one.run_id for one in await self.test_runs.list_matching(TestRunQuery())
            ),
            "scenarios": sorted(
                one.scenario_id for one in await self.scenarios.list_matching(ScenarioQuery())
            ),
        }


def report(pruned: int = 0, kept: dict[Kept, int] | None = None) -> KindReport:
    """A report in few words."""
    reasons = kept or {}
    return KindReport(pruned + sum(reasons.values()), pruned, reasons)


class RetentionSuite(Suite):
    """Supply the fixture ``stores``: a `RetentionStores` over one empty, isolated store."""

    __test__: ClassVar[bool] = False

    async def test_old_runs_go_with_all_that_hangs_on_them(self, stores: RetentionStores) -> None:
        await stores.a_run("old", OLD)
        await stores.a_run("young", YOUNG)

        told = await stores.retention.sweep(EVERYTHING)

        assert told.dry_run is False
        assert told.kinds == {
            "chaos_events": report(1),
            "test_results": report(2),
            "test_runs": report(1),
            "scenarios": NOTHING,
        }
        assert await stores.left() == {
            "chaos_events": ["young-e"],
            "test_results": ["young-0", "young-1"],
            "test_runs": ["young"],
            "scenarios": [],
        }

    async def test_a_run_that_is_taken_up_in_the_middle_of_a_sweep_is_whole_or_gone(
        self, stores: RetentionStores
    ) -> None:
        for number in range(50):
            await stores.a_run(f"run-{number}", OLD)
        taken_up: list[asyncio.Future[TestRun]] = []

        def take_up(*_: object) -> None:
            if not taken_up:
                for number in range(50):
                    again = stores.test_runs.start_run(f"run-{number}")
                    taken_up.append(asyncio.ensure_future(again))

        await stores.retention.sweep(EVERYTHING, on_progress=take_up)
        answers = await asyncio.gather(*taken_up, return_exceptions=True)

        left = await stores.left()
        assert taken_up
        assert left["test_runs"] == sorted(
            answer.run_id for answer in answers if isinstance(answer, TestRun)
        )
        assert left["chaos_events"] == [f"{run_id}-e" for run_id in left["test_runs"]]
        assert left["test_results"] == [
            f"{run_id}-{number}" for run_id in left["test_runs"] for number in range(2)
        ]

    async def test_young_events_and_results_go_with_their_old_run(
        self, stores: RetentionStores
    ) -> None:
        await stores.a_run("old", OLD, children_at=YOUNG)

        told = await stores.retention.sweep(EVERYTHING)

        assert told.kinds["test_results"] == report(2)
        assert not any((await stores.left()).values())

    async def test_old_events_and_results_go_before_their_young_run(
        self, stores: RetentionStores
    ) -> None:
        await stores.a_run("young", YOUNG, children_at=OLD)

        await stores.retention.sweep(EVERYTHING)

        assert await stores.left() == {
            "chaos_events": [],
            "test_results": [],
            "test_runs": ["young"],
            "scenarios": [],
        }

    async def test_pending_and_running_runs_stay_with_all_that_hangs_on_them(
        self, stores: RetentionStores
    ) -> None:
        await stores.a_run("waits", status=RunStatus.PENDING)
        await stores.a_run("works", status=RunStatus.RUNNING)
        before = await stores.left()

        told = await stores.retention.sweep(EVERYTHING)

        assert told.kinds["test_runs"] == report(0, {"unfinished": 2})
        assert told.kinds["chaos_events"] == report(0, {"run_is_kept": 2})
        assert told.kinds["test_results"] == report(0, {"run_is_kept": 4})
        assert await stores.left() == before

    async def test_reasons_to_stay_are_told_in_one_order_however_they_come(
        self, stores: RetentionStores
    ) -> None:
        await stores.a_run("last", OLD, scenario_id="a")
        await stores.a_run("works", OLD, scenario_id="b", status=RunStatus.RUNNING)

        told = await stores.retention.survey(
            RetentionPolicy(test_runs=LIMIT, chaos_events=LIMIT, keep_last_runs=1)
        )

        assert list(told.kinds["test_runs"].kept) == ["unfinished", "last_runs"]

    async def test_the_last_runs_of_each_scenario_stay_whatever_their_age(
        self, stores: RetentionStores
    ) -> None:
        for number in range(3):
            await stores.a_run(f"a{number}", OLD - timedelta(days=3 - number), scenario_id="a")
        await stores.a_run("b0", OLD - timedelta(days=900), scenario_id="b")
        policy = RetentionPolicy(
            test_runs=LIMIT, chaos_events=LIMIT, test_results=LIMIT, keep_last_runs=2
        )

        told = await stores.retention.sweep(policy)

        assert told.kinds["test_runs"] == report(1, {"last_runs": 3})
        assert told.kinds["chaos_events"] == report(1, {"run_is_kept": 3})
        assert (await stores.left())["test_runs"] == ["a1", "a2", "b0"]
        assert (await stores.left())["chaos_events"] == ["a1-e", "a2-e", "b0-e"]

    async def test_of_runs_created_at_the_same_moment_the_greater_id_is_the_later_one(
        self, stores: RetentionStores
    ) -> None:
        for run_id in ("b", "a", "c"):
            await stores.a_run(run_id, OLD)

        await stores.retention.sweep(RetentionPolicy(test_runs=LIMIT, keep_last_runs=1))

        assert (await stores.left())["test_runs"] == ["c"]

    async def test_only_archived_and_deprecated_scenarios_go_by_their_last_change(
        self, stores: RetentionStores
    ) -> None:
        for status in ScenarioStatus:
            await stores.scenarios.create(
                a_scenario(scenario_id=f"old-{status}", status=status, updated_at=OLD)
            )
            await stores.scenarios.create(
                a_scenario(
                    scenario_id=f"young-{status}", status=status, created_at=OLD, updated_at=YOUNG
                )
            )

        told = await stores.retention.sweep(EVERYTHING)

        assert told.kinds["scenarios"] == report(2, {"in_use": 2})
        gone = {"old-archived", "old-deprecated"}
        assert gone.isdisjoint((await stores.left())["scenarios"])
        assert len((await stores.left())["scenarios"]) == 6

    async def test_what_hangs_on_a_run_that_is_not_there_goes_by_its_own_age(
        self, stores: RetentionStores
    ) -> None:
        for created_at, id_ in ((OLD, "old"), (YOUNG, "young")):
            await stores.chaos_events.create(
                a_chaos_event(event_id=id_, run_id="nowhere", created_at=created_at)
            )

        told = await stores.retention.sweep(EVERYTHING)

        assert told.kinds["chaos_events"] == report(1)
        assert (await stores.left())["chaos_events"] == ["young"]

    async def test_none_keeps_a_kind_for_ever(self, stores: RetentionStores) -> None:
        await stores.a_run("old", OLD - timedelta(days=20_000))
        await stores.scenarios.create(
            a_scenario(status=ScenarioStatus.ARCHIVED, updated_at=OLD - timedelta(days=20_000))
        )
        before = await stores.left()

        told = await stores.retention.sweep(RetentionPolicy())

        assert all(one == NOTHING for one in told.kinds.values())
        assert await stores.left() == before

    async def test_results_may_go_while_their_runs_are_kept_for_ever(
        self, stores: RetentionStores
    ) -> None:
        await stores.a_run("old", OLD)

        await stores.retention.sweep(RetentionPolicy(test_results=LIMIT))

        assert await stores.left() == {
            "chaos_events": ["old-e"],
            "test_results": [],
            "test_runs": ["old"],
            "scenarios": [],
        }

    async def test_a_survey_deletes_nothing_and_says_what_a_sweep_then_does(
        self, stores: RetentionStores
    ) -> None:
        statuses = list(RunStatus)
        for number in range(12):
            await stores.a_run(
                f"run-{number}",
                OLD - timedelta(days=number) if number % 3 else YOUNG,
                scenario_id=f"s{number % 2}",
                status=statuses[number % len(statuses)],
                children_at=OLD if number % 4 else YOUNG,
            )
        await stores.scenarios.create(a_scenario(status=ScenarioStatus.ARCHIVED, updated_at=OLD))
        policy = RetentionPolicy(
            scenarios=LIMIT,
            test_runs=LIMIT,
            chaos_events=LIMIT,
            test_results=LIMIT,
            keep_last_runs=1,
        )
        before = await stores.left()

        surveyed = await stores.retention.survey(policy)
        untouched = await stores.left()
        swept = await stores.retention.sweep(policy)
        after = await stores.left()

        assert surveyed.dry_run is True
        assert untouched == before
        assert surveyed.kinds == swept.kinds
        for kind in KINDS:
            assert len(before[kind]) - len(after[kind]) == swept.kinds[kind].pruned

    async def test_a_second_sweep_finds_nothing_more(self, stores: RetentionStores) -> None:
        await stores.a_run("old")

        await stores.retention.sweep(EVERYTHING)
        again = await stores.retention.sweep(EVERYTHING)

        assert all(one == NOTHING for one in again.kinds.values())

    async def test_two_sweeps_at_once_delete_everything_once(self, stores: RetentionStores) -> None:
        for number in range(6):
            await stores.a_run(f"old-{number}")

        both = await asyncio.gather(
            stores.retention.sweep(EVERYTHING), stores.retention.sweep(EVERYTHING)
        )

        assert sum(one.kinds["test_runs"].pruned for one in both) == 6
        assert sum(one.kinds["test_results"].pruned for one in both) == 12
        assert not any((await stores.left()).values())

    async def test_progress_is_told_after_every_batch(self, stores: RetentionStores) -> None:
        await stores.a_run("old")
        told: list[tuple[Kind, int, int]] = []

        await stores.retention.sweep(
            EVERYTHING, on_progress=lambda kind, gone, of: told.append((kind, gone, of))
        )

        assert sorted(told) == [
            ("chaos_events", 1, 1),
            ("test_results", 2, 2),
            ("test_runs", 1, 1),
        ]
