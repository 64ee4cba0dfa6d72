from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from test_coordinator_data_adapter import AdapterConfig
from test_coordinator_data_adapter.cli import store

KEYS = ["path", "outcome", "reason", "scenario_id", "run_id", "run_status", "events", "results"]


@pytest.fixture
def ok(samples) -> Path:
    return samples / "ok.journal.json"


def test_a_folder_is_imported_and_the_backend_is_named(call, samples):
    result = call("import", "chaostoolkit", samples)

    assert result.exit_code == 0
    assert result.stderr == ""
    assert "ok.journal.json" in result.stdout
    assert result.stdout.endswith("10 imported.\nHeld in memory (gone when this command ends).\n")


def test_where_nothing_is_configured_it_is_said_how_to_keep_what_was_imported(
    call, samples, monkeypatch
):
    class Unconfigured(AdapterConfig):
        postgres_url: str = "postgresql+asyncpg://nobody@127.0.0.1:1/nothing"

    monkeypatch.delenv("TEST_COORDINATOR_ADAPTER_IN_MEMORY")
    monkeypatch.setattr(store, "AdapterConfig", Unconfigured)

    result = call("import", "chaostoolkit", samples)

    *_, held, advice = result.stdout.splitlines()
    assert held == "Held in memory (gone when this command ends)."
    assert advice.startswith("To keep it, set TEST_COORDINATOR_ADAPTER_POSTGRES_URL, or")


def test_json_is_one_object_with_one_entry_for_each_journal(call, samples, tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_bytes(b"{")
    ok = samples / "ok.journal.json"

    result = call("import", "chaostoolkit", "--json", ok, bad, ok)

    answer = json.loads(result.stdout)
    assert result.exit_code == 1
    assert list(answer) == ["backend", "journals"]
    assert answer["backend"] == "memory"
    assert [list(one) for one in answer["journals"]] == [KEYS] * 3
    imported, refused, again = answer["journals"]
    assert imported | {"run_id": "..."} == {
        "path": str(ok),
        "outcome": "imported",
        "reason": None,
        "scenario_id": "scen_001",
        "run_id": "...",
        "run_status": "passed",
        "events": 1,
        "results": 6,
    }
    assert again == imported | {"outcome": "already there"}
    assert refused["outcome"] == "refused"
    assert refused["path"] == str(bad)
    assert "is not JSON" in refused["reason"]
    assert refused["run_id"] is None


def test_json_prints_nothing_but_json_on_standard_output(program, ok):
    ended = program("--verbose", "import", "chaostoolkit", "--json", str(ok))

    assert ended.returncode == 0
    assert json.loads(ended.stdout)["journals"][0]["outcome"] == "imported"
    assert "factory_initialized" in ended.stderr
    assert "Held in memory" in ended.stderr


def test_a_refusal_is_told_with_its_path_and_the_others_are_imported(call, samples, tmp_path):
    bad = tmp_path / "bad.json"
    bad.write_bytes(b"[]")

    result = call("import", "chaostoolkit", samples, bad, tmp_path / "none")

    assert result.exit_code == 1
    assert f"{bad}: is not a Chaos Toolkit journal" in result.stderr
    assert f"{tmp_path / 'none'}: there is no such file or folder" in result.stderr
    assert "10 imported, 2 refused." in result.stdout


def test_the_folder_one_is_in_is_shown_though_it_has_no_name(call, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    result = call("import", "chaostoolkit", ".")

    assert any(line.split()[:2] == [".", "refused"] for line in result.stdout.splitlines())
    assert ".: holds no *.json file" in result.stderr


def test_what_cannot_be_mapped_is_imported_once_its_line_is_added(call, ok, tmp_path):
    journal = tmp_path / "journal.json"
    journal.write_text(
        ok.read_text().replace('"restart-risk-monitor"', '"poke"').replace('"restart"', '"poke"')
    )
    first = call("import", "chaostoolkit", journal)
    mapping = tmp_path / "map.toml"
    mapping.write_text(
        first.stderr.split("\n\n", 1)[1].replace('event_type = "..."', 'event_type = "cpu_stress"')
    )

    second = call("import", "chaostoolkit", journal, "--map", mapping)

    assert first.exit_code == 1
    assert "action 'poke' (tsefaults.poke)" in first.stderr
    assert second.exit_code == 0
    assert "1 imported." in second.stdout


@pytest.mark.parametrize("text", ["nonsense", "[[event]]\nmatch = 'x'", None])
def test_a_wrong_mapping_file_is_a_usage_error_and_nothing_is_imported(call, ok, tmp_path, text):
    mapping = tmp_path / "map.toml"
    if text is not None:
        mapping.write_text(text)

    result = call("import", "chaostoolkit", ok, "--map", mapping)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "map.toml" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("options", [[], ["--map"]], ids=["journal", "mapping"])
def test_a_newline_in_a_file_name_forges_no_line(call, ok, tmp_path, options):
    forged = tmp_path / "a.json\nfoo.json: imported"
    forged.write_text("{}")

    arguments = [*options, forged, ok] if options else [forged]
    result = call("import", "chaostoolkit", *arguments)

    assert result.exit_code == (2 if options else 1)
    assert not any(line.startswith("foo.json") for line in result.output.splitlines())


def test_a_call_in_a_journal_forges_no_line(call, ok, tmp_path):
    journal = json.loads(ok.read_text())
    for execution in [
        *journal["experiment"]["method"],
        *(one["activity"] for one in journal["run"]),
    ]:
        execution["provider"] = {"type": "process", "path": "x\nfoo.json: imported"}
    (tmp_path / "journal.json").write_text(json.dumps(journal))

    result = call("import", "chaostoolkit", tmp_path)

    assert result.exit_code == 1
    assert "[[event]]" in result.stderr
    assert not any(line.startswith("foo.json") for line in result.output.splitlines())


def test_a_journal_cannot_speak_to_the_terminal(call, ok, tmp_path):
    evil = tmp_path / "evil\x1b[2J.json"
    evil.write_text(ok.read_text().replace('"scen_001"', '"[bold]scen[/bold]"'))
    (tmp_path / "bad\x1b]0;x.json").write_bytes(b"{")

    result = call("import", "chaostoolkit", tmp_path)

    assert "\x1b" not in result.output
    assert "evil\ufffd[2J.json" in result.stdout
    assert "[bold]scen" in result.stdout


def terminal(*arguments: str | Path) -> tuple[bytes, bytes]:
    """What the program prints on standard output, and on a terminal as standard error."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "test_coordinator_data_adapter", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm"},
    ) as running:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how a terminal whose program has gone ends
                break
            if not part:
                break
            shown += part
        os.close(ours)
        assert running.stdout is not None
        return running.stdout.read(), shown


def test_many_journals_show_their_progress_on_a_terminal_and_json_stays_json(samples):
    answer, shown = terminal("import", "chaostoolkit", "--json", samples)

    assert len(json.loads(answer)["journals"]) == 10
    assert b"importing" in shown
    assert b"10/10" in shown


def test_a_single_journal_needs_no_progress_bar(ok):
    _, shown = terminal("import", "chaostoolkit", "--json", ok)

    assert b"importing" not in shown
