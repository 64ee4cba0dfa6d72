"""Cache and service registry in Redis 7.0 and newer, and in Valkey."""

from test_coordinator_data_adapter.adapters.redis.address import KeyspaceSettings
from test_coordinator_data_adapter.adapters.redis.backend import RedisBackend
from test_coordinator_data_adapter.adapters.redis.cache import RedisCacheRepository
from test_coordinator_data_adapter.adapters.redis.keyspace import Keyspace
from test_coordinator_data_adapter.adapters.redis.service_discovery import (
    RedisServiceDiscoveryRepository,
)

__all__ = [
    "Keyspace",
    "KeyspaceSettings",
    "RedisBackend",
    "RedisCacheRepository",
    "RedisServiceDiscoveryRepository",
]
