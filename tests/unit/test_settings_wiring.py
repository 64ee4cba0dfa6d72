"""Where each setting arrives: none is left out, and none is taken for another."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from test_coordinator_data_adapter import AdapterConfig, AdapterFactory, backends, factory
from test_coordinator_data_adapter.adapters.postgres import backend as postgres
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.adapters.redis import KeyspaceSettings
from test_coordinator_data_adapter.adapters.redis import backend as redis
from test_coordinator_data_adapter.embedded import PostgresEndpoint, ValkeyEndpoint
from test_coordinator_data_adapter.embedded import backend as embedded
from test_coordinator_data_adapter.errors import UnavailableError
from test_coordinator_data_adapter.observability.watch import Watch
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.testing.builders import a_service
from test_coordinator_data_adapter.tls import TlsSettings

Arrived = dict[str, list[dict[str, Any]]]

# Several hosts: nobody knocks at any of them.
SETTINGS: dict[str, Any] = {
    "service_name": "risk-watcher",
    "service_instance_name": "risk-watcher-eu",
    "service_version": "3.1.4",
    "environment": "staging",
    "startup_strict": True,
    "postgres_url": "postgresql://service@one,other/db",
    "migration_url": "postgresql://owner@one,other/db",
    "postgres_schema": "kept_here",
    "postgres_pool_size": 11,
    "postgres_max_overflow": 12,
    "postgres_pool_timeout": 13.5,
    "postgres_pool_recycle": 14.5,
    "postgres_connect_timeout": 15.5,
    "postgres_lock_timeout": 16.5,
    "postgres_idle_in_transaction_timeout": 17.5,
    "postgres_tls": "require",
    "postgres_tls_ca": Path("/postgres/ca"),
    "postgres_tls_cert": Path("/postgres/cert"),
    "postgres_tls_key": Path("/postgres/key"),
    "query_timeout": 18.5,
    "batch_size": 19,
    "log_sql_queries": True,
    "redis_url": "rediss+sentinel://one,other/service/2",
    "redis_cluster": True,
    "redis_namespace": "watcher:eu",
    "redis_registry": "watcher:family",
    "redis_pool_size": 21,
    "redis_pool_timeout": 22.5,
    "redis_socket_timeout": 23.5,
    "redis_socket_connect_timeout": 24.5,
    "redis_sentinel_username": "sentry",
    "redis_sentinel_password": SecretStr("opens nothing"),
    "redis_tls_ca": Path("/redis/ca"),
    "redis_tls_cert": Path("/redis/cert"),
    "redis_tls_key": Path("/redis/key"),
    "cache_reads": True,
    "cache_ttl_default": 31,
    "cache_ttl_scenarios": 32,
    "cache_ttl_test_runs": 33,
    "cache_ttl_results": 34,
    "heartbeat_interval": 41.5,
    "stale_service_threshold": 42.5,
    "health_check_timeout": 43.5,
    "scenarios_retention_days": 51,
    "test_runs_retention_days": 52,
    "chaos_events_retention_days": 53,
    "test_results_retention_days": 54,
    "audit_retention_days": 55,
    "retention_keep_last_runs": 56,
    "audit_actor": "the watcher",
    "log_level": "WARNING",
    "slow_query_threshold_ms": 61.5,
}
DATABASE = DatabaseSettings(
    url="postgresql://service@one,other/db",
    schema="kept_here",
    pool_size=11,
    max_overflow=12,
    pool_timeout=13.5,
    pool_recycle=14.5,
    connect_timeout=15.5,
    query_timeout=18.5,
    lock_timeout=16.5,
    idle_in_transaction_timeout=17.5,
    application_name="risk-watcher-eu 3.1.4",
    audit_actor="the watcher",
    tls=TlsSettings(
        mode="require",
        root_certificate=Path("/postgres/ca"),
        certificate=Path("/postgres/cert"),
        key=Path("/postgres/key"),
    ),
)
KEYSPACE = KeyspaceSettings(
    url="rediss+sentinel://one,other/service/2",
    namespace="watcher:eu",
    registry="watcher:family:",
    pool_size=21,
    pool_timeout=22.5,
    socket_timeout=23.5,
    connect_timeout=24.5,
    tls=TlsSettings(
        root_certificate=Path("/redis/ca"),
        certificate=Path("/redis/cert"),
        key=Path("/redis/key"),
    ),
    cluster=True,
    sentinel_username="sentry",
    sentinel_password="opens nothing",
)


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> Arrived:
    """What each class was made of, by its name; no backend can be opened."""
    told: Arrived = {}

    def record(module: Any, *names: str) -> None:
        for name in names:
            monkeypatch.setattr(module, name, recording(getattr(module, name)))

    def recording(made: Any) -> type:
        of = inspect.signature(made)
        calls = told.setdefault(made.__name__, [])

        def init(self: Any, *arguments: Any, **named: Any) -> None:
            calls.append(dict(of.bind(*arguments, **named).arguments))
            made.__init__(self, *arguments, **named)

        return type(made.__name__, (made,), {"__init__": init})

    async def nobody_is_there(_self: object) -> None:
        raise UnavailableError("nobody is there")

    for opening in (postgres.PostgresBackend, redis.RedisBackend, embedded.EmbeddedBackend):
        monkeypatch.setattr(opening, "open", nobody_is_there)
    record(postgres, "PostgresBackend")
    record(redis, "RedisBackend")
    record(embedded, "EmbeddedBackend")
    record(backends, "LateBackend", "Supervisor")
    record(factory, "CachedReads", "EventLog", "MemoryStore", "Registration", "Watch")
    return told


def test_every_setting_stands_here_with_a_value_that_is_neither_default_nor_another_ones():
    defaults = AdapterConfig()
    numbers = [value for value in SETTINGS.values() if type(value) in {int, float}]

    choosing_the_server = {"in_memory", "embedded_data_dir"}
    assert SETTINGS.keys() | choosing_the_server == AdapterConfig.model_fields.keys()
    assert [name for name, value in SETTINGS.items() if getattr(defaults, name) == value] == []
    assert len(set(numbers)) == len(numbers)


async def test_what_is_set_for_postgres_arrives_there(arrived):
    async with AdapterFactory(AdapterConfig(**SETTINGS)):
        (made,) = arrived["PostgresBackend"]

    assert made["settings"] == DATABASE
    assert made["batch_size"] == 19


async def test_what_is_set_for_redis_arrives_there(arrived):
    async with AdapterFactory(AdapterConfig(**SETTINGS)):
        (made,) = arrived["RedisBackend"]

    assert made["settings"] == KEYSPACE


async def test_without_certificates_redis_is_given_none(arrived):
    certificates = {"redis_tls_ca", "redis_tls_cert", "redis_tls_key"}
    settings = {name: value for name, value in SETTINGS.items() if name not in certificates}

    async with AdapterFactory(AdapterConfig(**settings)):
        (made,) = arrived["RedisBackend"]

    assert made["settings"] == replace(KEYSPACE, tls=TlsSettings())


async def test_a_backend_is_knocked_at_and_opened_for_as_long_as_it_may_take_to_connect(arrived):
    async with AdapterFactory(AdapterConfig(**SETTINGS)):
        pass

    knocked = {made["name"]: made["patience"] for made in arrived["LateBackend"]}
    assert knocked == {"postgres": 15.5, "redis": 24.5}
    opened = {made["backend"].name: made["deadline"] for made in arrived["Supervisor"]}
    assert opened == {"postgres": 17.5, "redis": 26.5}


async def test_each_kind_is_cached_for_its_own_time(arrived):
    async with AdapterFactory(AdapterConfig(**SETTINGS)):
        (made,) = arrived["CachedReads"]

    assert made["time_to_live"] == {
        "chaos_event": 31,
        "scenario": 32,
        "test_run": 33,
        "test_result": 34,
    }


async def test_no_read_cache_is_made_unless_that_is_set(arrived):
    async with AdapterFactory(AdapterConfig(**SETTINGS | {"cache_reads": False})):
        made = arrived.get("CachedReads", [])

    assert made == []


def test_a_registered_service_beats_as_often_as_it_is_set(arrived):
    AdapterFactory(AdapterConfig(**SETTINGS)).registered(a_service())

    (made,) = arrived["Registration"]
    assert made["heartbeat_interval"] == 41.5


@pytest.mark.parametrize(("milliseconds", "seconds"), [(61.5, 0.0615), (0, math.inf)])
def test_statements_are_slow_after_the_milliseconds_set_and_never_after_none(
    arrived, milliseconds, seconds
):
    AdapterFactory(AdapterConfig(**SETTINGS | {"slow_query_threshold_ms": milliseconds}))

    (made,) = arrived["Watch"]
    assert made["slow_after"] == seconds
    assert made["statements"] is True


async def test_the_log_and_the_trail_are_told_what_is_set_for_them_in_every_life(arrived):
    async with AdapterFactory(AdapterConfig(**SETTINGS)):
        pass

    assert arrived["EventLog"] == [{"level": "WARNING"}]
    assert arrived["MemoryStore"] == [{"audit_actor": "the watcher"}] * 2


def embedded_at(arrived: Arrived, name: str) -> Callable[[object], object]:
    (make,) = [made["make"] for made in arrived["EmbeddedBackend"] if made["name"] == name]
    return make


async def test_a_private_server_is_reached_without_what_protects_the_way_to_another(
    arrived, tmp_path
):
    config = AdapterConfig(**SETTINGS, embedded_data_dir=tmp_path)
    events = EventLog()

    backends.postgres_backend(config, Watch([], events), events)
    backends.redis_backend(config, Watch([], events), events)
    embedded_at(arrived, "postgres")(PostgresEndpoint("/run", 1, "db", "owner://", "service://"))
    embedded_at(arrived, "redis")(ValkeyEndpoint("/run/valkey.sock", "unix:///run/valkey.sock"))

    (database,) = [made["settings"] for made in arrived["PostgresBackend"]]
    (keyspace,) = [made["settings"] for made in arrived["RedisBackend"]]
    assert database == replace(DATABASE, url="service://", tls=TlsSettings(mode="disable"))
    assert keyspace == replace(
        KEYSPACE, url="unix:///run/valkey.sock", tls=TlsSettings(mode="disable"), cluster=False
    )
