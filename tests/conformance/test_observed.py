"""The promises of the ports hold whoever looks on, and each call is told once."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from test_coordinator_data_adapter.adapters.stub import (
    MemoryStore,
    StubAuditRepository,
    StubCacheRepository,
    StubChaosEventsRepository,
    StubRetentionRepository,
    StubScenariosRepository,
    StubServiceDiscoveryRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.observability.prometheus import PrometheusObserver
from test_coordinator_data_adapter.observability.watch import Watch
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.testing.conformance import (
    AuditStores,
    AuditSuite,
    CacheSuite,
    ChaosEventsSuite,
    RetentionStores,
    RetentionSuite,
    ScenariosSuite,
    ServiceDiscoverySuite,
    TestResultsSuite,
    TestRunsSuite,
)


@pytest.fixture(params=["every observer", "one that tallies"])
def watch(request, every_observer):
    if request.param == "every observer":
        return Watch(every_observer, EventLog("DEBUG"), slow_after=0.0, statements=True)
    return Watch([PrometheusObserver(CollectorRegistry())], EventLog())


@pytest.fixture
def watched(watch):
    """Repositories over one store, all of them watched."""
    store = MemoryStore()
    return lambda *kinds: [watch.repository(kind(store), "stub") for kind in kinds]


STORED = (
    StubScenariosRepository,
    StubTestRunsRepository,
    StubChaosEventsRepository,
    StubTestResultsRepository,
)


class Observed:
    @pytest.fixture
    def repository(self, watch):
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


class TestAudit(AuditSuite):
    @pytest.fixture
    def stores(self, watched):
        return AuditStores(*watched(StubAuditRepository, *STORED))


class TestRetention(RetentionSuite):
    @pytest.fixture
    def stores(self, watched):
        return RetentionStores(*watched(StubRetentionRepository, *STORED))
