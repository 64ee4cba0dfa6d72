"""The pytest plugin: repositories in memory, a factory over them and faults, for who asks.

pytest imports this module in every run of every project that has the package installed:
what it imports is limited to pytest, and the rest waits inside the fixtures until a test
asks for one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, cast

import pytest

if TYPE_CHECKING:
    from test_coordinator_data_adapter.config import AdapterConfig
    from test_coordinator_data_adapter.factory import AdapterFactory
    from test_coordinator_data_adapter.interfaces import (
        CacheRepository,
        ChaosEventsRepository,
        ScenariosRepository,
        ServiceDiscoveryRepository,
        TestResultsRepository,
        TestRunsRepository,
    )
    from test_coordinator_data_adapter.testing.faults import FaultInjector

# Every fixture is synchronous: it then works under pytest-asyncio in either mode, under
# anyio's plugin and in tests without an event loop.

_SUITES = "test_coordinator_data_adapter.testing.conformance"
if _SUITES not in sys.modules:  # pytest warns where it is too late
    pytest.register_assert_rewrite(_SUITES)


@pytest.fixture
def adapter_config() -> AdapterConfig:
    """Settings for memory alone; neither the environment nor a ``.env`` file is read."""
    import os

    from test_coordinator_data_adapter.config import AdapterConfig

    prefix = AdapterConfig.model_config.get("env_prefix", "")
    with pytest.MonkeyPatch.context() as environment:
        for name in list(os.environ):
            if name.upper().startswith(prefix):
                environment.delenv(name)
        settings = cast("Callable[..., AdapterConfig]", AdapterConfig)
        return settings(in_memory=True, _env_file=None)


@pytest.fixture
def adapter_factory(adapter_config: AdapterConfig) -> Iterator[AdapterFactory]:
    """An initialised factory whose memory is this test's own; closed afterwards."""
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    from test_coordinator_data_adapter.factory import AdapterFactory

    if not adapter_config.in_memory:
        raise pytest.UsageError(
            "adapter_factory is in memory: let adapter_config have in_memory=True,"
            " or make a fixture of your own for a live factory"
        )
    factory = AdapterFactory(adapter_config)
    # In memory nothing is bound to an event loop, and another thread's leaves that of the
    # test alone, whatever runs it.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, factory.initialize()).result()
        yield factory
        thread.submit(asyncio.run, factory.cleanup()).result()


@pytest.fixture
def scenarios_repository(adapter_factory: AdapterFactory) -> ScenariosRepository:
    """The scenarios of this test's `adapter_factory`, in memory."""
    return adapter_factory.get_scenarios_repository(use_stub=True)


@pytest.fixture
def test_runs_repository(adapter_factory: AdapterFactory) -> TestRunsRepository:
    """The test runs of this test's `adapter_factory`, in memory."""
    return adapter_factory.get_test_runs_repository(use_stub=True)


@pytest.fixture
def chaos_events_repository(adapter_factory: AdapterFactory) -> ChaosEventsRepository:
    """The chaos events of this test's `adapter_factory`, in memory."""
    return adapter_factory.get_chaos_events_repository(use_stub=True)


@pytest.fixture
def test_results_repository(adapter_factory: AdapterFactory) -> TestResultsRepository:
    """The test results of this test's `adapter_factory`, in memory."""
    return adapter_factory.get_test_results_repository(use_stub=True)


@pytest.fixture
def service_discovery_repository(adapter_factory: AdapterFactory) -> ServiceDiscoveryRepository:
    """The service registry of this test's `adapter_factory`, in memory."""
    return adapter_factory.get_service_discovery_repository(use_stub=True)


@pytest.fixture
def cache_repository(adapter_factory: AdapterFactory) -> CacheRepository:
    """The cache of this test's `adapter_factory`, in memory."""
    return adapter_factory.get_cache_repository(use_stub=True)


@pytest.fixture
def fault_injector() -> FaultInjector:
    """Makes repository calls fail on request; always with the same seed."""
    from test_coordinator_data_adapter.testing.faults import FaultInjector

    return FaultInjector(seed=0)
