"""A server process that outlives its starter and is watched through a lock the kernel keeps."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGKILL, Signals
from typing import TypeAlias, TypeVar

from test_coordinator_data_adapter.embedded.account import Account
from test_coordinator_data_adapter.errors import ConfigurationError, UnavailableError
from test_coordinator_data_adapter.resilience.cancellation import to_its_end

__all__ = ["Command", "Deadline", "FileLock", "ServerProcess", "in_thread", "run"]

_Result = TypeVar("_Result")

Command: TypeAlias = Callable[[str], Sequence[str]]
"""A program and its arguments, given the path by which it can reach its own folder."""

_POLL_SECONDS = 0.01
_PATIENCE_SECONDS = 2.0
_LOCK_SECONDS = 10.0
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
    """An advisory lock on a file, let go by the kernel when its holder dies.

    Args:
        path: the file, created if missing, private to its owner.
        account: whose folder it is in.
    """

    def __init__(self, path: Path, account: Account) -> None:
        self.path = path
        self._account = account
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        """The open file that carries the lock."""
        if self._fd is None:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._account.keep(self.path)
        return self._fd

    def try_acquire(self, *, shared: bool = False) -> bool:
        """Take the lock, or change how it is held; says whether that was possible at once.

        A change that is not possible loses the lock, as the kernel has it.
        """
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        try:
            fcntl.flock(self.fd, kind | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
            return False
        return True

    def acquire(self, deadline: Deadline) -> bool:
        """Wait for the lock; says whether it was got in time."""
        return deadline.poll(self.try_acquire)

    @property
    def is_in_place(self) -> bool:
        """Whether the path still leads to this file, which whoever held the lock may remove."""
        try:
            return os.path.samestat(os.fstat(self.fd), self.path.stat())
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

    Every process of the server inherits a locked file, so "is it still there" is a question to
    the kernel: process ids that were used again, killed starters and left-over pid files
    cannot deceive it.

    Args:
        home: the private folder that holds ``server.lock``, ``server.log`` and the data.
        data: the server's working directory.
        pid_file: the name of the file in ``data`` that the server writes its process id to,
            in the first line.
        account: who runs it.
        socket_lock: the name of another such file, if there is one.
    """

    def __init__(
        self,
        home: Path,
        *,
        data: Path,
        pid_file: str,
        account: Account,
        socket_lock: str | None = None,
    ) -> None:
        self.log = home / "server.log"
        self._lock = home / "server.lock"
        # Kept open, so that the server can be ended even when its folder has been removed.
        self._probe = FileLock(self._lock, account)
        self._data = data
        self._pid_file = data / pid_file
        self._pid_files = [data / name for name in (pid_file, socket_lock) if name is not None]
        self._account = account
        self._last_pid: int | None = None
        self._place: tuple[int, int] | None = None

    @property
    def is_running(self) -> bool:
        """Whether any process of the server is there, be it starting or shutting down."""
        if not self._probe.try_acquire(shared=True):
            return True
        self._probe.unlock()
        return False

    @property
    def pid(self) -> int | None:
        """The id of the living main process, None if there is none."""
        self._last_pid = _pid_in(self._pid_file) or self._last_pid
        is_there = self._last_pid is not None and self._is_ours(self._last_pid) and self.is_running
        return self._last_pid if is_there else None

    def launch(self, command: Command, environment: Mapping[str, str]) -> None:
        """Start the server and return at once; it may still be starting, or fail to.

        Raises:
            UnavailableError: a process of an earlier server is still there.
            ConfigurationError: the system does not let it be run.
        """
        lock = FileLock(self._lock, self._account)
        try:
            # Whoever asks whether a server runs holds it for a moment.
            if not lock.acquire(Deadline(_LOCK_SECONDS)):
                raise UnavailableError("an earlier server in this folder has not ended yet")
            self._remove_stale_pid_files()
            with self._open_log() as log:
                self._last_pid = _spawn(
                    lambda folder: ["/bin/sh", "-c", _DETACH, "sh", *command(folder)],
                    account=self._account,
                    cwd=self._data,
                    environment=environment,
                    stderr=log,
                    pass_fds=(lock.fd,),
                )
        finally:
            lock.close()

    def signal_all(self, number: Signals) -> None:
        """Send a signal to the main process and then to all its children."""
        pid = self.pid
        if pid is not None:
            for each in (pid, *_children(pid)):
                _signal(each, number)

    def kill(self, deadline: Deadline) -> bool:
        """End every process at once, as a power failure would; says whether that worked."""

        def is_gone() -> bool:
            pid = self.pid
            if pid is not None:
                # The children first: a frozen one would not notice that its parent has gone.
                for each in (*_children(pid), pid):
                    _signal(each, SIGKILL)
            return self._is_gone()

        return deadline.poll(is_gone)

    def end(self, number: Signals, deadline: Deadline) -> bool:
        """Ask the main process to end with a signal; says whether all ended in time."""
        asked: int | None = None

        def is_gone() -> bool:
            nonlocal asked
            pid = self.pid
            if pid is not None and pid != asked:
                _signal(pid, number)
                asked = pid
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

    def _remove_stale_pid_files(self) -> None:
        # We hold the lock, so no server of ours is left. PostgreSQL would refuse to start beside
        # a zombie, or whoever has the number since; one that a person has started works here.
        for file in self._pid_files:
            pid = _pid_in(file)
            if pid is not None and not self._is_ours(pid):
                file.unlink(missing_ok=True)

    def _is_ours(self, pid: int) -> bool:
        """Whether a process is alive and, where the system tells, works in the data folder."""
        if not _is_alive(pid):
            return False
        if not sys.platform.startswith("linux"):
            return True
        try:
            # Remembered, because it can be asked for no more once the folder is removed.
            self._place = self._place or _identity(self._data)
            return _identity(Path(f"/proc/{pid}/cwd")) == self._place
        except OSError:
            return False

    @contextlib.contextmanager
    def _open_log(self) -> Generator[int]:
        with contextlib.suppress(FileNotFoundError):
            if self.log.stat().st_size > _LOG_LIMIT_BYTES:
                self.log.replace(self.log.with_suffix(".log.1"))
        fd = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._account.keep(self.log)
            yield fd
        finally:
            os.close(fd)


