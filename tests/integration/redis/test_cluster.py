"""A cluster that loses a server, and gets it back."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine

import pytest
import redis

from test_coordinator_data_adapter.adapters.redis import (
    Keyspace,
    KeyspaceSettings,
    RedisCacheRepository,
    RedisServiceDiscoveryRepository,
)
from test_coordinator_data_adapter.adapters.redis.cluster import slot_of
from test_coordinator_data_adapter.errors import (
    ConfigurationError,
    OutcomeUnknownError,
    UnavailableError,
)
from test_coordinator_data_adapter.resilience.observation import Hooks
from test_coordinator_data_adapter.testing.builders import a_service
from test_coordinator_data_adapter.testing.servers import ThrowawayValkey

DEADLINE = 10
KEYS = [f"key-{number}" for number in range(40)]


@pytest.fixture
def nodes(tmp_path_factory, form_cluster):
    folder = tmp_path_factory.mktemp("breakable-cluster")
    config = ["cluster-enabled yes", "cluster-node-timeout 5000", "appendonly yes"]
    with contextlib.ExitStack() as started:
        nodes = [
            started.enter_context(ThrowawayValkey(folder / str(number), config=config))
            for number in range(3)
        ]
        form_cluster(nodes)
        yield nodes


@pytest.fixture
async def keyspace(nodes):
    places = ",".join(f"{node.host}:{node.port}" for node in nodes)
    opened = Keyspace(
        KeyspaceSettings(
            url=f"redis://{places}",
            namespace="test:cluster",
            cluster=True,
            pool_timeout=DEADLINE,
            connect_timeout=DEADLINE,
            socket_timeout=DEADLINE,
        )
    )
    yield opened
    assert opened.pool_use().in_use == 0
    await opened.aclose()


@pytest.fixture
def kind_of_end(outcome):
    """Awaits a call, which has to end in time; gives the kind of its error, or None."""

    async def kind_of_end(call) -> type | None:
        answer, seconds = await outcome(call)
        assert seconds < 3 * DEADLINE + 1
        return type(answer) if isinstance(answer, Exception) else None

    return kind_of_end


async def test_a_cluster_that_lost_a_server_serves_again_when_it_is_back(
    nodes, keyspace, kind_of_end
):
    cache, services = RedisCacheRepository(keyspace), RedisServiceDiscoveryRepository(keyspace)
    await cache.set_many(dict.fromkeys(KEYS, 1))
    service = await services.register(a_service())

    await asyncio.to_thread(nodes[1].kill)
    writes = set(await asyncio.gather(*(kind_of_end(cache.increment(key)) for key in KEYS)))
    reads = set(await asyncio.gather(*(kind_of_end(cache.exists(key)) for key in KEYS)))
    await asyncio.to_thread(nodes[1].start)
    async with asyncio.timeout(120):
        while await kind_of_end(cache.set_many(dict.fromkeys(KEYS, 2))) is not None:  # noqa: ASYNC110 - it is over when it works
            await asyncio.sleep(0.05)

    assert UnavailableError in writes
    assert writes <= {None, UnavailableError, OutcomeUnknownError}
    assert UnavailableError in reads
    assert reads <= {None, UnavailableError}
    assert await cache.get_many(KEYS) == dict.fromkeys(KEYS, 2)
    assert await services.get_service_by_id(service.service_id) == service
    await cache.aclose()


async def test_when_a_cluster_last_answered_is_known(keyspace):
    moments = [keyspace.answered_at, time.monotonic()]
    await keyspace.probe()
    moments += [keyspace.answered_at, time.monotonic()]

    assert moments == sorted(moments)


async def test_a_slot_that_moves_is_followed(nodes, keyspace):
    cache = RedisCacheRepository(keyspace)
    await cache.set_many(dict.fromkeys(KEYS, 1))
    admins = [redis.Redis(host=node.host, port=node.port) for node in nodes]
    ids = [str(admin.cluster("myid"), "ascii") for admin in admins]
    slot = admins[0].cluster("keyslot", "test:cluster:moving")
    source = next(number for number, admin in enumerate(admins) if serves(admin, ids[number], slot))
    target = (source + 1) % 3

    # as an operator moves it: only so does the new owner's claim outbid the old one's gossip
    move = ("CLUSTER", "SETSLOT", slot)
    admins[target].execute_command(*move, "IMPORTING", ids[source])
    admins[source].execute_command(*move, "MIGRATING", ids[target])
    for number in (target, source, 3 - target - source):
        admins[number].execute_command(*move, "NODE", ids[target])

    assert await cache.set("moving", 7)
    assert await cache.get("moving") == 7
    assert await cache.get_many(["moving", *KEYS]) == {"moving": 7, **dict.fromkeys(KEYS, 1)}
    assert admins[target].get("test:cluster:moving") == b"7"
    for admin in admins:
        admin.close()
    await cache.aclose()


def serves(admin: redis.Redis, node_id: str, slot: int) -> bool:
    for first, last, (_, _, primary, *_), *_ in admin.execute_command("CLUSTER SLOTS"):
        if first <= slot <= last:
            return str(primary, "ascii") == node_id
    return False


async def test_cancelled_calls_mix_up_no_replies_on_a_cluster(cluster_urls):
    keyspace = Keyspace(
        KeyspaceSettings(
            url=cluster_urls[0].rpartition("/")[0], namespace="test:cancelled", cluster=True
        )
    )
    cache = RedisCacheRepository(keyspace)
    await cache.set_many({key: key for key in KEYS})
    wrong: list[object] = []

    async def read(number: int) -> None:
        key, other = KEYS[number], KEYS[number - 1]
        for _ in range(3):
            answers = (await cache.get(key), await cache.get_many([key, other]))
            if answers != (key, {key: key, other: other}):
                wrong.append(answers)

    for turn in range(10):
        tasks = [asyncio.create_task(read(number)) for number in range(20)]
        await asyncio.sleep(turn / 1000)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert wrong == []
    assert await cache.get_many(KEYS) == {key: key for key in KEYS}
    assert keyspace.pool_use().in_use == 0
    await cache.aclose()
    await keyspace.aclose()


async def test_writes_to_several_servers_of_which_one_is_down_are_unknown(nodes, keyspace):
    cache = RedisCacheRepository(keyspace)
    await cache.set_many(dict.fromkeys(KEYS, 1))

    await asyncio.to_thread(nodes[1].kill)
    with pytest.raises(OutcomeUnknownError):
        await cache.set_many(dict.fromkeys(KEYS, 2))
    await asyncio.to_thread(nodes[1].start)

    async with asyncio.timeout(120):
        while (values := await values_of(cache)) is None:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.05)
    assert set(values.values()) == {1, 2}
    await cache.aclose()


async def values_of(cache: RedisCacheRepository) -> dict[str, object] | None:
    with contextlib.suppress(UnavailableError):
        return await cache.get_many(KEYS)
    return None


async def test_when_every_server_has_a_new_address_the_name_in_the_url_leads_to_them(
    nodes, tmp_path_factory, form_cluster, proxy_to
):
    proxy = await proxy_to(nodes[0].url())
    keyspace = Keyspace(
        KeyspaceSettings(
            url=f"redis://127.0.0.1:{proxy.port}", namespace="test:moved-house", cluster=True
        )
    )
    cache = RedisCacheRepository(keyspace)
    await cache.set_many(dict.fromkeys(KEYS, 1))
    folder = tmp_path_factory.mktemp("second-cluster")
    with contextlib.ExitStack() as started:
        others = [
            started.enter_context(
                ThrowawayValkey(folder / str(number), config=["cluster-enabled yes"])
            )
            for number in range(3)
        ]
        await asyncio.to_thread(form_cluster, others)
        proxy.lead_to(others[0].url())
        for node in nodes:
            await asyncio.to_thread(node.kill)

        failures = []
        async with asyncio.timeout(120):
            while len(failures) < 10:
                try:
                    await cache.set_many(dict.fromkeys(KEYS, 2))
                    break
                except (UnavailableError, OutcomeUnknownError) as failure:
                    failures.append(failure)
                    await asyncio.sleep(0.3)

        assert len(failures) <= 2
        assert await cache.get_many(KEYS) == dict.fromkeys(KEYS, 2)
        await cache.aclose()
        await keyspace.aclose()


async def test_a_key_of_a_slot_that_is_being_moved_is_found_where_it_is(nodes, keyspace):
    cache = RedisCacheRepository(keyspace)
    await cache.set("probe", 1)
    admins = [redis.Redis(host=node.host, port=node.port) for node in nodes]
    ids = [str(admin.cluster("myid"), "ascii") for admin in admins]
    slot = admins[0].cluster("keyslot", "test:cluster:moving")
    source = next(number for number, admin in enumerate(admins) if serves(admin, ids[number], slot))
    target = (source + 1) % 3
    move = ("CLUSTER", "SETSLOT", slot)
    admins[target].execute_command(*move, "IMPORTING", ids[source])
    admins[source].execute_command(*move, "MIGRATING", ids[target])

    assert await cache.increment("moving") == 1
    assert await cache.increment("moving") == 2
    assert await cache.get("moving") == 2

    assert admins[source].cluster("countkeysinslot", slot) == 0
    assert admins[target].cluster("countkeysinslot", slot) == 1
    for number in (target, source, 3 - target - source):
        admins[number].execute_command(*move, "NODE", ids[target])
    assert await cache.get("moving") == 2
    for admin in admins:
        admin.close()
    await cache.aclose()


def test_the_slot_of_a_key_is_that_of_its_hash_tag(nodes):
    with redis.Redis(host=nodes[0].host, port=nodes[0].port) as admin:
        for key in ("", "key", "a{b}c", "a{}c", "{a", "a}b{c}d{e}", "{{a}}", "täg{ü}", "x" * 2000):
            assert slot_of(key) == admin.cluster("keyslot", key), key


async def test_a_trip_to_a_cluster_that_is_late_is_told_as_timed_out(cluster_urls, trips):
    keyspace = Keyspace(
        KeyspaceSettings(
            url=cluster_urls[0].rpartition("/")[0],
            namespace="test:late",
            cluster=True,
            socket_timeout=0.1,
        ),
        hooks_at=lambda _: Hooks(on_trip=trips.append),
    )
    cache = RedisCacheRepository(keyspace)
    with contextlib.ExitStack() as paused:
        for url in cluster_urls:
            admin = paused.enter_context(redis.Redis.from_url(url))
            admin.client_pause(600_000, all=False)
            paused.callback(admin.client_unpause)
        for call in (cache.set("key", 1), cache.set_many(dict.fromkeys(KEYS, 1))):
            with pytest.raises(OutcomeUnknownError):
                await call
        await keyspace.aclose()

    assert [trip.timed_out for trip in trips] == [True, True]


async def test_a_route_to_a_cluster_belongs_to_one_event_loop(cluster_urls):
    url = cluster_urls[0].rpartition("/")[0]
    keyspace = Keyspace(KeyspaceSettings(url=url, namespace="test:loops", cluster=True))
    cache = RedisCacheRepository(keyspace)
    await cache.set("key", 1)

    def from_another_loop(call: Callable[[], Coroutine[None, None, object]]) -> None:
        with pytest.raises(ConfigurationError, match="another event loop"):
            asyncio.run(call())

    await asyncio.to_thread(from_another_loop, lambda: cache.delete("key"))
    await asyncio.to_thread(from_another_loop, lambda: cache.delete_pattern("*"))

    assert await cache.get("key") == 1
    await cache.aclose()
    await keyspace.aclose()


async def test_a_cluster_that_is_not_announced_is_a_matter_of_configuration(
    cluster_urls, kind_of_end
):
    keyspace = Keyspace(KeyspaceSettings(url=cluster_urls[0], namespace="test:unannounced"))
    cache = RedisCacheRepository(keyspace)

    ends = {await kind_of_end(cache.set(key, 1)) for key in KEYS}

    assert ends == {None, ConfigurationError}
    await cache.aclose()
    await keyspace.aclose()


async def test_a_server_that_is_no_cluster_is_a_matter_of_configuration(redis_server):
    keyspace = Keyspace(
        KeyspaceSettings(
            url=redis_server.url.rpartition("/")[0], namespace="test:cluster", cluster=True
        )
    )

    with pytest.raises(ConfigurationError):
        await keyspace.probe()

    await keyspace.aclose()
