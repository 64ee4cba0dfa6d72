"""One server per folder: the first process starts it, others join, the last one stops it."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Generator
from functools import partial
from pathlib import Path
from signal import Signals
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

from test_coordinator_data_adapter.embedded.account import Account
from test_coordinator_data_adapter.embedded.folder import PrivateFolder
from test_coordinator_data_adapter.embedded.process import (
    Deadline,
    FileLock,
    ServerProcess,
    in_thread,
)
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    UnavailableError,
)

__all__ = ["SharedServer"]

_Endpoint = TypeVar("_Endpoint")

# The shortest limit of any platform is 104 bytes, the closing NUL included.
_SOCKET_PATH_LIMIT = 103
_LAUNCHES = 3
_POLL_SECONDS = 0.01
_PATIENCE_AFTER_FAILURE = 5.0
_WATCH_SECONDS = 0.25
_RETRY_SECONDS = 5.0
_PASSWORDS_FILE = "passwords.json"
# They go into statements and configuration files, so nothing but a generated one is believed.
_PASSWORD = re.compile(r"[\w-]{32}", re.ASCII)


class SharedServer(ABC, Generic[_Endpoint]):
    """What the embedded servers have in common.

    Every process that uses the folder holds a shared lock on its file ``owners``, which the
    kernel lets go when the process dies, however it dies. Whoever starts or stops the server
    holds the lock ``gate`` meanwhile. A server that dies while it is used is started again by
    whichever owner notices first.

    Args:
        data_dir: the folder to keep the data in; created, private, if missing. Each kind of
            server has its own private folder inside.
        start_timeout: seconds that ``start`` may take altogether.
        stop_timeout: seconds that the server gets to shut down before it is killed.
    """

    _kind: str
    _pid_file: str
    _socket_file: str
    _secret_names: tuple[str, ...]
    _polite_stop: Signals
    _firm_stop: Signals

    def __init__(
        self, data_dir: Path, *, start_timeout: float = 60.0, stop_timeout: float = 30.0
    ) -> None:
        self._data_dir = Path(data_dir).absolute()
        self._home = self._data_dir / self._kind
        self._data = self._home / "data"
        self._account: Account | None = None
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._turn = threading.Lock()
        self._membership: FileLock | None = None
        self._endpoint: _Endpoint | None = None
        self._process: ServerProcess | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._shortcut: Path | None = None
        self._pid = os.getpid()

    @property
    def log(self) -> Path:
        """The file that the server writes its messages to."""
        return self._home / "server.log"

    async def start(self) -> _Endpoint:
        """Start the server, or join the one that runs in the folder already.

        From then on, until `stop`, a server that dies is started again within a second or so,
        with the same endpoint. When it fails or is cancelled, no server is left that nobody
        else uses. Calling it again makes sure that the server answers.

        Returns:
            How to connect.

        Raises:
            ConfigurationError: the extra is not installed, or the folder cannot be used; the
                message says why.
            UnavailableError: the server did not start in time; the message names its log.
        """
        abort = threading.Event()
        was_started = self._membership is not None
        try:
            endpoint = await in_thread(partial(self._start, abort), on_cancel=abort.set)
        except asyncio.CancelledError:
            if not was_started:
                await in_thread(self._stop)
            raise
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep_alive(), name=f"embedded {self._kind}")
        return endpoint

    async def stop(self) -> None:
        """Leave the server, and stop it if nobody else uses it; safe to call again.

        Cancelling does not shorten it: it ends the server first, within ``stop_timeout``.

        Raises:
            UnavailableError: the server does not end; the message names its log.
        """
        keeper, self._keeper = self._keeper, None
        try:
            if keeper is not None:
                keeper.cancel()
                await asyncio.wait([keeper])
        finally:
            await in_thread(self._stop)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def endpoint(self) -> _Endpoint:
        """How to connect, while started.

        Raises:
            UnavailableError: the server has not been started, or was stopped.
        """
        if self._endpoint is None:
            raise UnavailableError(f"the embedded {self._kind} has not been started")
        return self._endpoint

    async def _keep_alive(self) -> None:
        pause = _WATCH_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = _WATCH_SECONDS
            if self._process is None or self._process.is_running:
                continue
            abort = threading.Event()
            try:
                await in_thread(partial(self._start, abort), on_cancel=abort.set)
            except AdapterError:
                pause = _RETRY_SECONDS

    @abstractmethod
    def _locate(self, account: Account) -> None:
        """Find the programs that the account has to run."""

    @abstractmethod
    def _prepare(
        self, data: PrivateFolder, passwords: dict[str, str], *, fresh: bool, deadline: Deadline
    ) -> None:
        """Make the data folder ready for a launch, under the gate and with no server running.

        ``fresh`` says that the passwords were made just now, whatever the data hold.
        """

    @abstractmethod
    def _check(self, data: PrivateFolder) -> None:
        """Refuse data that the programs cannot serve, whether or not a server runs."""

    @abstractmethod
    def _launch(self, process: ServerProcess) -> None:
        """Start the server's process."""

    @abstractmethod
    def _is_ready(self, data: PrivateFolder, socket: Path, passwords: dict[str, str]) -> bool:
        """Whether the running server answers."""

    @abstractmethod
    def _connect_details(self, socket: Path, passwords: dict[str, str]) -> _Endpoint:
        """What a user needs to connect through the socket."""

    def _start(self, abort: threading.Event) -> _Endpoint:
        deadline = Deadline(self._start_timeout, abort)
        with self._turn:
            try:
                return self._start_within(deadline)
            except OSError as error:
                raise ConfigurationError(
                    f"the embedded {self._kind} cannot use the folder {self._data_dir}: "
                    f"{os.strerror(error.errno or 0)}"
                ) from error

    def _start_within(self, deadline: Deadline) -> _Endpoint:
        account = self._account = Account.for_data_dir(self._data_dir)
        self._locate(account)
        # Root gives up its own rights before it touches anything in a folder of another user.
        with account.data_dir_rights():
            return self._start_as(account, deadline)

    def _start_as(self, account: Account, deadline: Deadline) -> _Endpoint:
        self._make_home(account)
        home = PrivateFolder(self._home, account)
        data = PrivateFolder(self._data, account, is_data=True)
        process = self._process or self._make_process(home, data)
        with self._gate(home, deadline) as owners:
            try:
                passwords = self._ensure_running(process, home, data, owners, deadline)
                endpoint = self._connect_details(self._socket(), passwords)
                if self._membership is None:
                    # Nobody else can hold it alone: that takes the gate.
                    owners.try_acquire(shared=True)
                    self._membership = owners
            except BaseException:
                if self._membership is None:
                    if owners.try_acquire():
                        self._shut_down(process, _PATIENCE_AFTER_FAILURE)
                    process.close()
                    self._remove_shortcut()
                raise
        self._process = process
        self._endpoint = endpoint
        self._pid = os.getpid()
        atexit.register(self._stop)
        return endpoint

    def _ensure_running(
        self,
        process: ServerProcess,
        home: PrivateFolder,
        data: PrivateFolder,
        owners: FileLock,
        deadline: Deadline,
    ) -> dict[str, str]:
        self._check(data)
        passwords = self._stored_passwords(home)
        if passwords is None and process.is_running:
            if self._membership is not None or not owners.try_acquire():
                raise ConfigurationError(
                    f"{self._home / _PASSWORDS_FILE} is gone while the server runs: "
                    "stop its other users"
                )
            owners.unlock()
            self._shut_down(process, self._stop_timeout)
        launches = 0
        while True:
            if deadline.is_over:
                raise UnavailableError(
                    f"the embedded {self._kind} did not become ready in time: see {process.log}"
                )
            if not process.is_running:
                if launches == _LAUNCHES:
                    raise UnavailableError(
                        f"the embedded {self._kind} ended right after its start: see {process.log}"
                    )
                if launches == 0:
                    fresh = passwords is None
                    passwords = passwords or self._new_passwords()
                    self._prepare(data, passwords, fresh=fresh, deadline=deadline)
                    if fresh:
                        home.write(_PASSWORDS_FILE, json.dumps(passwords), is_durable=True)
                self._launch(process)
                launches += 1
            elif (
                passwords is not None
                and process.pid is not None
                and self._is_ready(data, self._socket(), passwords)
            ):
                return passwords
            time.sleep(_POLL_SECONDS)

    def _stop(self) -> None:
        with self._turn:
            # A forked child inherits the locks of its parent, but not the right to let go.
            if self._membership is None or self._process is None or self._pid != os.getpid():
                return
            atexit.unregister(self._stop)
            account = self._account or Account.of_this_process()
            membership, self._membership = self._membership, None
            process, self._process = self._process, None
            self._endpoint = None
            try:
                home = PrivateFolder(self._home, account)
                with (
                    account.data_dir_rights(),
                    self._gate(home, Deadline(self._stop_timeout)) as owners,
                ):
                    membership.release()
                    if owners.try_acquire():
                        self._shut_down(process, self._stop_timeout)
            except FileNotFoundError:
                # The folder has been removed: nobody can join or stop the server any more.
                self._shut_down(process, _PATIENCE_AFTER_FAILURE)
            finally:
                membership.release()
                process.close()
                with account.data_dir_rights():
                    self._remove_shortcut()

    def _shut_down(self, process: ServerProcess, patience: float) -> None:
        is_gone = (
            process.end(self._polite_stop, Deadline(patience))
            or process.end(self._firm_stop, Deadline(_PATIENCE_AFTER_FAILURE))
            or process.kill(Deadline(_PATIENCE_AFTER_FAILURE))
        )
        if not is_gone:
            raise UnavailableError(f"the embedded {self._kind} does not end: see {process.log}")

    def _remove_shortcut(self) -> None:
        if self._shortcut is not None:
            shutil.rmtree(self._shortcut, ignore_errors=True)
            self._shortcut = None

    @contextlib.contextmanager
    def _gate(self, home: PrivateFolder, deadline: Deadline) -> Generator[FileLock]:
        """Hold the gate; gives a handle on the owners' lock, closed unless it became ours."""
        gate = FileLock(home, "gate")
        owners = FileLock(home, "owners")
        try:
            if not gate.acquire(deadline):
                raise UnavailableError(
                    f"another process is starting or stopping the embedded {self._kind} in "
                    f"{self._data_dir} for too long: see {self.log}"
                )
            yield owners
        finally:
            if owners is not self._membership:
                owners.release()
            gate.release()

    def _make_process(self, home: PrivateFolder, data: PrivateFolder) -> ServerProcess:
        return ServerProcess(
            home, data=data, pid_file=self._pid_file, socket_lock=f"{self._socket_file}.lock"
        )

    def _make_home(self, account: Account) -> None:
        with contextlib.suppress(FileExistsError):
            self._home.mkdir(mode=0o700)
        status = self._home.lstat()
        owner = account.uid if account.owns_data_dir else os.geteuid()
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigurationError(
                f"{self._home} is not a folder, and the private servers follow no links there: "
                "remove it, or choose another folder"
            )
        _require_owner(self._home, status.st_uid, owner)
        if status.st_mode & 0o077:
            self._home.chmod(0o700)
        with contextlib.suppress(FileNotFoundError):
            _require_owner(self._data, self._data.stat().st_uid, account.uid)

    def _make_data(self, account: Account, path: Path) -> None:
        """Make a folder for data in the home folder, the account's own."""
        path.mkdir(mode=0o700)
        if not account.owns_data_dir:
            # Nobody but root can enter the home folder, so this cannot be exchanged.
            os.chown(path, account.uid, account.gid, follow_symlinks=False)

    def _stored_passwords(self, home: PrivateFolder) -> dict[str, str] | None:
        try:
            stored = cast("object", json.loads(home.read(_PASSWORDS_FILE)))
        except (FileNotFoundError, ValueError):
            return None
        if not isinstance(stored, dict):
            return None
        passwords = cast("dict[str, object]", stored)
        usable = {
            name: password
            for name in self._secret_names
            if isinstance(password := passwords.get(name), str) and _PASSWORD.fullmatch(password)
        }
        return usable if len(usable) == len(self._secret_names) else None

    def _new_passwords(self) -> dict[str, str]:
        return {name: secrets.token_urlsafe(24) for name in self._secret_names}

    def _socket(self) -> Path:
        """The server's socket by a path that is short enough for the system."""
        socket = self._data / self._socket_file
        if len(os.fsencode(socket)) <= _SOCKET_PATH_LIMIT:
            return socket
        if self._shortcut is None:
            self._shortcut = self._make_shortcut()
        return self._shortcut / "s" / self._socket_file

    def _make_shortcut(self) -> Path:
        for parent in dict.fromkeys((tempfile.gettempdir(), "/tmp")):  # noqa: S108 - see mkdtemp
            folder = Path(tempfile.mkdtemp(prefix="tca-", dir=parent))
            if len(os.fsencode(folder / "s" / self._socket_file)) <= _SOCKET_PATH_LIMIT:
                (folder / "s").symlink_to(self._data)
                return folder
            folder.rmdir()
        raise ConfigurationError(
            "the path of the temporary folder is too long for a socket: set TMPDIR to a shorter one"
        )


def _require_owner(folder: Path, found: int, owner: int) -> None:
    if found != owner:
        raise ConfigurationError(
            f"{folder} belongs to user id {found}, and should belong to user id {owner}: "
            "choose another folder for the private servers"
        )
