"""Server URLs: the one parser for all of them, and the masking of their passwords."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from getpass import getuser
from ipaddress import ip_address
from typing import Final, TypeAlias
from urllib.parse import unquote

from test_coordinator_data_adapter.errors import ConfigurationError

__all__ = [
    "HostAndPort",
    "PostgresTarget",
    "ServerUrl",
    "host_and_port",
    "is_this_machine",
    "mask_password",
    "parse_server_url",
    "postgres_target",
]

HostAndPort: TypeAlias = "tuple[str, int | None]"
"""A host name, an address or the path of a socket, and a port; None for the usual one."""

_SCHEME: Final = re.compile(r"[a-z][a-z0-9+]*")
_HOST: Final = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^:\[\]]*))(?::(?P<port>\d*))?")
_OPTION_NAME: Final = re.compile(r"[A-Za-z_]{1,40}")
_MAX_PORT: Final = 65_535
_POSTGRES_PORT: Final = 5432
_MASK: Final = "***"
_PARAMETER: Final = re.compile(
    r"(?P<name>[\w.%+-]+)(?P<equals>\s*=\s*)(?P<value>'(?:[^'\\]|\\.)*'|[^&\s]+)"
)
_SECRET_NAME: Final = re.compile(
    r"(?i)pass|pwd|secret|token|credential|(?:api|access|private)[._-]?key|\bauth(?:orization)?\b"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerUrl:
    """The parts of a URL, percent-decoded.

    Attributes:
        scheme: what is before ``://``.
        hosts: in the order of the URL; empty if it names none.
        username: None if there is none.
        password: None if there is none.
        path: without the leading slash.
        options: what follows the question mark, in order; a name may occur several times.
        has_at_sign_in_options: whether an option, or an unescaped password, contains an ``@``.
    """

    scheme: str
    hosts: tuple[HostAndPort, ...] = ()
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    path: str = ""
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    has_at_sign_in_options: bool = False

    def printable(self, option: str) -> str:
        """The name of an option for a message, unless it may be a part of a password."""
        certain = _OPTION_NAME.fullmatch(option) and not self.has_at_sign_in_options
        return option if certain else "with an unreadable name"


def parse_server_url(text: str, *, subject: str) -> ServerUrl:
    """Parse ``scheme://user:password@host1:port1,host2:port2/path?name=value&...``.

    A host may be a name, an IPv4 address, an IPv6 address in brackets, or the percent-encoded
    path of a socket.

    Args:
        text: the URL.
        subject: what messages call it, such as "redis_url".

    Raises:
        ConfigurationError: it is not such a URL. It is never quoted.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or not _SCHEME.fullmatch(scheme):
        raise ConfigurationError(
            f"{subject} cannot be parsed; write scheme://user:password@host:port/name",
            setting=subject,
        )
    place, _, query = rest.partition("?")
    authority, _, path = place.partition("/")
    credentials, at_sign, hosts = authority.rpartition("@")
    if "@" in credentials + path or "#" in rest or ("@" in query and not at_sign):
        raise ConfigurationError(
            f"{subject} contains an unescaped special character; percent-encode"
            " @ (%40), / (%2F), ? (%3F) and # (%23) in the password",
            setting=subject,
        )
    username, _, password = credentials.partition(":")
    try:
        return ServerUrl(
            scheme=scheme,
            hosts=_parse_hosts(hosts, subject),
            username=_decode(username) or None,
            password=_decode(password) or None,
            path=_decode(path),
            options=tuple(_parse_options(query)),
            has_at_sign_in_options="@" in query,
        )
    except UnicodeDecodeError:
        raise ConfigurationError(
            f"{subject} contains a percent-encoded part that is not UTF-8", setting=subject
        ) from None


@dataclass(frozen=True, slots=True)
class PostgresTarget:
    """What a PostgreSQL URL leads to; as text, what messages call it.

    Attributes:
        hosts: hosts and ports, at least one; an empty host is the usual socket of this machine.
        database: None if nothing names one.
        user: None if nothing names one.
    """

    hosts: tuple[tuple[str, int], ...]
    database: str | None
    user: str | None

    def __str__(self) -> str:
        """PostgreSQL at db.example:5432/trading_ecosystem (user test_coordinator_adapter)."""
        database = "" if self.database is None else f"/{self.database}"
        user = "" if self.user is None else f" (user {self.user})"
        return f"PostgreSQL at {_join(self.hosts)}{database}{user}"


def postgres_target(
    url: ServerUrl, environment: Mapping[str, str], *, subject: str
) -> PostgresTarget:
    """What a PostgreSQL URL leads to, as libpq determines it.

    The options ``host`` and ``port`` take precedence over the hosts before the path, and these
    over PGHOST and PGPORT. The option ``host`` may be repeated; all of them may hold lists.

    Raises:
        ConfigurationError: a host or a port cannot be parsed. Neither is quoted.
    """
    user = url.username or environment.get("PGUSER") or _system_user()
    return PostgresTarget(
        hosts=_postgres_hosts(url, environment, subject),
        database=url.path or environment.get("PGDATABASE") or user,
        user=user,
    )


def _system_user() -> str | None:
    with suppress(OSError, KeyError, ImportError):
        return getuser()
    return None


