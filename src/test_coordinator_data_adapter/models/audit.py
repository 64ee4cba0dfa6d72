"""A record of the audit trail: who changed what, when, and from what to what."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from test_coordinator_data_adapter.models.values import JsonValue

__all__ = ["AuditKind", "AuditOperation", "AuditRecord", "TimelineEntry"]


class AuditKind(StrEnum):
    """What a mutation was about."""

    SCENARIO = "scenario"
    TEST_RUN = "test_run"
    CHAOS_EVENT = "chaos_event"
    TEST_RESULT = "test_result"


class AuditOperation(StrEnum):
    """What a mutation did, judged by its effect and not by the method that was called."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    STATUS_CHANGE = "status_change"
    RECOVERY = "recovery"
    BULK_CREATE = "bulk_create"
    PRUNE = "prune"


class AuditRecord(BaseModel):
    """One mutation, as the store itself recorded it.

    Attributes:
        record_id: its place in the trail; later records have greater ones, with gaps.
        recorded_at: when, by the store's clock, UTC.
        actor: who, as `audit_context` or the settings said; else the role of the database.
        operation: what was done.
        kind: to what kind.
        entity_id: to which one; None for a bulk creation or a prune.
        entity_ids: which ones a prune removed; empty for everything else.
        count: how many were touched.
        before: the changed fields as they were, JSON; None where there was nothing before.
        after: the changed fields as they became, JSON; None where nothing was left.
        correlation_id: what the mutation belongs to, as `audit_context` said, or None.
        reason: why, as `audit_context` said, or None.
        occurred_at: when the mutation was requested; the time of ``recorded_at`` unless it was
            applied later.
        login_role: the role of the database that the client logged in with, beside the ``actor``
            that it claims; None in memory, and in records that are older than this field.
        call_id: identifies the request that the mutation is part of, or None.
        step: the place of the mutation among those of its request, from 1, or None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    record_id: int
    recorded_at: datetime
    actor: str
    operation: AuditOperation
    kind: AuditKind
    entity_id: str | None = None
    entity_ids: tuple[str, ...] = ()
    count: int = 1
    before: dict[str, JsonValue] | None = None
    after: dict[str, JsonValue] | None = None
    correlation_id: str | None = None
    reason: str | None = None
    occurred_at: datetime
    login_role: str | None = None
    call_id: UUID | None = None
    step: int | None = None


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One thing that happened in a run.

    Attributes:
        record: what happened; the results of one bulk creation share theirs.
        entity_id: to what: the run, one of its events or one of its results.
        since_previous: how long after the entry before it; zero for the first.
        since_first: how long after the first entry.
    """

    record: AuditRecord
    entity_id: str
    since_previous: timedelta
    since_first: timedelta
