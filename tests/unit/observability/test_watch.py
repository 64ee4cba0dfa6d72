from __future__ import annotations

import asyncio
import math

import pytest

from test_coordinator_data_adapter.adapters.stub import StubTestResultsRepository
from test_coordinator_data_adapter.errors import UnavailableError
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
from test_coordinator_data_adapter.observability.log import OperationLog
from test_coordinator_data_adapter.observability.watch import Watch
from test_coordinator_data_adapter.resilience.coalescing import Coalescer
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.resilience.observation import Hooks

PLACE = Place("postgres", "db|schema", "host")


def a_trip(**facts) -> Trip:
    told = {"command": "SELECT 1", "entity": None, "waited": 0.0, "took": 0.001, "rows": 1}
    return Trip(**told | facts)


class Travelling(StubTestResultsRepository):
    """Makes one trip for every look at a result."""

    def __init__(self, on_trip, trip: Trip) -> None:
        super().__init__()
        self._on_trip = on_trip
        self._trip = trip

    async def get_by_id(self, result_id):
        if self._on_trip is not None:
            self._on_trip(self._trip)


def test_where_nobody_looks_there_are_no_hooks():
    watch = Watch([], EventLog())

    assert watch.hooks(PLACE) == Hooks()
    assert watch.on_cache_used() is None
    assert watch.on_supervision() is None


async def test_hooks_of_backends_reach_the_observers(recorder):
    watch = Watch([recorder], EventLog())
    use = PoolUse(size=3, limit=3, open=2, in_use=1, waiting=0)
    answers: Coalescer[str, str] = Coalescer(
        lambda asked: asyncio.sleep(0, asked),
        operation="cache.get",
        on_batch=watch.hooks(Place("redis")).on_batch,
    )

    await asyncio.gather(*(answers(name) for name in "abc"))
    watch.on_supervision()(StateChanged("redis", "live", "closed"))
    watch.on_supervision()(Probed("redis", 0.1, None))
    watch.on_cache_used()(CacheUsed("reads", "test_run", loads=1))
    watch.hooks(Place("redis")).on_pool(lambda: use)
    watch.hooks(Place("redis")).on_pool(None)

    assert recorder.of(BatchSent) == [BatchSent("redis", "cache.get", 2)]
    assert recorder.of(StateChanged) == [StateChanged("redis", "live", "closed")]
    assert recorder.of(Probed) == [Probed("redis", 0.1, None)]
    assert recorder.of(CacheUsed) == [CacheUsed("reads", "test_run", loads=1)]
    assert recorder.of(PoolOpened)[0].use() == use
    assert recorder.of(PoolClosed) == [PoolClosed("redis")]


async def test_a_trip_knows_its_operation(recorder):
    watch = Watch([recorder], EventLog())
    trip = a_trip()
    results = watch.repository(Travelling(watch.hooks(PLACE).on_trip, trip), "postgres")

    await results.get_by_id("r")

    (told,), (ended,) = recorder.of(TripEnded), recorder.of(OperationEnded)
    assert told.trip is trip
    assert told.place is PLACE
    assert told.operation is ended.operation


async def test_a_trip_outside_any_operation_is_told(recorder):
    watch = Watch([recorder], EventLog())

    watch.hooks(PLACE).on_trip(a_trip())

    assert [told.operation for told in recorder.of(TripEnded)] == [None]


@pytest.mark.parametrize("observed", [True, False])
async def test_a_slow_statement_is_a_warning_with_its_operation(recorder, logs, observed):
    watch = Watch([recorder] if observed else [], EventLog(), slow_after=1.0)
    trip = a_trip(command="SELECT $1", took=1.25, waited=0.5, entity="test_result", rows=7)
    results = watch.repository(Travelling(watch.hooks(PLACE).on_trip, trip), "postgres")

    await results.get_by_id("r")

    (entry,) = [entry for entry in logs if entry["event"] == "statement_was_slow"]
    assert entry["log_level"] == "warning"
    assert entry["operation"] == "test_results.get_by_id"
    assert entry["backend"] == "postgres"
    assert entry["duration_ms"] == 1250
    assert entry["waited_ms"] == 500
    assert entry["rows"] == 7
    assert entry["statement"] == "SELECT $1"
    assert entry["abandoned"] is False


def test_a_server_that_answers_nothing_is_a_few_lines_a_minute_and_hides_no_slow_answer(logs):
    hooks = Watch([], EventLog(), slow_after=1.0).hooks(PLACE)

    for _ in range(300):
        hooks.on_trip(a_trip(took=2.0, error=UnavailableError("no answer")))
    hooks.on_trip(a_trip(took=3.0))

    slow = [entry["duration_ms"] for entry in logs if entry["event"] == "statement_was_slow"]
    assert slow == [2000] * 6 + [3000]


def test_statements_that_are_logged_at_debug_are_all_logged_when_they_are_slow(logs):
    hooks = Watch([], EventLog("DEBUG"), slow_after=1.0, statements=True).hooks(PLACE)

    for _ in range(10):
        hooks.on_trip(a_trip(took=2.0))

    assert [entry["log_level"] for entry in logs] == ["warning"] * 6 + ["debug"] * 4


@pytest.mark.parametrize(
    ("error", "event", "more"),
    [
        (None, "operation_succeeded", {}),
        (UnavailableError("gone"), "operation_failed", {"outcome": "UnavailableError"}),
    ],
)
def test_an_operation_is_logged_with_its_milliseconds_and_its_rows(logs, error, event, more):
    operation = Operation("test_results", "bulk_create", "postgres")

    OperationLog(EventLog("DEBUG")).notice(OperationEnded(operation, 1.25, error, 7, 3))

    assert logs == [
        {
            "event": event,
            "log_level": "debug",
            "port": "test_results",
            "method": "bulk_create",
            "backend": "postgres",
            "duration_ms": 1250,
            "rows_in": 7,
            "rows_out": 3,
            **more,
        }
    ]


def test_only_slow_trips_have_to_be_told_where_nobody_observes():
    assert Watch([], EventLog(), slow_after=1.0).trips_from == 1.0
    assert Watch([], EventLog("ERROR"), slow_after=1.0).trips_from == math.inf
    assert Watch([], EventLog("DEBUG"), slow_after=1.0, statements=True).trips_from == 0.0


@pytest.mark.parametrize(("slow_after", "took"), [(1.0, 0.999), (math.inf, 100.0)])
def test_a_statement_that_is_not_slow_is_not_logged(recorder, logs, slow_after, took):
    watch = Watch([recorder], EventLog(), slow_after=slow_after)

    watch.hooks(PLACE).on_trip(a_trip(took=took))

    assert logs == []


async def test_statements_are_logged_at_debug_when_asked_for(logs):
    watch = Watch([], EventLog("DEBUG"), statements=True)
    trip = a_trip(error=UnavailableError("PostgreSQL does not answer"))
    results = watch.repository(Travelling(watch.hooks(PLACE).on_trip, trip), "postgres")

    await results.get_by_id("r")

    (entry,) = [entry for entry in logs if entry["event"] == "statement_sent"]
    assert entry["log_level"] == "debug"
    assert entry["operation"] == "test_results.get_by_id"
    assert entry["error"] == "UnavailableError"
