"""A factory over both live backends, with whatever observers a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import asyncpg
import pytest

from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
from test_coordinator_data_adapter.adapters.postgres.migration import migrate
from test_coordinator_data_adapter.observability import Observer
from test_coordinator_data_adapter.testing.servers import DatabaseServer, KeyspaceServer

MakeFactory = Callable[..., AdapterFactory]

INSTANCE = "observed"
TABLES = ("scenarios", "test_runs", "chaos_events", "test_results", "audit_records")


@pytest.fixture(scope="session")
def database_url(postgres_server: DatabaseServer) -> Iterator[str]:
    """A migrated database of this process's own."""

    async def make() -> str:
        url = await postgres_server.create_database()
        # The tests are the owner: any role will do to be granted what the service needs.
        await migrate(url, INSTANCE, role="pg_monitor")
        return url

    url = asyncio.run(make())
    yield url
    asyncio.run(postgres_server.drop_database(url))


@pytest.fixture(scope="session")
def backends(database_url: str, redis_server: KeyspaceServer) -> dict[str, str]:
    """The settings that lead to both."""
    return {
        "service_instance_name": INSTANCE,
        "postgres_url": database_url,
        "redis_url": redis_server.url,
    }


@pytest.fixture(scope="session")
def empty_tables(database_url: str) -> Callable[[], Awaitable[None]]:
    """Removes whatever an earlier test stored."""

    async def empty_tables() -> None:
        connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
        await connection.execute(";".join(f"DELETE FROM {INSTANCE}.{table}" for table in TABLES))
        await connection.close()

    return empty_tables


@pytest.fixture
async def make_factory(
    backends: dict[str, str],
    empty_tables: Callable[[], Awaitable[None]],
    namespace: str,
    monkeypatch,
    tmp_path,
) -> AsyncIterator[MakeFactory]:
    """Makes factories over empty tables and a namespace of the test's own; closes them."""
    monkeypatch.chdir(tmp_path)
    await empty_tables()
    made: list[AdapterFactory] = []

    def make(*observers: Observer, **settings) -> AdapterFactory:
        config = AdapterConfig(
            **{
                **backends,
                "redis_namespace": f"{namespace}-{len(made)}",
                "redis_registry": f"{namespace}-registry-{len(made)}",
                **settings,
            }
        )
        made.append(AdapterFactory(config, observers=observers))
        return made[-1]

    yield make
    for factory in made:
        if factory._is_initialized:
            await factory.get_cache_repository().flush_all()
            await factory.cleanup()
