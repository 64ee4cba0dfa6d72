"""Several observers as one, which never raises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from test_coordinator_data_adapter.observability.facts import (
    Fact,
    Observer,
    Operation,
    OperationStarted,
    Place,
    TallyingObserver,
)
from test_coordinator_data_adapter.observability.tally import Tally
from test_coordinator_data_adapter.resilience.events import EventLog

__all__ = ["Audience", "TallyingAudience", "audience_of"]

_ObserverT = TypeVar("_ObserverT", bound=Observer)


class Audience(Generic[_ObserverT]):
    """Tells every observer, and lets none of them break what it looks at."""

    def __init__(self, observers: Sequence[_ObserverT], events: EventLog) -> None:
        """Gather them.

        Args:
            observers: who is told, in this order.
            events: where one that raises is logged, once.
        """
        self._observers = tuple(observers)
        self._events = events
        self._broken: set[int] = set()
        starts = {OperationStarted}
        self.passes_over: Final = frozenset(
            starts.intersection(*(getattr(one, "passes_over", ()) for one in observers))
        )

    def notice(self, fact: Fact, /) -> None:
        """Tell everybody."""
        for observer in self._observers:
            try:
                observer.notice(fact)
            except Exception as failure:  # noqa: BLE001 - no observer may break a call
                self._log_broken(observer, failure)

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


class TallyingAudience(Audience[TallyingObserver]):
    """The same for observers that tally, as one that does."""

    def operation_tally(self, operation: Operation, /) -> Tally:
        """What counts for everybody."""
        return self._together(lambda observer: observer.operation_tally(operation))

    def trip_tally(self, place: Place, command: str, operation: Operation | None, /) -> Tally:
        """What counts for everybody."""
        return self._together(lambda observer: observer.trip_tally(place, command, operation))

    def _together(self, tally_of: Callable[[TallyingObserver], Tally]) -> Tally:
        tallies: list[Tally] = []
        for observer in self._observers:
            try:
                tallies.append(tally_of(observer))
            except Exception as failure:  # noqa: BLE001 - no observer may break a call
                self._log_broken(observer, failure)
        return tallies[0] if len(tallies) == 1 else _Several(tallies)


class _Several(Tally):
    """Adds to others, and counts nothing itself."""

    __slots__ = ("_tallies",)

    def __init__(self, tallies: Sequence[Tally]) -> None:
        super().__init__(())
        self._tallies = tallies

    def add(self, seconds: float) -> None:
        for tally in self._tallies:
            tally.add(seconds)


def audience_of(
    observers: Sequence[Observer], events: EventLog
) -> Audience[Observer] | TallyingAudience:
    """All of them together; they tally if each of them does."""
    tallying = [observer for observer in observers if isinstance(observer, TallyingObserver)]
    if len(tallying) == len(observers):
        return TallyingAudience(tallying, events)
    return Audience(observers, events)
