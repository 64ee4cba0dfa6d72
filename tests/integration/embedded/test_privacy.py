"""Embedded servers: durable, checked, and closed to everybody without the password."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
import redis.asyncio as redis
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from test_coordinator_data_adapter.embedded import EmbeddedPostgres, EmbeddedValkey
from test_coordinator_data_adapter.errors import ConfigurationError


async def connect(url: str) -> asyncpg.Connection:
    return await asyncpg.connect(url.replace("+asyncpg", ""))


async def test_postgres_is_durable_and_checked_and_not_on_the_network(folder: Path) -> None:
    wanted = {
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "listen_addresses": "",
        "password_encryption": "scram-sha-256",
        "TimeZone": "UTC",
    }

    async with EmbeddedPostgres(folder) as server:
        connection = await connect(server.endpoint.owner_url)
        rows = await connection.fetch("SELECT name, setting FROM pg_settings")
        found = {row["name"]: row["setting"] for row in rows if row["name"] in wanted}
        locale = await connection.fetchrow(
            "SELECT datcollate, datctype FROM pg_database WHERE datname = current_database()"
        )
        ways_in = await connection.fetch("SELECT type, auth_method FROM pg_hba_file_rules")
        await connection.close()

    assert found == wanted
    assert tuple(locale) == ("C", "C")
    assert [tuple(way) for way in ways_in] == [("local", "scram-sha-256")]


async def test_both_urls_are_understood_by_sqlalchemy(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as server:
        who: list[object] = []
        for url in (server.endpoint.owner_url, server.endpoint.application_url):
            engine = create_async_engine(url)
            async with engine.connect() as connection:
                result = await connection.execute(text("SELECT current_user, current_database()"))
                who.append(tuple(result.one()))
            await engine.dispose()

    assert who == [
        ("postgres", "trading_ecosystem"),
        ("test_coordinator_adapter", "trading_ecosystem"),
    ]


async def test_the_application_is_no_administrator(folder: Path) -> None:
    async with EmbeddedPostgres(folder) as server:
        connection = await connect(server.endpoint.application_url)
        rights = await connection.fetchrow(
            "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls "
            "FROM pg_roles WHERE rolname = current_user"
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("CREATE TABLE public.mine ()")
        await connection.close()

    assert not any(rights)


@pytest.mark.parametrize("password", ["wrong", ""])
async def test_postgres_refuses_a_wrong_password(folder: Path, password: str) -> None:
    async with EmbeddedPostgres(folder) as server:
        host = quote(server.endpoint.host, safe="")

        with pytest.raises((asyncpg.InvalidPasswordError, asyncpg.InterfaceError)):
            await connect(f"postgresql://postgres:{password}@/trading_ecosystem?host={host}")


async def test_a_folder_of_another_major_version_is_refused(folder: Path) -> None:
    data = folder / "postgres" / "data"
    (data / "PG_VERSION").write_text("15\n")
    before = sorted(path.stat().st_mtime_ns for path in data.rglob("*"))

    with pytest.raises(ConfigurationError, match=r"PostgreSQL 15.*PostgreSQL 18"):
        await EmbeddedPostgres(folder).start()

    assert sorted(path.stat().st_mtime_ns for path in data.rglob("*")) == before


async def test_an_initialisation_that_was_cut_off_is_done_again(new_folder: Path) -> None:
    left_over = new_folder / "postgres" / "initdb-left-over"
    left_over.mkdir(parents=True)
    (left_over / "PG_VERSION").write_text("18\n")

    async with EmbeddedPostgres(new_folder) as server:
        connection = await connect(server.endpoint.application_url)
        await connection.close()

    assert not left_over.exists()


async def test_valkey_appends_every_second_and_nothing_else(folder: Path) -> None:
    async with EmbeddedValkey(folder) as server:
        client = redis.from_url(server.endpoint.url, decode_responses=True)
        settings = await client.config_get("appendonly", "appendfsync", "save", "port")
        await client.set("long", "kept")
        await client.aclose()
        client = redis.from_url(f"unix://{quote(server.endpoint.path)}")
        with pytest.raises(redis.ConnectionError, match="authenticated"):
            await client.get("long")
        await client.aclose()

    assert settings == {"appendonly": "yes", "appendfsync": "everysec", "save": "", "port": "0"}
    assert not list((folder / "valkey" / "data").glob("*.rdb"))


async def test_valkey_starts_after_its_last_write_was_torn(folder: Path) -> None:
    async with EmbeddedValkey(folder) as server:
        client = redis.from_url(server.endpoint.url)
        await client.set("whole", "kept")
        await client.aclose()
    for file in (folder / "valkey" / "data").rglob("*.incr.aof"):
        with file.open("ab") as appended:
            appended.write(b"*3\r\n$3\r\nSET\r\n$4\r\nto")

    async with EmbeddedValkey(folder) as server:
        client = redis.from_url(server.endpoint.url)
        kept = await client.get("whole")
        await client.aclose()

    assert kept == b"kept"


async def test_a_long_log_is_put_aside(folder: Path) -> None:
    server = EmbeddedValkey(folder)
    server.log.write_bytes(b"x" * (16 * 1024 * 1024 + 1))

    async with server:
        size = server.log.stat().st_size

    assert size < 1024 * 1024
    assert server.log.with_suffix(".log.1").stat().st_size > 16 * 1024 * 1024
