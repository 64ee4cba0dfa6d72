"""Throwaway PostgreSQL and Valkey servers: fast, on loopback, free to be broken on purpose."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import re
import secrets
import shutil
import socket
import stat
import uuid
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGINT, SIGQUIT, SIGSTOP, SIGTERM, Signals
from typing import Final, Self, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from test_coordinator_data_adapter.embedded import postgres, valkey
from test_coordinator_data_adapter.embedded.account import Account
from test_coordinator_data_adapter.embedded.binaries import postgres_programs, valkey_program
from test_coordinator_data_adapter.embedded.folder import PrivateFolder
from test_coordinator_data_adapter.embedded.process import (
    Deadline,
    FileLock,
    ServerProcess,
    in_thread,
    run,
)
from test_coordinator_data_adapter.errors import UnavailableError

__all__ = [
    "POSTGRES_URL_VARIABLE",
    "REDIS_URL_VARIABLE",
    "DatabaseServer",
    "KeyspaceServer",
    "ThrowawayPostgres",
    "ThrowawayServer",
    "ThrowawayValkey",
    "session_postgres",
    "session_redis",
    "system_postgres_programs",
    "system_redis_program",
]

POSTGRES_URL_VARIABLE: Final = "TEST_COORDINATOR_ADAPTER_TEST_POSTGRES_URL"
REDIS_URL_VARIABLE: Final = "TEST_COORDINATOR_ADAPTER_TEST_REDIS_URL"

_HOST = "127.0.0.1"
# Below the range that systems draw outgoing ports from, so that none is taken during a restart,
# and so is the port that a server of a cluster talks to the others on.
_PORTS = range(12000, 22000)
_CLUSTER_BUS = 10_000
_SECONDS = 300.0
_QUICK_SECONDS = 5.0
_MOMENT_SECONDS = 0.5
_SHARED_MEMORY_LINE = 6
_REMOVE_SEGMENT = 0
# What was committed survives the server's death, if not the machine's: hence no
# asynchronous commit, whatever that would save.
_FAST: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_connections": "1000",
    "shared_buffers": "64MB",
    "jit": "off",
    # Files in the data folder: shared memory of the system would outlive a killed server.
    "dynamic_shared_memory_type": "mmap",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class ThrowawayServer(ABC):
    """A server of one test's own, which the test may kill, freeze and start again.

    All methods block, for some 0.1 s to start and some 0.01 s to kill; call those that last
    through ``asyncio.to_thread`` where a loop has to go on meanwhile. As a context manager it
    is started on entry, and killed and its data removed on exit.

    Args:
        folder: an empty folder for its files, or the one of a server that another process has
            started: port, password and data are taken from there.
        port: the port to listen on; a free one if None. It stays the same across restarts.
    """

    _pid_file: str
    _polite_stop: Signals
    _quick_stop: Signals

    def __init__(self, folder: Path, *, port: int | None = None) -> None:
        self._account = Account.for_data_dir(folder)
        self._folder = PrivateFolder(folder, self._account)
        self._data = PrivateFolder(folder / "data", self._account, is_data=True)
        self._users = FileLock(self._folder, "users")
        # A process that looks for orphans may hold it for an instant.
        Deadline(_SECONDS).poll(lambda: self._users.try_acquire(shared=True))
        self.port = int(self._remember("port", lambda: str(port or self._reserve_port())))
        self._process = ServerProcess(self._folder, data=self._data, pid_file=self._pid_file)

    @property
    def log(self) -> Path:
        """The file that the server writes its messages to."""
        return self._process.log

    @property
    def is_running(self) -> bool:
        """Whether any process of the server is there, frozen ones included."""
        return self._process.is_running

    @property
    def pid(self) -> int | None:
        """The id of its main process, None while there is none."""
        return self._process.pid

    def add_file(self, name: str, content: str | bytes) -> Path:
        """Put a private file of the server's own (a certificate, an ACL file) beside its data.

        Its configuration names the file without a folder.
        """
        self._prepare()
        self._data.write(name, content)
        return self._data.path / name

    def start(self, *, wait: bool = True) -> None:
        """Start the server; unless told otherwise, return when it takes connections.

        Raises:
            UnavailableError: it ended or did not get ready; the message ends with its log.
        """
        self._prepare()
        self._configure()
        self._process.launch(self._command, postgres.ENVIRONMENT)
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Return when the server takes connections.

        Raises:
            UnavailableError: it ended or did not get ready; the message ends with its log.
        """
        Deadline(_SECONDS).poll(lambda: self._is_ready() or not self.is_running)
        if self.pid is None or not self._is_ready():
            self.kill()
            log = self.log.read_text(errors="replace")[-2000:]
            raise UnavailableError(f"{type(self).__name__} is not ready: {log}")

    def stop(self) -> None:
        """Shut it down in order, as an administrator would; its data stay."""
        if not self._process.end(self._polite_stop, Deadline(_SECONDS)):
            self.kill()

    def kill(self) -> None:
        """End all its processes at once, frozen ones included; its data stay."""
        if not self._process.kill(Deadline(_SECONDS)):
            raise UnavailableError(f"{type(self).__name__} does not end")

    def restart(self) -> None:
        """Shut it down in order and start it again, on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop all its processes in their tracks: connections stay open and get no answer."""
        self._process.signal_all(SIGSTOP)

    def thaw(self) -> None:
        """Let frozen processes go on."""
        self._process.signal_all(SIGCONT)

    def close(self) -> None:
        """Leave it; the last one kills it and removes its data, its log stays."""
        if Deadline(_MOMENT_SECONDS).poll(self._users.try_acquire):
            self.thaw()
            if not self._process.end(self._quick_stop, Deadline(_QUICK_SECONDS)):
                self.kill()
            self._clean_up_after_kill()
            with self._account.data_dir_rights():
                shutil.rmtree(self._data.path, ignore_errors=True)
        self._process.close()
        self._users.release()

    @classmethod
    def end_orphan(cls, folder: Path) -> None:
        """End the server of a folder, if it has one of this kind, nobody uses it and it runs."""
        if not (folder / "data" / cls._pid_file).exists():
            return
        account = Account.for_data_dir(folder)
        data = PrivateFolder(folder / "data", account, is_data=True)
        orphan = ServerProcess(PrivateFolder(folder, account), data=data, pid_file=cls._pid_file)
        orphan.kill(Deadline(_SECONDS))
        orphan.close()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _prepare(self) -> None:
        """Make the data folder, unless it is there."""

    @abstractmethod
    def _configure(self) -> None:
        """Write the server's configuration."""

    @abstractmethod
    def _command(self, folder: str) -> Sequence[str]:
        """What starts the server in a folder that it reaches by the given path."""

    def _clean_up_after_kill(self) -> None:  # noqa: B027 - most servers have nothing to do
        """Give back to the system what the server would have, had it not been killed."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether it takes connections."""

    def _make_data(self) -> None:
        with self._account.data_dir_rights():
            self._data.path.mkdir(mode=0o700)
        if not self._account.owns_data_dir:
            os.chown(self._data.path, self._account.uid, self._account.gid, follow_symlinks=False)

    def _remember(self, name: str, make: Callable[[], str]) -> str:
        if not self._folder.exists(name):
            self._folder.write(name, make())
        return self._folder.read(name)

    def _reserve_port(self) -> int:
        registry = _registry()
        while True:
            port = random.choice(_PORTS)  # noqa: S311 - no secret
            entry = FileLock(registry, str(port))
            try:
                if (
                    entry.try_acquire()
                    and entry.is_in_place
                    and not _is_in_use(registry.read(str(port)))
                    and _is_free(port)
                    and _is_free(port + _CLUSTER_BUS)
                ):
                    os.truncate(entry.fd, 0)
                    os.write(entry.fd, os.fsencode(self._folder.path.absolute()))
                    return port
            finally:
                entry.release()


