"""What a user writes, only type-checked: settings and the factory."""

from __future__ import annotations

from typing import assert_type

from test_coordinator_data_adapter import AdapterConfig, AdapterFactory, __version__
from test_coordinator_data_adapter.interfaces import (
    CacheRepository,
    ChaosEventsRepository,
    ScenariosRepository,
    ServiceDiscoveryRepository,
    TestResultsRepository,
    TestRunsRepository,
)

assert_type(__version__, str)


async def a_factory_lends_repositories() -> None:
    config = AdapterConfig(service_name="test-coordinator", postgres_pool_size=5)
    assert_type(config.postgres_schema, str)
    async with AdapterFactory(config) as factory:
        assert_type(factory, AdapterFactory)
        assert_type(factory.config, AdapterConfig)
        assert_type(factory.get_scenarios_repository(), ScenariosRepository)
        assert_type(factory.get_test_runs_repository(), TestRunsRepository)
        assert_type(factory.get_chaos_events_repository(), ChaosEventsRepository)
        assert_type(factory.get_test_results_repository(use_stub=True), TestResultsRepository)
        assert_type(factory.get_service_discovery_repository(), ServiceDiscoveryRepository)
        assert_type(factory.get_cache_repository(), CacheRepository)


async def a_factory_is_opened_and_closed_by_hand() -> None:
    factory = AdapterFactory()
    await factory.initialize()
    try:
        health = await factory.health_check()
        print(health["factory_initialized"])
    finally:
        await factory.cleanup()
