"""Turns settings into redis-py's connections and clients, configured so that they never retry."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from redis import exceptions
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
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)
from redis.backoff import NoBackoff

from test_coordinator_data_adapter.adapters.redis.acl import COMMANDS
from test_coordinator_data_adapter.adapters.redis.address import Address, KeyspaceSettings
from test_coordinator_data_adapter.adapters.redis.connections import Connections
from test_coordinator_data_adapter.adapters.redis.route import Route
from test_coordinator_data_adapter.adapters.redis.shards import Shards
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
    sentinel: Sentinel | None = None

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
    common: dict[str, Any] = {
        "db": address.database,
        "username": address.username,
        "password": address.password,
        **_never_retry(settings.connect_timeout),
    }
    sentinel: Sentinel | None = None
    pool: ConnectionPool
    if address.topology == "sentinel":
        sentinel = _sentinel(settings, address, context)
        kind: type[AbstractConnection] = SentinelManagedConnection
        if context is not None:
            kind, common["tls_context"] = _SentinelTlsConnection, context
        pool = SentinelConnectionPool(  # type: ignore[no-untyped-call] # redis-py's gap
            address.service,
            sentinel,
            connection_class=kind,
            max_connections=settings.pool_size,
            **common,
        )
    else:
        kind = Connection
        if address.path is not None:
            kind, common["path"] = UnixDomainSocketConnection, address.path
        else:
            common["host"], common["port"] = address.nodes[0]
        if context is not None:
            kind, common["tls_context"] = _TlsConnection, context
        pool = ConnectionPool(connection_class=kind, max_connections=settings.pool_size, **common)
    client: Redis = Redis.from_pool(pool)
    return Opened(_connections(settings, pool.make_connection), client, sentinel)


def _connections(settings: KeyspaceSettings, make: Callable[[], AbstractConnection]) -> Connections:
    return Connections(
        make,
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
    settings: KeyspaceSettings, address: Address, context: ssl.SSLContext | None
) -> Sentinel:
    # Asked one after the other: a frozen one must leave time for the next.
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
    sentinel = _Sentinels(asked)
    sentinel.sentinels = [
        Redis.from_pool(_sentinel_pool(host, port, context, asked)) for host, port in address.nodes
    ]
    return sentinel


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
    for command in COMMANDS:
        client.set_response_callback(command.upper(), _as_it_came)
    route = Shards(
        client,
        size=settings.pool_size,
        pool_timeout=settings.pool_timeout,
        connect_timeout=settings.connect_timeout,
        socket_timeout=settings.socket_timeout,
    )
    return Opened(route, client)


def _as_it_came(response: object, **_options: object) -> Any:
    return response


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


_Primaries: TypeAlias = dict[str, dict[str, Any]]


class _Sentinels(Sentinel):
    """Asked by one connection at a time, the one that answered last first.

    redis-py's own search loses a Sentinel when two connections reorder its list at once, and
    takes a wrong password for an outage.
    """

    def __init__(self, asked: dict[str, Any]) -> None:
        super().__init__((), sentinel_kwargs=asked)  # type: ignore[no-untyped-call] # pyright: ignore[reportUnknownMemberType] # redis-py's gap
        self._asking = asyncio.Lock()

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        async with self._asking:
            return await self._discover(service_name)

    async def _discover(self, service: str) -> tuple[str, int]:
        failures: list[Exception] = []
        answers = unknown = 0
        for sentinel in tuple(self.sentinels):
            try:
                known = cast("_Primaries", await sentinel.sentinel_masters())
            except (exceptions.ConnectionError, exceptions.TimeoutError) as failure:
                failures.append(failure)
                continue
            answers += 1
            state = known.get(service)
            unknown += state is None
            if state and not state["is_sdown"] and not state["is_odown"] and state["is_master"]:
                self.sentinels.remove(sentinel)
                self.sentinels.insert(0, sentinel)
                return str(state["ip"]), int(state["port"])
        if answers == unknown > 0:
            raise ConfigurationError(
                "the Sentinels know no such service: check the name that ends redis_url"
            )
        denied = (error for error in failures if isinstance(error, exceptions.AuthenticationError))
        raise MasterNotFoundError from next(denied, None)
