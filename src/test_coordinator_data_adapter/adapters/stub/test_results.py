"""Test results in memory."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from test_coordinator_data_adapter.adapters.stub.store import MemoryStore
from test_coordinator_data_adapter.adapters.stub.stored import StubStoredRepository
from test_coordinator_data_adapter.interfaces.arguments import identifier
from test_coordinator_data_adapter.interfaces.queries import TestResultQuery
from test_coordinator_data_adapter.interfaces.test_results import TestResultsRepository
from test_coordinator_data_adapter.models.test_result import ResultStatus, TestResult

__all__ = ["StubTestResultsRepository"]


class StubTestResultsRepository(
    StubStoredRepository[TestResult, TestResultQuery], TestResultsRepository
):
    """Test results in memory."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        """Use ``store``, or one of its own."""
        store = store or MemoryStore()
        super().__init__(store, store.test_results)

    async def create(self, result: TestResult) -> TestResult:
        return self._table.insert([result])[0]

    async def bulk_create(self, results: Iterable[TestResult]) -> list[TestResult]:
        return self._table.insert(results)

    async def get_by_id(self, result_id: str) -> TestResult | None:
        return self._table.get(identifier(result_id, "result_id"))

    async def count_by_status_matching(self, query: TestResultQuery) -> Mapping[ResultStatus, int]:
        return self._count_by(query, ResultStatus)
