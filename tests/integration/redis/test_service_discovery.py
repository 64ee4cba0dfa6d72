"""What the registry promises beyond its port: its layout, its trips, what is forgotten."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from test_coordinator_data_adapter.adapters.redis import RedisServiceDiscoveryRepository
from test_coordinator_data_adapter.errors import DataIntegrityError, NotFoundError
from test_coordinator_data_adapter.testing.builders import a_service

NOW = datetime(2026, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)
A_DAY = 24 * 3600 * 1000


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        return (self.now - NOW).total_seconds()

    def advance(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def services(keyspace, clock):
    return RedisServiceDiscoveryRepository(keyspace, clock=clock, monotonic=clock.monotonic)


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
        key(f"record:{service.service_id}"),
        key(f"name:{service.service_name}"),
    }


async def test_a_heartbeat_is_one_trip(services, trips):
    service = await services.register(a_service())
    before = len(trips)

    await services.update_heartbeat(service.service_id)

    assert [trip.command for trip in trips[before:]] == ["ZADD PEXPIRE ZSCORE GET"]


async def test_lookups_are_two_trips_at_most_however_large_the_registry(services, trips):
    for number in range(30):
        await services.register(a_service(service_name="wanted" if number < 3 else "other"))
    before = len(trips)

    assert len(await services.list_services_by_name("wanted")) == 3
    assert await services.list_services_by_name("nobody") == []

    sent = [(trip.command, trip.rows) for trip in trips[before:]]
    assert sent == [("ZRANGE", 1), ("ZMSCORE MGET", 2), ("ZRANGE", 1)]


async def test_a_registration_expires_a_day_after_its_last_heartbeat(services, admin, clock, key):
    service = await services.register(a_service(last_seen=NOW))
    record = key(f"record:{service.service_id}")
    await admin.pexpire(record, 1000 * 1000)

    await services.update_heartbeat(service.service_id)

    assert A_DAY < await admin.pttl(record) <= A_DAY + 3600 * 1000


async def test_a_registration_seen_in_the_future_lasts_until_a_day_after_that(services, admin, key):
    service = await services.register(a_service(last_seen=NOW + timedelta(days=10)))

    await services.update_heartbeat(service.service_id)

    assert await admin.pttl(key(f"record:{service.service_id}")) > 11 * A_DAY
    assert await admin.pttl(key(f"name:{service.service_name}")) > 11 * A_DAY


async def test_what_was_forgotten_is_gone_from_every_answer(services, admin, clock, key):
    gone = await services.register(a_service(service_name="name", last_seen=NOW))
    kept = await services.register(a_service(service_name="name", last_seen=NOW))
    clock.advance(hours=26)
    await services.update_heartbeat(kept.service_id)
    await admin.unlink(key(f"record:{gone.service_id}"))  # as if it had expired

    assert await services.get_service_by_id(gone.service_id) is None
    assert [service.service_id for service in await services.list_all_services()] == [
        kept.service_id
    ]
    assert len(await services.list_services_by_name("name")) == 1
    assert await services.get_service_count() == 1
    assert not await services.deregister(gone.service_id)
    with pytest.raises(NotFoundError):
        await services.update_heartbeat(gone.service_id)


async def test_counting_takes_away_what_was_forgotten(services, admin, clock, key):
    gone = await services.register(a_service(last_seen=NOW - timedelta(microseconds=1)))
    await services.register(a_service(last_seen=NOW))
    clock.advance(hours=26)
    await admin.unlink(key(f"record:{gone.service_id}"))

    await services.get_service_count()

    assert await admin.zcard(key("seen")) == 1


async def test_listing_takes_away_entries_that_lead_to_nothing(services, admin, key):
    stays = await services.register(a_service(service_name="name"))
    await services.register(stays)
    leaves = await services.register(a_service(service_name="name"))
    await services.deregister(leaves.service_id)
    moves = await services.register(a_service(service_name="name"))
    await services.register(moves.model_copy(update={"service_name": "elsewhere"}))
    assert await admin.zcard(key("name:name")) == 4

    assert await services.list_services_by_name("name") == [stays]

    assert await admin.zcard(key("name:name")) == 1
    assert await services.list_services_by_name("name") == [stays]


async def test_registering_takes_away_entries_that_are_long_outdated(services, admin, clock, key):
    first = await services.register(a_service(service_name="name", last_seen=NOW))
    await services.deregister(first.service_id)
    clock.advance(hours=51)

    await services.register(a_service(service_name="name", last_seen=NOW))

    assert await admin.zcard(key("name:name")) == 1


async def test_a_heartbeat_once_an_hour_keeps_or_restores_the_way_to_a_service(
    services, admin, clock, trips, key
):
    service = await services.register(a_service(service_name="name", last_seen=NOW))
    await admin.unlink(key("name:name"))  # evicted, say

    clock.advance(minutes=59)
    await services.update_heartbeat(service.service_id)
    unlisted = await services.list_services_by_name("name")
    clock.advance(minutes=2)
    await services.update_heartbeat(service.service_id)
    listed = await services.list_services_by_name("name")

    assert unlisted == []
    assert [found.service_id for found in listed] == [service.service_id]


async def test_another_process_that_beats_keeps_the_way_to_a_service_too(
    keyspace, services, clock, admin, key
):
    service = await services.register(a_service(last_seen=NOW))
    await admin.unlink(key(f"name:{service.service_name}"))
    other = RedisServiceDiscoveryRepository(keyspace, clock=clock, monotonic=clock.monotonic)

    await other.update_heartbeat(service.service_id)

    assert len(await other.list_services_by_name(service.service_name)) == 1


async def test_what_somebody_else_put_into_the_registry_is_no_service(services, clock, admin, key):
    service = await services.register(a_service(service_name="name", last_seen=NOW))
    for index in ("seen", "name:name"):
        await admin.zadd(key(index), {b"\xff": 1, b"r:\xff": 1, b"stranger": 1})

    assert await services.list_all_services() == [service]
    assert await services.list_services_by_name("name") == [service]
    clock.advance(days=2)
    assert await services.get_service_count() == 1


async def test_services_that_came_and_went_are_not_remembered_for_ever(services, clock):
    for number in range(50):
        await services.register(a_service(service_id=f"s-{number}", last_seen=clock()))
        clock.advance(minutes=10)

    assert len(services._listed) <= 6


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
    await admin.set(key(f"record:{service.service_id}"), '{"registration": "x", "service": {}}')

    with pytest.raises(DataIntegrityError) as refused:
        await services.get_service_by_id(service.service_id)

    assert refused.value.id == service.service_id
