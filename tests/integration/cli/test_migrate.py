"""What `migrate` tells people and programs."""

from __future__ import annotations

import asyncio
import json

import pytest
from typer.testing import CliRunner, Result

from test_coordinator_data_adapter.adapters.postgres.migration import REVISIONS
from test_coordinator_data_adapter.cli import app

PREFIX = "TEST_COORDINATOR_ADAPTER_"
NEWEST = REVISIONS[-1]


@pytest.fixture
async def call(monkeypatch, tmp_path, postgres_server):
    """Calls `migrate` where there is a database with nothing in it."""
    monkeypatch.chdir(tmp_path)
    url = await postgres_server.create_database()
    monkeypatch.setenv(f"{PREFIX}POSTGRES_URL", url)

    async def call(*arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, app, ["migrate", *arguments])

    yield call
    await postgres_server.drop_database(url)


@pytest.fixture
def migrate(call):
    """What `migrate --json` answers, and how it ends."""

    async def migrate(*arguments: str):
        result = await call(*arguments, "--json")
        assert result.stderr == "", "the answer holds all there is to tell"
        return result.exit_code, json.loads(result.stdout)

    return migrate


@pytest.mark.parametrize(
    ("revision", "there"), [("0001", "tcda_0001"), ("tcda_0001", "tcda_0001"), ("base", "nothing")]
)
async def test_to_be_where_it_was_sent_already_is_no_problem(call, revision, there):
    await call("--to", revision)

    again = await call("--to", revision)

    assert again.exit_code == 0
    assert again.stderr == f"Schema test_coordinator: {there} already.\n"


async def test_json_tells_what_was_found_and_what_is_wanted(migrate):
    missing, made, current = await migrate("--check"), await migrate(), await migrate("--check")

    schema = "test_coordinator"
    problem = missing[1].pop("problem")
    assert missing == (1, {"schema": schema, "before": None, "found": None, "wanted": NEWEST})
    assert "is missing: run `test-coordinator-adapter migrate`" in problem
    good = {"schema": schema, "found": NEWEST, "wanted": NEWEST, "problem": None}
    assert made == (0, {**good, "before": None})
    assert current == (0, {**good, "before": NEWEST})


async def test_json_tells_from_where_to_where_it_went(migrate):
    await migrate()

    down = await migrate("--to", "0001")

    code, told = down
    assert code == 0
    assert (told["before"], told["found"], told["wanted"]) == (NEWEST, "tcda_0001", NEWEST)
    assert "older than" in told["problem"]
