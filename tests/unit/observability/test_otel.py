from dataclasses import replace

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from test_coordinator_data_adapter.adapters.stub import StubTestResultsRepository
from test_coordinator_data_adapter.errors import DuplicateError, InvalidValueError, UnavailableError
from test_coordinator_data_adapter.observability import (
    BatchSent,
    CacheUsed,
    Place,
    PoolClosed,
    PoolOpened,
    PoolUse,
    Probed,
    StateChanged,
    Trip,
    TripEnded,
)
from test_coordinator_data_adapter.observability.otel import OpenTelemetryObserver
from test_coordinator_data_adapter.observability.watch import Watch
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.testing.builders import a_test_result

POSTGRES = Place("postgres", "trading|chaos", "db.example")
SELECT = Trip("SELECT * FROM test_results WHERE result_id = $1", "test_result", 0.01, 0.25, 1)
SECRET = "s3cret-id"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer_provider(exporter):
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def reader() -> InMemoryMetricReader:
    return InMemoryMetricReader()


@pytest.fixture
def meter_provider(reader):
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider
    provider.shutdown()


@pytest.fixture
def observer(tracer_provider, meter_provider) -> OpenTelemetryObserver:
    return OpenTelemetryObserver(tracer_provider=tracer_provider, meter_provider=meter_provider)


def measured(reader: InMemoryMetricReader) -> dict[str, list]:
    """Name of every metric, and its data points."""
    data = reader.get_metrics_data()
    if data is None:
        return {}
    return {
        metric.name: list(metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


class Travelling(StubTestResultsRepository):
    def __init__(self, on_trip, *trips: Trip) -> None:
        super().__init__()
        self._on_trip = on_trip
        self._trips = trips

    async def get_by_id(self, result_id):
        for trip in self._trips:
            self._on_trip(trip)
        if self._trips[-1].error is not None:
            raise self._trips[-1].error


async def test_a_call_is_a_span_and_each_of_its_trips_a_client_span_within(
    observer, exporter, tracer_provider
):
    watch = Watch([observer], EventLog())
    repository = watch.repository(
        Travelling(watch.hooks(POSTGRES).on_trip, SELECT, SELECT), "postgres"
    )

    with tracer_provider.get_tracer("service").start_as_current_span("request") as request:
        await repository.get_by_id(SECRET)

    first, second, call, outer = exporter.get_finished_spans()
    assert outer.name == "request"
    assert call.name == "test_results.get_by_id"
    assert call.kind is trace.SpanKind.INTERNAL
    assert call.parent.span_id == request.get_span_context().span_id
    for trip in (first, second):
        assert trip.kind is trace.SpanKind.CLIENT
        assert trip.parent.span_id == call.context.span_id
        assert trip.context.trace_id == outer.context.trace_id
        assert trip.end_time - trip.start_time == 250_000_000
        assert trip.status.is_unset
    assert SECRET not in "".join(span.to_json() for span in exporter.get_finished_spans())


async def test_a_trip_is_described_by_the_conventions(observer, exporter, reader):
    observer.notice(TripEnded(SELECT, replace(POSTGRES, port=6543), None))

    (span,) = exporter.get_finished_spans()
    described = {
        "db.system.name": "postgresql",
        "db.operation.name": "SELECT",
        "db.collection.name": "test_results",
        "db.namespace": "trading|chaos",
        "server.address": "db.example",
        "server.port": 6543,
    }
    assert span.name == "SELECT test_results"
    assert span.parent is None
    assert span.attributes == described | {"db.query.text": SELECT.command}
    (duration,) = measured(reader)["db.client.operation.duration"]
    assert duration.attributes == described
    assert duration.count == 1
    assert duration.sum == pytest.approx(0.25)
    assert duration.explicit_bounds == (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)


@pytest.mark.parametrize(
    ("trip", "name", "size"),
    [
        (Trip("GET", "cache_key", 0.0, 0.1, 1), "GET", None),
        (Trip("SET", "cache_key", 0.0, 0.1, 100), "SET", 100),
        (Trip("UNLINK SCAN", "cache_key", 0.0, 0.1, 2), "PIPELINE", 2),
    ],
)
def test_commands_of_redis_are_described_by_the_conventions(observer, exporter, trip, name, size):
    observer.notice(TripEnded(trip, Place("redis", "0", "cache.example"), None))

    (span,) = exporter.get_finished_spans()
    expected = {
        "db.system.name": "redis",
        "db.operation.name": name,
        "db.namespace": "0",
        "server.address": "cache.example",
    }
    assert span.name == name
    assert span.attributes == expected | ({} if size is None else {"db.operation.batch.size": size})


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        ({"error": UnavailableError(SECRET)}, {"error.type": "UnavailableError"}),
        (
            {"error": DuplicateError(SECRET, sqlstate="23505")},
            {"error.type": "23505", "db.response.status_code": "23505"},
        ),
        ({"abandoned": True}, {"error.type": "CancelledError"}),
    ],
)
def test_a_failed_trip_says_what_kind_of_failure_and_nothing_else(
    observer, exporter, reader, failure, expected
):
    observer.notice(TripEnded(replace(SELECT, **failure), POSTGRES, None))

    (span,) = exporter.get_finished_spans()
    (duration,) = measured(reader)["db.client.operation.duration"]
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description is None
    assert expected.items() <= dict(span.attributes).items()
    assert expected.items() <= dict(duration.attributes).items()
    assert not span.events
    assert SECRET not in span.to_json()


