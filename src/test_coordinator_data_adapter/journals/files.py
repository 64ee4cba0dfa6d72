"""Reading files that users name: bounded in time and memory, whatever the file is."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from test_coordinator_data_adapter.errors import InvalidValueError

__all__ = ["printable", "read_file"]

_MIB = 1024**2


def read_file(path: Path, *, max_bytes: int) -> bytes:
    """The content of a regular file.

    Pipes, devices and the like, which may block or never end, are refused before they are opened.
    A file that claims to be empty is not read: such files below /proc may block, too.

    Args:
        path: the file.
        max_bytes: a larger file is refused.

    Raises:
        InvalidValueError: it is no regular file, is empty, or is too large; does not name it.
        OSError: it cannot be opened or read.
        ValueError: the name cannot be a file name.
    """
    _require_readable(path.stat(), max_bytes)
    # Should it become a pipe in between: opening and reading do not wait.
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    )
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor
        _require_readable(os.fstat(descriptor), max_bytes)
        content = file.read(max_bytes + 1)  # it may be growing
    if len(content) > max_bytes:
        raise _too_large(max_bytes)
    return content


def printable(text: str) -> str:
    """The text, or its Python literal if it contains characters that could change a terminal."""
    return text if text.isprintable() else repr(text)


def _require_readable(status: os.stat_result, max_bytes: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidValueError("is not a regular file")
    if status.st_size == 0:
        raise InvalidValueError("is empty")
    if status.st_size > max_bytes:
        raise _too_large(max_bytes)


def _too_large(max_bytes: int) -> InvalidValueError:
    size = f"{max_bytes // _MIB} MiB" if max_bytes >= _MIB else f"{max_bytes // 1024} KiB"
    return InvalidValueError(f"is larger than {size}")
