"""Writers that have not heard of a reader yet, and readers that wait until they must have."""

from __future__ import annotations

import pytest

from test_coordinator_data_adapter.adapters.redis import Keyspace, KeyspaceSettings
from test_coordinator_data_adapter.adapters.redis.read_cache import RedisReadCache
from test_coordinator_data_adapter.resilience.observation import Hooks

DAY = 86_400_000


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def trips() -> list[str]:
    return []


@pytest.fixture
async def keyspace(redis_server, namespace, trips):
    settings = KeyspaceSettings(url=redis_server.url, namespace=namespace)
    hooks = Hooks(on_trip=lambda trip: trips.append(trip.command), trips_from=0.0)
    keyspace = Keyspace(settings, hooks_at=lambda _place: hooks)
    yield keyspace
    await keyspace.aclose()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reader(keyspace, clock) -> RedisReadCache:
    return RedisReadCache(keyspace, monotonic=clock)


@pytest.fixture
def writer(keyspace, clock) -> RedisReadCache:
    return RedisReadCache(keyspace, monotonic=clock)


async def test_where_nobody_reads_a_writer_asks_now_and_then_and_drops_nothing(
    writer, clock, trips, keyspace
):
    for _ in range(10):
        await writer.drop("scenario", ["a", "b"])
        await writer.drop_all("scenario")
        await writer.drop_all("test_run")
    at_first = list(trips)
    clock.now += 0.3
    await writer.drop("scenario", ["a"])

    assert at_first == ["GET", "SET"]
    assert trips == ["GET", "SET", "GET"]
    kept = [key async for key in keyspace.client.scan_iter(f"{keyspace.settings.namespace}/*")]
    assert kept == []


async def test_a_writer_that_has_heard_of_a_reader_drops_at_once(writer, reader, clock):
    await reader.announce("scenario")
    clock.now += 1
    look = await reader.look("scenario", "a")
    await reader.offer("scenario", "a", b"{}", look.token, 60)
    held = (await reader.look("scenario", "a")).entry

    await writer.drop("scenario", ["a"])

    assert held == b"{}"
    assert (await reader.look("scenario", "a")).entry is None
    await reader.offer("scenario", "a", b"{}", look.token, 60)
    assert (await reader.look("scenario", "a")).entry is None


async def test_a_reader_offers_nothing_while_a_writer_may_not_have_heard_of_it(
    writer, reader, clock
):
    await writer.drop("scenario", ["a"])  # nobody reads: believed for a quarter of a second
    await reader.announce("scenario")

    clock.now += 0.24
    believing = await reader.look("scenario", "a")
    await writer.drop("scenario", ["a"])
    clock.now += 0.24
    early = await reader.look("scenario", "a")
    clock.now += 0.24
    await writer.drop("scenario", ["a"])
    marked = await reader.look("scenario", "a")
    unmarked = await reader.look("scenario", "b")

    assert (believing.token, early.token) == (None, None)
    assert marked.token is None
    assert unmarked.token is not None


async def test_a_reader_that_joins_others_offers_at_once(keyspace, clock, reader):
    await reader.announce("scenario")
    epoch = f"{keyspace.settings.namespace}/reads:scenario"
    await keyspace.client.pexpire(epoch, DAY - 1000)  # it began a second ago

    joining = RedisReadCache(keyspace, monotonic=clock)
    await joining.look("scenario", "a")  # learns which entries count

    assert (await joining.look("scenario", "a")).token is not None


async def test_a_new_epoch_of_a_reader_that_also_writes_is_followed(reader, writer, clock):
    await reader.announce("scenario")
    clock.now += 1
    await writer.drop_all("scenario")
    await reader.drop("scenario", ["a"])  # sees that another epoch holds

    await reader.look("scenario", "b")
    clock.now += 1

    assert (await reader.look("scenario", "b")).token is not None
    assert (await reader.look("scenario", "a")).token is None


async def test_an_epoch_ends_by_itself_when_nobody_reads_any_more(reader, keyspace):
    await reader.announce("scenario")

    left = await keyspace.client.pttl(f"{keyspace.settings.namespace}/reads:scenario")

    assert 0 < left <= DAY
