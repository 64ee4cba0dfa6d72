"""The suite of the port of test results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, Final

import pytest

from test_coordinator_data_adapter.errors import DuplicateError
from test_coordinator_data_adapter.interfaces import TestResultQuery, TestResultsRepository
from test_coordinator_data_adapter.models import AssertionType, ResultStatus, TestResult
from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import MAX_INTEGER
from test_coordinator_data_adapter.testing.builders import a_test_result
from test_coordinator_data_adapter.testing.conformance.hostile import (
    GOOD_NUMBERS,
    REFUSED_MILLISECONDS,
    REFUSED_NUMBERS,
    REFUSED_TEXTS,
)
from test_coordinator_data_adapter.testing.conformance.stored import (
    MICROSECOND,
    NOON,
    StoredSuite,
    always,
    keep,
    never,
)
from test_coordinator_data_adapter.testing.conformance.suite import (
    altered,
    assert_same,
    assert_same_list,
    cancelled_after,
    refused,
    smuggled,
    spoil,
)

__all__ = ["TestResultsSuite"]

_MANY: Final = 2_500
_NAMED_AT_MOST: Final = 100


class TestResultsSuite(StoredSuite[TestResult, TestResultQuery]):
    """Everything `TestResultsRepository` promises.

    Supply the fixture ``repository``: an empty `TestResultsRepository` nobody else uses.
    """

    __test__: ClassVar[bool] = False

    kind: ClassVar[type[Entity]] = TestResult
    texts: ClassVar[tuple[str, ...]] = (
        "expected_value",
        "actual_value",
        "error_details",
        "name",
        "phase",
    )
    references: ClassVar[tuple[str, ...]] = ("run_id", "correlation_id", "unit")
    moments: ClassVar[tuple[str, ...]] = ("verification_time", "created_at")
    json: ClassVar[str | None] = None

    def sample(self) -> TestResult:
        return a_test_result(
            verification_time=NOON,
            error_details="none",
            correlation_id="correlation",
            name="the broker answers",
            phase="during",
            duration_ms=12,
            attempts=2,
            measured_value=0.5,
            unit="s",
        )

    def everything(self) -> TestResultQuery:
        return TestResultQuery()

    def nothing(self) -> Sequence[TestResultQuery]:
        return [
            TestResultQuery(run_id=()),
            TestResultQuery(assertion_type=[]),
            TestResultQuery(status=()),
            TestResultQuery(correlation_id=set[str]()),
            TestResultQuery(name=()),
            TestResultQuery(status=ResultStatus.PASSED, run_id=()),
        ]

    def naming(self, value: str) -> tuple[TestResult, TestResultQuery]:
        result = self.made(run_id=value, correlation_id=value, name=value)
        return result, TestResultQuery(run_id=value, correlation_id=value, name=value)

    def questions(
        self,
    ) -> tuple[list[TestResult], list[tuple[TestResultQuery, Callable[[TestResult], bool]]]]:
        runs = ["one", "two", "One"]
        types = list(AssertionType)
        statuses = list(ResultStatus)
        correlations = ["a", "b", None, "A", "%"]
        names = ["up", "", None]
        results = [
            self.made(
                created_at=NOON + number // 2 * MICROSECOND,
                run_id=runs[number % len(runs)],
                assertion_type=types[number % len(types)],
                status=statuses[number % len(statuses)],
                correlation_id=correlations[number % len(correlations)],
                name=names[number % len(names)],
            )
            for number in range(30)
        ]
        health, latency = AssertionType.SERVICE_HEALTH, AssertionType.LATENCY
        passed, skipped = ResultStatus.PASSED, ResultStatus.SKIPPED
        since, until = NOON + 3 * MICROSECOND, NOON + 8 * MICROSECOND
        return results, [
            (TestResultQuery(), always),
            (TestResultQuery(run_id="one"), lambda result: result.run_id == "one"),
            (TestResultQuery(run_id=["one", "One"]), lambda result: result.run_id != "two"),
            (TestResultQuery(run_id="on_"), never),
            (
                TestResultQuery(assertion_type=health),
                lambda result: result.assertion_type == health,
            ),
            (
                TestResultQuery(assertion_type=(health, latency)),
                lambda result: result.assertion_type in (health, latency),
            ),
            (TestResultQuery(status=passed), lambda result: result.status == passed),
            (
                TestResultQuery(status={passed, skipped}),
                lambda result: result.status in (passed, skipped),
            ),
            (TestResultQuery(correlation_id="a"), lambda result: result.correlation_id == "a"),
            (
                TestResultQuery(correlation_id=("a", "%")),
                lambda result: result.correlation_id in ("a", "%"),
            ),
            (TestResultQuery(name="up"), lambda result: result.name == "up"),
            (TestResultQuery(name=""), lambda result: result.name == ""),
            (TestResultQuery(name=["up", ""]), lambda result: result.name is not None),
            (TestResultQuery(created_since=since), lambda result: result.created_at >= since),
            (TestResultQuery(created_until=until), lambda result: result.created_at <= until),
            (
                TestResultQuery(created_since=since, created_until=until),
                lambda result: since <= result.created_at <= until,
            ),
            (TestResultQuery(created_since=until, created_until=since), never),
            (
                TestResultQuery(run_id="one", status=passed, created_since=since),
                lambda result: (
                    result.run_id == "one"
                    and result.status == passed
                    and result.created_at >= since
                ),
            ),
            (
                TestResultQuery(run_id=("one", "two"), status=(passed, skipped), name="up"),
                lambda result: (
                    result.run_id in ("one", "two")
                    and result.status in (passed, skipped)
                    and result.name == "up"
                ),
            ),
        ]

    # Numbers

    async def test_numbers_come_back_as_they_were(self, repository: TestResultsRepository) -> None:
        milliseconds = (None, 0, 1, MAX_INTEGER, 2**53 + 1)
        attempts = (None, 1, 2, MAX_INTEGER)
        results = [
            self.made(
                created_at=NOON + number * MICROSECOND,
                measured_value=value,
                duration_ms=milliseconds[number % len(milliseconds)],
                attempts=attempts[number % len(attempts)],
            )
            for number, value in enumerate((None, *GOOD_NUMBERS))
        ]

        await keep(repository, *results[:3])
        await repository.bulk_create(results[3:])

        assert_same_list(await repository.list_matching(TestResultQuery()), results)

    async def test_an_integer_is_stored_as_the_float_it_equals(
        self, repository: TestResultsRepository
    ) -> None:
        one, other = self.made(measured_value=7), self.made()

        await repository.create(one)
        await repository.bulk_create([smuggled(other, measured_value=7)])

        for result in (one, other):
            found = await repository.get_by_id(result.result_id)
            assert found is not None
            assert type(found.measured_value) is float
            assert found.measured_value == 7

    async def test_numbers_out_of_range_are_refused_however_they_got_in(
        self, repository: TestResultsRepository
    ) -> None:
        hostile: dict[str, tuple[Any, ...]] = {
            "duration_ms": REFUSED_MILLISECONDS,
            "attempts": (*REFUSED_MILLISECONDS, 0),
            "measured_value": REFUSED_NUMBERS,
        }
        for name, numbers in hostile.items():
            for number in numbers:
                with refused(number, name):
                    await repository.create(smuggled(self.sample(), **{name: number}))
                with refused(number, name):
                    await repository.bulk_create([smuggled(self.sample(), **{name: number})])
        assert await repository.count(TestResultQuery()) == 0

    # Many at once

    async def test_bulk_create_stores_all_and_returns_them_in_the_order_given(
        self, repository: TestResultsRepository
    ) -> None:
        results = self.questions()[0][::-1]

        stored = await repository.bulk_create(results)

        assert_same_list(stored, results)
        by_id = {result.result_id: result for result in results}
        found = await repository.list_matching(TestResultQuery())
        assert len(found) == len(results)
        for result in found:
            assert_same(result, by_id[result.result_id])

    async def test_bulk_create_of_nothing_stores_nothing(
        self, repository: TestResultsRepository
    ) -> None:
        assert await repository.bulk_create([]) == []
        assert await repository.bulk_create(iter(())) == []
        assert await repository.count(TestResultQuery()) == 0

    async def test_bulk_create_takes_what_can_be_iterated_once(
        self, repository: TestResultsRepository
    ) -> None:
        results = self.series(3)

        stored = await repository.bulk_create(result for result in results)

        assert_same_list(stored, results)
        assert_same_list(await repository.list_matching(TestResultQuery()), results)

    async def test_bulk_create_takes_any_number(self, repository: TestResultsRepository) -> None:
        results = self.series(_MANY)

        stored = await repository.bulk_create(results)

        assert [result.result_id for result in stored] == [result.result_id for result in results]
        assert await repository.count(TestResultQuery()) == _MANY
        found = await repository.list_matching(TestResultQuery())
        assert [result.result_id for result in found] == [result.result_id for result in results]
        streamed = [
            result.result_id
            async for result in repository.stream(TestResultQuery(), batch_size=700)
        ]
        assert streamed == [result.result_id for result in results]
        page = await repository.find(TestResultQuery(), limit=1000)
        assert len(page.items) == 1000
        assert page.next_cursor is not None
        assert await repository.prune(results[-1].created_at, batch_size=1000) == _MANY - 1
        assert_same_list(await repository.list_matching(TestResultQuery()), results[-1:])

    async def test_bulk_create_brings_hostile_values_back_as_they_were(
        self, repository: TestResultsRepository
    ) -> None:
        texts = [
            "\\N",
            "\\.",
            "tab\tnew\nline\r\\back",
            "'; DROP TABLE test_results; --",
            "\N{GRINNING FACE}\u2028",
            "\x01\x7f",
            "",
            '",";',
            "x" * 100_000,
        ]
        results = [
            self.made(**dict.fromkeys(self.texts, text), created_at=NOON + number * MICROSECOND)
            for number, text in enumerate(texts)
        ]
        bare = a_test_result(created_at=NOON - MICROSECOND)

        await repository.bulk_create([*results, bare])

        assert_same_list(await repository.list_matching(TestResultQuery()), [bare, *results])

    async def test_bulk_create_with_an_id_that_is_stored_already_stores_nothing_and_names_it(
        self, repository: TestResultsRepository
    ) -> None:
        taken, other = await keep(repository, *self.series(2))
        fresh = self.series(3)

        with pytest.raises(DuplicateError) as caught:
            await repository.bulk_create([fresh[0], other, fresh[1], taken, fresh[2]])

        assert caught.value.entity == "test_result"
        assert caught.value.ids == (other.result_id, taken.result_id)
        assert_same_list(await repository.list_matching(TestResultQuery()), [taken, other])

    async def test_bulk_create_with_an_id_twice_stores_nothing_and_names_it(
        self, repository: TestResultsRepository
    ) -> None:
        first, second, third = self.series(3)

        with pytest.raises(DuplicateError) as caught:
            await repository.bulk_create([first, second, third, altered(second, name="again")])

        assert caught.value.ids == (second.result_id,)
        assert await repository.count(TestResultQuery()) == 0

    async def test_bulk_create_names_the_first_hundred_duplicates_in_the_order_given(
        self, repository: TestResultsRepository
    ) -> None:
        results = self.series(_NAMED_AT_MOST + 50)
        await repository.bulk_create(results)

        with pytest.raises(DuplicateError) as caught:
            await repository.bulk_create([*self.series(2), *results[::-1]])

        named = [result.result_id for result in results[::-1]][:_NAMED_AT_MOST]
        assert caught.value.ids == tuple(named)
        assert await repository.count(TestResultQuery()) == len(results)

    async def test_bulk_create_with_a_bad_result_stores_nothing(
        self, repository: TestResultsRepository
    ) -> None:
        strangers: tuple[Any, ...] = (
            None,
            self.sample().model_dump(),
            smuggled(self.sample(), result_id="a\0b"),
            smuggled(self.sample(), verification_time="yesterday"),
            smuggled(self.sample(), status="nonsense"),
            *(smuggled(self.sample(), actual_value=text) for text in REFUSED_TEXTS),
        )

        for stranger in strangers:
            with refused(stranger):
                await repository.bulk_create([*self.series(2), stranger, *self.series(2)])
        assert await repository.count(TestResultQuery()) == 0

    async def test_what_bulk_create_is_given_and_returns_is_a_copy(
        self, repository: TestResultsRepository
    ) -> None:
        given = self.series(3)
        before = [altered(result) for result in given]

        returned = await repository.bulk_create(given)
        for result in (*given, *returned):
            spoil(result)
        given.clear()
        returned.clear()

        assert_same_list(await repository.list_matching(TestResultQuery()), before)

    async def test_of_bulk_creations_at_once_with_a_common_id_exactly_one_is_stored(
        self, repository: TestResultsRepository
    ) -> None:
        common = self.sample()
        rivals = [[*self.series(3), common, *self.series(2)] for _ in range(4)]

        ends = await asyncio.gather(
            *(repository.bulk_create(rival) for rival in rivals), return_exceptions=True
        )

        winners = [end for end in ends if not isinstance(end, BaseException)]
        assert len(winners) == 1
        for end in ends:
            if isinstance(end, BaseException):
                assert isinstance(end, DuplicateError)
                assert end.ids == (common.result_id,)
        found = await repository.list_matching(TestResultQuery())
        assert {result.result_id for result in found} == {result.result_id for result in winners[0]}

    async def test_a_cancelled_bulk_creation_leaves_all_of_it_or_nothing(
        self, repository: TestResultsRepository
    ) -> None:
        for steps in range(12):
            results = [self.made(run_id=f"run {steps}") for _ in range(5)]

            await cancelled_after(steps, partial(repository.bulk_create, results))

            assert await repository.count(TestResultQuery(run_id=f"run {steps}")) in (0, 5)
            (alone,) = await repository.bulk_create([self.made(run_id="alone")])
            assert_same(await repository.get_by_id(alone.result_id), alone)

    # Named questions

    async def test_results_are_found_by_run(self, repository: TestResultsRepository) -> None:
        results = await self._kept(repository)

        for run in ("one", "two", "One", "unknown"):
            assert_same_list(
                await repository.get_by_run(run),
                [result for result in results if result.run_id == run],
            )

    async def test_results_are_found_by_assertion_type(
        self, repository: TestResultsRepository
    ) -> None:
        results = await self._kept(repository)

        for assertion_type in AssertionType:
            assert_same_list(
                await repository.get_by_assertion_type(assertion_type),
                [result for result in results if result.assertion_type is assertion_type],
            )

    async def test_results_are_found_by_status(self, repository: TestResultsRepository) -> None:
        results = await self._kept(repository)

        for status in ResultStatus:
            assert_same_list(
                await repository.get_by_status(status),
                [result for result in results if result.status is status],
            )

    async def test_the_failed_results_of_a_run_are_its_failed_ones_and_no_errors(
        self, repository: TestResultsRepository
    ) -> None:
        results = await self._kept(repository)

        for run in ("one", "unknown"):
            assert_same_list(
                await repository.get_failed_results(run),
                [
                    result
                    for result in results
                    if result.run_id == run and result.status is ResultStatus.FAILED
                ],
            )

    async def test_results_are_found_by_correlation_id(
        self, repository: TestResultsRepository
    ) -> None:
        results = await self._kept(repository)

        for correlation in ("a", "b", "A", "%", "unknown"):
            assert_same_list(
                await repository.get_by_correlation_id(correlation),
                [result for result in results if result.correlation_id == correlation],
            )

    async def test_a_named_question_refuses_what_is_no_member(
        self, repository: TestResultsRepository
    ) -> None:
        stranger: Any = "nonsense"

        with refused(stranger, "assertion_type"):
            await repository.get_by_assertion_type(stranger)
        with refused(stranger, "status"):
            await repository.get_by_status(stranger)
        with refused(stranger, "status"):
            await repository.count_by_status("one", stranger)
        with refused(stranger, "assertion_type"):
            await repository.get_assertion_statistics(stranger)
        with refused("", "run_id"):
            await repository.calculate_pass_rate("")

    # Counts

    async def test_the_pass_rate_is_the_passed_results_over_all_skipped_ones_included(
        self, repository: TestResultsRepository
    ) -> None:
        statuses = [ResultStatus.PASSED, ResultStatus.PASSED, *ResultStatus]
        await repository.bulk_create(
            [
                *(self.made(run_id="one", status=status) for status in statuses),
                self.made(run_id="two", status=ResultStatus.PASSED),
                self.made(run_id="three", status=ResultStatus.SKIPPED),
            ]
        )

        rates = [
            await repository.calculate_pass_rate(run) for run in ("one", "two", "three", "unknown")
        ]

        assert rates == [3 / 6, 1.0, 0.0, 0.0]
        assert all(type(rate) is float for rate in rates)

    async def test_the_results_of_a_run_are_counted_by_status(
        self, repository: TestResultsRepository
    ) -> None:
        results = await self._kept(repository)

        for run in ("one", "unknown"):
            for status in ResultStatus:
                expected = sum(
                    result.run_id == run and result.status is status for result in results
                )
                assert await repository.count_by_status(run, status) == expected

    async def test_results_are_counted_by_status_and_a_status_without_any_is_left_out(
        self, repository: TestResultsRepository
    ) -> None:
        results, questions = self.questions()
        await repository.bulk_create(results)

        for query, meets in questions:
            expected: dict[ResultStatus, int] = {}
            for result in results:
                if meets(result):
                    expected[result.status] = expected.get(result.status, 0) + 1
            counted = await repository.count_by_status_matching(query)
            assert dict(counted) == expected
            assert all(type(status) is ResultStatus for status in counted)
        assert dict(await repository.count_by_status_matching(TestResultQuery(status=()))) == {}

    async def test_the_statistics_of_an_assertion_type_count_every_result_of_it(
        self, repository: TestResultsRepository
    ) -> None:
        latency, health = AssertionType.LATENCY, AssertionType.SERVICE_HEALTH
        statuses = [
            ResultStatus.PASSED,
            ResultStatus.PASSED,
            ResultStatus.PASSED,
            ResultStatus.FAILED,
            ResultStatus.SKIPPED,
            ResultStatus.SKIPPED,
            ResultStatus.ERROR,
        ]
        await repository.bulk_create(
            [
                *(self.made(assertion_type=latency, status=status) for status in statuses),
                self.made(assertion_type=health, status=ResultStatus.FAILED),
            ]
        )

        assert await repository.get_assertion_statistics(latency) == {
            "total": 7,
            "passed": 3,
            "failed": 1,
            "skipped": 2,
            "error": 1,
            "pass_rate": 3 / 7,
        }
        assert await repository.get_assertion_statistics(AssertionType.THROUGHPUT) == {
            "total": 0,
            "passed": 0,
            "failed": 0,
            "skipped": 0,
            "error": 0,
            "pass_rate": 0.0,
        }

    async def _kept(self, repository: TestResultsRepository) -> list[TestResult]:
        results = self.questions()[0]
        await repository.bulk_create(results[::-1])
        return sorted(results, key=lambda result: (result.created_at, result.result_id))
