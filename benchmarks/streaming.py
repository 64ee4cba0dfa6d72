"""Stream results in a process of its own, whose memory nothing else has touched."""

# ruff: noqa: S608 - made of our own names

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import AsyncGenerator
from concurrent.futures import ProcessPoolExecutor
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from benchmarks.stage import LARGE, Stage
from test_coordinator_data_adapter.interfaces import TestResultQuery
from test_coordinator_data_adapter.models import TestResult

_LOOKED_AFTER = 1_000
_COLUMNS = ", ".join(TestResult.model_fields)


@dataclass(frozen=True)
class Streamed:
    """What it took.

    Attributes:
        rows: how many results came.
        seconds: from asking until the last of them.
        grown: bytes of memory that the process took at most beyond those it had before.
    """

    rows: int
    seconds: float
    grown: int


async def in_a_process(stage: Stage, *, library: bool, together: int | None) -> Streamed:
    """Stream as many as the stage's scale says.

    Args:
        stage: where.
        library: with the library; else with a bare cursor and the same models.
        together: rows that travel at once; None: what each comes with.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(process, _streamed, stage, library, together)


def _streamed(stage: Stage, library: bool, together: int | None) -> Streamed:  # noqa: FBT001 - sent to a process
    return asyncio.run(_stream(stage, library=library, together=together))


async def _stream(stage: Stage, *, library: bool, together: int | None) -> Streamed:
    source = _library(stage, together) if library else _cursor(stage, together)
    async with source as results, aclosing(results):
        before = most = _resident()
        rows = 0
        began = time.perf_counter()
        async for _ in results:
            rows += 1
            if rows % _LOOKED_AFTER == 0:
                most = max(most, _resident())
            if rows == stage.scale.streamed:
                break
        return Streamed(rows, time.perf_counter() - began, most - before)


@asynccontextmanager
async def _library(
    stage: Stage, together: int | None
) -> AsyncGenerator[AsyncGenerator[TestResult]]:
    async with stage.factory(LARGE) as factory:
        repository = factory.get_test_results_repository()

        async def results() -> AsyncGenerator[TestResult]:
            async for result in repository.stream(TestResultQuery(), batch_size=together):
                yield result

        # As much is imported and opened as will ever be.
        await repository.get_by_id("nobody")
        yield results()


@asynccontextmanager
async def _cursor(stage: Stage, together: int | None) -> AsyncGenerator[AsyncGenerator[TestResult]]:
    connection = await asyncpg.connect(stage.url)

    async def results() -> AsyncGenerator[TestResult]:
        async with connection.transaction(readonly=True):
            async for row in connection.cursor(
                f"SELECT {_COLUMNS} FROM {LARGE}.test_results ORDER BY created_at, result_id",
                prefetch=together,
            ):
                yield TestResult(**row)

    try:
        await connection.fetchval("SELECT 1")
        yield results()
    finally:
        await connection.close()


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