def run(
    command: Command,
    *,
    account: Account,
    cwd: Path,
    environment: Mapping[str, str],
    deadline: Deadline,
    standard_input: str = "",
) -> tuple[int, str]:
    """Run a command to its end as an account.

    Returns:
        Its exit code and what it wrote to either output.

    Raises:
        UnavailableError: it took too long, or was called off; it has been killed.
        ConfigurationError: the system does not let it be run.
    """
    process = _popen(
        command,
        account=account,
        cwd=cwd,
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
    account: Account,
    cwd: Path,
    environment: Mapping[str, str],
    stderr: int,
    pass_fds: tuple[int, ...],
) -> int | None:
    process = _popen(
        command,
        account=account,
        cwd=cwd,
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
    account: Account,
    cwd: Path,
    environment: Mapping[str, str],
    stdin: int,
    stdout: int,
    stderr: int,
    pass_fds: tuple[int, ...] = (),
) -> subprocess.Popen[str]:
    folder_fd: int | None = None
    try:
        if account.is_dropped_to:
            # Root's server may live below folders that it must not enter itself, /root say.
            # The kernel's link to a folder that is open already asks for nothing but the folder.
            folder_fd = os.open(cwd, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            pass_fds = (*pass_fds, folder_fd)
        return subprocess.Popen(  # noqa: S603 - programs of the wheels, no shell text of others
            command(str(cwd) if folder_fd is None else f"/proc/self/fd/{folder_fd}"),
            cwd=cwd,
            env=environment,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=pass_fds,
            text=True,
            errors="replace",
            umask=0o077,
            # Out of the terminal's process group: Ctrl-C is for the owner, who stops us.
            start_new_session=True,
            user=account.uid if account.is_dropped_to else None,
            group=account.gid if account.is_dropped_to else None,
            extra_groups=() if account.is_dropped_to else None,
        )
    except OSError as error:
        raise ConfigurationError(
            f"{Path(command('')[0]).name} cannot be run as user id {account.uid} "
            f"({errno.errorcode.get(error.errno or 0, 'unknown error')})"
        ) from error
    finally:
        if folder_fd is not None:
            os.close(folder_fd)


def _end_group(process: subprocess.Popen[str]) -> None:
    # What PostgreSQL's programs are killed at, they do not give back: shared memory, say. They
    # need no second to end by themselves, as a rule.
    try:
        process.communicate(timeout=_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, SIGKILL)
        process.communicate()


def _signal(pid: int, number: Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _pid_in(file: Path) -> int | None:
    try:
        pid = int(file.read_text().split("\n", 1)[0])
    except (OSError, ValueError):
        return None
    return pid if pid > 0 else None


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return not stat.rpartition(")")[2].lstrip().startswith("Z")


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child)
            for listing in Path(f"/proc/{pid}/task").glob("*/children")
            for child in listing.read_text().split()
        ]
    except OSError:
        return []
