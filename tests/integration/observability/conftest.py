"""A factory over both live backends, with whatever observers a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator

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


@pytest.fixture
async def make_factory(
    database_url: str, redis_server: KeyspaceServer, namespace: str, monkeypatch, tmp_path
) -> AsyncIterator[MakeFactory]:
    """Makes factories over empty tables and a namespace of the test's own; closes them."""
    monkeypatch.chdir(tmp_path)
    connection = await asyncpg.connect(database_url.replace("+asyncpg", ""))
    for table in TABLES:
        await connection.execute(f"DELETE FROM {INSTANCE}.{table}")
    await connection.close()
    made: list[AdapterFactory] = []

    def make(*observers: Observer, **settings) -> AdapterFactory:
        config = AdapterConfig(
            **{
                "service_instance_name": INSTANCE,
                "postgres_url": database_url,
                "redis_url": redis_server.url,
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
