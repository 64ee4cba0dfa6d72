from __future__ import annotations

import asyncio

import pytest

from test_coordinator_data_adapter.adapters.postgres import retention
from test_coordinator_data_adapter.adapters.postgres.database import Database
from test_coordinator_data_adapter.adapters.postgres.retention import PostgresRetentionRepository
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.errors import OverloadedError
from test_coordinator_data_adapter.interfaces.retention import RetentionPolicy
from test_coordinator_data_adapter.models import RunStatus, ScenarioStatus
from test_coordinator_data_adapter.testing.builders import a_scenario, a_test_run
from test_coordinator_data_adapter.testing.conformance import RetentionStores, RetentionSuite
from test_coordinator_data_adapter.testing.conformance.retention import (
    EVERYTHING,
    LIMIT,
    OLD,
    YOUNG,
)

SCHEMA = "test_coordinator"


@pytest.fixture
def stores(database, scenarios, test_runs, chaos_events, test_results):
    return RetentionStores(
        PostgresRetentionRepository(database), scenarios, test_runs, chaos_events, test_results
    )


class TestRetention(RetentionSuite):
    pass


async def test_a_sweep_that_is_broken_off_leaves_whole_runs_and_another_goes_on(
    stores, monkeypatch
):
    monkeypatch.setattr(retention, "_RUNS_AT_ONCE", 2)
    monkeypatch.setattr(retention, "_AT_ONCE", 3)
    for number in range(7):
        await stores.a_run(f"run-{number}", OLD)
    gone: list[int] = []

    def break_off(kind, number, _of):
        if kind == "test_runs":
            gone.append(number)
            sweep.cancel()

    sweep = asyncio.create_task(stores.retention.sweep(EVERYTHING, on_progress=break_off))
    await asyncio.wait([sweep])
    halfway = await stores.left()
    await stores.retention.sweep(EVERYTHING)

    assert sweep.cancelled()
    assert gone == [2]
    assert len(halfway["test_runs"]) == 5
    assert halfway["chaos_events"] == [f"{run_id}-e" for run_id in halfway["test_runs"]]
    assert len(halfway["test_results"]) == 10
    assert not any((await stores.left()).values())


async def test_events_results_and_scenarios_go_in_bounded_batches(stores, monkeypatch):
    monkeypatch.setattr(retention, "_AT_ONCE", 2)
    for number in range(5):
        await stores.a_run(f"young-{number}", YOUNG, children_at=OLD)
        await stores.scenarios.create(a_scenario(status=ScenarioStatus.ARCHIVED, updated_at=OLD))
    told = []

    await stores.retention.sweep(
        EVERYTHING, on_progress=lambda kind, gone, of: told.append((kind, gone, of))
    )

    assert told == [
        *(("chaos_events", gone, 5) for gone in (2, 4, 5)),
        *(("test_results", gone, 10) for gone in (2, 4, 6, 8, 10)),
        *(("scenarios", gone, 5) for gone in (2, 4, 5)),
    ]


async def test_what_hangs_on_a_run_goes_in_bounded_statements(
    stores, monkeypatch, connect, shared_place
):
    monkeypatch.setattr(retention, "_AT_ONCE", 2)
    bare = await connect(shared_place.admin)
    for number in range(5):
        await stores.a_run(f"run-{number}", OLD)
    before = await bare.fetchval(f"SELECT max(record_id) FROM {SCHEMA}.audit_records")

    await stores.retention.sweep(EVERYTHING)

    rows = await bare.fetch(
        f"SELECT kind, count FROM {SCHEMA}.audit_records WHERE record_id > $1 ORDER BY record_id",
        before,
    )
    assert [tuple(row) for row in rows] == [
        *(("chaos_event", count) for count in (2, 2, 1)),
        *(("test_result", count) for count in (2, 2, 2, 2, 2)),
        *(("test_run", count) for count in (2, 2, 1)),
    ]


async def test_no_more_than_twenty_runs_are_held_at_once(stores):
    for number in range(41):
        await stores.test_runs.create(
            a_test_run(run_id=f"run-{number}", status=RunStatus.PASSED, created_at=OLD)
        )
    told = []

    await stores.retention.sweep(
        EVERYTHING, on_progress=lambda kind, gone, of: told.append((kind, gone, of))
    )

    assert told == [("test_runs", gone, 41) for gone in (20, 40, 41)]


