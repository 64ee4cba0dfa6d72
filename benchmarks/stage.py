"""A server with schemas full of results, and the library on it."""

# ruff: noqa: S608 - made of our own names

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import asyncpg

from benchmarks.clients import StoreClient, StoreClients
from benchmarks.measuring import progress
from benchmarks.scale import Scale
from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
from test_coordinator_data_adapter.adapters.postgres.migration import migrate
from test_coordinator_data_adapter.models import AssertionType, ResultStatus, TestResult
from test_coordinator_data_adapter.observability import Observer

SMALL, LARGE = "small", "large"
AUDITED, UNAUDITED, UNAUDITED_TOO = "audited", "unaudited", "unaudited_too"
BARELY_AUDITED = "barely_audited"
LEAST_AUDITED = "least_audited"
RUNS = 1_000
RUN = "run-000007"
RESULTS_OF_A_RUN = 1_000
BIG_RUN = "run-big"
FRESH_RUN = "run-fresh"
STORED_SINCE = datetime(2026, 1, 1, tzinfo=UTC)
BETWEEN_RESULTS = timedelta(milliseconds=1)
SERVER_SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "wal_level": "replica",
    "max_wal_size": "4GB",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "512MB",
    "dynamic_shared_memory_type": "posix",
    "jit": "on",
    "autovacuum": "off",  # it would fall on whoever happens to be measured; we vacuum in between
}


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Any]:
    """A connection of the driver's own, for as long as the block lasts."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


class Stage:
    """A server with schemas of the same shape, one of which holds very many results."""

    def __init__(self, url: str, redis_url: str, scale: Scale) -> None:
        """Know where it is.

        Args:
            url: of PostgreSQL, as its superuser, without a driver's name.
            redis_url: of a Redis, which the factory is given besides.
            scale: how much of everything.
        """
        self.url = url
        self.redis_url = redis_url
        self.scale = scale

    async def prepare(self, schema: str) -> None:
        """Make a schema and fill it, in the server itself."""
        rows = self.scale.many_rows if schema == LARGE else self.scale.rows
        await migrate(self.url.replace("postgresql://", "postgresql+asyncpg://"), schema)
        began = time.perf_counter()
        await self._fill(schema, rows)
        progress(f"  {rows:,} results in {time.perf_counter() - began:.0f} s")

    async def facts(self) -> dict[str, str]:
        """What the server is and how it is set."""
        async with connected(self.url) as connection:
            version = await connection.fetchval("SHOW server_version")
        settings = ", ".join(f"{name}={value}" for name, value in SERVER_SETTINGS.items())
        return {
            "server": f"PostgreSQL {version} over TCP on loopback; {settings},"
            " synchronous_commit=on unless said otherwise",
            "rounds": str(self.scale.rounds),
        }

    async def wait_for_disk(self, *, waits: bool) -> None:
        """Have every commit wait until it is on the disk, or none."""
        async with connected(self.url) as connection:
            setting = "on" if waits else "off"
            # The server hands it to every session, those that are open included.
            await connection.execute(f"ALTER SYSTEM SET synchronous_commit = {setting}")
            await connection.execute("SELECT pg_reload_conf()")
            while await connection.fetchval("SHOW synchronous_commit") != setting:
                await connection.execute("SELECT pg_sleep(0.01)")

    async def _fill(self, schema: str, rows: int) -> None:
        async with connected(self.url) as connection:
            # No audit trail of this: it is nobody's work.
            await connection.execute("SET session_replication_role = replica")
            # Indexes that are built afterwards take a fraction of the time.
            indexes = await connection.fetch(
                "SELECT indexname, indexdef FROM pg_indexes"
                " WHERE schemaname = $1 AND tablename = 'test_results'"
                " AND indexname NOT LIKE '%pkey' AND indexname NOT LIKE 'pk%'",
                schema,
            )
            for index in indexes:
                await connection.execute(f"DROP INDEX {schema}.{index['indexname']}")
            for start in range(0, rows, 1_000_000):
                upto = min(rows, start + 1_000_000)
                await connection.execute(
                    _results(
                        schema,
                        f"generate_series({start}, {upto - 1})",
                        run="'run-' || lpad((n / 1000)::text, 6, '0')",
                    )
                )
            await connection.execute(
                _results(
                    schema,
                    f"generate_series(900000000, {900000000 + self.scale.big_run - 1})",
                    run=f"'{BIG_RUN}'",
                )
            )
            for index in indexes:
                await connection.execute(index["indexdef"])
            await connection.execute(
                f"INSERT INTO {schema}.test_runs (run_id, scenario_id, status,"
                " configuration_snapshot, test_environment, created_at, updated_at)"
                " SELECT 'run-' || lpad(n::text, 6, '0'), 'scenario-' || n % 20, 'pending',"
                """ '{"timeout": 30, "services": ["orders", "payments"], "retries": {"max": 3}}',"""
                f" 'staging', now(), now() FROM generate_series(0, {RUNS - 1}) AS n"
            )
            for table in ("test_results", "test_runs"):
                await connection.execute(f"VACUUM (FREEZE, ANALYZE) {schema}.{table}")
                # Or scans of an index alone would visit the table.
                seen = await connection.fetchval(
                    "SELECT relallvisible >= 0.99 * relpages FROM pg_class"
                    " WHERE oid = $1::text::regclass",
                    f"{schema}.{table}",
                )
                if not seen:
                    raise RuntimeError(f"{schema}.{table} is not seen to be visible to everybody")
            await connection.execute("CHECKPOINT")

    def factory(self, schema: str, observers: Sequence[Observer] = ()) -> AdapterFactory:
        """The library as its users open it, with the settings it comes with."""
        return AdapterFactory(
            AdapterConfig(
                postgres_url=self.url.replace("postgresql://", "postgresql+asyncpg://"),
                postgres_schema=schema,
                redis_url=self.redis_url,
                startup_strict=True,
                log_level="ERROR",
            ),
            observers=observers,
        )

    @asynccontextmanager
    async def library(self, _: str, schema: str) -> StoreClients:
        """The library's own repositories."""
        async with self.factory(schema) as factory:
            results = factory.get_test_results_repository()
            runs = factory.get_test_runs_repository()
            if "Stub" in f"{type(results).__name__}{type(runs).__name__}":
                raise RuntimeError("PostgreSQL was not used")
            yield StoreClient(
                get_by_id=results.get_by_id,
                get_by_run=results.get_by_run,
                bulk_create=lambda given, _: results.bulk_create(given),
                update_status=runs.update_status,
                pass_rate=results.calculate_pass_rate,
                has_pool=True,
            )


