import pytest

from test_coordinator_data_adapter.adapters.stub import (
    MemoryStore,
    StubChaosEventsRepository,
    StubRetentionRepository,
    StubScenariosRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.testing.conformance import RetentionStores, RetentionSuite


class TestRetention(RetentionSuite):
    @pytest.fixture
    def stores(self) -> RetentionStores:
        store = MemoryStore()
        return RetentionStores(
            StubRetentionRepository(store),
            StubScenariosRepository(store),
            StubTestRunsRepository(store),
            StubChaosEventsRepository(store),
            StubTestResultsRepository(store),
        )
