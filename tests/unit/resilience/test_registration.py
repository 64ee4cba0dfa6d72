from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
import structlog

from test_coordinator_data_adapter.adapters.stub import MemoryStore, StubServiceDiscoveryRepository
from test_coordinator_data_adapter.errors import (
    ConfigurationError,
    ConflictError,
    InvalidValueError,
    UnavailableError,
)
from test_coordinator_data_adapter.models import ServiceInfo
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.resilience.registration import Registration
from test_coordinator_data_adapter.testing.builders import a_service

STARTED = datetime(2026, 1, 1, tzinfo=UTC)


class Clockwork:
    """A clock, and a sleep that lasts until the test lets one interval pass."""

    def __init__(self) -> None:
        self.now = STARTED
        self._asleep = asyncio.Semaphore(0)
        self._over = asyncio.Semaphore(0)

    async def sleep(self, seconds: float) -> None:
        self._asleep.release()
        await self._over.acquire()
        self.now += timedelta(seconds=seconds)

    async def one_interval(self) -> None:
        """Return when the beat after it is done."""
        await self._asleep.acquire()
        self._over.release()
        await self._asleep.acquire()
        self._asleep.release()


class Registry(StubServiceDiscoveryRepository):
    """The stub, which fails while it is told to."""

    def __init__(self, clockwork: Clockwork) -> None:
        super().__init__(MemoryStore(clock=lambda: clockwork.now))
        self.fails_with: Exception | None = None
        self.hangs = False

    async def _maybe(self) -> None:
        if self.fails_with is not None:
            raise self.fails_with
        if self.hangs:
            await asyncio.Event().wait()

    async def register_with_token(self, service: ServiceInfo, token: str) -> ServiceInfo:
        await self._maybe()
        return await super().register_with_token(service, token)

    async def update_heartbeat(self, service_id: str) -> ServiceInfo:
        await self._maybe()
        return await super().update_heartbeat(service_id)

    async def deregister_with_token(self, service_id: str, token: str) -> bool:
        await self._maybe()
        return await super().deregister_with_token(service_id, token)


@pytest.fixture
def clockwork() -> Clockwork:
    return Clockwork()


@pytest.fixture
def registry(clockwork: Clockwork) -> Registry:
    return Registry(clockwork)


@pytest.fixture
def service() -> ServiceInfo:
    return a_service(last_seen=STARTED - timedelta(days=1), registered_at=STARTED)


@pytest.fixture
def register(
    clockwork: Clockwork, registry: Registry, service: ServiceInfo
) -> Callable[..., Registration]:
    def register(*, deregister_timeout: float = 60.0) -> Registration:
        return Registration(
            lambda: registry,
            service,
            heartbeat_interval=30,
            events=EventLog(),
            deregister_timeout=deregister_timeout,
            clock=lambda: clockwork.now,
            sleep=clockwork.sleep,
        )

    return register


@pytest.fixture
def registration(register: Callable[..., Registration]) -> Registration:
    return register()


@pytest.fixture(autouse=True)
def told():
    """What the log heard, as pairs of level and event."""
    with structlog.testing.capture_logs() as events:
        yield lambda: [(event["log_level"], event["event"]) for event in events]


async def test_a_service_is_registered_as_seen_now(registration, registry, service):
    async with registration:
        assert await registry.list_all_services() == [
            service.model_copy(update={"last_seen": STARTED})
        ]


async def test_a_service_is_deregistered_on_exit(registration, registry):
    async with registration:
        pass

    assert await registry.get_service_count() == 0


async def test_an_exit_leaves_the_registration_of_a_successor(registration, registry, service):
    successor = service.model_copy(update={"version": "2"})
    async with registration:
        await registry.register(successor)

    assert await registry.list_all_services() == [successor]


async def test_a_process_that_was_replaced_registers_itself_again_when_its_successor_has_left(
    registration, registry, clockwork, service
):
    async with registration:
        await registry.register(service.model_copy(update={"version": "2"}))
        await clockwork.one_interval()
        await registry.deregister(service.service_id)

        await clockwork.one_interval()

        (registered,) = await registry.list_all_services()
        assert registered.version == service.version


async def test_a_registration_that_arrives_after_the_exit_has_no_effect(
    registration, registry, service
):
    delayed: list[tuple[ServiceInfo, str]] = []
    register = registry.register_with_token

    async def lost(service: ServiceInfo, token: str) -> ServiceInfo:
        delayed.append((service, token))
        raise UnavailableError("the request is still on its way")

    registry.register_with_token = lost
    async with registration:
        pass

    with pytest.raises(ConflictError):
        await register(*delayed[0])
    assert await registry.get_service_count() == 0


