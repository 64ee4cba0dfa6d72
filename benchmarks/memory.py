"""What a question to the in-memory stubs costs, beside the cost of copying its answer."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from test_coordinator_data_adapter.adapters.stub import StubTestResultsRepository
from test_coordinator_data_adapter.models import AssertionType, ResultStatus, TestResult

RUNS = 100
NOW = datetime(2026, 1, 1, tzinfo=UTC)
STATUSES = tuple(ResultStatus)


def result(number: int) -> TestResult:
    """One of the stored results; every run gets each status equally often."""
    return TestResult(
        result_id=f"result-{number:07}",
        run_id=f"run-{number % RUNS}",
        assertion_type=AssertionType.LATENCY,
        expected_value="250",
        actual_value=str(number),
        status=STATUSES[number // RUNS % len(STATUSES)],
        verification_time=NOW,
    )


async def timed(call: Callable[[], Awaitable[object]]) -> float:
    """Seconds one call takes."""
    began = time.perf_counter()
    await call()
    return time.perf_counter() - began


async def measure(stored: int, rounds: int) -> None:
    """Time the questions in turn, so that a slower moment of the machine meets them all."""
    repository = StubTestResultsRepository()
    await repository.bulk_create([result(number) for number in range(stored)])
    answer = await repository.get_by_run("run-7")

    async def copying() -> object:
        return [model.model_copy() for model in answer]

    async def copying_deeply() -> object:
        return [model.model_copy(deep=True) for model in answer]

    async def get_by_run() -> object:
        return await repository.get_by_run("run-7")

    async def pass_rate() -> object:
        return await repository.calculate_pass_rate("run-7")

    calls = (copying, copying_deeply, get_by_run, pass_rate)
    taken: dict[str, list[float]] = {call.__name__: [] for call in calls}
    for _ in range(rounds):
        for call in calls:
            taken[call.__name__].append(await timed(call))

    medians = {name: statistics.median(times) for name, times in taken.items()}
    print(
        f"Python {sys.version.split()[0]}, {stored} results stored, {len(answer)} of them"
        f" in the run, median of {rounds} interleaved rounds"
    )
    for name, median in medians.items():
        ratio = median / medians["copying"]
        print(f"{median * 1e6:10.0f} µs  {ratio:6.2f} x copying  {name}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stored", type=int, default=100_000, help="results (default: 100000)")
    parser.add_argument("--rounds", type=int, default=30, help="rounds (default: 30)")
    options = parser.parse_args()
    asyncio.run(measure(options.stored, options.rounds))


if __name__ == "__main__":
    main()
