"""The operating-system account that an embedded server runs as."""

from __future__ import annotations

import os
import pwd
import sys
from dataclasses import dataclass
from pathlib import Path

from test_coordinator_data_adapter.errors import ConfigurationError

__all__ = ["Account"]

_ROOT = 0
_UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """Who owns a server's files and process.

    Attributes:
        uid: user id of the server's process and data.
        gid: group id of both.
        is_dropped_to: whether this process is root and has to become the account first.
        keeps_folder: whether the folder around the data is the account's as well.
    """

    uid: int
    gid: int
    is_dropped_to: bool
    keeps_folder: bool

    @classmethod
    def for_folder(cls, folder: Path) -> Account:
        """The account for the servers of an existing folder.

        An ordinary user runs them as themselves. PostgreSQL refuses to run as root, so root
        runs them as the folder's owner, or as ``nobody`` where that is root as well: the
        folder stays root's own, and nobody else can walk into it.

        Raises:
            ConfigurationError: the folder is another user's, this user has no entry in the
                password database, or this is root on a system where it cannot work.
        """
        owner = folder.stat().st_uid
        user = os.geteuid()
        if user != _ROOT:
            if owner != user:
                raise ConfigurationError(
                    f"{folder} belongs to user id {owner}, and this process runs as {user}: "
                    "choose another folder for the embedded servers or run as its owner"
                )
            return cls._of(user, is_dropped_to=False)
        if not sys.platform.startswith("linux"):
            raise ConfigurationError(
                "the embedded servers cannot be run by root on this system: run as an ordinary user"
            )
        if owner != _ROOT:
            return cls._of(owner, is_dropped_to=True)
        try:
            entry = pwd.getpwnam(_UNPRIVILEGED)
        except KeyError:
            raise ConfigurationError(
                f"root runs the embedded servers as the user {_UNPRIVILEGED!r}, and this system "
                "has no such user: add it, or give the folder to an ordinary user"
            ) from None
        return cls(entry.pw_uid, entry.pw_gid, is_dropped_to=True, keeps_folder=False)

    @classmethod
    def of_this_process(cls) -> Account:
        """The account that this process runs as, root included."""
        return cls(os.geteuid(), os.getegid(), is_dropped_to=False, keeps_folder=True)

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
        return cls(uid, entry.pw_gid, is_dropped_to=is_dropped_to, keeps_folder=True)

    def own(self, path: Path) -> None:
        """Give one of the server's own files or folders to the account."""
        if self.is_dropped_to:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)

    def keep(self, path: Path) -> None:
        """Give a file or folder that lies around the server's own to the folder's owner."""
        if self.keeps_folder:
            self.own(path)
