"""Throwaway servers for test suites."""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio as redis

from test_coordinator_data_adapter.embedded.account import Account
from test_coordinator_data_adapter.embedded.folder import PrivateFolder
from test_coordinator_data_adapter.errors import UnavailableError
from test_coordinator_data_adapter.testing import servers
from test_coordinator_data_adapter.testing.servers import (
    DatabaseServer,
    KeyspaceServer,
    ThrowawayPostgres,
    ThrowawayValkey,
    end_orphans,
    session_postgres,
    system_postgres_programs,
    system_redis_program,
)


async def connect(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(url.replace("+asyncpg", ""))


async def test_a_database_is_a_copy_of_its_template(postgres_server: DatabaseServer) -> None:
    async def build(url: str) -> None:
        connection = await connect(url)
        await connection.execute("CREATE TABLE seen AS SELECT 42 AS answer")
        await connection.close()

    template = await postgres_server.template("copied", build)
    url = await postgres_server.create_database(template=template)
    connection = await connect(url)
    answer = await connection.fetchval("SELECT answer FROM seen")
    await connection.close()
    await postgres_server.drop_database(url)

    assert answer == 42


async def test_a_template_is_built_once_however_many_ask(postgres_server: DatabaseServer) -> None:
    built: list[str] = []

    async def build(url: str) -> None:
        built.append(url)

    names = await asyncio.gather(*(postgres_server.template("once", build) for _ in range(5)))

    assert len(built) <= 1  # another process of the session may have been faster
    assert len(set(names)) == 1


async def test_databases_are_apart(postgres_server: DatabaseServer) -> None:
    one, other = await asyncio.gather(
        postgres_server.create_database(), postgres_server.create_database()
    )

    await postgres_server.execute("CREATE TABLE here ()", url=one)
    tables = await postgres_server.execute(
        "SELECT count(*) FROM pg_tables WHERE tablename = 'here'", url=other
    )
    await postgres_server.drop_database(one)
    await postgres_server.drop_database(other)

    assert tables == "0"


async def test_whoever_shares_the_folder_shares_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_COORDINATOR_ADAPTER_TEST_POSTGRES_URL", raising=False)

    with session_postgres(tmp_path / "session") as first:
        with session_postgres(tmp_path / "session") as second:
            joined = second.url
        still_there = await first.execute("SELECT 1")

    assert joined == first.url
    assert still_there == "1"
    with pytest.raises(OSError, match=r"refused|Connect"):
        await connect(first.url)


async def test_databases_on_a_given_server_are_dropped_at_the_end(
    postgres_server: DatabaseServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_TEST_POSTGRES_URL", postgres_server.url)

    with session_postgres(tmp_path / "session") as given:
        await given.create_database()
    left = await postgres_server.execute(
        f"SELECT count(*) FROM pg_database WHERE starts_with(datname, '{given.prefix}')"
    )

    assert given.url == postgres_server.url
    assert left == "0"


async def test_namespaces_are_apart(redis_server: KeyspaceServer) -> None:
    namespaces = {redis_server.namespace() for _ in range(100)}
    client = redis.from_url(redis_server.url)
    answered = await client.ping()
    await client.aclose()

    assert len(namespaces) == 100
    assert all(namespace.startswith("test:") for namespace in namespaces)
    assert answered


async def test_a_postgres_can_be_killed_frozen_and_started_again(tmp_path: Path) -> None:
    with ThrowawayPostgres(tmp_path / "own", settings={"work_mem": "5MB"}) as server:
        connection = await connect(server.url())
        await connection.execute("CREATE TABLE kept AS SELECT 1 AS x")

        server.freeze()
        frozen = asyncio.create_task(connection.fetchval("SHOW work_mem"))
        _, waiting = await asyncio.wait([frozen], timeout=0.1)
        server.thaw()
        answer = await frozen
        server.kill()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await connection.fetchval("SELECT 1")
        server.start()
        again = await connect(server.url())
        kept = await again.fetchval("SELECT x FROM kept")
        await again.close()

    assert waiting == {frozen}
    assert answer == "5MB"
    assert kept == 1
    assert not server.is_running


async def test_a_frozen_server_can_be_closed(tmp_path: Path) -> None:
    with ThrowawayValkey(tmp_path / "own") as server:
        server.freeze()

    assert not server.is_running


@pytest.mark.parametrize("whose", ["the wheel's", "the system's"])
async def test_a_valkey_takes_any_configuration(tmp_path: Path, whose: str) -> None:
    program = system_redis_program() if whose == "the system's" else None
    if whose == "the system's" and program is None:
        pytest.skip("this system has no redis-server of its own")
    server = ThrowawayValkey(tmp_path / "own", program=program, config=["aclfile users.acl"])
    server.add_file("users.acl", "user default off\nuser some on >word ~* +@all\n")

    with server:
        client = redis.from_url(server.url(user="some", password="word"))
        who = await client.execute_command("ACL", "WHOAMI")
        await client.aclose()
        server.restart()
        client = redis.from_url(server.url(user="some", password="word"))
        again = await client.execute_command("ACL", "WHOAMI")
        await client.aclose()

    assert who == again == b"some"


async def test_the_server_of_a_killed_test_is_ended_by_the_next_session(tmp_path: Path) -> None:
    folder = tmp_path / "orphaned"
    code = (
        "import sys; from pathlib import Path\n"
        "from test_coordinator_data_adapter.testing.servers import ThrowawayValkey\n"
        "server = ThrowawayValkey(Path(sys.argv[1])); server.start()\n"
        "print(server.pid, flush=True); input()\n"
    )
    test = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, str(folder)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert test.stdout is not None
    pid = int(await test.stdout.readline())

    end_orphans()
    spared = is_there(pid)
    test.kill()
    await test.communicate()
    end_orphans()

    assert spared
    async with asyncio.timeout(60):
        while is_there(pid):  # noqa: ASYNC110 - another process may be about it
            await asyncio.sleep(0.01)


def is_there(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_those_who_look_for_orphans_at_once_are_not_in_each_others_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = PrivateFolder(tmp_path, Account.of_this_process())
    monkeypatch.setattr(servers, "_registry", lambda: registry)
    for port in range(500):
        (tmp_path / str(port)).write_text(str(tmp_path / "gone"))

    with ThreadPoolExecutor(8) as threads:
        looking = [threads.submit(end_orphans) for _ in range(8)]

    assert [one.exception() for one in looking] == [None] * 8
    assert list(tmp_path.iterdir()) == []


async def test_a_server_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    broken = ThrowawayPostgres(tmp_path / "own", settings={"no_such_setting": "on"})

    with pytest.raises(UnavailableError, match="no_such_setting"):
        broken.start()

    assert not broken.is_running
    broken.close()


async def test_a_sentinel_watches_a_server(tmp_path: Path) -> None:
    with ThrowawayValkey(tmp_path / "primary") as primary:
        watch = f"sentinel monitor one {primary.host} {primary.port} 1"
        with ThrowawayValkey(tmp_path / "sentinel", is_sentinel=True, config=[watch]) as sentinel:
            client = redis.from_url(sentinel.url())
            watched = await client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "one")
            await client.aclose()

    assert watched in ((primary.host, primary.port), [b"127.0.0.1", str(primary.port).encode()])


async def test_a_postgres_of_the_system_can_be_run(tmp_path: Path) -> None:
    programs = system_postgres_programs()
    if programs is None:
        pytest.skip("this system has no PostgreSQL of its own")

    with ThrowawayPostgres(tmp_path / "own", programs=programs) as server:
        connection = await connect(server.url())
        version = connection.get_server_version().major
        await connection.close()

    assert str(version) in programs.parts
