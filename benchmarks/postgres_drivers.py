"""The bare drivers: asyncpg on a held connection and on its own pool, psycopg 3."""

# ruff: noqa: S608 - made of our own names; every value travels as a parameter

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from functools import partial
from typing import Any

import asyncpg
import orjson

from benchmarks.clients import StoreClient, StoreClients, StoreOpener, Values
from test_coordinator_data_adapter.models import RunStatus, TestResult, TestRun

HELD = "raw asyncpg"
BARE = "raw asyncpg (bare records)"
POOL = "asyncpg pool"
POOL_WITHOUT_RESET = "asyncpg pool without reset"
PSYCOPG = "psycopg 3 pool"

COLUMNS = tuple(TestResult.model_fields)
_RESULT = ", ".join(COLUMNS)
_RUN = ", ".join(TestRun.model_fields)
POOL_SIZE = 10

_Connection = Any  # asyncpg's own, or its pool's stand-in for it
_Borrow = Callable[[], AbstractAsyncContextManager[_Connection]]


async def _speak_json(connection: _Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: orjson.dumps(value).decode(),
        decoder=orjson.loads,
    )


def _driver_client(borrow: _Borrow, schema: str, *, models: bool, has_pool: bool) -> StoreClient:
    result: Callable[[Any], Any] = (lambda row: TestResult(**row)) if models else lambda row: row
    run: Callable[[Any], Any] = (lambda row: TestRun(**row)) if models else lambda row: row

    async def get_by_id(result_id: str) -> Any:
        async with borrow() as connection:
            row = await connection.fetchrow(
                f"SELECT {_RESULT} FROM {schema}.test_results WHERE result_id = $1", result_id
            )
        return result(row)

    async def get_by_run(run_id: str) -> Sequence[Any]:
        async with borrow() as connection:
            rows = await connection.fetch(
                f"SELECT {_RESULT} FROM {schema}.test_results WHERE run_id = $1"
                " ORDER BY created_at, result_id",
                run_id,
            )
        return [result(row) for row in rows] if models else rows

    async def bulk_create(given: list[TestResult], rows: list[Values]) -> Any:
        # Bare: the rows are ready. With models: they are checked once more, as is our duty.
        if models:
            rows = [TestResult.model_validate(one).field_values() for one in given]
        async with borrow() as connection:
            await connection.copy_records_to_table(
                "test_results", schema_name=schema, records=rows, columns=COLUMNS
            )

    async def update_status(run_id: str, status: RunStatus) -> Any:
        async with borrow() as connection:
            row = await connection.fetchrow(
                f"UPDATE {schema}.test_runs SET status = $2, updated_at = statement_timestamp()"
                f" WHERE run_id = $1 RETURNING {_RUN}",
                run_id,
                status,
            )
        return run(row)

    async def pass_rate(run_id: str) -> float:
        async with borrow() as connection:
            passed, counted = await connection.fetchrow(
                "SELECT count(*) FILTER (WHERE status = 'passed'),"
                " count(*) FILTER (WHERE status <> 'skipped')"
                f" FROM {schema}.test_results WHERE run_id = $1",
                run_id,
            )
        return float(passed / counted) if counted else 0.0

    return StoreClient(
        get_by_id=get_by_id,
        get_by_run=get_by_run,
        bulk_create=bulk_create,
        update_status=update_status,
        pass_rate=pass_rate,
        has_pool=has_pool,
    )


@asynccontextmanager
async def _held(url: str, schema: str, *, models: bool) -> StoreClients:
    connection = await asyncpg.connect(url)
    try:
        await _speak_json(connection)
        yield _driver_client(lambda: nullcontext(connection), schema, models=models, has_pool=False)
    finally:
        await connection.close()


async def _no_reset(_: _Connection) -> None:
    """Leave the connection as it is."""


@asynccontextmanager
async def _pooled(
    url: str, schema: str, *, reset: Callable[[_Connection], Awaitable[None]] | None
) -> StoreClients:
    pool = await asyncpg.create_pool(
        url, min_size=POOL_SIZE, max_size=POOL_SIZE, init=_speak_json, reset=reset
    )
    try:
        yield _driver_client(pool.acquire, schema, models=True, has_pool=True)
    finally:
        await pool.close()


@asynccontextmanager
async def psycopg_pool(url: str, schema: str) -> StoreClients:
    """The driver psycopg 3 on its own pool, rows made into models by its own row factory."""
    from psycopg.rows import class_row, tuple_row
    from psycopg_pool import AsyncConnectionPool

    results, runs = class_row(TestResult), class_row(TestRun)
    pool = AsyncConnectionPool(
        url, min_size=POOL_SIZE, max_size=POOL_SIZE, open=False, kwargs={"autocommit": True}
    )

    async def fetch(row_factory: Any, sql: str, parameters: Sequence[object]) -> list[Any]:
        async with (
            pool.connection() as connection,
            connection.cursor(row_factory=row_factory) as cursor,
        ):
            await cursor.execute(sql, parameters)
            return list(await cursor.fetchall())

    async def get_by_id(result_id: str) -> Any:
        sql = f"SELECT {_RESULT} FROM {schema}.test_results WHERE result_id = %s"
        return (await fetch(results, sql, (result_id,)))[0]

    async def get_by_run(run_id: str) -> Sequence[Any]:
        sql = (
            f"SELECT {_RESULT} FROM {schema}.test_results WHERE run_id = %s"
            " ORDER BY created_at, result_id"
        )
        return await fetch(results, sql, (run_id,))

    async def bulk_create(given: list[TestResult], _: list[Values]) -> Any:
        async with (
            pool.connection() as connection,
            connection.cursor() as cursor,
            cursor.copy(f"COPY {schema}.test_results ({_RESULT}) FROM STDIN") as copy,
        ):
            for one in given:
                await copy.write_row(TestResult.model_validate(one).field_values())

    async def update_status(run_id: str, status: RunStatus) -> Any:
        sql = (
            f"UPDATE {schema}.test_runs SET status = %s, updated_at = statement_timestamp()"
            f" WHERE run_id = %s RETURNING {_RUN}"
        )
        return (await fetch(runs, sql, (status.value, run_id)))[0]

    async def pass_rate(run_id: str) -> float:
        sql = (
            "SELECT count(*) FILTER (WHERE status = 'passed'),"
            " count(*) FILTER (WHERE status <> 'skipped')"
            f" FROM {schema}.test_results WHERE run_id = %s"
        )
        ((passed, counted),) = await fetch(tuple_row, sql, (run_id,))
        return float(passed / counted) if counted else 0.0

    async with pool:
        yield StoreClient(
            get_by_id=get_by_id,
            get_by_run=get_by_run,
            bulk_create=bulk_create,
            update_status=update_status,
            pass_rate=pass_rate,
            has_pool=True,
        )


DRIVERS: dict[str, StoreOpener] = {
    HELD: partial(_held, models=True),
    BARE: partial(_held, models=False),
    POOL: partial(_pooled, reset=None),
    POOL_WITHOUT_RESET: partial(_pooled, reset=_no_reset),
}
"""These need nothing that the library does not need."""
