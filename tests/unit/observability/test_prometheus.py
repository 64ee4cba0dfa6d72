from __future__ import annotations

import asyncio
import re

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from test_coordinator_data_adapter.adapters.stub import (
    MemoryStore,
    StubCacheRepository,
    StubScenariosRepository,
    StubTestResultsRepository,
)
from test_coordinator_data_adapter.errors import DuplicateError, OverloadedError, UnavailableError
from test_coordinator_data_adapter.interfaces import TestResultQuery
from test_coordinator_data_adapter.observability import (
    BatchSent,
    CacheUsed,
    Operation,
    OperationEnded,
    Place,
    PoolClosed,
    PoolOpened,
    PoolUse,
    Probed,
    StateChanged,
    Trip,
    TripEnded,
)
from test_coordinator_data_adapter.observability.prometheus import PrometheusObserver
from test_coordinator_data_adapter.observability.watch import Watch
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.testing.builders import a_scenario, a_test_result

PREFIX = "test_coordinator_adapter_"
SECRET = "s3cret-id"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def observer(registry) -> PrometheusObserver:
    return PrometheusObserver(registry)


def scraped(registry: CollectorRegistry) -> dict[str, float]:
    """What Prometheus would read, without what differs from run to run."""
    lines = generate_latest(registry).decode().splitlines()
    samples = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {
        name.removeprefix(PREFIX): float(value)
        for name, value in samples.items()
        if not re.search(r"_(bucket|sum|created)\{", name)
    }


async def test_a_scripted_session_is_accounted_for_operation_by_operation(registry, observer):
    watch, store = Watch([observer], EventLog()), MemoryStore()
    scenarios = watch.repository(StubScenariosRepository(store), "stub")
    results = watch.repository(StubTestResultsRepository(store), "stub")
    cache = watch.repository(StubCacheRepository(store), "stub")

    scenario = await scenarios.create(a_scenario(scenario_id=SECRET))
    with pytest.raises(DuplicateError):
        await scenarios.create(scenario)
    await scenarios.get_by_id(SECRET)
    await scenarios.get_by_id(SECRET)
    await results.bulk_create(iter([a_test_result(run_id=SECRET) for _ in range(7)]))
    await results.calculate_pass_rate(SECRET)
    await results.get_by_run(SECRET)
    async for _ in results.stream(TestResultQuery(), batch_size=3):
        pass
    await cache.set(SECRET, 1)
    await cache.get(SECRET)
    await cache.get_many([SECRET, "other"])

    def operation(port: str, method: str) -> str:
        return f'{{backend="stub",method="{method}",port="{port}"'

    calls = {
        ("scenarios", "create", "ok"): 1,
        ("scenarios", "create", "DuplicateError"): 1,
        ("scenarios", "get_by_id", "ok"): 2,
        ("test_results", "bulk_create", "ok"): 1,
        ("test_results", "calculate_pass_rate", "ok"): 1,
        ("test_results", "get_by_run", "ok"): 1,
        ("test_results", "stream", "ok"): 1,
        ("cache", "set", "ok"): 1,
        ("cache", "get", "ok"): 1,
        ("cache", "get_many", "ok"): 1,
    }
    rows = {
        ("test_results", "bulk_create", "in"): 7,
        ("test_results", "bulk_create", "out"): 7,
        ("test_results", "get_by_run", "out"): 7,
        ("test_results", "stream", "out"): 7,
        ("cache", "get_many", "in"): 2,
        ("cache", "get_many", "out"): 1,
    }
    expected: dict[str, float] = {}
    for (port, method, outcome), count in calls.items():
        labels = f'backend="stub",method="{method}",outcome="{outcome}",port="{port}"'
        expected[f"operations_total{{{labels}}}"] = count
        expected[f"operation_duration_seconds_count{{{labels}}}"] = count
    for (port, method, direction), count in rows.items():
        labels = f'backend="stub",direction="{direction}",method="{method}",port="{port}"'
        expected[f"rows_total{{{labels}}}"] = count
    expected['cache_lookups_total{cache="cache",kind="",result="hit"}'] = 2
    expected['cache_lookups_total{cache="cache",kind="",result="miss"}'] = 1
    assert scraped(registry) == expected
    assert SECRET not in generate_latest(registry).decode()


