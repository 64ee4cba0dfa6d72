"""The audit trail of one in-memory store, written by its tables in the same step as a change."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import cast

from test_coordinator_data_adapter.interfaces.audit import AuditContext, current_audit_context
from test_coordinator_data_adapter.models.audit import AuditKind, AuditOperation, AuditRecord
from test_coordinator_data_adapter.models.chaos_event import ChaosEvent, EventStatus
from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import JsonValue, copy_json

__all__ = ["Fact", "Trail"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One mutation, held by the entities it was about: nobody changes those once stored."""

    record_id: int
    recorded_at: datetime
    actor: str
    context: AuditContext
    operation: AuditOperation
    before: Sequence[Entity]
    after: Sequence[Entity]

    @property
    def entities(self) -> Sequence[Entity]:
        """What it was about, as it was before where it was there before."""
        return self.before or self.after

    @property
    def kind(self) -> AuditKind:
        """What kind these are."""
        return AuditKind(self.entities[0].entity_name)

    @property
    def is_of_many(self) -> bool:
        """Whether several share it."""
        return self.operation in (AuditOperation.BULK_CREATE, AuditOperation.PRUNE)

    def as_record(self) -> AuditRecord:
        """What a reader is given; it shares nothing with the store."""
        many = self.is_of_many
        prunes = self.operation is AuditOperation.PRUNE
        before, after = (None, None) if many else _differences(self.before, self.after)
        return AuditRecord(
            record_id=self.record_id,
            recorded_at=self.recorded_at,
            actor=self.actor,
            operation=self.operation,
            kind=self.kind,
            entity_id=None if many else self.entities[0].identity,
            entity_ids=tuple(entity.identity for entity in self.before) if prunes else (),
            count=len(self.entities),
            before=before,
            after=after,
            correlation_id=self.context.correlation_id,
            reason=self.context.reason,
            occurred_at=self.recorded_at,
        )


class Trail:
    """Facts in the order in which they came about."""

    def __init__(self, clock: Callable[[], datetime], actor: str) -> None:
        """Begin; ``actor`` acts where nothing else is said."""
        self._clock = clock
        self._actor = actor
        self.facts: list[Fact] = []

    def created(self, entities: Sequence[Entity]) -> None:
        """New ones were stored by one call."""
        if len(entities) > 1:
            self._add(AuditOperation.BULK_CREATE, (), entities)
        elif entities:
            self._add(AuditOperation.CREATE, (), entities)

    def changed(self, before: Entity, after: Entity) -> None:
        """One became another."""
        self._add(_operation(before, after), (before,), (after,))

    def deleted(self, entity: Entity) -> None:
        """One was deleted."""
        self._add(AuditOperation.DELETE, (entity,), ())

    def pruned(self, entities: Sequence[Entity]) -> None:
        """Some were removed together."""
        if entities:
            self._add(AuditOperation.PRUNE, entities, ())

    def _add(
        self, operation: AuditOperation, before: Sequence[Entity], after: Sequence[Entity]
    ) -> None:
        context = current_audit_context()
        actor = context.actor or self._actor
        number = len(self.facts) + 1
        self.facts.append(Fact(number, self._clock(), actor, context, operation, before, after))


def _operation(before: Entity, after: Entity) -> AuditOperation:
    was, is_now = before.__dict__, after.__dict__
    changed = was.get("status") != is_now.get("status")
    recovered = isinstance(after, ChaosEvent) and after.status is EventStatus.RECOVERED
    if recovered and (changed or was["recovery_time_ms"] != is_now["recovery_time_ms"]):
        return AuditOperation.RECOVERY
    return AuditOperation.STATUS_CHANGE if changed else AuditOperation.UPDATE


def _differences(
    before: Sequence[Entity], after: Sequence[Entity]
) -> tuple[dict[str, JsonValue] | None, dict[str, JsonValue] | None]:
    was = _fields(before[0]) if before else None
    is_now = _fields(after[0]) if after else None
    if was is None or is_now is None:
        return was, is_now
    changed = [name for name, value in was.items() if not _same(value, is_now[name])]
    return {name: was[name] for name in changed}, {name: is_now[name] for name in changed}


def _same(one: object, other: object) -> bool:
    """Whether PostgreSQL takes two JSON values for equal; Python takes True for 1 as well."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, dict) and isinstance(other, dict):
        held, given = cast("dict[str, object]", one), cast("dict[str, object]", other)
        return held.keys() == given.keys() and all(_same(held[key], given[key]) for key in held)
    if isinstance(one, list) and isinstance(other, list):
        items, others = cast("list[object]", one), cast("list[object]", other)
        return len(items) == len(others) and all(map(_same, items, others))
    return one == other


def _fields(entity: Entity) -> dict[str, JsonValue]:
    return {name: _as_json(value) for name, value in entity.__dict__.items()}


def _as_json(value: object) -> JsonValue:
    """The value as PostgreSQL makes JSON of its column."""
    if isinstance(value, datetime):
        moment = value.isoformat()
        if value.microsecond:
            whole, _, zone = moment.partition("+")
            return f"{whole.rstrip('0')}+{zone}"
        return moment
    return str(value) if isinstance(value, StrEnum) else copy_json(cast("JsonValue", value))
