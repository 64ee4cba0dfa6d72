from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

PREFIX = "TEST_COORDINATOR_ADAPTER_"
AN_HOUR_TO_LOAD = """
import sys, time
from test_coordinator_data_adapter.cli import app

class Clock:
    passed, now = 0, time.monotonic

    def find_spec(self, name, path, target=None):
        if name in {"asyncpg", "redis"}:
            self.passed += 3600

clock = Clock()
time.monotonic = lambda: Clock.now() + clock.passed
sys.meta_path.insert(0, clock)
app(["health", "--json"])
"""


@pytest.fixture(autouse=True)
def _nothing_runs_anywhere(monkeypatch, tmp_path, refusing_port) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(f"{PREFIX}IN_MEMORY", raising=False)
    monkeypatch.setenv(
        f"{PREFIX}POSTGRES_URL", f"postgresql://u:s3cret@127.0.0.1:{refusing_port}/db"
    )
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", f"redis://:s3cret@127.0.0.1:{refusing_port}/0")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that accepts and never says a word."""
    server = socket.create_server(("127.0.0.1", 0), backlog=16)
    held: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                held.append(server.accept()[0])
            except OSError:
                return

    thread = threading.Thread(target=accept)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()
    for connection in held:
        connection.close()


def test_backends_that_are_missing_are_degradation(call):
    result = call("health")

    assert result.exit_code == 1
    assert "Status: degraded" in result.stdout
    assert result.stdout.count("unavailable") == 2
    assert "postgres: " in result.stderr
    assert "s3cret" not in result.output


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1", "redis://127.0.0.1:6379/0?ssl=true"])
def test_each_failure_is_told_once(call, monkeypatch, url):
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", url)

    shown, told = call("health"), call("health", "--json")

    postgres, redis = shown.stderr.splitlines()
    assert postgres.startswith("postgres: ")
    assert redis.startswith("redis: ")
    assert told.stderr == ""


def test_what_the_library_says_of_it_is_shown_to_who_wants_to_see_more(call):
    result = call("--verbose", "health")

    assert result.stderr.count("backend_unavailable") == 2


@pytest.mark.parametrize("how", ["option", "setting"])
def test_in_strict_mode_they_are_a_failure(call, monkeypatch, how):
    if how == "setting":
        monkeypatch.setenv(f"{PREFIX}STARTUP_STRICT", "true")

    result = call("health", *(["--strict"] if how == "option" else []))

    assert result.exit_code == 3


def test_strictness_of_the_configuration_can_be_set_aside(call, monkeypatch):
    monkeypatch.setenv(f"{PREFIX}STARTUP_STRICT", "true")

    result = call("health", "--no-strict")

    assert result.exit_code == 1


def test_what_is_told_as_json_is_what_the_factory_tells(call):
    result = call("health", "--json")

    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert told["factory_initialized"] is True
    assert told["status"] == "degraded"
    for backend in ("postgres", "redis"):
        assert told[backend]["connected"] is False
        assert told[backend]["state"] == "unavailable"
        assert told[backend]["error"]
    assert "s3cret" not in result.output


def test_a_bad_setting_is_a_failure(call, monkeypatch):
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", "http://:s3cret@nowhere")

    result = call("health")

    assert result.exit_code == 2
    assert "redis_url" in result.stderr
    assert "s3cret" not in result.output


def test_a_misconfigured_backend_is_a_failure(call, monkeypatch):
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", "redis://127.0.0.1:6379/0?ssl=true")

    result = call("health", "--json")

    told = json.loads(result.stdout)
    assert result.exit_code == 2
    assert told["status"] == "misconfigured"
    assert told["redis"]["state"] == "misconfigured"


def test_what_is_misconfigured_is_shown_also_where_strictness_would_have_it_raised(
    call, monkeypatch
):
    monkeypatch.setenv(f"{PREFIX}STARTUP_STRICT", "true")
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", "redis://127.0.0.1:6379/0?ssl=true")

    result, shown = call("health", "--json"), call("health")

    told = json.loads(result.stdout)
    assert (result.exit_code, shown.exit_code) == (2, 2)
    assert told["redis"]["state"] == "misconfigured"
    assert told["postgres"]["state"] == "unavailable"
    assert "Status: misconfigured" in shown.stdout


async def test_the_time_there_is_does_not_run_while_the_drivers_are_loaded(monkeypatch):
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        monkeypatch.setenv(f"{PREFIX}POSTGRES_URL", f"postgresql://u@127.0.0.1:{port}/db")
        monkeypatch.setenv(f"{PREFIX}REDIS_URL", f"redis://127.0.0.1:{port}/0")
        monkeypatch.setenv(f"{PREFIX}HEALTH_CHECK_TIMEOUT", "600")
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", AN_HOUR_TO_LOAD), stdout=asyncio.subprocess.PIPE
        )
        answer, _ = await program.communicate()

    told = json.loads(answer)
    assert told["factory_initialized"] is True
    for backend in ("postgres", "redis"):
        assert "within" not in told[backend]["error"]


def test_a_server_that_never_answers_costs_no_more_than_the_time_there_is(
    call, monkeypatch, silent_port
):
    monkeypatch.setenv(f"{PREFIX}POSTGRES_URL", f"postgresql://u@127.0.0.1:{silent_port}/db")
    monkeypatch.setenv(f"{PREFIX}HEALTH_CHECK_TIMEOUT", "1")
    monkeypatch.setenv(f"{PREFIX}POSTGRES_CONNECT_TIMEOUT", "600")
    monkeypatch.setenv(f"{PREFIX}QUERY_TIMEOUT", "600")
    began = time.monotonic()

    result = call("health", "--json")

    told = json.loads(result.stdout)
    assert time.monotonic() - began < 60
    assert result.exit_code == 1
    assert told["postgres"]["connected"] is False
    assert "0.7 s" in told["postgres"]["error"]
    assert "check that it runs" in told["postgres"]["error"]
    assert told["redis"]["connected"] is False


def test_a_misconfigured_backend_is_a_failure_also_where_the_other_never_answers(
    call, monkeypatch, silent_port
):
    monkeypatch.setenv(f"{PREFIX}POSTGRES_URL", f"postgresql://u@127.0.0.1:{silent_port}/db")
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", "redis://127.0.0.1:6379/0?ssl=true")
    monkeypatch.setenv(f"{PREFIX}HEALTH_CHECK_TIMEOUT", "3")

    result = call("health", "--json")

    told = json.loads(result.stdout)
    assert result.exit_code == 2
    assert told["status"] == "misconfigured"
    assert told["redis"]["state"] == "misconfigured"
    assert "ssl" in told["redis"]["error"]
    assert "2.1 s" in told["postgres"]["error"]
