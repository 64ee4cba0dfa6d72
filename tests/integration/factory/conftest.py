"""Servers of a test's own, to be missing, killed, frozen and started while a factory is open."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from test_coordinator_data_adapter import AdapterConfig
from test_coordinator_data_adapter.adapters.postgres.migration import migrate
from test_coordinator_data_adapter.testing.servers import ThrowawayPostgres, ThrowawayValkey

SCHEMA = "test_coordinator"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a PostgreSQL with the schema: a copy is quicker to come by than a new one."""

    async def prepare(url: str) -> None:
        await migrate(url, SCHEMA)
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        await connection.execute("UPDATE pg_database SET datistemplate = false")
        for two_thirds_of_what_is_copied in ("template0", "template1"):
            await connection.execute(f"DROP DATABASE {two_thirds_of_what_is_copied}")
        await connection.close()

    kept = tmp_path_factory.mktemp("migrated")
    with ThrowawayPostgres(tmp_path_factory.mktemp("new")) as server:
        asyncio.run(prepare(server.url()))
        server.stop()
        for name in ("data", "password"):
            subprocess.run(["cp", "-a", server.log.with_name(name), kept], check=True)
    return kept


@pytest.fixture
def postgres(tmp_path: Path, migrated: Path) -> Iterator[ThrowawayPostgres]:
    """A PostgreSQL that has the schema and is not started yet."""
    subprocess.run(["cp", "-a", migrated, tmp_path / "postgres"], check=True)
    server = ThrowawayPostgres(tmp_path / "postgres")
    yield server
    server.close()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ThrowawayValkey]:
    """A Valkey that is not started yet."""
    server = ThrowawayValkey(tmp_path / "valkey", password="opens-nothing")
    yield server
    server.close()


@pytest.fixture
def config(postgres: ThrowawayPostgres, valkey: ThrowawayValkey) -> Callable[..., AdapterConfig]:
    """Settings for these two servers."""

    def make(**settings: object) -> AdapterConfig:
        return AdapterConfig.model_validate(
            {
                "postgres_url": postgres.url(),
                "redis_url": valkey.url(),
                "postgres_tls": "disable",
            }
            | settings
        )

    return make