def _postgres_hosts(
    url: ServerUrl, environment: Mapping[str, str], subject: str
) -> tuple[tuple[str, int], ...]:
    hosts = url.hosts
    listed = [value for name, value in url.options if name == "host" and value]
    if listed:
        hosts = _parse_hosts(",".join(listed), subject, decoded=True)
    elif not hosts and environment.get("PGHOST"):
        hosts = _parse_hosts(environment["PGHOST"], "PGHOST", decoded=True)
    hosts = hosts or (("", None),)
    port_lists = [value for name, value in url.options if name == "port" and value]
    if port_lists:
        return _with_ports(hosts, port_lists[-1], subject, override=True)
    port_list = environment.get("PGPORT") or str(_POSTGRES_PORT)
    return _with_ports(hosts, port_list, "PGPORT", override=False)


def is_this_machine(host: str) -> bool:
    """Whether a host certainly is this machine: a socket, "localhost" or a loopback address."""
    if not host or host.startswith("/") or host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def host_and_port(host: str, port: int) -> str:
    """A server, for messages: "db.example:5432", "[::1]:5432", "/run/postgresql:5432"."""
    return f"[{host}]:{port}" if ":" in host else f"{host or 'localhost'}:{port}"


def _join(hosts: tuple[tuple[str, int], ...]) -> str:
    return ",".join(host_and_port(host, port) for host, port in hosts)


def mask_password(url: str) -> str:
    """The URL without its password, for people to read.

    This is no parser: it also masks what no parser understands. A password is masked wherever a
    URL of any scheme, or a list of ``key=value`` settings, may contain one, even if it contains
    unescaped separators; in doubt, more is masked rather than less.

    Args:
        url: any text that may be a connection URL.

    Returns:
        The URL with ``***`` in the place of every password; a URL without one unchanged.
    """
    scheme, separator, rest = (
        url.rpartition("://") if url.count("://") == 1 else url.partition("://")
    )
    if not separator:
        scheme, rest = "", url
    return scheme + separator + _PARAMETER.sub(_mask_parameter, _mask_credentials(rest))


def _mask_parameter(parameter: re.Match[str]) -> str:
    if not _SECRET_NAME.search(unquote(parameter["name"])):
        return parameter[0]
    return f"{parameter['name']}{parameter['equals']}{_MASK}"


def _mask_credentials(rest: str) -> str:
    if "@" not in rest:
        return rest
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    tail = rest[len(authority) :]
    if "@" not in authority and _is_in_option(authority, tail):
        return rest
    credentials, _, after = rest.rpartition("@")
    user, colon, password = credentials.partition(":")
    return f"{user}:{_MASK}@{after}" if colon and password else rest


def _is_in_option(authority: str, tail: str) -> bool:
    """Whether the @ behind a plain host and port belongs to the value of an option."""
    path, _, query = tail.partition("?")
    option = query.partition("@")[0].rpartition("&")[2]
    plain = all(part and _HOST.fullmatch(part) for part in authority.split(","))
    return plain and "@" not in path and "=" in option


def _decode(text: str) -> str:
    return unquote(text, errors="strict")


def _parse_options(query: str) -> Iterator[tuple[str, str]]:
    for option in query.split("&"):
        if option:
            name, _, value = option.partition("=")
            yield _decode(name), _decode(value)


def _parse_hosts(text: str, subject: str, *, decoded: bool = False) -> tuple[HostAndPort, ...]:
    if not text:
        return ()
    parts = text.split(",")
    hosts = tuple(_parse_host(part, subject, decoded=decoded) for part in parts)
    if len(parts) > 1 and not all(host for host, _ in hosts):
        raise _unknown_host(subject)
    return hosts


def _parse_host(text: str, subject: str, *, decoded: bool) -> HostAndPort:
    if decoded and (text.startswith("/") or (text.count(":") > 1 and "[" not in text)):
        return text, None  # a socket, or an IPv6 address as libpq writes it
    match = _HOST.fullmatch(text)
    host = (match["ipv6"] or match["host"]) if match else ""
    if not decoded:
        host = _decode(host)
    if match is None or re.search(r"[\x00-\x20\x7f?#]", host):
        raise _unknown_host(subject)
    return host, _parse_port(match["port"], subject) if match["port"] else None


def _unknown_host(subject: str) -> ConfigurationError:
    return ConfigurationError(
        f"{subject} contains a host or a port that cannot be parsed; write host:port, or"
        " host1:port1,host2:port2 for several",
        setting=subject,
    )


def _parse_port(text: str, subject: str) -> int:
    port = int(text) if text.isdecimal() and len(text) <= len(str(_MAX_PORT)) else 0
    if not 0 < port <= _MAX_PORT:
        raise ConfigurationError(
            f"{subject} contains a port that is not from 1 to {_MAX_PORT}", setting=subject
        )
    return port


def _with_ports(
    hosts: tuple[HostAndPort, ...], text: str, subject: str, *, override: bool
) -> tuple[tuple[str, int], ...]:
    if not override and all(port is not None for _, port in hosts):
        return tuple((host, port or _POSTGRES_PORT) for host, port in hosts)
    ports = [_parse_port(port, subject) if port else _POSTGRES_PORT for port in text.split(",")]
    if len(ports) == 1:
        ports *= len(hosts)
    if len(ports) != len(hosts):
        raise ConfigurationError(
            f"{subject} contains {len(ports)} ports for {len(hosts)} hosts; give one for all or"
            " one for each",
            setting=subject,
        )
    return tuple(
        (host, port if override or own is None else own)
        for (host, own), port in zip(hosts, ports, strict=True)
    )
