"""File rights of one thread: what root opens with another user's rights, no link widens."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from collections.abc import Generator, Sequence
from typing import Final

from test_coordinator_data_adapter.errors import ConfigurationError

__all__ = ["thread_rights"]

# The C library's setgroups() changes every thread of the process; the system call changes one.
_SETGROUPS: Final = {"x86_64": 116, "aarch64": 159, "riscv64": 159}
_IS_64_BIT: Final = sys.maxsize > 2**32
_QUERY: Final = 0xFFFFFFFF


@contextlib.contextmanager
def thread_rights(uid: int, gid: int, groups: Sequence[int]) -> Generator[None]:
    """Give this thread, and no other, the file rights of a user; root only, on Linux.

    The kernel then checks every open, link, rename and change of a mode as it would for that
    user: root's right to pass over permissions is gone until the block ends.

    Raises:
        ConfigurationError: the system does not let the rights be changed.
    """
    libc = ctypes.CDLL(None)
    for change in (libc.setfsuid, libc.setfsgid):
        change.argtypes, change.restype = [ctypes.c_uint32], ctypes.c_uint32
    before = (libc.setfsuid(_QUERY), libc.setfsgid(_QUERY), os.getgroups())
    try:
        _set_rights(libc, uid, gid, groups)
        yield
    finally:
        _set_rights(libc, *before)


def _set_rights(libc: ctypes.CDLL, uid: int, gid: int, groups: Sequence[int]) -> None:
    number = _SETGROUPS.get(platform.machine()) if _IS_64_BIT else None
    if number is None:
        raise ConfigurationError(
            f"root cannot run the private servers on {platform.machine()}: run as an ordinary user"
        )
    # gid_t has 32 bits on every Linux.
    members = (ctypes.c_uint32 * len(groups))(*groups)
    refused = libc.syscall(ctypes.c_long(number), ctypes.c_size_t(len(groups)), members)
    libc.setfsgid(gid)
    libc.setfsuid(uid)
    # Both report the rights before the call and no error, so ask what they are now.
    if refused or libc.setfsgid(_QUERY) != gid or libc.setfsuid(_QUERY) != uid:
        raise ConfigurationError(
            f"root may not take on the rights of user id {uid}, which the private servers need: "
            "grant CAP_SETUID and CAP_SETGID, or run as an ordinary user"
        )
