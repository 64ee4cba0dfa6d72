"""SQLAlchemy: its Core, its ORM, and advanced-alchemy's repositories over that."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import DateTime, Enum, MetaData, Text, case, func, insert, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.clients import StoreClient, StoreClients, Values
from benchmarks.postgres_drivers import POOL_SIZE
from test_coordinator_data_adapter.adapters.postgres import tables
from test_coordinator_data_adapter.models import (
    AssertionType,
    ResultStatus,
    RunStatus,
    TestResult,
    TestRun,
)

_Moment = DateTime(timezone=True)


def _member(kind: type[StrEnum]) -> Enum:
    return Enum(
        kind,
        native_enum=False,
        create_constraint=False,
        values_callable=lambda members: [member.value for member in members],
    )


class _Mapped(DeclarativeBase):
    metadata = MetaData()


class ResultRow(_Mapped):
    """A test result, as an object of the ORM."""

    __tablename__ = "test_results"

    result_id: Mapped[str] = mapped_column(Text, primary_key=True)
    run_id: Mapped[str] = mapped_column(Text)
    assertion_type: Mapped[AssertionType] = mapped_column(_member(AssertionType))
    expected_value: Mapped[str] = mapped_column(Text)
    actual_value: Mapped[str] = mapped_column(Text)
    status: Mapped[ResultStatus] = mapped_column(_member(ResultStatus))
    verification_time: Mapped[datetime] = mapped_column(_Moment)
    error_details: Mapped[str | None] = mapped_column(Text)
    correlation_id: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(_Moment)
    name: Mapped[str | None] = mapped_column(Text)
    phase: Mapped[str | None] = mapped_column(Text)


class RunRow(_Mapped):
    """A test run, as an object of the ORM."""

    __tablename__ = "test_runs"

    run_id: Mapped[str] = mapped_column(Text, primary_key=True)
    scenario_id: Mapped[str] = mapped_column(Text)
    status: Mapped[RunStatus] = mapped_column(_member(RunStatus))
    started_at: Mapped[datetime | None] = mapped_column(_Moment)
    completed_at: Mapped[datetime | None] = mapped_column(_Moment)
    duration_ms: Mapped[int | None]
    configuration_snapshot: Mapped[dict[str, Any]] = mapped_column(JSONB)
    test_environment: Mapped[str | None] = mapped_column(Text)
    exit_code: Mapped[int | None]
    error_message: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(_Moment)
    updated_at: Mapped[datetime] = mapped_column(_Moment)


@asynccontextmanager
async def _engine(url: str, schema: str) -> AsyncGenerator[AsyncEngine]:
    engine = create_async_engine(
        url.replace("postgresql://", "postgresql+asyncpg://"),
        pool_size=POOL_SIZE,
        max_overflow=0,
        connect_args={"server_settings": {"search_path": schema}},
    )
    try:
        yield engine
    finally:
        await engine.dispose()


def _rate(status: Any) -> tuple[Any, Any]:
    return (
        func.count(case((status == ResultStatus.PASSED.value, 1))),
        func.count(case((status != ResultStatus.SKIPPED.value, 1))),
    )


@asynccontextmanager
async def core(url: str, schema: str) -> StoreClients:
    """SQLAlchemy Core, rows made into the library's models."""
    results, runs = tables.test_results, tables.test_runs
    fields = tables.fields_of(results).values()
    async with _engine(url, schema) as engine:

        async def get_by_id(result_id: str) -> Any:
            async with engine.connect() as connection:
                found = await connection.execute(
                    select(*fields).where(results.c.result_id == result_id)
                )
                return TestResult(**found.mappings().one())

        async def get_by_run(run_id: str) -> Sequence[Any]:
            async with engine.connect() as connection:
                found = await connection.execute(
                    select(*fields)
                    .where(results.c.run_id == run_id)
                    .order_by(results.c.created_at, results.c.result_id)
                )
                return [TestResult(**row) for row in found.mappings()]

        async def bulk_create(given: list[TestResult], _: list[Values]) -> Any:
            checked = [TestResult.model_validate(one).__dict__ for one in given]
            async with engine.begin() as connection:
                await connection.execute(insert(results), checked)

        async def update_status(run_id: str, status: RunStatus) -> Any:
            async with engine.begin() as connection:
                found = await connection.execute(
                    update(runs)
                    .where(runs.c.run_id == run_id)
                    .values(status=status, updated_at=func.statement_timestamp())
                    .returning(runs)
                )
                row = found.mappings().one()
            return TestRun(**row)

        async def pass_rate(run_id: str) -> float:
            async with engine.connect() as connection:
                found = await connection.execute(
                    select(*_rate(results.c.status)).where(results.c.run_id == run_id)
                )
                passed, counted = found.one()
                return float(passed / counted) if counted else 0.0

        yield StoreClient(
            get_by_id=get_by_id,
            get_by_run=get_by_run,
            bulk_create=bulk_create,
            update_status=update_status,
            pass_rate=pass_rate,
            has_pool=True,
        )


