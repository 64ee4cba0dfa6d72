"""Turns settings into redis-py's connections and clients, configured so that they never retry."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedConnection
from redis.backoff import NoBackoff

from test_coordinator_data_adapter.adapters.redis.address import Address, KeyspaceSettings
from test_coordinator_data_adapter.adapters.redis.cluster import ClusterTransport
from test_coordinator_data_adapter.adapters.redis.connection import ServerConnection, connected
from test_coordinator_data_adapter.adapters.redis.route import Route
from test_coordinator_data_adapter.adapters.redis.sentinel import PrimaryConnector, Sentinels
from test_coordinator_data_adapter.adapters.redis.server import ServerTransport
from test_coordinator_data_adapter.errors import ConfigurationError

__all__ = ["Opened", "open_route"]


@dataclass(frozen=True, slots=True)
class Opened:
    """What a `Keyspace` travels by.

    Attributes:
        route: the trips.
        client: redis-py's own client with the same settings, for callers who want one.
        sentinel: what finds the primary, to be closed last; None: nothing has to.
    """

    route: Route
    client: Redis | RedisCluster
    sentinel: Sentinels | None = None

    async def aclose(self) -> None:
        """Close everything."""
        await self.route.aclose()
        await self.client.aclose()
        if self.sentinel is not None:
            await self.sentinel.aclose()


def open_route(settings: KeyspaceSettings, address: Address) -> Opened:
    """Make everything and connect nothing.

    Raises:
        ConfigurationError: a certificate file cannot be read.
    """
    context = None if address.tls is None else address.tls.context("redis_tls")
    if address.topology == "cluster":
        return _cluster(settings, address, context)
    options = _options(settings, address, context)
    if address.topology == "sentinel":
        return _sentinel(settings, address, context, options)
    kind: type[AbstractConnection] = Connection if context is None else _TlsConnection
    if address.path is not None:
        kind, options["path"] = UnixDomainSocketConnection, address.path
    else:
        options["host"], options["port"] = address.nodes[0]
    pool = ConnectionPool(connection_class=kind, max_connections=settings.pool_size, **options)
    return Opened(_server(settings, lambda: connected(kind(**options))), Redis.from_pool(pool))


def _options(
    settings: KeyspaceSettings, address: Address, context: ssl.SSLContext | None
) -> dict[str, Any]:
    """What connections to the servers that hold the keys are made with."""
    tls = {} if context is None else {"tls_context": context}
    return {
        "db": address.database,
        "username": address.username,
        "password": address.password,
        **_never_retry(settings.connect_timeout),
        **tls,
    }


def _server(
    settings: KeyspaceSettings, connect: Callable[[], Awaitable[ServerConnection]]
) -> ServerTransport:
    return ServerTransport(
        connect,
        size=settings.pool_size,
        pool_timeout=settings.pool_timeout,
        connect_timeout=settings.connect_timeout,
        socket_timeout=settings.socket_timeout,
    )


def _never_retry(connect_timeout: float) -> dict[str, Any]:
    return {
        "driver_info": None,  # else CLIENT SETINFO is sent, which a restricted user is denied
        "health_check_interval": 0,  # else PING is sent, which a restricted user is denied
        "protocol": 2,  # else HELLO is sent, one more trip for each connection
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": connect_timeout,
        "socket_timeout": None,  # one deadline around the whole trip costs less than one per read
    }


def _sentinel(
    settings: KeyspaceSettings,
    address: Address,
    context: ssl.SSLContext | None,
    options: dict[str, Any],
) -> Opened:
    # Asked one after the other: a frozen one must leave time for the next, and for connecting.
    each = settings.connect_timeout / (len(address.nodes) + 1)
    asked: dict[str, Any] = {
        "driver_info": None,
        "protocol": 2,
        "retry": Retry(NoBackoff(), 0),
        "socket_connect_timeout": each,
        "socket_timeout": each,
        "username": settings.sentinel_username,
        "password": settings.sentinel_password,
    }
    sentinels = Sentinels(
        [Redis.from_pool(_sentinel_pool(*node, context, asked)) for node in address.nodes], asked
    )
    service = address.service or ""
    kind = Connection if context is None else _TlsConnection
    connector = PrimaryConnector(
        service,
        sentinels,
        lambda server: kind(host=server[0], port=server[1], **options),
        connect_timeout=settings.connect_timeout,
    )
    pool = SentinelConnectionPool(  # type: ignore[no-untyped-call] # redis-py's gap
        service,
        sentinels,
        connection_class=SentinelManagedConnection if context is None else _SentinelTlsConnection,
        max_connections=settings.pool_size,
        **options,
    )
    return Opened(_server(settings, connector.connect), Redis.from_pool(pool), sentinels)


def _sentinel_pool(
    host: str, port: int, context: ssl.SSLContext | None, asked: dict[str, Any]
) -> ConnectionPool:
    if context is None:
        return ConnectionPool(host=host, port=port, **asked)
    return ConnectionPool(
        connection_class=_TlsConnection, host=host, port=port, tls_context=context, **asked
    )


def _cluster(
    settings: KeyspaceSettings, address: Address, context: ssl.SSLContext | None
) -> Opened:
    try:
        nodes = [ClusterNode(host, port) for host, port in address.nodes]
    except socket.gaierror:
        raise ConfigurationError("redis_url names a host that cannot be resolved") from None
    client = RedisCluster(
        startup_nodes=nodes,
        driver_info=None,
        dynamic_startup_nodes=False,  # else the configured names are forgotten
        health_check_interval=0,
        max_connections=2 * settings.pool_size,
        password=address.password,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_connect_timeout=settings.connect_timeout,
        socket_timeout=settings.socket_timeout,
        ssl=context is not None,
        username=address.username,
    )
    if context is not None:
        # redis-py would trust the system's authorities beside the given ones.
        tls = {"connection_class": _TlsConnection, "tls_context": context}
        client.connection_kwargs.update(tls)
        for node in client.nodes_manager.startup_nodes.values():
            node.connection_class = _TlsConnection
            node.connection_kwargs["tls_context"] = context
    options = _options(settings, address, context)
    kind = Connection if context is None else _TlsConnection

    def transport_to(host: str, port: int) -> ServerTransport:
        return _server(settings, lambda: connected(kind(host=host, port=port, **options)))

    transport = ClusterTransport(
        transport_to, address.nodes, connect_timeout=settings.connect_timeout
    )
    return Opened(transport, client)


class _TlsConnection(SSLConnection):
    """An encrypted connection with a context made once: redis-py reads all certificates anew."""

    def __init__(self, *, tls_context: ssl.SSLContext, **options: Any) -> None:
        super().__init__(**options)  # pyright: ignore[reportUnknownMemberType] # redis-py's gap
        self.ssl_context.context = tls_context

    def _connection_arguments(self) -> dict[str, Any]:
        # Where redis-py closes by itself, a frozen server must not keep the socket for long.
        arguments = cast("dict[str, Any]", super()._connection_arguments())  # pyright: ignore[reportUnknownMemberType] # redis-py's gap
        return {**arguments, "ssl_shutdown_timeout": 1.0}


class _SentinelTlsConnection(SentinelManagedConnection, _TlsConnection):
    """The same to a primary that Sentinels find."""
