"""Where the server is and how the way there is protected, read from one URL and the settings."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast
from urllib.parse import unquote

import asyncpg
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from test_coordinator_data_adapter.adapters.postgres.settings import TlsSettings
from test_coordinator_data_adapter.adapters.postgres.translation import TlsRefusedError
from test_coordinator_data_adapter.errors import ConfigurationError

__all__ = ["Endpoint", "Protection", "user_and_database"]

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Protection: TypeAlias = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]
"""What is done for the way there; each does more than the one before."""

_STRENGTHS: Final[tuple[Protection, ...]] = (
    "disable",
    "prefer",
    "require",
    "verify-ca",
    "verify-full",
)
# libpq's names; the last four are what other drivers call it.
_MODES: Final[Mapping[str, Protection]] = {
    **{strength: strength for strength in _STRENGTHS},
    "allow": "prefer",
    "false": "disable",
    "0": "disable",
    "true": "require",
    "1": "require",
}
_DRIVERS: Final = frozenset({"postgres", "postgresql", "postgresql+asyncpg"})
_SECRETS: Final = frozenset({"passfile", "password", "passwd", "pwd", "sslpassword"})
_PLACE: Final = frozenset({"host", "port"})
_KEPT: Final = frozenset({"target_session_attrs"})
_PORTS: Final = 65_536
# SQLAlchemy 2.0 leaves the name of the database as it stands in the URL, 2.1 decodes it.
_DECODES_DATABASES: Final = make_url("postgresql://host/%61").database == "a"
_TLS_OPTIONS: Final = ("ssl", "sslmode", "sslrootcert", "sslcert", "sslkey")
# The first message of a connection that wants TLS: its length and a number made up for it.
_TLS_REQUEST: Final = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One database and the way there.

    Attributes:
        url: without any option that is not SQLAlchemy's own; its ``repr`` masks the password.
        protection: how the way is protected: what the settings ask for or what the URL asks for,
            whichever does more. A URL can never weaken what the settings demand.
        options: what the driver is told beyond the URL.
        application_name: what the URL wants these connections to be called, if it does.
    """

    url: URL
    protection: Protection
    options: Mapping[str, object] = field(repr=False)
    application_name: str | None = None

    @classmethod
    def of(cls, text: str, tls: TlsSettings) -> Endpoint:
        """Read it.

        The URL may carry libpq's ``sslmode``, ``sslrootcert``, ``sslcert``, ``sslkey`` (and
        ``ssl``, as other drivers call the mode), ``host``, ``port``, ``target_session_attrs`` and
        ``application_name``. As with libpq, "require" with a root certificate verifies the
        authority.

        Raises:
            ConfigurationError: the URL cannot be read, has an option that is unknown or holds a
                secret, or the TLS files cannot be used. The URL is never quoted.
        """
        url = _read(text)
        query = {name: _one(value) for name, value in url.query.items() if name not in _PLACE}
        for name in query:
            _refuse_unknown(name)
        tls_in_url: dict[str, str] = {name: query[name] for name in _TLS_OPTIONS if name in query}
        protection, context = _protect(tls, tls_in_url)
        options: dict[str, object] = {name: query[name] for name in _KEPT if name in query}
        options["ssl"] = context
        url = url.difference_update_query(tuple(query))
        _check_place(url)
        return cls(
            url=url,
            protection=protection,
            options=options,
            application_name=query.get("application_name"),
        )

    async def connect(self, *arguments: Any, **options: Any) -> Connection:
        """Open a connection, and tell a server without TLS from one that does not answer.

        Raises:
            TlsRefusedError: TLS is demanded and the server has none.
            Exception: as the driver raised it.
        """
        try:
            return await asyncpg.connect(*arguments, **options)
        except ConnectionError as error:
            # What the driver raises for it, it raises for a connection that breaks off as well.
            if type(error) is ConnectionError and self.protection not in {"disable", "prefer"}:
                await _expect_tls(options)
            raise


def user_and_database(text: str) -> tuple[str, str]:
    """Whom a URL connects as and to which database, empty where it says nothing of that.

    Raises:
        ConfigurationError: the URL cannot be read. It is never quoted.
    """
    url = _read(text)
    return url.username or "", url.database or ""


