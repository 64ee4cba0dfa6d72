"""How long importing the package takes, beside the two libraries it cannot do without."""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

PACKAGE = "import test_coordinator_data_adapter"
FACE = "from test_coordinator_data_adapter import AdapterConfig, AdapterFactory"
BASELINE = "import pydantic_settings, structlog"
NOTHING = "pass"


def seconds(statement: str) -> float:
    """How long a fresh interpreter takes to run ``statement``, start and end included."""
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-c", statement],
        check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONSTARTUP"},
    )
    return time.perf_counter() - started


def main() -> None:
    """Time them in turn, so that a slower moment of the machine meets them all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=15, help="rounds (default: 15)")
    rounds = parser.parse_args().repeat

    taken: dict[str, list[float]] = {
        statement: [] for statement in (PACKAGE, FACE, BASELINE, NOTHING)
    }
    for statement in taken:
        seconds(statement)  # compiles the bytecode and warms the disk cache
    for _ in range(rounds):
        for statement, times in taken.items():
            times.append(seconds(statement))

    medians = {statement: statistics.median(times) for statement, times in taken.items()}
    print(f"Python {sys.version.split()[0]}, median of {rounds} interleaved rounds")
    for statement, median in medians.items():
        print(f"{median * 1000:8.1f} ms  {statement}")
    face, baseline = (medians[name] - medians[NOTHING] for name in (FACE, BASELINE))
    print(f"{face / baseline:8.2f}     the face to the baseline, interpreter start deducted")


if __name__ == "__main__":
    main()
