"""Where Redis is and how it is spoken to, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.resilience.observation import Place

__all__ = ["Address", "KeyspaceSettings", "Tls", "Topology", "parse_address"]

Topology: TypeAlias = Literal["standalone", "sentinel", "cluster"]

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
class Tls:
    """What proves either side of an encrypted connection; certificate and host are always checked.

    Attributes:
        ca_file: the certificates to trust, PEM; None: those the machine trusts.
        cert_file: this client's own certificate, PEM; None: none is shown.
        key_file: the key of that certificate, PEM, where it is not in the same file.
    """

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None


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
        tls: certificates, for ``rediss``; None: what the machine trusts.
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
    tls: Tls | None = None
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
        tls: certificates, when the connection is encrypted; None: it is not.
        username: who to be; None: the default user.
        password: its password.
    """

    topology: Topology
    nodes: tuple[tuple[str, int], ...] = ()
    path: str | None = None
    database: int = 0
    service: str | None = None
    tls: Tls | None = None
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
    """Read the URL strictly: what is not understood is refused rather than passed over.

    Raises:
        ConfigurationError: names the option or the part that is wrong, never what it held.
    """
    try:
        parts = urlsplit(settings.url)
        credentials, _, places = parts.netloc.rpartition("@")
    except ValueError:
        raise _wrong("is no URL; a password must have its special characters escaped") from None
    if parts.scheme not in _SCHEMES:
        raise _wrong(f"must begin with one of: {', '.join(f'{name}://' for name in _SCHEMES)}")
    # Behind its place, only the path of a socket may hold one.
    behind = parts.query if parts.scheme == "unix" else parts.path + parts.query
    if parts.fragment or "@" in credentials + behind:
        raise _wrong(
            "holds an unescaped #, @, / or ?; escape those of the password as %23, %40, %2F and %3F"
        )
    encrypted = parts.scheme.startswith("rediss")
    if settings.tls is not None and not encrypted:
        raise ConfigurationError(
            "redis_tls_* is set, yet redis_url begins with"
            f" {parts.scheme}://, which encrypts nothing: begin it with rediss"
        )
    username, _, password = credentials.partition(":")
    address = Address(
        topology="standalone",
        database=_option_of(parts) or 0,
        tls=(settings.tls or Tls()) if encrypted else None,
        username=unquote(username) or None,
        password=unquote(password) or None,
    )
    if parts.scheme == "unix":
        return _unix(settings, parts, address)
    segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    if parts.scheme.endswith("+sentinel") or settings.sentinels or settings.sentinel_service:
        service = settings.sentinel_service
        if parts.scheme.endswith("+sentinel") and segments and not segments[0].isdecimal():
            service = segments.pop(0)
        address = _with_database(address, segments)
        return _sentinel(settings, places, service, address)
    return _servers(settings, places, _with_database(address, segments))


def _unix(settings: KeyspaceSettings, parts: SplitResult, address: Address) -> Address:
    if settings.cluster or settings.sentinels or settings.sentinel_service:
        raise _wrong("names a unix socket, which neither a cluster nor a Sentinel has")
    if not parts.path:
        raise _wrong("must name the path of the socket: unix:///run/redis.sock")
    return replace(address, path=unquote(parts.path))


def _sentinel(
    settings: KeyspaceSettings, places: str, service: str | None, address: Address
) -> Address:
    if settings.cluster:
        raise ConfigurationError("redis_cluster and a Sentinel exclude each other: choose one")
    if not service:
        raise _wrong("must name the Sentinels' service: redis+sentinel://host:26379/service/0")
    nodes = settings.sentinels or _nodes(places, _SENTINEL_PORT)
    return replace(address, topology="sentinel", nodes=nodes, service=service)


def _servers(settings: KeyspaceSettings, places: str, address: Address) -> Address:
    nodes = _nodes(places, _PORT)
    if settings.cluster:
        if address.database:
            raise _wrong("names a database, yet a cluster has none but 0")
        return replace(address, topology="cluster", nodes=nodes)
    if len(nodes) > 1:
        raise _wrong("names several hosts; set redis_cluster, or begin it with redis+sentinel://")
    return replace(address, nodes=nodes)


def _wrong(what: str) -> ConfigurationError:
    return ConfigurationError(f"redis_url {what}")


def _option_of(parts: SplitResult) -> int | None:
    database = None
    for option, value in parse_qsl(parts.query, keep_blank_values=True):
        if option == "db" and value.isdecimal():
            database = int(value)
        elif option.startswith("ssl"):
            raise _wrong(
                f"holds the option {option}, which could weaken the connection:"
                " encrypt with rediss:// and name certificates in redis_tls_*"
            )
        else:
            instead = _INSTEAD.get(option)
            hint = f"use {instead}" if instead else "remove it"
            shown = option if option.isidentifier() else "(unnamed)"
            raise _wrong(f"holds the option {shown}, which has no effect there: {hint}")
    return database


def _with_database(address: Address, segments: list[str]) -> Address:
    if not segments:
        return address
    if len(segments) > 1 or not segments[0].isdecimal():
        raise _wrong("must end in the number of a database, such as /0, or in nothing")
    return replace(address, database=int(segments[0]))


def _nodes(places: str, port: int) -> tuple[tuple[str, int], ...]:
    nodes: list[tuple[str, int]] = []
    for place in places.split(","):
        try:
            split = urlsplit(f"//{place}")
            nodes.append((unquote(split.hostname or "localhost"), split.port or port))
        except ValueError:
            raise _wrong("holds a port that is no number from 1 to 65535") from None
    return tuple(nodes)