def samples_of(registry: CollectorRegistry, family: str) -> dict[tuple[str, str | None], float]:
    """What a histogram of one series holds, by suffix and upper bound."""
    return {
        (sample.name.removeprefix(f"{PREFIX}{family}_"), sample.labels.get("le")): sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name.startswith(PREFIX + family)
    }


@pytest.mark.parametrize(
    ("error", "rows"), [(DuplicateError("taken"), None), (None, 3)], ids=["fails", "lists"]
)
def test_a_call_that_is_no_plain_one_takes_its_time_too(registry, observer, error, rows):
    operation = Operation("scenarios", "get_all", "stub")

    for seconds in (0.25, 2.0):
        observer.notice(OperationEnded(operation, seconds, error, None, rows))

    told = samples_of(registry, "operation_duration_seconds")
    assert told["sum", None] == 2.25
    assert [told["bucket", bound] for bound in ("0.1", "0.25", "1.0", "2.5")] == [0, 1, 1, 2]


def test_a_batch_is_as_large_as_the_calls_that_share_it(registry, observer):
    for calls in (3, 17, 600):
        observer.notice(BatchSent("postgres", "test_results.get_by_id", calls))

    told = samples_of(registry, "batch_calls")
    assert told["sum", None] == 620
    assert {bound: value for (suffix, bound), value in told.items() if suffix == "bucket"} == {
        "2.0": 0,
        "4.0": 1,
        "8.0": 1,
        "16.0": 1,
        **dict.fromkeys(("32.0", "64.0", "128.0", "256.0", "512.0"), 2),
        "+Inf": 3,
    }


def test_trips_are_timed_by_operation_and_command(registry, observer):
    place = Place("postgres", "db|schema", "host")
    trips = [
        Trip(f"SELECT {SECRET}", "test_result", waited=0.5, took=0.25, rows=1),
        Trip("SELECT 1", None, 0.0, 0.1, 0, error=UnavailableError("gone")),
        Trip("SELECT 1", None, 0.0, 0.1, 0, retries=1),
        Trip("UPDATE t", None, 0.0, 30.0, 0, error=OverloadedError("late"), timed_out=True),
        Trip("SELECT 1", None, 0.0, 0.1, 0, abandoned=True),
    ]

    for trip in trips:
        observer.notice(TripEnded(trip, place, None))

    told = scraped(registry)
    none = 'backend="postgres",command="%s",method="",port=""'
    assert told[f"trip_duration_seconds_count{{{none % 'SELECT'}}}"] == 4
    assert told[f"trip_duration_seconds_count{{{none % 'UPDATE'}}}"] == 1
    assert told['pool_wait_duration_seconds_count{backend="postgres"}'] == 5
    assert told['trip_errors_total{backend="postgres",outcome="UnavailableError"}'] == 1
    assert told['trip_errors_total{backend="postgres",outcome="OverloadedError"}'] == 1
    assert told['retries_total{backend="postgres"}'] == 1
    assert told['timeouts_total{backend="postgres"}'] == 1
    assert told['trips_abandoned_total{backend="postgres"}'] == 1
    assert SECRET not in generate_latest(registry).decode()


def test_trips_add_up_however_they_were_told(registry, observer):
    hooks = Watch([observer], EventLog()).hooks(Place("postgres"))

    hooks.on_plain_trip("SELECT 1", 0.25)
    hooks.on_plain_trip("SELECT 1", 0.25)
    hooks.on_trip(Trip("SELECT 1", None, waited=2.0, took=0.25, rows=1))

    samples = {
        (sample.name.removeprefix(PREFIX), sample.labels.get("le")): sample.value
        for family in registry.collect()
        for sample in family.samples
    }
    assert samples["trip_duration_seconds_count", None] == 3
    assert samples["trip_duration_seconds_sum", None] == 0.75
    assert samples["pool_wait_duration_seconds_count", None] == 3
    assert samples["pool_wait_duration_seconds_bucket", "1e-05"] == 2
    assert samples["pool_wait_duration_seconds_sum", None] == 2.0


