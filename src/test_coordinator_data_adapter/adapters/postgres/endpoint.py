"""The PostgreSQL servers of one URL, and connecting to one of them."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias

import asyncpg
from sqlalchemy.engine import URL

from test_coordinator_data_adapter.adapters.postgres.login_guard import GuardedLoop
from test_coordinator_data_adapter.adapters.postgres.translation import (
    ReadOnlyServerError,
    TlsRefusedError,
    UnsuitableServerError,
)
from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.server_url import (
    ServerUrl,
    host_and_port,
    is_this_machine,
    parse_server_url,
    postgres_target,
)
from test_coordinator_data_adapter.tls import TLS_MODES, TlsMode, TlsSettings, strictest

__all__ = ["Endpoint", "user_and_database", "warn_unencrypted"]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_SUBJECT: Final = "the PostgreSQL URL"
_SCHEMES: Final = frozenset({"postgres", "postgresql", "postgresql+asyncpg"})
# Beside libpq's names, what other drivers call the modes.
_MODES: Final[Mapping[str, TlsMode]] = {
    **{mode: mode for mode in TLS_MODES},
    "allow": "prefer",
    "false": "disable",
    "0": "disable",
    "true": "require",
    "1": "require",
}
_SECRETS: Final = frozenset({"passfile", "password", "passwd", "pwd", "sslpassword"})
_OPTIONS: Final = frozenset(
    {
        "application_name",
        "host",
        "port",
        "ssl",
        "sslcert",
        "sslkey",
        "sslmode",
        "sslrootcert",
        "target_session_attrs",
    }
)
_ENVIRONMENT: Final = {
    "PGSSLCERT": "sslcert",
    "PGSSLKEY": "sslkey",
    "PGSSLMODE": "sslmode",
    "PGSSLROOTCERT": "sslrootcert",
    "PGTARGETSESSIONATTRS": "target_session_attrs",
}
_CONNECT_TIMEOUT: Final = 10.0
_ATTEMPTS_PER_ADDRESS: Final = 4
_ENCODING: Final = "UTF8"
_STARTING: Final = "57P03"
_REPORTED_READ_ONLY: Final = ("in_hot_standby", "default_transaction_read_only")
# By the simple protocol, which prepares nothing: the number of rows is the answer.
_ACCEPTS_WRITES: Final = (
    "SELECT WHERE NOT pg_catalog.pg_is_in_recovery()"
    " AND NOT pg_catalog.current_setting('default_transaction_read_only')::bool"
)
# What a service that writes cannot be connected to.
_READ_ONLY_TARGETS: Final = frozenset({"standby", "prefer-standby", "read-only"})
_TARGETS: Final = frozenset({"any", "primary", "read-write"})
_DIAGNOSIS_TIMEOUT: Final = 1.0
# The first message of a connection that asks for TLS: its length and its code.
_TLS_REQUEST: Final = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


class Endpoint:
    """The servers of one PostgreSQL URL, of which one is connected to.

    Attributes:
        description: what messages call it: hosts, ports, database and user.
        hosts: hosts and ports in the order they are tried; an empty host is the usual socket.
        user: who to connect as.
        database: which database to connect to.
        tls: what is demanded by the settings, the URL or the environment, whichever demands most.
        application_name: what the URL wants these connections to be called, if it does.
    """

    def __init__(
        self,
        url: ServerUrl,
        tls: TlsSettings,
        environment: Mapping[str, str],
        on_unencrypted: Callable[[str], object],
    ) -> None:
        """Merge what the URL, the settings and libpq's environment variables say."""
        if url.scheme not in _SCHEMES:
            raise ConfigurationError(f"{_SUBJECT} must begin with postgresql://", setting=_SUBJECT)
        for name, _ in url.options:
            _require_known(name, url)
        options = {
            name: environment[key] for key, name in _ENVIRONMENT.items() if environment.get(key)
        }
        given = dict(url.options)
        target = postgres_target(url, environment, subject=_SUBJECT)
        if target.user is None or target.database is None:
            raise ConfigurationError(
                f"{_SUBJECT} must name a user: this process has none", setting=_SUBJECT
            )
        self.description: Final = str(target)
        self.hosts: Final = target.hosts
        self.user: Final = target.user
        self.database: Final = target.database
        self.tls: Final = _merge(tls, given, options)
        self.application_name: Final = given.get("application_name")
        _require_writable_target(given, options)
        self._primary = 0
        self._password: Final = url.password
        self._on_unencrypted = on_unencrypted
        self._unencrypted: str | None = None
        sockets = all(host.startswith("/") for host, _ in self.hosts)
        encrypts = self.tls.mode != "disable" and not sockets
        self._context: Final = self.tls.context("postgres_tls") if encrypts else None

    @classmethod
    def of(
        cls,
        text: str,
        tls: TlsSettings,
        environment: Mapping[str, str] = os.environ,
        *,
        on_unencrypted: Callable[[str], object] | None = None,
    ) -> Endpoint:
        """Parse a URL.

        The URL may contain libpq's ``sslmode``, ``sslrootcert``, ``sslcert``, ``sslkey`` (and
        ``ssl``, as other drivers call the mode), ``host``, ``port``, ``target_session_attrs`` and
        ``application_name``. As with libpq, "require" with a root certificate verifies the
        authority.

        Args:
            text: the URL.
            tls: what the settings say of TLS.
            environment: where libpq's variables are looked up.
            on_unencrypted: is called with a warning when a connection to another machine is not
                encrypted, once until one is; it is logged unless given.

        Raises:
            ConfigurationError: the URL cannot be parsed, has an option that is unknown or contains
                a secret, or the TLS files cannot be used. The URL is never quoted.
        """
        url = parse_server_url(text, subject=_SUBJECT)
        return cls(url, tls, environment, on_unencrypted or warn_unencrypted)

    @property
    def url(self) -> URL:
        """For SQLAlchemy's engine, which connects by `connect`; without the password."""
        host, port = self.hosts[0] if len(self.hosts) == 1 else (None, None)
        return URL.create(
            "postgresql+asyncpg",
            username=self.user,
            host=host or None,
            port=port,
            database=self.database,
        )

    async def connect(self, **options: Any) -> Connection:
        """Open a connection to the first server that accepts writes.

        The server that was found last is tried first. A single address may lead to several
        servers, so a standby that answers there is tried a few times again.

        Args:
            options: asyncpg's; what the endpoint determines itself is replaced. ``timeout`` is
                shared by the servers that are tried.

        Raises:
            TlsRefusedError: TLS is demanded and the server does not support it.
            UnsuitableServerError: the database is not encoded in UTF-8, or a server on another
                machine asks for the password in clear text on an unencrypted connection.
            ReadOnlyServerError: every server that answers is a standby, or read-only.
            Exception: as the driver raised it.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + float(options.pop("timeout", _CONNECT_TIMEOUT))
        options |= {
            "user": self.user,
            "password": self._password,
            "database": self.database,
            "target_session_attrs": "any",  # a standby is recognised here
        }
        order = sorted(range(len(self.hosts)), key=lambda position: position != self._primary)
        attempts = order if len(order) > 1 else order * _ATTEMPTS_PER_ADDRESS
        failure: Exception | None = None
        for number, position in enumerate(attempts):
            host, port = self.hosts[position]
            left = deadline - loop.time()
            share = left / (len(order) - number) if len(order) > 1 else left
            try:
                async with asyncio.timeout(share):
                    connection = await self._connect_to(host, port, options | {"timeout": share})
                    await self._require_usable(connection, host, port)
            except Exception as error:  # noqa: BLE001 - the next server is tried, whatever it is
                if failure is None or _tells_more(error, failure):
                    failure = error
                if len(order) == 1 and not isinstance(error, ReadOnlyServerError):
                    break
            else:
                self._primary = position
                return connection
        assert failure is not None  # noqa: S101 - there is at least one server
        raise failure

    async def _require_usable(self, connection: Connection, host: str, port: int) -> None:
        """Close a connection to a standby, or to a database in another encoding.

        The server reports both when it accepts a connection, which costs nothing. A pooler
        repeats what it was told earlier: a standby is asked once more.
        """
        reported = connection.get_settings()
        try:
            encoding = getattr(reported, "server_encoding", _ENCODING)
            if encoding != _ENCODING:
                raise UnsuitableServerError(
                    f"the database {self.database} at {host_and_port(host, port)} is encoded in"
                    f" {encoding}; only {_ENCODING} can store every text: create the database with"
                    f" ENCODING '{_ENCODING}'"
                )
            if all(getattr(reported, name, None) == "off" for name in _REPORTED_READ_ONLY):
                return
            if await connection.execute(_ACCEPTS_WRITES) != "SELECT 1":
                raise ReadOnlyServerError(
                    f"PostgreSQL at {host_and_port(host, port)} accepts no writes: it is a standby,"
                    " or set to read-only; not applied, retry later"
                )
        except BaseException:
            connection.terminate()
            raise

    @property
    def encryption_warning(self) -> str | None:
        """What is wrong with the encryption of the connection opened last, if anything is."""
        if self._unencrypted is None:
            return None
        return (
            f"the connection to {self._unencrypted} is not encrypted: enable TLS there, and set"
            ' postgres_tls to "require" or "verify-full"'
        )

    async def _connect_to(self, host: str, port: int, options: Mapping[str, Any]) -> Connection:
        try:
            return await self._connect_by_mode(host, port, options)
        except asyncpg.InterfaceError as error:
            if isinstance(error, asyncpg.ClientConfigurationError):
                raise
            raise UnsuitableServerError(
                f"{self.description} authenticates in a way that this library does not support, or"
                " could not prove that it knows the password; use scram-sha-256"
            ) from None

    async def _connect_by_mode(
        self, host: str, port: int, options: Mapping[str, Any]
    ) -> Connection:
        connect = partial(asyncpg.connect, **{**options, "host": host or None, "port": port})
        if host.startswith("/"):
            return await connect(ssl=False, direct_tls=False)
        failure: Exception | None = None
        if self._context is not None:
            try:
                connection = await connect(ssl=self._context)
            except Exception as error:
                if self.tls.is_demanded:
                    await self._diagnose_tls(error, host, port)
                    raise
                if not _may_work_unencrypted(error):
                    raise
                failure = error
            else:
                self._unencrypted = None
                return connection
        try:
            return await self._connect_unencrypted(host, port, connect)
        except OSError as error:
            # An answer says more than that none comes any more.
            raise (failure if isinstance(failure, asyncpg.PostgresError) else error) from None

    async def _diagnose_tls(self, error: Exception, host: str, port: int) -> None:
        """Ask the server why it lost a connection, where the driver cannot tell.

        Raises:
            TlsRefusedError: it does not support TLS.
            ssl.SSLError: it refuses the client certificate.
        """
        lost = isinstance(error, ConnectionError | asyncpg.ConnectionDoesNotExistError)
        if not lost or isinstance(error, ConnectionRefusedError):
            return
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(_TLS_REQUEST)
            answer = await reader.read(1)
            if answer == b"N":
                raise TlsRefusedError
            if answer == b"S" and self.tls.certificate is not None and self._context is not None:
                # A server that has sent its reason and is sent something else may reset the
                # connection before the reason is read: here it is only listened to.
                await writer.start_tls(self._context, server_hostname=host)
                with suppress(TimeoutError, ConnectionError):
                    async with asyncio.timeout(_DIAGNOSIS_TIMEOUT):
                        await reader.read(1)
        finally:
            writer.transport.abort()

    async def _connect_unencrypted(
        self, host: str, port: int, connect: Callable[..., Awaitable[Connection]]
    ) -> Connection:
        is_local = is_this_machine(host)
        loop = GuardedLoop(
            asyncio.get_running_loop(), allows_clear_text=is_local or self.tls.mode == "disable"
        )
        server = host_and_port(host, port)
        try:
            connection = await connect(ssl=False, direct_tls=False, loop=loop)
        except Exception:
            if loop.refused:
                raise UnsuitableServerError(
                    f"{server} asks for the password in clear text over an unencrypted"
                    " connection: enable TLS there or change its authentication to"
                    ' scram-sha-256; postgres_tls "disable" allows it'
                ) from None
            raise
        if not is_local and self._unencrypted is None:
            self._unencrypted = server
            self._on_unencrypted(self.encryption_warning or "")
        return connection


def user_and_database(text: str) -> tuple[str, str]:
    """Whom a URL connects as and to which database, empty where it names none.

    Raises:
        ConfigurationError: the URL cannot be parsed. It is never quoted.
    """
    url = parse_server_url(text, subject=_SUBJECT)
    if url.scheme not in _SCHEMES:
        raise ConfigurationError(f"{_SUBJECT} must begin with postgresql://", setting=_SUBJECT)
    return url.username or "", url.path


def warn_unencrypted(warning: str, events: EventLog | None = None) -> None:
    """Log that a connection to another machine is not encrypted."""
    (events or EventLog()).warning("connection_not_encrypted", backend="postgres", warning=warning)


def _require_known(name: str, url: ServerUrl) -> None:
    if name in _SECRETS:
        raise ConfigurationError(
            f"{_SUBJECT} has the option {name}; secrets do not belong among its options:"
            " put the password before the @",
            setting=_SUBJECT,
        )
    if name not in _OPTIONS:
        raise ConfigurationError(
            f"{_SUBJECT} has an unknown option: {url.printable(name)}", setting=_SUBJECT
        )


def _merge(
    tls: TlsSettings, in_url: Mapping[str, str], in_environment: Mapping[str, str]
) -> TlsSettings:
    """The settings, and what the URL or the environment adds to them; neither weakens them."""
    name, source = "sslmode in the PostgreSQL URL", in_url
    if not {"ssl", "sslmode"} & in_url.keys():
        name, source = "PGSSLMODE", in_environment
    mode = source.get("sslmode", source.get("ssl", "disable")).lower()
    if mode not in _MODES:
        raise ConfigurationError(f"{name} must be one of {', '.join(TLS_MODES)}", setting=name)
    merged = replace(
        tls,
        mode=strictest(tls.mode, _MODES[mode]),
        root_certificate=tls.root_certificate or _path(in_url.get("sslrootcert")),
        certificate=tls.certificate or _path(in_url.get("sslcert")),
        key=tls.key or _path(in_url.get("sslkey")),
    )
    if not merged.is_demanded:
        if merged.root_certificate or merged.certificate or merged.key:
            raise ConfigurationError(
                f'TLS certificates are configured but TLS is not required (it is "{merged.mode}");'
                ' set "require" or "verify-full", or remove the certificates',
                setting="postgres_tls",
            )
        # The variables are there for other programs too: they are used where TLS is.
        return merged
    merged = replace(
        merged,
        root_certificate=merged.root_certificate or _path(in_environment.get("sslrootcert")),
        certificate=merged.certificate or _path(in_environment.get("sslcert")),
        key=merged.key or _path(in_environment.get("sslkey")),
    )
    return replace(merged, mode=merged.mode_in_force)


def _path(value: str | None) -> Path | None:
    # "system" is libpq's word for the authorities that the machine trusts, which is our default.
    return None if value in {None, "", "system"} else Path(str(value)).expanduser()


def _require_writable_target(in_url: Mapping[str, str], in_environment: Mapping[str, str]) -> None:
    name, source = "target_session_attrs in the PostgreSQL URL", in_url
    if "target_session_attrs" not in in_url:
        name, source = "PGTARGETSESSIONATTRS", in_environment
    target = source.get("target_session_attrs", "read-write")
    if target in _READ_ONLY_TARGETS:
        raise ConfigurationError(
            f"{name} is {target}, but this library writes: remove it, or set read-write",
            setting=name,
        )
    if target not in _TARGETS:
        raise ConfigurationError(f"{name} must be read-write, primary or any", setting=name)


def _tells_more(error: Exception, than: Exception) -> bool:
    """Whether one server's failure says more about the whole than that of another."""
    return _weight(error) > _weight(than)


def _weight(error: Exception) -> int:
    if isinstance(error, asyncpg.PostgresError):
        return 1 if error.sqlstate == _STARTING else 3
    if isinstance(error, UnsuitableServerError | TlsRefusedError):
        return 3
    return 2 if isinstance(error, ReadOnlyServerError) else 0


def _may_work_unencrypted(error: Exception) -> bool:
    """Whether the attempt failed because of TLS, as far as the error tells."""
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        # Such as a rule of the server for unencrypted connections only; a wrong password is
        # wrong without TLS too.
        return not isinstance(error, asyncpg.InvalidPasswordError)
    if isinstance(error, ConnectionRefusedError):
        return False
    return isinstance(error, ConnectionError | ssl.SSLError)
