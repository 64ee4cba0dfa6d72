"""A folder of the private servers, whose files are opened with its owner's rights."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Final

from test_coordinator_data_adapter.embedded.account import Account
from test_coordinator_data_adapter.errors import ConfigurationError

__all__ = ["PrivateFolder"]

_MAX_READ_BYTES: Final = 64 * 1024
_FLAGS: Final = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PrivateFolder:
    """The folder around a server's data, or the data folder inside.

    Whoever owns the folder may have put anything into it. So every file is opened relative to
    the open folder, with the rights of the folder's owner, through no link, and only if it is a
    regular file.

    Args:
        path: the folder.
        account: who runs the server.
        is_data: whether it is the server's data folder, which always belongs to the account.
    """

    def __init__(self, path: Path, account: Account, *, is_data: bool = False) -> None:
        self.path = path
        self.account = account
        self._rights = account.data_rights if is_data else account.data_dir_rights

    @contextlib.contextmanager
    def descriptor(self) -> Generator[int]:
        """The open folder."""
        # The account of root's servers cannot walk to its data, which are in a folder of root's.
        with self.account.data_dir_rights():
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)

    def open(self, name: str, flags: int) -> int:
        """Open a file, which is private to its owner if it is created.

        Raises:
            ConfigurationError: it is a link, a folder or anything else that is not a file.
            OSError: it cannot be opened.
        """
        with self.descriptor() as folder, self._rights():
            try:
                fd = os.open(name, flags | _FLAGS, 0o600, dir_fd=folder)
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
                    raise self._not_a_file(name) from None
                raise
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise self._not_a_file(name)
        return fd

    def exists(self, name: str) -> bool:
        """Whether there is a file, a folder or a link of that name."""
        try:
            with self.descriptor() as folder, self._rights():
                os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return True

    def read(self, name: str) -> str:
        """The beginning of a file, which is all of a small one."""
        with os.fdopen(self.open(name, os.O_RDONLY), "rb") as file:
            return file.read(_MAX_READ_BYTES).decode(errors="replace")

    def write(self, name: str, content: str | bytes, *, is_durable: bool = False) -> None:
        """Write a file, which is then there as a whole, or as it was before."""
        staging = f"{name}-{secrets.token_hex(4)}"
        created = self.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            with os.fdopen(created, "wb") as file:
                file.write(content if isinstance(content, bytes) else content.encode())
                if is_durable:
                    file.flush()
                    os.fsync(file.fileno())
            self.rename(staging, name, is_durable=is_durable)
        except BaseException:
            self.remove(staging)
            raise

    def rename(self, name: str, new_name: str, *, is_durable: bool = False) -> None:
        """Give a file another name, in place of the one that has it."""
        with self.descriptor() as folder, self._rights():
            os.replace(name, new_name, src_dir_fd=folder, dst_dir_fd=folder)
            if is_durable:
                os.fsync(folder)

    def remove(self, name: str) -> None:
        """Remove a file, or a link, if it exists."""
        with (
            self.descriptor() as folder,
            self._rights(),
            contextlib.suppress(FileNotFoundError),
        ):
            os.unlink(name, dir_fd=folder)

    def identity(self) -> tuple[int, int]:
        """What names the folder in the system, wherever it is moved to."""
        with self.descriptor() as fd:
            status = os.fstat(fd)
        return status.st_dev, status.st_ino

    def _not_a_file(self, name: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.path / name} is not a file, and the private servers follow no links in "
            "their folder: remove it"
        )
