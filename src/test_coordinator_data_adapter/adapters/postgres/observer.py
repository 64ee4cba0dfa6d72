"""Tells of the trips that somebody wants to know of."""

from __future__ import annotations

from collections.abc import Sized
from math import inf
from typing import Final

import asyncpg

from test_coordinator_data_adapter.adapters.postgres.statement import Statement
from test_coordinator_data_adapter.adapters.postgres.translation import is_refusal
from test_coordinator_data_adapter.errors import AdapterError
from test_coordinator_data_adapter.resilience.observation import Hooks, Trip

__all__ = ["Observer", "rows_touched"]

# The server's own deadlines: of the statement, and of waiting for a lock.
_ENDED_BY_A_DEADLINE: Final = frozenset({"57014", "55P03"})


class Observer:
    """Calls the hook where there is one.

    Attributes:
        threshold: from how many seconds on a trip is to be told; infinite for never. Comparing
            with it is all that a trip nobody wants to know of costs.
        on_plain_trip: the hook for trips that were answered at the first attempt, without any
            waiting, in less than ``plain_below``.
        plain_below: seconds; 0 where there is no such hook.
        calls: where every failure is reported, and successes while it is failing.
    """

    __slots__ = ("_on_trip", "calls", "on_plain_trip", "plain_below", "threshold")

    def __init__(self, hooks: Hooks) -> None:
        self._on_trip = hooks.on_trip
        self.calls: Final = hooks.calls
        self.on_plain_trip: Final = hooks.on_plain_trip or _pass_over
        self.plain_below: Final = 0.0 if hooks.on_plain_trip is None else hooks.plain_below
        self.threshold = inf if hooks.on_trip is None else hooks.trips_from

    def tell(
        self,
        statement: Statement,
        *,
        waited: float,
        took: float,
        answer: object = None,
        error: AdapterError | None = None,
        abandoned: bool = False,
        again: bool = False,
        expired: bool = False,
    ) -> None:
        """Tell of a trip that is over; times in seconds."""
        if self._on_trip is not None:
            self._on_trip(
                Trip(
                    command=statement.sql,
                    entity=statement.entity,
                    waited=waited,
                    took=took,
                    rows=_rows(answer),
                    error=error,
                    abandoned=abandoned,
                    retries=int(again),
                    timed_out=expired
                    or (error is not None and error.sqlstate in _ENDED_BY_A_DEADLINE),
                )
            )

    def report_failure(self, statement: Statement, error: AdapterError) -> None:
        """Report what a call is about to raise."""
        refused = is_refusal(error)
        # A question of the library's own, such as which revision the schema has, can be refused
        # without any harm.
        if not refused or statement.entity is not None or statement.writes:
            self.calls.report_failure(error, _kind(statement), answered=refused)

    def report_success(self, statement: Statement) -> None:
        """Report a success while calls are failing."""
        self.calls.report_success(_kind(statement), writes=statement.writes)


def _kind(statement: Statement) -> str:
    return f"{'write' if statement.writes else 'read'} {statement.entity}"


def _pass_over(_command: str, _took: float, /) -> None:
    pass


def rows_touched(status: str) -> int:
    """How many rows a statement touched, from what the server says when it is over."""
    count = status.rpartition(" ")[2]
    return int(count) if count.isdecimal() else 0


def _rows(answer: object) -> int:
    if isinstance(answer, str):
        return rows_touched(answer)
    if isinstance(answer, asyncpg.Record):
        return 1
    return len(answer) if isinstance(answer, Sized) else 0