@asynccontextmanager
async def orm(url: str, schema: str) -> StoreClients:
    """SQLAlchemy's ORM, a session for every call."""
    async with _engine(url, schema) as engine:
        make_session = async_sessionmaker(engine, expire_on_commit=False)

        async def get_by_id(result_id: str) -> Any:
            async with make_session() as session:
                return await session.get(ResultRow, result_id)

        async def get_by_run(run_id: str) -> Sequence[Any]:
            async with make_session() as session:
                found = await session.scalars(
                    select(ResultRow)
                    .where(ResultRow.run_id == run_id)
                    .order_by(ResultRow.created_at, ResultRow.result_id)
                )
                return found.all()

        async def bulk_create(given: list[TestResult], _: list[Values]) -> Any:
            async with make_session() as session, session.begin():
                session.add_all([ResultRow(**one.__dict__) for one in given])

        async def update_status(run_id: str, status: RunStatus) -> Any:
            async with make_session() as session, session.begin():
                return await session.scalar(
                    update(RunRow)
                    .where(RunRow.run_id == run_id)
                    .values(status=status, updated_at=func.statement_timestamp())
                    .returning(RunRow)
                )

        async def pass_rate(run_id: str) -> float:
            async with make_session() as session:
                found = await session.execute(
                    select(*_rate(ResultRow.status)).where(ResultRow.run_id == run_id)
                )
                passed, counted = found.one()
                return float(passed / counted) if counted else 0.0

        yield StoreClient(
            get_by_id=get_by_id,
            get_by_run=get_by_run,
            bulk_create=bulk_create,
            update_status=update_status,
            pass_rate=pass_rate,
            has_pool=True,
        )


@asynccontextmanager
async def advanced_alchemy(url: str, schema: str) -> StoreClients:
    """advanced-alchemy's repositories, a session for every call, as its documentation shows."""
    from advanced_alchemy.repository import SQLAlchemyAsyncRepository

    class Results(SQLAlchemyAsyncRepository[ResultRow]):
        model_type = ResultRow
        id_attribute = "result_id"

    class Runs(SQLAlchemyAsyncRepository[RunRow]):
        model_type = RunRow
        id_attribute = "run_id"

    async with _engine(url, schema) as engine:
        make_session = async_sessionmaker(engine, expire_on_commit=False)

        async def get_by_id(result_id: str) -> Any:
            async with make_session() as session:
                return await Results(session=session).get(result_id)

        async def get_by_run(run_id: str) -> Sequence[Any]:
            async with make_session() as session:
                return await Results(session=session).list(
                    run_id=run_id, order_by=[("created_at", False), ("result_id", False)]
                )

        async def bulk_create(given: list[TestResult], _: list[Values]) -> Any:
            async with make_session() as session:
                await Results(session=session, auto_commit=True).add_many(
                    [ResultRow(**one.__dict__) for one in given]
                )

        async def update_status(run_id: str, status: RunStatus) -> Any:
            async with make_session() as session:
                return await Runs(session=session, auto_commit=True).update(
                    RunRow(run_id=run_id, status=status, updated_at=datetime.now(UTC))
                )

        yield StoreClient(
            get_by_id=get_by_id,
            get_by_run=get_by_run,
            bulk_create=bulk_create,
            update_status=update_status,
            has_pool=True,
        )
