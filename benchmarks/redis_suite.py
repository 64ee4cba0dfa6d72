"""Redis: the operations of cache and registry, and those of the drivers and the peers."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any

import orjson
from redis.asyncio import Redis

from benchmarks.clients import CacheClient, CacheClients, CacheOpener
from benchmarks.measuring import (
    LIBRARY,
    Clock,
    Operation,
    Outcome,
    Sample,
    Taken,
    Target,
    at_once,
    measure,
    progress,
    repeated,
)
from benchmarks.redis_drivers import BARE, DRIVERS
from benchmarks.report import Figure, Report
from benchmarks.scale import Scale
from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
from test_coordinator_data_adapter.interfaces import ServiceDiscoveryRepository
from test_coordinator_data_adapter.models import ServiceInfo

AIOCACHE, CASHEWS, COREDIS, GLIDE = "aiocache", "cashews", "coredis", "valkey-glide"
CALLERS = 50
MANY = 100
SERVICE = "orders"
OF_A_SERVICE = 10
MOST_BLOCKED_SECONDS = 0.020
MOST_TRIPS = 2

_VALUE: dict[str, Any] = {
    "run_id": "run-000007",
    "status": "passed",
    "durations": [12, 48, 7],
    "ratio": 0.98,
    "services": {"orders": True, "payments": None},
}
_ENCODED = orjson.dumps(_VALUE)
_FASTER = 1.0


@dataclass(frozen=True)
class Place:
    """A Redis, and the PostgreSQL that the factory is given besides."""

    host: str
    port: int
    postgres_url: str = field(repr=False)

    @asynccontextmanager
    async def factory(self, instance: str) -> AsyncGenerator[AdapterFactory]:
        """The library as its users open it, with the settings it comes with."""
        config = AdapterConfig(
            service_instance_name=instance,
            postgres_url=self.postgres_url,
            redis_url=f"redis://{self.host}:{self.port}/0",
            redis_registry=f"test:services-{instance}",
            log_level="CRITICAL",  # nobody made the schema: PostgreSQL is not used here
            startup_strict=False,
        )
        async with AdapterFactory(config) as factory:
            if "Redis" not in type(factory.get_cache_repository()).__name__:
                raise RuntimeError("Redis was not used")
            yield factory

    @asynccontextmanager
    async def library(self, _: str, __: int) -> CacheClients:
        """The library's own cache."""
        async with self.factory("bench") as factory:
            cache = factory.get_cache_repository()
            yield CacheClient(
                get=cache.get,
                set=lambda key, value: cache.set(key, value, ttl=60),
                get_many=cache.get_many,
                set_many=lambda items: cache.set_many(items, ttl=60),
                delete_pattern=cache.delete_pattern,
                prefix=factory.config.redis_namespace + ":",
            )


def _key(number: int) -> str:
    return f"result:{number:06}"


_KEYS = [_key(number) for number in range(MANY)]


def _given(client: CacheClient) -> Any:
    return _ENCODED if client.takes_bytes else _VALUE


def _samples(
    clients: Mapping[str, CacheClient],
    method: str,
    sample: Callable[[CacheClient, Callable[..., Awaitable[Any]]], Sample],
) -> dict[str, Sample]:
    return {
        name: sample(client, call)
        for name, client in clients.items()
        if (call := getattr(client, method)) is not None
    }


