"""`health`, asked while one backend answers and the other does not."""

from __future__ import annotations

import asyncio
import json

import pytest
from redis.asyncio import Redis
from typer.testing import CliRunner

from test_coordinator_data_adapter.cli import app
from test_coordinator_data_adapter.testing.servers import ThrowawayValkey

PREFIX = "TEST_COORDINATOR_ADAPTER_"


@pytest.fixture
def health(monkeypatch, tmp_path):
    """What `health --json` tells of a PostgreSQL on a port and a Redis, and how it ends."""
    monkeypatch.chdir(tmp_path)

    async def health(port: int, url: str, *, timeout: float):  # noqa: ASYNC109 - the command's
        monkeypatch.setenv(f"{PREFIX}POSTGRES_URL", f"postgresql://u@127.0.0.1:{port}/db")
        monkeypatch.setenv(f"{PREFIX}REDIS_URL", url)
        monkeypatch.setenv(f"{PREFIX}HEALTH_CHECK_TIMEOUT", str(timeout))
        # A busy machine is slow, which is not what is asked.
        monkeypatch.setenv(f"{PREFIX}SLOW_QUERY_THRESHOLD_MS", "0")
        result = await asyncio.to_thread(CliRunner().invoke, app, ["health", "--json"])
        assert result.stderr == "", "the answer holds all there is to tell"
        return result.exit_code, json.loads(result.stdout)

    return health


async def test_a_backend_that_answers_is_told_as_connected_though_the_other_is_late(
    health, redis_server
):
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1", 0) as silent:
        port = silent.sockets[0].getsockname()[1]
        code, told = await health(port, redis_server.url, timeout=1.5)

    assert code == 1
    assert told["redis"] == {"connected": True, "state": "live", "error": None, "warnings": []}
    assert (told["postgres"]["connected"], told["postgres"]["state"]) == (False, "unavailable")


async def test_a_server_that_freezes_once_it_is_open_is_given_only_the_time_that_is_left(
    health, tmp_path_factory
):
    frozen = asyncio.Event()

    async def answer_nothing(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await frozen.wait()
        writer.close()

    async def freeze_once_it_is_open() -> None:
        async with asyncio.timeout(60), Redis.from_url(valkey.url(), protocol=2) as admin:
            while "cmdstat_hello" not in await admin.info("commandstats"):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            await admin.ping()
        valkey.freeze()
        postgres.close()
        frozen.set()

    with ThrowawayValkey(tmp_path_factory.mktemp("valkey")) as valkey:
        postgres = await asyncio.start_server(answer_nothing, "127.0.0.1", 0)
        port = postgres.sockets[0].getsockname()[1]
        (code, told), _ = await asyncio.gather(
            health(port, valkey.url(), timeout=2), freeze_once_it_is_open()
        )
        valkey.thaw()

    assert code == 1
    assert told["factory_initialized"] is True
    assert told["redis"]["connected"] is False
    assert "0.6 s" in told["redis"]["error"]
