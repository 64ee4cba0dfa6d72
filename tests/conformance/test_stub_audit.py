from __future__ import annotations

import pytest

from test_coordinator_data_adapter.adapters.stub import (
    MemoryStore,
    StubAuditRepository,
    StubChaosEventsRepository,
    StubScenariosRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.testing.conformance import AuditStores, AuditSuite


class TestAudit(AuditSuite):
    @pytest.fixture
    def stores(self) -> AuditStores:
        store = MemoryStore()
        return AuditStores(
            StubAuditRepository(store),
            StubScenariosRepository(store),
            StubTestRunsRepository(store),
            StubChaosEventsRepository(store),
            StubTestResultsRepository(store),
        )
