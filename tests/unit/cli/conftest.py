"""The command line, called in this process or as a program of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from test_coordinator_data_adapter.cli import app

SOURCE = Path(__file__).parents[3] / "src"


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_IN_MEMORY", "true")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))


@pytest.fixture(scope="session")
def samples():
    """The folder of the journals that the package carries."""
    with as_file(files("test_coordinator_data_adapter.journals") / "samples") as folder:
        yield folder


@pytest.fixture
def call():
    """Calls the command line in this process."""

    def call(*arguments: str | Path, stdin: str | None = None) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], input=stdin)

    return call


@pytest.fixture
def program():
    """Runs the command line as a program, warnings being errors."""

    def program(*arguments: str | Path, **changes: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "test_coordinator_data_adapter", *arguments],
            capture_output=True,
            check=False,
            encoding="utf-8",
            env=os.environ | changes,
            timeout=600,
        )

    return program
