"""The values that are stored."""

from test_coordinator_data_adapter.models.audit import (
    AuditKind,
    AuditOperation,
    AuditRecord,
    TimelineEntry,
)
from test_coordinator_data_adapter.models.chaos_event import ChaosEvent, EventStatus, EventType
from test_coordinator_data_adapter.models.scenario import Scenario, ScenarioStatus, ScenarioType
from test_coordinator_data_adapter.models.service import ServiceInfo
from test_coordinator_data_adapter.models.test_result import (
    AssertionType,
    ResultStatus,
    TestResult,
)
from test_coordinator_data_adapter.models.test_run import RunStatus, TestRun

__all__ = [
    "AssertionType",
    "AuditKind",
    "AuditOperation",
    "AuditRecord",
    "ChaosEvent",
    "EventStatus",
    "EventType",
    "ResultStatus",
    "RunStatus",
    "Scenario",
    "ScenarioStatus",
    "ScenarioType",
    "ServiceInfo",
    "TestResult",
    "TestRun",
    "TimelineEntry",
]