@asynccontextmanager
async def _opened(
    place: Place, openers: Mapping[str, CacheOpener], failures: dict[str, str]
) -> AsyncGenerator[dict[str, CacheClient]]:
    """Everyone who can be opened and keeps what is set; why the others cannot is noted."""
    async with AsyncExitStack() as stack:
        clients: dict[str, CacheClient] = {}
        for name, opener in openers.items():
            try:
                client = await stack.enter_async_context(opener(place.host, place.port))
                assert client.set is not None
                assert client.get is not None
                for key in _KEYS:
                    await client.set(key, _given(client))
                if await client.get(_KEYS[7]) != _given(client):
                    raise ValueError("what comes back is not what was set")
                clients[name] = client
            except Exception as error:  # noqa: BLE001 - reported, and the others go on
                failures[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                progress(f"  {name} cannot be used: {failures[name]}")
        yield clients


async def measurements(
    place: Place, scale: Scale, peers: Mapping[str, CacheOpener], report: Report
) -> AsyncGenerator[Outcome | Figure]:
    """Measure one thing after the other."""
    async with Redis(host=place.host, port=place.port) as redis:
        await redis.flushall()
        info = await redis.info("server")
        report.facts["server"] = (
            f"{info.get('server_name', 'redis')}"
            f" {info.get('valkey_version') or info['redis_version']}"
            " over TCP on loopback, nothing kept on disk"
        )
        report.facts["value"] = f"a JSON object of {len(_ENCODED)} bytes"
        report.facts["rounds"] = str(scale.rounds)
        rounds = scale.rounds
        openers: dict[str, CacheOpener] = {LIBRARY: place.library, **DRIVERS, **peers}
        async with _opened(place, openers, report.failures) as clients:
            for operation in _operations(clients, scale):
                yield await measure(operation, rounds)
            yield await measure(_delete_pattern(clients, redis, scale), max(2, rounds // 10))
            yield await _blocked(clients[LIBRARY], redis, scale)
        async for one in _registry(place, redis, scale):
            yield one


def _faster_than(*names: str) -> tuple[Target, ...]:
    return tuple(Target(_FASTER, name) for name in names)


def _operations(clients: Mapping[str, CacheClient], scale: Scale) -> list[Operation]:
    def random_key() -> str:
        return random.choice(_KEYS)

    slower = _faster_than(AIOCACHE, CASHEWS, COREDIS)
    return [
        Operation(
            "get, one after the other",
            BARE,
            _samples(
                clients,
                "get",
                lambda _, call: repeated(lambda: call(random_key()), scale.calls),
            ),
            (Target(1.25, BARE), *slower),
        ),
        Operation(
            "set with TTL, one after the other",
            BARE,
            _samples(
                clients,
                "set",
                lambda client, call: repeated(
                    partial(lambda value: call(random_key(), value), _given(client)), scale.calls
                ),
            ),
            (Target(1.25, BARE), *slower),
        ),
        Operation(
            f"get, {CALLERS} callers at once",
            BARE,
            _samples(
                clients,
                "get",
                lambda _, call: at_once(
                    lambda: call(random_key()), CALLERS, max(1, scale.calls // 4)
                ),
            ),
            (Target(1 / 4, BARE), Target(1 / 2, GLIDE)),
        ),
        Operation(
            f"get_many, {MANY} values",
            BARE,
            _samples(
                clients,
                "get_many",
                lambda _, call: repeated(lambda: call(_KEYS), max(1, scale.calls // 4)),
            ),
            (Target(1.6, BARE), *slower, *_faster_than(GLIDE)),
        ),
        Operation(
            f"set_many with TTL, {MANY} values",
            BARE,
            _samples(
                clients,
                "set_many",
                lambda client, call: repeated(
                    partial(call, dict.fromkeys(_KEYS, _given(client))), max(1, scale.calls // 4)
                ),
            ),
            (Target(1.1, BARE), *slower),
        ),
    ]


def _delete_pattern(clients: Mapping[str, CacheClient], redis: Redis, scale: Scale) -> Operation:
    doomed = scale.keys // 10

    def deleting(client: CacheClient, call: Callable[..., Awaitable[Any]]) -> Sample:
        async def sample() -> Taken:
            await _set_keys(redis, f"{client.prefix}doomed:", doomed)
            pattern = "doomed:*"
            clock = Clock()
            await call(pattern)
            taken = clock.read()
            left = await redis.exists(f"{client.prefix}doomed:{doomed - 1:07}")
            if left:
                raise ValueError("it left keys behind")
            return taken

        return sample

    async def keep_the_rest() -> None:
        await _set_keys(redis, "kept:", scale.keys - doomed)

    samples = _samples(clients, "delete_pattern", deleting)
    return Operation(
        f"delete_pattern, {doomed:,} of {scale.keys:,} keys",
        BARE,
        samples,
        (Target(1.5, BARE), *_faster_than(AIOCACHE, CASHEWS, COREDIS, GLIDE)),
        keep_the_rest,
    )


async def _blocked(client: CacheClient, redis: Redis, scale: Scale) -> Figure:
    doomed = scale.keys // 10
    call = client.delete_pattern
    assert call is not None
    await _set_keys(redis, f"{client.prefix}doomed:", doomed)
    seconds, command = await _longest_command(redis, partial(call, "doomed:*"))
    return Figure(
        f"delete_pattern, {doomed:,} of {scale.keys:,} keys: longest that the server is blocked",
        f"≤ {MOST_BLOCKED_SECONDS * 1000:.0f} ms",
        f"{seconds * 1000:.2f} ms, by one {command}",
        seconds <= MOST_BLOCKED_SECONDS,
    )


async def _set_keys(redis: Redis, prefix: str, number: int) -> None:
    for start in range(0, number, 10_000):
        upto = min(number, start + 10_000)
        await redis.mset({f"{prefix}{place:07}": b"1" for place in range(start, upto)})


async def _registry(place: Place, redis: Redis, scale: Scale) -> AsyncGenerator[Outcome | Figure]:
    """Who asks a large registry, beside who asks a small one."""
    async with place.factory("small") as small, place.factory("large") as large:
        few, many = (
            small.get_service_discovery_repository(),
            large.get_service_discovery_repository(),
        )
        progress(f"  registering {scale.services:,} services")
        await _register(few, OF_A_SERVICE)
        await _register(many, scale.services)
        crowded = f"{LIBRARY}, {scale.services:,} services"
        # Each sample names its own registry: lambdas in a loop would share the last one.
        beats = {
            LIBRARY: partial(few.update_heartbeat, f"{SERVICE}-000"),
            crowded: partial(many.update_heartbeat, f"{SERVICE}-000"),
        }
        lists = {
            LIBRARY: partial(few.list_services_by_name, SERVICE),
            crowded: partial(many.list_services_by_name, SERVICE),
        }
        trip = "redis-py, one trip (GET)"
        for name, calls in (
            ("update_heartbeat", beats),
            (f"list_services_by_name, {OF_A_SERVICE} services", lists),
        ):
            samples = {who: repeated(call, scale.calls) for who, call in calls.items()}
            samples[trip] = repeated(lambda: redis.get("nothing"), scale.calls)
            yield await measure(
                Operation(name, trip, samples, (Target(1.3, LIBRARY, whom=crowded),)),
                scale.rounds,
            )
            trips = await _trips(redis, calls[crowded])
            yield Figure(f"{name}: trips", "≤ 2", f"{trips:g}", trips <= MOST_TRIPS)


async def _register(repository: ServiceDiscoveryRepository, number: int) -> None:
    now = datetime.now(UTC)
    for place in range(number):
        ours = place < OF_A_SERVICE
        await repository.register(
            ServiceInfo(
                service_id=f"{SERVICE}-{place:03}" if ours else f"other-{place:06}",
                service_name=SERVICE if ours else f"other-{place // OF_A_SERVICE}",
                version="1.0.0",
                host="10.0.0.1",
                grpc_port=50051,
                http_port=8080,
                last_seen=now,
                registered_at=now,
                metadata={"zone": "a"},
            )
        )


async def _trips(redis: Redis, call: Callable[[], Awaitable[object]]) -> float:
    """How often the server had to read for one call."""
    calls = 50

    async def reads() -> int:
        return int((await redis.info("stats"))["total_reads_processed"])

    before = await reads()
    for _ in range(calls):
        await call()
    # The second question was read as well.
    return (await reads() - before - 1) / calls


async def _longest_command(
    redis: Redis, call: Callable[[], Awaitable[object]]
) -> tuple[float, str]:
    """Seconds that the slowest command kept everybody waiting, by the server's clock."""
    await redis.config_set("slowlog-max-len", 100_000)
    await redis.config_set("slowlog-log-slower-than", 0)
    await redis.slowlog_reset()
    await call()
    await redis.config_set("slowlog-log-slower-than", -1)
    slowest = max(await redis.slowlog_get(100_000), key=lambda entry: int(entry["duration"]))
    return int(slowest["duration"]) / 1e6, bytes(slowest["command"]).split()[0].decode()