def end_orphans() -> None:
    """End the servers whose tests were killed before they could end them."""
    registry = _registry()
    for name in sorted(entry.name for entry in registry.path.iterdir()):
        lock = FileLock(registry, name)
        try:
            if lock.try_acquire() and lock.is_in_place:
                folder = registry.read(name)
                if not _is_in_use(folder):
                    for server in (ThrowawayPostgres, ThrowawayValkey) if folder else ():
                        server.end_orphan(Path(folder))
                    registry.remove(name)
        finally:
            lock.release()


def _registry() -> PrivateFolder:
    """A folder with a file for every port that was given out, which names the server's folder."""
    path = _registry_path()
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    # Whoever was faster in /tmp could have put a link here, or a folder that others write to.
    is_private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    if not is_private or status.st_uid != os.geteuid():
        raise UnavailableError(f"{path} is not a private folder of this user: remove it")
    return PrivateFolder(path, Account.of_this_process())


def _registry_path() -> Path:
    return Path("/tmp") / f"test-coordinator-ports-{os.geteuid()}"  # noqa: S108 - see `_registry`


def _is_in_use(folder: str) -> bool:
    """Whether a living process uses the server of a folder that the registry names."""
    if not folder or not (Path(folder) / "users").exists():
        return False
    try:
        users = FileLock(PrivateFolder(Path(folder), Account.of_this_process()), "users")
    except FileNotFoundError:  # removed meanwhile
        return False
    try:
        return not users.try_acquire()
    except FileNotFoundError:  # removed meanwhile
        return False
    finally:
        users.release()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
    return True


