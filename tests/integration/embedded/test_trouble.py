"""Embedded servers: what happens when the surroundings do not play along."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import tempfile

import pytest

from test_coordinator_data_adapter.embedded import EmbeddedPostgres, shared
from test_coordinator_data_adapter.errors import ConfigurationError, UnavailableError

NOBODY = 65534
NO_NAME = 54321


async def test_a_frozen_server_is_stopped_all_the_same(kind, folder, monkeypatch):
    monkeypatch.setattr(shared, "_PATIENCE_AFTER_FAILURE", 2.0)
    server = kind.start_in(folder, stop_timeout=0.2)
    await server.start()
    pid = kind.pid(folder)

    os.kill(pid, signal.SIGSTOP)
    await server.stop()

    assert kind.has_ended(pid)


async def test_a_start_does_not_wait_for_ever_for_another_one(kind, folder):
    with (folder / kind.name / "gate").open() as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)

        with pytest.raises(UnavailableError, match="another process is starting or stopping"):
            await kind.start_in(folder, start_timeout=0.1).start()


async def test_an_initialisation_that_takes_too_long_is_called_off(new_folder):
    with pytest.raises(UnavailableError, match="initdb did not finish in time"):
        await EmbeddedPostgres(new_folder, start_timeout=0.05).start()

    assert not list((new_folder / "postgres").glob("initdb-*"))
    async with EmbeddedPostgres(new_folder) as server:
        assert server.endpoint.database == "trading_ecosystem"


@pytest.mark.parametrize("content", ["", "no JSON", "[]", '{"owner": "alone"}'])
async def test_a_damaged_password_file_is_written_anew(folder, content):
    (folder / "postgres" / "passwords.json").write_text(content)

    async with EmbeddedPostgres(folder) as server:
        assert len(server.endpoint.owner_url) > 60


async def test_passwords_lost_while_the_server_runs_are_left_to_its_users(kind, folder):
    async with kind.start_in(folder) as server:
        (folder / kind.name / "passwords.json").unlink()

        with pytest.raises(ConfigurationError, match=r"passwords\.json is gone"):
            await kind.start_in(folder).start()
        await kind.remember(kind.url(server.endpoint), "undisturbed")


async def test_passwords_lost_by_a_killed_owner_are_replaced(kind, folder, owner):
    killed = owner(kind.name, folder)
    killed.kill()
    (folder / kind.name / "passwords.json").unlink()

    async with kind.start_in(folder) as server:
        await kind.remember(kind.url(server.endpoint), "mine again")

    assert kind.has_ended(killed.report["server"])


async def test_a_temporary_folder_that_is_too_deep_is_passed_over(kind, folder, monkeypatch):
    deep = folder.rename(folder.parent / ("a" * 200))
    monkeypatch.setattr(tempfile, "tempdir", str(deep))

    async with kind.start_in(deep) as server:
        await kind.remember(kind.url(server.endpoint), "reached")

    assert not list(deep.glob("tca-*"))


async def test_a_user_without_a_name_is_told_what_postgresql_needs(open_folder, owner):
    os.chown(open_folder, NO_NAME, NO_NAME)

    nameless = owner("postgres", open_folder, user=NO_NAME)

    assert nameless.report["error"] == "ConfigurationError"
    assert "no entry in the password database" in nameless.report["message"]


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 512, b"no number\n", b"99999999999\n"])
async def test_a_pid_file_that_a_power_failure_damaged_is_no_obstacle(kind, folder, content):
    kind.pid_file(folder).write_bytes(content)
    kind.pid_file(folder).with_name(".s.PGSQL.5432.lock").write_bytes(content)

    async with kind.start_in(folder) as server:
        await kind.remember(kind.url(server.endpoint), "started")


@pytest.mark.parametrize("is_damaged", [False, True])
async def test_a_server_that_a_person_started_by_hand_is_left_alone(folder, is_damaged):
    data = folder / "postgres" / "data"
    user = data.stat().st_uid
    by_hand = await asyncio.create_subprocess_exec(
        "cat", cwd=data, stdin=asyncio.subprocess.PIPE, user=user if os.geteuid() == 0 else None
    )
    content = "" if is_damaged else f"{by_hand.pid}\n{data}\n0\n5432\n.\n\n\n"
    (data / "postmaster.pid").write_text(content)
    os.chown(data / "postmaster.pid", user, -1)

    with pytest.raises(UnavailableError, match=r"server\.log"):
        await EmbeddedPostgres(folder).start()
    told = (folder / "postgres" / "server.log").read_text()
    await by_hand.communicate(b"")

    assert (data / "postmaster.pid").exists()
    assert "postmaster.pid" in told
