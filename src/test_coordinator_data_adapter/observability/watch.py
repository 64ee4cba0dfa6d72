"""What the factory hangs on repositories and backends so that observers learn of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from typing import Final, TypeVar

from test_coordinator_data_adapter.observability.audience import TallyingAudience, audience_of
from test_coordinator_data_adapter.observability.facts import (
    BatchSent,
    Observer,
    Operation,
    Place,
    PoolClosed,
    PoolOpened,
    PoolUse,
    TripEnded,
    command_of,
)
from test_coordinator_data_adapter.observability.log import OperationLog
from test_coordinator_data_adapter.observability.operations import (
    RUNNING,
    Instrument,
    class_of,
)
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.resilience.observation import (
    Hooks,
    OnBatch,
    OnCacheUsed,
    OnPlainTrip,
    OnPool,
    OnSupervision,
    OnTrip,
    Trip,
)

__all__ = ["Watch"]

_RepositoryT = TypeVar("_RepositoryT")

# So many commands are known for each operation; then all of them are asked for anew.
_KINDS_OF_TRIPS: Final = 256


class Watch:
    """Hangs the audience on repositories and backends.

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
        self._log = log
        self._audience = audience_of(
            [*observers, *([log] if log.wants_operations else [])],
            events,
        )
        self._somebody = bool(observers)
        self._operations = self._somebody or log.wants_operations
        self._instruments: dict[tuple[type, str], Instrument] = {}
        self.trips_from = 0.0 if self._somebody else log.trips_from
        """Seconds from which a trip has to be told; infinite: no trip has."""

    def repository(self, repository: _RepositoryT, backend: str) -> _RepositoryT:
        """The repository, watched if anybody wants to know of operations."""
        if not self._operations:
            return repository
        kind = class_of(type(repository))
        instrument = self._instruments.get((kind, backend))
        if instrument is None:
            instrument = Instrument(kind, backend=backend, observer=self._audience)
            self._instruments[kind, backend] = instrument
        return instrument(repository)

    def hooks(self, place: Place, /) -> Hooks:
        """What the backend at a place is to call."""
        if self._somebody:
            backend = place.backend
            return Hooks(
                self._on_trip(place),
                on_batch=self._on_batch(backend),
                on_pool=self._on_pool(backend),
                on_plain_trip=self._on_plain_trip(place),
                plain_below=self._log.trips_from,
            )
        if self.trips_from < inf:
            return Hooks(self._on_trip(place), self.trips_from)
        return Hooks()

    def on_cache_used(self) -> OnCacheUsed | None:
        """The hook for looks at cached reads."""
        return self._audience.notice if self._somebody else None

    def on_supervision(self) -> OnSupervision | None:
        """The hook for probes and changes of state."""
        return self._audience.notice if self._somebody else None

    def _on_trip(self, place: Place) -> OnTrip:
        log, notice, running = self._log, self._audience.notice, RUNNING.get

        def tell(trip: Trip) -> None:
            ended = TripEnded(trip, place, running())
            notice(ended)
            if trip.took >= log.trips_from:
                log.log_trip(ended)

        return tell

    def _on_plain_trip(self, place: Place) -> OnPlainTrip | None:
        audience, running = self._audience, RUNNING.get
        if not isinstance(audience, TallyingAudience):
            return None

        adds: dict[Operation | None, dict[str, Callable[[float], None]]] = {}

        def tell(command: str, took: float) -> None:
            operation = running()
            try:
                add = adds[operation][command]
            except KeyError:
                of_operation = adds.setdefault(operation, {})
                if len(of_operation) == _KINDS_OF_TRIPS:
                    of_operation.clear()
                what = command_of(place.backend, command)
                add = of_operation[command] = audience.trip_tally(place, what, operation).add
            add(took)

        return tell

    def _on_batch(self, backend: str) -> OnBatch:
        notice = self._audience.notice

        def tell(operation: str | None, calls: int) -> None:
            notice(BatchSent(backend, operation, calls))

        return tell

    def _on_pool(self, backend: str) -> OnPool:
        notice = self._audience.notice

        def tell(use: Callable[[], PoolUse] | None) -> None:
            notice(PoolClosed(backend) if use is None else PoolOpened(backend, use))

        return tell
