import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
import structlog

from test_coordinator_data_adapter.adapters.stub import (
    MemoryStore,
    StubChaosEventsRepository,
    StubRetentionRepository,
    StubScenariosRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.errors import (
    ConfigurationError,
    NotFoundError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)
from test_coordinator_data_adapter.interfaces.retention import (
    OnProgress,
    RetentionPolicy,
    RetentionReport,
)
from test_coordinator_data_adapter.interfaces.scenarios import ScenariosRepository
from test_coordinator_data_adapter.models import (
    ChaosEvent,
    Scenario,
    ScenarioStatus,
    TestResult,
    TestRun,
)
from test_coordinator_data_adapter.models.values import utc_now
from test_coordinator_data_adapter.resilience.cached_reads import (
    CachedReads,
    Look,
    with_cached_reads,
    with_told_sweeps,
)
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.resilience.observation import CacheUsed
from test_coordinator_data_adapter.testing.builders import (
    a_chaos_event,
    a_scenario,
    a_test_result,
    a_test_run,
)


class ScriptedCache:
    """The meaning of a read cache in a few lines, with faults to switch on."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, str], bytes] = {}
        self.marks: set[tuple[str, str]] = set()
        self.ttls: list[int] = []
        self.announced: list[str] = []
        self.unread: set[str] = set()
        self.down = False
        self.hangs = False
        self.slow_looks: asyncio.Event | None = None
        self.slow_offers: asyncio.Event | None = None
        self.trips = 0

    async def _trip(self) -> None:
        self.trips += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.down:
            raise UnavailableError("redis does not answer")

    async def announce(self, kind: str) -> None:
        await self._trip()
        self.announced.append(kind)

    async def renew_readers(self) -> None:
        await self._trip()

    def is_unread(self, kind: str) -> bool:
        return kind in self.unread

    async def look(self, kind: str, id_: str) -> Look:
        await self._trip()
        if self.slow_looks is not None:
            await self.slow_looks.wait()
        entry = self.held.get((kind, id_))
        return Look(entry, None if entry or (kind, id_) in self.marks else "t")

    async def offer(self, kind: str, id_: str, entry: bytes, token: str, ttl: int) -> None:
        await self._trip()
        if self.slow_offers is not None:
            await self.slow_offers.wait()
        assert token == "t"
        if (kind, id_) not in self.marks:
            self.held.setdefault((kind, id_), entry)
            self.ttls.append(ttl)

    async def drop(self, kind: str, ids: Sequence[str]) -> None:
        await self._trip()
        for id_ in ids:
            self.held.pop((kind, id_), None)
            self.marks.add((kind, id_))

    async def drop_all(self, kind: str) -> None:
        await self._trip()
        self.held = {key: entry for key, entry in self.held.items() if key[0] != kind}


@dataclass
class Loads:
    number: int = 0
    after: Callable[[], Awaitable[object]] | None = None


class SlowStore(StubScenariosRepository):
    """Counts loads, and lets a test step in after the next of them."""

    def __init__(self) -> None:
        self.memory = MemoryStore()
        super().__init__(self.memory)
        self.loads = Loads()

    async def get_by_id(self, scenario_id: str) -> Scenario | None:
        self.loads.number += 1
        found = await super().get_by_id(scenario_id)
        await asyncio.sleep(0)
        if self.loads.after is not None:
            step, self.loads.after = self.loads.after, None
            await step()
        return found


class Cached:
    def __init__(self, *, answers: bool = True, patience: float = 60.0) -> None:
        self.cache = ScriptedCache()
        self.store = SlowStore()
        self.now = 100.0
        self.used: list[CacheUsed] = []
        self.reads = CachedReads(
            lambda: self.cache,
            {"scenario": 600},
            events=EventLog(),
            patience=patience,
            on_used=self.used.append,
            answers=answers,
            monotonic=lambda: self.now,
            sleep=self.sleep,
            random=lambda: 1.0,
        )
        self.repository: ScenariosRepository = with_cached_reads(self.store, Scenario, self.reads)
        self.wakes = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        """Ends when a test says so; then the time is over."""
        await self.wakes.wait()
        self.wakes.clear()
        self.now += seconds


@pytest.fixture
async def cached() -> AsyncIterator[Cached]:
    cached = Cached()
    yield cached
    await cached.reads.aclose()


@pytest.fixture
async def writer(cached: Cached) -> AsyncIterator[Cached]:
    """A process that reads nothing from the cache in which `cached` reads."""
    writer = Cached(answers=False)
    writer.cache = cached.cache
    writer.store = cached.store
    writer.repository = with_cached_reads(cached.store, Scenario, writer.reads)
    yield writer
    await writer.reads.aclose()


async def test_the_second_read_comes_from_the_cache_and_is_equal(cached: Cached) -> None:
    scenario = await cached.repository.create(a_scenario(configuration={"a": [1, 1.5, None]}))

    first = await cached.repository.get_by_id(scenario.scenario_id)
    second = await cached.repository.get_by_id(scenario.scenario_id)

    assert first == second == scenario
    assert cached.store.loads.number == 1
    assert sum(use.hits for use in cached.used) == 1
    assert sum(use.misses for use in cached.used) == 1


async def test_the_repository_stays_what_it_was_and_the_plain_one_stays_plain(
    cached: Cached,
) -> None:
    assert isinstance(cached.repository, SlowStore)

    await cached.store.get_by_id("nobody")

    assert cached.cache.trips == 0


async def test_times_to_live_are_drawn_below_the_one_given(cached: Cached) -> None:
    scenario = await cached.repository.create(a_scenario())

    await cached.repository.get_by_id(scenario.scenario_id)

    assert cached.cache.ttls == [540]


@pytest.mark.parametrize("call", ["get_by_id", "delete"])
async def test_another_threads_event_loop_is_refused_and_disturbs_nobody(
    cached: Cached, call: str
) -> None:
    scenario = await cached.store.create(a_scenario())
    id_ = scenario.scenario_id
    waiting: list[asyncio.Task[Scenario | None]] = []

    async def from_another_loop() -> None:
        async with asyncio.timeout(5):
            await getattr(cached.repository, call)(id_)

    async def meanwhile() -> None:
        with pytest.raises(ConfigurationError, match="another event loop"):
            await asyncio.to_thread(asyncio.run, from_another_loop())
        waiting.append(asyncio.create_task(cached.repository.get_by_id(id_)))
        await asyncio.sleep(0)

    cached.store.loads.after = meanwhile

    assert await cached.repository.get_by_id(id_) == scenario
    assert await asyncio.gather(*waiting) == [scenario]


async def test_what_is_not_there_is_not_remembered(cached: Cached) -> None:
    assert await cached.repository.get_by_id("later") is None

    created = await cached.repository.create(a_scenario(scenario_id="later"))

    assert await cached.repository.get_by_id("later") == created


@pytest.mark.parametrize(
    "write",
    [
        *("update", "update by name", "update_status", "update_status by name"),
        *("delete", "delete by name", "prune"),
    ],
)
async def test_every_write_of_an_id_drops_it(cached: Cached, write: str) -> None:
    scenario = await cached.repository.create(a_scenario(name="old"))
    id_ = scenario.scenario_id
    await cached.repository.get_by_id(id_)
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "update": lambda: cached.repository.update(scenario.model_copy(update={"name": "new"})),
        "update by name": lambda: cached.repository.update(
            if_unchanged_since=scenario.updated_at,
            scenario=scenario.model_copy(update={"name": "new"}),
        ),
        "update_status": lambda: cached.repository.update_status(id_, ScenarioStatus.ACTIVE),
        "update_status by name": lambda: cached.repository.update_status(
            status=ScenarioStatus.ACTIVE, scenario_id=id_
        ),
        "delete": lambda: cached.repository.delete(id_),
        "delete by name": lambda: cached.repository.delete(scenario_id=id_),
        "prune": lambda: cached.repository.prune(utc_now() + timedelta(days=1)),
    }

    await calls[write]()

    assert cached.cache.held == {}
    assert await cached.repository.get_by_id(id_) == await cached.store.get_by_id(id_)


async def test_a_reader_that_raced_with_a_write_cannot_put_the_old_value_back(
    cached: Cached,
) -> None:
    scenario = await cached.repository.create(a_scenario(name="old"))
    renamed = scenario.model_copy(update={"name": "new"})
    # Another process writes, and drops, between this one's load and its offer.
    other = with_cached_reads(
        cached.store,
        Scenario,
        CachedReads(lambda: cached.cache, {"scenario": 600}, events=EventLog()),
    )
    cached.store.loads.after = lambda: other.update(renamed)

    raced = await cached.repository.get_by_id(scenario.scenario_id)
    after = await cached.repository.get_by_id(scenario.scenario_id)

    assert raced is not None
    assert raced.name == "old"
    assert after is not None
    assert after.name == "new"


async def test_a_load_that_took_too_long_is_not_offered(cached: Cached) -> None:
    scenario = await cached.repository.create(a_scenario())

    async def time_passes() -> None:
        cached.now += 2.5

    cached.store.loads.after = time_passes
    await cached.repository.get_by_id(scenario.scenario_id)

    assert cached.cache.held == {}
    assert sum(use.stale_drops for use in cached.used) == 1


async def test_concurrent_reads_of_one_id_load_it_once(cached: Cached) -> None:
    scenario = await cached.repository.create(a_scenario())

    found = await asyncio.gather(
        *(cached.repository.get_by_id(scenario.scenario_id) for _ in range(20))
    )

    assert found == [scenario] * 20
    assert cached.store.loads.number == 1


async def turns() -> None:
    """Lets everybody go as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def reading_together(cached: Cached, id_: str) -> tuple[asyncio.Event, list[asyncio.Task]]:
    """One whose load lasts until the event, and four who asked meanwhile."""
    may_end = asyncio.Event()
    cached.store.loads.after = may_end.wait
    readers = [asyncio.create_task(cached.repository.get_by_id(id_))]
    await turns()
    readers += [asyncio.create_task(cached.repository.get_by_id(id_)) for _ in range(4)]
    await turns()
    return may_end, readers


@pytest.mark.parametrize("kept", ["nothing is there", "it was written just now"])
async def test_what_cannot_be_kept_is_loaded_once_at_a_time_too(cached: Cached, kept: str) -> None:
    stored: Scenario | None = None
    if kept == "it was written just now":
        stored = await cached.repository.create(a_scenario())
        stored = await cached.repository.update(stored)
    may_end, readers = await reading_together(cached, stored.scenario_id if stored else "nobody")

    may_end.set()
    found = await asyncio.gather(*readers)

    assert cached.store.loads.number == 2
    assert found == [stored] * 5
    assert len({id(one) for one in found}) == (5 if stored else 1)


async def test_who_shares_a_load_that_fails_is_told_so_too(cached: Cached) -> None:
    may_end, readers = await reading_together(cached, "nobody")

    async def fail() -> None:
        raise UnavailableError("the store is down")

    cached.store.loads.after = fail
    may_end.set()
    first, *others = await asyncio.gather(*readers, return_exceptions=True)

    assert first is None
    assert {type(other) for other in others} == {UnavailableError}
    assert len({id(other) for other in others}) == 4
    assert cached.store.loads.number == 2


async def test_a_cancelled_load_leaves_those_who_wait_for_it_their_answer(cached: Cached) -> None:
    scenario = await cached.repository.create(a_scenario())
    _, readers = await reading_together(cached, scenario.scenario_id)

    readers[0].cancel()
    found = await asyncio.gather(*readers, return_exceptions=True)

    assert isinstance(found[0], asyncio.CancelledError)
    assert found[1:] == [scenario] * 4


async def test_an_offer_that_is_cancelled_leaves_those_who_share_the_load_their_answer(
    cached: Cached,
) -> None:
    scenario = await cached.repository.create(a_scenario())
    cached.cache.slow_looks, cached.cache.slow_offers = asyncio.Event(), asyncio.Event()
    patient = asyncio.create_task(cached.repository.get_by_id(scenario.scenario_id))
    await turns()
    may_look, cached.cache.slow_looks = cached.cache.slow_looks, None
    loading = asyncio.create_task(cached.repository.get_by_id(scenario.scenario_id))
    await turns()
    may_look.set()
    await turns()

    loading.cancel()

    assert await patient == scenario
    assert cached.store.loads.number == 1


async def test_an_outage_means_reading_the_store_and_is_told_once(cached: Cached) -> None:
    scenario = await cached.repository.create(a_scenario())
    cached.cache.down = True

    with structlog.testing.capture_logs() as told:
        for _ in range(5):
            assert await cached.repository.get_by_id(scenario.scenario_id) == scenario

    assert [entry["event"] for entry in told] == ["cached_reads_suspended"]
    assert cached.cache.trips == 1
    assert cached.store.loads.number == 5


async def test_a_cache_that_hangs_costs_one_bounded_attempt() -> None:
    cached = Cached(patience=0.05)
    scenario = await cached.repository.create(a_scenario())
    cached.cache.hangs = True

    async with asyncio.timeout(60):
        for _ in range(3):
            assert await cached.repository.get_by_id(scenario.scenario_id) == scenario

    assert cached.cache.trips == 1


async def test_what_was_written_during_an_outage_is_dropped_before_cached_reads_resume(
    cached: Cached,
) -> None:
    scenario = await cached.repository.create(a_scenario(name="old"))
    await cached.repository.get_by_id(scenario.scenario_id)
    cached.cache.down = True

    await cached.repository.update(scenario.model_copy(update={"name": "new"}))
    during = await cached.repository.get_by_id(scenario.scenario_id)
    cached.cache.down = False
    still_pausing = await cached.repository.get_by_id(scenario.scenario_id)
    cached.now += 60.0
    after = await cached.repository.get_by_id(scenario.scenario_id)

    assert [found.name for found in (during, still_pausing, after) if found] == ["new"] * 3
    assert cached.cache.held == {}


async def test_a_prune_during_an_outage_is_made_good_too(cached: Cached) -> None:
    scenario = await cached.repository.create(a_scenario())
    await cached.repository.get_by_id(scenario.scenario_id)
    cached.cache.down = True

    await cached.repository.prune(utc_now() + timedelta(days=1))
    cached.cache.down = False
    cached.now += 60.0

    assert await cached.repository.get_by_id(scenario.scenario_id) is None


async def test_a_prune_that_fails_half_way_drops_what_it_may_have_removed(cached: Cached) -> None:
    class Busy(StubScenariosRepository):
        async def prune(self, older_than: datetime, *, batch_size: int | None = None) -> int:
            await super().prune(older_than, batch_size=batch_size)
            raise OverloadedError("no time for the second batch")

    busy = with_cached_reads(Busy(cached.store.memory), Scenario, cached.reads)
    scenario = await busy.create(a_scenario())
    await busy.get_by_id(scenario.scenario_id)

    with pytest.raises(OverloadedError):
        await busy.prune(utc_now() + timedelta(days=1))

    assert await busy.get_by_id(scenario.scenario_id) is None


async def test_a_sweep_drops_what_it_removed_even_when_it_is_broken_off(cached: Cached) -> None:
    scenario = await cached.repository.create(a_scenario(status=ScenarioStatus.ARCHIVED))
    await cached.repository.get_by_id(scenario.scenario_id)
    removed = asyncio.Event()

    class SlowRetention(StubRetentionRepository):
        async def sweep(
            self, policy: RetentionPolicy, *, on_progress: OnProgress | None = None
        ) -> RetentionReport:
            await super().sweep(policy, on_progress=on_progress)
            removed.set()
            return await asyncio.Event().wait()

    retention = with_told_sweeps(SlowRetention(cached.store.memory), cached.reads)
    policy = RetentionPolicy(scenarios=utc_now() + timedelta(days=1))
    sweeping = asyncio.create_task(retention.sweep(policy))
    await removed.wait()
    sweeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweeping

    assert await cached.repository.get_by_id(scenario.scenario_id) is None


async def test_deleting_a_run_with_its_children_drops_these_too() -> None:
    store, cache = MemoryStore(), ScriptedCache()
    kinds = {"test_run": 600, "chaos_event": 600, "test_result": 600}
    reads = CachedReads(lambda: cache, kinds, events=EventLog(), patience=60.0)
    runs = with_cached_reads(StubTestRunsRepository(store), TestRun, reads)
    events = with_cached_reads(StubChaosEventsRepository(store), ChaosEvent, reads)
    results = with_cached_reads(StubTestResultsRepository(store), TestResult, reads)
    run = await runs.create(a_test_run())
    event = await events.create(a_chaos_event(run_id=run.run_id))
    result = await results.create(a_test_result(run_id=run.run_id))
    await events.get_by_id(event.event_id)
    await results.get_by_id(result.result_id)

    await runs.delete(run.run_id, with_children=True)

    assert await runs.get_by_id(run.run_id) is None
    assert await events.get_by_id(event.event_id) is None
    assert await results.get_by_id(result.result_id) is None
    await reads.aclose()


async def test_more_than_can_be_remembered_forgets_the_whole_kind(
    cached: Cached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("test_coordinator_data_adapter.resilience.cached_reads._MOST_OWED", 2)
    scenarios = [await cached.repository.create(a_scenario()) for _ in range(5)]
    for scenario in scenarios:
        await cached.repository.get_by_id(scenario.scenario_id)
    cached.cache.down = True

    for scenario in scenarios:
        await cached.repository.update_status(scenario.scenario_id, ScenarioStatus.ARCHIVED)
    cached.cache.down = False
    cached.now += 60.0
    found = [await cached.repository.get_by_id(scenario.scenario_id) for scenario in scenarios]

    assert {scenario.status for scenario in found if scenario} == {ScenarioStatus.ARCHIVED}


async def test_a_write_that_was_certainly_not_applied_drops_nothing(cached: Cached) -> None:
    with pytest.raises(NotFoundError):
        await cached.repository.update_status("nobody", ScenarioStatus.ACTIVE)

    assert cached.cache.trips == 0


async def test_a_write_whose_outcome_is_unknown_drops_what_it_may_have_changed(
    cached: Cached,
) -> None:
    scenario = await cached.repository.create(a_scenario())
    await cached.repository.get_by_id(scenario.scenario_id)

    async def lost() -> None:
        raise OutcomeUnknownError("the answer got lost")

    with pytest.raises(OutcomeUnknownError):
        await cached.reads.write("scenario", [scenario.scenario_id], lost)

    assert cached.cache.held == {}


async def test_a_cancelled_write_is_dropped_by_whoever_comes_next(cached: Cached) -> None:
    scenario = await cached.repository.create(a_scenario())
    await cached.repository.get_by_id(scenario.scenario_id)
    cached.cache.hangs = True
    writing = asyncio.create_task(
        cached.repository.update(scenario.model_copy(update={"name": "new"}))
    )
    await asyncio.sleep(0)

    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    cached.cache.hangs = False
    found = await cached.repository.get_by_id(scenario.scenario_id)

    assert found is not None
    assert found.name == "new"


async def test_an_entry_that_cannot_be_read_is_a_miss(cached: Cached) -> None:
    scenario = await cached.repository.create(a_scenario())
    cached.cache.held["scenario", scenario.scenario_id] = b'{"of": "another version"}'

    assert await cached.repository.get_by_id(scenario.scenario_id) == scenario


async def test_an_entry_without_a_field_that_older_versions_did_not_know_is_a_miss(
    cached: Cached,
) -> None:
    scenario = await cached.repository.create(a_scenario(tags=["stored"]))
    entry = scenario.model_dump_json(exclude={"tags"}).encode()
    cached.cache.held["scenario", scenario.scenario_id] = entry

    assert await cached.repository.get_by_id(scenario.scenario_id) == scenario


async def test_a_process_that_reads_nothing_from_the_cache_drops_what_it_writes(
    cached: Cached, writer: Cached
) -> None:
    scenario = await cached.repository.create(a_scenario())
    await cached.repository.get_by_id(scenario.scenario_id)

    changed = await writer.repository.update_status(scenario.scenario_id, ScenarioStatus.ARCHIVED)

    assert await writer.repository.get_by_id(scenario.scenario_id) == changed
    assert writer.used == []
    assert await cached.repository.get_by_id(scenario.scenario_id) == changed


async def test_what_nobody_reads_from_the_cache_is_not_dropped_by_who_knows_that(
    writer: Cached,
) -> None:
    scenario = await writer.repository.create(a_scenario())
    writer.cache.unread.add("scenario")

    await writer.repository.update_status(scenario.scenario_id, ScenarioStatus.ARCHIVED)
    asked = writer.cache.trips
    writer.cache.unread.clear()
    await writer.repository.update_status(scenario.scenario_id, ScenarioStatus.ACTIVE)

    assert (asked, writer.cache.trips) == (0, 1)


@pytest.mark.parametrize("write", ["update_status", "prune"])
async def test_an_idle_process_drops_what_it_wrote_during_an_outage_once_that_is_over(
    cached: Cached, writer: Cached, write: str
) -> None:
    scenario = await cached.repository.create(a_scenario())
    await cached.repository.get_by_id(scenario.scenario_id)
    cached.cache.down = True
    if write == "prune":
        await writer.repository.prune(utc_now() + timedelta(days=1))
    else:
        await writer.repository.update_status(scenario.scenario_id, ScenarioStatus.ARCHIVED)

    writer.wakes.set()
    await until(lambda: cached.cache.trips == 3)
    cached.cache.down = False
    held_until_then = dict(cached.cache.held)
    writer.wakes.set()
    await until(lambda: cached.cache.held == {})

    assert len(held_until_then) == 1


async def test_what_is_owed_at_the_end_is_dropped_in_one_last_attempt(
    cached: Cached, writer: Cached
) -> None:
    scenario = await cached.repository.create(a_scenario())
    await cached.repository.get_by_id(scenario.scenario_id)
    cached.cache.down = True
    await writer.repository.delete(scenario.scenario_id)
    cached.cache.down = False

    await writer.reads.aclose()

    assert cached.cache.held == {}


async def test_the_end_does_not_wait_for_a_cache_that_hangs() -> None:
    writer = Cached(answers=False, patience=0.05)
    scenario = await writer.repository.create(a_scenario())
    writer.cache.hangs = True
    await writer.repository.delete(scenario.scenario_id)

    async with asyncio.timeout(30):
        await writer.reads.aclose()

    assert len(asyncio.all_tasks()) == 1


async def test_where_only_drops_are_owed_an_outage_is_no_warning(writer: Cached) -> None:
    scenario = await writer.repository.create(a_scenario())
    writer.cache.down = True

    with structlog.testing.capture_logs() as told:
        await writer.repository.delete(scenario.scenario_id)

    assert told == []


async def test_who_reads_announces_it_and_who_only_writes_does_not(
    cached: Cached, writer: Cached
) -> None:
    await writer.reads.announce()
    silent = list(cached.cache.announced)

    await cached.reads.announce()

    assert silent == []
    assert cached.cache.announced == ["scenario"]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110 - nobody sets an event
            await asyncio.sleep(0)
