"""Retention in PostgreSQL."""

# ruff: noqa: S608 - made of our own tables' names; every value travels as a parameter

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

from test_coordinator_data_adapter.adapters.postgres.audit_setting import AUDIT_SETTING
from test_coordinator_data_adapter.adapters.postgres.database import (
    Database,
    Statement,
    Transaction,
)
from test_coordinator_data_adapter.adapters.postgres.roles import quoted
from test_coordinator_data_adapter.adapters.postgres.statements import status_in
from test_coordinator_data_adapter.interfaces.retention import (
    KINDS,
    Kept,
    Kind,
    KindReport,
    OnProgress,
    RetentionPolicy,
    RetentionReport,
    RetentionRepository,
)
from test_coordinator_data_adapter.models.scenario import ScenarioStatus
from test_coordinator_data_adapter.models.test_run import RunStatus

__all__ = ["PostgresRetentionRepository"]

_AT_ONCE: Final = 5000
_RUNS_AT_ONCE: Final = 20
_CHILDREN: Final[tuple[tuple[Kind, str], ...]] = (
    ("chaos_events", "event_id"),
    ("test_results", "result_id"),
)
_RUNS: Final[tuple[Kind, str]] = ("test_runs", "run_id")
_RETIRED: Final = status_in(status for status in ScenarioStatus if status.is_retired)
_UNFINISHED: Final = status_in(status for status in RunStatus if not status.is_finished)


