"""A migrated database for each process of the session, used as the least-privileged role."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import pytest_asyncio

from test_coordinator_data_adapter.adapters.postgres import (
    PostgresChaosEventsRepository,
    PostgresScenariosRepository,
    PostgresTestResultsRepository,
    PostgresTestRunsRepository,
)
from test_coordinator_data_adapter.adapters.postgres.database import Database, Statement
from test_coordinator_data_adapter.adapters.postgres.migration import migrate
from test_coordinator_data_adapter.adapters.postgres.roles import role_statements
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.testing.servers import DatabaseServer

SCHEMA = "test_coordinator"
TABLES = ("scenarios", "test_runs", "chaos_events", "test_results")
PASSWORD = "opens nothing"

Connect = Callable[[str], Awaitable["asyncpg.Connection[asyncpg.Record]"]]


def as_role(url: str, role: str) -> str:
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{role}:{PASSWORD.replace(' ', '%20')}@{place}"))


def database_of(url: str) -> str:
    return urlsplit(url).path[1:]


@dataclass(frozen=True)
class Place:
    """One database, as each of those who work with it reaches it."""

    admin: str
    owner_role: str
    application_role: str
    auditor_role: str

    @property
    def owner(self) -> str:
        return as_role(self.admin, self.owner_role)

    @property
    def application(self) -> str:
        return as_role(self.admin, self.application_role)

    @property
    def auditor(self) -> str:
        return as_role(self.admin, self.auditor_role)


async def run_all(url: str, statements: list[str]) -> None:
    connection = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def place_of(server: DatabaseServer, url: str) -> Place:
    return Place(url, f"{server.prefix}owner", f"{server.prefix}adapter", f"{server.prefix}auditor")


async def prepare(place: Place) -> None:
    """What an administrator does before the first migration."""
    statements = role_statements(
        database=database_of(place.admin),
        schema=SCHEMA,
        owner=place.owner_role,
        role=place.application_role,
        auditor=place.auditor_role,
    )
    passwords = [
        f"ALTER ROLE {role} PASSWORD '{PASSWORD}'"
        for role in (place.owner_role, place.application_role, place.auditor_role)
    ]
    await run_all(place.admin, statements + passwords)


async def migrated_template(server: DatabaseServer) -> str:
    async def build(url: str) -> None:
        place = place_of(server, url)
        await prepare(place)
        await migrate(place.owner, SCHEMA, role=place.application_role)

    return await server.template("migrated", build)


@pytest.fixture(scope="session")
def shared_place(postgres_server: DatabaseServer) -> Place:
    """This process's own migrated database."""

    async def make() -> str:
        template = await migrated_template(postgres_server)
        return await postgres_server.create_database(template=template)

    return place_of(postgres_server, asyncio.run(make()))


@pytest.fixture
async def place(postgres_server: DatabaseServer) -> AsyncIterator[Place]:
    """A migrated database of the test's own, to be changed and broken."""
    template = await migrated_template(postgres_server)
    url = await postgres_server.create_database(template=template)
    yield place_of(postgres_server, url)
    await postgres_server.drop_database(url)


@pytest.fixture
async def empty_place(postgres_server: DatabaseServer) -> AsyncIterator[Place]:
    """A database of the test's own without any schema of ours; the roles are there."""
    await migrated_template(postgres_server)
    url = await postgres_server.create_database()
    yield place_of(postgres_server, url)
    await postgres_server.drop_database(url)


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Bare connections, closed when the test ends."""
    opened: list[asyncpg.Connection[asyncpg.Record]] = []

    async def connect(url: str) -> asyncpg.Connection[asyncpg.Record]:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        await connection.close()


@pytest.fixture
async def database(shared_place: Place) -> AsyncIterator[Database]:
    """The waist over empty tables, as the role the service runs as; nothing of it leaks."""
    database = Database(DatabaseSettings(url=shared_place.application, schema=SCHEMA))
    await empty(database)
    yield database
    await at_rest(database)
    await database.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lasting_database(shared_place: Place) -> AsyncIterator[Database]:
    """The same for all tests of a module, in one event loop, with whatever is in its tables."""
    database = Database(DatabaseSettings(url=shared_place.application, schema=SCHEMA))
    yield database
    await database.aclose()


@pytest_asyncio.fixture(loop_scope="module")
async def emptied_database(lasting_database: Database) -> AsyncIterator[Database]:
    """The same with nothing in its tables; to open one for each test takes longer than most."""
    await empty(lasting_database)
    yield lasting_database
    await at_rest(lasting_database)


async def empty(database: Database) -> None:
    """Delete what is in the tables."""
    for table in TABLES:
        await database.execute(Statement(f"DELETE FROM {SCHEMA}.{table}", None, writes=True))


async def at_rest(database: Database) -> None:
    """Wait until nothing is under way any more."""
    # A connection that was being opened for a call that was cancelled is opened all the same.
    async with asyncio.timeout(60):
        while database.pool_use().in_use or len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


@pytest.fixture
def scenarios(database: Database) -> PostgresScenariosRepository:
    return PostgresScenariosRepository(database)


@pytest.fixture
def test_runs(database: Database) -> PostgresTestRunsRepository:
    return PostgresTestRunsRepository(database)


@pytest.fixture
def chaos_events(database: Database) -> PostgresChaosEventsRepository:
    return PostgresChaosEventsRepository(database)


@pytest.fixture
def test_results(database: Database) -> PostgresTestResultsRepository:
    return PostgresTestResultsRepository(database)


@dataclass(frozen=True)
class Repositories:
    scenarios: PostgresScenariosRepository
    test_runs: PostgresTestRunsRepository
    chaos_events: PostgresChaosEventsRepository
    test_results: PostgresTestResultsRepository


@pytest.fixture
def repositories_at() -> Callable[[str], AbstractAsyncContextManager[Repositories]]:
    """Repositories over a URL, for as long as the block lasts."""

    @asynccontextmanager
    async def opened(url: str) -> AsyncIterator[Repositories]:
        database = Database(DatabaseSettings(url=url, schema=SCHEMA))
        try:
            yield Repositories(
                PostgresScenariosRepository(database),
                PostgresTestRunsRepository(database),
                PostgresChaosEventsRepository(database),
                PostgresTestResultsRepository(database),
            )
        finally:
            await database.aclose()

    return opened
