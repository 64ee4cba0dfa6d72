"""A chaos event: one fault that was injected into one service."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import (
    Id,
    JsonObject,
    JsonOutput,
    Milliseconds,
    Moment,
    utc_now,
)

__all__ = ["ChaosEvent", "EventStatus", "EventType"]


class EventType(StrEnum):
    """Which fault was injected."""

    SERVICE_RESTART = "service_restart"
    SERVICE_KILL = "service_kill"
    NETWORK_PARTITION = "network_partition"
    NETWORK_LATENCY = "network_latency"
    NETWORK_PACKET_LOSS = "network_packet_loss"
    CPU_STRESS = "cpu_stress"
    MEMORY_STRESS = "memory_stress"
    DISK_IO_STRESS = "disk_io_stress"
    CLOCK_SKEW = "clock_skew"


class EventStatus(StrEnum):
    """Where a fault stands."""

    PENDING = "pending"
    INJECTED = "injected"
    IN_PROGRESS = "in_progress"
    RECOVERED = "recovered"
    FAILED = "failed"


class ChaosEvent(Entity):
    """One fault injected into one service during a run.

    Attributes:
        event_id: the id, 1 to 255 characters.
        run_id: the run it belongs to; that one may be gone or still to come.
        event_type: which fault.
        target_service: the service it hit.
        parameters: how it was injected; any JSON object.
        injected_at: when it was injected, UTC.
        duration_ms: how long it was held in milliseconds, or None.
        status: where it stands.
        recovery_time_ms: milliseconds from ``injected_at`` to ``recovered_at``, or None.
        created_at: when it was recorded, UTC; never changes once stored.
        detected_at: the first miss (a check that was not met) after ``injected_at``, UTC; None
            when no check missed.
        recovered_at: the first check that was met after the last miss, UTC, or None.
        recovery_resolution_ms: milliseconds from the last miss to ``recovered_at``: how precise
            the recovery time is; or None.
        output: what the injecting action returned: any JSON value of at most 16 KiB (see
            `truncate_output`), or None.
    """

    entity_name: ClassVar[str] = "chaos_event"
    id_field: ClassVar[str] = "event_id"
    containers: ClassVar[tuple[str, ...]] = ("parameters", "output")

    event_id: Id
    run_id: Id
    event_type: EventType
    target_service: Id
    parameters: JsonObject
    injected_at: Moment
    duration_ms: Milliseconds | None = None
    status: EventStatus
    recovery_time_ms: Milliseconds | None = None
    created_at: Moment = Field(default_factory=utc_now)
    detected_at: Moment | None = None
    recovered_at: Moment | None = None
    recovery_resolution_ms: Milliseconds | None = None
    output: JsonOutput = None
