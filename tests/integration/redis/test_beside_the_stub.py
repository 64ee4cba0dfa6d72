"""Stub and Redis side by side, told the same and compared after every step."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from test_coordinator_data_adapter.adapters.redis import (
    Keyspace,
    KeyspaceSettings,
    RedisCacheRepository,
    RedisServiceDiscoveryRepository,
)
from test_coordinator_data_adapter.adapters.stub import (
    MemoryStore,
    StubCacheRepository,
    StubServiceDiscoveryRepository,
)
from test_coordinator_data_adapter.errors import AdapterError, InvalidValueError
from test_coordinator_data_adapter.models import ServiceInfo

SETTINGS = settings(
    max_examples=25,
    stateful_step_count=25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

EDGES = [0, -1, 2**53, 2**63 - 1, -(2**63), 1.0, -0.0, 1e16, 5e-324, 1.7976931348623157e308]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from(EDGES),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=6,
)
NO_JSON = st.sampled_from(
    [math.nan, math.inf, 2**63, (1, 2), {1: 2}, b"bytes", {"a": {3}}, "\ud800", "\0", object]
)
VALUES = st.one_of(JSON, JSON, JSON, NO_JSON)
KEYS = st.sampled_from(["a", "b", "ab", "ba", "a*", "[a]", "a\\b", "ä", "k-1", "{x}y", "x" * 1024])
ANY_KEYS = st.one_of(KEYS, KEYS, KEYS, st.sampled_from(["", "\n", "x" * 1025, "\ud800", 7]))
SECONDS = st.sampled_from([None, 100, 2**31 - 1, 0, -1, 2**31, True, 1.5])
AMOUNTS = st.one_of(st.integers(-9, 9), st.sampled_from([2**63 - 1, -(2**63), 2**63, True, 1.0]))
PATTERNS = st.one_of(
    st.sampled_from(["*", "a*", "?", "[ab]", "[^a]*", "[a-k]?", r"\[a\]", r"a\\b", "ä", "{x}*"]),
    st.text("ab*?[]^-\\äk{}x1", max_size=6),
)


class Beside(RuleBasedStateMachine):
    """Tells both the same; what comes back, and which error, has to be the same too."""

    def __init__(self, url: KeyspaceSettings) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.keyspace = Keyspace(url)

    def both(
        self, ask: Callable[[object], Awaitable[object]], stub: object, live: object
    ) -> object:
        expected = self.runner.run(_ended(ask, stub))
        actual = self.runner.run(_ended(ask, live))
        assert _exactly(actual) == _exactly(expected)
        return actual

    def teardown(self) -> None:
        self.runner.run(self.clean())
        self.runner.close()

    async def clean(self) -> None:
        await RedisCacheRepository(self.keyspace).flush_all()
        await self.keyspace.aclose()


async def _ended(ask: Callable[[object], Awaitable[object]], repository: object) -> object:
    try:
        return await ask(repository)
    except InvalidValueError as error:
        return (type(error), error.field, error.rule)
    except AdapterError as error:
        return (type(error), error.id)


def _exactly(value: object) -> object:
    """A value that equals another one only if they are of the same types, signs included."""
    if isinstance(value, dict):
        return [(key, _exactly(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return [type(value), *map(_exactly, value)]
    return (type(value), repr(value) if isinstance(value, float) else value)


class CacheBeside(Beside):
    def __init__(self, url: KeyspaceSettings) -> None:
        super().__init__(url)
        self.stub = StubCacheRepository(MemoryStore(monotonic=lambda: 0.0))
        self.live = RedisCacheRepository(self.keyspace)

    def tell(self, ask):
        return self.both(ask, self.stub, self.live)

    @rule(key=ANY_KEYS, value=VALUES, ttl=SECONDS)
    def set(self, key, value, ttl):
        self.tell(lambda cache: cache.set(key, value, ttl))

    @rule(key=KEYS, value=JSON)
    def set_for_ever(self, key, value):
        self.tell(lambda cache: cache.set(key, value))

    @rule(key=ANY_KEYS)
    def get(self, key):
        self.tell(lambda cache: cache.get(key))
        self.tell(lambda cache: cache.exists(key))

    @rule(key=ANY_KEYS)
    def get_ttl(self, key):
        expected = self.runner.run(_ended(lambda cache: cache.get_ttl(key), self.stub))
        actual = self.runner.run(_ended(lambda cache: cache.get_ttl(key), self.live))
        if isinstance(expected, int):  # the stub's time stands still, that of Redis does not
            assert expected - 60 <= actual <= expected
        else:
            assert actual == expected

    @rule(key=ANY_KEYS, ttl=SECONDS)
    def expire(self, key, ttl):
        self.tell(lambda cache: cache.expire(key, ttl))

    @rule(key=ANY_KEYS)
    def delete(self, key):
        self.tell(lambda cache: cache.delete(key))

    @rule(key=ANY_KEYS, amount=AMOUNTS)
    def increment(self, key, amount):
        self.tell(lambda cache: cache.increment(key, amount))

    @rule(key=KEYS, amount=AMOUNTS)
    def decrement(self, key, amount):
        self.tell(lambda cache: cache.decrement(key, amount))

    @rule(items=st.dictionaries(KEYS, VALUES, max_size=4), ttl=SECONDS)
    def set_many(self, items, ttl):
        self.tell(lambda cache: cache.set_many(items, ttl))

    @rule(keys=st.lists(ANY_KEYS, max_size=5))
    def get_many(self, keys):
        self.tell(lambda cache: cache.get_many(keys))

    @rule(keys=st.lists(ANY_KEYS, max_size=5))
    def delete_many(self, keys):
        self.tell(lambda cache: cache.delete_many(keys))

    @rule(pattern=PATTERNS)
    def keys(self, pattern):
        self.tell(lambda cache: cache.keys(pattern))

    @rule(pattern=PATTERNS)
    def delete_pattern(self, pattern):
        self.tell(lambda cache: cache.delete_pattern(pattern))


START = datetime(2026, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)
MOMENTS = st.sampled_from(
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        START - timedelta(seconds=31, microseconds=1),
        START,
        START + timedelta(microseconds=1),
        datetime(2255, 6, 5, 23, 47, 34, 740_993, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
    ]
)
IDS = st.sampled_from(["a", "b", "ä", "a:b", "{x}", " "])
NAMES = st.sampled_from(["name", "name:", "{x}"])
THRESHOLDS = st.sampled_from([0, 0.000001, 30, 31.000001, 10_000, 2**31 - 1, -1, math.nan])
FRACTIONS = st.sampled_from([None, 0, 0.5, 1, 1.5])


@st.composite
def some_services(draw):
    return ServiceInfo(
        service_id=draw(IDS),
        service_name=draw(NAMES),
        version="1",
        host="h",
        grpc_port=draw(st.sampled_from([0, 65535])),
        http_port=1,
        last_seen=draw(MOMENTS),
        registered_at=draw(MOMENTS),
        metadata=draw(st.dictionaries(st.sampled_from("ab"), JSON, max_size=2)),
    )


class ServicesBeside(Beside):
    def __init__(self, url: KeyspaceSettings) -> None:
        super().__init__(url)
        self.now = START
        self.stub = StubServiceDiscoveryRepository(MemoryStore(clock=lambda: self.now))
        self.live = RedisServiceDiscoveryRepository(self.keyspace, clock=lambda: self.now)

    def tell(self, ask):
        return self.both(ask, self.stub, self.live)

    async def clean(self) -> None:
        for service in await self.live.list_all_services():
            await self.live.deregister(service.service_id)
        await super().clean()

    @rule(span=st.sampled_from([0.000001, 1, 30, 3600]))
    def wait(self, span):
        self.now += timedelta(seconds=span)

    @rule(service=some_services())
    def register(self, service):
        self.tell(lambda services: services.register(service))

    @rule(service_id=IDS)
    def deregister(self, service_id):
        self.tell(lambda services: services.deregister(service_id))

    @rule(service_id=st.one_of(IDS, st.just("")))
    def update_heartbeat(self, service_id):
        self.tell(lambda services: services.update_heartbeat(service_id))

    @rule(service_id=IDS, threshold=THRESHOLDS)
    def look_up(self, service_id, threshold):
        self.tell(lambda services: services.get_service_by_id(service_id))
        self.tell(lambda services: services.is_service_healthy(service_id, threshold))

    @rule(name=NAMES)
    def look_up_by_name(self, name):
        self.tell(lambda services: services.list_services_by_name(name))
        self.tell(lambda services: services.get_service_by_name(name))

    @rule()
    def look_at_all(self):
        self.tell(lambda services: services.list_all_services())
        self.tell(lambda services: services.get_service_count())

    @rule(threshold=THRESHOLDS, fraction=FRACTIONS)
    def remove_stale(self, threshold, fraction):
        self.tell(lambda services: services.remove_stale_services(threshold, max_fraction=fraction))


@pytest.mark.parametrize("machine", [CacheBeside, ServicesBeside])
def test_the_stub_and_redis_cannot_be_told_apart(machine, redis_server):
    namespace = redis_server.namespace()
    where = KeyspaceSettings(
        url=redis_server.url, namespace=namespace, registry=f"{namespace}:services:"
    )

    run_state_machine_as_test(lambda: machine(where), settings=SETTINGS)
