"""Tortoise ORM."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, ClassVar

from tortoise import fields
from tortoise.context import TortoiseContext
from tortoise.models import Model
from tortoise.transactions import in_transaction

from benchmarks.clients import StoreClient, StoreClients, Values
from benchmarks.postgres_drivers import POOL_SIZE
from test_coordinator_data_adapter.models import (
    AssertionType,
    ResultStatus,
    RunStatus,
    TestResult,
)


class ResultRow(Model):
    """A test result."""

    result_id = fields.CharField(max_length=255, primary_key=True)
    run_id = fields.CharField(max_length=255)
    assertion_type = fields.CharEnumField(AssertionType)
    expected_value = fields.TextField()
    actual_value = fields.TextField()
    status = fields.CharEnumField(ResultStatus)
    verification_time = fields.DatetimeField()
    error_details = fields.TextField(null=True)
    correlation_id = fields.CharField(max_length=255, null=True)
    created_at = fields.DatetimeField()
    name = fields.TextField(null=True)
    phase = fields.TextField(null=True)

    class Meta:
        """Where it is."""

        table: ClassVar[str] = "test_results"


class RunRow(Model):
    """A test run."""

    run_id = fields.CharField(max_length=255, primary_key=True)
    scenario_id = fields.CharField(max_length=255)
    status = fields.CharEnumField(RunStatus)
    started_at = fields.DatetimeField(null=True)
    completed_at = fields.DatetimeField(null=True)
    duration_ms = fields.BigIntField(null=True)
    configuration_snapshot: Any = fields.JSONField()
    test_environment = fields.TextField(null=True)
    exit_code = fields.BigIntField(null=True)
    error_message = fields.TextField(null=True)
    created_at = fields.DatetimeField()
    updated_at = fields.DatetimeField()

    class Meta:
        """Where it is."""

        table: ClassVar[str] = "test_runs"


async def _get_by_id(result_id: str) -> Any:
    return await ResultRow.get(result_id=result_id)


async def _get_by_run(run_id: str) -> Sequence[Any]:
    return await ResultRow.filter(run_id=run_id).order_by("created_at", "result_id")


async def _bulk_create(given: list[TestResult], _: list[Values]) -> Any:
    async with in_transaction():
        await ResultRow.bulk_create([ResultRow(**one.__dict__) for one in given])


async def _update_status(run_id: str, status: RunStatus) -> Any:
    # There is no RETURNING: what it tells has to be read first.
    run = await RunRow.get(run_id=run_id)
    run.status = status
    run.updated_at = datetime.now(UTC)
    await run.save(update_fields=["status", "updated_at"])
    return run


@asynccontextmanager
async def tortoise(url: str, schema: str) -> StoreClients:
    """Tortoise ORM on its asyncpg pool."""
    address = url.replace("postgresql://", "asyncpg://")
    async with TortoiseContext() as context:
        await context.init(
            db_url=f"{address}?minsize={POOL_SIZE}&maxsize={POOL_SIZE}&schema={schema}",
            modules={"models": [__name__]},
            use_tz=True,
            timezone="UTC",
        )
        yield StoreClient(
            get_by_id=_get_by_id,
            get_by_run=_get_by_run,
            bulk_create=_bulk_create,
            update_status=_update_status,
            has_pool=True,
        )
