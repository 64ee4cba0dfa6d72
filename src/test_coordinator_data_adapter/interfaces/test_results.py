"""The port of test results."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import ClassVar, TypedDict

from test_coordinator_data_adapter.interfaces.queries import TestResultQuery
from test_coordinator_data_adapter.interfaces.stored import StoredRepository
from test_coordinator_data_adapter.models.test_result import (
    AssertionType,
    ResultStatus,
    TestResult,
)

__all__ = ["AssertionStatistics", "TestResultsRepository"]


class AssertionStatistics(TypedDict):
    """How one type of assertion fares.

    ``total`` counts all results, ``pass_rate`` is ``passed`` over ``total``, 0.0 of none.
    """

    total: int
    passed: int
    failed: int
    skipped: int
    error: int
    pass_rate: float


class TestResultsRepository(StoredRepository[TestResult, TestResultQuery]):
    """Where the results of assertions are kept."""

    __test__: ClassVar[bool] = False  # pytest collects what is called Test*
    entity_kind = TestResult
    query_kind = TestResultQuery

    @abstractmethod
    async def create(self, result: TestResult) -> TestResult:
        """Store a new result exactly as given, its times included.

        Raises:
            DuplicateError: there is one with that id already; it stays as it is.
        """

    @abstractmethod
    async def bulk_create(self, results: Iterable[TestResult]) -> list[TestResult]:
        """Store many new results, all or none of them; of no results, nothing.

        Args:
            results: any number.

        Returns:
            What was stored, in the order given.

        Raises:
            DuplicateError: an id is stored already or stands twice among ``results``;
                ``ids`` names them. Nothing was stored.
            InvalidValueError: one of them breaks a rule. Nothing was stored.
        """

    @abstractmethod
    async def get_by_id(self, result_id: str) -> TestResult | None:
        """The result with that id, or None."""

    @abstractmethod
    async def count_by_status_matching(self, query: TestResultQuery) -> Mapping[ResultStatus, int]:
        """How many match, by status; a status without any is left out. One moment's answer."""

    async def get_by_run(self, run_id: str) -> list[TestResult]:
        """All results of that run."""
        return await self.list_matching(TestResultQuery(run_id=run_id))

    async def get_by_assertion_type(self, assertion_type: AssertionType) -> list[TestResult]:
        """All results of that type of assertion."""
        return await self.list_matching(TestResultQuery(assertion_type=assertion_type))

    async def get_by_status(self, status: ResultStatus) -> list[TestResult]:
        """All results with that status."""
        return await self.list_matching(TestResultQuery(status=status))

    async def get_failed_results(self, run_id: str) -> list[TestResult]:
        """The FAILED results of that run; errors are not among them."""
        return await self.list_matching(TestResultQuery(run_id=run_id, status=ResultStatus.FAILED))

    async def get_by_correlation_id(self, correlation_id: str) -> list[TestResult]:
        """All results with that correlation id."""
        return await self.list_matching(TestResultQuery(correlation_id=correlation_id))

    async def calculate_pass_rate(self, run_id: str) -> float:
        """PASSED results over all results of that run, skipped ones included; 0.0 of none."""
        counted = await self.count_by_status_matching(TestResultQuery(run_id=run_id))
        return counted.get(ResultStatus.PASSED, 0) / max(1, sum(counted.values()))

    async def count_by_status(self, run_id: str, status: ResultStatus) -> int:
        """How many results of that run have that status."""
        return await self.count(TestResultQuery(run_id=run_id, status=status))

    async def get_assertion_statistics(self, assertion_type: AssertionType) -> AssertionStatistics:
        """How that type of assertion fares over everything stored; one moment's answer."""
        counted = await self.count_by_status_matching(
            TestResultQuery(assertion_type=assertion_type)
        )
        total = sum(counted.values())
        return AssertionStatistics(
            total=total,
            passed=counted.get(ResultStatus.PASSED, 0),
            failed=counted.get(ResultStatus.FAILED, 0),
            skipped=counted.get(ResultStatus.SKIPPED, 0),
            error=counted.get(ResultStatus.ERROR, 0),
            pass_rate=counted.get(ResultStatus.PASSED, 0) / max(1, total),
        )
