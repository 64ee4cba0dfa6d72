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

__all__ = ["OperationLog"]


class OperationLog:
    """Logs operations and statements at DEBUG, slow statements as a WARNING.

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
        if ended.trip.took >= self._slow_after:
            self._events.warning("statement_was_slow", **_facts_of(ended))
        else:
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
