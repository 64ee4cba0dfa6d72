"""Root in a folder of another user: nothing that is put there leads root to a file of its own."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from test_coordinator_data_adapter.embedded import EmbeddedPostgres, EmbeddedValkey
from test_coordinator_data_adapter.errors import AdapterError, ConfigurationError, UnavailableError
from test_coordinator_data_adapter.testing import servers

NOBODY = 65534
STRANGER = 1
# What is done in the folder around the data is the same code for both kinds of server.
HOME_FILES = [
    "valkey/gate",
    "valkey/owners",
    "valkey/passwords.json",
    "valkey/server.lock",
    "valkey/server.log",
    "postgres/server.log",
]
DATA_FILES = [
    "valkey/data/valkey.conf",
    "valkey/data/valkey.pid",
    "postgres/data/pg_hba.conf",
    "postgres/data/postmaster.pid",
    "postgres/data/PG_VERSION",
]
# A server writes them anew, so they are replaced. What is in the way of others is reported.
WRITTEN_ANEW = {path for path in DATA_FILES if not path.endswith("PG_VERSION")}
FOLDERS = ["postgres", "postgres/data", "valkey", "valkey/data"]

pytestmark = pytest.mark.usefixtures("as_root")


class RootsFolder:
    """A folder of root's with a file, which everybody may read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.chmod(0o755)
        self.file = path / "precious"
        self.file.write_text("precious\n")
        self.file.chmod(0o644)
        self.before = self.state()

    def state(self) -> list[object]:
        """All that a write, a chmod, a chown, a rename or a new file would change."""
        state: list[object] = []
        for path in (self.path, *sorted(self.path.rglob("*"))):
            status = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
            state.append((path, status.st_mode, status.st_uid, status.st_gid, content))
        return state


@pytest.fixture
def roots_folder() -> Iterator[RootsFolder]:
    path = Path(tempfile.mkdtemp(prefix="tca-test-", dir="/dev/shm"))
    yield RootsFolder(path)
    shutil.rmtree(path)


def kind_of(place: str) -> str:
    return place.partition("/")[0]


async def start_and_stop(kind: str, folder: Path) -> str:
    """What a start as root in the folder ends with."""
    server = EmbeddedPostgres if kind == "postgres" else EmbeddedValkey
    try:
        async with server(folder):
            return "started"
    except AdapterError as error:
        return str(error)


