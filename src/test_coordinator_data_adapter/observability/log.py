"""Operations and slow statements as log lines."""

from __future__ import annotations

import logging
from math import inf
from typing import Final

from test_coordinator_data_adapter.observability.facts import (
    Fact,
    OperationEnded,
    OperationStarted,
    TripEnded,
)
from test_coordinator_data_adapter.observability.operations import operation_name
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.resilience.log_budget import LogBudget

__all__ = ["OperationLog"]


_PER_MINUTE: Final = 6


class OperationLog:
    """Logs operations and statements at DEBUG, slow statements as a WARNING.

    Of the slow statements of one backend, a few a minute are logged, those that failed counted
    apart from those that were answered: a server that stops answering makes every statement slow.
    Parameters and stored values are never among the facts.
    """

    passes_over: Final = frozenset({OperationStarted})

    def __init__(
        self, events: EventLog, *, slow_after: float = inf, statements: bool = False
    ) -> None:
        """Log to ``events``.

        Args:
            events: where to, and from which level on.
            slow_after: seconds from which a trip is slow; infinite: never.
            statements: whether every trip is logged.
        """
        verbose = events.wants(logging.DEBUG)
        self._events = events
        self._statements = statements
        self._budgets: dict[tuple[str, bool], LogBudget] = {}
        self._slow_after = slow_after if events.wants(logging.WARNING) else inf
        self.wants_operations = verbose
        self.trips_from = 0.0 if statements and verbose else self._slow_after
        """Seconds from which a trip is worth telling; infinite: no trip is."""

    def notice(self, fact: Fact, /) -> None:
        """Log an operation."""
        if isinstance(fact, OperationEnded):
            self._log_operation(fact)

    def log_trip(self, ended: TripEnded) -> None:
        """Log a trip that took no less than ``trips_from``."""
        suppressed: int | None = None
        if ended.trip.took >= self._slow_after:
            kind = (ended.place.backend, ended.trip.error is None)
            if kind not in self._budgets:
                self._budgets[kind] = LogBudget(_PER_MINUTE)
            suppressed = self._budgets[kind].take()
        if suppressed is not None:
            more = {"suppressed": suppressed} if suppressed else {}
            self._events.warning("statement_was_slow", **_facts_of(ended), **more)
        elif self._statements:
            self._events.debug("statement_sent", **_facts_of(ended))

    def _log_operation(self, ended: OperationEnded) -> None:
        operation = ended.operation
        facts: dict[str, object] = {
            "port": operation.port,
            "method": operation.method,
            "backend": operation.backend,
            "duration_ms": _milliseconds(ended.took),
            "id": operation.id,
            "rows_in": ended.rows_in,
            "rows_out": ended.rows_out,
        }
        known = {name: value for name, value in facts.items() if value is not None}
        if ended.error is None:
            self._events.debug("operation_succeeded", **known)
        else:
            self._events.debug("operation_failed", **known, outcome=ended.outcome)


def _facts_of(ended: TripEnded) -> dict[str, object]:
    trip = ended.trip
    return {
        "operation": operation_name(),
        "backend": ended.place.backend,
        "duration_ms": _milliseconds(trip.took),
        "waited_ms": _milliseconds(trip.waited),
        "rows": trip.rows,
        "error": None if trip.error is None else type(trip.error).__name__,
        "abandoned": trip.abandoned,
        "statement": trip.command,
    }


def _milliseconds(seconds: float) -> float:
    return round(seconds * 1000, 3)
