"""Databases to send statements through, each watched for what it leaves behind."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import asyncpg
import pytest

from test_coordinator_data_adapter.adapters.postgres.database import Database, Statement
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.testing.servers import DatabaseServer, ThrowawayPostgres

TABLE = """
CREATE SCHEMA waist;
CREATE TABLE waist.things (
    id text PRIMARY KEY,
    number bigint CHECK (number >= 0),
    document jsonb,
    moment timestamptz
);
CREATE SEQUENCE waist.calls;
CREATE FUNCTION waist.fail(code text, times bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    call bigint := nextval('waist.calls');
BEGIN
    IF call <= times THEN
        RAISE EXCEPTION 'call %', call USING ERRCODE = code;
    END IF;
    RETURN call;
END $$
"""

MakeDatabase = Callable[..., Database]


@pytest.fixture(scope="session")
def shared_url(postgres_server: DatabaseServer) -> Iterator[str]:
    url = asyncio.run(postgres_server.create_database())
    asyncio.run(postgres_server.execute(TABLE, url=url))
    yield url
    asyncio.run(postgres_server.drop_database(url))


@pytest.fixture
async def url(shared_url: str) -> str:
    """The administrator's URL of a database with one empty table."""
    connection = await asyncpg.connect(shared_url.replace("+asyncpg", ""))
    await connection.execute("TRUNCATE waist.things; ALTER SEQUENCE waist.calls RESTART")
    await connection.close()
    return shared_url


@pytest.fixture
async def own_url(postgres_server: DatabaseServer) -> AsyncIterator[str]:
    """The same of a database whose schema the test may change."""
    url = await postgres_server.create_database()
    await postgres_server.execute(TABLE, url=url)
    yield url
    await postgres_server.drop_database(url)


@pytest.fixture
async def make_database() -> AsyncIterator[MakeDatabase]:
    """Makes databases; afterwards none of them may have left anything in use."""
    made: list[Database] = []

    def make(url: str, *, hooks: dict[str, Any] | None = None, **settings: Any) -> Database:
        chosen = {
            "schema": "waist",
            "pool_size": 4,
            "max_overflow": 2,
            "application_name": f"waist-{uuid.uuid4().hex[:8]}",
        }
        database = Database(
            replace(DatabaseSettings(url=url, **chosen), **settings), **(hooks or {})
        )
        made.append(database)
        return database

    yield make
    for database in made:
        # A connection attempt whose caller has left goes on, for connect_timeout at most.
        with suppress(TimeoutError):
            async with asyncio.timeout(60):
                while database.pool_use().in_use:  # noqa: ASYNC110 - nothing tells
                    await asyncio.sleep(0.01)
        status = database.pool_use()
        await database.aclose()
        assert (status.in_use, status.waiting) == (0, 0)
        assert database.pool_use().open == 0


@pytest.fixture
async def database(make_database: MakeDatabase, url: str) -> Database:
    return make_database(url)


@pytest.fixture
async def administrator(make_database: MakeDatabase, url: str) -> Database:
    """Another way into the same database, for looking at what the first one does."""
    return make_database(url, application_name="administrator", pool_size=2)


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThrowawayPostgres]:
    with ThrowawayPostgres(
        tmp_path_factory.mktemp("breakable"), settings={"max_connections": "12"}
    ) as server:
        yield server


@pytest.fixture
async def server(breakable: ThrowawayPostgres) -> AsyncIterator[ThrowawayPostgres]:
    """A server of the test's own to break, whole again for the next test."""
    yield breakable
    breakable.thaw()
    if breakable.pid is None:
        await asyncio.to_thread(breakable.start)


def reading(sql: str) -> Statement:
    return Statement(sql, "test_run", writes=False)


def writing(sql: str) -> Statement:
    return Statement(sql, "test_run", writes=True)


@pytest.fixture(name="reading")
def _reading() -> Callable[[str], Statement]:
    return reading


@pytest.fixture(name="writing")
def _writing() -> Callable[[str], Statement]:
    return writing
