"""Commands that work on the store, answering programs where there is a database."""

from __future__ import annotations

import json
from importlib.resources import as_file, files

import pytest
from typer.testing import CliRunner

from test_coordinator_data_adapter.cli import app

PREFIX = "TEST_COORDINATOR_ADAPTER_"


@pytest.fixture
async def database(monkeypatch, tmp_path, postgres_server):
    monkeypatch.chdir(tmp_path)
    url = await postgres_server.create_database()
    monkeypatch.setenv(f"{PREFIX}POSTGRES_URL", url)
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", "redis://127.0.0.1:1")
    yield
    await postgres_server.drop_database(url)


@pytest.mark.usefixtures("database")
def test_json_names_the_database_that_holds_what_was_imported_or_was_looked_through():
    call = CliRunner().invoke
    call(app, ["migrate"])

    with as_file(files("test_coordinator_data_adapter.journals") / "samples") as samples:
        imported = call(app, ["import", "chaostoolkit", "--json", str(samples)])
    pruned = call(app, ["prune", "--json"])

    for result in (imported, pruned):
        assert result.exit_code == 0
        assert json.loads(result.stdout)["backend"] == "postgres"
        assert "Held in PostgreSQL" in result.stderr
