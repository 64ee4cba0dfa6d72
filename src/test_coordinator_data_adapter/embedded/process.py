"""A server process that outlives its starter, and the lock that shows whether it runs."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL, Signals
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from test_coordinator_data_adapter.embedded.folder import PrivateFolder
from test_coordinator_data_adapter.errors import ConfigurationError, UnavailableError
from test_coordinator_data_adapter.resilience.cancellation import to_its_end

if TYPE_CHECKING:
    import psutil

__all__ = ["Command", "Deadline", "FileLock", "ServerProcess", "in_thread", "run"]

_Result = TypeVar("_Result")

Command: TypeAlias = Callable[[str], Sequence[str]]
"""A program and its arguments, given the path by which it can reach its own folder."""

_POLL_SECONDS = 0.01
_PATIENCE_SECONDS = 2.0
_LOCK_SECONDS = 10.0
_MAX_PID = 2**31 - 1
_LOCK = "server.lock"
_LOG = "server.log"
_LOG_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_LOG_LIMIT_BYTES = 16 * 1024 * 1024
# "&" in a shell makes the server a child of init: nobody here has to reap it, and it may
# outlive its starter while other owners still use it.
_DETACH = '"$@" >&2 & echo $!'


class Deadline:
    """A point in time up to which blocking work may go on, and a way to call it off before.

    Args:
        seconds: the time left from now on.
        abort: set by whoever no longer wants the result.
    """

    def __init__(self, seconds: float, abort: threading.Event | None = None) -> None:
        self._end = time.monotonic() + seconds
        self._abort = abort

    @property
    def is_over(self) -> bool:
        """Whether there is no time left."""
        return self.seconds_left <= 0.0

    @property
    def seconds_left(self) -> float:
        """The time left; none once the work has been called off."""
        if self._abort is not None and self._abort.is_set():
            return 0.0
        return max(0.0, self._end - time.monotonic())

    def poll(self, condition: Callable[[], bool]) -> bool:
        """Wait for a condition; says whether it came true in time."""
        while not condition():
            if self.is_over:
                return False
            time.sleep(_POLL_SECONDS)
        return True


class FileLock:
    """An advisory lock on a file, released by the kernel when its holder dies.

    Args:
        folder: the folder of the file.
        name: the file's name; created if missing.
    """

    def __init__(self, folder: PrivateFolder, name: str) -> None:
        self._folder = folder
        self._name = name
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        """The open file that carries the lock."""
        if self._fd is None:
            self._fd = self._folder.open(self._name, os.O_RDWR | os.O_CREAT)
        return self._fd

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock, or change how it is held; says whether that was possible at once.

        A change that is not possible loses the lock, as the kernel has it.
        """
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fd = self.fd
        try:
            fcntl.flock(fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def acquire(self, deadline: Deadline) -> bool:
        """Wait for the lock; says whether it was got in time."""
        return deadline.poll(self.try_acquire)

    @property
    def is_in_place(self) -> bool:
        """Whether the path still leads to this file, which whoever held the lock may remove."""
        try:
            return os.path.samestat(os.fstat(self.fd), (self._folder.path / self._name).stat())
        except FileNotFoundError:
            return False

    def unlock(self) -> None:
        """Let go, for every process that inherited the file as well."""
        if self._fd is not None:
            fcntl.flock(self._fd, fcntl.LOCK_UN)

    def release(self) -> None:
        """Let go and close the file."""
        self.unlock()
        self.close()

    def close(self) -> None:
        """Close this process's file; who inherited it keeps the lock."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class ServerProcess:
    """One detached server with its lock, log and working directory.

    Every process of the server inherits a locked file, so the kernel answers whether any of
    them is left: process ids that were used again, killed starters and left-over pid files
    cannot deceive it.

    Args:
        home: the folder that holds ``server.lock``, ``server.log`` and the data.
        data: the server's working directory.
        pid_file: the name of the file in ``data`` that the server writes its process id to,
            in the first line.
        socket_lock: the name of another such file, if there is one.
    """

    def __init__(
        self,
        home: PrivateFolder,
        *,
        data: PrivateFolder,
        pid_file: str,
        socket_lock: str | None = None,
    ) -> None:
        self._home = home
        self._data = data
        # Kept open, so that the server can be ended even when its folder has been removed.
        self._probe = FileLock(home, _LOCK)
        self._pid_file = pid_file
        self._pid_files = [name for name in (pid_file, socket_lock) if name is not None]
        self._last_pid: int | None = None
        self._identity: tuple[int, int] | None = None

    @property
    def log(self) -> Path:
        """The file that the server writes its messages to."""
        return self._home.path / _LOG

    @property
    def is_running(self) -> bool:
        """Whether any process of the server exists, be it starting or shutting down."""
        if not self._probe.try_acquire(shared=True):
            return True
        self._probe.unlock()
        return False

    @property
    def pid(self) -> int | None:
        """The id of the living main process, None if there is none."""
        main = self._main()
        return None if main is None else main.pid

    def launch(self, command: Command, environment: Mapping[str, str]) -> None:
        """Start the server and return at once; it may still be starting, or fail to.

        Raises:
            UnavailableError: a process of an earlier server still exists.
            ConfigurationError: the system does not let it be run.
        """
        lock = FileLock(self._home, _LOCK)
        try:
            # A process that asks whether a server runs holds the lock for an instant.
            if not lock.acquire(Deadline(_LOCK_SECONDS)):
                raise UnavailableError("an earlier server in this folder has not ended yet")
            self._remove_stale_pid_files()
            with self._open_log() as log:
                self._last_pid = _spawn(
                    lambda folder: ["/bin/sh", "-c", _DETACH, "sh", *command(folder)],
                    folder=self._data,
                    environment=environment,
                    stderr=log,
                    pass_fds=(lock.fd,),
                )
        finally:
            lock.close()

    def signal_all(self, number: Signals) -> None:
        """Send a signal to the main process and then to all its children."""
        main = self._main()
        if main is not None:
            for each in (main, *self._children(main)):
                _signal(each, number)

    def kill(self, deadline: Deadline) -> bool:
        """End every process at once, as a power failure would; says whether that worked."""

        def is_gone() -> bool:
            main = self._main()
            if main is not None:
                # The children first: a frozen one would not notice that its parent has gone.
                for each in (*self._children(main), main):
                    _signal(each, SIGKILL)
            return self._is_gone()

        return deadline.poll(is_gone)

    def end(self, number: Signals, deadline: Deadline) -> bool:
        """Ask the main process to end with a signal; says whether all ended in time."""
        asked: int | None = None

        def is_gone() -> bool:
            nonlocal asked
            main = self._main()
            if main is not None and main.pid != asked:
                _signal(main, number)
                asked = main.pid
            return self._is_gone()

        return deadline.poll(is_gone)

    def close(self) -> None:
        """Let go of the files of this process; the server goes on."""
        self._probe.close()

    def _is_gone(self) -> bool:
        if self.is_running:
            return False
        if self._last_pid is not None:
            # When this process is the first of a container, it is the server's parent now.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self._last_pid, os.WNOHANG)
        return True

    def _main(self) -> psutil.Process | None:
        for pid in (self._pid_in(self._pid_file), self._last_pid):
            main = None if pid is None else self._own_process(pid)
            if main is not None:
                self._last_pid = pid
                return main if self.is_running else None
        return None

    def _own_process(self, pid: int) -> psutil.Process | None:
        """The process with that id, if it is alive, the account's, and works in the data folder.

        The id may come from a file that anybody could have written who may write there.
        """
        import psutil

        try:
            process = psutil.Process(pid)
            if process.status() == psutil.STATUS_ZOMBIE or not self._is_the_accounts(process):
                return None
            # Remembered, because it can be asked for no more once the folder is removed.
            self._identity = self._identity or self._data.identity()
            folder = Path(process.cwd())
        except (psutil.Error, OSError):
            return None
        try:
            status = folder.stat()
        except OSError:  # removed while the server runs
            return process if folder == self._data.path.resolve() else None
        return process if (status.st_dev, status.st_ino) == self._identity else None

    def _children(self, main: psutil.Process) -> list[psutil.Process]:
        import psutil

        try:
            return [child for child in main.children() if self._is_the_accounts(child)]
        except psutil.Error:
            return []

    def _is_the_accounts(self, process: psutil.Process) -> bool:
        uid: int = process.uids().real
        return uid == self._data.account.uid

    def _pid_in(self, name: str) -> int | None:
        try:
            pid = int(self._data.read(name).split("\n", 1)[0])
        except (OSError, ValueError, ConfigurationError):
            return None
        return pid if 0 < pid <= _MAX_PID else None

    def _remove_stale_pid_files(self) -> None:
        # We hold the lock, so no server of ours is left. PostgreSQL would refuse to start beside
        # a zombie, beside another process that has the id since, and beside a file that a power
        # failure left empty. A server that a person has started works in the folder: it stays.
        for name in self._pid_files:
            pid = self._pid_in(name)
            if pid is None:
                is_stale = self._data.exists(name) and not self._has_own_process()
            else:
                is_stale = self._own_process(pid) is None
            if is_stale:
                self._data.remove(name)

    def _has_own_process(self) -> bool:
        import psutil

        return any(self._own_process(pid) for pid in psutil.pids())

    @contextlib.contextmanager
    def _open_log(self) -> Generator[int]:
        fd = self._home.open(_LOG, _LOG_FLAGS)
        try:
            if os.fstat(fd).st_size > _LOG_LIMIT_BYTES:
                self._home.rename(_LOG, f"{_LOG}.1")
                os.close(fd)
                fd = self._home.open(_LOG, _LOG_FLAGS)
            yield fd
        finally:
            os.close(fd)


def run(
    command: Command,
    *,
    folder: PrivateFolder,
    environment: Mapping[str, str],
    deadline: Deadline,
    standard_input: str = "",
) -> tuple[int, str]:
    """Run a command in a folder to its end, as the folder's account.

    Returns:
        Its exit code and what it wrote to either output.

    Raises:
        UnavailableError: it took too long, or was called off; it has been killed.
        ConfigurationError: the system does not let it be run.
    """
    process = _popen(
        command,
        folder=folder,
        environment=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    with process:
        pending: str | None = standard_input
        while True:
            try:
                output, _ = process.communicate(pending, timeout=0.05)
            except subprocess.TimeoutExpired:
                pending = None
                if deadline.is_over:
                    _end_group(process)
                    raise UnavailableError(
                        f"{Path(command('')[0]).name} did not finish in time"
                    ) from None
            else:
                return process.returncode, output


async def in_thread(
    work: Callable[[], _Result], *, on_cancel: Callable[[], None] = lambda: None
) -> _Result:
    """Run blocking work in a thread of its own and wait for its end, come what may.

    A thread of the loop's own pool would be held for as long as another process holds the gate.
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="embedded-server")
    try:
        running = asyncio.get_running_loop().run_in_executor(executor, work)
        return await to_its_end(running, on_cancel=on_cancel)
    finally:
        # The work is over, so this waits for no more than the thread's last instructions.
        executor.shutdown()


