"""Piccolo."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from piccolo.columns import JSONB, BigInt, Text, Timestamptz
from piccolo.engine.postgres import PostgresEngine
from piccolo.table import Table

from benchmarks.clients import StoreClient, StoreClients, Values
from benchmarks.postgres_drivers import POOL_SIZE
from test_coordinator_data_adapter.models import (
    AssertionType,
    ResultStatus,
    RunStatus,
    TestResult,
)

# asyncpg sends at most 32,767 parameters with a statement, and there is one for each value.
_TOGETHER = 2_500


@asynccontextmanager
async def piccolo(url: str, schema: str) -> StoreClients:
    """Piccolo on its asyncpg pool; it hands back enumerations as plain text."""
    database = PostgresEngine({"dsn": url})

    class ResultRow(Table, tablename="test_results", db=database, schema=schema):
        result_id = Text(primary_key=True)
        run_id = Text()
        assertion_type = Text(choices=AssertionType)
        expected_value = Text()
        actual_value = Text()
        status = Text(choices=ResultStatus)
        verification_time = Timestamptz()
        error_details = Text(null=True)
        correlation_id = Text(null=True)
        created_at = Timestamptz()
        name = Text(null=True)
        phase = Text(null=True)

    class RunRow(Table, tablename="test_runs", db=database, schema=schema):
        run_id = Text(primary_key=True)
        scenario_id = Text()
        status = Text(choices=RunStatus)
        started_at = Timestamptz(null=True)
        completed_at = Timestamptz(null=True)
        duration_ms = BigInt(null=True)
        configuration_snapshot = JSONB()
        test_environment = Text(null=True)
        exit_code = BigInt(null=True)
        error_message = Text(null=True)
        created_at = Timestamptz()
        updated_at = Timestamptz()

    async def get_by_id(result_id: str) -> Any:
        return await ResultRow.objects().get(ResultRow.result_id == result_id)

    async def get_by_run(run_id: str) -> Sequence[Any]:
        return await (
            ResultRow.objects()
            .where(ResultRow.run_id == run_id)
            .order_by(ResultRow.created_at)
            .order_by(ResultRow.result_id)
        )

    async def bulk_create(given: list[TestResult], _: list[Values]) -> Any:
        async with database.transaction():
            for start in range(0, len(given), _TOGETHER):
                some = given[start : start + _TOGETHER]
                await ResultRow.insert(*(ResultRow(**one.__dict__) for one in some))

    async def update_status(run_id: str, status: RunStatus) -> Any:
        (row,) = await (
            RunRow.update({RunRow.status: status.value, RunRow.updated_at: datetime.now(UTC)})
            .where(RunRow.run_id == run_id)
            .returning(*RunRow.all_columns())
        )
        return row

    await database.start_connection_pool(min_size=POOL_SIZE, max_size=POOL_SIZE)
    try:
        yield StoreClient(
            get_by_id=get_by_id,
            get_by_run=get_by_run,
            bulk_create=bulk_create,
            update_status=update_status,
            has_pool=True,
        )
    finally:
        await database.close_connection_pool()
