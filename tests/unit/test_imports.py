from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys

import pydantic_settings, structlog  # structlog imports rich where it finds it

before = set(sys.modules)
import {module}

unasked = {{"alembic", "asyncpg", "pytest", "redis", "rich", "sqlalchemy", "typer"}}
print(sorted(unasked & set(sys.modules) - before))
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, timeout=600
    )


@pytest.mark.parametrize(
    "module",
    [
        "test_coordinator_data_adapter",
        "test_coordinator_data_adapter.adapters.stub",
        "test_coordinator_data_adapter.factory",
        "test_coordinator_data_adapter.interfaces",
    ],
)
def test_importing_it_imports_nothing_heavy_that_was_not_asked_for(module):
    result = python("-c", PROGRAM.format(module=module))

    assert result.stderr == ""
    assert result.stdout == "[]\n"


def test_the_command_line_loads_no_driver_before_one_is_needed():
    result = python(
        "-c",
        "import sys, test_coordinator_data_adapter.cli;"
        "print(sorted({'alembic', 'asyncpg', 'redis', 'sqlalchemy'} & set(sys.modules)))",
    )

    assert (result.stdout, result.stderr) == ("[]\n", "")


def test_importing_the_package_warns_of_nothing():
    result = python("-W", "error", "-c", "import test_coordinator_data_adapter")

    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("extra", "package"), [("prometheus", "prometheus_client"), ("otel", "opentelemetry")]
)
def test_an_observer_without_its_extra_says_how_to_install_it(extra, package):
    result = python(
        "-c",
        f"import sys; sys.modules[{package!r}] = None;"
        f"import test_coordinator_data_adapter.observability.{extra}",
    )

    assert "ModuleNotFoundError" in result.stderr
    assert f"pip install 'test-coordinator-data-adapter[{extra}]'" in result.stderr
