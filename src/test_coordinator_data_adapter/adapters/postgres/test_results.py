"""Test results in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Final

from test_coordinator_data_adapter.adapters.postgres import tables
from test_coordinator_data_adapter.adapters.postgres.database import Database
from test_coordinator_data_adapter.adapters.postgres.stored import PostgresStoredRepository
from test_coordinator_data_adapter.errors import DuplicateError
from test_coordinator_data_adapter.interfaces.queries import TestResultQuery
from test_coordinator_data_adapter.interfaces.test_results import TestResultsRepository
from test_coordinator_data_adapter.models.test_result import ResultStatus, TestResult

__all__ = ["PostgresTestResultsRepository"]

_TABLE: Final = tables.test_results
_KINDS: Final = {name: column.type.python_type for name, column in tables.fields_of(_TABLE).items()}
_AT_ONCE: Final = 250
_IDS_AT_ONCE: Final = 10_000


class PostgresTestResultsRepository(
    PostgresStoredRepository[TestResult, TestResultQuery], TestResultsRepository
):
    """Test results in PostgreSQL."""

    def __init__(self, database: Database, *, batch_size: int = 100) -> None:
        """Keep them in the schema of ``database``; streams travel by ``batch_size``."""
        super().__init__(database, TestResult, _TABLE, batch_size=batch_size)

    async def create(self, result: TestResult) -> TestResult:
        return await self._create_in_company(result)

    async def bulk_create(self, results: Iterable[TestResult]) -> list[TestResult]:
        given = iter(results)
        parts: deque[list[tuple[object, ...]]] = deque()
        ids: list[str] = []
        while some := list(islice(given, _AT_ONCE)):
            parts.append(TestResult.checked_values(some))
            ids += [str(row[0]) for row in parts[-1]]
            await asyncio.sleep(0)
        kind = TestResult.entity_name
        if len(set(ids)) < len(ids):
            raise DuplicateError.of(kind, *await self._repeated(ids))
        stored: list[TestResult] = []

        def travelling() -> Iterator[tuple[object, ...]]:
            while parts:
                some = parts.popleft()
                yield from some
                # What is handed back is made while the server is busy with what was sent.
                stored.extend(self._read.many(some))

        if ids:
            try:
                await self._database.copy(_TABLE.name, _KINDS, travelling(), entity=kind)
            except DuplicateError as found:
                repeated = await self._repeated(ids)
                if not repeated:  # what was there is deleted by now
                    raise
                raise DuplicateError.of(kind, *repeated, constraint=found.constraint) from None
        return stored

    async def get_by_id(self, result_id: str) -> TestResult | None:
        return await self._get(result_id)

    async def count_by_status_matching(self, query: TestResultQuery) -> Mapping[ResultStatus, int]:
        return await self._count_by(query, ResultStatus)

    async def _repeated(self, ids: list[str]) -> list[str]:
        """What is stored already or stands twice, in the order it was met."""
        known: set[str] = set()
        for start in range(0, len(ids), _IDS_AT_ONCE):
            some = ids[start : start + _IDS_AT_ONCE]
            rows = await self._database.fetch(self._statements.known_ids, some)
            known.update(row[0] for row in rows)
        repeated: dict[str, None] = {}
        for id_ in ids:
            if id_ in known:
                repeated[id_] = None
            known.add(id_)
        return list(repeated)
