"""What every test starts from, and every observer that the package ships."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from test_coordinator_data_adapter.observability import (
    Fact,
    Observer,
    Operation,
    OperationEnded,
    OperationStarted,
)
from test_coordinator_data_adapter.observability.otel import OpenTelemetryObserver
from test_coordinator_data_adapter.observability.prometheus import PrometheusObserver

# `pytest --hypothesis-profile=deep` looks for what a hundred examples do not find.
settings.register_profile("deep", max_examples=3000)


@pytest.fixture(autouse=True)
def _nobody_has_configured_structlog() -> Iterator[None]:
    """What a test configures, `capture_logs` included, is gone with it."""
    yield
    structlog.reset_defaults()


class Balance:
    """Holds every operation that began to its end."""

    def __init__(self) -> None:
        self.open: set[Operation] = set()
        self.ended = 0

    def notice(self, fact: Fact, /) -> None:
        if isinstance(fact, OperationStarted):
            self.open.add(fact.operation)
        elif isinstance(fact, OperationEnded):
            self.open.remove(fact.operation)
            self.ended += 1


class Unbroken:
    """Fails the test in which an observer raises."""

    def __init__(self, observer) -> None:
        self.notice = self._noticing(observer)
        self.failures: list[Exception] = []

    def _noticing(self, observer):
        def notice(fact: Fact, /) -> None:
            try:
                observer.notice(fact)
            except Exception as failure:  # noqa: BLE001 - whatever it raises is what is looked for
                self.failures.append(failure)

        return notice


@pytest.fixture
def every_observer() -> Iterator[list[Observer]]:
    """Prometheus, OpenTelemetry with exporters, and one that holds starts to ends.

    The test fails in which one of them raises, or is told of a call that never ends.
    """
    exporter = InMemorySpanExporter()
    tracers = TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    balance = Balance()
    observers = [
        Unbroken(PrometheusObserver(CollectorRegistry())),
        Unbroken(OpenTelemetryObserver(tracer_provider=tracers, meter_provider=meters)),
        Unbroken(balance),
    ]
    yield [*observers]
    meters.shutdown()
    tracers.shutdown()
    assert [failure for observer in observers for failure in observer.failures] == []
    assert balance.open == set()
    calls = [span for span in exporter.get_finished_spans() if span.kind.name == "INTERNAL"]
    assert len(calls) == balance.ended