@pytest.fixture
async def waits_for(database, shared_place):
    """Retention that waits for a lock so many seconds."""
    opened = []

    def waits_for(seconds: float) -> PostgresRetentionRepository:
        settings = DatabaseSettings(
            url=shared_place.application, schema=SCHEMA, lock_timeout=seconds
        )
        opened.append(Database(settings))
        return PostgresRetentionRepository(opened[-1])

    yield waits_for
    for other in opened:
        await other.aclose()


@pytest.fixture
def patient(waits_for):
    return waits_for(60)


@pytest.fixture
def impatient(waits_for):
    return waits_for(0.1)


@pytest.fixture
async def in_the_way(connect, shared_place):
    """A bare connection, to lock rows that a sweep wants."""
    return await connect(shared_place.admin)


@pytest.fixture
async def waiting(connect, shared_place):
    """Returns once so many sessions of the database wait for locks, or one of the tasks ended."""
    watching = await connect(shared_place.admin)

    async def waiting(number: int, *tasks: asyncio.Task[object]) -> None:
        async with asyncio.timeout(60):
            while not any(task.done() for task in tasks):
                waits = await watching.fetchval(
                    "SELECT count(*) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                    " AND backend_type = 'client backend'"
                )
                if waits >= number:
                    return
                await asyncio.sleep(0.005)

    return waiting


async def test_of_two_sweeps_at_once_one_waits_for_the_batch_of_the_other(
    stores, patient, in_the_way, waiting
):
    await stores.a_run("old", OLD)
    await stores.scenarios.create(a_scenario(status=ScenarioStatus.ARCHIVED, updated_at=OLD))

    async with in_the_way.transaction():
        await in_the_way.execute(f"SELECT FROM {SCHEMA}.test_runs FOR UPDATE")
        first = asyncio.create_task(patient.sweep(RetentionPolicy(test_runs=LIMIT)))
        await waiting(1, first)
        second = asyncio.create_task(patient.sweep(RetentionPolicy(scenarios=LIMIT)))
        await waiting(2, first, second)
        done = [first.done(), second.done()]
    await asyncio.gather(first, second)

    assert done == [False, False]
    assert not any((await stores.left()).values())


async def test_a_turn_is_waited_for_longer_than_a_row_that_is_locked(
    stores, impatient, in_the_way, waiting
):
    await stores.a_run("old", OLD)

    async with in_the_way.transaction():
        await in_the_way.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            f"test-coordinator-data-adapter/{SCHEMA}/retention",
        )
        sweep = asyncio.create_task(impatient.sweep(EVERYTHING))
        await waiting(1, sweep)
        await asyncio.sleep(0.3)
    await sweep
    await stores.a_run("locked", OLD)
    async with in_the_way.transaction():
        await in_the_way.execute(f"SELECT FROM {SCHEMA}.test_runs FOR UPDATE")
        with pytest.raises(OverloadedError) as overloaded:
            await impatient.sweep(EVERYTHING)

    assert overloaded.value.sqlstate == "55P03"
    assert (await stores.left())["test_runs"] == ["locked"]


async def test_what_hangs_on_a_run_that_is_taken_up_before_its_batch_stays(
    stores, patient, in_the_way, waiting
):
    await stores.a_run("old", OLD)
    await stores.a_run("young", YOUNG, children_at=OLD)

    async with in_the_way.transaction():
        await in_the_way.execute(f"SELECT FROM {SCHEMA}.test_runs WHERE run_id = 'old' FOR UPDATE")
        other = asyncio.create_task(patient.sweep(RetentionPolicy(test_runs=LIMIT)))
        await waiting(1, other)
        sweep = asyncio.create_task(
            patient.sweep(RetentionPolicy(chaos_events=LIMIT, test_results=LIMIT))
        )
        await waiting(2, other, sweep)
        await stores.test_runs.start_run("young")
    await asyncio.gather(other, sweep)

    assert await stores.left() == {
        "chaos_events": ["young-e"],
        "test_results": ["young-0", "young-1"],
        "test_runs": ["young"],
        "scenarios": [],
    }


async def test_a_scenario_that_is_taken_up_while_a_sweep_waits_for_it_stays(
    stores, patient, in_the_way, waiting
):
    await stores.scenarios.create(
        a_scenario(scenario_id="s", status=ScenarioStatus.ARCHIVED, updated_at=OLD)
    )

    async with in_the_way.transaction():
        await in_the_way.execute(f"UPDATE {SCHEMA}.scenarios SET status = 'active'")
        sweep = asyncio.create_task(patient.sweep(EVERYTHING))
        await waiting(1, sweep)
    told = await sweep

    assert told.kinds["scenarios"].pruned == 0
    assert (await stores.left())["scenarios"] == ["s"]
