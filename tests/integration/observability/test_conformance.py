"""The promises of one port of each live backend hold whoever looks on."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from test_coordinator_data_adapter.observability.prometheus import PrometheusObserver
from test_coordinator_data_adapter.testing.conformance import CacheSuite, TestResultsSuite


class Observed:
    port: str

    @pytest.fixture(params=["every observer", "one that tallies"])
    async def repository(self, request, every_observer, make_factory):
        if request.param == "every observer":
            settings = {"log_sql_queries": True, "slow_query_threshold_ms": 0.001}
            factory = make_factory(*every_observer, log_level="DEBUG", **settings)
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
