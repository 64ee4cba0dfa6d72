"""Everything there is to observe as Prometheus metrics; needs the extra `prometheus`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias
from weakref import WeakKeyDictionary

try:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.registry import Collector
except ModuleNotFoundError as missing:
    missing.add_note("Install it: pip install 'test-coordinator-data-adapter[prometheus]'")
    raise

from test_coordinator_data_adapter.observability.facts import (
    STATES,
    BatchSent,
    CacheUsed,
    Fact,
    Operation,
    OperationEnded,
    OperationStarted,
    Place,
    PoolClosed,
    PoolOpened,
    PoolUse,
    Probed,
    StateChanged,
    TripEnded,
    outcome_of,
)
from test_coordinator_data_adapter.observability.tally import Tally

__all__ = ["PrometheusObserver"]

_Labels: TypeAlias = tuple[str, ...]

_PREFIX: Final = "test_coordinator_adapter_"
_OPERATION: Final = ("port", "method", "backend")
_SECONDS: Final = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005),
    *(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
_CALLS: Final = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)

# Names without prefix and suffix, what they say, and their labels.
_COUNTERS: Final[Mapping[str, tuple[str, _Labels]]] = {
    "operations": ("Calls of repository methods.", (*_OPERATION, "outcome")),
    "rows": (
        "Items given to bulk calls (in) and answered by list calls (out).",
        (*_OPERATION, "direction"),
    ),
    "trip_errors": (
        "Trips that failed, those that were then tried again included.",
        ("backend", "outcome"),
    ),
    "trips_abandoned": ("Trips whose caller was cancelled.", ("backend",)),
    "retries": ("How often what had failed was sent again.", ("backend",)),
    "timeouts": ("Trips that a deadline ended.", ("backend",)),
    "cache_lookups": ("Keys looked for in a cache.", ("cache", "kind", "result")),
    "cache_loads": ("Entries fetched from behind cached reads.", ("cache", "kind")),
    "cache_stale_drops": (
        "Entries thrown away because a write had overtaken them.",
        ("cache", "kind"),
    ),
    "backend_transitions": ("Changes of a backend's state.", ("backend", "state")),
    "backend_probes": (
        "Attempts to open a backend or to ask how it is.",
        ("backend", "outcome"),
    ),
}
_HISTOGRAMS: Final[Mapping[str, tuple[str, _Labels, tuple[float, ...]]]] = {
    "operation_duration_seconds": (
        "How long calls of repository methods took.",
        (*_OPERATION, "outcome"),
        _SECONDS,
    ),
    "trip_duration_seconds": (
        "How long statements and commands took, from sending to the answer.",
        (*_OPERATION, "command"),
        _SECONDS,
    ),
    "pool_wait_duration_seconds": (
        "How long trips waited for a connection.",
        ("backend",),
        _SECONDS,
    ),
    "batch_calls": (
        "How many calls shared a trip, where several did.",
        ("backend", "operation"),
        _CALLS,
    ),
}
_GAUGES: Final[Mapping[str, tuple[str, _Labels]]] = {
    "pool_connections": ("Open connections, by what they do.", ("backend", "state")),
    "pool_connections_limit": ("How many connections there may be.", ("backend",)),
    "pool_waiting_calls": ("Calls that wait for a connection now.", ("backend",)),
    "backend_state": ("1 for the state the backend is in, 0 for others.", ("backend", "state")),
}


class _Histogram(Tally):
    __slots__ = ()

    def include(self, other: _Histogram) -> None:
        self.counts = [one + more for one, more in zip(self.counts, other.counts, strict=True)]
        self.total += other.total

    def without_time(self) -> _Histogram:
        """As many, which took no time."""
        other = _Histogram(self.bounds)
        other.counts[0] = self.number
        return other

    @property
    def number(self) -> int:
        return sum(self.counts)

    def buckets(self) -> list[tuple[str, float]]:
        told: list[tuple[str, float]] = []
        reached = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), list(self.counts), strict=True):
            reached += count
            told.append((bound, reached))
        return told


def _histogram_of(
    histograms: dict[_Labels, _Histogram], labels: _Labels, bounds: tuple[float, ...] = _SECONDS
) -> _Histogram:
    histogram = histograms.get(labels)
    if histogram is None:
        histogram = histograms[labels] = _Histogram(bounds)
    return histogram


def _merged(histograms: Iterable[tuple[_Labels, _Histogram]]) -> dict[_Labels, _Histogram]:
    """One for each of the labels that holds anything."""
    merged: dict[_Labels, _Histogram] = {}
    for labels, one in histograms:
        if one.number:
            _histogram_of(merged, labels, one.bounds).include(one)
    return merged


def _trip_labels(place: Place, command: str, operation: Operation | None) -> _Labels:
    port, method = ("", "") if operation is None else (operation.port, operation.method)
    return port, method, place.backend, command


class PrometheusObserver:
    """Counts and times what it is told, and shows it in a registry of yours.

    Every label has a bounded number of values: names of ports, methods, backends, errors and
    commands; never an id, a key, an error message or a statement. All times are in seconds.
    Give each factory an observer of its own, with labels that tell them apart.
    """

    passes_over: Final = frozenset({OperationStarted})

    def __init__(
        self, registry: CollectorRegistry, *, labels: Mapping[str, str] | None = None
    ) -> None:
        """Show its metrics in ``registry`` from now on, beside those of other observers.

        Args:
            registry: where they can be scraped.
            labels: constant labels of every metric, such as ``{"instance_name": "chaos1"}``; the
                same names for every observer of one registry.

        Raises:
            ValueError: another observer of that registry has the same labels, or the registry
                holds metrics of these names with other ones.
        """
        # prometheus_client's own counters take a lock and several calls each: too much for a
        # call that takes microseconds. These are plain numbers, put into words when scraped.
        self._counters: dict[str, Counter[_Labels]] = {name: Counter() for name in _COUNTERS}
        self._histograms: dict[str, dict[_Labels, _Histogram]] = {name: {} for name in _HISTOGRAMS}
        self._pools: dict[str, Callable[[], PoolUse]] = {}
        self._states: dict[str, str] = {}
        self._calls: dict[_Labels, _Histogram] = {}
        self._plain_trips: dict[_Labels, _Histogram] = {}
        self._rows = self._counters["rows"]
        self.constant: Final = tuple((labels or {}).values())
        names = tuple(labels or {})
        collectors = _COLLECTORS.setdefault(registry, {})
        if names not in collectors:
            collector = _Collector(names)
            registry.register(collector)
            collectors[names] = collector
        others = collectors[names].observers
        if any(other.constant == self.constant for other in others):
            raise ValueError(
                "another observer of this registry has the same labels: give each factory an"
                " observer of its own, with labels that tell them apart"
            )
        others.append(self)

    def notice(self, fact: Fact, /) -> None:
        """Count it."""
        if isinstance(fact, OperationEnded):
            self._count_operation(fact)
        elif isinstance(fact, TripEnded):
            self._count_trip(fact)
        elif isinstance(fact, CacheUsed):
            self._count_cache(fact)
        elif isinstance(fact, BatchSent):
            self._observe("batch_calls", (fact.backend, fact.operation or ""), fact.calls)
        elif isinstance(fact, Probed):
            self._counters["backend_probes"][fact.backend, outcome_of(fact.error)] += 1
        elif isinstance(fact, StateChanged):
            self._states[fact.backend] = fact.state
            self._counters["backend_transitions"][fact.backend, fact.state] += 1
        elif isinstance(fact, PoolOpened):
            self._pools[fact.backend] = fact.use
        elif isinstance(fact, PoolClosed):
            self._pools.pop(fact.backend, None)

    def operation_tally(self, operation: Operation, /) -> Tally:
        """Counts the calls of a method that return."""
        labels = (operation.port, operation.method, operation.backend, outcome_of(None))
        return _histogram_of(self._calls, labels)

    def trip_tally(self, place: Place, command: str, operation: Operation | None, /) -> Tally:
        """Counts trips that nothing had to wait for."""
        labels = _trip_labels(place, command, operation)
        return _histogram_of(self._plain_trips, labels)

    def _count_operation(self, ended: OperationEnded) -> None:
        operation = ended.operation
        labels = (operation.port, operation.method, operation.backend)
        outcome = outcome_of(ended.error)
        _histogram_of(self._calls, (*labels, outcome)).add(ended.took)
        if ended.rows_in is not None:
            self._rows[*labels, "in"] += ended.rows_in
        if ended.rows_out is not None:
            self._rows[*labels, "out"] += ended.rows_out

    def _count_trip(self, ended: TripEnded) -> None:
        trip, backend = ended.trip, ended.place.backend
        labels = _trip_labels(ended.place, ended.command, ended.operation)
        self._observe("trip_duration_seconds", labels, trip.took)
        self._observe("pool_wait_duration_seconds", (backend,), trip.waited)
        if trip.error is not None:
            self._counters["trip_errors"][backend, outcome_of(trip.error)] += 1
        if trip.retries:
            self._counters["retries"][backend,] += trip.retries
        if trip.timed_out:
            self._counters["timeouts"][backend,] += 1
        if trip.abandoned:
            self._counters["trips_abandoned"][backend,] += 1

    def _count_cache(self, use: CacheUsed) -> None:
        kind = use.kind or ""
        for name, labels, keys in (
            ("cache_lookups", (use.cache, kind, "hit"), use.hits),
            ("cache_lookups", (use.cache, kind, "miss"), use.misses),
            ("cache_loads", (use.cache, kind), use.loads),
            ("cache_stale_drops", (use.cache, kind), use.stale_drops),
        ):
            if keys:
                self._counters[name][labels] += keys

    def _observe(self, name: str, labels: _Labels, value: float) -> None:
        _histogram_of(self._histograms[name], labels, _HISTOGRAMS[name][2]).add(value)

    def add_to(self, families: Mapping[str, Metric]) -> None:
        """Put everything counted so far into the metrics of a scrape, on whatever thread."""
        calls = list(self._calls.items())
        counters = self._counters | {
            "operations": Counter(
                {labels: number for labels, one in calls if (number := one.number)}
            )
        }
        histograms = (
            self._histograms | {"operation_duration_seconds": _merged(calls)} | self._trips()
        )
        for name, counted in counters.items():
            family = families[name]
            assert isinstance(family, CounterMetricFamily)  # noqa: S101 - tells the type checkers
            for labels, count in list(counted.items()):
                family.add_metric((*labels, *self.constant), count)
        for name, observed in histograms.items():
            family = families[name]
            assert isinstance(family, HistogramMetricFamily)  # noqa: S101 - see above
            for labels, histogram in list(observed.items()):
                family.add_metric((*labels, *self.constant), histogram.buckets(), histogram.total)
        for name, labels, value in self._gauges():
            family = families[name]
            assert isinstance(family, GaugeMetricFamily)  # noqa: S101 - see above
            family.add_metric((*labels, *self.constant), value)

    def _trips(self) -> dict[str, dict[_Labels, _Histogram]]:
        """What was told of trips and what was tallied."""
        told, waits = "trip_duration_seconds", "pool_wait_duration_seconds"
        plain = list(self._plain_trips.items())
        at_once = [((labels[2],), one.without_time()) for labels, one in plain]
        return {
            told: _merged([*self._histograms[told].items(), *plain]),
            waits: _merged([*self._histograms[waits].items(), *at_once]),
        }

    def _gauges(self) -> Iterator[tuple[str, _Labels, float]]:
        for backend, ask in list(self._pools.items()):
            use = ask()
            yield "pool_connections", (backend, "in_use"), use.in_use
            yield "pool_connections", (backend, "idle"), use.idle
            yield "pool_connections_limit", (backend,), use.limit
            yield "pool_waiting_calls", (backend,), use.waiting
        for backend, state in list(self._states.items()):
            for known in STATES:
                yield "backend_state", (backend, known), float(known == state)


class _Collector(Collector):
    """What a registry scrapes: the metrics of all observers with labels of these names."""

    def __init__(self, constant: Sequence[str]) -> None:
        self.observers: list[PrometheusObserver] = []
        self._constant = constant

    def describe(self) -> list[Metric]:
        """The metrics without any value."""
        return list(self._families().values())

    def collect(self) -> list[Metric]:
        """The metrics as they are now."""
        families = self._families()
        for observer in list(self.observers):
            observer.add_to(families)
        return list(families.values())

    def _families(self) -> dict[str, Metric]:
        def labels(own: _Labels) -> _Labels:
            return (*own, *self._constant)

        return {
            **{
                name: CounterMetricFamily(_PREFIX + name, told, labels=labels(own))
                for name, (told, own) in _COUNTERS.items()
            },
            **{
                name: HistogramMetricFamily(_PREFIX + name, told, labels=labels(own))
                for name, (told, own, _) in _HISTOGRAMS.items()
            },
            **{
                name: GaugeMetricFamily(_PREFIX + name, told, labels=labels(own))
                for name, (told, own) in _GAUGES.items()
            },
        }


_COLLECTORS: Final[WeakKeyDictionary[CollectorRegistry, dict[_Labels, _Collector]]] = (
    WeakKeyDictionary()
)
