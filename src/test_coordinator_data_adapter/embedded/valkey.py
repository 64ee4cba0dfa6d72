"""A private, persistent, Redis-compatible Valkey in a folder."""

from __future__ import annotations

import contextlib
import os
import signal
import socket as sockets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from test_coordinator_data_adapter.embedded.account import Account
from test_coordinator_data_adapter.embedded.binaries import valkey_program
from test_coordinator_data_adapter.embedded.folder import PrivateFolder
from test_coordinator_data_adapter.embedded.process import Deadline, ServerProcess
from test_coordinator_data_adapter.embedded.shared import SharedServer

__all__ = ["ENVIRONMENT", "EmbeddedValkey", "ValkeyEndpoint", "answers", "listens"]

ENVIRONMENT: Final[Mapping[str, str]] = {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}
_CONFIGURATION: Final = """\
# Written at every start.
port 0
unixsocket valkey.sock
unixsocketperm 700
pidfile valkey.pid
daemonize no
requirepass {password}
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
"""


@dataclass(frozen=True, slots=True)
class ValkeyEndpoint:
    """How to connect to an embedded Valkey.

    Attributes:
        path: the server's Unix socket.
        url: for redis-py, with the password of the default user.
    """

    path: str
    url: str = field(repr=False)


class EmbeddedValkey(SharedServer[ValkeyEndpoint]):
    """A Valkey server of one's own, kept in a folder and shared by all who name it.

    It listens on a Unix socket inside its private folder and nowhere else, asks for a generated
    password, and appends every write to a file that is synced each second.
    """

    _kind = "valkey"
    _pid_file = "valkey.pid"
    _socket_file = "valkey.sock"
    _secret_names = ("default",)
    _polite_stop = signal.SIGTERM
    _firm_stop = signal.SIGTERM

    _program: Path

    def _locate(self, account: Account) -> None:
        self._program = valkey_program(account)

    def _check(self, data: PrivateFolder) -> None:
        """Valkey reads the files of every earlier Redis, and its log names what it cannot read."""

    def _prepare(
        self,
        data: PrivateFolder,
        passwords: dict[str, str],
        *,
        fresh: bool,  # noqa: ARG002 - the passwords are in the configuration alone
        deadline: Deadline,  # noqa: ARG002 - nothing here takes long
    ) -> None:
        with contextlib.suppress(FileExistsError):
            self._make_data(data.account, data.path)
        data.write("valkey.conf", _CONFIGURATION.format(password=passwords["default"]))

    def _launch(self, process: ServerProcess) -> None:
        process.launch(lambda folder: [str(self._program), f"{folder}/valkey.conf"], ENVIRONMENT)

    def _is_ready(
        self,
        data: PrivateFolder,  # noqa: ARG002 - Valkey answers for itself
        socket: Path,
        passwords: dict[str, str],
    ) -> bool:
        return answers(sockets.AF_UNIX, str(socket), passwords["default"])

    def _connect_details(self, socket: Path, passwords: dict[str, str]) -> ValkeyEndpoint:
        password = passwords["default"]
        return ValkeyEndpoint(
            path=str(socket), url=f"unix://default:{password}@{quote(str(socket))}?db=0"
        )


def answers(
    family: int, address: str | tuple[str, int], password: str, timeout: float = 1.0
) -> bool:
    """Whether a server answers PING there, which one that still loads its data does not."""
    replies = _ask(family, address, [f"AUTH {password}", "PING"], timeout)
    return replies[-1:] == [b"+PONG"]


def listens(family: int, address: str | tuple[str, int], timeout: float = 1.0) -> bool:
    """Whether a server answers PING there, if only to ask for a password."""
    replies = _ask(family, address, ["PING"], timeout)
    return bool(replies) and replies[0].startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))


def _ask(
    family: int, address: str | tuple[str, int], commands: list[str], timeout: float
) -> list[bytes]:
    """Send commands whose replies are one line each; no replies if it cannot be reached."""
    received = b""
    try:
        with sockets.socket(family, sockets.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(address)
            connection.sendall("".join(f"{command}\r\n" for command in commands).encode())
            while received.count(b"\r\n") < len(commands):
                part = connection.recv(4096)
                if not part:
                    return []
                received += part
    except OSError:
        return []
    return received.splitlines()
