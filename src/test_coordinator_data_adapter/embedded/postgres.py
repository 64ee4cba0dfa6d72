"""A private, persistent PostgreSQL in a folder."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket as sockets
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from test_coordinator_data_adapter.embedded.account import Account
from test_coordinator_data_adapter.embedded.binaries import postgres_programs
from test_coordinator_data_adapter.embedded.folder import PrivateFolder
from test_coordinator_data_adapter.embedded.process import Deadline, ServerProcess, run
from test_coordinator_data_adapter.embedded.shared import SharedServer
from test_coordinator_data_adapter.errors import ConfigurationError, UnavailableError

__all__ = [
    "ENVIRONMENT",
    "OWNER_ROLE",
    "EmbeddedPostgres",
    "PostgresEndpoint",
    "execute_offline",
    "initialise",
    "says_ready",
]

DATABASE: Final = "trading_ecosystem"
APPLICATION_ROLE: Final = "test_coordinator_adapter"
OWNER_ROLE: Final = "postgres"

_PORT = 5432
_ANSWER_SECONDS = 1.0
# The one message that is answered before anybody logs in: length, then the protocol's code.
_TLS_REQUEST = struct.pack("!ii", 8, 80877103)
ENVIRONMENT: Final[Mapping[str, str]] = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
_HBA = "# Written at every start.\nlocal all all scram-sha-256\n"
_SETTINGS: Final[Mapping[str, str]] = {
    "listen_addresses": "",
    "port": str(_PORT),
    # Relative to the data folder, so that its own path may be of any length.
    "unix_socket_directories": ".",
    "unix_socket_permissions": "0700",
    "password_encryption": "scram-sha-256",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_connections": "200",
}


@dataclass(frozen=True, slots=True)
class PostgresEndpoint:
    """How to connect to an embedded PostgreSQL.

    Attributes:
        host: the folder of the server's Unix socket.
        port: the number in the socket's name.
        database: the database for the adapter's schema.
        owner_url: for migrations: the superuser ``postgres``, with its password.
        application_url: for everything else: the role ``test_coordinator_adapter``, with its
            password, which may log in and nothing more until a migration grants it something.
    """

    host: str
    port: int
    database: str
    owner_url: str = field(repr=False)
    application_url: str = field(repr=False)


class EmbeddedPostgres(SharedServer[PostgresEndpoint]):
    """A PostgreSQL server of one's own, kept in a folder and shared by all who name it.

    It listens on a Unix socket inside its private folder and nowhere else, asks for generated
    passwords (SCRAM), keeps data checksums, and is as durable as PostgreSQL is by default.
    """

    _kind = "postgres"
    _pid_file = "postmaster.pid"
    _socket_file = f".s.PGSQL.{_PORT}"
    _secret_names = ("owner", "application")
    _polite_stop = signal.SIGINT
    _firm_stop = signal.SIGQUIT

    _programs: Path

    def _locate(self, account: Account) -> None:
        self._programs = postgres_programs(account)

    def _check(self, data: PrivateFolder) -> None:
        try:
            found = data.read("PG_VERSION").strip()
        except FileNotFoundError:
            return
        wanted = _major(self._programs)
        if found != wanted:
            raise ConfigurationError(
                f"{self._data} was written by PostgreSQL {found}, and the embedded server is "
                f"PostgreSQL {wanted}: dump it with the old version and restore it into another "
                "folder, or choose another folder"
            )

    def _prepare(
        self, data: PrivateFolder, passwords: dict[str, str], *, fresh: bool, deadline: Deadline
    ) -> None:
        for left_over in self._home.glob("initdb-*"):
            shutil.rmtree(left_over, ignore_errors=True)
        roles = (
            f"ALTER ROLE {OWNER_ROLE} PASSWORD '{passwords['owner']}'",
            f"ALTER ROLE {APPLICATION_ROLE} PASSWORD '{passwords['application']}'",
        )
        if not data.exists("PG_VERSION"):
            staging = self._home / f"initdb-{secrets.token_hex(4)}"
            try:
                self._make_data(data.account, staging)
                cluster = PrivateFolder(staging, data.account, is_data=True)
                initialise(self._programs, cluster, deadline)
                statements = (
                    f"CREATE ROLE {APPLICATION_ROLE} LOGIN",
                    *roles,
                    f"CREATE DATABASE {DATABASE}",
                )
                execute_offline(self._programs, cluster, statements, deadline)
                # Only a complete cluster ever gets the name.
                staging.rename(data.path)
                _sync(self._home)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        elif fresh:
            execute_offline(self._programs, data, roles, deadline)
        data.write("pg_hba.conf", _HBA)

    def _launch(self, process: ServerProcess) -> None:
        settings = [part for item in _SETTINGS.items() for part in ("-c", "=".join(item))]
        process.launch(
            lambda folder: [str(self._programs / "postgres"), "-D", folder, *settings],
            ENVIRONMENT,
        )

    def _is_ready(
        self,
        data: PrivateFolder,
        socket: Path,
        passwords: dict[str, str],  # noqa: ARG002 - PostgreSQL writes it into a file
    ) -> bool:
        return says_ready(data) and _answers(socket)

    def _connect_details(self, socket: Path, passwords: dict[str, str]) -> PostgresEndpoint:
        def url(role: str, password: str) -> str:
            host = quote(str(socket.parent), safe="")
            return f"postgresql+asyncpg://{role}:{password}@/{DATABASE}?host={host}&port={_PORT}"

        return PostgresEndpoint(
            host=str(socket.parent),
            port=_PORT,
            database=DATABASE,
            owner_url=url(OWNER_ROLE, passwords["owner"]),
            application_url=url(APPLICATION_ROLE, passwords["application"]),
        )


def initialise(
    programs: Path, data: PrivateFolder, deadline: Deadline, *, is_durable: bool = True
) -> None:
    """Make an empty folder a database cluster: UTF-8, locale C, checksums, nobody may log in.

    Args:
        programs: the folder of ``initdb``.
        data: the empty folder.
        deadline: when to give up.
        is_durable: whether to wait until the data are on the disk.

    Raises:
        UnavailableError: initdb failed or took too long.
    """
    code, output = run(
        lambda folder: [
            str(programs / "initdb"),
            *("-D", folder, "-U", OWNER_ROLE),
            *("--encoding=UTF8", "--locale=C", "--data-checksums", "--auth=reject"),
            *(() if is_durable else ("--no-sync",)),
        ],
        folder=data,
        environment=ENVIRONMENT,
        deadline=deadline,
    )
    if code != 0:
        raise UnavailableError(f"initdb failed with code {code}: {output.strip()[-500:]}")


def says_ready(data: PrivateFolder) -> bool:
    """Whether the server of a data folder has written that it takes connections."""
    try:
        return data.read("postmaster.pid").rstrip().endswith("ready")
    except (OSError, ConfigurationError):
        return False


def _answers(socket: Path) -> bool:
    """Whether a server takes a connection there, which a dying or frozen one does not."""
    try:
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as connection:
            connection.settimeout(_ANSWER_SECONDS)
            connection.connect(str(socket))
            connection.sendall(_TLS_REQUEST)
            return connection.recv(1) in (b"N", b"S")
    except OSError:
        return False


def execute_offline(
    programs: Path, data: PrivateFolder, statements: Sequence[str], deadline: Deadline
) -> None:
    """Run statements on a cluster whose server does not run, as its superuser.

    Raises:
        UnavailableError: PostgreSQL refused one of them or took too long.
    """
    code, output = run(
        lambda folder: [str(programs / "postgres"), "--single", "-D", folder, OWNER_ROLE],
        folder=data,
        environment=ENVIRONMENT,
        deadline=deadline,
        standard_input="".join(f"{statement};\n" for statement in statements),
    )
    if code != 0 or "ERROR:" in output or "FATAL:" in output:
        # Its output quotes the statements, passwords included.
        raise UnavailableError("PostgreSQL refused to set up the roles of the embedded server")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _major(programs: Path) -> str:
    """The major version, read where the wheel keeps it without running anything."""
    with (programs.parent / "share" / "postgres.bki").open() as catalogue:
        return catalogue.readline().rpartition(" ")[2].strip()
