from __future__ import annotations

import json

import pytest

from test_coordinator_data_adapter import AdapterConfig

PREFIX = "TEST_COORDINATOR_ADAPTER_"


@pytest.fixture(autouse=True)
def _settings(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(f"{PREFIX}POSTGRES_URL", "postgresql://me:hunter2@db.example/mine")
    monkeypatch.setenv(f"{PREFIX}REDIS_SENTINEL_PASSWORD", "hunter2")
    monkeypatch.setenv(f"{PREFIX}POSTGRES_ULR", "postgresql://me:hunter2@db.example/mine")
    (tmp_path / ".env").write_text(f"{PREFIX}BATCH_SIZE=7\n{PREFIX}NO_SUCH=1\n")


def test_every_setting_is_shown_with_its_source_and_without_secrets(call):
    result = call("config", "show")

    lines = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines()}
    assert result.exit_code == 0
    assert lines.keys() == {"Setting", *AdapterConfig.model_fields}
    assert lines["postgres_url"] == ["environment", "postgresql://me:***@db.example/mine"]
    assert lines["in_memory"] == ["environment", "true"]
    assert lines["batch_size"] == ["file", "7"]
    assert lines["postgres_schema"] == ["derived", "test_coordinator"]
    assert lines["query_timeout"] == ["default", "30"]
    assert lines["migration_url"] == ["default", "-"]
    assert "hunter2" not in result.output


def test_unknown_variables_are_shown_with_the_one_they_may_mean(call):
    result = call("config", "show")

    first, second = result.stderr.splitlines()
    assert first == f"{PREFIX}NO_SUCH is set, but there is no such setting"
    assert second.startswith(f"{PREFIX}POSTGRES_ULR is set, but there is no such setting; ")
    assert second.endswith(f"did you mean {PREFIX}POSTGRES_URL?")


def test_json_has_the_same(call):
    result = call("config", "show", "--json")

    answer = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert answer["settings"].keys() == AdapterConfig.model_fields.keys()
    assert answer["settings"]["batch_size"] == {"value": 7, "source": "file"}
    assert answer["unknown"] == [
        {"variable": f"{PREFIX}NO_SUCH", "did_you_mean": None},
        {"variable": f"{PREFIX}POSTGRES_ULR", "did_you_mean": f"{PREFIX}POSTGRES_URL"},
    ]
    assert "hunter2" not in result.output


def test_a_setting_that_is_wrong_is_named(call, monkeypatch):
    monkeypatch.setenv(f"{PREFIX}QUERY_TIMEOUT", "-1")

    result = call("config", "show")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "query_timeout" in result.stderr
