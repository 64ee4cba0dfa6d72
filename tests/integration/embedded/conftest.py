"""Folders for embedded servers, and other processes that use them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import asyncpg
import psutil
import pytest
import redis.asyncio as redis

from test_coordinator_data_adapter.embedded import EmbeddedPostgres, EmbeddedValkey

SOURCES = Path(__file__).parents[3] / "src"
NOBODY = 65534


class Kind:
    """What the tests need to know of one kind of server."""

    def __init__(self, name: str, factory: Callable[..., Any], pid_file: str) -> None:
        self.name = name
        self.start_in = factory
        self._pid_file = pid_file

    def pid_file(self, folder: Path) -> Path:
        return folder / self.name / "data" / self._pid_file

    def pid(self, folder: Path) -> int:
        return int(self.pid_file(folder).read_text().split("\n", 1)[0])

    def is_running(self, pid: int) -> bool:
        return is_alive(pid)

    def has_ended(self, pid: int) -> bool:
        """Whether a process that has let go of all its files is gone, in a moment at most."""
        deadline = time.monotonic() + 60
        while is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        return not is_alive(pid)

    @staticmethod
    def url(endpoint: Any) -> str:
        return getattr(endpoint, "owner_url", None) or endpoint.url

    @staticmethod
    def password(url: str) -> str:
        return url.partition("://")[2].partition("@")[0].partition(":")[2]

    async def remember(self, url: str, value: str) -> None:
        """Store a value so that it is safe from the server's death."""
        if self.name == "postgres":
            connection = await asyncpg.connect(url.replace("+asyncpg", ""))
            await connection.execute("CREATE TABLE IF NOT EXISTS remembered (value text)")
            await connection.execute("INSERT INTO remembered VALUES ($1)", value)
            await connection.close()
        else:
            client = redis.from_url(url)
            await client.rpush("remembered", value)
            await client.execute_command("WAITAOF", 1, 0, 5000)
            await client.aclose()

    async def remembered(self, url: str) -> list[str]:
        if self.name == "postgres":
            connection = await asyncpg.connect(url.replace("+asyncpg", ""))
            rows = await connection.fetch("SELECT value FROM remembered")
            await connection.close()
            return [row["value"] for row in rows]
        client = redis.from_url(url, decode_responses=True)
        values = await client.lrange("remembered", 0, -1)
        await client.aclose()
        return values


KINDS = {
    "postgres": Kind("postgres", EmbeddedPostgres, "postmaster.pid"),
    "valkey": Kind("valkey", EmbeddedValkey, "valkey.pid"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="session")
def workshop() -> Iterator[Path]:
    """Where folders are made: in memory if there is room, for embedded servers sync a lot."""
    memory = Path("/dev/shm")  # noqa: S108 - a private folder is made inside
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > 4 * 1024**3
    path = Path(tempfile.mkdtemp(prefix="tca-test-", dir=memory if has_room else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def used_folder(workshop: Path) -> Path:
    """A folder whose servers have run and stopped."""
    for kind in KINDS:
        with Owner(kind, workshop / "used") as owner:
            assert "url" in owner.report, owner.report
    return workshop / "used"


@pytest.fixture
def new_folder(workshop: Path) -> Iterator[Path]:
    """A folder that is not there yet."""
    parent = Path(tempfile.mkdtemp(dir=workshop))
    yield parent / "data"
    shutil.rmtree(parent)


@pytest.fixture
def folder(used_folder: Path, new_folder: Path) -> Path:
    """A copy of the used folder: quicker to come by than a new one."""
    subprocess.run(["cp", "-a", used_folder, new_folder], check=True)
    return new_folder


class Owner:
    """Another process, or several forked at once, that use the server of a folder."""

    def __init__(self, kind: str, folder: Path, *, count: int = 1, user: int | None = None) -> None:
        python = sys.executable if user is None else python_for_everybody()
        packages = Path(asyncpg.__file__).parents[1]
        self.process = subprocess.Popen(
            [python, Path(__file__).with_name("owner.py"), kind, folder, str(count)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**(os.environ if user is None else {}), "PYTHONPATH": f"{SOURCES}:{packages}"},
            cwd="/",
            user=user,
            group=user,
            extra_groups=None if user is None else (),
        )
        assert self.process.stdout is not None
        self.reports = [json.loads(self.process.stdout.readline() or "{}") for _ in range(count)]
        self.report: dict[str, Any] = self.reports[0]

    def leave(self) -> None:
        assert self.process.stdin is not None
        if not self.process.stdin.closed:
            self.process.communicate(timeout=300)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()


def python_for_everybody() -> str:
    """An interpreter of this version that an unprivileged user may run."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, shutil.which(version, path=os.defpath)):
        if candidate and _is_open(Path(candidate).resolve()) and _is_open(SOURCES):
            return candidate
    pytest.skip(
        "this interpreter, or the checkout, is closed to other users, and there is no other"
    )


def _is_open(path: Path) -> bool:
    return all(each.stat().st_mode & 0o001 for each in (path, *path.parents))


def is_alive(pid: int) -> bool:
    """Whether a process is there and no zombie that its parent has yet to notice."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def owner() -> Iterator[Callable[..., Owner]]:
    """Starts other processes that use a folder, and ends those that the test leaves behind."""
    owners: list[Owner] = []

    def start(*args: Any, **options: Any) -> Owner:
        owners.append(Owner(*args, **options))
        return owners[-1]

    yield start
    for each in owners:
        each.leave()


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")


@pytest.fixture
def lend(used_folder: Path, open_folder: Path) -> Callable[[str], Path]:
    """Gives the unprivileged user a folder with the used server of one kind."""

    def lend(kind: str) -> Path:
        subprocess.run(["cp", "-a", used_folder / kind, open_folder], check=True)
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", open_folder], check=True)
        return open_folder

    return lend


@pytest.fixture
def open_folder(as_root: None) -> Iterator[Path]:
    """A folder that is the unprivileged user's own, where that user can go."""
    folder = Path(tempfile.mkdtemp(prefix="tca-test-", dir="/dev/shm"))
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)
