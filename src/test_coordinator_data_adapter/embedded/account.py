"""The operating-system account that a private server runs as, and the rights that come with it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from test_coordinator_data_adapter.embedded.rights import thread_rights
from test_coordinator_data_adapter.errors import ConfigurationError

__all__ = ["Account"]

_ROOT: Final = 0
_SYSTEM_ACCOUNT: Final = "tcda-servers"
_ADMINISTRATORS_PATH: Final = "/usr/sbin:/sbin:/usr/bin:/bin"
_CREATE_SECONDS: Final = 30.0
_CREATE_ATTEMPTS: Final = 10
_CREATE_PAUSE: Final = 0.5
_MAX_LINKS: Final = 40
_MAX_STEPS: Final = 100


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns a server's files and runs its processes.

    Root opens, creates and changes files in a server's folder only while its thread has the
    rights of the folder's owner, so a link that the owner has put there leads root to nothing
    that the owner could not have opened.

    Attributes:
        uid: user id of the server's processes and of its data.
        gid: group id of both.
        groups: the supplementary groups of that user.
        is_dropped_to: whether this process is root and takes on the account for the server.
        owns_data_dir: whether the folder around the data belongs to the account as well.
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    is_dropped_to: bool
    owns_data_dir: bool

    @classmethod
    def for_data_dir(cls, data_dir: Path) -> Account:
        """Create a data folder if it is missing, and return the account for its servers.

        An ordinary user runs them as themselves. PostgreSQL refuses to run as root, so root
        runs them as the folder's owner, or as the system account ``tcda-servers`` where that is
        root as well: the folder stays root's own, and nobody else can enter it.

        Raises:
            ConfigurationError: the folder is another user's, somebody else decides where its
                path leads, this user has no entry in the password database, the system account
                cannot be created, or this is root on a system where it cannot work.
            OSError: the folder cannot be created.
        """
        user = os.geteuid()
        if user != _ROOT:
            data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = data_dir.stat().st_uid
            if owner != user:
                raise ConfigurationError(
                    f"{data_dir} belongs to user id {owner}, and this process runs as {user}: "
                    "choose another folder for the private servers or run as its owner"
                )
            return cls._of(user, is_dropped_to=False)
        if not sys.platform.startswith("linux"):
            raise ConfigurationError(
                "the private servers cannot be run by root on this system: run as an ordinary user"
            )
        for _ in range(_MAX_STEPS):
            user, resolved, is_missing = _walk(data_dir)
            account = cls._of_the_system() if user == _ROOT else cls._of(user, is_dropped_to=True)
            if not is_missing:
                break
            # One folder at a time: its parent has just been examined, and mkdir follows no link.
            with account.data_dir_rights(), contextlib.suppress(FileExistsError):
                resolved.mkdir(mode=0o700)
        else:
            raise ConfigurationError(f"{data_dir} is removed as often as it is created")
        owner = resolved.stat().st_uid
        if owner != user:
            raise ConfigurationError(
                f"{data_dir} belongs to user id {owner}, and user id {user} decides where that "
                "path leads: root runs no private servers there; choose another folder"
            )
        return account

    @classmethod
    def of_this_process(cls) -> Account:
        """The account that this process runs as, root included."""
        return cls(os.geteuid(), os.getegid(), (), is_dropped_to=False, owns_data_dir=True)

    @classmethod
    def _of(cls, uid: int, *, is_dropped_to: bool) -> Account:
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            # initdb and single-user mode look the name up and give up without one.
            raise ConfigurationError(
                f"user id {uid} has no entry in the password database, which PostgreSQL needs: "
                "add one, or run as a user who has one"
            ) from None
        groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
        return cls(uid, entry.pw_gid, groups, is_dropped_to=is_dropped_to, owns_data_dir=True)

    @classmethod
    def _of_the_system(cls) -> Account:
        """The system account that nothing else uses, created on first use."""
        entry = _system_account()
        if entry.pw_uid == _ROOT or pwd.getpwuid(entry.pw_uid).pw_name != _SYSTEM_ACCOUNT:
            raise ConfigurationError(
                f"root runs the private servers as the system account {_SYSTEM_ACCOUNT!r}, and "
                f"its user id {entry.pw_uid} belongs to another user as well: give it its own"
            )
        groups = tuple(os.getgrouplist(_SYSTEM_ACCOUNT, entry.pw_gid))
        return cls(entry.pw_uid, entry.pw_gid, groups, is_dropped_to=True, owns_data_dir=False)

    @contextlib.contextmanager
    def data_rights(self) -> Generator[None]:
        """Give this thread the file rights of the server's account."""
        if not self.is_dropped_to:
            yield
            return
        with thread_rights(self.uid, self.gid, self.groups):
            yield

    @contextlib.contextmanager
    def data_dir_rights(self) -> Generator[None]:
        """Give this thread the file rights of the owner of the folder around the data."""
        if not self.owns_data_dir:
            yield
            return
        with self.data_rights():
            yield


