import asyncio

import pytest

from test_coordinator_data_adapter.adapters.postgres import retention
from test_coordinator_data_adapter.adapters.postgres.retention import PostgresRetentionRepository
from test_coordinator_data_adapter.testing.conformance import RetentionStores, RetentionSuite
from test_coordinator_data_adapter.testing.conformance.retention import EVERYTHING, OLD


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
