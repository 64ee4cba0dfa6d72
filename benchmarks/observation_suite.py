"""What it costs that somebody looks on: a call in memory, and a read by primary key."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from contextvars import ContextVar
from functools import partial
from statistics import median
from time import perf_counter

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from benchmarks.measuring import Operation, Outcome, Target, measure, repeated
from benchmarks.placement import kept_on, placements, server_processes
from benchmarks.report import Figure, Report
from benchmarks.stage import SMALL, Stage, stored_id
from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
from test_coordinator_data_adapter.adapters.stub import StubTestResultsRepository
from test_coordinator_data_adapter.observability import Fact, Observer
from test_coordinator_data_adapter.observability.otel import OpenTelemetryObserver
from test_coordinator_data_adapter.observability.prometheus import PrometheusObserver
from test_coordinator_data_adapter.testing.builders import a_test_result

MOST_WITHOUT_OBSERVERS_SECONDS = 0.5e-6

_BARE = "the class itself"
_NOBODY = "nobody observes"
_NOBODY_AGAIN = "nobody observes, once more"
_TIMED = "nobody observes; a context variable and the clock around every call"
_PROMETHEUS = "Prometheus"

_Read = Callable[[str], Awaitable[object]]


class _Nothing:
    """An observer that does nothing with the facts it is told."""

    def notice(self, fact: Fact, /) -> None:
        """Take no note."""


def _observers() -> dict[str, Sequence[Observer]]:
    return {
        _NOBODY: [],
        _NOBODY_AGAIN: [],
        "an observer that does nothing": [_Nothing()],
        _PROMETHEUS: [PrometheusObserver(CollectorRegistry())],
        "OpenTelemetry, its SDK without exporters": [
            OpenTelemetryObserver(
                tracer_provider=TracerProvider(shutdown_on_exit=False),
                meter_provider=MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False),
            )
        ],
    }


async def measurements(stage: Stage, report: Report) -> AsyncGenerator[Outcome | Figure]:
    """Measure one thing after the other."""
    report.facts.update(await stage.facts())
    report.facts["rounds"] = str(_rounds(stage))
    report.facts["results stored"] = f"{stage.scale.rows:,}"
    in_memory = await _in_memory(stage)
    yield in_memory
    pairs = zip(in_memory.seconds[_NOBODY], in_memory.seconds[_BARE], strict=True)
    more = median(one - other for one, other in pairs)
    yield Figure(
        f"{in_memory.name}: a factory without observers, and the class itself",
        f"≤ {MOST_WITHOUT_OBSERVERS_SECONDS * 1e6:g} µs more",
        f"{more * 1e6:+.2f} µs",
        more <= MOST_WITHOUT_OBSERVERS_SECONDS,
    )
    async for one in _by_primary_key(stage):
        yield one


def _rounds(stage: Stage) -> int:
    # A few microseconds are to be told apart.
    return 3 * stage.scale.rounds


async def _in_memory(stage: Stage) -> Outcome:
    bare = StubTestResultsRepository()
    stored = await bare.create(a_test_result())
    async with AsyncExitStack() as opened:
        reads: dict[str, _Read] = {_BARE: bare.get_by_id}
        for name, observers in _observers().items():
            factory = AdapterFactory(AdapterConfig(in_memory=True), observers=observers)
            await opened.enter_async_context(factory)
            results = factory.get_test_results_repository()
            await results.create(stored)
            reads[name] = results.get_by_id
        reads[_TIMED] = _timed(reads[_NOBODY_AGAIN])
        calls = 100 * stage.scale.calls
        return await measure(
            Operation(
                "get_by_id in memory",
                _BARE,
                {
                    name: repeated(partial(read, stored.result_id), calls)
                    for name, read in reads.items()
                },
            ),
            _rounds(stage),
        )


async def _by_primary_key(stage: Stage) -> AsyncGenerator[Outcome]:
    async with AsyncExitStack() as opened:
        reads: dict[str, _Read] = {}
        for name, observers in _observers().items():
            factory = await opened.enter_async_context(stage.factory(SMALL, observers))
            reads[name] = factory.get_test_results_repository().get_by_id
            await reads[name](stored_id(0))
        reads[_TIMED] = _timed(reads[_NOBODY_AGAIN])
        servers = await server_processes(stage)
        samples = {
            name: repeated(partial(_read_any, stage, read), 5 * stage.scale.calls)
            for name, read in reads.items()
        }
        target = Target(1.05, _NOBODY, whom=_PROMETHEUS)
        for ours, theirs, where in placements():
            with kept_on(ours, theirs, servers):
                operation = Operation(
                    f"get_by_id from PostgreSQL, {where}", _NOBODY, samples, (target,)
                )
                yield await measure(operation, _rounds(stage))


def _timed(read: _Read) -> _Read:
    """What whoever tells calls apart and times them cannot do without."""
    running: ContextVar[_Read | None] = ContextVar("running", default=None)
    taken = 0.0

    async def timed(id_: str) -> object:
        nonlocal taken
        token = running.set(read)
        began = perf_counter()
        try:
            return await read(id_)
        finally:
            taken += perf_counter() - began
            running.reset(token)

    return timed


def _read_any(stage: Stage, read: _Read) -> Awaitable[object]:
    return read(stored_id(random.randrange(stage.scale.rows)))