def replace_by_link(path: Path, target: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


@pytest.mark.parametrize("place", HOME_FILES + DATA_FILES)
async def test_root_follows_no_link_in_the_place_of_a_file(lend, roots_folder, place):
    folder = lend(kind_of(place))
    replace_by_link(folder / place, roots_folder.file)

    ending = await start_and_stop(kind_of(place), folder)

    assert roots_folder.state() == roots_folder.before
    assert ending == "started" if place in WRITTEN_ANEW else "follow no links" in ending


@pytest.mark.parametrize("place", ["valkey/gate", "valkey/server.log", "valkey/data/valkey.conf"])
async def test_root_creates_no_file_where_a_link_leads(lend, roots_folder, place):
    folder = lend("valkey")
    replace_by_link(folder / place, roots_folder.path / "missing")

    await start_and_stop("valkey", folder)

    assert roots_folder.state() == roots_folder.before


@pytest.mark.parametrize("place", FOLDERS)
async def test_root_follows_no_link_in_the_place_of_a_folder(lend, roots_folder, place):
    folder = lend(kind_of(place))
    replace_by_link(folder / place, roots_folder.path)

    ending = await start_and_stop(kind_of(place), folder)

    assert roots_folder.state() == roots_folder.before
    assert str(folder / place) in ending


@pytest.mark.parametrize("place", [*HOME_FILES, "postgres/data/pg_hba.conf"])
async def test_root_uses_no_second_name_of_a_file_of_its_own(lend, roots_folder, place):
    folder = lend(kind_of(place))
    (folder / place).unlink(missing_ok=True)
    (folder / place).hardlink_to(roots_folder.file)

    await start_and_stop(kind_of(place), folder)

    assert roots_folder.state() == roots_folder.before


@pytest.mark.parametrize("place", [*HOME_FILES[:5], *DATA_FILES[:3]])
async def test_a_pipe_in_the_place_of_a_file_does_not_stop_a_start(lend, place):
    folder = lend(kind_of(place))
    (folder / place).unlink(missing_ok=True)
    os.mkfifo(folder / place)
    os.chown(folder / place, NOBODY, NOBODY)

    ending = await start_and_stop(kind_of(place), folder)

    assert ending == "started" if place in WRITTEN_ANEW else "is not a file" in ending


@pytest.mark.parametrize("place", ["postgres/data/pg_hba.conf", "valkey/data/valkey.conf"])
async def test_root_follows_no_link_that_a_server_has_put_into_its_data(
    folder, roots_folder, place
):
    (folder / place).unlink(missing_ok=True)
    (folder / place).symlink_to(roots_folder.file)

    ending = await start_and_stop(kind_of(place), folder)

    assert roots_folder.state() == roots_folder.before
    assert ending == "started"


@pytest.mark.parametrize("below", ["", "experiments"])
async def test_root_goes_nowhere_that_another_user_decides(open_folder, roots_folder, below):
    link = open_folder / "link"
    replace_by_link(link, roots_folder.path)

    ending = await start_and_stop("postgres", link / below)

    refused = f"belongs to user id 0, and user id {NOBODY} decides where that path leads"
    assert roots_folder.state() == roots_folder.before
    assert (refused if below == "" else "Permission denied") in ending


async def test_root_goes_nowhere_that_two_users_decide(open_folder, roots_folder):
    os.chown(open_folder, STRANGER, STRANGER)
    link = roots_folder.path / "link"
    replace_by_link(link, open_folder)

    ending = await start_and_stop("postgres", link)

    assert f"belong to the user ids {STRANGER}, {NOBODY}" in ending


@pytest.mark.parametrize("below", ["", "experiments"])
async def test_root_starts_nothing_where_everybody_may_write(roots_folder, below):
    roots_folder.path.chmod(0o777)

    ending = await start_and_stop("postgres", roots_folder.path / below)

    assert f"chmod go-w {roots_folder.path}" in ending
    assert [path.name for path in roots_folder.path.iterdir()] == ["precious"]


async def test_a_folder_that_its_owner_cannot_reach_is_refused(roots_folder):
    closed = roots_folder.path / "closed"
    closed.mkdir(mode=0o700)
    folder = closed / "experiments"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)

    ending = await start_and_stop("valkey", folder)

    assert ending.endswith(f"cannot use the folder {folder}: Permission denied")


async def test_a_new_folder_below_another_users_is_that_users(open_folder):
    folder = open_folder / "new" / "experiments"

    async with EmbeddedValkey(folder):
        pid = int((folder / "valkey/data/valkey.pid").read_text())
        runs_as = psutil.Process(pid).uids().real

    owners = {path.lstat().st_uid for path in (folder.parent, *folder.parent.rglob("*"))}
    assert runs_as == NOBODY
    assert owners == {NOBODY}


@pytest.fixture
def roots_process(lend) -> Iterator[subprocess.Popen[bytes]]:
    """A process of root's that works in the data folder of another user's server."""
    with subprocess.Popen(["sleep", "600"], cwd=lend("valkey") / "valkey" / "data") as process:
        yield process
        process.kill()


async def test_a_process_of_roots_that_a_pid_file_names_is_left_alone(open_folder, roots_process):
    async with EmbeddedValkey(open_folder):
        (open_folder / "valkey/data/valkey.pid").write_text(f"{roots_process.pid}\n")

    assert roots_process.poll() is None


async def test_passwords_of_the_folders_owner_are_sent_nowhere_unless_they_look_like_ours(lend):
    folder = lend("valkey")
    passwords = folder / "valkey" / "passwords.json"
    passwords.write_text('{"default": "x\\r\\nPOST /containers HTTP/1.1\\r\\n\\r\\n"}')

    async with EmbeddedValkey(folder) as server:
        password = server.endpoint.url.partition("@")[0].rpartition(":")[2]

    assert len(password) == 32


def test_the_register_of_ports_is_no_link(roots_folder, monkeypatch, tmp_path):
    monkeypatch.setattr(servers, "_registry_path", lambda: tmp_path / "ports")
    (tmp_path / "ports").symlink_to(roots_folder.path)

    with pytest.raises(UnavailableError, match="not a private folder of this user"):
        servers.end_orphans()

    assert roots_folder.state() == roots_folder.before


async def test_root_is_told_who_owns_data_of_another_account(folder):
    data = folder / "postgres" / "data"
    os.chown(data, STRANGER, STRANGER)

    with pytest.raises(ConfigurationError, match=f"{data} belongs to user id {STRANGER}"):
        await EmbeddedPostgres(folder).start()
