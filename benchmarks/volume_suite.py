"""PostgreSQL with very many results: what stays flat, what streams, what is deleted."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Self

from benchmarks.measuring import LIBRARY, Operation, Outcome, Target, measure, progress, repeated
from benchmarks.placement import kept_on, placements, server_processes
from benchmarks.postgres_suite import SELECT_ONE
from benchmarks.report import Figure, Report
from benchmarks.stage import BETWEEN_RESULTS, LARGE, RUN, SMALL, STORED_SINCE, Stage, connected
from benchmarks.streaming import Streamed, in_a_process
from test_coordinator_data_adapter.observability import Fact, TripEnded

MOST_GROWN = 50_000_000
LEAST_OF_CURSOR = 0.6
LONGEST_TRANSACTION_SECONDS = 1.0
LEAST_OF_INSERTS = 0.5

_CURSOR = "asyncpg cursor, same models"
_INSERTERS = 4


async def measurements(stage: Stage, report: Report) -> AsyncGenerator[Outcome | Figure]:
    """Measure one thing after the other; the last one deletes a tenth."""
    scale = stage.scale
    report.facts.update(await stage.facts())
    report.facts["results stored"] = f"{scale.many_rows:,}, and {scale.rows:,} in another schema"
    yield await _flatness(stage)
    async for one in _streams(stage):
        yield one
    async for figure in _prune(stage):
        yield figure


async def _flatness(stage: Stage) -> Outcome:
    scale = stage.scale
    crowded = f"{LIBRARY}, {scale.many_rows:,} results stored"
    async with AsyncExitStack() as stack:
        few, many = [
            (await stack.enter_async_context(stage.library(stage.url, schema))).pass_rate
            for schema in (SMALL, LARGE)
        ]
        connection = await stack.enter_async_context(connected(stage.url))
        assert few is not None
        assert many is not None
        await few(RUN)
        await many(RUN)
        servers = [*await server_processes(stage), connection.get_server_pid()]
        ours, theirs, where = next(placements())
        with kept_on(ours, theirs, servers):
            return await measure(
                Operation(
                    f"calculate_pass_rate, 1,000 results, {where}",
                    SELECT_ONE,
                    {
                        LIBRARY: repeated(partial(few, RUN), scale.calls),
                        crowded: repeated(partial(many, RUN), scale.calls),
                        SELECT_ONE: repeated(partial(connection.fetchval, "SELECT 1"), scale.calls),
                    },
                    (Target(1.3, LIBRARY, whom=crowded), Target(2.5, SELECT_ONE, whom=crowded)),
                ),
                scale.rounds,
            )


async def _streams(stage: Stage) -> AsyncGenerator[Outcome | Figure]:
    runs: dict[str, list[Streamed]] = {}
    ways: dict[str, tuple[bool, int | None]] = {
        LIBRARY: (True, None),
        _CURSOR: (False, None),
        f"{LIBRARY}, 1,000 at a time": (True, 1_000),
        f"{_CURSOR}, 1,000 at a time": (False, 1_000),
    }
    progress(f"  stream, {stage.scale.streamed:,} results: {', '.join(ways)}")
    for _ in range(stage.scale.long_rounds):
        for name, (library, together) in ways.items():
            one = await in_a_process(stage, library=library, together=together)
            runs.setdefault(name, []).append(one)
            progress(f"    {name}: {one.seconds:.1f} s, {one.grown / 1e6:.0f} MB")
    at_most = 1 / LEAST_OF_CURSOR
    operation = f"stream, {stage.scale.streamed:,} results, each time in a process of its own"
    yield Outcome(
        operation,
        _CURSOR,
        {name: [one.seconds for one in taken] for name, taken in runs.items()},
        (
            Target(at_most, _CURSOR),
            Target(at_most, f"{_CURSOR}, 1,000 at a time", f"{LIBRARY}, 1,000 at a time"),
        ),
    )
    for name, taken in runs.items():
        rows = statistics.median(one.rows / one.seconds for one in taken)
        grown = max(one.grown for one in taken)
        yield Figure(
            f"stream, {name}: memory; speed",
            f"< {MOST_GROWN / 1e6:.0f} MB more" if name.startswith(LIBRARY) else "",
            f"{grown / 1e6:.1f} MB more; {rows:,.0f} rows/s",
            grown < MOST_GROWN if name.startswith(LIBRARY) else None,
        )


@dataclass
class _Trips:
    """How long the trips to PostgreSQL took; a statement of its own is a transaction."""

    took: list[float] = field(default_factory=list[float])

    def notice(self, fact: Fact, /) -> None:
        """Keep how long it took."""
        if isinstance(fact, TripEnded) and fact.trip.command.startswith("WITH old"):
            self.took.append(fact.trip.took)


async def _prune(stage: Stage) -> AsyncGenerator[Figure]:
    tenth = stage.scale.many_rows // 10
    trips = _Trips()
    async with (
        stage.factory(LARGE, [trips]) as factory,
        _Inserters(stage) as inserters,
    ):
        results = factory.get_test_results_repository()
        progress(f"  prune, {tenth:,} of {stage.scale.many_rows:,} results")
        before = await inserters.rate_of(asyncio.sleep(stage.scale.alone))
        began = time.perf_counter()
        pruning = asyncio.ensure_future(results.prune(STORED_SINCE + tenth * BETWEEN_RESULTS))
        meanwhile = await inserters.rate_of(pruning)
        took = time.perf_counter() - began
        after = await inserters.rate_of(asyncio.sleep(stage.scale.alone))
    if pruning.result() != tenth:
        raise RuntimeError(f"{pruning.result()} were pruned, not {tenth}")
    alone = (before + after) / 2
    what = f"prune, {tenth:,} of {stage.scale.many_rows:,} results"
    yield Figure(
        f"{what}: longest transaction",
        f"< {LONGEST_TRANSACTION_SECONDS:g} s",
        f"{max(trips.took) * 1000:.0f} ms of {len(trips.took)} transactions"
        f" (median {statistics.median(trips.took) * 1000:.0f} ms); {took:.1f} s in all,"
        f" {tenth / took:,.0f} results/s",
        max(trips.took) < LONGEST_TRANSACTION_SECONDS,
    )
    yield Figure(
        f"{what}: inserts of {_INSERTERS} others meanwhile",
        f"≥ {LEAST_OF_INSERTS:.0%} of their rate",
        f"{meanwhile / alone:.0%}: {meanwhile:,.0f}/s; alone {before:,.0f}/s before"
        f" and {after:,.0f}/s after",
        meanwhile >= LEAST_OF_INSERTS * alone,
    )


class _Inserters:
    """Some who insert a result each, one after the other, each in its own transaction."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._inserted = 0
        self._numbers = count()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._insert()) for _ in range(_INSERTERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    async def rate_of(self, waiting: Awaitable[object]) -> float:
        """How many results a second they insert until something is over."""
        inserted, began = self._inserted, time.perf_counter()
        await waiting
        if failed := [task for task in self._tasks if task.done()]:
            failed[0].result()
        return (self._inserted - inserted) / (time.perf_counter() - began)

    async def _insert(self) -> None:
        async with connected(self._stage.url) as connection:
            while True:
                await connection.execute(
                    f"INSERT INTO {LARGE}.test_results (result_id, run_id, assertion_type,"  # noqa: S608 - our own name
                    " expected_value, actual_value, status, verification_time, created_at)"
                    " VALUES ($1, 'run-inserted', 'latency', '250', '7', 'passed', now(), now())",
                    f"inserted-{next(self._numbers)}",
                )
                self._inserted += 1
