"""A test run: one execution of a scenario and its verdict."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import (
    Id,
    Integer,
    JsonObject,
    Labels,
    Milliseconds,
    Moment,
    Text,
    utc_now,
)

__all__ = ["RunStatus", "TestRun"]


class RunStatus(StrEnum):
    """Where a run stands, or how it ended."""

    PENDING = "pending"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"

    @property
    def is_finished(self) -> bool:
        """Whether a run with this status has ended."""
        return self not in {RunStatus.PENDING, RunStatus.RUNNING}

    @property
    def is_judged(self) -> bool:
        """Whether a run with this status counts in a pass rate: finished and not cancelled."""
        return self.is_finished and self is not RunStatus.CANCELLED


class TestRun(Entity):
    """One execution of a scenario.

    Attributes:
        run_id: the id, 1 to 255 characters.
        scenario_id: the scenario it was made from; that one may be gone.
        status: where it stands, or how it ended.
        started_at: when it began, UTC, or None.
        completed_at: when it ended, UTC, or None.
        duration_ms: how long it took in milliseconds, or None.
        configuration_snapshot: the configuration it really ran with; any JSON object.
        test_environment: where it ran, or None.
        exit_code: what its process ended with, or None.
        error_message: why it did not pass, or None.
        created_at: when it was recorded, UTC; never changes once stored.
        updated_at: when it last changed, UTC; the store keeps it strictly increasing.
        labels: what was tested: ``version``, ``commit``, ``branch`` ...; at most 32, keys of 1
            to 63 characters of ``a-z 0-9 . _ / -``, values of 1 to 255 characters.
    """

    __test__: ClassVar[bool] = False  # pytest collects what is called Test*
    entity_name: ClassVar[str] = "test_run"
    id_field: ClassVar[str] = "run_id"
    containers: ClassVar[tuple[str, ...]] = ("configuration_snapshot", "labels")

    run_id: Id
    scenario_id: Id
    status: RunStatus
    started_at: Moment | None = None
    completed_at: Moment | None = None
    duration_ms: Milliseconds | None = None
    configuration_snapshot: JsonObject
    test_environment: Text | None = None
    exit_code: Integer | None = None
    error_message: Text | None = None
    created_at: Moment = Field(default_factory=utc_now)
    updated_at: Moment = Field(default_factory=utc_now)
    labels: Labels = Field(default_factory=dict)
