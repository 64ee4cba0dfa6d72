"""What the audit trail costs: mutations with its triggers, and with these disabled."""

# ruff: noqa: S608 - made of our own names

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TypeAlias

from benchmarks.measuring import LIBRARY, Clock, Operation, Outcome, Sample, Taken, Target, measure
from benchmarks.report import Report
from benchmarks.stage import (
    AUDITED,
    BARELY_AUDITED,
    FRESH_RUN,
    LEAST_AUDITED,
    STORED_SINCE,
    UNAUDITED,
    UNAUDITED_TOO,
    Stage,
    connected,
    fresh_results,
)
from test_coordinator_data_adapter.adapters.postgres.audit_setting import AUDIT_SETTING
from test_coordinator_data_adapter.interfaces import (
    TestResultsRepository,
    TestRunsRepository,
    audit_context,
)
from test_coordinator_data_adapter.models import RunStatus, TestRun
from test_coordinator_data_adapter.models.values import MIN_MOMENT
from test_coordinator_data_adapter.testing.builders import a_test_run

WITHOUT = "no audit trail"
MOST_OF_ONE = 1.25
MOST_IN_BULK = 1.1

BARELY = "operation and id alone, in a table without an index"
LEAST = (
    "all that is told and the row, in a table with three indexes, by a trigger that knows no prune"
)

_SCHEMAS = {
    LIBRARY: AUDITED,
    WITHOUT: UNAUDITED,
    f"{WITHOUT}, in another schema": UNAUDITED_TOO,
    BARELY: BARELY_AUDITED,
    LEAST: LEAST_AUDITED,
}
# The least that any trigger can record; what the trail takes beyond it is for what it is read for.
_BARE_RECORDS = f"""
    CREATE TABLE {BARELY_AUDITED}.records (operation text, entity_id text);
    CREATE FUNCTION {BARELY_AUDITED}.record() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO {BARELY_AUDITED}.records VALUES (TG_OP, coalesce(OLD.run_id, NEW.run_id));
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER record AFTER INSERT OR UPDATE OR DELETE ON {BARELY_AUDITED}.test_runs
        FOR EACH ROW EXECUTE FUNCTION {BARELY_AUDITED}.record();
"""

# The least that a trail has to hold, and to be found again by: its order, its time, and what it is
# about.
_LEAST_RECORDS = f"""
    CREATE TABLE {LEAST_AUDITED}.records (
        record_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        recorded_at timestamptz NOT NULL DEFAULT statement_timestamp(),
        role name NOT NULL DEFAULT session_user,
        told text,
        operation text NOT NULL,
        kind text NOT NULL,
        entity_id text NOT NULL,
        held jsonb NOT NULL
    );
    CREATE INDEX ON {LEAST_AUDITED}.records USING brin (recorded_at);
    CREATE INDEX ON {LEAST_AUDITED}.records (entity_id, kind, record_id);
    CREATE FUNCTION {LEAST_AUDITED}.record() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
    BEGIN
        INSERT INTO {LEAST_AUDITED}.records (told, operation, kind, entity_id, held) VALUES (
            current_setting('{AUDIT_SETTING}', true), TG_OP, 'test_run',
            coalesce(OLD.run_id, NEW.run_id), to_jsonb(coalesce(OLD, NEW))
        );
        RETURN NULL;
    END
    $$;
    CREATE TRIGGER record AFTER INSERT OR UPDATE OR DELETE ON {LEAST_AUDITED}.test_runs
        FOR EACH ROW EXECUTE FUNCTION {LEAST_AUDITED}.record();
"""

_Mutation: TypeAlias = Callable[[TestRunsRepository, TestRun], Awaitable[object]]


