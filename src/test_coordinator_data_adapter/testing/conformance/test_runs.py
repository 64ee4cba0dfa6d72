"""The suite of the port of test runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

import pytest

from test_coordinator_data_adapter.errors import ConflictError, NotFoundError
from test_coordinator_data_adapter.interfaces import TestRunQuery, TestRunsRepository
from test_coordinator_data_adapter.interfaces.test_runs import RunChanges
from test_coordinator_data_adapter.models import RunStatus, TestRun
from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import (
    MAX_INTEGER,
    MAX_MOMENT,
    MIN_MOMENT,
    utc_now,
)
from test_coordinator_data_adapter.testing.builders import a_test_run
from test_coordinator_data_adapter.testing.conformance.hostile import (
    GOOD_LABELS,
    MIN_INTEGER,
    REFUSED_ID_ARGUMENTS,
    REFUSED_INTEGERS,
    REFUSED_LABELS,
    REFUSED_LIMITS,
    REFUSED_MILLISECONDS,
    REFUSED_MOMENT_ARGUMENTS,
)
from test_coordinator_data_adapter.testing.conformance.stored import (
    DAY,
    MICROSECOND,
    NOON,
    VersionedSuite,
    always,
    keep,
    never,
)
from test_coordinator_data_adapter.testing.conformance.suite import (
    altered,
    assert_same,
    assert_same_list,
    in_turns,
    refused,
    smuggled,
)

__all__ = ["TestRunsSuite"]

_MILLISECOND: Final = timedelta(milliseconds=1)
_NO_EXACT_INTEGERS: Final[tuple[Any, ...]] = (True, 1.0, "1")


class TestRunsSuite(VersionedSuite[TestRun, TestRunQuery, RunStatus]):
    """Everything `TestRunsRepository` promises.

    Supply the fixture ``repository``: an empty `TestRunsRepository` nobody else uses.
    """

    __test__: ClassVar[bool] = False

    kind: ClassVar[type[Entity]] = TestRun
    texts: ClassVar[tuple[str, ...]] = ("test_environment", "error_message")
    references: ClassVar[tuple[str, ...]] = ("scenario_id",)
    moments: ClassVar[tuple[str, ...]] = ("started_at", "completed_at", "created_at", "updated_at")
    json: ClassVar[str | None] = "configuration_snapshot"

    def sample(self) -> TestRun:
        return a_test_run(
            status=RunStatus.PASSED, error_message="none", labels={"version": "1.8.0"}
        )

    def everything(self) -> TestRunQuery:
        return TestRunQuery()

    def nothing(self) -> Sequence[TestRunQuery]:
        return [
            TestRunQuery(scenario_id=()),
            TestRunQuery(status=[]),
            TestRunQuery(test_environment=set[str]()),
            TestRunQuery(status=RunStatus.PASSED, scenario_id=()),
        ]

    def statuses(self) -> Sequence[RunStatus]:
        return list(RunStatus)

    def with_status(self, *status: RunStatus) -> TestRunQuery:
        return TestRunQuery(status=status)

    def naming(self, value: str) -> tuple[TestRun, TestRunQuery]:
        return self.made(scenario_id=value), TestRunQuery(scenario_id=value)

    def other(self, entity: TestRun) -> TestRun:
        return TestRun(
            run_id=entity.run_id,
            scenario_id="another",
            status=RunStatus.TIMEOUT,
            started_at=NOON - DAY,
            completed_at=NOON + DAY,
            duration_ms=0,
            configuration_snapshot={"other": [None]},
            test_environment=None,
            exit_code=-1,
            error_message="it took too long",
            created_at=NOON,
            updated_at=NOON,
            labels={"version": "1.9.0", "branch": "main"},
        )

    def questions(
        self,
    ) -> tuple[list[TestRun], list[tuple[TestRunQuery, Callable[[TestRun], bool]]]]:
        scenarios = ["one", "two", "One"]
        statuses = list(RunStatus)
        environments = ["simulation", "", None, "Simulation"]
        labels = [{}, {"version": "1"}, {"version": "2"}, {"version": "1", "branch": "main"}]
        runs = [
            self.made(
                created_at=NOON + number // 2 * MICROSECOND,
                scenario_id=scenarios[number % len(scenarios)],
                status=statuses[number % len(statuses)],
                test_environment=environments[number % len(environments)],
                labels=labels[number // 2 % len(labels)],
                started_at=None if number % 5 == 4 else NOON + (7 * number % 20) * MICROSECOND,
            )
            for number in range(24)
        ]
        passed, failed = RunStatus.PASSED, RunStatus.FAILED
        since, until = NOON + 3 * MICROSECOND, NOON + 8 * MICROSECOND

        def started(run: TestRun, least: datetime, most: datetime) -> bool:
            return run.started_at is not None and least <= run.started_at <= most

        return runs, [
            (TestRunQuery(), always),
            (TestRunQuery(scenario_id="one"), lambda run: run.scenario_id == "one"),
            (
                TestRunQuery(scenario_id=["one", "two"]),
                lambda run: run.scenario_id in ("one", "two"),
            ),
            (TestRunQuery(scenario_id="on_"), never),
            (TestRunQuery(status=passed), lambda run: run.status == passed),
            (TestRunQuery(status=(passed, failed)), lambda run: run.status in (passed, failed)),
            (
                TestRunQuery(scenario_id={"one", "two"}, status=(passed, failed)),
                lambda run: run.scenario_id in ("one", "two") and run.status in (passed, failed),
            ),
            (TestRunQuery(test_environment=""), lambda run: run.test_environment == ""),
            (
                TestRunQuery(test_environment=["simulation", "", "no such"]),
                lambda run: run.test_environment in ("simulation", ""),
            ),
            (TestRunQuery(labels={}), always),
            (
                TestRunQuery(labels={"version": "1"}),
                lambda run: run.labels.get("version") == "1",
            ),
            (
                TestRunQuery(labels={"branch": "main", "version": "1"}),
                lambda run: run.labels == {"version": "1", "branch": "main"},
            ),
            (
                TestRunQuery(labels={"version": "1"}, scenario_id="one", status=passed),
                lambda run: (
                    run.labels.get("version") == "1"
                    and run.scenario_id == "one"
                    and run.status == passed
                ),
            ),
            (TestRunQuery(labels={"version": "1", "branch": "other"}), never),
            (TestRunQuery(labels={"version": "_"}), never),
            (TestRunQuery(labels={"1": "version"}), never),
            (TestRunQuery(started_since=since), lambda run: started(run, since, MAX_MOMENT)),
            (TestRunQuery(started_until=until), lambda run: started(run, MIN_MOMENT, until)),
            (
                TestRunQuery(started_since=since, started_until=until),
                lambda run: started(run, since, until),
            ),
            (TestRunQuery(started_since=MIN_MOMENT), lambda run: run.started_at is not None),
            (TestRunQuery(started_since=until, started_until=since), never),
            (TestRunQuery(created_since=since), lambda run: run.created_at >= since),
            (TestRunQuery(created_until=until), lambda run: run.created_at <= until),
            (
                TestRunQuery(created_since=since, created_until=until, status=passed),
                lambda run: since <= run.created_at <= until and run.status == passed,
            ),
            (
                TestRunQuery(scenario_id="one", started_since=since, created_until=until),
                lambda run: (
                    run.scenario_id == "one"
                    and started(run, since, MAX_MOMENT)
                    and run.created_at <= until
                ),
            ),
        ]

    # Numbers

    async def test_numbers_come_back_as_they_were(self, repository: TestRunsRepository) -> None:
        runs = [
            self.made(exit_code=exit_code, duration_ms=duration)
            for exit_code, duration in (
                (None, None),
                (0, 0),
                (MAX_INTEGER, MAX_INTEGER),
                (MIN_INTEGER, 1),
                (-1, 2**53 + 1),
            )
        ]

        await in_turns(repository.create(run) for run in runs)

        for run in runs:
            assert_same(await repository.get_by_id(run.run_id), run)

    async def test_numbers_out_of_range_are_refused_however_they_got_in(
        self, repository: TestRunsRepository
    ) -> None:
        for exit_code in REFUSED_INTEGERS:
            with refused(exit_code, "exit_code"):
                await repository.create(smuggled(self.sample(), exit_code=exit_code))
        for duration in REFUSED_MILLISECONDS:
            with refused(duration, "duration_ms"):
                await repository.create(smuggled(self.sample(), duration_ms=duration))
        assert await repository.count(TestRunQuery()) == 0

    # Labels

    async def test_labels_come_back_equal_and_are_found(
        self, repository: TestRunsRepository
    ) -> None:
        runs = [
            self.made(labels=labels, created_at=NOON + number * MICROSECOND)
            for number, labels in enumerate(GOOD_LABELS)
        ]
        await keep(repository, *runs)

        for run in runs:
            assert_same(await repository.get_by_id(run.run_id), run)
            if run.labels:
                found = await repository.list_matching(TestRunQuery(labels=run.labels))
                assert_same_list(found, [run])

    async def test_what_are_no_labels_is_refused_however_they_got_in(
        self, repository: TestRunsRepository
    ) -> None:
        run = await repository.create(self.made(labels={}))

        for labels in REFUSED_LABELS:
            with refused(labels, "labels"):
                await repository.create(smuggled(self.sample(), labels=labels))
            with refused(labels, "labels"):
                await repository.update(smuggled(altered(run), labels=labels))
        changed = self.sample()
        changed.labels["Not A Key"] = "1"
        with refused(changed.labels, "labels"):
            await repository.create(changed)

        assert_same_list(await repository.list_matching(TestRunQuery()), [run])

    async def test_a_run_is_found_by_the_labels_it_has_now(
        self, repository: TestRunsRepository
    ) -> None:
        run = await repository.create(self.made(labels={"version": "1", "branch": "main"}))

        stored = await repository.update(altered(run, labels={"version": "2"}))

        assert await repository.count(TestRunQuery(labels={"version": "1"})) == 0
        assert await repository.count(TestRunQuery(labels={"branch": "main"})) == 0
        found = await repository.list_matching(TestRunQuery(labels={"version": "2"}))
        assert_same_list(found, [stored])

    # Transitions

    async def test_a_run_that_starts_is_running_since_the_time_of_the_store(
        self, repository: TestRunsRepository
    ) -> None:
        fresh = self.made(status=RunStatus.PENDING, created_at=NOON, updated_at=MIN_MOMENT)
        run = await repository.create(altered(fresh, error_message=None))

        stored = await repository.start_run(run.run_id)

        assert stored.status is RunStatus.RUNNING
        assert stored.started_at is not None
        assert stored.started_at <= stored.updated_at < stored.started_at + timedelta(minutes=1)
        assert abs(stored.started_at - utc_now()) < DAY
        assert_same(stored, run, but=("status", "started_at", "updated_at"))
        assert_same(await repository.get_by_id(run.run_id), stored)

    async def test_a_run_that_starts_again_starts_later(
        self, repository: TestRunsRepository
    ) -> None:
        run = await repository.create(self.made(status=RunStatus.PASSED, started_at=NOON))

        stored = await repository.start_run(run.run_id)

        assert stored.started_at is not None
        assert stored.started_at > NOON

    async def test_a_run_that_starts_again_keeps_nothing_that_its_earlier_end_has_set(
        self, repository: TestRunsRepository
    ) -> None:
        run = await repository.create(
            self.made(status=RunStatus.RUNNING, started_at=NOON, error_message="timed out")
        )
        await repository.complete_run(run.run_id, RunStatus.ERROR, exit_code=3)

        stored = await repository.start_run(run.run_id)

        assert (stored.status, stored.completed_at) == (RunStatus.RUNNING, None)
        assert (stored.duration_ms, stored.exit_code, stored.error_message) == (None, None, None)
        assert_same(await repository.get_by_id(run.run_id), stored)

    async def test_a_run_completes_only_with_a_status_that_ends_a_run(
        self, repository: TestRunsRepository
    ) -> None:
        run = await repository.create(self.made(status=RunStatus.RUNNING, started_at=NOON))

        for status in RunStatus:
            if status.is_finished:
                assert (await repository.complete_run(run.run_id, status)).status is status
                run = await repository.start_run(run.run_id)
            else:
                with refused(status, "status"):
                    await repository.complete_run(run.run_id, status)
                assert_same(await repository.get_by_id(run.run_id), run)

    async def test_a_run_that_completes_took_the_whole_milliseconds_since_its_start(
        self, repository: TestRunsRepository
    ) -> None:
        started = utc_now() - timedelta(hours=1, microseconds=999)
        run = await repository.create(
            self.made(status=RunStatus.RUNNING, started_at=started, duration_ms=7)
        )

        stored = await repository.complete_run(run.run_id, RunStatus.FAILED, exit_code=3)

        assert (stored.status, stored.exit_code) == (RunStatus.FAILED, 3)
        assert stored.completed_at is not None
        assert stored.duration_ms == (stored.completed_at - started) // _MILLISECOND
        assert_same(
            stored, run, but=("status", "exit_code", "completed_at", "duration_ms", "updated_at")
        )
        assert_same(await repository.get_by_id(run.run_id), stored)

    async def test_a_run_that_starts_and_completes_ends_after_it_began(
        self, repository: TestRunsRepository
    ) -> None:
        run = await repository.create(self.made(status=RunStatus.PENDING))

        started = await repository.start_run(run.run_id)
        stored = await repository.complete_run(run.run_id, RunStatus.PASSED)

        assert started.started_at is not None
        assert stored.started_at == started.started_at
        assert stored.completed_at is not None
        assert stored.completed_at >= started.started_at
        assert stored.duration_ms == (stored.completed_at - started.started_at) // _MILLISECOND
        assert stored.updated_at > started.updated_at

    async def test_a_run_whose_start_lies_ahead_took_no_time(
        self, repository: TestRunsRepository
    ) -> None:
        run = await repository.create(
            self.made(status=RunStatus.RUNNING, started_at=utc_now() + 400 * DAY)
        )

        stored = await repository.complete_run(run.run_id, RunStatus.PASSED)

        assert stored.duration_ms == 0

    async def test_a_run_that_completes_without_a_start_keeps_its_duration(
        self, repository: TestRunsRepository
    ) -> None:
        bare = await repository.create(self.made(duration_ms=None))
        given = await repository.create(self.made(duration_ms=7))

        for run in (bare, given):
            stored = await repository.complete_run(run.run_id, RunStatus.ERROR)
            assert stored.duration_ms == run.duration_ms
            assert stored.started_at is None
            assert stored.completed_at is not None

    async def test_completing_without_an_exit_code_leaves_the_stored_one(
        self, repository: TestRunsRepository
    ) -> None:
        run = await repository.create(self.made(exit_code=9))

        left = await repository.complete_run(run.run_id, RunStatus.ERROR)
        zeroed = await repository.complete_run(run.run_id, RunStatus.PASSED, 0)

        assert (left.exit_code, zeroed.exit_code) == (9, 0)

    async def test_a_recorded_completion_passed_for_exit_code_0_and_failed_for_every_other(
        self, repository: TestRunsRepository
    ) -> None:
        started = utc_now() - DAY
        for exit_code, status in (
            (0, RunStatus.PASSED),
            (1, RunStatus.FAILED),
            (-9, RunStatus.FAILED),
            (MAX_INTEGER, RunStatus.FAILED),
        ):
            run = await repository.create(self.made(started_at=started, exit_code=5))

            stored = await repository.record_completion(run.run_id, exit_code, 1234)

            assert (stored.status, stored.exit_code) == (status, exit_code)
            assert stored.duration_ms == 1234
            assert stored.completed_at is not None
            assert stored.completed_at > started
            assert_same(await repository.get_by_id(run.run_id), stored)

    async def test_a_given_duration_of_0_is_kept(self, repository: TestRunsRepository) -> None:
        run = await repository.create(self.made(started_at=NOON, duration_ms=5))

        stored = await repository.record_completion(run.run_id, 0, 0)

        assert stored.duration_ms == 0

    async def test_a_transition_sets_what_it_names_and_leaves_the_rest(
        self, repository: TestRunsRepository
    ) -> None:
        run = await repository.create(
            self.made(status=RunStatus.RUNNING, started_at=NOON, exit_code=1, duration_ms=2)
        )

        bare = await repository.transition(run.run_id, RunChanges(status=RunStatus.ERROR))
        numbers = await repository.transition(
            run.run_id, RunChanges(status=RunStatus.FAILED, exit_code=-7, duration_ms=8)
        )
        started = await repository.transition(
            run.run_id, RunChanges(status=RunStatus.PENDING, starts=True, duration_ms=9)
        )

        assert_same(bare, run, but=("status", "updated_at"))
        assert_same(numbers, run, but=("status", "exit_code", "duration_ms", "updated_at"))
        assert (numbers.exit_code, numbers.duration_ms) == (-7, 8)
        assert (started.status, started.exit_code) == (RunStatus.PENDING, None)
        assert started.duration_ms == 9
        assert started.started_at is not None
        assert started.started_at > NOON

    async def test_a_transition_that_is_not_expected_changes_nothing_at_all(
        self, repository: TestRunsRepository
    ) -> None:
        run = await repository.create(self.made(status=RunStatus.PASSED, started_at=NOON))

        with pytest.raises(ConflictError) as caught:
            await repository.transition(
                run.run_id,
                RunChanges(status=RunStatus.FAILED, completes=True, exit_code=1),
                (RunStatus.PENDING, RunStatus.RUNNING),
            )

        assert (caught.value.entity, caught.value.id) == ("test_run", run.run_id)
        assert_same(await repository.get_by_id(run.run_id), run)

    async def test_a_transition_refuses_numbers_out_of_range_and_changes_nothing(
        self, repository: TestRunsRepository
    ) -> None:
        run = await repository.create(self.made(status=RunStatus.RUNNING))
        passed = RunStatus.PASSED

        for exit_code in (*REFUSED_INTEGERS, *_NO_EXACT_INTEGERS):
            with refused(exit_code, "exit_code"):
                await repository.complete_run(run.run_id, passed, exit_code)
            with refused(exit_code, "exit_code"):
                await repository.record_completion(run.run_id, exit_code, 1)
        for duration in (*REFUSED_MILLISECONDS, *_NO_EXACT_INTEGERS):
            with refused(duration, "duration_ms"):
                await repository.record_completion(run.run_id, 0, duration)
        with refused("nonsense", "status"):
            nonsense: Any = "nonsense"
            await repository.complete_run(run.run_id, nonsense)

        assert_same(await repository.get_by_id(run.run_id), run)

    async def test_no_transition_of_an_unknown_run_is_found(
        self, repository: TestRunsRepository
    ) -> None:
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: repository.start_run("unknown"),
            lambda: repository.complete_run("unknown", RunStatus.PASSED),
            lambda: repository.record_completion("unknown", 0, 1),
            lambda: repository.transition("unknown", RunChanges(status=RunStatus.PASSED)),
        )

        for call in calls:
            with pytest.raises(NotFoundError) as caught:
                await call()
            assert (caught.value.entity, caught.value.id) == ("test_run", "unknown")
        assert await repository.count(TestRunQuery()) == 0

    async def test_no_transition_takes_what_is_no_id(self, repository: TestRunsRepository) -> None:
        for id_ in REFUSED_ID_ARGUMENTS:
            with refused(id_, "run_id"):
                await repository.start_run(id_)
            with refused(id_, "run_id"):
                await repository.complete_run(id_, RunStatus.PASSED)
            with refused(id_, "run_id"):
                await repository.record_completion(id_, 0, 0)

    async def test_transitions_and_updates_at_once_lose_nothing(
        self, repository: TestRunsRepository
    ) -> None:
        run = await repository.create(self.made(status=RunStatus.PENDING))

        await asyncio.gather(
            repository.transition(run.run_id, RunChanges(status=RunStatus.ERROR, exit_code=4)),
            *(repository.update_status(run.run_id, RunStatus.ERROR) for _ in range(4)),
            repository.complete_run(run.run_id, RunStatus.PASSED),
        )

        stored = await repository.get_by_id(run.run_id)
        assert stored is not None
        assert stored.completed_at is not None
        assert stored.exit_code == 4

    # Deletion with children

    async def test_a_run_is_deleted_with_its_children_once(
        self, repository: TestRunsRepository
    ) -> None:
        run, other = await keep(repository, self.made(created_at=NOON), self.made(created_at=NOON))

        ends = await asyncio.gather(
            *(repository.delete(run.run_id, with_children=True) for _ in range(4))
        )

        assert sorted(ends) == [False, False, False, True]
        assert_same_list(await repository.list_matching(TestRunQuery()), [other])

    async def test_deleting_a_run_with_its_children_refuses_what_deleting_refuses(
        self, repository: TestRunsRepository
    ) -> None:
        run = await repository.create(self.sample())

        for id_ in REFUSED_ID_ARGUMENTS:
            with refused(id_, "run_id"):
                await repository.delete(id_, with_children=True)
        strangers: tuple[Any, ...] = (None, 1, "yes")
        for stranger in strangers:
            with refused(stranger, "with_children"):
                await repository.delete(run.run_id, with_children=stranger)
        assert_same(await repository.get_by_id(run.run_id), run)

    # Newest first

    async def test_recent_runs_come_newest_start_first_and_those_without_last(
        self, repository: TestRunsRepository
    ) -> None:
        runs, _ = self.questions()
        await keep(repository, *runs)

        expected = _newest(runs, lambda run: run.started_at)
        for limit in (1, 2, 7, 19, 20, 24, 1000):
            assert_same_list(await repository.get_recent_runs(limit), expected[:limit])
        assert_same_list(await repository.get_recent_runs(), expected[:10])

    async def test_ties_among_the_newest_are_ordered_by_creation_and_id(
        self, repository: TestRunsRepository
    ) -> None:
        tied = [
            self.made(id_, started_at=started, created_at=created)
            for started in (NOON, None)
            for created, id_ in (
                (NOON, f"b{started is None}"),
                (NOON, f"B{started is None}"),
                (NOON, f"\N{GRINNING FACE}{started is None}"),
                (NOON, f"\uffff{started is None}"),
                (NOON - MICROSECOND, f"z{started is None}"),
            )
        ]
        await keep(repository, *tied)

        for _ in range(2):
            found = await repository.get_recent_runs(1000)
            assert [run.run_id[0] for run in found] == [*"zBb\uffff\N{GRINNING FACE}"] * 2

    async def test_failed_runs_come_newest_end_first_and_those_without_last(
        self, repository: TestRunsRepository
    ) -> None:
        runs = [
            self.made(
                status=RunStatus.ERROR if number % 4 == 3 else RunStatus.FAILED,
                completed_at=None if number % 5 == 4 else NOON + (7 * number % 16) * MICROSECOND,
                started_at=NOON - number * DAY,
                created_at=NOON + number // 3 * MICROSECOND,
            )
            for number in range(18)
        ]
        await keep(repository, *runs)

        failed = [run for run in runs if run.status is RunStatus.FAILED]
        expected = _newest(failed, lambda run: run.completed_at)
        for limit in (1, 3, 1000):
            assert_same_list(await repository.get_failed_runs(limit), expected[:limit])
        assert_same_list(await repository.get_failed_runs(), expected[:10])

    async def test_the_newest_of_a_query_are_among_what_matches_it(
        self, repository: TestRunsRepository
    ) -> None:
        runs, questions = self.questions()
        await keep(repository, *runs)

        for query, meets in questions:
            matching = [run for run in runs if meets(run)]
            assert_same_list(
                await repository.list_newest(query, by="started_at", limit=5),
                _newest(matching, lambda run: run.started_at)[:5],
            )
            assert_same_list(
                await repository.list_newest(query, by="completed_at", limit=1000),
                _newest(matching, lambda run: run.completed_at),
            )
            assert_same_list(
                await repository.list_newest(query, by="created_at", limit=7),
                _newest(matching, lambda run: run.created_at)[:7],
            )

    async def test_what_is_no_time_to_order_by_is_refused(
        self, repository: TestRunsRepository
    ) -> None:
        wrong: list[Any] = ["updated_at", "", "STARTED_AT", "started_at, (SELECT 1)", None, []]

        for by in wrong:
            with refused(by, "by"):
                await repository.list_newest(TestRunQuery(), by=by, limit=1)

    async def test_the_newest_follow_the_times_that_runs_have_now(
        self, repository: TestRunsRepository
    ) -> None:
        old, older = await keep(
            repository,
            self.made(started_at=NOON, created_at=NOON),
            self.made(started_at=NOON - DAY, created_at=NOON + DAY),
        )

        await repository.start_run(older.run_id)

        found = await repository.get_recent_runs()
        assert [run.run_id for run in found] == [older.run_id, old.run_id]

    async def test_the_newest_refuse_a_limit_outside_1_to_1000(
        self, repository: TestRunsRepository
    ) -> None:
        for limit in REFUSED_LIMITS:
            with refused(limit, "limit"):
                await repository.get_recent_runs(limit)
            with refused(limit, "limit"):
                await repository.get_failed_runs(limit)

    # Named questions

    async def test_runs_are_found_by_scenario(self, repository: TestRunsRepository) -> None:
        runs = await keep(repository, *self.questions()[0])

        for scenario in ("one", "two", "One", "unknown"):
            assert_same_list(
                await repository.get_by_scenario(scenario),
                [run for run in runs if run.scenario_id == scenario],
            )

    async def test_runs_are_found_by_status(self, repository: TestRunsRepository) -> None:
        runs = await keep(repository, *self.questions()[0])

        for status in RunStatus:
            assert_same_list(
                await repository.get_by_status(status),
                [run for run in runs if run.status is status],
            )

    async def test_a_date_range_takes_the_starts_at_both_its_ends(
        self, repository: TestRunsRepository
    ) -> None:
        before, first, last, after, _ = await keep(
            repository,
            self.made(started_at=NOON - MICROSECOND, created_at=NOON),
            self.made(started_at=NOON, created_at=NOON + MICROSECOND),
            self.made(started_at=NOON + DAY, created_at=NOON + 2 * MICROSECOND),
            self.made(started_at=NOON + DAY + MICROSECOND, created_at=NOON + 3 * MICROSECOND),
            self.made(started_at=None, created_at=NOON + 4 * MICROSECOND),
        )

        between = await repository.get_runs_by_date_range(NOON, NOON + DAY)
        point = await repository.get_runs_by_date_range(NOON, NOON)
        reversed_ = await repository.get_runs_by_date_range(NOON + DAY, NOON)
        ever = await repository.get_runs_by_date_range(MIN_MOMENT, MAX_MOMENT)

        assert_same_list(between, [first, last])
        assert_same_list(point, [first])
        assert reversed_ == []
        assert_same_list(ever, [before, first, last, after])

    async def test_a_date_range_refuses_what_is_no_moment(
        self, repository: TestRunsRepository
    ) -> None:
        for moment in REFUSED_MOMENT_ARGUMENTS:
            with refused(moment, "start"):
                await repository.get_runs_by_date_range(moment, NOON)
            with refused(moment, "end"):
                await repository.get_runs_by_date_range(NOON, moment)

    async def test_the_pass_rate_is_the_passed_runs_over_all_runs_of_the_scenario(
        self, repository: TestRunsRepository
    ) -> None:
        statuses = [RunStatus.PASSED, *RunStatus]
        await keep(
            repository,
            *(self.made(scenario_id="one", status=status) for status in statuses),
            self.made(scenario_id="two", status=RunStatus.PASSED),
            self.made(scenario_id="three", status=RunStatus.PENDING),
        )

        rates = [
            await repository.calculate_pass_rate(scenario)
            for scenario in ("one", "two", "three", "unknown")
        ]

        assert rates == [2 / 8, 1.0, 0.0, 0.0]
        assert all(type(rate) is float for rate in rates)

    async def test_runs_are_counted_by_status_and_a_status_without_any_is_left_out(
        self, repository: TestRunsRepository
    ) -> None:
        runs, questions = self.questions()
        await keep(repository, *runs)

        for query, meets in questions:
            expected: dict[RunStatus, int] = {}
            for run in runs:
                if meets(run):
                    expected[run.status] = expected.get(run.status, 0) + 1
            counted = await repository.count_by_status_matching(query)
            assert dict(counted) == expected
            assert all(type(status) is RunStatus for status in counted)
        assert dict(await repository.count_by_status_matching(TestRunQuery(status=()))) == {}

    async def test_the_average_duration_is_that_of_the_runs_that_have_one(
        self, repository: TestRunsRepository
    ) -> None:
        await keep(
            repository,
            *(self.made(scenario_id="one", duration_ms=ms) for ms in (0, 1, None, 4)),
            self.made(scenario_id="two", duration_ms=None),
            self.made(scenario_id="three", duration_ms=9),
        )

        averages = [
            await repository.get_average_duration(scenario)
            for scenario in ("one", "two", "three", "unknown")
        ]

        assert averages == [5 / 3, 0.0, 9.0, 0.0]
        assert all(type(average) is float for average in averages)

    async def test_the_total_duration_is_exact_however_large(
        self, repository: TestRunsRepository
    ) -> None:
        await keep(
            repository,
            *(self.made(duration_ms=ms) for ms in (MAX_INTEGER, MAX_INTEGER, 2**53 + 1, None, 0)),
        )

        total = await repository.total_duration(TestRunQuery())
        none = await repository.total_duration(TestRunQuery(scenario_id="unknown"))

        assert total == (2 * MAX_INTEGER + 2**53 + 1, 4)
        assert none == (0, 0)
        assert all(type(number) is int for number in (*total, *none))

    # Pruning

    async def test_prune_leaves_pending_and_running_runs_whatever_their_age(
        self, repository: TestRunsRepository
    ) -> None:
        runs = [
            self.made(status=status, created_at=NOON + number * MICROSECOND)
            for number, status in enumerate(RunStatus)
        ]
        for batch_size in (None, 1, 2):
            await in_turns(
                repository.create(run)
                for run in runs
                if batch_size is None or run.status.is_finished
            )

            assert await repository.prune(MAX_MOMENT, batch_size=batch_size) == len(runs) - 2

            left = await repository.list_matching(TestRunQuery())
            assert_same_list(left, [run for run in runs if not run.status.is_finished])

    async def test_prune_goes_by_the_status_that_a_run_has_now(
        self, repository: TestRunsRepository
    ) -> None:
        ended = await repository.create(self.made(status=RunStatus.RUNNING, created_at=NOON))
        again = await repository.create(self.made(status=RunStatus.PASSED, created_at=NOON))
        await repository.update_status(ended.run_id, RunStatus.PASSED)
        await repository.start_run(again.run_id)

        assert await repository.prune(NOON + DAY) == 1

        assert await repository.get_by_id(ended.run_id) is None
        assert await repository.get_by_id(again.run_id) is not None

    async def test_an_update_can_take_away_what_is_optional(
        self, repository: TestRunsRepository
    ) -> None:
        run = await repository.create(self.other(self.sample()))

        bare = altered(
            run,
            started_at=None,
            completed_at=None,
            duration_ms=None,
            exit_code=None,
            error_message=None,
        )
        stored = await repository.update(bare)

        assert_same(stored, bare, but=self.kept)
        assert await repository.total_duration(TestRunQuery()) == (0, 0)


def _newest(runs: list[TestRun], by: Callable[[TestRun], datetime | None]) -> list[TestRun]:
    def place(run: TestRun) -> tuple[bool, timedelta, datetime, str]:
        moment = by(run)
        age = timedelta(0) if moment is None else MAX_MOMENT - moment
        return moment is None, age, run.created_at, run.run_id

    return sorted(runs, key=place)
