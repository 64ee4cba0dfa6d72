"""The port of the audit trail, and what a caller says to it: who acts, and why."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.interfaces.arguments import identifier
from test_coordinator_data_adapter.interfaces.arguments import reason as why
from test_coordinator_data_adapter.interfaces.queries import AuditQuery, Page
from test_coordinator_data_adapter.models.audit import AuditKind, AuditRecord, TimelineEntry
from test_coordinator_data_adapter.models.values import MAX_INTEGER

__all__ = [
    "AuditContext",
    "AuditRepository",
    "audit_context",
    "current_audit_context",
    "record_behind",
]


@dataclass(frozen=True, slots=True)
class AuditContext:
    """What is said of a mutation.

    Attributes:
        actor: who does it; None leaves it to the settings.
        correlation_id: what it belongs to, or None.
        reason: why, or None.
    """

    actor: str | None = None
    correlation_id: str | None = None
    reason: str | None = None


_NOTHING: Final = AuditContext()
_CURSOR: Final = re.compile("[0-9]{1,19}")
_current: Final = ContextVar("audit_context", default=_NOTHING)


@contextmanager
def audit_context(
    *, actor: str | None = None, correlation_id: str | None = None, reason: str | None = None
) -> Generator[AuditContext]:
    """Say who acts and why, for every mutation of this task until the block ends.

    Tasks started inside inherit it. Blocks nest: what an inner one does not say, the outer one
    says.

    Args:
        actor: who acts, 1 to 255 characters; None: as before.
        correlation_id: what it belongs to, 1 to 255 characters; None: as before.
        reason: why, at most 4,096 characters; None: as before.

    Raises:
        InvalidValueError: a value breaks its rule.
    """
    said: dict[str, str] = {}
    if actor is not None:
        said["actor"] = identifier(actor, "actor")
    if correlation_id is not None:
        said["correlation_id"] = identifier(correlation_id, "correlation_id")
    if reason is not None:
        said["reason"] = why(reason)
    context = replace(_current.get(), **said)
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


def current_audit_context() -> AuditContext:
    """What is said of a mutation made now, in this task."""
    return _current.get()


class AuditRepository(ABC):
    """The trail of every mutation of the four stored kinds.

    The store itself writes it, in the same step as the mutation: what was applied is recorded,
    what was not is not, whichever way it came. Rules of every method:

    * Records are ordered as the store made them, by ``record_id``. Mutations of one entity never
      swap; of mutations at the same moment, one that is recorded first may show last.
    * A mutation of one entity is one record, with the changed fields before and after.
    * A bulk creation of two or more is one record with their number; so is every statement of a
      prune, with the ids of what went.
    * A caller reads the records of its own writes.
    * A live backend raises the errors that every read raises (`StoredRepository`).
    """

    @abstractmethod
    async def history(self, kind: AuditKind, entity_id: str) -> list[AuditRecord]:
        """Everything that was done to one entity, a bulk creation and a prune included.

        Args:
            kind: what it is.
            entity_id: its id; it may be gone.

        Returns:
            The records in order; none for an id that nothing was ever done to, or only before
            the trail began.

        Raises:
            InvalidValueError: no kind, or no id.
        """

    @abstractmethod
    async def find(
        self, query: AuditQuery, *, limit: int = 100, cursor: str | None = None
    ) -> Page[AuditRecord]:
        """One page of what matches.

        Args:
            query: what to look for; one without any field matches everything.
            limit: how many items at the most, 1 to 1000.
            cursor: ``next_cursor`` of the page before; None for the first page.

        Returns:
            The page; its ``next_cursor`` is None exactly when nothing followed.

        Raises:
            InvalidValueError: ``limit`` out of range, or a text that is no cursor.
        """

    @abstractmethod
    def stream(
        self, query: AuditQuery, *, batch_size: int | None = None
    ) -> AsyncIterator[AuditRecord]:
        """Everything that matches, one by one, in constant memory.

        Args:
            query: what to look for.
            batch_size: how many records travel at once, 1 to 10,000; None for the default.

        Raises:
            InvalidValueError: ``batch_size`` out of range; raised at the first item.
        """

    @abstractmethod
    async def list_of_run(self, run_id: str) -> list[tuple[AuditRecord, Sequence[str]]]:
        """Every record about a run, its events and its results, prunes left out.

        What was deleted or pruned meanwhile is still told of.

        Returns:
            The records in order; each with the ids of what it was about in this run, by code point:
            several for a bulk creation, one for everything else.

        Raises:
            InvalidValueError: no id.
        """

    async def run_timeline(self, run_id: str) -> list[TimelineEntry]:
        """What happened in a run, in order: its transitions, its events and its results.

        Every mutation of the run, of one of its events and of one of its results is an entry, and
        so is every result that a bulk creation brought. Prunes are none: what they removed is
        still told of, as far back as the trail reaches.

        Args:
            run_id: which run; it may be gone.

        Returns:
            The entries in the order of their records, those of one record by ``entity_id``, each
            with the time since the one before it; none for a run that nothing is known of. Where
            one mutation waited for another, the later record may name the earlier time: no time
            passed between these. They are one answer, whose size grows with the run.

        Raises:
            InvalidValueError: no id.
        """
        entries: list[TimelineEntry] = []
        since_first = timedelta()
        for record, ids in await self.list_of_run(run_id):
            for id_ in ids:
                first = entries[0].record if entries else record
                before = since_first
                since_first = max(before, record.recorded_at - first.recorded_at)
                entries.append(TimelineEntry(record, id_, since_first - before, since_first))
        return entries


def record_behind(cursor: str | None) -> int:
    """The ``record_id`` that a page begins behind.

    Raises:
        InvalidValueError: the text is no cursor of this library.
    """
    if cursor is None:
        return -1
    if _CURSOR.fullmatch(cursor) and int(cursor) <= MAX_INTEGER:
        return int(cursor)
    rule = "must be the next_cursor of an earlier page"
    raise InvalidValueError(f"cursor {rule}", field="cursor", rule=rule)
