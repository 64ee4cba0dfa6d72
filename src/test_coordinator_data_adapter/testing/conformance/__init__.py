"""The conformance suites: one per port, every promise a test, one fixture to supply."""

from test_coordinator_data_adapter.testing.conformance.audit import AuditStores, AuditSuite
from test_coordinator_data_adapter.testing.conformance.cache import CacheSuite
from test_coordinator_data_adapter.testing.conformance.chaos_events import ChaosEventsSuite
from test_coordinator_data_adapter.testing.conformance.retention import (
    RetentionStores,
    RetentionSuite,
)
from test_coordinator_data_adapter.testing.conformance.scenarios import ScenariosSuite
from test_coordinator_data_adapter.testing.conformance.service_discovery import (
    ServiceDiscoverySuite,
)
from test_coordinator_data_adapter.testing.conformance.test_results import TestResultsSuite
from test_coordinator_data_adapter.testing.conformance.test_runs import TestRunsSuite

__all__ = [
    "AuditStores",
    "AuditSuite",
    "CacheSuite",
    "ChaosEventsSuite",
    "RetentionStores",
    "RetentionSuite",
    "ScenariosSuite",
    "ServiceDiscoverySuite",
    "TestResultsSuite",
    "TestRunsSuite",
]
