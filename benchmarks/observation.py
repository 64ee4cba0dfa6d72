"""What observation costs a call in memory and a primary-key read.

    python benchmarks/observation.py [postgresql://user@host/database]

Reads go to the given database, where a schema of its own is made and dropped, or to a throwaway
server of the extra `embedded`. Variants take turns; each figure is the median of all rounds, and
each ratio the median of the rounds' ratios, so that what else the machine does falls on all alike;
behind them the best round, which is what a machine costs that does nothing else.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
from test_coordinator_data_adapter.adapters.postgres.migration import migrate
from test_coordinator_data_adapter.adapters.stub import StubTestResultsRepository
from test_coordinator_data_adapter.observability import Fact, Observer
from test_coordinator_data_adapter.observability.otel import OpenTelemetryObserver
from test_coordinator_data_adapter.observability.prometheus import PrometheusObserver
from test_coordinator_data_adapter.testing.builders import a_test_result
from test_coordinator_data_adapter.testing.servers import ThrowawayPostgres

Read = Callable[[str], Awaitable[object]]

# Short turns: what else the machine does lasts longer than one, and falls on all variants alike.
CALLS = 50
ROUNDS = 301


class Nothing:
    """An observer that does nothing with what it is told."""

    def notice(self, fact: Fact, /) -> None:
        """Take no note."""


def observers() -> dict[str, list[Observer]]:
    """Who looks on, by what it is called in the table; the first is the yardstick."""
    return {
        "nobody": [],
        "an observer that does nothing": [Nothing()],
        "Prometheus": [PrometheusObserver(CollectorRegistry())],
        "OpenTelemetry, SDK without exporters": [
            OpenTelemetryObserver(
                tracer_provider=TracerProvider(shutdown_on_exit=False),
                meter_provider=MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False),
            )
        ],
    }


async def timed(read: Read, id_: str, calls: int) -> float:
    """Seconds of this process's processor for one call."""
    began = time.process_time()
    for _ in range(calls):
        await read(id_)
    return (time.process_time() - began) / calls


async def waited(read: Read, id_: str, calls: int) -> float:
    """Seconds until one call is answered."""
    began = time.perf_counter()
    for _ in range(calls):
        await read(id_)
    return (time.perf_counter() - began) / calls


async def compare(
    title: str,
    reads: Mapping[str, Read],
    id_: str,
    measure: Callable[[Read, str, int], Awaitable[float]],
    calls: int,
) -> None:
    """Print a table, the first of the reads being the yardstick."""
    taken: dict[str, list[float]] = {name: [] for name in reads}
    for read in reads.values():
        await measure(read, id_, 20 * calls)
    for turn in range(ROUNDS):
        names = list(reads)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            taken[name].append(await measure(reads[name], id_, calls))
    yardstick = next(iter(taken.values()))
    print(f"\n{title}, {ROUNDS} rounds of {calls} calls: median, more, ratio; best round, ratio")
    for name, figures in taken.items():
        ratio = statistics.median(one / base for one, base in zip(figures, yardstick, strict=True))
        more = statistics.median(one - base for one, base in zip(figures, yardstick, strict=True))
        print(
            f"  {name:<38}{statistics.median(figures) * 1e6:>8.2f} us"
            f"{more * 1e6:>+8.2f} us{ratio:>8.3f}"
            f"{min(figures) * 1e6:>12.2f} us{min(figures) / min(yardstick):>8.3f}"
        )


async def in_memory() -> None:
    """A call of the stub, which is nothing but a look into a dictionary and a copy."""
    bare = StubTestResultsRepository()
    stored = await bare.create(a_test_result())
    reads: dict[str, Read] = {"the class itself": bare.get_by_id}
    async with AsyncExitStack() as opened:
        for name, looking in observers().items():
            factory = AdapterFactory(AdapterConfig(in_memory=True), observers=looking)
            await opened.enter_async_context(factory)
            results = factory.get_test_results_repository()
            await results.create(stored)
            reads[name] = results.get_by_id
        title = "get_by_id in memory, processor time"
        await compare(title, reads, stored.result_id, timed, CALLS)


@asynccontextmanager
async def database(url: str | None) -> AsyncIterator[str]:
    """The URL of a database to make a schema in."""
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder, ThrowawayPostgres(Path(folder)) as server:
        yield server.url()


async def on_postgres(url: str) -> None:
    """A read by primary key."""
    instance = f"bench-{uuid.uuid4().hex[:8]}"
    schema = instance.replace("-", "_")
    await migrate(url, schema, role="pg_monitor")
    try:
        async with AsyncExitStack() as opened:
            reads: dict[str, Read] = {}
            stored = a_test_result()
            for name, looking in observers().items():
                config = AdapterConfig(
                    service_instance_name=instance, postgres_url=url, redis_url="unix:///nowhere"
                )
                factory = AdapterFactory(config, observers=looking)
                await opened.enter_async_context(factory)
                results = factory.get_test_results_repository()
                if not reads:
                    await results.create(stored)
                reads[name] = results.get_by_id
            title = "get_by_id from PostgreSQL"
            id_ = stored.result_id
            await compare(f"{title}, time to the answer", reads, id_, waited, CALLS)
            await compare(f"{title}, processor time", reads, id_, timed, CALLS)
    finally:
        connection = await asyncpg.connect(url.replace("+asyncpg", ""))
        await connection.execute(f"DROP SCHEMA {schema} CASCADE")
        await connection.close()


async def main() -> None:
    """Print the three tables: median, more than the first, ratio to the first."""
    await in_memory()
    async with database(sys.argv[1] if len(sys.argv) > 1 else None) as url:
        await on_postgres(url)


if __name__ == "__main__":
    asyncio.run(main())
