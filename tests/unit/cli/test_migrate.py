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


def test_a_script_is_no_json(call):
    result = call("migrate", "--sql", "--json")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "--sql" in result.stderr
