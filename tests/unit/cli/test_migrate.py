from __future__ import annotations


def test_a_private_server_is_not_to_be_migrated_and_no_other_is_taken_for_it(
    call, monkeypatch, tmp_path
):
    monkeypatch.delenv("TEST_COORDINATOR_ADAPTER_IN_MEMORY")
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_EMBEDDED_DATA_DIR", str(tmp_path / "private"))

    result = call("migrate", "--check")

    assert result.exit_code == 2
    assert "embedded_data_dir" in result.output
    assert "--url" in result.output
    assert not (tmp_path / "private").exists()
