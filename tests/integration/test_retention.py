"""Retention as a user meets it: through the factory and the command line."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog

from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.models import RunStatus, ScenarioStatus
from test_coordinator_data_adapter.testing.builders import (
    a_chaos_event,
    a_scenario,
    a_test_result,
    a_test_run,
)

NOW = datetime(2026, 6, 1, tzinfo=UTC)


async def fill(factory: AdapterFactory) -> None:
    runs = factory.get_test_runs_repository()
    results = factory.get_test_results_repository()
    for days in (10, 100, 200):
        run_id = f"run-{days}"
        created_at = NOW - timedelta(days=days)
        await runs.create(
            a_test_run(
                run_id=run_id, scenario_id="s", status=RunStatus.PASSED, created_at=created_at
            )
        )
        await results.create(a_test_result(run_id=run_id, created_at=created_at))
    await factory.get_scenarios_repository().create(
        a_scenario(status=ScenarioStatus.ARCHIVED, updated_at=NOW - timedelta(days=366))
    )


async def test_what_is_kept_for_longer_than_time_goes_back_is_kept_for_ever() -> None:
    ages = ("scenarios", "test_runs", "chaos_events", "test_results")
    config = {f"{kind}_retention_days": 10**10 for kind in ages}

    async with AdapterFactory(AdapterConfig(in_memory=True, **config)) as factory:
        await fill(factory)
        swept = await factory.prune_expired(NOW)

    assert {kind.pruned for kind in swept.kinds.values()} == {0}


async def test_the_settings_decide_what_goes() -> None:
    async with AdapterFactory(AdapterConfig(in_memory=True)) as factory:
        await fill(factory)

        with structlog.testing.capture_logs() as told:
            surveyed = await factory.prune_expired(NOW, dry_run=True)
            swept = await factory.prune_expired(NOW)

    assert surveyed.kinds == swept.kinds
    assert {kind: one.pruned for kind, one in swept.kinds.items()} == {
        "chaos_events": 0,
        "test_results": 2,
        "test_runs": 2,
        "scenarios": 1,
    }
    assert told == [
        {
            "event": "expired_pruned",
            "log_level": "info",
            "chaos_events": 0,
            "test_results": 2,
            "test_runs": 2,
            "scenarios": 1,
        }
    ]


async def test_each_kind_is_kept_for_its_own_days() -> None:
    days = {"scenarios": 40, "test_runs": 30, "chaos_events": 20, "test_results": 10}
    config = AdapterConfig.model_validate(
        {"in_memory": True} | {f"{kind}_retention_days": number for kind, number in days.items()}
    )
    at = {kind: NOW - timedelta(days=number) for kind, number in days.items()}
    async with AdapterFactory(config) as factory:
        scenarios = factory.get_scenarios_repository()
        runs = factory.get_test_runs_repository()
        events = factory.get_chaos_events_repository()
        results = factory.get_test_results_repository()
        for name, age in (("goes", timedelta(seconds=1)), ("stays", timedelta())):
            await scenarios.create(
                a_scenario(
                    scenario_id=name,
                    status=ScenarioStatus.ARCHIVED,
                    updated_at=at["scenarios"] - age,
                )
            )
            await runs.create(
                a_test_run(run_id=name, status=RunStatus.PASSED, created_at=at["test_runs"] - age)
            )
            await events.create(a_chaos_event(event_id=name, created_at=at["chaos_events"] - age))
            await results.create(a_test_result(result_id=name, created_at=at["test_results"] - age))

        await factory.prune_expired(NOW)

        for repository in (scenarios, runs, events, results):
            assert await repository.get_by_id("goes") is None
            assert await repository.get_by_id("stays") is not None


async def test_progress_is_told_to_whoever_wants_to_hear_of_it() -> None:
    told: list[tuple[str, int, int]] = []
    async with AdapterFactory(AdapterConfig(in_memory=True)) as factory:
        await fill(factory)

        await factory.prune_expired(
            NOW, on_progress=lambda kind, gone, of: told.append((kind, gone, of))
        )

    assert told == [("test_results", 2, 2), ("test_runs", 2, 2), ("scenarios", 1, 1)]


async def test_zero_days_and_the_last_runs_keep_what_is_old() -> None:
    config = AdapterConfig(in_memory=True, scenarios_retention_days=0, retention_keep_last_runs=2)
    async with AdapterFactory(config) as factory:
        await fill(factory)

        swept = await factory.prune_expired(NOW)

    assert swept.kinds["scenarios"].examined == 0
    assert swept.kinds["test_runs"].kept == {"last_runs": 1}
    assert swept.kinds["test_runs"].pruned == 1


async def test_a_time_without_a_zone_is_refused() -> None:
    async with AdapterFactory(AdapterConfig(in_memory=True)) as factory:
        with pytest.raises(InvalidValueError, match="now"):
            await factory.prune_expired(datetime(2026, 6, 1))  # noqa: DTZ001 - naive on purpose


@pytest.mark.parametrize("arguments", [["--dry-run"], []])
def test_the_command_reports_each_kind_as_json(arguments: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "test_coordinator_data_adapter", "prune", "--json", *arguments],
        cwd=tmp_path,
        env=os.environ | {"TEST_COORDINATOR_ADAPTER_IN_MEMORY": "true"},
        capture_output=True,
        text=True,
        check=True,
    )

    told = json.loads(done.stdout)
    assert told["dry_run"] is bool(arguments)
    assert told["kinds"]["test_runs"] == {"examined": 0, "pruned": 0, "kept": {}}


def test_the_command_draws_a_table(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "test_coordinator_data_adapter", "prune", "--dry-run"],
        cwd=tmp_path,
        env=os.environ | {"TEST_COORDINATOR_ADAPTER_IN_MEMORY": "true"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert "test runs" in done.stdout
    assert "dry run" in done.stdout
