"""What the audit trail costs: mutations with its triggers, and with them disabled.

    python benchmarks/audit.py [POSTGRES_URL]

Needs a superuser's URL of a server with ``synchronous_commit`` on, or starts a private server.
Batches with and without the trail take turns, so that whatever else the machine does meets both;
each ratio is the median of the ratios of the pairs.
"""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from statistics import median
from tempfile import TemporaryDirectory

import asyncpg

from test_coordinator_data_adapter.adapters.postgres import (
    PostgresTestResultsRepository,
    PostgresTestRunsRepository,
)
from test_coordinator_data_adapter.adapters.postgres.database import Database
from test_coordinator_data_adapter.adapters.postgres.migration import migrate
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.interfaces.audit import audit_context
from test_coordinator_data_adapter.models import RunStatus
from test_coordinator_data_adapter.models.values import MAX_MOMENT
from test_coordinator_data_adapter.testing.builders import a_test_result, a_test_run

SCHEMA = "audited"
TABLES = ("test_runs", "test_results")
PAIRS = 25
AT_ONCE = 40
ROWS = 10_000

Work = Callable[[], Awaitable[None]]


async def _timed(work: Work) -> float:
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def _compare(
    name: str, owner: asyncpg.Connection, work: Work, between: Work, pairs: int
) -> None:
    ratios: list[float] = []
    spent: dict[str, list[float]] = {"ENABLE": [], "DISABLE": []}
    for pair in range(pairs + 1):
        order = ("ENABLE", "DISABLE") if pair % 2 else ("DISABLE", "ENABLE")
        took: dict[str, float] = {}
        for does in order:
            for table in TABLES:
                await owner.execute(f"ALTER TABLE {SCHEMA}.{table} {does} TRIGGER USER")
            await between()
            took[does] = await _timed(work)
        if pair:  # the first pair warms up
            ratios.append(took["ENABLE"] / took["DISABLE"])
            for does, seconds in took.items():
                spent[does].append(seconds)
    with_, without = (median(spent[does]) * 1000 for does in ("ENABLE", "DISABLE"))
    print(f"{name:<28}{without:10.1f} ms{with_:10.1f} ms{median(ratios):8.2f}")


async def _measure(url: str) -> None:  # noqa: C901 - the operations, one after the other
    await migrate(url, SCHEMA)
    owner = await asyncpg.connect(url.replace("+asyncpg", ""))
    database = Database(DatabaseSettings(url=url, schema=SCHEMA, audit_actor="benchmark"))
    runs = PostgresTestRunsRepository(database)
    results = PostgresTestResultsRepository(database)
    held: list[str] = []

    async def create() -> None:
        for _ in range(AT_ONCE):
            run = await runs.create(a_test_run(run_id=str(uuid.uuid4())))
            held.append(run.run_id)

    async def change() -> None:
        for run_id in held[-AT_ONCE:]:
            await runs.update_status(run_id, RunStatus.RUNNING)

    async def delete() -> None:
        for run_id in held[-AT_ONCE:]:
            await runs.delete(run_id)

    bulk = [a_test_result() for _ in range(ROWS)]

    async def bulk_create() -> None:
        await results.bulk_create(bulk)

    async def prune() -> None:
        await results.prune(MAX_MOMENT, batch_size=5000)

    async def nothing() -> None:
        pass

    async def emptied() -> None:
        await owner.execute(f"DELETE FROM {SCHEMA}.test_results")  # noqa: S608 - a constant
        await owner.execute(f"VACUUM {SCHEMA}.test_results")
        await owner.execute("CHECKPOINT")

    async def filled() -> None:
        await emptied()
        await results.bulk_create(bulk)

    version = await owner.fetchval("SHOW server_version")
    commit = await owner.fetchval("SHOW synchronous_commit")
    print(f"PostgreSQL {version.split()[0]}, synchronous_commit {commit}")
    print(f"{'':<28}{'without':>13}{'with':>13}{'ratio':>8}")
    with audit_context(correlation_id="c-1", reason="to see what it costs"):
        await _compare(f"create, {AT_ONCE} times", owner, create, nothing, PAIRS)
        await _compare(f"update_status, {AT_ONCE} times", owner, change, create, PAIRS)
        await _compare(f"delete, {AT_ONCE} times", owner, delete, create, PAIRS)
        await _compare(f"bulk_create of {ROWS:,}", owner, bulk_create, emptied, PAIRS // 2)
        await _compare(f"prune of {ROWS:,}", owner, prune, filled, PAIRS // 2)
    await owner.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
    await owner.close()
    for repository in (runs, results):
        await repository.aclose()
    await database.aclose()


async def _main() -> None:
    if len(sys.argv) > 1:
        await _measure(sys.argv[1])
        return
    from test_coordinator_data_adapter.embedded import EmbeddedPostgres

    with TemporaryDirectory() as folder:
        async with EmbeddedPostgres(folder) as server:
            await _measure(server.owner_url)


if __name__ == "__main__":
    asyncio.run(_main())