async def test_a_failed_call_is_a_failed_span(observer, exporter, reader):
    repository = Watch([observer], EventLog()).repository(StubTestResultsRepository(), "stub")

    with pytest.raises(InvalidValueError):
        await repository.get_by_id("")

    (span,) = exporter.get_finished_spans()
    (duration,) = measured(reader)["test_coordinator_adapter.operation.duration"]
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes["error.type"] == "InvalidValueError"
    assert duration.attributes == span.attributes


async def test_rows_are_counted(observer, reader):
    repository = Watch([observer], EventLog()).repository(StubTestResultsRepository(), "stub")

    await repository.bulk_create([a_test_result() for _ in range(3)])

    rows = measured(reader)["test_coordinator_adapter.rows"]
    assert {
        point.attributes["test_coordinator_adapter.direction"]: point.value for point in rows
    } == {
        "in": 3,
        "out": 3,
    }


def test_pools_are_observed_while_they_are_open(observer, reader):
    observer.notice(PoolOpened("postgres", lambda: PoolUse(30, in_use=4, idle=2, waiting=1)))

    told = measured(reader)
    observer.notice(PoolClosed("postgres"))
    afterwards = measured(reader)

    assert {
        point.attributes["db.client.connection.state"]: point.value
        for point in told["db.client.connection.count"]
    } == {"used": 4, "idle": 2}
    assert [point.value for point in told["db.client.connection.max"]] == [30]
    assert [point.value for point in told["db.client.connection.pending_requests"]] == [1]
    assert "db.client.connection.count" not in afterwards


def test_states_probes_batches_caches_retries_and_timeouts_are_measured(observer, reader):
    for fact in (
        StateChanged("redis", "live", "closed"),
        Probed("redis", 0.1, UnavailableError("gone")),
        BatchSent("redis", "cache.get", 17),
        CacheUsed("reads", "test_run", hits=3, misses=2, loads=1, stale_drops=4),
        TripEnded(replace(SELECT, retries=2, timed_out=True), POSTGRES, None),
    ):
        observer.notice(fact)

    told = measured(reader)
    own = "test_coordinator_adapter."
    assert {
        point.attributes[f"{own}state"]: point.value for point in told[f"{own}backend.state"]
    } == {"live": 1, "lost": 0, "unavailable": 0, "misconfigured": 0, "closed": 0}
    assert {
        point.attributes[f"{own}cache.result"]: point.value for point in told[f"{own}cache.keys"]
    } == {"hit": 3, "miss": 2, "load": 1, "stale": 4}
    assert [point.value for point in told[f"{own}backend.transitions"]] == [1]
    assert [point.attributes[f"{own}outcome"] for point in told[f"{own}backend.probes"]] == [
        "UnavailableError"
    ]
    assert [point.sum for point in told[f"{own}batch.calls"]] == [17]
    assert [point.value for point in told[f"{own}retries"]] == [2]
    assert [point.value for point in told[f"{own}timeouts"]] == [1]
