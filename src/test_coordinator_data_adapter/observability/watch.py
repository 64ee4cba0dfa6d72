"""What the factory hangs on repositories and backends so that observers learn of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import TypeVar

from test_coordinator_data_adapter.observability.facts import (
    BatchSent,
    Fact,
    Observer,
    OperationStarted,
    Place,
    PoolClosed,
    PoolOpened,
    PoolUse,
    TripEnded,
)
from test_coordinator_data_adapter.observability.log import OperationLog
from test_coordinator_data_adapter.observability.operations import (
    current_operation,
    instrument,
)
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.resilience.observation import (
    CacheUsed,
    Hooks,
    OnBatch,
    OnCacheUsed,
    OnPool,
    OnSupervision,
    OnTrip,
    Probed,
    StateChanged,
    Trip,
)

__all__ = ["Watch"]

_RepositoryT = TypeVar("_RepositoryT")


class Watch:
    """Tells every observer of everything, and lets none of them break what it looks at.

    Where nobody looks nothing is hung on anything: the hooks are None, and repositories stay as
    they are.
    """

    def __init__(
        self,
        observers: Sequence[Observer],
        events: EventLog,
        *,
        slow_after: float = inf,
        statements: bool = False,
    ) -> None:
        """Watch for ``observers``, and for the log.

        Args:
            observers: who is told.
            events: where operations, statements and broken observers are logged.
            slow_after: seconds from which a statement is logged as slow; infinite: never.
            statements: whether every statement is logged, at DEBUG.
        """
        log = OperationLog(events, slow_after=slow_after, statements=statements)
        self._events = events
        self._log = log
        self._observers: tuple[Observer, ...] = (
            *observers,
            *([log] if log.wants_operations else []),
        )
        self._broken: set[int] = set()
        self._somebody = bool(observers)
        self._operations = self._somebody or log.wants_operations
        self.wants_starts = any(
            OperationStarted not in getattr(observer, "passes_over", ())
            for observer in self._observers
        )
        """Whether anybody wants to know that an operation starts."""
        self.trips_from = 0.0 if self._somebody else log.trips_from
        """Seconds from which a trip has to be told; infinite: no trip has."""

    def notice(self, fact: Fact, /) -> None:
        """Tell everybody."""
        for observer in self._observers:
            try:
                observer.notice(fact)
            except Exception as failure:  # noqa: BLE001 - no observer may break a call
                self._log_broken(observer, failure)

    def repository(self, repository: _RepositoryT, backend: str) -> _RepositoryT:
        """The repository, watched if anybody wants to know of operations."""
        if not self._operations:
            return repository
        return instrument(repository, backend=backend, observer=self)

    def hooks(self, place: Place, /) -> Hooks:
        """What the backend at a place is to call."""
        if self._somebody:
            backend = place.backend
            return Hooks(self._on_trip(place), 0.0, self._on_batch(backend), self._on_pool(backend))
        if self.trips_from < inf:
            return Hooks(self._on_trip(place), self.trips_from)
        return Hooks()

    def on_cache_used(self) -> OnCacheUsed | None:
        """The hook for looks at cached reads."""

        def tell(use: CacheUsed) -> None:
            self.notice(use)

        return tell if self._somebody else None

    def on_supervision(self) -> OnSupervision | None:
        """The hook for probes and changes of state."""

        def tell(fact: StateChanged | Probed) -> None:
            self.notice(fact)

        return tell if self._somebody else None

    def _on_trip(self, place: Place) -> OnTrip:
        log, notice, running = self._log, self.notice, current_operation

        def tell(trip: Trip) -> None:
            ended = TripEnded(trip, place, running())
            notice(ended)
            if trip.took >= log.trips_from:
                log.log_trip(ended)

        return tell

    def _on_batch(self, backend: str) -> OnBatch:
        def tell(operation: str | None, calls: int) -> None:
            self.notice(BatchSent(backend, operation, calls))

        return tell

    def _on_pool(self, backend: str) -> OnPool:
        def tell(use: Callable[[], PoolUse] | None) -> None:
            self.notice(PoolClosed(backend) if use is None else PoolOpened(backend, use))

        return tell

    def _log_broken(self, observer: Observer, failure: Exception) -> None:
        if id(observer) in self._broken:
            return
        self._broken.add(id(observer))
        self._events.error(
            "observer_failed",
            observer=type(observer).__name__,
            error=type(failure).__name__,
            still_works="everything but what this observer shows; it is told on, and not logged"
            " again",
        )