class PostgresRetentionRepository(RetentionRepository):
    """Retention in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        """Work in the schema of ``database``."""
        self._database = database
        self._schema = quoted(database.schema)
        # $1 is when runs are old, $2 how many of each scenario stay.
        self._placed = (
            "WITH placed AS (SELECT run_id, coalesce(created_at < $1, false) AS old,"
            f" {_UNFINISHED} AS unfinished,"
            " row_number() OVER (PARTITION BY scenario_id"
            " ORDER BY created_at DESC, run_id DESC) <= $2 AS recent"
            f" FROM {self._schema}.test_runs)"
        )

    async def survey(self, policy: RetentionPolicy) -> RetentionReport:
        return RetentionReport(dry_run=True, kinds=await self._survey(policy))

    async def sweep(
        self, policy: RetentionPolicy, *, on_progress: OnProgress | None = None
    ) -> RetentionReport:
        found = await self._survey(policy)
        gone: dict[Kind, int] = dict.fromkeys(KINDS, 0)

        def count(kind: Kind, number: int) -> None:
            gone[kind] += number
            if on_progress is not None and number:
                on_progress(kind, gone[kind], max(gone[kind], found[kind].pruned))

        await self._sweep_with_runs(policy, count)
        await self._sweep_by_age(policy, count)
        await self._sweep_scenarios(policy, count)
        return RetentionReport(
            dry_run=False,
            kinds={
                kind: KindReport(
                    gone[kind] + sum(found[kind].kept.values()), gone[kind], found[kind].kept
                )
                for kind in KINDS
            },
        )

    async def _survey(self, policy: RetentionPolicy) -> dict[Kind, KindReport]:
        reports: dict[Kind, KindReport] = {}
        for kind, _ in _CHILDREN:
            before = getattr(policy, kind)
            row = await self._one(
                f"{self._placed}, sorted AS ("
                "SELECT coalesce(child.created_at < $3, false) AS aged,"
                " coalesce(old AND NOT unfinished AND NOT recent, false) AS doomed,"
                " coalesce(unfinished OR recent, false) AS protected"
                f" FROM {self._schema}.{kind} AS child LEFT JOIN placed USING (run_id))"
                " SELECT count(*) FILTER (WHERE doomed OR aged AND NOT protected),"
                " count(*) FILTER (WHERE aged AND protected) FROM sorted",
                policy.test_runs,
                policy.keep_last_runs,
                before,
            )
            reports[kind] = _report(row[0], {"run_is_kept": row[1]})
        row = await self._one(
            f"{self._placed} SELECT count(*) FILTER (WHERE NOT unfinished AND NOT recent),"
            " count(*) FILTER (WHERE unfinished),"
            " count(*) FILTER (WHERE recent AND NOT unfinished) FROM placed WHERE old",
            policy.test_runs,
            policy.keep_last_runs,
        )
        reports["test_runs"] = _report(row[0], {"unfinished": row[1], "last_runs": row[2]})
        row = await self._one(
            f"SELECT count(*) FILTER (WHERE {_RETIRED}), count(*) FILTER (WHERE NOT {_RETIRED})"
            f" FROM {self._schema}.scenarios WHERE updated_at < $1",
            policy.scenarios,
        )
        reports["scenarios"] = _report(row[0], {"in_use": row[1]})
        return reports

    async def _sweep_with_runs(
        self, policy: RetentionPolicy, count: Callable[[Kind, int], None]
    ) -> None:
        """Old runs, each after everything that hangs on it."""
        rows = await self._database.fetch(
            self._reading(
                f"{self._placed} SELECT run_id FROM placed"
                " WHERE old AND NOT unfinished AND NOT recent"
            ),
            policy.test_runs,
            policy.keep_last_runs,
        )
        doomed: list[str] = [row[0] for row in rows]
        for start in range(0, len(doomed), _RUNS_AT_ONCE):
            gone = await self._sweep_runs(doomed[start : start + _RUNS_AT_ONCE])
            for kind, number in gone.items():
                count(kind, number)

    async def _sweep_runs(self, runs: list[str]) -> dict[Kind, int]:
        """These runs, but those that were taken up again, and all that hangs on them: at once."""
        gone: dict[Kind, int] = {}
        async with self._turn() as transaction:
            # Who wants to take one up meanwhile waits, and finds it gone.
            rows = await transaction.fetch(
                self._deleting(
                    f"SELECT run_id FROM {self._schema}.test_runs WHERE run_id = ANY($1)"
                    f" AND NOT {_UNFINISHED} ORDER BY run_id FOR UPDATE"
                ),
                runs,
            )
            held: list[str] = [row[0] for row in rows]
            for kind, id_ in (*_CHILDREN, _RUNS):
                table = f"{self._schema}.{kind}"
                statement = self._pruning(
                    kind, f"SELECT {id_} FROM {table} WHERE run_id = ANY($1) LIMIT {_AT_ONCE}"
                )
                gone[kind] = 0
                while number := await _pruned(transaction, statement, held):
                    gone[kind] += number
        return gone

    async def _sweep_by_age(
        self, policy: RetentionPolicy, count: Callable[[Kind, int], None]
    ) -> None:
        """Old events and results of runs that stay, or that are not there."""
        rows = await self._database.fetch(
            self._reading(f"{self._placed} SELECT run_id FROM placed WHERE unfinished OR recent"),
            policy.test_runs,
            policy.keep_last_runs,
        )
        protected: list[str] = [row[0] for row in rows]
        for kind, id_ in _CHILDREN:
            before: datetime | None = getattr(policy, kind)
            if before is None:
                continue
            table = f"{self._schema}.{kind}"
            statement = self._pruning(
                kind,
                f"SELECT {id_} FROM {table} AS child"
                " WHERE created_at < $1 AND run_id <> ALL($2)"
                # A run may have been taken up since the protected ones were listed.
                f" AND NOT EXISTS (SELECT FROM {self._schema}.test_runs AS run"
                f" WHERE run.run_id = child.run_id AND run.{_UNFINISHED})"
                f" ORDER BY created_at, {id_} LIMIT {_AT_ONCE}",
            )
            await self._until_done(statement, (before, protected), kind, count)

    async def _sweep_scenarios(
        self, policy: RetentionPolicy, count: Callable[[Kind, int], None]
    ) -> None:
        if policy.scenarios is None:
            return
        table = f"{self._schema}.scenarios"
        # What was changed meanwhile is looked at again once it is locked.
        statement = self._pruning(
            "scenarios",
            f"SELECT scenario_id FROM {table} WHERE updated_at < $1 AND {_RETIRED}"
            f" LIMIT {_AT_ONCE} FOR UPDATE",
        )
        await self._until_done(statement, (policy.scenarios,), "scenarios", count)

    async def _until_done(
        self,
        statement: Statement,
        parameters: tuple[object, ...],
        kind: Kind,
        count: Callable[[Kind, int], None],
    ) -> None:
        while gone := await self._batch(statement, *parameters):
            count(kind, gone)

    async def _batch(self, statement: Statement, *parameters: object) -> int:
        async with self._turn() as transaction:
            return await _pruned(transaction, statement, *parameters)

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[Transaction]:
        """A transaction in which no other sweep deletes: two at once take turns.

        The other's batch may take longer than a row may be locked, but no longer than a statement.
        """
        async with self._database.transaction() as transaction:
            await transaction.execute(self._deleting("SET LOCAL lock_timeout TO 0"))
            await transaction.fetch_one(
                self._deleting(
                    "SELECT pg_advisory_xact_lock(hashtextextended($1, 0)),"
                    f" set_config('{AUDIT_SETTING}', $2, true)"
                ),
                f"test-coordinator-data-adapter/{self._database.schema}/retention",
                self._database.tell(),
            )
            await transaction.execute(self._deleting("SET LOCAL lock_timeout TO DEFAULT"))
            yield transaction

    async def _one(self, sql: str, *parameters: object) -> tuple[int, ...]:
        row = await self._database.fetch_one(self._reading(sql), *parameters)
        return tuple(row or ())

    def _reading(self, sql: str) -> Statement:
        return Statement(sql, None, writes=False)

    def _pruning(self, kind: Kind, ids: str) -> Statement:
        """Deletes the entities whose ids a query selects; answers how many."""
        return self._deleting(
            f"SELECT {self._schema}.prune('{kind.removesuffix('s')}', ARRAY({ids}))"
        )

    def _deleting(self, sql: str) -> Statement:
        return Statement(sql, None, writes=True)


async def _pruned(transaction: Transaction, statement: Statement, *parameters: object) -> int:
    row = await transaction.fetch_one(statement, *parameters)
    return int(row[0]) if row else 0


def _report(pruned: int, kept: dict[Kept, int]) -> KindReport:
    reasons: dict[Kept, int] = {reason: number for reason, number in kept.items() if number}
    return KindReport(pruned + sum(reasons.values()), pruned, reasons)