def _read(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "the PostgreSQL URL cannot be read; write postgresql://user:password@host:port/database"
            " and percent-encode what is special in the password"
        ) from None
    if url.drivername not in _DRIVERS:
        raise ConfigurationError("the PostgreSQL URL has to begin with postgresql://")
    behind_the_user = text.partition("://")[2].partition("@")[2].partition("?")[0]
    if "@" in behind_the_user or re.search(r"[/?#\s]", url.host or ""):
        raise ConfigurationError(
            "the host in the PostgreSQL URL cannot be told from the password; percent-encode"
            " @ (%40), / (%2F), ? (%3F) and # (%23) in the password"
        )
    database = url.database if _DECODES_DATABASES else unquote(url.database or "") or None
    return url.set(drivername="postgresql+asyncpg", database=database)


def _check_place(url: URL) -> None:
    try:
        told = url.get_dialect()().create_connect_args(url)[1].get("port", 5432)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "the hosts and ports of the PostgreSQL URL cannot be read; write host=NAME&port=NUMBER,"
            " or host=NAME:NUMBER for each of several"
        ) from None
    ports = cast("list[object]", told if isinstance(told, list | tuple) else [told])
    if url.port == 0 or not all(0 < int(str(port)) < _PORTS for port in ports):
        raise ConfigurationError("the port in the PostgreSQL URL has to be from 1 to 65535")


def _refuse_unknown(name: str) -> None:
    if name in _SECRETS:
        raise ConfigurationError(
            f"the PostgreSQL URL has the option {name}; secrets do not belong among its options:"
            " put the password before the @"
        )
    if name not in {*_KEPT, *_TLS_OPTIONS, "application_name"}:
        told = name if re.fullmatch(r"[A-Za-z_]{1,40}", name) else "with an unreadable name"
        raise ConfigurationError(f"the PostgreSQL URL has an unknown option: {told}")


def _one(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else value[-1]


def _protect(
    tls: TlsSettings, in_url: Mapping[str, str]
) -> tuple[Protection, ssl.SSLContext | str | bool]:
    asked = in_url.get("sslmode", in_url.get("ssl", "disable")).lower()
    if asked not in _MODES:
        raise ConfigurationError(
            f"sslmode in the PostgreSQL URL has to be one of {', '.join(_STRENGTHS)}"
        )
    protection = _STRENGTHS[max(map(_STRENGTHS.index, (tls.mode, _MODES[asked])))]
    authority = tls.root_certificate or _path(in_url.get("sslrootcert"))
    certificate = tls.certificate or _path(in_url.get("sslcert"))
    key = tls.key or _path(in_url.get("sslkey"))
    if protection in {"disable", "prefer"}:
        if authority or certificate or key:
            raise ConfigurationError(
                f'TLS certificates are configured but nothing demands TLS (it is "{protection}");'
                ' set "require" or "verify-full", or leave the certificates out'
            )
        return protection, "prefer" if protection == "prefer" else False
    if protection == "require" and authority:
        protection = "verify-ca"
    return protection, _context(protection, authority, certificate, key)


def _path(value: str | None) -> Path | None:
    # "system" is libpq's word for the authorities the machine trusts, which is what none means.
    return None if value in {None, "", "system"} else Path(str(value)).expanduser()


def _context(
    protection: Protection, authority: Path | None, certificate: Path | None, key: Path | None
) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=authority)
    except (OSError, ValueError):
        raise ConfigurationError(
            "the file of the TLS authorities to trust cannot be read as such"
        ) from None
    context.check_hostname = protection == "verify-full"
    if protection == "require":
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        try:
            # Without a password of ours, an encrypted key would be asked for on the terminal.
            context.load_cert_chain(certificate, key, password="")
        except (OSError, ValueError):
            raise ConfigurationError(
                "the TLS certificate of this client and its key cannot be read, do not belong"
                " together, or the key is encrypted"
            ) from None
    elif key is not None:
        raise ConfigurationError("a TLS key is configured without its certificate")
    return context


async def _expect_tls(options: Mapping[str, Any]) -> None:
    """Ask a server whether it speaks TLS.

    Raises:
        TlsRefusedError: it says that it does not.
    """
    host, port = options.get("host"), options.get("port", 5432)
    if not isinstance(host, str) or not isinstance(port, int):
        return
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(_TLS_REQUEST)
        if await reader.read(1) == b"N":
            raise TlsRefusedError
    finally:
        writer.transport.abort()
