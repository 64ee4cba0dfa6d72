"""What observers are told of a session on live backends: every call, every trip, nothing secret."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from structlog.testing import capture_logs

from test_coordinator_data_adapter.errors import DuplicateError, NotFoundError
from test_coordinator_data_adapter.interfaces import TestResultQuery
from test_coordinator_data_adapter.models import RunStatus
from test_coordinator_data_adapter.observability import (
    BatchSent,
    CacheUsed,
    OperationEnded,
    PoolClosed,
    PoolOpened,
    Probed,
    StateChanged,
    TripEnded,
)
from test_coordinator_data_adapter.observability.otel import OpenTelemetryObserver
from test_coordinator_data_adapter.observability.prometheus import PrometheusObserver
from test_coordinator_data_adapter.testing.builders import a_service, a_test_result, a_test_run

SECRET = "s3cret"


class Recorder:
    def __init__(self):
        self.facts = []

    def notice(self, fact, /):
        self.facts.append(fact)

    def of(self, kind):
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def trips(self):
        """Operation, backend and command of every trip for an operation, in order."""
        return [
            (told.operation.name, told.place.backend, told.command)
            for told in self.of(TripEnded)
            if told.operation is not None
        ]


@pytest.fixture
def recorder():
    return Recorder()


async def session(factory) -> Counter[tuple[str, str, str]]:
    """What a service may do in a minute; comes back with the calls it made."""
    runs = factory.get_test_runs_repository()
    results = factory.get_test_results_repository()
    services = factory.get_service_discovery_repository()
    cache = factory.get_cache_repository()

    await runs.create(a_test_run(run_id=SECRET, status=RunStatus.PENDING))
    with pytest.raises(DuplicateError):
        await runs.create(a_test_run(run_id=SECRET))
    await runs.start_run(SECRET)
    with pytest.raises(NotFoundError):
        await runs.start_run("unknown")
    await results.bulk_create([a_test_result(run_id=SECRET) for _ in range(20)])
    await results.calculate_pass_rate(SECRET)
    assert len([item async for item in results.stream(TestResultQuery(), batch_size=6)]) == 20
    await services.register(a_service(service_id=SECRET))
    await services.update_heartbeat(SECRET)
    await services.deregister(SECRET)
    await cache.set_many({f"{SECRET}:{number}": SECRET for number in range(3)})
    await cache.get_many([f"{SECRET}:{number}" for number in range(4)])
    await cache.get(f"{SECRET}:0")
    await cache.delete_pattern("*")
    return Counter(
        {
            ("test_runs.create", "postgres", "ok"): 1,
            ("test_runs.create", "postgres", "DuplicateError"): 1,
            ("test_runs.start_run", "postgres", "ok"): 1,
            ("test_runs.start_run", "postgres", "NotFoundError"): 1,
            ("test_results.bulk_create", "postgres", "ok"): 1,
            ("test_results.calculate_pass_rate", "postgres", "ok"): 1,
            ("test_results.stream", "postgres", "ok"): 1,
            ("service_discovery.register", "redis", "ok"): 1,
            ("service_discovery.update_heartbeat", "redis", "ok"): 1,
            ("service_discovery.deregister", "redis", "ok"): 1,
            ("cache.set_many", "redis", "ok"): 1,
            ("cache.get_many", "redis", "ok"): 1,
            ("cache.get", "redis", "ok"): 1,
            ("cache.delete_pattern", "redis", "ok"): 1,
        }
    )


async def test_every_call_and_every_trip_of_a_session_is_accounted_for(make_factory, recorder):
    async with make_factory(recorder) as factory:
        expected = await session(factory)

    called = Counter(
        (ended.operation.name, ended.operation.backend, ended.outcome)
        for ended in recorder.of(OperationEnded)
    )
    trips = recorder.trips()
    assert called == expected
    assert {name for name, _, _ in trips} == {name for name, _, _ in expected}
    assert [trip for trip in trips if trip[0] == "test_runs.create"] == [
        ("test_runs.create", "postgres", "INSERT")
    ] * 2
    assert [command for name, _, command in trips if name == "test_results.bulk_create"] == [
        "BEGIN",
        "COPY",
        "COMMIT",
    ]
    assert ("cache.get_many", "redis", "MGET") in trips
    assert all(told.place.address for told in recorder.of(TripEnded))


async def test_a_registry_scraped_after_a_session_accounts_for_every_operation(make_factory):
    registry = CollectorRegistry()

    async with make_factory(PrometheusObserver(registry)) as factory:
        expected = await session(factory)
        scraped = generate_latest(registry).decode()

    counted = {
        (
            f"{sample.labels['port']}.{sample.labels['method']}",
            sample.labels["backend"],
            sample.labels["outcome"],
        ): sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "test_coordinator_adapter_operations_total"
    }
    assert counted == expected
    rows = 'rows_total{backend="postgres",direction="%s",method="%s",port="test_results"} 20.0'
    for metric in (
        rows % ("in", "bulk_create"),
        rows % ("out", "stream"),
        'cache_lookups_total{cache="cache",kind="",result="hit"} 4.0',
        'cache_lookups_total{cache="cache",kind="",result="miss"} 1.0',
        'backend_state{backend="postgres",state="live"} 1.0',
        'backend_state{backend="redis",state="live"} 1.0',
        'backend_probes_total{backend="postgres",outcome="ok"} 1.0',
        'pool_connections{backend="postgres",state="in_use"} 0.0',
        'pool_connections{backend="redis",state="idle"} 1.0',
        'pool_connections_limit{backend="postgres"} 30.0',
        'pool_waiting_calls{backend="redis"} 0.0',
        'trip_errors_total{backend="postgres",outcome="DuplicateError"} 1.0',
    ):
        assert f"test_coordinator_adapter_{metric}" in scraped
    assert SECRET not in scraped


async def test_every_trip_is_counted_once_however_it_is_told(make_factory):
    registry = CollectorRegistry()
    async with make_factory(PrometheusObserver(registry)) as factory:
        results = factory.get_test_results_repository()
        stored = await results.bulk_create([a_test_result(run_id=SECRET) for _ in range(3)])
        for result in stored:
            await results.get_by_id(result.result_id)
            await results.get_by_run(SECRET)

    samples = [sample for family in registry.collect() for sample in family.samples]
    trips = {
        (sample.labels["method"], sample.labels["command"]): sample.value
        for sample in samples
        if sample.name == "test_coordinator_adapter_trip_duration_seconds_count"
        and sample.labels["port"] == "test_results"
    }
    assert trips == {
        ("bulk_create", "BEGIN"): 1,
        ("bulk_create", "COPY"): 1,
        ("bulk_create", "COMMIT"): 1,
        ("get_by_id", "SELECT"): 3,
        ("get_by_run", "SELECT"): 3,
    }
    counted = {
        name: sum(
            sample.value
            for sample in samples
            if sample.name == f"test_coordinator_adapter_{name}_count"
        )
        for name in ("trip_duration_seconds", "pool_wait_duration_seconds")
    }
    assert counted["pool_wait_duration_seconds"] == counted["trip_duration_seconds"]


async def test_spans_and_measurements_are_exported_by_the_conventions(make_factory):
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([reader], shutdown_on_exit=False)
    observer = OpenTelemetryObserver(tracer_provider=tracers, meter_provider=meters)

    async with make_factory(observer) as factory:
        exporter.clear()
        expected = await session(factory)
        data = reader.get_metrics_data()

    spans = exporter.get_finished_spans()
    calls = {span.context.span_id: span for span in spans if span.kind is trace.SpanKind.INTERNAL}
    trips = [span for span in spans if span.kind is trace.SpanKind.CLIENT]
    assert Counter(span.name for span in calls.values()) == Counter(
        name for name, _, _ in expected.elements()
    )
    for span in trips:
        parent = calls[span.parent.span_id]
        assert span.context.trace_id == parent.context.trace_id
        assert parent.start_time <= span.start_time <= span.end_time <= parent.end_time
    described = {span.name: span.attributes for span in trips}
    insert, many = described["INSERT test_runs"], described["MGET"]
    assert insert["db.system.name"] == "postgresql"
    assert insert["db.operation.name"] == "INSERT"
    assert insert["db.collection.name"] == "test_runs"
    assert insert["db.namespace"].endswith("|observed")
    assert insert["server.address"]
    assert many["db.system.name"] == "redis"
    assert many["db.operation.name"] == "MGET"
    (failed,) = [span for span in trips if not span.status.is_unset]
    assert failed.attributes["error.type"] == "23505"
    durations = [
        point
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == "db.client.operation.duration"
        for point in metric.data.data_points
    ]
    assert sum(point.count for point in durations) >= len(trips)
    assert SECRET not in "".join(span.to_json() for span in spans) + data.to_json()
    tracers.shutdown()
    meters.shutdown()


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        (
            "test_results.get_by_id",
            lambda factory, id_: factory.get_test_results_repository().get_by_id(id_),
        ),
        (
            "test_results.create",
            lambda factory, id_: factory.get_test_results_repository().create(
                a_test_result(result_id=id_)
            ),
        ),
        ("cache.get", lambda factory, id_: factory.get_cache_repository().get(id_)),
    ],
)
async def test_calls_of_the_same_moment_share_a_trip_and_it_is_told_how_many(
    make_factory, recorder, operation, call
):
    async with make_factory(recorder) as factory:
        recorder.facts.clear()

        await asyncio.gather(*(call(factory, f"id-{number}") for number in range(20)))

    batches = recorder.of(BatchSent)
    alone = len(recorder.trips()) - len(batches)
    assert batches
    assert alone + sum(batch.calls for batch in batches) == 20
    assert {batch.operation for batch in batches} == {operation}
    assert len(recorder.of(OperationEnded)) == 20


async def test_cached_reads_tell_hits_misses_and_loads(make_factory, recorder):
    async with make_factory(recorder, cache_reads=True) as factory:
        runs = factory.get_test_runs_repository()
        await runs.create(a_test_run(run_id="r"))
        reads = 0
        async with asyncio.timeout(30):
            while not any(use.hits for use in recorder.of(CacheUsed)):
                await runs.get_by_id("r")
                reads += 1

    uses = [use for use in recorder.of(CacheUsed) if use.cache == "reads"]
    assert {use.kind for use in uses} == {"test_run"}
    # What is loaded before every writer must have heard of the reader is not kept.
    assert sum(use.misses for use in uses) == reads - 1
    assert sum(use.loads for use in uses) == 1
    assert sum(use.hits for use in uses) == 1
    assert [ended.operation.name for ended in recorder.of(OperationEnded)] == [
        "test_runs.create",
        *["test_runs.get_by_id"] * reads,
    ]


async def test_pools_states_and_probes_are_told(make_factory, recorder):
    async with make_factory(recorder) as factory:
        uses = {opened.backend: opened.use() for opened in recorder.of(PoolOpened)}
        await factory.health_check()
        closed_early = recorder.of(PoolClosed)

    assert set(uses) == {"postgres", "redis"}
    assert uses["postgres"].limit == 30
    assert uses["postgres"].in_use == 0
    assert closed_early == []
    assert Counter(closed.backend for closed in recorder.of(PoolClosed)) == {
        "postgres": 1,
        "redis": 1,
    }
    assert {(fact.backend, fact.state) for fact in recorder.of(StateChanged)} == {
        ("postgres", "live"),
        ("postgres", "closed"),
        ("redis", "live"),
        ("redis", "closed"),
    }
    assert Counter(probe.backend for probe in recorder.of(Probed)) == {"postgres": 2, "redis": 2}


async def test_a_slow_statement_is_logged_with_its_operation_though_nobody_observes(make_factory):
    structlog.configure()
    with capture_logs() as entries:
        async with make_factory(slow_query_threshold_ms=0.001) as factory:
            entries.clear()
            await factory.get_test_results_repository().calculate_pass_rate(SECRET)
            await factory.get_test_runs_repository().get_by_id(SECRET)
            await factory.get_cache_repository().get(SECRET)
            slow = [entry for entry in entries if entry["event"] == "statement_was_slow"]

    assert [(entry["log_level"], entry["operation"], entry["backend"]) for entry in slow] == [
        ("warning", "test_results.calculate_pass_rate", "postgres"),
        ("warning", "test_runs.get_by_id", "postgres"),
        ("warning", "cache.get", "redis"),
    ]
    assert SECRET not in str(slow)
