"""The suites of the two ports on Redis, as users who may do little."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from test_coordinator_data_adapter.adapters.redis import (
    Keyspace,
    RedisCacheRepository,
    RedisServiceDiscoveryRepository,
)
from test_coordinator_data_adapter.testing.conformance import CacheSuite, ServiceDiscoverySuite


class CacheOnRedis(CacheSuite):
    __test__ = False

    @pytest.fixture
    def repository(self, cache):
        return cache

    @pytest.fixture
    async def neighbour(self, settings_for):
        keyspace = Keyspace(settings_for())
        repository = RedisCacheRepository(keyspace)
        yield repository
        await repository.aclose()
        await keyspace.aclose()


class ServicesOnRedis(ServiceDiscoverySuite):
    __test__ = False

    clock_stands_still = True
    longest_wait = math.inf

    @pytest.fixture
    def passed(self):
        return [timedelta()]

    @pytest.fixture
    def clock(self, passed):
        return lambda: datetime(2026, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC) + passed[0]

    @pytest.fixture
    def advance(self, passed):
        async def advance(seconds):
            passed[0] += timedelta(seconds=seconds)

        return advance

    @pytest.fixture
    def repository(self, keyspace, clock):
        return RedisServiceDiscoveryRepository(keyspace, clock=clock)


class ByThePlatformsGrants:
    @pytest.fixture
    def deployment(self, deployment):
        return type(deployment)(deployment.urls, "platform")


class OnRedis7:
    @pytest.fixture(params=["least", "platform"])
    def deployment(self, redis_7, request, deployment_of):
        return deployment_of((redis_7,), request.param)


class OnACluster:
    @pytest.fixture
    def deployment(self, cluster_urls, deployment_of):
        return deployment_of(cluster_urls)


class TestCache(CacheOnRedis):
    pass


class TestServices(ServicesOnRedis):
    pass


class TestServicesByTheRealClock(ServiceDiscoverySuite):
    @pytest.fixture
    def repository(self, services):
        return services


class TestCacheByThePlatformsGrants(ByThePlatformsGrants, CacheOnRedis):
    pass


class TestServicesByThePlatformsGrants(ByThePlatformsGrants, ServicesOnRedis):
    pass


class TestCacheOnRedis7(OnRedis7, CacheOnRedis):
    pass


class TestServicesOnRedis7(OnRedis7, ServicesOnRedis):
    pass


class TestCacheOnACluster(OnACluster, CacheOnRedis):
    pass


class TestServicesOnACluster(OnACluster, ServicesOnRedis):
    pass
