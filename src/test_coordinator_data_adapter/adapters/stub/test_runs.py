"""Test runs in memory."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import ClassVar, Final

from test_coordinator_data_adapter.adapters.stub.store import (
    COMPLETED_NEWEST,
    CREATED_NEWEST,
    STARTED_NEWEST,
    MemoryStore,
)
from test_coordinator_data_adapter.adapters.stub.stored import StubStoredRepository, require
from test_coordinator_data_adapter.interfaces.arguments import (
    boolean,
    identifier,
    moment,
    page_limit,
)
from test_coordinator_data_adapter.interfaces.queries import Condition, OneOf, TestRunQuery
from test_coordinator_data_adapter.interfaces.test_runs import (
    RunChanges,
    RunMoment,
    TestRunsRepository,
    run_moment,
)
from test_coordinator_data_adapter.models.test_run import RunStatus, TestRun

__all__ = ["StubTestRunsRepository"]

_NEWEST: Final = {
    "created_at": CREATED_NEWEST,
    "started_at": STARTED_NEWEST,
    "completed_at": COMPLETED_NEWEST,
}


class StubTestRunsRepository(StubStoredRepository[TestRun, TestRunQuery], TestRunsRepository):
    """Test runs in memory."""

    _prunable: ClassVar[tuple[Condition, ...]] = (
        OneOf("status", tuple(status for status in RunStatus if status.is_finished)),
    )

    def __init__(self, store: MemoryStore | None = None) -> None:
        """Use ``store``, or one of its own."""
        store = store or MemoryStore()
        super().__init__(store, store.test_runs)

    async def create(self, run: TestRun) -> TestRun:
        return self._table.insert([run])[0]

    async def get_by_id(self, run_id: str) -> TestRun | None:
        return self._table.get(identifier(run_id, "run_id"))

    async def update(self, run: TestRun, *, if_unchanged_since: datetime | None = None) -> TestRun:
        fresh = TestRun.checked(run)
        since = (
            None if if_unchanged_since is None else moment(if_unchanged_since, "if_unchanged_since")
        )

        def replaced(stored: TestRun) -> dict[str, object]:
            require(since is None or stored.updated_at == since, stored)
            return fresh.__dict__ | {
                "created_at": stored.created_at,
                "updated_at": self._store.later_than(stored.updated_at),
            }

        return self._table.change(fresh.run_id, replaced)

    async def transition(
        self,
        run_id: str,
        changes: RunChanges,
        expected: tuple[RunStatus, ...] | None = None,
    ) -> TestRun:
        def changed(stored: TestRun) -> dict[str, object]:
            require(expected is None or stored.status in expected, stored)
            now = self._store.clock()
            fields: dict[str, object] = {
                "status": changes.status,
                "updated_at": self._store.later_than(stored.updated_at),
                **dict.fromkeys(changes.cleared_fields),
            }
            if changes.starts:
                fields["started_at"] = now
            if changes.completes:
                fields["completed_at"] = now
                if stored.started_at is not None:
                    elapsed = (now - stored.started_at) // timedelta(milliseconds=1)
                    fields["duration_ms"] = max(0, elapsed)
            if changes.exit_code is not None:
                fields["exit_code"] = changes.exit_code
            if changes.duration_ms is not None:
                fields["duration_ms"] = changes.duration_ms
            return fields

        return self._table.change(identifier(run_id, "run_id"), changed)

    async def delete(self, run_id: str, *, with_children: bool = False) -> bool:
        id_ = identifier(run_id, "run_id")
        if boolean(with_children, "with_children"):
            of_run = (OneOf("run_id", (id_,)),)
            self._store.chaos_events.delete_each(of_run)
            self._store.test_results.delete_each(of_run)
        return self._table.delete(id_)

    async def list_newest(self, query: TestRunQuery, *, by: RunMoment, limit: int) -> list[TestRun]:
        return self._table.select(
            self._conditions(query), order=_NEWEST[run_moment(by)], limit=page_limit(limit)
        )

    async def count_by_status_matching(self, query: TestRunQuery) -> Mapping[RunStatus, int]:
        return self._count_by(query, RunStatus)

    async def total_duration(self, query: TestRunQuery) -> tuple[int, int]:
        return self._sum_of(query, "duration_ms")
