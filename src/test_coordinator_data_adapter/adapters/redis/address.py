"""Where Redis is and how it is spoken to, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.resilience.observation import Place
from test_coordinator_data_adapter.server_url import ServerUrl, parse_server_url
from test_coordinator_data_adapter.tls import TlsSettings

__all__ = ["Address", "KeyspaceSettings", "Topology", "parse_address"]

Topology: TypeAlias = Literal["standalone", "sentinel", "cluster"]

_SUBJECT: Final = "redis_url"
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_SCHEMES: Final = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_INSTEAD: Final[Mapping[str, str]] = {
    "max_connections": "redis_pool_size",
    "password": "the place before the @ of the URL",
    "socket_connect_timeout": "redis_socket_connect_timeout",
    "socket_timeout": "redis_socket_timeout",
    "timeout": "redis_pool_timeout",
    "username": "the place before the @ of the URL",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyspaceSettings:
    """Everything a `Keyspace` is made of.

    Attributes:
        url: ``redis://``, ``rediss://``, ``unix://`` or ``redis+sentinel://h1:26379,h2/service/0``.
        namespace: what every key of the cache starts with, without the colon that follows it.
        registry: what every key of the service registry starts with, colon included.
        pool_size: how many connections there are at most.
        pool_timeout: how many seconds a call waits for one of them.
        socket_timeout: how many seconds a trip may take, trying it again included.
        connect_timeout: how many seconds connecting may take, the Sentinels' answer included.
        tls: what is demanded, and certificates; "prefer" means what the scheme of the URL says.
        cluster: whether the servers form a Redis Cluster.
        sentinels: hosts and ports of Sentinels, in place of those of a ``redis+sentinel`` URL.
        sentinel_service: the name under which the Sentinels know the primary.
        sentinel_username: who to be for the Sentinels; None: nobody in particular.
        sentinel_password: the Sentinels' own password, where they want one.
    """

    url: str = field(repr=False)
    namespace: str
    registry: str = "test:services:"
    pool_size: int = 10
    pool_timeout: float = 5.0
    socket_timeout: float = 5.0
    connect_timeout: float = 5.0
    tls: TlsSettings = TlsSettings()
    cluster: bool = False
    sentinels: tuple[tuple[str, int], ...] = ()
    sentinel_service: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a URL and the settings beside it come to.

    Attributes:
        topology: which of redis-py's clients finds the server.
        nodes: hosts and ports: of the server, of the cluster's nodes, or of the Sentinels.
        path: the unix socket, in place of nodes.
        database: which one; 0 is the one that needs no right of its own.
        service: the name under which the Sentinels know the primary.
        tls: what is demanded of the encryption; None: the connection is not encrypted.
        username: who to be; None: the default user.
        password: its password.
    """

    topology: Topology
    nodes: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    database: int = 0
    service: str | None = None
    tls: TlsSettings | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def place(self) -> Place:
        """What may be told of it; of several servers nobody knows which one answers."""
        namespace = str(self.database)
        if self.path is not None:
            return Place("redis", namespace, self.path)
        if self.topology != "standalone":
            return Place("redis", namespace)
        ((host, port),) = self.nodes
        return Place("redis", namespace, host, None if port == _PORT else port)


def parse_address(settings: KeyspaceSettings) -> Address:
    """Parse the URL strictly: what is not understood is refused rather than ignored.

    Raises:
        ConfigurationError: names the option or the part that is wrong, never its value.
    """
    url = parse_server_url(settings.url, subject=_SUBJECT)
    if url.scheme not in _SCHEMES:
        raise _wrong(f"must begin with one of: {', '.join(f'{name}://' for name in _SCHEMES)}")
    if url.has_at_sign_in_options:
        raise _wrong("contains an unescaped @; percent-encode it as %40")
    address = Address(
        topology="standalone",
        database=_database_option(url) or 0,
        tls=_tls(settings, url.scheme),
        username=url.username,
        password=url.password,
    )
    if url.scheme == "unix":
        return _unix(settings, url, address)
    segments = [segment for segment in url.path.split("/") if segment]
    if url.scheme.endswith("+sentinel") or settings.sentinels or settings.sentinel_service:
        service = settings.sentinel_service
        if url.scheme.endswith("+sentinel") and segments and not segments[0].isdecimal():
            service = segments.pop(0)
        return _sentinel(settings, url, service, _with_database(address, segments))
    return _servers(settings, url, _with_database(address, segments))


def _tls(settings: KeyspaceSettings, scheme: str) -> TlsSettings | None:
    """What is done for TLS; None without. Redis cannot negotiate it: the scheme says it."""
    tls = settings.tls
    if scheme == "unix":
        return None
    if tls.is_demanded:
        return tls
    if scheme.startswith("rediss"):
        return replace(tls, mode="verify-full")
    if tls.root_certificate or tls.certificate or tls.key:
        raise ConfigurationError(
            "redis_tls_ca, redis_tls_cert or redis_tls_key is set, but redis_url begins with"
            f" {scheme}://, which is not encrypted: begin it with rediss",
            setting="redis_tls",
        )
    return None


def _unix(settings: KeyspaceSettings, url: ServerUrl, address: Address) -> Address:
    if settings.cluster or settings.sentinels or settings.sentinel_service:
        raise _wrong("names a unix socket, which neither a cluster nor a Sentinel has")
    if not url.path:
        raise _wrong("must name the path of the socket: unix:///run/redis.sock")
    return replace(address, path=f"/{url.path}")


def _sentinel(
    settings: KeyspaceSettings, url: ServerUrl, service: str | None, address: Address
) -> Address:
    if settings.cluster:
        raise ConfigurationError(
            "redis_cluster and a Sentinel exclude each other: choose one", setting="redis_cluster"
        )
    if not service:
        raise _wrong("must name the Sentinels' service: redis+sentinel://host:26379/service/0")
    nodes = settings.sentinels or _nodes(url, _SENTINEL_PORT)
    return replace(address, topology="sentinel", nodes=nodes, service=service)


def _servers(settings: KeyspaceSettings, url: ServerUrl, address: Address) -> Address:
    nodes = _nodes(url, _PORT)
    if settings.cluster:
        if address.database:
            raise _wrong("names a database, yet a cluster has none but 0")
        return replace(address, topology="cluster", nodes=nodes)
    if len(nodes) > 1:
        raise _wrong("names several hosts; set redis_cluster, or begin it with redis+sentinel://")
    return replace(address, nodes=nodes)


def _wrong(what: str) -> ConfigurationError:
    return ConfigurationError(f"{_SUBJECT} {what}", setting=_SUBJECT)


def _database_option(url: ServerUrl) -> int | None:
    database = None
    for option, value in url.options:
        if option == "db" and value.isdecimal():
            database = int(value)
        elif option.startswith("ssl"):
            raise _wrong(
                f"has the option {url.printable(option)}, which could weaken the connection:"
                " encrypt with rediss:// and name certificates in redis_tls_*"
            )
        else:
            instead = _INSTEAD.get(option)
            hint = f"use {instead}" if instead else "remove it"
            raise _wrong(
                f"has the option {url.printable(option)}, which has no effect there: {hint}"
            )
    return database


def _with_database(address: Address, segments: list[str]) -> Address:
    if not segments:
        return address
    if len(segments) > 1 or not segments[0].isdecimal():
        raise _wrong("must end in the number of a database, such as /0, or in nothing")
    return replace(address, database=int(segments[0]))


def _nodes(url: ServerUrl, default_port: int) -> tuple[tuple[str, int], ...]:
    hosts = url.hosts or (("", None),)
    return tuple((host or "localhost", port or default_port) for host, port in hosts)
