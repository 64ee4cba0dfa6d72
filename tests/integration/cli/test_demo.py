from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[3] / "src"


@pytest.fixture
def demo(tmp_path):
    def demo() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "test_coordinator_data_adapter", "demo"],
            capture_output=True,
            check=False,
            encoding="utf-8",
            env=os.environ
            | {"PYTHONPATH": str(SOURCE), "XDG_DATA_HOME": str(tmp_path), "COLUMNS": "80"},
            timeout=600,
        )

    return demo


def test_a_second_demo_finds_what_the_first_one_recorded_and_says_so(demo, tmp_path):
    first = demo()
    second = demo()

    assert (first.returncode, first.stderr) == (0, "")
    assert (second.returncode, second.stderr) == (0, "")
    folder = tmp_path / "test-coordinator-adapter" / "demo"
    assert "10 recorded experiments: 10 imported.\nAnswered by PostgreSQL " in first.stdout
    assert f" in {folder}.\n" in first.stdout
    assert "10 recorded experiments: 10 already there.\n" in second.stdout
    assert "An earlier run of the demo recorded them" in second.stdout
    assert "reads by id, 0 were answered from the cache" not in second.stdout
    assert "were answered from the cache (" in second.stdout
    tables = [one.stdout.split("10 recorded experiments")[0] for one in (first, second)]
    assert tables[0] == tables[1]
