from __future__ import annotations

from dataclasses import replace
from weakref import ref

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, ScopeMetrics
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from test_coordinator_data_adapter.adapters.stub import StubTestResultsRepository
from test_coordinator_data_adapter.errors import DuplicateError, InvalidValueError, UnavailableError
from test_coordinator_data_adapter.observability import (
    BatchSent,
    CacheUsed,
    Operation,
    OperationEnded,
    OperationStarted,
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
OWN = "test_coordinator_adapter."
SCHEMA = "https://opentelemetry.io/schemas/1.33.0"


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


def scopes(reader: InMemoryMetricReader) -> list[ScopeMetrics]:
    data = reader.get_metrics_data()
    resources = [] if data is None else data.resource_metrics
    return [scope for resource in resources for scope in resource.scope_metrics]


def measured(reader: InMemoryMetricReader) -> dict[str, list]:
    """Name of every metric, and its data points."""
    return {
        metric.name: list(metric.data.data_points)
        for scope in scopes(reader)
        for metric in scope.metrics
    }


def tell_everything(observer: OpenTelemetryObserver) -> None:
    """Tell of something of each kind."""
    operation = Operation("test_results", "find", "postgres")
    for fact in (
        OperationStarted(operation),
        TripEnded(replace(SELECT, retries=2, timed_out=True), POSTGRES, operation),
        OperationEnded(operation, 0.5, None, None, 7),
        StateChanged("redis", "live", "closed"),
        Probed("redis", 0.1, UnavailableError("gone")),
        BatchSent("redis", "cache.get", 17),
        CacheUsed("reads", "test_run", hits=3, misses=2, loads=1, stale_drops=4),
        PoolOpened("postgres", lambda: PoolUse(size=10, limit=30, open=6, in_use=4, waiting=1)),
    ):
        observer.notice(fact)


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
    (wait,) = measured(reader)["db.client.connection.wait_time"]
    assert wait.attributes == {f"{OWN}backend": "postgres"}
    assert wait.sum == pytest.approx(0.01)


def test_what_is_told_says_by_which_conventions(observer, exporter, reader):
    tell_everything(observer)

    told = [span.instrumentation_scope for span in exporter.get_finished_spans()]
    told += [scope.scope for scope in scopes(reader)]
    assert {(scope.name, scope.schema_url) for scope in told} == {
        ("test_coordinator_data_adapter", SCHEMA)
    }


def test_every_metric_says_what_it_counts(observer, reader):
    tell_everything(observer)

    units = {metric.name: metric.unit for scope in scopes(reader) for metric in scope.metrics}
    assert units == {
        "db.client.operation.duration": "s",
        "db.client.connection.wait_time": "s",
        "db.client.connection.count": "{connection}",
        "db.client.connection.max": "{connection}",
        "db.client.connection.pending_requests": "{request}",
        f"{OWN}operation.duration": "s",
        f"{OWN}batch.calls": "{call}",
        f"{OWN}rows": "{row}",
        f"{OWN}retries": "{retry}",
        f"{OWN}timeouts": "{timeout}",
        f"{OWN}cache.keys": "{key}",
        f"{OWN}backend.transitions": "{transition}",
        f"{OWN}backend.probes": "{probe}",
        f"{OWN}backend.state": "",
    }


def test_a_call_is_described_and_takes_its_time(observer, exporter, reader):
    tell_everything(observer)

    (call,) = [one for one in exporter.get_finished_spans() if one.name == "test_results.find"]
    told = measured(reader)
    (duration,) = told[f"{OWN}operation.duration"]
    (rows,) = told[f"{OWN}rows"]
    assert call.attributes == {
        f"{OWN}port": "test_results",
        f"{OWN}method": "find",
        f"{OWN}backend": "postgres",
    }
    assert duration.attributes == call.attributes
    assert (duration.count, duration.sum) == (1, 0.5)
    assert rows.attributes == {**call.attributes, f"{OWN}direction": "out"}


@pytest.mark.parametrize("error", [None, DuplicateError("taken")])
def test_of_a_call_that_ended_nothing_is_kept(observer, error):
    class Mortal(Operation):
        """One whose end can be seen."""

    operation = Mortal("test_results", "find", "postgres")
    left = ref(operation)

    observer.notice(OperationStarted(operation))
    observer.notice(TripEnded(SELECT, POSTGRES, operation))
    observer.notice(OperationEnded(operation, 0.5, error, None, None))
    del operation

    assert left() is None


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
    (duration,) = measured(reader)[f"{OWN}operation.duration"]
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.attributes["error.type"] == "InvalidValueError"
    assert duration.attributes == span.attributes


async def test_rows_are_counted(observer, reader):
    repository = Watch([observer], EventLog()).repository(StubTestResultsRepository(), "stub")

    await repository.bulk_create([a_test_result() for _ in range(3)])

    rows = measured(reader)[f"{OWN}rows"]
    assert {point.attributes[f"{OWN}direction"]: point.value for point in rows} == {
        "in": 3,
        "out": 3,
    }


def test_pools_are_observed_while_they_are_open(observer, reader):
    observer.notice(
        PoolOpened("postgres", lambda: PoolUse(size=10, limit=30, open=6, in_use=4, waiting=1))
    )

    told = measured(reader)
    observer.notice(PoolClosed("postgres"))
    afterwards = measured(reader)

    pool = {"db.client.connection.pool.name": f"{OWN}postgres"}
    assert {
        point.attributes["db.client.connection.state"]: (point.value, dict(point.attributes))
        for point in told["db.client.connection.count"]
    } == {
        state: (value, {**pool, "db.client.connection.state": state})
        for state, value in (("used", 4), ("idle", 2))
    }
    for name, value in (("max", 30), ("pending_requests", 1)):
        (point,) = told[f"db.client.connection.{name}"]
        assert (point.value, point.attributes) == (value, pool)
    assert "db.client.connection.count" not in afterwards


def test_states_probes_batches_caches_retries_and_timeouts_are_measured(observer, reader):
    tell_everything(observer)

    told = measured(reader)
    redis, postgres = {f"{OWN}backend": "redis"}, {f"{OWN}backend": "postgres"}
    states = {point.attributes[f"{OWN}state"]: point for point in told[f"{OWN}backend.state"]}
    assert {state: point.value for state, point in states.items()} == {
        "live": 1,
        "lost": 0,
        "unavailable": 0,
        "misconfigured": 0,
        "closed": 0,
    }
    assert states["live"].attributes == {**redis, f"{OWN}state": "live"}
    reads = {f"{OWN}cache": "reads", f"{OWN}cache.kind": "test_run"}
    assert [(point.value, point.attributes) for point in told[f"{OWN}cache.keys"]] == [
        (value, {**reads, f"{OWN}cache.result": result})
        for result, value in (("hit", 3), ("miss", 2), ("load", 1), ("stale", 4))
    ]
    for name, value, attributes in (
        ("backend.transitions", 1, {**redis, f"{OWN}state": "live"}),
        ("backend.probes", 1, {**redis, f"{OWN}outcome": "UnavailableError"}),
        ("retries", 2, postgres),
        ("timeouts", 1, postgres),
    ):
        (point,) = told[OWN + name]
        assert (point.value, point.attributes) == (value, attributes)
    (batch,) = told[f"{OWN}batch.calls"]
    assert (batch.sum, batch.attributes) == (17, {**redis, f"{OWN}operation": "cache.get"})
