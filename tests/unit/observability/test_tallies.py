import asyncio

import pytest

from test_coordinator_data_adapter.adapters.stub import (
    StubCacheRepository,
    StubTestResultsRepository,
)
from test_coordinator_data_adapter.errors import DuplicateError, InvalidValueError
from test_coordinator_data_adapter.interfaces import TestResultQuery
from test_coordinator_data_adapter.observability import (
    CacheUsed,
    OperationEnded,
    OperationStarted,
    Place,
    Tally,
    current_operation,
)
from test_coordinator_data_adapter.observability.watch import Watch
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.testing.builders import a_test_result

PLACE = Place("postgres", "db|schema", "host")


class Travelling(StubTestResultsRepository):
    """Makes one plain trip for every look at a result."""

    def __init__(self, on_plain_trip) -> None:
        super().__init__()
        self._on_plain_trip = on_plain_trip

    async def get_by_id(self, result_id):
        await asyncio.sleep(0)
        self._on_plain_trip("SELECT * FROM test_results WHERE result_id = $1", 0.25)


def taken(tallies: dict[object, Tally]) -> dict[object, int]:
    """What was counted at all, and how often."""
    return {what: sum(tally.counts) for what, tally in tallies.items() if any(tally.counts)}


async def test_an_ordinary_call_is_tallied_and_is_no_fact(tallier):
    results = Watch([tallier], EventLog()).repository(StubTestResultsRepository(), "stub")

    await results.create(a_test_result(result_id="r"))
    await results.get_by_id("r")
    await results.get_by_id("r")

    assert taken(tallier.calls) == {"test_results.create": 1, "test_results.get_by_id": 2}
    assert tallier.calls["test_results.get_by_id"].total > 0
    assert tallier.facts == []
    assert current_operation() is None


async def test_a_call_that_raises_is_a_fact(tallier):
    results = Watch([tallier], EventLog()).repository(StubTestResultsRepository(), "stub")
    await results.create(a_test_result(result_id="r"))

    with pytest.raises(DuplicateError):
        await results.create(a_test_result(result_id="r"))
    with pytest.raises(InvalidValueError):
        await results.get_by_id("")

    (duplicate, invalid) = tallier.facts
    assert (duplicate.operation.name, duplicate.outcome) == (
        "test_results.create",
        "DuplicateError",
    )
    assert (invalid.operation.name, invalid.outcome) == (
        "test_results.get_by_id",
        "InvalidValueError",
    )
    assert taken(tallier.calls) == {"test_results.create": 1}
    assert current_operation() is None


async def test_rows_and_looks_at_the_cache_are_facts_of_calls_without_ids(tallier):
    watch = Watch([tallier], EventLog())
    results = watch.repository(StubTestResultsRepository(), "stub")
    cache = watch.repository(StubCacheRepository(), "stub")

    await results.bulk_create([a_test_result(run_id="run") for _ in range(3)])
    assert len([item async for item in results.stream(TestResultQuery())]) == 3
    await cache.get("k")

    ended = tallier.of(OperationEnded)
    assert [(one.operation.name, one.rows_in, one.rows_out) for one in ended] == [
        ("test_results.bulk_create", 3, 3),
        ("test_results.stream", None, 3),
        ("cache.get", None, None),
    ]
    assert [one.operation.id for one in ended] == [None, None, None]
    assert tallier.of(CacheUsed) == [CacheUsed("cache", misses=1)]
    assert tallier.of(OperationStarted) == []
    assert taken(tallier.calls) == {}


async def test_a_trip_is_tallied_for_its_operation(tallier):
    watch = Watch([tallier], EventLog())
    on_plain_trip = watch.hooks(PLACE).on_plain_trip
    results = watch.repository(Travelling(on_plain_trip), "postgres")

    await asyncio.gather(*(results.get_by_id(name) for name in "abc"))
    on_plain_trip("BEGIN", 0.5)

    looks = ("postgres", "SELECT", "test_results.get_by_id")
    assert taken(tallier.trips) == {looks: 3, ("postgres", "BEGIN", None): 1}
    assert tallier.trips[looks].total == 0.75


def test_a_trip_that_is_logged_is_not_plain(tallier):
    assert Watch([tallier], EventLog(), slow_after=1.0).hooks(PLACE).plain_below == 1.0
    assert Watch([tallier], EventLog()).hooks(PLACE).plain_below == float("inf")


async def test_every_observer_that_tallies_does(tallier):
    other = type(tallier)()
    results = Watch([tallier, other], EventLog()).repository(StubTestResultsRepository(), "stub")

    await results.get_by_id("r")

    assert taken(tallier.calls) == taken(other.calls) == {"test_results.get_by_id": 1}


@pytest.mark.parametrize("level", ["INFO", "DEBUG"])
async def test_where_anybody_needs_facts_everybody_is_told_facts(tallier, recorder, level):
    observers = [tallier] if level == "DEBUG" else [tallier, recorder]
    watch = Watch(observers, EventLog(level))
    results = watch.repository(StubTestResultsRepository(), "stub")

    await results.get_by_id("r")

    (ended,) = tallier.of(OperationEnded)
    assert ended.operation.id == "r"
    assert taken(tallier.calls) == {}
    assert watch.hooks(PLACE).on_plain_trip is None


async def test_an_observer_without_the_promised_tallies_breaks_nothing(tallier, logs):
    class Broken(type(tallier)):
        def operation_tally(self, operation, /):
            raise RuntimeError("secret")

        def trip_tally(self, place, command, operation, /):
            raise RuntimeError("secret")

    watch = Watch([Broken(), tallier], EventLog())
    results = watch.repository(Travelling(watch.hooks(PLACE).on_plain_trip), "postgres")

    for name in "ab":
        await results.get_by_id(name)

    assert taken(tallier.calls) == {"test_results.get_by_id": 2}
    assert taken(tallier.trips) == {("postgres", "SELECT", "test_results.get_by_id"): 2}
    (entry,) = logs
    assert (entry["event"], entry["observer"]) == ("observer_failed", "Broken")
    assert "secret" not in str(entry)


async def test_a_repository_may_be_told_of_in_another_way_from_now_on(tallier, recorder):
    repository = StubTestResultsRepository()
    Watch([recorder], EventLog()).repository(repository, "stub")

    again = Watch([tallier], EventLog()).repository(repository, "stub")
    await again.get_by_id("r")

    assert again is repository
    assert taken(tallier.calls) == {"test_results.get_by_id": 1}
    assert recorder.facts == []


def test_a_tally_counts_by_how_long_it_took():
    tally = Tally([0.25, 1.0])

    for seconds in (0.125, 0.25, 0.5, 4.0):
        tally.add(seconds)

    assert tally.counts == [2, 1, 1]
    assert tally.total == 4.875
