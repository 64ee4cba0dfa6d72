from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from test_coordinator_data_adapter.adapters.stub import (
    MemoryStore,
    StubCacheRepository,
    StubChaosEventsRepository,
    StubScenariosRepository,
    StubServiceDiscoveryRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.testing.conformance import (
    CacheSuite,
    ChaosEventsSuite,
    ScenariosSuite,
    ServiceDiscoverySuite,
    TestResultsSuite,
    TestRunsSuite,
)


class TestScenarios(ScenariosSuite):
    @pytest.fixture
    def repository(self):
        return StubScenariosRepository()


class TestTestRuns(TestRunsSuite):
    @pytest.fixture
    def repository(self):
        return StubTestRunsRepository()


class TestChaosEvents(ChaosEventsSuite):
    @pytest.fixture
    def repository(self):
        return StubChaosEventsRepository()


class TestTestResults(TestResultsSuite):
    @pytest.fixture
    def repository(self):
        return StubTestResultsRepository()


class StoppedClock:
    def __init__(self):
        self.passed = 0.0

    def time(self):
        return datetime(2026, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC) + timedelta(seconds=self.passed)

    def monotonic(self):
        return self.passed

    async def advance(self, seconds):
        self.passed += seconds


class OnAStoppedClock:
    clock_stands_still = True
    longest_wait = math.inf

    @pytest.fixture
    def stopped(self):
        return StoppedClock()

    @pytest.fixture
    def clock(self, stopped):
        return stopped.time

    @pytest.fixture
    def advance(self, stopped):
        return stopped.advance

    @pytest.fixture
    def store(self, stopped):
        return MemoryStore(clock=stopped.time, monotonic=stopped.monotonic)


class TestServiceDiscovery(OnAStoppedClock, ServiceDiscoverySuite):
    @pytest.fixture
    def repository(self, store):
        return StubServiceDiscoveryRepository(store)


class TestServiceDiscoveryOnTheRealClock(ServiceDiscoverySuite):
    @pytest.fixture
    def repository(self):
        return StubServiceDiscoveryRepository()


class TestCache(OnAStoppedClock, CacheSuite):
    @pytest.fixture
    def repository(self, store):
        return StubCacheRepository(store)

    @pytest.fixture
    def neighbour(self):
        return StubCacheRepository()


class TestCacheOnTheRealClock(CacheSuite):
    @pytest.fixture
    def repository(self):
        return StubCacheRepository()

    @pytest.fixture
    def neighbour(self):
        return StubCacheRepository()