def test_a_pool_is_asked_when_somebody_reads_and_not_once_it_is_closed(registry, observer):
    uses = [PoolUse(size=10, limit=30, open=6, in_use=4, waiting=1)]
    observer.notice(PoolOpened("postgres", lambda: uses[-1]))
    uses.append(PoolUse(size=10, limit=30, open=5, in_use=5, waiting=9))

    told = scraped(registry)
    observer.notice(PoolClosed("postgres"))
    afterwards = scraped(registry)

    assert told == {
        'pool_connections{backend="postgres",state="in_use"}': 5,
        'pool_connections{backend="postgres",state="idle"}': 0,
        'pool_connections_limit{backend="postgres"}': 30,
        'pool_waiting_calls{backend="postgres"}': 9,
    }
    assert afterwards == {}


def test_states_probes_batches_and_caches_are_counted(registry, observer):
    for fact in (
        StateChanged("redis", "unavailable", "closed"),
        StateChanged("redis", "live", "unavailable"),
        Probed("redis", 0.1, UnavailableError("gone")),
        Probed("redis", 0.1, None),
        BatchSent("postgres", "test_results.get_by_id", 17),
        CacheUsed("reads", "test_run", hits=3, misses=2, loads=2, stale_drops=1),
    ):
        observer.notice(fact)

    assert scraped(registry) == {
        'backend_state{backend="redis",state="live"}': 1,
        'backend_state{backend="redis",state="lost"}': 0,
        'backend_state{backend="redis",state="unavailable"}': 0,
        'backend_state{backend="redis",state="misconfigured"}': 0,
        'backend_state{backend="redis",state="closed"}': 0,
        'backend_transitions_total{backend="redis",state="unavailable"}': 1,
        'backend_transitions_total{backend="redis",state="live"}': 1,
        'backend_probes_total{backend="redis",outcome="UnavailableError"}': 1,
        'backend_probes_total{backend="redis",outcome="ok"}': 1,
        'batch_calls_count{backend="postgres",operation="test_results.get_by_id"}': 1,
        'cache_lookups_total{cache="reads",kind="test_run",result="hit"}': 3,
        'cache_lookups_total{cache="reads",kind="test_run",result="miss"}': 2,
        'cache_loads_total{cache="reads",kind="test_run"}': 2,
        'cache_stale_drops_total{cache="reads",kind="test_run"}': 1,
    }


async def test_factories_share_a_registry_and_differ_by_constant_labels(registry):
    for name in ("one", "two"):
        watch = Watch([PrometheusObserver(registry, labels={"instance_name": name})], EventLog())
        await watch.repository(StubCacheRepository(), "stub").exists("k")

    told = scraped(registry)

    for name in ("one", "two"):
        labels = f'backend="stub",instance_name="{name}",method="exists",outcome="ok",port="cache"'
        assert told[f"operations_total{{{labels}}}"] == 1


def test_two_observers_that_nothing_tells_apart_are_refused(registry, observer):
    with pytest.raises(ValueError, match="labels"):
        PrometheusObserver(registry)


def test_a_registry_with_foreign_metrics_of_the_same_name_is_refused(registry):
    Counter("test_coordinator_adapter_operations_total", "Mine.", registry=registry)

    with pytest.raises(ValueError, match="Duplicated"):
        PrometheusObserver(registry)


async def test_names_follow_the_conventions(registry, observer):
    families = list(registry.collect())

    assert families
    for family in families:
        assert re.fullmatch(r"test_coordinator_adapter(_[a-z]+)+", family.name)
        assert family.documentation.endswith(".")
        if "duration" in family.name:
            assert family.name.endswith("_seconds")
            assert family.type == "histogram"


async def test_however_many_callers_and_ids_there_are_the_series_stay_few(registry, observer):
    cache = Watch([observer], EventLog()).repository(StubCacheRepository(), "stub")
    await cache.get("first")
    before = len(scraped(registry))

    await asyncio.gather(*(cache.get(f"key-{number}") for number in range(200)))

    assert len(scraped(registry)) == before
