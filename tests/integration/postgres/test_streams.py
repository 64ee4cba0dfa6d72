from __future__ import annotations

import asyncio
import gc
import tracemalloc
from datetime import UTC, datetime

import pytest

from test_coordinator_data_adapter.adapters.postgres import PostgresTestResultsRepository
from test_coordinator_data_adapter.adapters.postgres.backend import PostgresBackend
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.interfaces.queries import (
    AuditQuery,
    ChaosEventQuery,
    ScenarioQuery,
    TestResultQuery,
    TestRunQuery,
)
from test_coordinator_data_adapter.resilience.observation import Hooks
from test_coordinator_data_adapter.testing.builders import (
    a_chaos_event,
    a_scenario,
    a_test_result,
    a_test_run,
)

SCHEMA = "test_coordinator"
ROWS = 20_000
FILL = f"""
INSERT INTO {SCHEMA}.test_results
SELECT 't' || n, 'run', 'latency', 'a', 'b', 'passed', now(), NULL, NULL,
    timestamptz '2026-05-06 07:08:09+00' + (n / 3) * interval '1 microsecond', NULL, NULL
FROM generate_series(1, {ROWS}) n
"""


@pytest.fixture
async def many(database, shared_place, connect):
    """A repository over more rows than fit any batch, three to every microsecond."""
    admin = await connect(shared_place.admin)
    await admin.execute(FILL)
    await admin.execute(f"ANALYZE {SCHEMA}.test_results")
    return PostgresTestResultsRepository(database)


async def test_no_connection_is_held_while_the_consumer_thinks(many, database):
    in_use = set()

    async for _ in many.stream(TestResultQuery(), batch_size=5000):
        in_use.add(database.pool_use().in_use)

    assert in_use == {0}


async def test_every_row_comes_once_and_in_order(many):
    seen = [
        (result.created_at, result.result_id)
        async for result in many.stream(TestResultQuery(run_id="run"), batch_size=999)
    ]

    assert len(seen) == ROWS
    assert seen == sorted(set(seen))


async def test_memory_does_not_grow_with_the_rows_read(many):
    stream = many.stream(TestResultQuery(), batch_size=500)
    for _ in range(1000):
        await anext(stream)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        read = 1000
        async for _ in stream:
            read += 1
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert read == ROWS
    assert peak - before < 3 * 1024 * 1024


async def test_an_abandoned_stream_leaves_nothing_behind(many, database):
    for taken in (1, 100, 501):
        stream = many.stream(TestResultQuery(), batch_size=500)
        for _ in range(taken):
            await anext(stream)
        del stream
        gc.collect()
        await asyncio.sleep(0)

    assert database.pool_use().in_use == 0


async def test_a_stream_that_is_cancelled_under_way_gives_its_connection_back(many, database):
    async def read():
        async for _ in many.stream(TestResultQuery(), batch_size=10_000):
            await asyncio.sleep(0)

    for turns in range(1, 40, 3):
        reader = asyncio.create_task(read())
        for _ in range(turns):
            await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait([reader])

    # An attempt to connect outlives its caller, for whoever comes next.
    async with asyncio.timeout(60):
        while database.pool_use().in_use:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    assert await many.count(TestResultQuery()) == ROWS


async def test_more_streams_than_connections_go_on_at_once(many, database):
    streams = [many.stream(TestResultQuery(), batch_size=1000) for _ in range(60)]

    for _ in range(3):
        firsts = await asyncio.gather(*(anext(stream) for stream in streams))
        assert len({result.result_id for result in firsts}) == 1

    for stream in streams:
        await stream.aclose()
    assert database.pool_use().in_use == 0


async def test_what_is_created_behind_the_reader_does_not_disturb_it(many):
    stream = many.stream(TestResultQuery(), batch_size=100)
    seen = [await anext(stream)]
    await many.create(a_test_result(created_at=datetime(2026, 1, 1, tzinfo=UTC)))

    seen += [result async for result in stream]

    assert len({result.result_id for result in seen}) == len(seen) == ROWS


async def test_a_prune_in_batches_lets_writers_through(many):
    written = 0
    done = asyncio.Event()

    async def write():
        nonlocal written
        while not done.is_set():
            await many.create(a_test_result())
            written += 1

    writer = asyncio.create_task(write())
    pruned = await many.prune(datetime(2026, 5, 7, tzinfo=UTC), batch_size=500)
    done.set()
    await writer

    assert pruned >= ROWS
    assert written > 3


async def test_every_stream_of_a_backend_travels_by_its_batch_size(database, shared_place):
    trips = []
    backend = PostgresBackend(
        DatabaseSettings(url=shared_place.application, schema=SCHEMA),
        batch_size=3,
        hooks_at=lambda _: Hooks(on_trip=trips.append),
    )
    await backend.open()
    opened = backend.opened
    ids = {"entity_id": [f"batch-{number}" for number in range(4)]}
    for id_ in ids["entity_id"]:
        await opened.scenarios.create(a_scenario(scenario_id=id_))
        await opened.test_runs.create(a_test_run())
        await opened.chaos_events.create(a_chaos_event())
        await opened.test_results.create(a_test_result())
    travelled = {}

    for kind, query in (
        ("scenarios", ScenarioQuery()),
        ("test_runs", TestRunQuery()),
        ("chaos_events", ChaosEventQuery()),
        ("test_results", TestResultQuery()),
        ("audit", AuditQuery(**ids)),
    ):
        trips.clear()
        async for _ in getattr(opened, kind).stream(query):
            pass
        travelled[kind] = [trip.rows for trip in trips]
    await backend.aclose()

    assert travelled == {kind: [3, 1] for kind in travelled}
