from __future__ import annotations

import io
import json
import sys
from datetime import timedelta

import pytest

from test_coordinator_data_adapter import AdapterFactory
from test_coordinator_data_adapter.cli import app, store
from test_coordinator_data_adapter.models import RunStatus, ScenarioStatus
from test_coordinator_data_adapter.models.values import utc_now
from test_coordinator_data_adapter.testing.builders import (
    a_chaos_event,
    a_scenario,
    a_test_result,
    a_test_run,
)


class Filled(AdapterFactory):
    """A factory in whose memory there is something old to go, and a reason of each kind to stay."""

    async def initialize(self) -> None:
        await super().initialize()
        old = utc_now() - timedelta(days=1000)
        runs = {
            "goes": RunStatus.PASSED,
            "runs": RunStatus.RUNNING,
            "waits": RunStatus.PENDING,
            "youngest": RunStatus.FAILED,
        }
        for age, (run_id, status) in enumerate(runs.items()):
            born = old + timedelta(seconds=age)
            await self.get_test_runs_repository().create(
                a_test_run(run_id=run_id, scenario_id="s", status=status, created_at=born)
            )
            await self.get_chaos_events_repository().create(
                a_chaos_event(run_id=run_id, created_at=born)
            )
        await self.get_test_results_repository().bulk_create(
            a_test_result(run_id="goes", created_at=old) for _ in range(5)
        )
        for status in (ScenarioStatus.ARCHIVED, ScenarioStatus.ACTIVE, ScenarioStatus.DRAFT):
            await self.get_scenarios_repository().create(a_scenario(status=status, updated_at=old))


@pytest.fixture(autouse=True)
def _filled(monkeypatch):
    monkeypatch.setattr(store, "AdapterFactory", Filled)
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_RETENTION_KEEP_LAST_RUNS", "1")


@pytest.mark.parametrize("arguments", [["--dry-run"], []])
def test_json_tells_of_each_kind_what_goes_and_why_the_rest_is_kept(call, arguments):
    result = call("prune", "--json", *arguments)

    assert result.exit_code == 0
    assert json.loads(result.stdout) == {
        "backend": "memory",
        "dry_run": bool(arguments),
        "kinds": {
            "chaos_events": {"examined": 4, "pruned": 1, "kept": {"run_is_kept": 3}},
            "test_results": {"examined": 5, "pruned": 5, "kept": {}},
            "test_runs": {
                "examined": 4,
                "pruned": 1,
                "kept": {"last_runs": 1, "unfinished": 2},
            },
            "scenarios": {"examined": 3, "pruned": 1, "kept": {"in_use": 2}},
        },
    }
    assert result.stderr == "Held in memory (gone when this command ends).\n"


@pytest.mark.parametrize(
    ("arguments", "going", "done"),
    [
        (["--dry-run"], "Would go", "Nothing was deleted: a dry run."),
        ([], "Deleted", "Done."),
    ],
)
def test_the_table_tells_the_same_to_people(call, arguments, going, done):
    result = call("prune", *arguments)

    drawn = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert result.exit_code == 0
    assert f"Kind Old {going} Kept Why" in drawn
    assert "chaos events 4 1 3 3 run is kept" in drawn
    assert "test results 5 5 0" in drawn
    assert "test runs 4 1 3 2 unfinished, 1 last runs" in drawn
    assert "scenarios 3 1 2 2 in use" in drawn
    assert drawn[-2:] == [done, "Held in memory (gone when this command ends)."]


class Terminal(io.StringIO):
    """What is shown to people."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def shown(monkeypatch):
    """Calls the command line; gives what a terminal shows that standard error goes to."""

    def shown(*arguments: str) -> str:
        terminal = Terminal()
        monkeypatch.setenv("TERM", "xterm")
        # During the call alone: before it pytest brings in a standard error of its own.
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", terminal)
            app(arguments, standalone_mode=False)
        return terminal.getvalue()

    return shown


def test_a_terminal_shows_how_much_of_each_kind_is_gone_and_json_stays_json(shown, capsys):
    lines = shown("prune", "--json").splitlines()

    assert json.loads(capsys.readouterr().out)["dry_run"] is False
    for kind, progress in (
        ("chaos events", "1/1"),
        ("test results", "5/5"),
        ("test runs", "1/1"),
        ("scenarios", "1/1"),
    ):
        assert any(kind in line and progress in line for line in lines)


def test_a_dry_run_deletes_nothing_and_shows_no_progress(shown):
    told = shown("prune", "--json", "--dry-run")

    assert told == "Held in memory (gone when this command ends).\n"


def test_nothing_is_pruned_in_memory_instead(call):
    result = call("prune", "--allow-degraded")

    assert result.exit_code == 2
    assert "--allow-degraded" in result.stderr
