"""The ports in memory: for tests, for demos, and for when infrastructure is missing."""

from test_coordinator_data_adapter.adapters.stub.audit import StubAuditRepository
from test_coordinator_data_adapter.adapters.stub.cache import StubCacheRepository
from test_coordinator_data_adapter.adapters.stub.chaos_events import StubChaosEventsRepository
from test_coordinator_data_adapter.adapters.stub.retention import StubRetentionRepository
from test_coordinator_data_adapter.adapters.stub.scenarios import StubScenariosRepository
from test_coordinator_data_adapter.adapters.stub.service_discovery import (
    StubServiceDiscoveryRepository,
)
from test_coordinator_data_adapter.adapters.stub.store import MemoryStore
from test_coordinator_data_adapter.adapters.stub.test_results import StubTestResultsRepository
from test_coordinator_data_adapter.adapters.stub.test_runs import StubTestRunsRepository

__all__ = [
    "MemoryStore",
    "StubAuditRepository",
    "StubCacheRepository",
    "StubChaosEventsRepository",
    "StubRetentionRepository",
    "StubScenariosRepository",
    "StubServiceDiscoveryRepository",
    "StubTestResultsRepository",
    "StubTestRunsRepository",
]
