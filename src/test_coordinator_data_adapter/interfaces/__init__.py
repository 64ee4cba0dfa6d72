"""The ports: what a backend must be able to do, and how it must behave."""

from test_coordinator_data_adapter.interfaces.audit import AuditRepository, audit_context
from test_coordinator_data_adapter.interfaces.cache import CacheRepository
from test_coordinator_data_adapter.interfaces.chaos_events import ChaosEventsRepository
from test_coordinator_data_adapter.interfaces.queries import (
    AuditQuery,
    ChaosEventQuery,
    Page,
    ScenarioQuery,
    TestResultQuery,
    TestRunQuery,
)
from test_coordinator_data_adapter.interfaces.scenarios import ScenariosRepository
from test_coordinator_data_adapter.interfaces.service_discovery import (
    ServiceDiscoveryRepository,
    ServiceInfo,
)
from test_coordinator_data_adapter.interfaces.test_results import TestResultsRepository
from test_coordinator_data_adapter.interfaces.test_runs import TestRunsRepository

__all__ = [
    "AuditQuery",
    "AuditRepository",
    "CacheRepository",
    "ChaosEventQuery",
    "ChaosEventsRepository",
    "Page",
    "ScenarioQuery",
    "ScenariosRepository",
    "ServiceDiscoveryRepository",
    "ServiceInfo",
    "TestResultQuery",
    "TestResultsRepository",
    "TestRunQuery",
    "TestRunsRepository",
    "audit_context",
]