class ThrowawayPostgres(ThrowawayServer):
    """A PostgreSQL without fsync: what was committed survives its death, not the machine's.

    Args:
        folder: see ThrowawayServer.
        programs: the folder of another version's ``initdb`` and ``postgres``.
        settings: server settings beside and before the fast ones.
        hba: the lines of pg_hba.conf; passwords (SCRAM) over loopback if None.
        port: see ThrowawayServer.
    """

    _pid_file = "postmaster.pid"
    _polite_stop = SIGINT
    _quick_stop = SIGQUIT

    def __init__(
        self,
        folder: Path,
        *,
        programs: Path | None = None,
        settings: Mapping[str, str] | None = None,
        hba: Sequence[str] | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__(folder, port=port)
        self.settings = dict(settings or {})
        self.hba = list(hba or (f"host all all {_HOST}/32 scram-sha-256",))
        self.password = self._remember("password", lambda: secrets.token_urlsafe(12))
        self._programs = programs or postgres_programs(self._account)

    def url(
        self,
        database: str = "postgres",
        *,
        user: str = postgres.OWNER_ROLE,
        password: str | None = None,
        host: str = _HOST,
    ) -> str:
        """A URL for SQLAlchemy's asyncpg dialect; the superuser's unless told otherwise."""
        password = self.password if password is None else password
        return f"postgresql+asyncpg://{user}:{password}@{host}:{self.port}/{database}"

    def _prepare(self) -> None:
        if not self._data.path.exists():
            deadline = Deadline(_SECONDS)
            self._make_data()
            postgres.initialise(self._programs, self._data, deadline, is_durable=False)
            change_password = f"ALTER ROLE {postgres.OWNER_ROLE} PASSWORD '{self.password}'"
            postgres.execute_offline(self._programs, self._data, [change_password], deadline)

    def _configure(self) -> None:
        self._data.write("pg_hba.conf", "".join(f"{line}\n" for line in self.hba))

    def _command(self, folder: str) -> Sequence[str]:
        settings = {
            **_FAST,
            "listen_addresses": _HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            **self.settings,
        }
        return [
            str(self._programs / "postgres"),
            *("-D", folder),
            *(part for item in settings.items() for part in ("-c", "=".join(item))),
        ]

    def _is_ready(self) -> bool:
        return postgres.says_ready(self._data)

    def _clean_up_after_kill(self) -> None:
        with contextlib.suppress(OSError, IndexError, ValueError):
            segment = self._data.read("postmaster.pid").splitlines()[_SHARED_MEMORY_LINE]
            ctypes.CDLL(None).shmctl(int(segment.split()[1]), _REMOVE_SEGMENT, None)


class ThrowawayValkey(ThrowawayServer):
    """A Valkey, or another server that is configured like Redis, that keeps nothing on disk.

    Args:
        folder: see ThrowawayServer.
        program: another binary, for instance the system's ``redis-server``.
        config: lines of the configuration beside and after ours (``appendonly yes``,
            ``aclfile users.acl``, ``cluster-enabled yes``, ``replicaof host port`` ...).
        is_sentinel: start it as a Sentinel; ``config`` names what it watches.
        has_plain_port: whether it listens without TLS; if not, ``config`` says ``tls-port``.
        password: of the default user; none if None.
        port: see ThrowawayServer.
    """

    _pid_file = "valkey.pid"
    _polite_stop = SIGTERM
    _quick_stop = SIGTERM

    def __init__(
        self,
        folder: Path,
        *,
        program: Path | None = None,
        config: Sequence[str] = (),
        is_sentinel: bool = False,
        has_plain_port: bool = True,
        password: str | None = None,
        port: int | None = None,
    ) -> None:
        super().__init__(folder, port=port)
        self.config = list(config)
        self.password = password
        self._is_sentinel = is_sentinel
        self._has_plain_port = has_plain_port
        self._program = program or valkey_program(self._account)

    @property
    def host(self) -> str:
        """The address it listens on."""
        return _HOST

    def url(
        self, database: int = 0, *, user: str | None = None, password: str | None = None
    ) -> str:
        """A URL for redis-py; the default user's unless told otherwise."""
        password = self.password if password is None else password
        login = "" if password is None else f"{user or ''}:{password}@"
        return f"redis://{login}{_HOST}:{self.port}/{database}"

    def _prepare(self) -> None:
        if not self._data.path.exists():
            self._make_data()

    def _configure(self) -> None:
        lines = [
            f"bind {_HOST}",
            f"port {self.port if self._has_plain_port else 0}",
            f"pidfile {self._pid_file}",
            "daemonize no",
            *(() if self._is_sentinel else ("appendonly no", 'save ""')),
            *(() if self.password is None else (f"requirepass {self.password}",)),
            *self.config,
        ]
        if not (self._is_sentinel and self._data.exists("server.conf")):
            self._data.write("server.conf", "".join(f"{line}\n" for line in lines))

    def _command(self, folder: str) -> Sequence[str]:
        return [
            str(self._program),
            f"{folder}/server.conf",
            *(("--sentinel",) if self._is_sentinel else ()),
        ]

    def _is_ready(self) -> bool:
        if self.pid is None:
            return False
        if not self._has_plain_port:
            return _accepts(self._tls_port)
        return valkey.listens(socket.AF_INET, (_HOST, self.port))

    @property
    def _tls_port(self) -> int:
        for line in self.config:
            if line.startswith("tls-port "):
                return int(line.split()[1])
        return self.port


@dataclass(frozen=True)
class DatabaseServer:
    """A PostgreSQL server to make databases on, one per test.

    Attributes:
        url: the administrator's, for SQLAlchemy's asyncpg dialect.
        folder: what the processes of one test session share.
        prefix: what the names of this session's databases and roles begin with.
        strategy: how databases are copied: "file_copy" makes the server write all it has to the
            disk, which costs nothing only where it does not wait for that.
    """

    url: str = field(repr=False)
    folder: Path
    prefix: str
    strategy: str = "wal_log"

    async def create_database(self, *, template: str | None = None) -> str:
        """Make a database of its own, empty or a copy, and give the administrator's URL of it.

        Args:
            template: the name of the database to copy, to which nobody may be connected.
        """
        name = f"{self.prefix}{uuid.uuid4().hex[:12]}"
        await self.execute(
            f"CREATE DATABASE {name} TEMPLATE {template or 'template0'} STRATEGY {self.strategy}"
        )
        return self.url_of(name)

    async def drop_database(self, url: str) -> None:
        """Drop a database by its URL, even while others are connected to it."""
        await self.execute(f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")

    async def template(self, name: str, build: Callable[[str], Awaitable[None]]) -> str:
        """The name of a database that was built once for the whole session.

        Args:
            name: what it is a template of; lower-case letters, digits and underscores.
            build: fills the empty database of the given administrator's URL, and closes what
                it opened.
        """
        full_name = f"{self.prefix}{name}"
        session = PrivateFolder(self.folder, Account.of_this_process())
        lock = FileLock(session, f"template-{name}")
        try:
            if not await in_thread(lambda: lock.acquire(Deadline(_SECONDS))):
                raise UnavailableError(f"another process takes too long to build {name}")
            done = self.folder / f"template-{name}-is-built"
            if not done.exists():
                await self.execute(f"DROP DATABASE IF EXISTS {full_name} WITH (FORCE)")
                await self.execute(f"CREATE DATABASE {full_name} TEMPLATE template0")
                await build(self.url_of(full_name))
                done.touch()
        finally:
            lock.release()
        return full_name

    def url_of(self, database: str) -> str:
        """The administrator's URL of a database."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    async def execute(self, statement: str, *, url: str | None = None) -> str:
        """Run one statement outside of any transaction, through ``psql``.

        Returns:
            What it selected, one line a row, columns parted by ``|``.

        Raises:
            UnavailableError: the server refused it or cannot be reached.
        """
        return await in_thread(lambda: self._execute(statement, url or self.url))

    def _execute(self, statement: str, url: str) -> str:
        account = Account.of_this_process()
        parts = urlsplit(re.sub(r"^postgres(ql)?(\+\w+)?:", "postgresql:", url))
        plain = parts._replace(netloc=re.sub(r":[^@]*@", "@", parts.netloc))
        code, output = run(
            lambda _: [
                str(postgres_programs(account) / "psql"),
                "-XqAtw",
                "-c",
                statement,
                plain.geturl(),
            ],
            folder=PrivateFolder(self.folder, account),
            environment={**postgres.ENVIRONMENT, "PGPASSWORD": unquote(parts.password or "")},
            deadline=Deadline(_SECONDS),
        )
        if code != 0:
            raise UnavailableError(f"psql: {output.strip()}")
        return output.strip()

    def drop_all(self) -> None:
        """Drop every database of this session, then every role."""
        for name in self._execute("SELECT datname FROM pg_database", self.url).split():
            if name.startswith(self.prefix):
                self._execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", self.url)
        for name in self._execute("SELECT rolname FROM pg_roles", self.url).split():
            if name.startswith(self.prefix):
                self._execute(f"DROP ROLE {name}", self.url)


@dataclass(frozen=True)
class KeyspaceServer:
    """A Redis-compatible server to keep keys on, one namespace per test.

    Attributes:
        url: the administrator's, for redis-py.
    """

    url: str = field(repr=False)

    def namespace(self) -> str:
        """A namespace that nobody else has, within what the platform's ACL allows."""
        return f"test:{uuid.uuid4().hex[:12]}"


@contextlib.contextmanager
def _gate(folder: Path) -> Generator[None]:
    """Let one process of a session at a time make or remove what all of them share."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    gate = FileLock(PrivateFolder(folder, Account.of_this_process()), "gate")
    try:
        if not gate.acquire(Deadline(_SECONDS)):
            raise UnavailableError(f"another process takes too long in {folder}")
        yield
    finally:
        gate.release()


_Throwaway = TypeVar("_Throwaway", bound=ThrowawayServer)


@contextlib.contextmanager
def _joined(folder: Path, kind: Callable[[Path], _Throwaway]) -> Generator[_Throwaway]:
    with _gate(folder):
        end_orphans()
        server = kind(folder / "server")
        try:
            if not server.is_running:
                server.start()
        except BaseException:
            server.close()
            raise
    try:
        yield server
    finally:
        with _gate(folder):
            server.close()


@contextlib.contextmanager
def _given(url: str, folder: Path) -> Generator[DatabaseServer]:
    with _gate(folder):
        users = FileLock(PrivateFolder(folder, Account.of_this_process()), "users")
        users.try_acquire(shared=True)
        name = folder / "session"
        if not name.exists():
            name.write_text(secrets.token_hex(4))
        asyncpg_url = re.sub(r"^postgres(ql)?(\+\w+)?:", "postgresql+asyncpg:", url)
        server = DatabaseServer(asyncpg_url, folder, f"tca_{name.read_text()}_")
    try:
        yield server
    finally:
        with _gate(folder):
            if users.try_acquire():
                server.drop_all()
            users.release()


def _accepts(port: int) -> bool:
    try:
        socket.create_connection((_HOST, port), timeout=1.0).close()
    except OSError:
        return False
    return True


def system_postgres_programs() -> Path | None:
    """The newest PostgreSQL of the system, built with TLS as a rule, if there is one."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    return found[-1].parent if found else None


def _version(initdb: Path) -> tuple[int, ...]:
    return tuple(int(part) for part in initdb.parts[-3].split(".") if part.isdecimal())


def system_redis_program() -> Path | None:
    """The system's ``redis-server`` or ``valkey-server``, built with TLS as a rule, if any."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    return Path(found) if found else None


@contextlib.contextmanager
def session_postgres(folder: Path) -> Generator[DatabaseServer]:
    """The PostgreSQL of a test session, shared by all its processes.

    The first process to come starts it, the last one to leave removes it. Where
    ``TEST_COORDINATOR_ADAPTER_TEST_POSTGRES_URL`` names a server, that one is used, and the
    databases made on it are dropped at the end.

    Args:
        folder: one that all processes of the session name, and no other session.
    """
    given = os.environ.get(POSTGRES_URL_VARIABLE)
    if given:
        with _given(given, folder) as server:
            yield server
    else:
        with _joined(folder, ThrowawayPostgres) as throwaway:
            yield DatabaseServer(throwaway.url(), folder, "tca_", strategy="file_copy")


@contextlib.contextmanager
def session_redis(folder: Path) -> Generator[KeyspaceServer]:
    """The Redis-compatible server of a test session, shared by all its processes.

    As ``session_postgres``, with ``TEST_COORDINATOR_ADAPTER_TEST_REDIS_URL``; whoever
    writes keys to a server that is named there removes them.

    Args:
        folder: one that all processes of the session name, and no other session; not the one
            of ``session_postgres``.
    """
    given = os.environ.get(REDIS_URL_VARIABLE)
    if given:
        yield KeyspaceServer(given)
    else:
        with _joined(folder, ThrowawayValkey) as throwaway:
            yield KeyspaceServer(throwaway.url())
