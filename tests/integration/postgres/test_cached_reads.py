"""The ports' promises hold with Redis in front of PostgreSQL as well."""

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest
import pytest_asyncio

from test_coordinator_data_adapter.adapters.postgres import (
    PostgresChaosEventsRepository,
    PostgresScenariosRepository,
    PostgresTestResultsRepository,
    PostgresTestRunsRepository,
)
from test_coordinator_data_adapter.adapters.postgres.database import Database
from test_coordinator_data_adapter.adapters.redis import (
    Keyspace,
    KeyspaceSettings,
    RedisCacheRepository,
)
from test_coordinator_data_adapter.adapters.redis.read_cache import RedisReadCache
from test_coordinator_data_adapter.models import (
    ChaosEvent,
    Scenario,
    ScenarioStatus,
    TestResult,
    TestRun,
)
from test_coordinator_data_adapter.models.values import utc_now
from test_coordinator_data_adapter.resilience.cached_reads import CachedReads, with_cached_reads
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.resilience.observation import CacheUsed
from test_coordinator_data_adapter.testing import conformance
from test_coordinator_data_adapter.testing.builders import a_scenario
from test_coordinator_data_adapter.testing.servers import KeyspaceServer

TIMES_TO_LIVE = {"scenario": 600, "test_run": 300, "chaos_event": 300, "test_result": 180}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def database(emptied_database: Database) -> Database:
    return emptied_database


@pytest_asyncio.fixture(loop_scope="module")
async def keyspace(redis_server: KeyspaceServer, namespace: str) -> AsyncIterator[Keyspace]:
    settings = KeyspaceSettings(url=redis_server.url, namespace=namespace)
    keyspace = Keyspace(settings)
    yield keyspace
    await keyspace.aclose()


@pytest.fixture
def used() -> list[CacheUsed]:
    return []


@pytest_asyncio.fixture(loop_scope="module")
async def reads(keyspace: Keyspace, used: list[CacheUsed]) -> AsyncIterator[CachedReads]:
    async with a_process(keyspace, used) as reads:
        yield reads


@asynccontextmanager
async def a_process(
    keyspace: Keyspace, used: list[CacheUsed], *, answers: bool = True
) -> AsyncGenerator[CachedReads]:
    """A process that has said a while ago that it reads from the cache, if it does."""
    late = 0.0
    cache = RedisReadCache(keyspace, monotonic=lambda: time.monotonic() + late)
    reads = CachedReads(
        lambda: cache,
        TIMES_TO_LIVE,
        events=EventLog(),
        patience=60.0,
        on_used=used.append,
        answers=answers,
    )
    await reads.announce()
    late = 60.0
    yield reads
    await reads.aclose()


class TestScenarios(conformance.ScenariosSuite):
    @pytest.fixture
    def repository(
        self, scenarios: PostgresScenariosRepository, reads: CachedReads
    ) -> PostgresScenariosRepository:
        return with_cached_reads(scenarios, Scenario, reads)


class TestRuns(conformance.TestRunsSuite):
    @pytest.fixture
    def repository(
        self, test_runs: PostgresTestRunsRepository, reads: CachedReads
    ) -> PostgresTestRunsRepository:
        return with_cached_reads(test_runs, TestRun, reads)


class TestChaosEvents(conformance.ChaosEventsSuite):
    @pytest.fixture
    def repository(
        self, chaos_events: PostgresChaosEventsRepository, reads: CachedReads
    ) -> PostgresChaosEventsRepository:
        return with_cached_reads(chaos_events, ChaosEvent, reads)


class TestResults(conformance.TestResultsSuite):
    @pytest.fixture
    def repository(
        self, test_results: PostgresTestResultsRepository, reads: CachedReads
    ) -> PostgresTestResultsRepository:
        return with_cached_reads(test_results, TestResult, reads)


@pytest.mark.parametrize("other_reads", [True, False])
async def test_processes_see_each_others_writes_through_their_caches(
    scenarios: PostgresScenariosRepository,
    reads: CachedReads,
    keyspace: Keyspace,
    used: list[CacheUsed],
    other_reads: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    one = with_cached_reads(scenarios, Scenario, reads)
    id_ = (await one.create(a_scenario())).scenario_id
    async with a_process(keyspace, used, answers=other_reads) as others:
        other = with_cached_reads(scenarios, Scenario, others)
        for repository in (one, other, one, other):
            await repository.get_by_id(id_)
        hits = sum(use.hits for use in used)

        changed = await other.update_status(id_, ScenarioStatus.ARCHIVED)

    assert hits >= 1
    assert await one.get_by_id(id_) == changed


@pytest.mark.parametrize("other_reads", [True, False])
async def test_a_prune_in_one_process_is_seen_by_all(
    scenarios: PostgresScenariosRepository,
    reads: CachedReads,
    keyspace: Keyspace,
    used: list[CacheUsed],
    other_reads: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    one = with_cached_reads(scenarios, Scenario, reads)
    id_ = (await one.create(a_scenario())).scenario_id
    async with a_process(keyspace, used, answers=other_reads) as others:
        other = with_cached_reads(scenarios, Scenario, others)
        for repository in (one, other, one):
            await repository.get_by_id(id_)

        await other.prune(utc_now().replace(year=9998))

    assert await one.get_by_id(id_) is None


async def test_cached_reads_are_out_of_the_caches_sight_and_survive_its_flush(
    scenarios: PostgresScenariosRepository,
    reads: CachedReads,
    keyspace: Keyspace,
    used: list[CacheUsed],
) -> None:
    repository = with_cached_reads(scenarios, Scenario, reads)
    cache = RedisCacheRepository(keyspace)
    id_ = (await repository.create(a_scenario())).scenario_id
    for _ in range(3):
        await repository.get_by_id(id_)

    seen = await cache.keys("*")
    await cache.flush_all()
    await repository.get_by_id(id_)
    await cache.aclose()

    assert seen == []
    assert sum(use.hits for use in used) == 3
