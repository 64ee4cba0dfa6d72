import asyncio
import gc
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog

from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
from test_coordinator_data_adapter import factory as factory_module
from test_coordinator_data_adapter.errors import ConfigurationError, ConflictError
from test_coordinator_data_adapter.interfaces import (
    CacheRepository,
    ChaosEventsRepository,
    ScenariosRepository,
    ServiceDiscoveryRepository,
    TestResultsRepository,
    TestRunsRepository,
)
from test_coordinator_data_adapter.models.values import utc_now
from test_coordinator_data_adapter.testing.builders import a_scenario, a_service

PORTS = {
    "scenarios": ScenariosRepository,
    "test_runs": TestRunsRepository,
    "chaos_events": ChaosEventsRepository,
    "test_results": TestResultsRepository,
    "service_discovery": ServiceDiscoveryRepository,
    "cache": CacheRepository,
}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def make() -> Callable[[], AdapterFactory]:
    return lambda: AdapterFactory(AdapterConfig(in_memory=True))


@pytest.mark.parametrize("port", PORTS)
async def test_every_port_is_handed_out(make: Callable[[], AdapterFactory], port: str) -> None:
    async with make() as factory:
        repository = getattr(factory, f"get_{port}_repository")()
        stub = getattr(factory, f"get_{port}_repository")(use_stub=True)

    assert isinstance(repository, PORTS[port])
    assert isinstance(stub, PORTS[port])


async def test_two_handles_of_one_factory_see_the_same_data(
    make: Callable[[], AdapterFactory],
) -> None:
    async with make() as factory:
        scenario = await factory.get_scenarios_repository().create(a_scenario())
        service = await factory.get_service_discovery_repository().register(a_service())
        await factory.get_cache_repository().set("k", 1)

        found = await factory.get_scenarios_repository(use_stub=True).get_by_id(
            scenario.scenario_id
        )

        assert found == scenario
        assert await factory.get_service_discovery_repository().list_all_services() == [service]
        assert await factory.get_cache_repository().get("k") == 1


async def test_two_factories_share_nothing(make: Callable[[], AdapterFactory]) -> None:
    async with make() as one, make() as other:
        await one.get_cache_repository().set("k", 1)

        assert await other.get_cache_repository().get("k") is None


async def test_what_was_written_before_initialising_is_still_there_afterwards(
    make: Callable[[], AdapterFactory],
) -> None:
    factory = make()
    await factory.get_cache_repository().set("k", 1)

    async with factory:
        assert await factory.get_cache_repository().get("k") == 1


async def test_a_factory_that_is_not_initialised_hands_out_memory_and_warns_once(
    make: Callable[[], AdapterFactory],
) -> None:
    with structlog.testing.capture_logs() as told:
        factory = make()
        factory.get_cache_repository(use_stub=True)
        quiet = len(told)
        factory.get_cache_repository()
        factory.get_scenarios_repository()

    assert quiet == 0
    assert [(entry["log_level"], entry["event"]) for entry in told] == [
        ("warning", "repository_handed_out_in_memory")
    ]


def test_the_first_factory_warns_of_unknown_variables(
    make: Callable[[], AdapterFactory], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factory_module, "_REPORTED", set())
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_POSTGRES_ULR", "postgresql://u:hunter2@h/d")

    with structlog.testing.capture_logs() as events:
        make()
        make()

    (warning,) = (event for event in events if event["event"] == "unknown_variables")
    assert warning["log_level"] == "warning"
    assert warning["variables"] == ["TEST_COORDINATOR_ADAPTER_POSTGRES_ULR"]
    assert warning["did_you_mean"] == {
        "TEST_COORDINATOR_ADAPTER_POSTGRES_ULR": "TEST_COORDINATOR_ADAPTER_POSTGRES_URL"
    }
    assert "hunter2" not in str(warning)


async def test_health_of_a_factory_in_memory(make: Callable[[], AdapterFactory]) -> None:
    factory = make()
    before = await factory.health_check()
    async with factory:
        during = await factory.health_check()

    assert before["factory_initialized"] is False
    assert during["factory_initialized"] is True
    for backend in ("postgres", "redis"):
        assert during[backend]["connected"] is False
        assert "memory" in during[backend]["error"]
        assert during[backend]["state"] == "in_memory"


async def test_initialising_and_closing_again_do_nothing(
    make: Callable[[], AdapterFactory],
) -> None:
    factory = make()

    with structlog.testing.capture_logs() as told:
        await asyncio.gather(*(factory.initialize() for _ in range(5)))
        await asyncio.gather(*(factory.cleanup() for _ in range(5)))

    assert [entry["event"] for entry in told] == ["factory_initialized", "factory_closed"]


async def test_a_closed_factory_can_be_used_again_with_an_empty_memory(
    make: Callable[[], AdapterFactory],
) -> None:
    factory = make()
    async with factory:
        await factory.get_cache_repository().set("k", 1)

    async with factory:
        assert factory._is_initialized
        assert await factory.get_cache_repository().get("k") is None
    assert not factory._is_initialized


