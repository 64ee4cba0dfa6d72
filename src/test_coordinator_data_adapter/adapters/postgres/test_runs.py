"""Test runs in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import ClassVar, Final

from test_coordinator_data_adapter.adapters.postgres import tables
from test_coordinator_data_adapter.adapters.postgres.database import Database
from test_coordinator_data_adapter.adapters.postgres.statements import NOW, Change, Where, status_in
from test_coordinator_data_adapter.adapters.postgres.stored import (
    TOUCHED,
    PostgresStoredRepository,
)
from test_coordinator_data_adapter.errors import AdapterError
from test_coordinator_data_adapter.interfaces.arguments import (
    boolean,
    identifier,
    integer,
    page_limit,
)
from test_coordinator_data_adapter.interfaces.queries import TestRunQuery
from test_coordinator_data_adapter.interfaces.test_runs import (
    RunChanges,
    RunMoment,
    TestRunsRepository,
    run_moment,
)
from test_coordinator_data_adapter.models.test_run import RunStatus, TestRun

__all__ = ["PostgresTestRunsRepository"]

_DURATION: Final = (
    "duration_ms = CASE WHEN started_at IS NULL THEN duration_ms ELSE"
    f" greatest(0, floor(extract(epoch FROM {NOW} - started_at) * 1000))::bigint END"
)


# Every run has a created_at: without NULLS LAST the index of that order serves backwards.
_NEWEST_BY: Final[Mapping[RunMoment, str]] = {
    "created_at": "created_at DESC",
    "started_at": "started_at DESC NULLS LAST",
    "completed_at": "completed_at DESC NULLS LAST",
}


class PostgresTestRunsRepository(
    PostgresStoredRepository[TestRun, TestRunQuery], TestRunsRepository
):
    """Test runs in PostgreSQL."""

    _prunable: ClassVar[str] = status_in(status for status in RunStatus if status.is_finished)

    def __init__(self, database: Database, *, batch_size: int = 100) -> None:
        """Keep them in the schema of ``database``; streams travel by ``batch_size``."""
        super().__init__(database, TestRun, tables.test_runs, batch_size=batch_size)
        self._delete_with_children = self._statements.delete_with(
            tables.chaos_events, tables.test_results, by="run_id"
        )

    async def create(self, run: TestRun) -> TestRun:
        return await self._create(run)

    async def get_by_id(self, run_id: str) -> TestRun | None:
        return await self._get(run_id)

    async def update(self, run: TestRun, *, if_unchanged_since: datetime | None = None) -> TestRun:
        return await self._replace(run, since=if_unchanged_since)

    async def transition(
        self,
        run_id: str,
        changes: RunChanges,
        expected: tuple[RunStatus, ...] | None = None,
    ) -> TestRun:
        change = Change(identifier(run_id, "run_id"))
        change.set("status = {}", changes.status)
        change.set(TOUCHED)
        for field in changes.cleared_fields:
            change.set(f"{field} = NULL")
        if changes.starts:
            change.set(f"started_at = {NOW}")
        if changes.completes:
            change.set(f"completed_at = {NOW}")
        if changes.exit_code is not None:
            change.set("exit_code = {}", integer(changes.exit_code, "exit_code"))
        if changes.duration_ms is not None:
            change.set("duration_ms = {}", integer(changes.duration_ms, "duration_ms", least=0))
        elif changes.completes:
            change.set(_DURATION)
        if expected is not None:
            change.only_if("status = ANY({})", expected)
        return await self._apply(change)

    async def delete(self, run_id: str, *, with_children: bool = False) -> bool:
        if not boolean(with_children, "with_children"):
            return await self._delete(run_id)
        id_ = identifier(run_id, "run_id")
        try:
            row = await self._database.fetch_one(
                self._delete_with_children, id_, self._database.tell()
            )
        except AdapterError as error:
            error.id = id_
            raise
        return row is not None and row["was_there"]

    async def list_newest(self, query: TestRunQuery, *, by: RunMoment, limit: int) -> list[TestRun]:
        where = Where(self._conditions(query))
        where.cut(page_limit(limit))
        return await self._entities(await self._select(where, by=_NEWEST_BY[run_moment(by)]))

    async def count_by_status_matching(self, query: TestRunQuery) -> Mapping[RunStatus, int]:
        return await self._count_by(query, RunStatus)

    async def total_duration(self, query: TestRunQuery) -> tuple[int, int]:
        return await self._sum_of(query, "duration_ms")
