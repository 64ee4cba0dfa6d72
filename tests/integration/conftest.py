"""The servers that the live tests of one session share, however many processes it has."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from test_coordinator_data_adapter.adapters.postgres import migration
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.adapters.redis import KeyspaceSettings
from test_coordinator_data_adapter.testing.servers import (
    DatabaseServer,
    KeyspaceServer,
    session_postgres,
    session_redis,
)

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of which a test says nothing are long: nothing fails because of a busy machine."""
    for settings in (DatabaseSettings, KeyspaceSettings):
        defaults = settings.__init__.__kwdefaults__
        for name in defaults.keys() & {"connect_timeout", "pool_timeout", "socket_timeout"}:
            monkeypatch.setitem(defaults, name, PATIENCE)
    for name in ("_CONNECT_TIMEOUT", "_GRACE"):
        monkeypatch.setattr(migration, name, PATIENCE)
    for name in ("POSTGRES_CONNECT", "REDIS_SOCKET", "REDIS_SOCKET_CONNECT", "HEALTH_CHECK"):
        monkeypatch.setenv(f"TEST_COORDINATOR_ADAPTER_{name}_TIMEOUT", str(PATIENCE))


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def postgres_server(session_folder: Path) -> Iterator[DatabaseServer]:
    with session_postgres(session_folder / "shared-postgres") as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(session_folder: Path) -> Iterator[KeyspaceServer]:
    with session_redis(session_folder / "shared-redis") as server:
        yield server


@pytest.fixture
async def namespace(redis_server: KeyspaceServer) -> AsyncIterator[str]:
    """A namespace of the test's own; the server, perhaps somebody's, is left without its keys."""
    name = redis_server.namespace()
    yield name
    async with Redis.from_url(redis_server.url) as admin:
        keys = [key async for key in admin.scan_iter(f"{name}*", count=10_000)]
        if keys:
            await admin.unlink(*keys)
