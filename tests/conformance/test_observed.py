"""The promises of the ports hold with every observer looking on, and each call is told once."""

from __future__ import annotations

import pytest

from test_coordinator_data_adapter.adapters.stub import (
    StubCacheRepository,
    StubChaosEventsRepository,
    StubScenariosRepository,
    StubServiceDiscoveryRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.observability.watch import Watch
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.testing.conformance import (
    CacheSuite,
    ChaosEventsSuite,
    ScenariosSuite,
    ServiceDiscoverySuite,
    TestResultsSuite,
    TestRunsSuite,
)


class EveryObserver:
    @pytest.fixture
    def repository(self, every_observer):
        watch = Watch(every_observer, EventLog("DEBUG"), slow_after=0.0, statements=True)
        return watch.repository(self.stub(), "stub")


class TestScenarios(EveryObserver, ScenariosSuite):
    stub = StubScenariosRepository


class TestTestRuns(EveryObserver, TestRunsSuite):
    stub = StubTestRunsRepository


class TestChaosEvents(EveryObserver, ChaosEventsSuite):
    stub = StubChaosEventsRepository


class TestTestResults(EveryObserver, TestResultsSuite):
    stub = StubTestResultsRepository


class TestServiceDiscovery(EveryObserver, ServiceDiscoverySuite):
    stub = StubServiceDiscoveryRepository


class TestCache(EveryObserver, CacheSuite):
    stub = StubCacheRepository

    @pytest.fixture
    def neighbour(self):
        return StubCacheRepository()
