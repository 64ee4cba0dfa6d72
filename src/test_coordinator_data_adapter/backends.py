"""The backends that the settings ask for, each with who watches over it."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.resilience.call_health import CallHealth
from test_coordinator_data_adapter.resilience.late_backend import LateBackend
from test_coordinator_data_adapter.resilience.supervision import Supervisor
from test_coordinator_data_adapter.server_url import (
    PostgresTarget,
    host_and_port,
    parse_server_url,
    postgres_target,
)
from test_coordinator_data_adapter.tls import TlsSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from test_coordinator_data_adapter.adapters.postgres.backend import (
        OpenPostgres,
        PostgresBackend,
    )
    from test_coordinator_data_adapter.adapters.redis.backend import OpenRedis, RedisBackend
    from test_coordinator_data_adapter.config import AdapterConfig
    from test_coordinator_data_adapter.embedded import PostgresEndpoint
    from test_coordinator_data_adapter.observability.watch import Watch
    from test_coordinator_data_adapter.resilience.events import EventLog
    from test_coordinator_data_adapter.resilience.observation import HooksAt

# Drivers and private servers are imported when something is opened, not when the package is
# imported: hence the imports within the functions.

__all__ = ["Supervised", "postgres_backend", "postgres_tls", "redis_backend"]

OpenT = TypeVar("OpenT")

# Starting a private server may begin with making its data folder.
_EMBEDDED_DEADLINE: Final = 90.0
_REDIS_PORT: Final = 6379


@dataclass(frozen=True, slots=True)
class Supervised(Generic[OpenT]):
    """What a backend has to offer while it is open, and who watches over it.

    Attributes:
        supervisor: opens the backend, tries again while it cannot, and closes it.
        opened: what is handed out over the backend; raises `UnavailableError` while it is closed.
        load: imports the driver if somebody answers where the backend should be.
    """

    supervisor: Supervisor
    opened: Callable[[], OpenT]
    load: Callable[[], Awaitable[object]] | None = None

    async def start(self, *, strict: bool) -> None:
        """Import the driver, which no deadline should pay for, and open the backend."""
        if self.load is not None:
            await self.load()
        await self.supervisor.start(strict=strict)


def _call_reports(watch: Watch) -> tuple[CallHealth, HooksAt]:
    """Where the calls to a backend report, and the hooks with which they do."""
    calls = CallHealth()
    return calls, lambda place: replace(watch.hooks(place), calls=calls)


def postgres_backend(
    config: AdapterConfig, watch: Watch, events: EventLog
) -> Supervised[OpenPostgres]:
    """PostgreSQL where the settings say it is, or a private one; nothing is opened yet."""
    calls, hooks_at = _call_reports(watch)

    def make(url: str, tls: TlsSettings) -> PostgresBackend:
        from test_coordinator_data_adapter.adapters.postgres.backend import PostgresBackend
        from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings

        settings = DatabaseSettings(
            url=url,
            schema=config.postgres_schema,
            pool_size=config.postgres_pool_size,
            max_overflow=config.postgres_max_overflow,
            pool_timeout=config.postgres_pool_timeout,
            pool_recycle=config.postgres_pool_recycle,
            connect_timeout=config.postgres_connect_timeout,
            query_timeout=config.query_timeout,
            lock_timeout=config.postgres_lock_timeout,
            idle_in_transaction_timeout=config.postgres_idle_in_transaction_timeout,
            application_name=f"{config.service_instance_name} {config.service_version}",
            audit_actor=config.audit_actor,
            tls=tls,
        )
        return PostgresBackend(
            settings, batch_size=config.batch_size, hooks_at=hooks_at, events=events
        )

    supervised_by = partial(
        Supervisor,
        events=events,
        calls=calls,
        without="scenarios, runs, events and results are kept in memory and gone with the process",
        on_supervision=watch.on_supervision(),
    )
    if config.embedded_data_dir is None:
        target = _postgres_target(config.postgres_url)
        late = LateBackend(
            "postgres",
            None if target is None else _only_server(target.hosts),
            lambda: make(config.postgres_url, postgres_tls(config, config.postgres_url)),
            patience=config.postgres_connect_timeout,
            description=str(target or "PostgreSQL"),
        )
        supervisor = supervised_by(late, deadline=config.postgres_connect_timeout + 2.0)
        return Supervised(supervisor, lambda: late.inner.opened, late.load)

    from test_coordinator_data_adapter.adapters.postgres.migration import migrate
    from test_coordinator_data_adapter.embedded import EmbeddedPostgres
    from test_coordinator_data_adapter.embedded.backend import EmbeddedBackend

    async def bring_the_schema(endpoint: PostgresEndpoint) -> None:
        await migrate(endpoint.owner_url, config.postgres_schema)

    embedded = EmbeddedBackend(
        "postgres",
        EmbeddedPostgres(config.embedded_data_dir),
        # What the settings say of another server does not concern this one.
        lambda endpoint: make(endpoint.application_url, TlsSettings(mode="disable")),
        prepare=bring_the_schema,
    )
    return Supervised(
        supervised_by(embedded, deadline=_EMBEDDED_DEADLINE), lambda: embedded.inner.opened
    )


def postgres_tls(config: AdapterConfig, url: str) -> TlsSettings:
    """How the settings protect the way to the PostgreSQL of a URL."""
    return TlsSettings(
        mode=config.postgres_tls_to(url),
        root_certificate=config.postgres_tls_ca,
        certificate=config.postgres_tls_cert,
        key=config.postgres_tls_key,
    )


def redis_backend(config: AdapterConfig, watch: Watch, events: EventLog) -> Supervised[OpenRedis]:
    """Redis where the settings say it is, or a private one; nothing is opened yet."""
    # What the settings say of another server does not concern that one.
    private = config.embedded_data_dir is not None
    calls, hooks_at = _call_reports(watch)

    def make(url: str) -> RedisBackend:
        from test_coordinator_data_adapter.adapters.redis import KeyspaceSettings
        from test_coordinator_data_adapter.adapters.redis.backend import RedisBackend

        tls = TlsSettings(
            root_certificate=config.redis_tls_ca,
            certificate=config.redis_tls_cert,
            key=config.redis_tls_key,
        )
        secret = config.redis_sentinel_password
        settings = KeyspaceSettings(
            url=url,
            namespace=config.redis_namespace,
            registry=f"{config.redis_registry}:",
            pool_size=config.redis_pool_size,
            pool_timeout=config.redis_pool_timeout,
            socket_timeout=config.redis_socket_timeout,
            connect_timeout=config.redis_socket_connect_timeout,
            tls=TlsSettings(mode="disable") if private else tls,
            cluster=config.redis_cluster and not private,
            sentinel_username=config.redis_sentinel_username,
            sentinel_password=None if secret is None else secret.get_secret_value(),
        )
        return RedisBackend(settings, hooks_at=hooks_at)

    supervised_by = partial(
        Supervisor,
        events=events,
        calls=calls,
        without="services and cache are kept in memory and gone with the process",
        on_supervision=watch.on_supervision(),
    )
    if config.embedded_data_dir is None:
        description, server = _redis_target(config.redis_url)
        late = LateBackend(
            "redis",
            server,
            lambda: make(config.redis_url),
            patience=config.redis_socket_connect_timeout,
            description=description,
        )
        supervisor = supervised_by(late, deadline=config.redis_socket_connect_timeout + 2.0)
        return Supervised(supervisor, lambda: late.inner.opened, late.load)

    from test_coordinator_data_adapter.embedded import EmbeddedValkey
    from test_coordinator_data_adapter.embedded.backend import EmbeddedBackend

    embedded = EmbeddedBackend(
        "redis", EmbeddedValkey(config.embedded_data_dir), lambda endpoint: make(endpoint.url)
    )
    return Supervised(
        supervised_by(embedded, deadline=_EMBEDDED_DEADLINE), lambda: embedded.inner.opened
    )


def _postgres_target(url: str) -> PostgresTarget | None:
    """What a URL leads to; None if it cannot be parsed, which opening the backend reports."""
    with suppress(ConfigurationError):
        parsed = parse_server_url(url, subject="postgres_url")
        return postgres_target(parsed, os.environ, subject="postgres_url")
    return None


def _redis_target(url: str) -> tuple[str, tuple[str, int] | None]:
    """What messages call the server of a URL, and its host and port if there is exactly one."""
    with suppress(ConfigurationError):  # opening the backend reports it
        parsed = parse_server_url(url, subject="redis_url")
        if parsed.scheme in {"redis", "rediss"} and len(parsed.hosts) == 1:
            host, port = parsed.hosts[0]
            server = (host or "localhost", port or _REDIS_PORT)
            user = f" (user {parsed.username})" if parsed.username else ""
            return f"Redis at {host_and_port(*server)}/{parsed.path or 0}{user}", server
    return "Redis", None


def _only_server(hosts: tuple[tuple[str, int], ...]) -> tuple[str, int] | None:
    """The server to knock at; None if it may be one of several, or a socket."""
    host, port = hosts[0]
    return (host, port) if len(hosts) == 1 and host and not host.startswith("/") else None
