import pytest

from test_coordinator_data_adapter.adapters.postgres.retention import PostgresRetentionRepository
from test_coordinator_data_adapter.testing.conformance import RetentionStores, RetentionSuite


class TestRetention(RetentionSuite):
    @pytest.fixture
    def stores(self, database, scenarios, test_runs, chaos_events, test_results):
        return RetentionStores(
            PostgresRetentionRepository(database), scenarios, test_runs, chaos_events, test_results
        )
