from __future__ import annotations

import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from test_coordinator_data_adapter.testing import builders, conformance, faults, plugin

pytest_plugins = ["pytester"]

PLUGIN = plugin.__name__
# Installed, the package brings the plugin by its entry point; a bare checkout has to name it.
BY_NAME = () if any(ep.value == PLUGIN for ep in entry_points(group="pytest11")) else ("-p", PLUGIN)
QUIET = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
PAGE = Path(__file__).parents[3].joinpath("docs/how-to/pytest.md").read_text(encoding="utf-8")


def test_the_examples_of_the_page_run_as_they_are_printed(pytester, monkeypatch):
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    files = re.findall(r"```python\n# (\S+\.py)\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(files) == PAGE.count("```python")
    for name, content in files:
        pytester.path.joinpath(name).write_text(content, encoding="utf-8")
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")

    result = pytester.runpytest_subprocess("-W", "error", *QUIET, *BY_NAME, timeout=600)

    outcomes = result.parseoutcomes()
    assert set(outcomes) == {"passed"}
    assert outcomes["passed"] > 80


@pytest.mark.parametrize(
    "name",
    [
        *(
            name
            for name in vars(plugin)
            if name.startswith("adapter_") or name.endswith("_repository")
        ),
        *(name for name in builders.__all__ if name.startswith("a_")),
        *conformance.__all__,
        *faults.FaultKind,
    ],
)
def test_the_page_names_everything_there_is(name):
    assert f"`{name}" in PAGE
