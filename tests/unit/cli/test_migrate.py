from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "command", ["migrate", "migrate --check", "audit seal", "audit verify", "audit prune"]
)
def test_a_private_server_looks_after_itself_and_no_other_is_taken_for_it(
    call, monkeypatch, tmp_path, command
):
    monkeypatch.delenv("TEST_COORDINATOR_ADAPTER_IN_MEMORY")
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_EMBEDDED_DATA_DIR", str(tmp_path / "private"))
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_AUDIT_RETENTION_DAYS", "1")

    result = call(*command.split())

    assert result.exit_code == 2
    assert "embedded_data_dir" in result.output
    assert "--url" in result.output
    assert not (tmp_path / "private").exists()


@pytest.mark.parametrize("command", ["migrate", "migrate --check", "audit seal", "audit verify"])
def test_who_cannot_reach_the_server_is_told_what_to_look_at(call, command):
    result = call(*command.split(), "--url", "postgresql://me:hunter2@127.0.0.1:1/none")

    assert result.exit_code == 3
    assert "check that it runs and can be reached" in result.stderr
    assert "hunter2" not in result.output


@pytest.mark.parametrize("option", ["--json", "--url postgresql://me@127.0.0.1:1/none", "--check"])
def test_a_script_is_made_without_asking_a_server_and_is_no_json(call, option):
    result = call("migrate", "--sql", *option.split())

    assert result.exit_code == 2
    assert "CREATE" not in result.stdout
    assert "cannot be combined with" in result.stderr
