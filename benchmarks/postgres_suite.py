"""PostgreSQL: the operations of the repositories, and those of the drivers and the peers."""

# ruff: noqa: S608 - made of our own names

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from benchmarks.clients import StoreClient, StoreOpener
from benchmarks.measuring import (
    LIBRARY,
    Clock,
    Operation,
    Outcome,
    Sample,
    Taken,
    Target,
    at_once,
    measure,
    progress,
    repeated,
)
from benchmarks.postgres_drivers import BARE, DRIVERS, HELD, POOL_WITHOUT_RESET
from benchmarks.report import Figure, Report
from benchmarks.stage import (
    BIG_RUN,
    FRESH_RUN,
    RESULTS_OF_A_RUN,
    RUN,
    RUNS,
    SMALL,
    Stage,
    connected,
    fresh_results,
    stored_id,
)
from test_coordinator_data_adapter.models import RunStatus

ADVANCED_ALCHEMY = "advanced-alchemy"
CALLERS = 50
_QUICKLY_DONE = 1_000
SELECT_ONE = "raw asyncpg (SELECT 1)"
_COUNT_ALONE = "raw asyncpg (count(*) of the run, nothing else)"


@asynccontextmanager
async def _opened(
    stage: Stage, openers: Mapping[str, StoreOpener], schema: str, failures: dict[str, str]
) -> AsyncGenerator[dict[str, StoreClient]]:
    """Everyone who can be opened; why the others cannot is noted."""
    async with AsyncExitStack() as stack:
        clients: dict[str, StoreClient] = {}
        for name, opener in openers.items():
            try:
                clients[name] = await stack.enter_async_context(opener(stage.url, schema))
            except Exception as error:  # noqa: BLE001 - reported, and the others go on
                failures[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
                progress(f"  {name} cannot be used: {failures[name]}")
        yield clients


def _samples(
    clients: Mapping[str, StoreClient], method: str, sample: Callable[[Any], Sample]
) -> dict[str, Sample]:
    return {
        name: sample(call)
        for name, client in clients.items()
        if (call := getattr(client, method)) is not None
    }


def _any_id(stage: Stage, call: Callable[[str], Awaitable[Any]]) -> Callable[[], Awaitable[Any]]:
    most = stage.scale.rows - 1
    return lambda: call(stored_id(random.randint(0, most)))


def _of_a_run(run_id: str, call: Callable[[str], Awaitable[Any]]) -> Sample:
    return repeated(partial(call, run_id), 1)


def _bulk_sample(number: int, call: Callable[..., Awaitable[Any]]) -> Sample:
    async def sample() -> Taken:
        given = fresh_results(number)
        rows = [one.field_values() for one in given]
        clock = Clock()
        await call(given, rows)
        return clock.read()

    return sample


def _status_sample(times: int, call: Callable[[str, RunStatus], Awaitable[Any]]) -> Sample:
    def change() -> Awaitable[Any]:
        return call(f"run-{random.randrange(RUNS):06}", random.choice(tuple(RunStatus)))

    return repeated(change, times)


async def measurements(
    stage: Stage, peers: Mapping[str, StoreOpener], report: Report
) -> AsyncGenerator[Outcome | Figure]:
    """Measure one thing after the other."""
    report.facts.update(await stage.facts())
    report.facts["results stored"] = f"{stage.scale.rows:,}"
    scale = stage.scale
    rounds, some_rounds, few_rounds = (
        scale.rounds,
        max(2, scale.rounds // 4),
        max(min(scale.rounds, 5), scale.rounds // 6),
    )
    openers: dict[str, StoreOpener] = {LIBRARY: stage.library, **DRIVERS, **peers}
    async with _opened(stage, openers, SMALL, report.failures) as clients:
        one_by_one = partial(repeated, times=scale.calls)
        yield await measure(
            Operation(
                "get_by_id, one after the other",
                HELD,
                _samples(clients, "get_by_id", lambda call: one_by_one(_any_id(stage, call))),
                (Target(1.4, HELD), Target(1 / 5, ADVANCED_ALCHEMY)),
            ),
            rounds,
        )
        pooled = {name: client for name, client in clients.items() if client.has_pool}
        times = max(1, scale.calls // 4)
        yield await measure(
            Operation(
                f"get_by_id, {CALLERS} callers at once",
                POOL_WITHOUT_RESET,
                _samples(
                    pooled,
                    "get_by_id",
                    lambda call: at_once(_any_id(stage, call), CALLERS, times),
                ),
                (Target(0.45, POOL_WITHOUT_RESET), Target(1 / 15, ADVANCED_ALCHEMY)),
            ),
            rounds,
        )
        for run, number in ((RUN, RESULTS_OF_A_RUN), (BIG_RUN, scale.big_run)):
            yield await measure(
                Operation(
                    f"get_by_run, {number:,} results",
                    BARE,
                    _samples(
                        clients,
                        "get_by_run",
                        partial(_of_a_run, run),
                    ),
                    (Target(1.8, BARE), Target(1 / 3.5, ADVANCED_ALCHEMY)),
                ),
                some_rounds if number <= _QUICKLY_DONE else few_rounds,
            )
        yield await _pass_rate(stage, clients, rounds)
        for waits in (True, False):
            # What the disk takes is the same for all, and hides what everyone adds.
            await stage.wait_for_disk(waits=waits)
            suffix = "" if waits else ", without waiting for the disk"
            calls = max(1, scale.calls // 2) if waits else scale.calls
            yield await measure(
                Operation(
                    f"update_status{suffix}",
                    BARE,
                    _samples(clients, "update_status", partial(_status_sample, calls)),
                    (Target(1.3, BARE), Target(1 / 6, ADVANCED_ALCHEMY)),
                    partial(_vacuum, stage, "test_runs"),
                ),
                rounds,
            )
            for number in scale.bulk if waits else scale.bulk[:1]:
                yield await measure(
                    Operation(
                        f"bulk_create, {number:,} results{suffix}",
                        BARE,
                        _samples(clients, "bulk_create", partial(_bulk_sample, number)),
                        (Target(1.25, BARE), Target(1 / 4.5, ADVANCED_ALCHEMY)),
                        partial(_forget_fresh, stage),
                    ),
                    some_rounds if number <= _QUICKLY_DONE else few_rounds,
                )
        await stage.wait_for_disk(waits=True)


async def _pass_rate(stage: Stage, clients: Mapping[str, StoreClient], rounds: int) -> Outcome:
    calls = stage.scale.calls
    async with connected(stage.url) as connection:
        samples = _samples(clients, "pass_rate", lambda call: repeated(lambda: call(RUN), calls))
        samples[SELECT_ONE] = repeated(lambda: connection.fetchval("SELECT 1"), calls)
        counted = f"SELECT count(*) FROM {SMALL}.test_results WHERE run_id = $1"
        samples[_COUNT_ALONE] = repeated(lambda: connection.fetchval(counted, RUN), calls)
        return await measure(
            Operation(
                f"calculate_pass_rate, {RESULTS_OF_A_RUN:,} results",
                SELECT_ONE,
                samples,
                (Target(2.5, SELECT_ONE),),
            ),
            rounds,
        )


async def _vacuum(stage: Stage, table: str) -> None:
    async with connected(stage.url) as connection:
        await connection.execute(f"VACUUM {SMALL}.{table}")


async def _forget_fresh(stage: Stage) -> None:
    async with connected(stage.url) as connection:
        await connection.execute("SET session_replication_role = replica")  # no audit trail
        await connection.execute(f"DELETE FROM {SMALL}.test_results WHERE run_id = '{FRESH_RUN}'")
        await connection.execute(f"VACUUM {SMALL}.test_results")