async def measurements(stage: Stage, report: Report) -> AsyncGenerator[Outcome]:
    """Measure one mutation after the other."""
    scale = stage.scale
    report.facts.update(await stage.facts())
    report.facts["results stored"] = f"{scale.rows:,} in each of {len(_SCHEMAS)} schemas"
    await _replace_triggers(stage)
    async with AsyncExitStack() as opened:
        runs: dict[str, TestRunsRepository] = {}
        results: dict[str, TestResultsRepository] = {}
        for side, schema in _SCHEMAS.items():
            factory = await opened.enter_async_context(stage.factory(schema))
            runs[side] = factory.get_test_runs_repository()
            results[side] = factory.get_test_results_repository()
        for waits in (True, False):
            # What the disk takes is the same for all, and hides what a record costs.
            await stage.wait_for_disk(waits=waits)
            calls = max(1, scale.calls // 2) if waits else scale.calls
            for name, mutation in _MUTATIONS.items():
                yield await _measured(
                    name if waits else f"{name}, without waiting for the disk",
                    {side: _each(calls, runs[side], mutation) for side in runs},
                    MOST_OF_ONE if waits else None,
                    scale.rounds,
                    partial(_vacuum, stage, "test_runs"),
                )
        await stage.wait_for_disk(waits=True)
        number = scale.bulk[-1]
        for name, work, most in (
            ("bulk_create", _bulk_create, MOST_IN_BULK),
            ("prune", _prune, None),
        ):
            yield await _measured(
                f"{name}, {number:,} results",
                {
                    side: partial(work, number, results[side])
                    for side in results
                    if side not in (BARELY, LEAST)
                },
                most,
                max(min(scale.rounds, 5), scale.rounds // 2),
                partial(_forget_fresh, stage),
            )


async def _measured(
    name: str,
    samples: Mapping[str, Sample],
    most: float | None,
    rounds: int,
    after_round: Callable[[], Awaitable[object]],
) -> Outcome:
    targets = () if most is None else (Target(most, WITHOUT),)
    with audit_context(correlation_id="benchmark-1", reason="to see what it costs"):
        return await measure(Operation(name, WITHOUT, samples, targets, after_round), rounds)


def _create(runs: TestRunsRepository, run: TestRun) -> Awaitable[object]:
    return runs.create(run)


def _change(runs: TestRunsRepository, run: TestRun) -> Awaitable[object]:
    return runs.update_status(run.run_id, RunStatus.RUNNING)


def _delete(runs: TestRunsRepository, run: TestRun) -> Awaitable[object]:
    return runs.delete(run.run_id)


_MUTATIONS: Mapping[str, _Mutation] = {
    "create": _create,
    "update_status": _change,
    "delete": _delete,
}


def _each(times: int, runs: TestRunsRepository, mutation: _Mutation) -> Sample:
    async def sample() -> Taken:
        given = [a_test_run() for _ in range(times)]
        if mutation is not _create:
            for run in given:
                await runs.create(run)
        clock = Clock()
        for run in given:
            await mutation(runs, run)
        return clock.read(times)

    return sample


async def _bulk_create(number: int, results: TestResultsRepository) -> Taken:
    given = fresh_results(number)
    clock = Clock()
    await results.bulk_create(given)
    return clock.read()


async def _prune(number: int, results: TestResultsRepository) -> Taken:
    old = {"created_at": MIN_MOMENT}
    await results.bulk_create(one.model_copy(update=old) for one in fresh_results(number))
    clock = Clock()
    pruned = await results.prune(STORED_SINCE)
    taken = clock.read()
    if pruned != number:
        raise RuntimeError(f"{pruned} were pruned, not {number}")
    return taken


async def _replace_triggers(stage: Stage) -> None:
    async with connected(stage.url) as connection:
        for schema in (UNAUDITED, UNAUDITED_TOO, BARELY_AUDITED, LEAST_AUDITED):
            for table in ("test_runs", "test_results"):
                await connection.execute(f"ALTER TABLE {schema}.{table} DISABLE TRIGGER USER")
        for records in (_BARE_RECORDS, _LEAST_RECORDS):
            await connection.execute(records)


async def _vacuum(stage: Stage, table: str) -> None:
    async with connected(stage.url) as connection:
        for schema in _SCHEMAS.values():
            await connection.execute(f"VACUUM {schema}.{table}")


async def _forget_fresh(stage: Stage) -> None:
    async with connected(stage.url) as connection:
        await connection.execute("SET session_replication_role = replica")  # no audit trail
        for schema in _SCHEMAS.values():
            await connection.execute(
                f"DELETE FROM {schema}.test_results WHERE run_id = $1", FRESH_RUN
            )
    await _vacuum(stage, "test_results")