def _spawn(
    command: Command,
    *,
    folder: PrivateFolder,
    environment: Mapping[str, str],
    stderr: int,
    pass_fds: tuple[int, ...],
) -> int | None:
    process = _popen(
        command,
        folder=folder,
        environment=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        pass_fds=pass_fds,
    )
    printed, _ = process.communicate()
    return int(printed) if printed.strip().isdecimal() else None


def _popen(
    command: Command,
    *,
    folder: PrivateFolder,
    environment: Mapping[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    pass_fds: tuple[int, ...] = (),
) -> subprocess.Popen[str]:
    account = folder.account
    try:
        with folder.descriptor() as fd, account.data_dir_rights():
            # Root's server may live below folders that it must not enter itself, /root say.
            # The kernel's link to a folder that is open already asks for nothing but the folder.
            path = f"/proc/self/fd/{fd}" if account.is_dropped_to else str(folder.path)
            return subprocess.Popen(  # noqa: S603 - programs of the wheels, no shell text of others
                command(path),
                cwd=path,
                env=environment,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(*pass_fds, fd) if account.is_dropped_to else pass_fds,
                text=True,
                errors="replace",
                umask=0o077,
                # Out of the terminal's process group: Ctrl-C is for the owner, who stops us.
                start_new_session=True,
                user=account.uid if account.is_dropped_to else None,
                group=account.gid if account.is_dropped_to else None,
                extra_groups=account.groups if account.is_dropped_to else None,
            )
    except OSError as error:
        raise ConfigurationError(
            f"{Path(command('')[0]).name} cannot be run as user id {account.uid} "
            f"({errno.errorcode.get(error.errno or 0, 'unknown error')})"
        ) from error


def _end_group(process: subprocess.Popen[str]) -> None:
    # What PostgreSQL's programs are killed at, they do not give back: shared memory, say. They
    # need no second to end by themselves, as a rule.
    try:
        process.communicate(timeout=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, SIGKILL)
        process.communicate()


def _signal(process: psutil.Process, number: Signals) -> None:
    import psutil

    with contextlib.suppress(psutil.Error):
        process.send_signal(number)
