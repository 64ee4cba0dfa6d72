"""The promises of the ports hold whoever looks on, and each call is told once."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from test_coordinator_data_adapter.adapters.stub import (
    StubCacheRepository,
    StubChaosEventsRepository,
    StubScenariosRepository,
    StubServiceDiscoveryRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.observability.prometheus import PrometheusObserver
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


class Observed:
    @pytest.fixture(params=["every observer", "one that tallies"])
    def repository(self, request, every_observer):
        if request.param == "every observer":
            watch = Watch(every_observer, EventLog("DEBUG"), slow_after=0.0, statements=True)
        else:
            watch = Watch([PrometheusObserver(CollectorRegistry())], EventLog())
        return watch.repository(self.stub(), "stub")


class TestScenarios(Observed, ScenariosSuite):
    stub = StubScenariosRepository


class TestTestRuns(Observed, TestRunsSuite):
    stub = StubTestRunsRepository


class TestChaosEvents(Observed, ChaosEventsSuite):
    stub = StubChaosEventsRepository


class TestTestResults(Observed, TestResultsSuite):
    stub = StubTestResultsRepository


class TestServiceDiscovery(Observed, ServiceDiscoverySuite):
    stub = StubServiceDiscoveryRepository


class TestCache(Observed, CacheSuite):
    stub = StubCacheRepository

    @pytest.fixture
    def neighbour(self):
        return StubCacheRepository()
