"""The promises of the ports hold on the live backends whoever looks on."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
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


# One factory serves all tests of this module, in one event loop: to open it takes longer than most.
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(backends, redis_server, every_observer_for_long):
    """Factories: one that everything is watched in, one that Prometheus alone watches, and a third.

    Prometheus alone takes a way of its own to each call. Each has a namespace of its own.
    """
    everything = every_observer_for_long, LOUD
    prometheus = [PrometheusObserver(CollectorRegistry())], {}
    async with AsyncExitStack() as opening:
        factories: list[AdapterFactory] = []
        for observers, settings in (everything, prometheus, ([], {})):
            name = redis_server.namespace()
            config = AdapterConfig(
                _env_file=None,
                redis_namespace=name,
                redis_registry=f"{name}-registry",
                **backends,
                **settings,
            )
            factory = AdapterFactory(config, observers=observers)
            factories.append(await opening.enter_async_context(factory))
        yield factories
        await forget(factories)


@pytest_asyncio.fixture(loop_scope="module")
async def factories(opened, empty_tables):
    """The same, with nothing in their stores."""
    await empty_tables()
    await forget(opened)
    return opened


async def forget(factories):
    for factory in factories:
        await factory.get_cache_repository().flush_all()
        client = factory.get_redis_client()
        registered = f"{factory.config.redis_registry}*"
        if keys := [key async for key in client.scan_iter(registered, count=10_000)]:
            await client.unlink(*keys)


@pytest.fixture
def watched(factories):
    return factories[0]


@pytest.fixture
def tallied(factories):
    return factories[1]


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
    def neighbour(self, factories):
        return factories[2].get_cache_repository()


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
