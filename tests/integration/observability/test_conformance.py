"""The promises of the ports hold on the live backends whoever looks on."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from test_coordinator_data_adapter.observability.prometheus import PrometheusObserver
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

LOUD = {"log_level": "DEBUG", "log_sql_queries": True, "slow_query_threshold_ms": 0.001}


@pytest.fixture
async def watched(every_observer, make_factory):
    """A factory that everything is watched in."""
    factory = make_factory(*every_observer, **LOUD)
    await factory.initialize()
    return factory


@pytest.fixture
async def tallied(make_factory):
    """A factory that only Prometheus watches, which takes a way of its own to each call."""
    factory = make_factory(PrometheusObserver(CollectorRegistry()))
    await factory.initialize()
    return factory


def stored(factory):
    return (
        factory.get_scenarios_repository(),
        factory.get_test_runs_repository(),
        factory.get_chaos_events_repository(),
        factory.get_test_results_repository(),
    )


class TestScenarios(ScenariosSuite):
    @pytest.fixture
    def repository(self, watched):
        return watched.get_scenarios_repository()


class TestTestRuns(TestRunsSuite):
    @pytest.fixture
    def repository(self, watched):
        return watched.get_test_runs_repository()


class TestChaosEvents(ChaosEventsSuite):
    @pytest.fixture
    def repository(self, watched):
        return watched.get_chaos_events_repository()


class TestTestResults(TestResultsSuite):
    @pytest.fixture
    def repository(self, watched):
        return watched.get_test_results_repository()


class TestServiceDiscovery(ServiceDiscoverySuite):
    @pytest.fixture
    def repository(self, watched):
        return watched.get_service_discovery_repository()


class BesideAnother:
    @pytest.fixture
    async def neighbour(self, make_factory):
        factory = make_factory()
        await factory.initialize()
        return factory.get_cache_repository()


class TestCache(BesideAnother, CacheSuite):
    @pytest.fixture
    def repository(self, watched):
        return watched.get_cache_repository()


class TestTalliedCache(BesideAnother, CacheSuite):
    @pytest.fixture
    def repository(self, tallied):
        return tallied.get_cache_repository()


class TestAudit(AuditSuite):
    @pytest.fixture
    def stores(self, watched):
        return AuditStores(watched.get_audit_repository(), *stored(watched))


class TestTalliedAudit(AuditSuite):
    @pytest.fixture
    def stores(self, tallied):
        return AuditStores(tallied.get_audit_repository(), *stored(tallied))


class TestRetention(RetentionSuite):
    @pytest.fixture
    def stores(self, watched):
        return RetentionStores(watched.get_retention_repository(), *stored(watched))
