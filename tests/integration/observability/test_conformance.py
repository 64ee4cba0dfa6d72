"""The promises of one port of each live backend hold whoever looks on."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from test_coordinator_data_adapter.observability.prometheus import PrometheusObserver
from test_coordinator_data_adapter.testing.conformance import (
    AuditStores,
    AuditSuite,
    CacheSuite,
    TestResultsSuite,
)

LOUD = {"log_level": "DEBUG", "log_sql_queries": True, "slow_query_threshold_ms": 0.001}


class Observed:
    port: str

    @pytest.fixture(params=["every observer", "one that tallies"])
    async def repository(self, request, every_observer, make_factory):
        if request.param == "every observer":
            factory = make_factory(*every_observer, **LOUD)
        else:
            factory = make_factory(PrometheusObserver(CollectorRegistry()))
        await factory.initialize()
        return getattr(factory, f"get_{self.port}_repository")()


class TestTestResults(Observed, TestResultsSuite):
    port = "test_results"


class TestCache(Observed, CacheSuite):
    port = "cache"

    @pytest.fixture
    async def neighbour(self, make_factory):
        factory = make_factory()
        await factory.initialize()
        return factory.get_cache_repository()


class TestAudit(AuditSuite):
    @pytest.fixture
    async def stores(self, every_observer, make_factory):
        factory = make_factory(*every_observer, **LOUD)
        await factory.initialize()
        return AuditStores(
            factory.get_audit_repository(),
            factory.get_scenarios_repository(),
            factory.get_test_runs_repository(),
            factory.get_chaos_events_repository(),
            factory.get_test_results_repository(),
        )