def _results(schema: str, numbers: str, *, run: str) -> str:
    return f"""
        INSERT INTO {schema}.test_results
            (result_id, run_id, assertion_type, expected_value, actual_value, status,
             verification_time, error_details, correlation_id, created_at, name, phase)
        SELECT 'result-' || lpad(n::text, 9, '0'),
               {run},
               (ARRAY{[kind.value for kind in AssertionType]})[1 + n % {len(AssertionType)}],
               '250',
               (n % 500)::text,
               (ARRAY{[status.value for status in ResultStatus]})[1 + n % {len(ResultStatus)}],
               timestamptz '{STORED_SINCE.isoformat()}' + n * interval '1 millisecond',
               CASE WHEN n % {len(ResultStatus)} = 1 THEN 'took longer than was allowed' END,
               'correlation-' || n / 10,
               timestamptz '{STORED_SINCE.isoformat()}' + n * interval '1 millisecond',
               'latency of the checkout',
               'during'
        FROM {numbers} AS n
    """


def stored_id(number: int) -> str:
    """The id of a result that is there."""
    return f"result-{number:09}"


_fresh = count()
_kinds = tuple(AssertionType)
_statuses = tuple(ResultStatus)


def fresh_results(number: int) -> list[TestResult]:
    """Results that are not there yet."""
    began = STORED_SINCE + timedelta(days=365)
    return [
        TestResult(
            result_id=f"fresh-{next(_fresh):09}",
            run_id=FRESH_RUN,
            assertion_type=_kinds[place % len(_kinds)],
            expected_value="250",
            actual_value=str(place % 500),
            status=_statuses[place % len(_statuses)],
            verification_time=began + timedelta(milliseconds=place),
            correlation_id=f"correlation-{place // 10}",
            created_at=began + timedelta(milliseconds=place),
            name="latency of the checkout",
            phase="during",
        )
        for place in range(number)
    ]
