"""Entities for tests: valid by default, a fresh id each, any field overridable."""

from __future__ import annotations

from datetime import datetime
from typing import TypedDict, Unpack
from uuid import uuid4

from test_coordinator_data_adapter.models import (
    AssertionType,
    ChaosEvent,
    EventStatus,
    EventType,
    ResultStatus,
    RunStatus,
    Scenario,
    ScenarioStatus,
    ScenarioType,
    ServiceInfo,
    TestResult,
    TestRun,
)
from test_coordinator_data_adapter.models.values import JsonObject, JsonValue, utc_now

__all__ = [
    "ChaosEventFields",
    "ResultFields",
    "RunFields",
    "ScenarioFields",
    "ServiceFields",
    "a_chaos_event",
    "a_scenario",
    "a_service",
    "a_test_result",
    "a_test_run",
]


class ScenarioFields(TypedDict, total=False):
    """The fields of a scenario that `a_scenario` can be told."""

    scenario_id: str
    name: str
    description: str | None
    scenario_type: ScenarioType
    status: ScenarioStatus
    configuration: JsonObject
    services_under_test: list[str]
    expected_outcomes: list[str]
    created_by: str | None
    created_at: datetime
    updated_at: datetime
    tags: list[str]


class RunFields(TypedDict, total=False):
    """The fields of a run that `a_test_run` can be told."""

    run_id: str
    scenario_id: str
    status: RunStatus
    started_at: datetime | None
    completed_at: datetime | None
    duration_ms: int | None
    configuration_snapshot: JsonObject
    test_environment: str | None
    exit_code: int | None
    error_message: str | None
    created_at: datetime
    updated_at: datetime
    labels: dict[str, str]


class ChaosEventFields(TypedDict, total=False):
    """The fields of an event that `a_chaos_event` can be told."""

    event_id: str
    run_id: str
    event_type: EventType
    target_service: str
    parameters: JsonObject
    injected_at: datetime
    duration_ms: int | None
    status: EventStatus
    recovery_time_ms: int | None
    created_at: datetime
    detected_at: datetime | None
    recovered_at: datetime | None
    recovery_resolution_ms: int | None
    output: JsonValue


class ResultFields(TypedDict, total=False):
    """The fields of a result that `a_test_result` can be told."""

    result_id: str
    run_id: str
    assertion_type: AssertionType
    expected_value: str
    actual_value: str
    status: ResultStatus
    verification_time: datetime
    error_details: str | None
    correlation_id: str | None
    created_at: datetime
    name: str | None
    phase: str | None
    duration_ms: int | None
    attempts: int | None
    measured_value: float | None
    unit: str | None


class ServiceFields(TypedDict, total=False):
    """The fields of a service that `a_service` can be told."""

    service_id: str
    service_name: str
    version: str
    host: str
    grpc_port: int
    http_port: int
    last_seen: datetime
    registered_at: datetime
    metadata: JsonObject


def a_scenario(**fields: Unpack[ScenarioFields]) -> Scenario:
    """A draft scenario that restarts the broker, but for the fields given.

    Raises:
        pydantic.ValidationError: a field given breaks a rule.
    """
    made: ScenarioFields = {
        "scenario_id": _fresh("scenario"),
        "name": "Restart the broker",
        "scenario_type": ScenarioType.SERVICE_RESTART,
        "configuration": {"restart": {"service": "broker", "delays_ms": [0, 500]}},
        "services_under_test": ["broker"],
        "expected_outcomes": ["Orders are accepted again within 5 s"],
        "tags": ["restart"],
    }
    made.update(fields)
    return Scenario(**made)


def a_test_run(**fields: Unpack[RunFields]) -> TestRun:
    """A pending run of a scenario of its own, but for the fields given.

    Raises:
        pydantic.ValidationError: a field given breaks a rule.
    """
    made: RunFields = {
        "run_id": _fresh("run"),
        "scenario_id": _fresh("scenario"),
        "status": RunStatus.PENDING,
        "configuration_snapshot": {"restart": {"service": "broker", "delays_ms": [0, 500]}},
        "test_environment": "simulation",
    }
    made.update(fields)
    return TestRun(**made)


def a_chaos_event(**fields: Unpack[ChaosEventFields]) -> ChaosEvent:
    """An injected restart of the broker in a run of its own, but for the fields given.

    Raises:
        pydantic.ValidationError: a field given breaks a rule.
    """
    made: ChaosEventFields = {
        "event_id": _fresh("event"),
        "run_id": _fresh("run"),
        "event_type": EventType.SERVICE_RESTART,
        "target_service": "broker",
        "parameters": {"signal": "SIGTERM", "retry": {"delays_ms": [0, 500]}},
        "injected_at": utc_now(),
        "status": EventStatus.INJECTED,
    }
    made.update(fields)
    return ChaosEvent(**made)


def a_test_result(**fields: Unpack[ResultFields]) -> TestResult:
    """A passed check of the broker's health in a run of its own, but for the fields given.

    Raises:
        pydantic.ValidationError: a field given breaks a rule.
    """
    made: ResultFields = {
        "result_id": _fresh("result"),
        "run_id": _fresh("run"),
        "assertion_type": AssertionType.SERVICE_HEALTH,
        "expected_value": "healthy",
        "actual_value": "healthy",
        "status": ResultStatus.PASSED,
        "verification_time": utc_now(),
    }
    made.update(fields)
    return TestResult(**made)


def a_service(**fields: Unpack[ServiceFields]) -> ServiceInfo:
    """An instance of the broker, registered and seen just now, but for the fields given.

    Raises:
        pydantic.ValidationError: a field given breaks a rule.
    """
    now = utc_now()
    made: ServiceFields = {
        "service_id": _fresh("service"),
        "service_name": "broker",
        "version": "1.0.0",
        "host": "localhost",
        "grpc_port": 50051,
        "http_port": 8080,
        "last_seen": now,
        "registered_at": now,
        "metadata": {"zone": {"name": "a", "racks": [1, 2]}},
    }
    made.update(fields)
    return ServiceInfo(**made)


def _fresh(kind: str) -> str:
    return f"{kind}-{uuid4().hex}"