async def test_a_service_beats_at_every_interval(registration, registry, clockwork, service):
    async with registration:
        await clockwork.one_interval()
        await clockwork.one_interval()

        known = await registry.get_service_by_id(service.service_id)

    assert known is not None
    assert known.last_seen == STARTED + timedelta(seconds=60)
    assert registration.service == known


async def test_a_registry_that_lost_the_service_gets_it_again(
    registration, registry, clockwork, service, told
):
    async with registration:
        await StubServiceDiscoveryRepository.deregister(registry, service.service_id)

        await clockwork.one_interval()

        assert await registry.get_service_count() == 1
    assert told() == [("warning", "service_registered_again")]


async def test_an_outage_is_survived_and_told_once(
    registration, registry, clockwork, service, told
):
    async with registration:
        registry.fails_with = UnavailableError("down")
        for _ in range(3):
            await clockwork.one_interval()
        was_failing = registration.is_failing
        registry.fails_with = None
        await clockwork.one_interval()

        assert await registry.is_service_healthy(service.service_id, 0)
    assert was_failing
    assert not registration.is_failing
    assert told() == [("warning", "heartbeat_failed"), ("info", "heartbeat_recovered")]


async def test_a_registry_that_is_down_on_entry_is_asked_again(
    registration, registry, clockwork, service
):
    registry.fails_with = UnavailableError("down")
    async with registration:
        registry.fails_with = None

        await clockwork.one_interval()

        assert await registry.get_service_count() == 1


async def test_a_misconfigured_registry_is_an_error_on_entry(registration, registry):
    registry.fails_with = ConfigurationError("wrong password")

    with pytest.raises(ConfigurationError):
        async with registration:
            pytest.fail("entered")


async def test_a_bad_service_is_refused_before_anything_is_registered(registry, service):
    service.__dict__["host"] = "\0"

    with pytest.raises(InvalidValueError):
        Registration(lambda: registry, service, heartbeat_interval=30, events=EventLog())


async def test_an_exit_during_an_outage_tells_that_the_service_is_left_behind(
    registration, registry, told
):
    async with registration:
        registry.fails_with = UnavailableError("down")

    assert told() == [("warning", "deregistration_failed")]


async def test_an_exit_does_not_wait_for_ever(register, registry, told):
    async with asyncio.timeout(60):
        async with register(deregister_timeout=0.05):
            registry.hangs = True

    assert told() == [("warning", "deregistration_failed")]


async def test_a_service_whose_task_is_cancelled_is_deregistered(registration, registry):
    entered = asyncio.Event()

    async def serve() -> None:
        async with registration:
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(serve())
    await entered.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await registry.get_service_count() == 0


async def test_a_service_whose_registration_is_cancelled_halfway_is_deregistered(
    registration, registry
):
    arrived = asyncio.Event()
    register = registry.register_with_token

    async def slow_register(service: ServiceInfo, token: str) -> ServiceInfo:
        await register(service, token)
        arrived.set()
        await asyncio.Event().wait()

    registry.register_with_token = slow_register
    task = asyncio.create_task(registration.__aenter__())
    await arrived.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await registry.get_service_count() == 0


async def test_a_cancellation_during_the_deregistration_does_not_cut_it_short(
    registration, registry
):
    leaving, may_leave = asyncio.Event(), asyncio.Event()
    deregister = registry.deregister_with_token

    async def slow_deregister(service_id: str, token: str) -> bool:
        leaving.set()
        await may_leave.wait()
        return await deregister(service_id, token)

    registry.deregister_with_token = slow_deregister

    async def serve() -> None:
        async with registration:
            pass

    task = asyncio.create_task(serve())
    await leaving.wait()
    task.cancel()
    await asyncio.sleep(0)
    may_leave.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await registry.get_service_count() == 0


async def test_nothing_beats_after_the_exit(registration):
    before = asyncio.all_tasks()

    async with registration:
        during = asyncio.all_tasks()

    assert len(during) == len(before) + 1
    assert asyncio.all_tasks() == before


async def test_the_error_of_the_body_is_the_one_that_leaves(registration, registry):
    async def serve() -> None:
        async with registration:
            registry.fails_with = UnavailableError("down")
            raise KeyError

    with pytest.raises(KeyError):
        await serve()


async def test_the_registry_is_asked_for_anew_at_every_beat(clockwork, service):
    first, second = Registry(clockwork), Registry(clockwork)
    now = [first]
    async with Registration(
        lambda: now[0],
        service,
        heartbeat_interval=30,
        events=EventLog(),
        clock=lambda: clockwork.now,
        sleep=clockwork.sleep,
    ):
        now[0] = second
        await clockwork.one_interval()

        assert await second.get_service_count() == 1
