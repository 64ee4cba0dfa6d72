"""What the application's logging raises stays in the application's logging."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from test_coordinator_data_adapter.adapters.postgres.migration import migrate
from test_coordinator_data_adapter.models import RunStatus
from test_coordinator_data_adapter.testing.builders import a_test_run


class _RaisingFilter(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self.loggers: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        self.loggers.add(record.name.partition(".")[0])
        if record.name == "asyncio":  # pytest makes the test's own loop
            return False
        raise AttributeError("the record has no user")


@pytest.fixture
def raising_filter() -> Iterator[_RaisingFilter]:
    """A filter of the application that fails on every record of every library."""
    root, filter_ = logging.getLogger(), _RaisingFilter()
    handler, level = logging.StreamHandler(), root.level
    handler.addFilter(filter_)
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield filter_
    root.setLevel(level)
    root.removeHandler(handler)


async def test_a_logging_filter_that_raises_breaks_no_call(make_factory, raising_filter):
    factory = make_factory(log_level="DEBUG", log_sql_queries=True, slow_query_threshold_ms=0.001)

    async with factory:
        runs = factory.get_test_runs_repository()
        run = await runs.create(a_test_run())
        started = await runs.start_run(run.run_id)
        await factory.get_cache_repository().set("key", 1)
        health = await factory.health_check()

    assert started.status is RunStatus.RUNNING
    assert health["status"] == "healthy"
    assert "test_coordinator_data_adapter" in raising_filter.loggers


async def test_a_logging_filter_that_raises_leaves_a_missing_backend_a_warning(
    make_factory, raising_filter, refusing_port
):
    factory = make_factory(redis_url=f"redis://127.0.0.1:{refusing_port}")

    async with factory:
        health = await factory.health_check()

    assert (health["postgres"]["state"], health["redis"]["state"]) == ("live", "unavailable")


async def test_a_logging_filter_that_raises_breaks_no_migration(postgres_server, raising_filter):
    url = await postgres_server.create_database()

    before = await migrate(url, "logged")
    after = await migrate(url, "logged")

    await postgres_server.drop_database(url)
    assert (before.is_current, after.is_current) == (False, True)
    assert "alembic" in raising_filter.loggers, "its records reach the application"
