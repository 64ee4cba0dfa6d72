"""The four stored kinds in PostgreSQL."""

from test_coordinator_data_adapter.adapters.postgres.chaos_events import (
    PostgresChaosEventsRepository,
)
from test_coordinator_data_adapter.adapters.postgres.scenarios import PostgresScenariosRepository
from test_coordinator_data_adapter.adapters.postgres.test_results import (
    PostgresTestResultsRepository,
)
from test_coordinator_data_adapter.adapters.postgres.test_runs import PostgresTestRunsRepository

__all__ = [
    "PostgresChaosEventsRepository",
    "PostgresScenariosRepository",
    "PostgresTestResultsRepository",
    "PostgresTestRunsRepository",
]
