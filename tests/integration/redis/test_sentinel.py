"""A primary that Sentinels find, and find again when it dies."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from redis.asyncio import Redis

from test_coordinator_data_adapter.adapters.redis import (
    Keyspace,
    KeyspaceSettings,
    RedisCacheRepository,
)
from test_coordinator_data_adapter.adapters.redis.acl import acl_rules, sentinel_acl_rules
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    OutcomeUnknownError,
    UnavailableError,
)
from test_coordinator_data_adapter.testing.servers import ThrowawayValkey

DEADLINE = 1.0
IMPATIENT = dict.fromkeys(("connect_timeout", "socket_timeout", "pool_timeout"), DEADLINE)
USER = ("on", ">pw")
NAMESPACE, REGISTRY = "test:sentinel", "test:services:"


class Watched:
    """A primary with a replica, watched by three Sentinels."""

    def __init__(self, folder, started: contextlib.ExitStack, *, given_up_after: float) -> None:
        self.primary = started.enter_context(ThrowawayValkey(folder / "primary"))
        self.replica = started.enter_context(
            ThrowawayValkey(
                folder / "replica",
                config=[
                    f"replicaof {self.primary.host} {self.primary.port}",
                    "repl-diskless-sync-delay 0",
                ],
            )
        )
        watching = [
            f"sentinel monitor service {self.primary.host} {self.primary.port} 2",
            f"sentinel down-after-milliseconds service {round(given_up_after * 1000)}",
            "sentinel failover-timeout service 3000",
        ]
        self.sentinels = [
            started.enter_context(
                ThrowawayValkey(folder / f"sentinel-{number}", is_sentinel=True, config=watching)
            )
            for number in range(3)
        ]

    @property
    def url(self) -> str:
        places = ",".join(f"{sentinel.host}:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://user:pw@{places}/service"

    def settings(self, **changes: object) -> KeyspaceSettings:
        return KeyspaceSettings(
            **{
                "url": self.url,
                "namespace": NAMESPACE,
                "registry": REGISTRY,
                "connect_timeout": 60,
                "socket_timeout": 60,
                "pool_timeout": 60,
                "sentinel_username": "user",
                "sentinel_password": "pw",
                **changes,
            }
        )

    async def settle(self) -> None:
        """Grant least rights everywhere; return when a failover would succeed."""
        rules = acl_rules(NAMESPACE, REGISTRY, topology="sentinel")
        for server, granted in [
            *((server, rules) for server in (self.primary, self.replica)),
            *((sentinel, sentinel_acl_rules()) for sentinel in self.sentinels),
        ]:
            async with Redis(host=server.host, port=server.port) as admin:
                await admin.execute_command("ACL", "SETUSER", "user", *USER, *granted)
        async with asyncio.timeout(120):
            for sentinel in self.sentinels:
                async with Redis(host=sentinel.host, port=sentinel.port) as asked:
                    while not await _is_complete(asked):  # noqa: ASYNC110 - no event tells
                        await asyncio.sleep(0.05)


async def _is_complete(sentinel: Redis) -> bool:
    state = await sentinel.sentinel_master("service")
    if state["num-other-sentinels"] != 2:
        return False
    replicas = await sentinel.sentinel_slaves("service")
    return any("disconnected" not in replica["flags"] for replica in replicas)


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """One whose primary stays."""
    with contextlib.ExitStack() as started:
        folder = tmp_path_factory.mktemp("sentinel")
        watched = Watched(folder, started, given_up_after=600)
        asyncio.run(watched.settle())
        yield watched


@pytest.fixture
async def doomed(tmp_path_factory):
    """One whose primary may be killed."""
    with contextlib.ExitStack() as started:
        folder = tmp_path_factory.mktemp("doomed")
        doomed = await asyncio.to_thread(Watched, folder, started, given_up_after=0.5)
        await doomed.settle()
        yield doomed


async def test_a_primary_is_found_again_when_it_dies_under_load(doomed, stopwatch):
    keyspace = Keyspace(doomed.settings(**IMPATIENT))
    cache = RedisCacheRepository(keyspace)
    ended: list[type] = []
    slowest = 0.0
    is_over = asyncio.Event()

    async def load(number: int) -> None:
        nonlocal slowest
        while not is_over.is_set():
            before = stopwatch()
            try:
                await cache.increment(f"counter-{number}")
                await cache.set(f"key-{number}", number)
                await cache.get(f"key-{number}")
            except AdapterError as error:
                ended.append(type(error))
                await asyncio.sleep(0.02)
            slowest = max(slowest, stopwatch() - before)

    async with asyncio.timeout(120), asyncio.TaskGroup() as loads:
        for number in range(5):
            loads.create_task(load(number))
        await until_it_works(cache)
        await asyncio.to_thread(doomed.primary.kill)
        await until_it_works(cache)
        is_over.set()

    assert set(ended) <= {UnavailableError, OutcomeUnknownError}
    assert UnavailableError in ended
    assert slowest < 3 * (3 * DEADLINE) + 1
    assert keyspace.topology == "sentinel"
    assert keyspace.pool_use().in_use == 0
    await cache.aclose()
    await keyspace.aclose()


async def until_it_works(cache: RedisCacheRepository) -> None:
    while True:
        with contextlib.suppress(AdapterError):
            await cache.set("works", 1)
            return
        await asyncio.sleep(0.05)


async def test_one_sentinel_that_answers_is_enough(watched):
    dead, (_, frozen, alive) = "127.0.0.1:1", watched.sentinels
    places = ",".join([dead, *(f"{asked.host}:{asked.port}" for asked in (frozen, alive))])
    url = f"redis+sentinel://user:pw@{places}/service"
    keyspace = Keyspace(watched.settings(url=url, **IMPATIENT))
    frozen.freeze()

    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(UnavailableError):
                await keyspace.probe()
                break

    frozen.thaw()
    await keyspace.aclose()


async def test_what_the_sentinels_do_not_know_or_grant_is_told(watched):
    unknown = Keyspace(watched.settings(url=watched.url.replace("/service", "/elsewhere")))
    denied = Keyspace(watched.settings(sentinel_password="wrong"))

    with pytest.raises(ConfigurationError, match="service"):
        await unknown.probe()
    with pytest.raises(ConfigurationError):
        await denied.probe()

    await unknown.aclose()
    await denied.aclose()


def misled(watched, folder, place, **config):
    """A Sentinel that announces something else than the primary, and goes on doing so."""
    host, port = place
    watching = [
        f"sentinel monitor service {host} {port} 1",
        "sentinel down-after-milliseconds service 600000",
    ]
    return ThrowawayValkey(folder, is_sentinel=True, config=watching, **config)


async def test_a_sentinel_that_announces_a_replica_is_not_believed(watched, tmp_path_factory):
    replica = (watched.replica.host, watched.replica.port)
    with misled(watched, tmp_path_factory.mktemp("lagging"), replica) as lagging:
        places = (
            f"{lagging.host}:{lagging.port},{watched.sentinels[1].host}:{watched.sentinels[1].port}"
        )
        both = Keyspace(
            watched.settings(
                url=f"redis+sentinel://user:pw@{places}/service",
                sentinel_username=None,
                sentinel_password=None,
            )
        )
        alone = Keyspace(
            watched.settings(
                url=f"redis+sentinel://user:pw@{lagging.host}:{lagging.port}/service",
                sentinel_username=None,
                sentinel_password=None,
            )
        )
        cache = RedisCacheRepository(both)

        await asyncio.gather(*(cache.set(f"key-{number}", number) for number in range(10)))
        with pytest.raises(UnavailableError, match=f"{replica[1]}.*is a replica"):
            await alone.probe()

        assert len(await cache.keys()) == 10
        await cache.flush_all()
        await both.aclose()
        await alone.aclose()


async def test_an_announced_address_that_leads_nowhere_is_named(watched, tmp_path_factory):
    with misled(watched, tmp_path_factory.mktemp("nowhere"), ("127.0.0.1", 1)) as nowhere:
        keyspace = Keyspace(
            watched.settings(
                url=f"redis+sentinel://user:pw@{nowhere.host}:{nowhere.port}/service",
                sentinel_username=None,
                sentinel_password=None,
            )
        )
        with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:1, which a Sentinel announces"):
            await keyspace.probe()
        await keyspace.aclose()


async def test_sentinels_that_do_not_answer_are_told_apart_from_a_missing_primary(watched):
    keyspace = Keyspace(
        watched.settings(url="redis+sentinel://user:pw@127.0.0.1:1,127.0.0.1:2/service")
    )
    with pytest.raises(UnavailableError, match="no Sentinel answers"):
        await keyspace.probe()
    await keyspace.aclose()