def _system_account() -> pwd.struct_passwd:
    """The entry of the system account; creates it if it is missing."""
    reason = "there is no program useradd"
    program = shutil.which("useradd", path=_ADMINISTRATORS_PATH)
    for attempt in range(_CREATE_ATTEMPTS):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(_SYSTEM_ACCOUNT)
        if program is None:
            break
        if attempt:
            # Another process holds the lock on the password database, or has just been faster.
            time.sleep(_CREATE_PAUSE)
        try:
            done = subprocess.run(  # noqa: S603 - the administrator's own program, fixed words
                [
                    program,
                    *("--system", "--user-group", "--no-create-home"),
                    *("--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin"),
                    *("--comment", "private servers of test-coordinator-data-adapter"),
                    _SYSTEM_ACCOUNT,
                ],
                cwd="/",
                env={"PATH": _ADMINISTRATORS_PATH, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_CREATE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            reason = "useradd did not run to its end"
            break
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"useradd ended with code {done.returncode}"
    raise ConfigurationError(
        f"root runs the private servers as the system account {_SYSTEM_ACCOUNT!r}, which cannot "
        f"be created ({reason}): add it with `useradd --system {_SYSTEM_ACCOUNT}`, or give the "
        "folder to an ordinary user"
    )


def _walk(path: Path) -> tuple[int, Path, bool]:
    """Follow a path as the kernel would, and see who decides where it leads.

    Every user who owns a folder or a link on the way can make the path lead elsewhere.

    Returns:
        The only user beside root who decides, root itself if there is none; the folder that
        the path leads to, or the first one that is missing; whether it is missing.

    Raises:
        ConfigurationError: more than one user decides, or everybody.
    """
    users = {_ROOT}
    resolved = Path("/")
    pending = list(reversed(path.absolute().parts[1:]))
    links = 0
    is_missing = False
    while pending and not is_missing:
        _require_closed(resolved)
        part = pending.pop()
        if part == "..":
            resolved = resolved.parent
            continue
        entry = resolved / part
        try:
            status = entry.lstat()
        except FileNotFoundError:
            is_missing = True
        else:
            users.add(status.st_uid)
            if stat.S_ISLNK(status.st_mode):
                links += 1
                if links > _MAX_LINKS:
                    raise ConfigurationError(f"{path} leads through too many links")
                target = entry.readlink()
                resolved = Path("/") if target.is_absolute() else resolved
                pending.extend(part for part in reversed(target.parts) if part != target.anchor)
                continue
        resolved = entry
    if not is_missing:
        _require_closed(resolved)
    if len(users - {_ROOT}) > 1:
        several = ", ".join(map(str, sorted(users - {_ROOT})))
        raise ConfigurationError(
            f"the folders and links that lead to {path} belong to the user ids {several}: "
            "root runs no private servers there; choose another folder"
        )
    return max(users), resolved, is_missing


def _require_closed(folder: Path) -> None:
    """Refuse a folder of root's in which others may exchange what belongs to root."""
    status = folder.stat()
    others = stat.S_IWOTH | (stat.S_IWGRP if status.st_gid != _ROOT else 0)
    if status.st_uid == _ROOT and status.st_mode & others and not status.st_mode & stat.S_ISVTX:
        raise ConfigurationError(
            f"root runs no private servers in or below {folder}, which others may write to: "
            f"`chmod go-w {folder}`, or choose another folder"
        )
