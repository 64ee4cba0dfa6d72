"""What every test starts from, and every observer that the package ships."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from time import monotonic, thread_time

import pytest
import structlog
from hypothesis import HealthCheck, settings
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

SETTINGS = "TEST_COORDINATOR_ADAPTER_"
TICK = 0.01

# The same examples in every run, and no verdict on how busy the machine is.
settings.register_profile(
    "same",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# `pytest --hypothesis-profile=deep` looks for what a hundred examples do not find.
settings.register_profile(
    "deep", settings.get_profile("same"), derandomize=False, max_examples=3000
)
settings.load_profile("same")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """What ``-n auto`` means: a third of the time nothing is computed, but waited for a server."""
    return max(2, len(os.sched_getaffinity(0)) * 3 // 2)


@pytest.fixture(autouse=True, scope="session")
def _no_settings_from_outside() -> Iterator[None]:
    """What is set for the service, libpq or rich decides nothing; which servers to use does."""
    with pytest.MonkeyPatch.context() as environment:
        for name in list(os.environ):
            ours = name.upper().startswith(SETTINGS) and not name.startswith(f"{SETTINGS}TEST_")
            if ours or name.startswith(("PG", "FORCE_COLOR", "TTY_")):
                environment.delenv(name)
        yield


@pytest.fixture(autouse=True)
def _nobody_has_configured_structlog() -> Iterator[None]:
    """What a test configures, `capture_logs` included, is gone with it."""
    yield
    structlog.reset_defaults()


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port of this machine where nobody listens and, while the test lasts, nobody can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
async def stopwatch() -> AsyncIterator[Callable[[], float]]:
    """The seconds that this test's event loop has had, for bounds on how long a call may take.

    While a busy machine lets the loop wait its turn, this clock stands still; what the loop
    itself spends or waits for counts in full.
    """
    had = 0.0

    async def run() -> None:
        nonlocal had
        while True:
            began, worked = monotonic(), thread_time()
            await asyncio.sleep(TICK)
            had += min(monotonic() - began, 2 * TICK + thread_time() - worked)

    running = asyncio.create_task(run())
    yield lambda: had
    running.cancel()
    await asyncio.wait([running])


@pytest.fixture
def outcome(
    stopwatch: Callable[[], float],
) -> Callable[[Awaitable[object]], Awaitable[tuple[object, float]]]:
    """Awaits a call; gives what it ended with, error or not, and its seconds by the stopwatch."""

    async def outcome(call: Awaitable[object]) -> tuple[object, float]:
        began = stopwatch()
        try:
            answer: object = await call
        except Exception as error:  # noqa: BLE001 - which one it is, is the question
            answer = error
        return answer, stopwatch() - began

    return outcome


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
    """All of them, for one test."""
    yield from watched_by_every_observer()


@pytest.fixture(scope="module")
def every_observer_for_long() -> Iterator[list[Observer]]:
    """All of them, for the tests of a module."""
    yield from watched_by_every_observer()


def watched_by_every_observer() -> Iterator[list[Observer]]:
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
