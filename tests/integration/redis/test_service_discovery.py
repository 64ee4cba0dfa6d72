"""What the registry promises beyond its port: its layout, its trips, what is forgotten."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from test_coordinator_data_adapter.adapters.redis import (
    Keyspace,
    RedisServiceDiscoveryRepository,
)
from test_coordinator_data_adapter.errors import DataIntegrityError, NotFoundError
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.resilience.registration import Registration
from test_coordinator_data_adapter.testing.builders import a_service

NOW = datetime(2026, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)
A_DAY = 24 * 3600 * 1000


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def services(keyspace, clock):
    return RedisServiceDiscoveryRepository(keyspace, clock=clock)


@pytest.fixture
def key(keyspace):
    """The complete name of a key of the registry."""
    return lambda name: f"{keyspace.settings.registry}{{registry}}:{name}"


async def test_everything_lies_under_the_registrys_prefix_in_one_slot(
    services, admin, keyspace, key
):
    service = await services.register(a_service())

    keys = {found.decode() async for found in admin.scan_iter(f"{keyspace.settings.registry}*")}

    assert keys == {
        key("seen"),
        key(f"service:{service.service_id}"),
        key(f"name:{service.service_name}"),
    }


async def test_a_heartbeat_is_two_round_trips(services, trips):
    service = await services.register(a_service())
    before = len(trips)

    await services.update_heartbeat(service.service_id)

    assert [trip.command for trip in trips[before:]] == ["HGETALL", "ZADD ZSCORE PEXPIRE SADD"]


async def test_lookups_are_two_round_trips_at_most_however_large_the_registry(services, trips):
    for number in range(30):
        await services.register(a_service(service_name="wanted" if number < 3 else "other"))
    before = len(trips)

    assert len(await services.list_services_by_name("wanted")) == 3
    assert await services.list_services_by_name("nobody") == []
    assert len(await services.list_all_services()) == 30
    assert await services.get_service_count() == 30

    sent = [(trip.command, trip.rows) for trip in trips[before:]]
    assert sent == [
        ("SMEMBERS", 1),
        ("HGETALL ZMSCORE", 4),
        ("SMEMBERS", 1),
        *[("ZRANGE", 1), ("HGETALL ZMSCORE", 31)] * 2,
    ]


async def test_a_registration_expires_a_day_after_its_last_heartbeat(services, admin, key):
    service = await services.register(a_service(last_seen=NOW))
    keys = [key(f"service:{service.service_id}"), key(f"name:{service.service_name}")]
    for name in keys:
        await admin.pexpire(name, 1000 * 1000)

    await services.update_heartbeat(service.service_id)

    for name in keys:
        assert A_DAY < await admin.pttl(name) <= A_DAY + 3600 * 1000


async def test_what_was_forgotten_is_gone_from_every_answer(services, admin, clock, key):
    gone = await services.register(a_service(service_name="name", last_seen=NOW))
    kept = await services.register(a_service(service_name="name", last_seen=NOW))
    await admin.unlink(key(f"service:{gone.service_id}"))  # as if it had expired

    assert await services.get_service_by_id(gone.service_id) is None
    assert await services.list_services_by_name("name") == [kept]
    assert await services.get_service_count() == 1
    assert await services.list_all_services() == [kept]
    assert not await services.deregister(gone.service_id)
    with pytest.raises(NotFoundError):
        await services.update_heartbeat(gone.service_id)


async def test_listing_takes_away_what_leads_to_nothing(services, admin, key):
    stays = await services.register(a_service(service_name="name"))
    await services.register(stays)
    leaves = await services.register(a_service(service_name="name"))
    await services.deregister(leaves.service_id)
    moves = await services.register(a_service(service_name="name"))
    await services.register(moves.model_copy(update={"service_name": "elsewhere"}))
    left_behind = [b"0123.ab:nobody", f"0123.ab:{stays.service_id}".encode()]
    await admin.sadd(key("name:name"), *left_behind)
    await admin.zadd(key("seen"), dict.fromkeys(left_behind, 1))

    assert await services.list_services_by_name("name") == [stays]

    assert await admin.scard(key("name:name")) == 1
    assert await admin.zcard(key("seen")) == 2
    assert await services.list_services_by_name("name") == [stays]


async def test_registrations_that_came_and_went_leave_nothing_in_any_key(
    services, admin, key, keyspace
):
    for number in range(3):
        for token in (f"first-{number}", f"second-{number}"):
            await services.register_with_token(a_service(service_id="s"), token)
        await services.deregister_with_token("s", f"first-{number}")
        await services.deregister_with_token("s", f"second-{number}")
    await services.register(a_service(service_id="s", last_seen=NOW - timedelta(days=1)))
    assert await services.remove_stale_services(60) == 1

    assert not await admin.exists(key("seen"), key("name:broker"))
    fields = {name.decode() for name in await admin.hkeys(key("service:s"))}
    assert {name for name in fields if name.startswith("record")} == set()


async def test_tokens_that_ended_long_ago_are_forgotten(services, admin, key, clock):
    await services.deregister_with_token("s", "first")
    clock.advance(hours=2)

    await services.deregister_with_token("s", "second")

    assert await admin.hkeys(key("service:s")) == [b"ended:second"]


async def test_what_somebody_else_put_into_the_registry_is_no_service(services, clock, admin, key):
    service = await services.register(a_service(service_name="name", last_seen=NOW))
    for index in ("seen", "name:name"):
        strangers = [b"\xff", b"r:\xff", b"stranger"]
        await (
            admin.zadd(key(index), dict.fromkeys(strangers, 1))
            if index == "seen"
            else admin.sadd(key(index), *strangers)
        )

    assert await services.list_all_services() == [service]
    assert await services.list_services_by_name("name") == [service]
    clock.advance(days=2)
    assert await services.get_service_count() == 1


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        NOW,
        datetime(2255, 6, 5, 23, 47, 34, 740_991, tzinfo=UTC),
        datetime(2255, 6, 5, 23, 47, 34, 740_993, tzinfo=UTC),
        datetime(9999, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
    ],
    ids=str,
)
async def test_every_time_is_exact_to_the_microsecond(services, moment):
    service = await services.register(a_service(last_seen=moment))

    by_id = await services.get_service_by_id(service.service_id)
    (listed,) = await services.list_all_services()

    assert by_id == listed == service
    assert by_id.last_seen == moment


async def test_a_heartbeat_and_stale_removal_at_once_leave_one_truth(services, clock):
    for _ in range(30):
        service = await services.register(a_service(last_seen=NOW - timedelta(seconds=60)))

        beat, removed = await asyncio.gather(
            services.update_heartbeat(service.service_id),
            services.remove_stale_services(30),
            return_exceptions=True,
        )

        known = await services.get_service_by_id(service.service_id)
        if isinstance(beat, NotFoundError):
            assert (known, removed) == (None, 1)
        else:
            assert (known, removed) == (beat, 0)
            await services.deregister(service.service_id)


async def test_an_index_entry_of_an_earlier_registration_is_no_second_answer(services):
    service = await services.register(a_service(service_name="name"))
    await asyncio.gather(*(services.register(service) for _ in range(10)))

    assert await services.list_services_by_name("name") == [service]
    assert await services.get_service_count() == 1


async def test_a_record_that_cannot_be_read_is_told_by_its_id(services, admin, key):
    service = await services.register(a_service())
    service_key = key(f"service:{service.service_id}")
    registration = await admin.hget(service_key, "current")
    await admin.hset(service_key, b"record:" + registration, "{}")

    with pytest.raises(DataIntegrityError) as refused:
        await services.get_service_by_id(service.service_id)

    assert refused.value.id == service.service_id


class Heartbeats:
    """A sleep between heartbeats that lasts until a test wants the next one."""

    def __init__(self) -> None:
        self._wanted = asyncio.Semaphore(0)
        self._idle = asyncio.Semaphore(0)

    async def sleep(self, _seconds: float) -> None:
        self._idle.release()
        await self._wanted.acquire()

    async def one(self) -> None:
        """Return when the next heartbeat has been sent and answered."""
        await self._idle.acquire()
        self._wanted.release()
        await self._idle.acquire()
        self._idle.release()


class RegistrationFaults:
    """Registrations whose process, keys or requests come to grief."""

    @pytest.fixture
    def heartbeats(self):
        return Heartbeats()

    @pytest.fixture
    def registration(self, services, heartbeats, clock):
        return Registration(
            lambda: services,
            a_service(service_id="s", service_name="broker", last_seen=NOW),
            heartbeat_interval=30,
            events=EventLog(),
            clock=clock,
            sleep=heartbeats.sleep,
        )

    @pytest.mark.parametrize("evicted", [["seen"], ["service:s"], ["name:broker"], "all"])
    async def test_whatever_key_is_evicted_the_next_heartbeat_restores_everything(
        self, services, registration, *, heartbeats, admin, key, evicted
    ):
        every = ["seen", "service:s", "name:broker"]
        async with registration:
            await admin.unlink(*(key(name) for name in (every if evicted == "all" else evicted)))

            await heartbeats.one()

            assert await admin.exists(*(key(name) for name in every)) == 3
            assert await services.list_services_by_name("broker") == [registration.service]
            assert await services.list_all_services() == [registration.service]
            assert await services.get_service_by_id("s") == registration.service
            assert await services.get_service_count() == 1
        assert await services.list_all_services() == []

    @pytest.mark.parametrize("evicted", ["seen", "service:s"])
    async def test_a_heartbeat_of_a_service_whose_own_entry_is_gone_is_not_found(
        self, services, admin, key, evicted
    ):
        await services.register(a_service(service_id="s", service_name="broker"))
        await admin.unlink(key(evicted))

        with pytest.raises(NotFoundError):
            await services.update_heartbeat("s")
        assert await services.list_services_by_name("broker") == []
        assert await services.get_service_count() == 0

    async def test_every_heartbeat_restores_the_way_from_a_name_to_a_service(
        self, services, admin, key
    ):
        service = await services.register(a_service(service_id="s", service_name="broker"))
        await admin.unlink(key("name:broker"))

        beaten = await services.update_heartbeat(service.service_id)

        assert await services.list_services_by_name("broker") == [beaten]

    async def test_the_exit_of_a_process_leaves_its_successor(self, services, registration):
        async with registration:
            successor = await services.register(a_service(service_id="s", version="2"))

        assert await services.list_all_services() == [successor]

    @pytest.mark.parametrize("has_successor", [False, True], ids=["alone", "replaced"])
    async def test_a_registration_that_its_own_end_has_overtaken_leaves_nothing_behind(
        self, services, keyspace, *, proxy_to, clock, has_successor
    ):
        proxy = await proxy_to(keyspace.settings.url)
        host, _, _ = keyspace.settings.url.rpartition("@")
        through = Keyspace(replace(keyspace.settings, url=f"{host}@127.0.0.1:{proxy.port}/0"))
        late = RedisServiceDiscoveryRepository(through, clock=clock)
        await through.probe()
        proxy.sends.clear()
        service = a_service(service_id="s", service_name="broker", last_seen=NOW)
        registering = asyncio.create_task(late.register_with_token(service, "token"))
        await asyncio.sleep(0.05)
        registering.cancel()
        await asyncio.wait([registering])

        await services.deregister_with_token("s", "token")
        left = []
        if has_successor:
            left = [await services.register(a_service(service_id="s", service_name="broker"))]
        proxy.sends.set()
        await self._arrived(services, "s", "token")

        assert await services.list_all_services() == left
        assert await services.list_services_by_name("broker") == left
        assert [await services.get_service_by_id("s")] == (left or [None])
        assert await services.get_service_count() == len(left)
        if has_successor:
            await services.update_heartbeat("s")
            assert await services.deregister("s")
        else:
            with pytest.raises(NotFoundError):
                await services.update_heartbeat("s")
        await through.aclose()

    async def _arrived(self, services, service_id: str, token: str) -> None:
        """Return when a request that was kept back has been carried out."""
        async with asyncio.timeout(60):
            while not any(  # noqa: ASYNC110 - the server tells nobody
                member.token == token for member in (await services._read(service_id)).ended
            ):
                await asyncio.sleep(0.01)


class TestRegistrationFaults(RegistrationFaults):
    pass


class TestRegistrationFaultsOnRedis7(RegistrationFaults):
    @pytest.fixture
    def deployment(self, redis_7, deployment_of):
        return deployment_of((redis_7,), "platform")
