"""Everything there is to observe as OpenTelemetry spans and metrics; needs the extra `otel`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Final, TypeAlias

try:
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, Observation
except ModuleNotFoundError as missing:
    missing.add_note("Install it: pip install 'test-coordinator-data-adapter[otel]'")
    raise

from test_coordinator_data_adapter.observability.facts import (
    STATES,
    BatchSent,
    CacheUsed,
    Fact,
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
    outcome_of,
)

if TYPE_CHECKING:
    from opentelemetry.trace import Span
    from opentelemetry.util.types import AttributeValue

__all__ = ["OpenTelemetryObserver"]

_SCHEMA: Final = "https://opentelemetry.io/schemas/1.33.0"
_SCOPE: Final = "test_coordinator_data_adapter"
_OWN: Final = "test_coordinator_adapter"
_SYSTEMS: Final = {"postgres": "postgresql", "redis": "redis"}
_SECONDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
_CALLS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_FAILED: Final = trace.Status(trace.StatusCode.ERROR)

_Attributes: TypeAlias = "dict[str, AttributeValue]"


class OpenTelemetryObserver:
    """Traces and measures what it is told, by the semantic conventions for databases.

    Every call of a repository is a span, every trip to a backend a client span within it. A trip
    that several calls share is within the span of the first one that waited for it. Attributes
    hold names of methods, commands, tables and errors and the constant text of statements; never
    a parameter, an id, a key or an error message. ``error.type`` is the SQLSTATE where there is
    one, else the name of the error. ``db.namespace`` is what the connections were opened with.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        """Make the instruments.

        Args:
            tracer_provider: makes the tracer; None: the global one.
            meter_provider: makes the meter; None: the global one.
        """
        release = version("test-coordinator-data-adapter")
        self._tracer = trace.get_tracer(_SCOPE, release, tracer_provider, _SCHEMA)
        self._spans: dict[Operation, Span] = {}
        self._pools: dict[str, Callable[[], PoolUse]] = {}
        self._states: dict[str, str] = {}
        meter = metrics.get_meter(_SCOPE, release, meter_provider, _SCHEMA)
        self._trip_seconds = meter.create_histogram(
            "db.client.operation.duration",
            "s",
            "Duration of database client operations.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._wait_seconds = meter.create_histogram(
            "db.client.connection.wait_time",
            "s",
            "How long trips waited for a connection.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._operation_seconds = meter.create_histogram(
            f"{_OWN}.operation.duration",
            "s",
            "How long calls of repository methods took.",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._batch_calls = meter.create_histogram(
            f"{_OWN}.batch.calls",
            "{call}",
            "Calls that shared a trip.",
            explicit_bucket_boundaries_advisory=_CALLS,
        )
        self._rows = meter.create_counter(
            f"{_OWN}.rows", "{row}", "Items given to bulk calls and answered by list calls."
        )
        self._retries = meter.create_counter(
            f"{_OWN}.retries", "{retry}", "How often what had failed was sent again."
        )
        self._timeouts = meter.create_counter(
            f"{_OWN}.timeouts", "{timeout}", "Trips that a deadline ended."
        )
        self._cache_keys = meter.create_counter(
            f"{_OWN}.cache.keys", "{key}", "Keys a cache had, had not, loaded or dropped as stale."
        )
        self._transitions = meter.create_counter(
            f"{_OWN}.backend.transitions", "{transition}", "Changes of a backend's state."
        )
        self._probes = meter.create_counter(
            f"{_OWN}.backend.probes", "{probe}", "Attempts to open a backend or ask how it is."
        )
        meter.create_observable_gauge(
            f"{_OWN}.backend.state",
            [self._observe_states],
            description="1 for the state the backend is in, 0 for others.",
        )
        for name, unit, read in (
            ("db.client.connection.count", "{connection}", _connections),
            ("db.client.connection.max", "{connection}", _limit),
            ("db.client.connection.pending_requests", "{request}", _waiting),
        ):
            meter.create_observable_up_down_counter(name, [self._observing(read)], unit)

    def notice(self, fact: Fact, /) -> None:
        """Record it."""
        match fact:
            case OperationStarted(operation):
                self._spans[operation] = self._tracer.start_span(
                    operation.name, attributes=_operation_attributes(operation)
                )
            case TripEnded():
                self._end_trip(fact)
            case OperationEnded():
                self._end_operation(fact)
            case CacheUsed():
                self._count_cache(fact)
            case BatchSent(backend, operation, calls):
                self._batch_calls.record(calls, _backend(backend, operation=operation))
            case Probed(backend, _, error):
                self._probes.add(1, _backend(backend, outcome=outcome_of(error)))
            case StateChanged(backend, state):
                self._states[backend] = state
                self._transitions.add(1, _backend(backend, state=state))
            case PoolOpened(backend, use):
                self._pools[backend] = use
            case PoolClosed(backend):
                self._pools.pop(backend, None)
            case _:
                pass

    def _end_operation(self, ended: OperationEnded) -> None:
        operation = ended.operation
        attributes = _operation_attributes(operation)
        for direction, rows in (("in", ended.rows_in), ("out", ended.rows_out)):
            if rows is not None:
                self._rows.add(rows, {**attributes, f"{_OWN}.direction": direction})
        span = self._spans.pop(operation, None)
        if ended.error is not None:
            attributes["error.type"] = ended.outcome
        self._operation_seconds.record(ended.took, attributes)
        if span is not None:
            if ended.error is not None:
                span.set_attribute("error.type", ended.outcome)
                span.set_status(_FAILED)
            span.end()

    def _end_trip(self, ended: TripEnded) -> None:
        trip, place, operation = ended.trip, ended.place, ended.operation
        now = time.time_ns()
        attributes = _trip_attributes(place, ended.command, trip.entity)
        failure = _error_type(trip)
        if failure is not None:
            attributes["error.type"] = failure
        if trip.error is not None and trip.error.sqlstate is not None:
            attributes["db.response.status_code"] = trip.error.sqlstate
        self._trip_seconds.record(trip.took, attributes)
        backend = _backend(place.backend)
        self._wait_seconds.record(trip.waited, backend)
        if trip.retries:
            self._retries.add(trip.retries, backend)
        if trip.timed_out:
            self._timeouts.add(1, backend)
        parent = None if operation is None else self._spans.get(operation)
        # What was recorded above keeps the dictionary it was given.
        attributes = dict(attributes)
        if place.backend == "postgres":
            attributes["db.query.text"] = trip.command
        elif trip.rows > 1:
            attributes["db.operation.batch.size"] = trip.rows
        span = self._tracer.start_span(
            _span_name(place, ended.command, trip.entity),
            None if parent is None else trace.set_span_in_context(parent),
            trace.SpanKind.CLIENT,
            attributes,
            start_time=now - int(trip.took * 1e9),
        )
        if failure is not None:
            span.set_status(_FAILED)
        span.end(now)

    def _count_cache(self, use: CacheUsed) -> None:
        told = {"hit": use.hits, "miss": use.misses, "load": use.loads, "stale": use.stale_drops}
        for result, keys in told.items():
            if keys:
                attributes: _Attributes = {
                    f"{_OWN}.cache": use.cache,
                    f"{_OWN}.cache.result": result,
                }
                if use.kind is not None:
                    attributes[f"{_OWN}.cache.kind"] = use.kind
                self._cache_keys.add(keys, attributes)

    def _observe_states(self, _options: CallbackOptions) -> Iterable[Observation]:
        # A reader may ask from a thread of its own.
        for backend, state in list(self._states.items()):
            for known in STATES:
                yield Observation(int(known == state), _backend(backend, state=known))

    def _observing(
        self, read: Callable[[PoolUse], dict[str, int]]
    ) -> Callable[[CallbackOptions], Iterable[Observation]]:
        def observe(_options: CallbackOptions) -> Iterable[Observation]:
            for backend, use in list(self._pools.items()):
                for state, connections in read(use()).items():
                    attributes: _Attributes = {
                        "db.client.connection.pool.name": f"{_OWN}.{backend}"
                    }
                    if state:
                        attributes["db.client.connection.state"] = state
                    yield Observation(connections, attributes)

        return observe


def _connections(use: PoolUse) -> dict[str, int]:
    return {"used": use.in_use, "idle": use.idle}


def _limit(use: PoolUse) -> dict[str, int]:
    return {"": use.limit}


def _waiting(use: PoolUse) -> dict[str, int]:
    return {"": use.waiting}


def _operation_attributes(operation: Operation) -> _Attributes:
    return {
        f"{_OWN}.port": operation.port,
        f"{_OWN}.method": operation.method,
        f"{_OWN}.backend": operation.backend,
    }


def _backend(backend: str, **more: str | None) -> _Attributes:
    attributes: _Attributes = {f"{_OWN}.backend": backend}
    for name, value in more.items():
        if value is not None:
            attributes[f"{_OWN}.{name}"] = value
    return attributes


def _trip_attributes(place: Place, command: str, entity: str | None) -> _Attributes:
    attributes: _Attributes = {
        "db.system.name": _SYSTEMS.get(place.backend, place.backend),
        "db.operation.name": command,
    }
    collection = _collection(place.backend, entity)
    if collection is not None:
        attributes["db.collection.name"] = collection
    if place.namespace is not None:
        attributes["db.namespace"] = place.namespace
    if place.address is not None:
        attributes["server.address"] = place.address
    if place.port is not None:
        attributes["server.port"] = place.port
    return attributes


@lru_cache(maxsize=128)
def _collection(backend: str, entity: str | None) -> str | None:
    return f"{entity}s" if backend == "postgres" and entity is not None else None


def _span_name(place: Place, command: str, entity: str | None) -> str:
    collection = _collection(place.backend, entity)
    return command if collection is None else f"{command} {collection}"


def _error_type(trip: Trip) -> str | None:
    if trip.error is not None:
        return trip.error.sqlstate or outcome_of(trip.error)
    return "CancelledError" if trip.abandoned else None