def test_a_factory_serves_one_event_loop_after_the_other(
    make: Callable[[], AdapterFactory],
) -> None:
    factory = make()

    async def once() -> bool:
        async with factory:
            return await factory.get_cache_repository().set("k", 1)

    assert asyncio.run(once())
    assert asyncio.run(once())


async def test_a_factory_that_is_collected_open_says_so(
    make: Callable[[], AdapterFactory],
) -> None:
    factory = make()
    await factory.initialize()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del factory
        gc.collect()

    assert [str(w.message) for w in caught if w.category is ResourceWarning] == [
        "unclosed AdapterFactory: use `async with`, or await cleanup()"
    ]


async def test_session_maker_and_redis_client_are_none_until_opened(
    make: Callable[[], AdapterFactory],
) -> None:
    factory = make()

    found: list[Any] = [factory.get_session_maker(), factory.get_redis_client()]

    assert found == [None, None]


async def test_the_context_manager_closes_when_the_body_fails(
    make: Callable[[], AdapterFactory],
) -> None:
    factory = make()

    with pytest.raises(RuntimeError, match="body"):
        async with factory:
            raise RuntimeError("body")

    assert not factory._is_initialized


def test_with_no_server_anywhere_a_factory_is_ready_in_less_than_a_second(
    refusing_port: int, tmp_path: Path
) -> None:
    # In a process of its own: what counts is a service that has just been started. It waits for
    # nothing, or would for minutes, and so its own work is all that it takes on an idle machine.
    script = f"""
import asyncio, sys, time
from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
from test_coordinator_data_adapter.models import Scenario, ScenarioType

async def main():
    config = AdapterConfig(
        postgres_url="postgresql://u:p@127.0.0.1:{refusing_port}/d",
        redis_url="redis://127.0.0.1:{refusing_port}/0",
        postgres_connect_timeout=600,
        redis_socket_connect_timeout=600,
    )
    began = time.process_time()
    async with AdapterFactory(config) as factory:
        took = time.process_time() - began
        health = await factory.health_check()
        scenarios = factory.get_scenarios_repository()
        scenario = Scenario(
            scenario_id="s", name="n", scenario_type=ScenarioType.COMBINED, configuration={{}}
        )
        assert await scenarios.create(scenario) == await scenarios.get_by_id("s")
    assert health["factory_initialized"] is True
    assert health["postgres"]["state"] == health["redis"]["state"] == "unavailable"
    assert "sqlalchemy" not in sys.modules and "redis" not in sys.modules
    print(took)

asyncio.run(main())
"""

    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )

    assert float(done.stdout) < 1.0


@pytest.mark.parametrize(
    "urls",
    [
        {"postgres_url": "postgresql://me:hunter2@[::1/db"},
        {"postgres_url": "postgresql://me:hun@ter2/hunter2@localhost/db"},
        {"postgres_url": "postgresql://me:hunter2@localhost:99999/db"},
        {"postgres_url": "postgresql://me:hunter2@localhost/db?sslmode=always"},
        {"postgres_url": "postgresql://me@localhost/db?password=hunter2"},
        {"redis_url": "redis://me:hunter2@localhost:x/0"},
        {"redis_url": "redis://me:hunter2@localhost/0?ssl_cert_reqs=none"},
    ],
)
async def test_a_url_that_cannot_be_used_shows_no_password_to_who_collects_local_variables(
    urls: dict[str, str],
) -> None:
    nowhere = {
        "postgres_url": "postgresql://me@127.0.0.1:1/db",
        "redis_url": "redis://127.0.0.1:1/0",
    }
    config = AdapterConfig(**{**nowhere, **urls}, startup_strict=True, log_level="CRITICAL")
    del urls

    with pytest.raises(ConfigurationError) as caught:
        await AdapterFactory(config).initialize()

    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    for frame in frames.stack[1:]:
        assert "hunter2" not in str(frame.locals)
        assert "ter2" not in str(frame.locals)


async def test_services_that_were_silent_too_long_are_removed_unless_too_many_were() -> None:
    config = AdapterConfig(in_memory=True, heartbeat_interval=1, stale_service_threshold=60)
    long_ago = utc_now() - timedelta(seconds=61)
    async with AdapterFactory(config) as factory:
        registry = factory.get_service_discovery_repository()
        await registry.register(a_service(service_id="alive", last_seen=utc_now()))
        await registry.register(a_service(service_id="gone", last_seen=long_ago))

        removed = await factory.remove_stale_services()
        await registry.register(a_service(service_id="alive", last_seen=long_ago))

        assert removed == 1
        with pytest.raises(ConflictError, match="max_fraction"):
            await factory.remove_stale_services()
        assert await factory.remove_stale_services(max_fraction=None) == 1


def test_a_factory_can_live_again_in_another_event_loop(
    make: Callable[[], AdapterFactory],
) -> None:
    factory = make()

    async def live() -> None:
        # A lock is bound to the loop in which somebody first had to wait for it.
        async with factory._one_at_a_time():
            waiting = asyncio.create_task(factory.initialize())
            await asyncio.sleep(0)
        await waiting
        await asyncio.gather(factory.initialize(), factory.cleanup(), factory.cleanup())

    asyncio.run(live())
    asyncio.run(live())

    assert factory._is_initialized is False
