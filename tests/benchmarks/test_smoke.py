"""The benchmark runs from end to end; what it measures is no test's business."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# The other starts processes and takes its time.
SUITES = ["postgres", "redis", "observation", "audit"]


def test_the_benchmark_runs_and_keeps_every_turn_of_every_operation(tmp_path):
    kept = tmp_path / "times.json"

    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", *SUITES, "--smoke", "--no-peers", "--json", str(kept)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    reports = json.loads(kept.read_text())
    assert [report["suite"] for report in reports] == SUITES
    for report in reports:
        assert report["failures"] == {}
        assert report["operations"]
        for operation in report["operations"]:
            assert operation["failures"] == {}
            assert all(operation["seconds"].values())
