"""The promises of one port of each live backend hold with every observer looking on."""

from __future__ import annotations

import pytest

from test_coordinator_data_adapter.testing.conformance import CacheSuite, TestResultsSuite


class EveryObserver:
    port: str

    @pytest.fixture
    async def repository(self, every_observer, make_factory):
        settings = {"log_level": "DEBUG", "log_sql_queries": True, "slow_query_threshold_ms": 0.001}
        factory = make_factory(*every_observer, **settings)
        await factory.initialize()
        return getattr(factory, f"get_{self.port}_repository")()


class TestTestResults(EveryObserver, TestResultsSuite):
    port = "test_results"


class TestCache(EveryObserver, CacheSuite):
    port = "cache"

    @pytest.fixture
    async def neighbour(self, make_factory):
        factory = make_factory()
        await factory.initialize()
        return factory.get_cache_repository()
