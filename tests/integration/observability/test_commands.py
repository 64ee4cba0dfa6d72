"""The commands that somebody runs beside the service, over both live backends."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from datetime import UTC, datetime, timedelta

import pytest

from test_coordinator_data_adapter.models import RunStatus
from test_coordinator_data_adapter.testing.builders import a_test_result, a_test_run


@pytest.fixture
def call(make_factory, tmp_path):
    """Runs a command over the backends of a factory, in a process of its own."""
    config = make_factory().config
    settings = {
        "SERVICE_INSTANCE_NAME": config.service_instance_name,
        "POSTGRES_URL": config.postgres_url,
        "REDIS_URL": config.redis_url,
        "REDIS_NAMESPACE": config.redis_namespace,
        "REDIS_REGISTRY": config.redis_registry,
        "POSTGRES_POOL_SIZE": "3",
        "POSTGRES_MAX_OVERFLOW": "4",
        "REDIS_POOL_SIZE": "5",
    }

    async def call(*arguments):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "test_coordinator_data_adapter", *arguments),
            cwd=tmp_path,
            env=os.environ
            | {"COLUMNS": "200"}
            | {f"TEST_COORDINATOR_ADAPTER_{name}": value for name, value in settings.items()},
            stdout=asyncio.subprocess.PIPE,
        )
        told, _ = await process.communicate()
        return process.returncode, told

    return call


async def test_health_says_that_all_is_well(call):
    ended, told = await call("health", "--json")

    assert ended == 0
    assert json.loads(told)["status"] == "healthy"


async def test_health_shows_what_there_is_to_know_of_the_backends(call):
    ended, shown = await call("health")

    postgres, redis = (
        next(line for line in shown.decode().splitlines() if line.startswith(backend))
        for backend in ("postgres", "redis")
    )
    assert ended == 0
    assert re.search(r"version \d+.*schema observed at \w+.* 0 of 7 connections in use", postgres)
    assert re.search(r"version \d+.* 0 of 5 connections in use", redis)


async def test_prune_does_what_its_dry_run_says(call, make_factory):
    long_ago = datetime.now(UTC) - timedelta(days=1000)
    async with make_factory() as factory:
        for number in range(3):
            run = a_test_run(status=RunStatus.PASSED, created_at=long_ago)
            await factory.get_test_runs_repository().create(run)
            await factory.get_test_results_repository().bulk_create(
                [a_test_result(run_id=run.run_id) for _ in range(number)]
            )

    _, surveyed = await call("prune", "--json", "--dry-run")
    ended, pruned = await call("prune", "--json")

    assert ended == 0
    assert json.loads(surveyed)["kinds"] == json.loads(pruned)["kinds"]
    assert json.loads(pruned)["kinds"]["test_results"]["pruned"] == 3


@pytest.mark.parametrize(("settings", "actor"), [({}, "observed"), ({"audit_actor": "me"}, "me")])
async def test_the_settings_say_who_acts(make_factory, settings, actor):
    async with make_factory(**settings) as factory:
        await factory.get_test_runs_repository().create(a_test_run(run_id="r"))

        (record,) = await factory.get_audit_repository().history("test_run", "r")

    assert record.actor == actor


@pytest.mark.parametrize(("settings", "actor"), [({}, "observed"), ({"audit_actor": "me"}, "me")])
async def test_the_settings_say_who_acts_in_memory(make_factory, settings, actor):
    async with make_factory(in_memory=True, **settings) as factory:
        await factory.get_test_runs_repository().create(a_test_run(run_id="r"))

        (record,) = await factory.get_audit_repository().history("test_run", "r")

    assert record.actor == actor
