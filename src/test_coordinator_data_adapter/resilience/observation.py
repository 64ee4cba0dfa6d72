"""What there is to know about the way to a backend, told where it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Final, Protocol

from test_coordinator_data_adapter.errors import AdapterError
from test_coordinator_data_adapter.resilience.call_health import CallHealth

__all__ = [
    "STATES",
    "CacheUsed",
    "Hooks",
    "HooksAt",
    "OnBatch",
    "OnCacheUsed",
    "OnPlainTrip",
    "OnPool",
    "OnSupervision",
    "OnTrip",
    "Place",
    "PoolUse",
    "Probed",
    "StateChanged",
    "Trip",
    "no_hooks",
]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a backend is, as far as it may be told.

    Attributes:
        backend: "postgres" or "redis".
        namespace: database and schema as ``database|schema``, or the number of a Redis database.
        address: host, or path of a socket; None where several servers may answer.
        port: None for the backend's usual one.
    """

    backend: str
    namespace: str | None = None
    address: str | None = None
    port: int | None = None


# Made for every trip: frozen, it would cost three times as much to make.
@dataclass(slots=True)
class Trip:
    """One trip to a backend and back, told once, when it is over.

    Attributes:
        command: what was sent, without any value: the text of a statement, the name of a command.
        entity: what it was about: "test_run" ..., or None.
        waited: seconds until there was a connection to send it on.
        took: seconds from sending to the answer or the failure.
        rows: how many rows came back or went out; to Redis, how many commands were sent.
        error: what it failed with, as told to the caller or, where it is tried again, as it would
            have been told; None for an answer.
        abandoned: whether the caller was cancelled before the answer came.
        retries: how often what had failed was sent again: within this trip or, where each attempt
            is told as a trip of its own, 1 for every trip but the first.
        timed_out: whether a deadline ended it, also that of waiting for a connection.
    """

    command: str
    entity: str | None
    waited: float
    took: float
    rows: int
    error: AdapterError | None = None
    abandoned: bool = False
    retries: int = 0
    timed_out: bool = False


class OnTrip(Protocol):
    """Is told of every trip, on the event loop: return at once and raise nothing."""

    def __call__(self, trip: Trip, /) -> None:
        """Take note of a trip that is over."""


class OnPlainTrip(Protocol):
    """Is told of trips of which nothing is wanted but their time; on the event loop, as others."""

    def __call__(self, command: str, took: float, /) -> None:
        """Take note of a trip that was answered at the first attempt, without any waiting.

        Args:
            command: what was sent, as in ``Trip``.
            took: seconds from sending to the answer.
        """


class OnBatch(Protocol):
    """Is told how many calls travel together, each time several do; raises nothing."""

    def __call__(self, operation: str | None, calls: int, /) -> None:
        """Take note of a batch.

        Args:
            operation: what the calls asked for, such as "cache.get"; None: not said.
            calls: how many share the trip, 2 or more.
        """


@dataclass(frozen=True, slots=True)
class PoolUse:
    """How busy a pool of connections is.

    Attributes:
        size: how many connections are kept when they are not needed.
        limit: how many there may be.
        open: how many there are.
        in_use: how many are doing something, or are being opened.
        waiting: how many callers wait for one.
    """

    size: int
    limit: int
    open: int
    in_use: int
    waiting: int

    @property
    def idle(self) -> int:
        """How many are open and do nothing."""
        return max(0, self.open - self.in_use)


STATES: Final = ("live", "lost", "unavailable", "misconfigured", "closed")
"""What can be known of a backend; "lost": its repositories raise until it answers again."""


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A backend can be used from now on, or cannot.

    Attributes:
        backend: "postgres" or "redis".
        state: what is known of it now, one of `STATES`.
        previous: what was known of it until now.
    """

    backend: str
    state: str
    previous: str


@dataclass(frozen=True, slots=True)
class Probed:
    """An attempt to open a backend, or to ask it how it is, is over.

    Attributes:
        backend: "postgres" or "redis".
        took: seconds.
        error: what it failed with; None: it answered.
    """

    backend: str
    took: float
    error: AdapterError | None


class OnSupervision(Protocol):
    """Is told what becomes of a backend: return at once and raise nothing."""

    def __call__(self, fact: StateChanged | Probed, /) -> None:
        """Take note of a probe, or of a change of state."""


@dataclass(frozen=True, slots=True)
class CacheUsed:
    """What one look at a cache came to; each number counts keys.

    Attributes:
        cache: which one: "cache" for the repository, "reads" for cached reads.
        kind: what was looked for: "test_run" ..., or None for whatever callers keep there.
        hits: answered from it.
        misses: not there.
        loads: fetched from behind it, and put there.
        stale_drops: thrown away because a write had overtaken them.
    """

    cache: str
    kind: str | None = None
    hits: int = 0
    misses: int = 0
    loads: int = 0
    stale_drops: int = 0


class OnCacheUsed(Protocol):
    """Is told of every look at a cache: return at once and raise nothing."""

    def __call__(self, use: CacheUsed, /) -> None:
        """Take note of what it came to."""


class OnPool(Protocol):
    """Is told of a pool of connections when it opens, and when it is gone; raises nothing."""

    def __call__(self, use: Callable[[], PoolUse] | None, /) -> None:
        """Take note.

        Args:
            use: asks how busy it is, on any thread; None: it is gone.
        """


@dataclass(frozen=True, slots=True)
class Hooks:
    """What a backend calls to tell of itself; None where nobody wants to know.

    Attributes:
        on_trip: is told of trips.
        trips_from: seconds from which a trip is to be told. Comparing with it is all that a trip
            costs which nobody wants to know of.
        on_batch: is told of calls that travel together.
        on_pool: is told of the pool.
        on_plain_trip: is told, instead of ``on_trip``, of trips that were answered at the first
            attempt, on a connection nobody had to wait for.
        plain_below: seconds from which a trip is told to ``on_trip`` all the same.
        calls: where every call reports how it ended.
    """

    on_trip: OnTrip | None = None
    trips_from: float = 0.0
    on_batch: OnBatch | None = None
    on_pool: OnPool | None = None
    on_plain_trip: OnPlainTrip | None = None
    plain_below: float = inf
    calls: CallHealth = field(default_factory=CallHealth, compare=False)


class HooksAt(Protocol):
    """Hands a backend its hooks, once it knows where it is."""

    def __call__(self, place: Place, /) -> Hooks:
        """The hooks for what happens on the way to that place."""
        ...


def no_hooks(_place: Place, /) -> Hooks:
    """Nobody wants to know."""
    return Hooks()
