"""A test result: one assertion that was checked during a run."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import (
    Attempts,
    Id,
    Milliseconds,
    Moment,
    Number,
    Text,
    utc_now,
)

__all__ = ["AssertionType", "ResultStatus", "TestResult"]


class AssertionType(StrEnum):
    """What an assertion is about."""

    SERVICE_HEALTH = "service_health"
    RESPONSE_TIME = "response_time"
    DATA_CONSISTENCY = "data_consistency"
    AUDIT_TRAIL = "audit_trail"
    ERROR_RATE = "error_rate"
    THROUGHPUT = "throughput"
    LATENCY = "latency"
    AVAILABILITY = "availability"
    RECOVERY_TIME = "recovery_time"


class ResultStatus(StrEnum):
    """How an assertion ended."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    ERROR = "error"

    @property
    def is_judged(self) -> bool:
        """Whether a result with this status counts in a pass rate: it was not skipped."""
        return self is not ResultStatus.SKIPPED


class TestResult(Entity):
    """One assertion checked during a run.

    Attributes:
        result_id: the id, 1 to 255 characters.
        run_id: the run it belongs to; that one may be gone or still to come.
        assertion_type: what it is about.
        expected_value: what should have been, as text.
        actual_value: what was, as text.
        status: how it ended.
        verification_time: when it was checked, UTC.
        error_details: why it did not pass, or None.
        correlation_id: what ties it to other records, or None.
        created_at: when it was recorded, UTC; never changes once stored.
        name: what the assertion is called in every run that checks it, or None.
        phase: when in the run it was checked ("before", "during", "after"), or "method" for a
            probe that ran while the fault was in effect and is no part of the verdict, or None.
        duration_ms: how long the check took in milliseconds, or None.
        attempts: how many attempts it took, 1 or more, or None.
        measured_value: the number behind ``actual_value``, for trends, or None.
        unit: the unit of ``measured_value``, 1 to 255 characters, or None.
    """

    __test__: ClassVar[bool] = False  # pytest collects what is called Test*
    entity_name: ClassVar[str] = "test_result"
    id_field: ClassVar[str] = "result_id"
    long_texts: ClassVar[tuple[str, ...]] = (
        "expected_value",
        "actual_value",
        "error_details",
        "name",
        "phase",
    )

    result_id: Id
    run_id: Id
    assertion_type: AssertionType
    expected_value: Text
    actual_value: Text
    status: ResultStatus
    verification_time: Moment
    error_details: Text | None = None
    correlation_id: Id | None = None
    created_at: Moment = Field(default_factory=utc_now)
    name: Text | None = None
    phase: Text | None = None
    duration_ms: Milliseconds | None = None
    attempts: Attempts | None = None
    measured_value: Number | None = None
    unit: Id | None = None
