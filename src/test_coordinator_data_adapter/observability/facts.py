"""Everything there is to observe, and who observes it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol, TypeAlias, runtime_checkable

from test_coordinator_data_adapter import errors
from test_coordinator_data_adapter.errors import AdapterError
from test_coordinator_data_adapter.observability.tally import Tally
from test_coordinator_data_adapter.resilience.observation import (
    STATES,
    CacheUsed,
    Place,
    PoolUse,
    Probed,
    StateChanged,
    Trip,
)

__all__ = [
    "STATES",
    "BatchSent",
    "CacheUsed",
    "Fact",
    "Observer",
    "Operation",
    "OperationEnded",
    "OperationStarted",
    "Place",
    "PoolClosed",
    "PoolOpened",
    "PoolUse",
    "Probed",
    "StateChanged",
    "TallyingObserver",
    "Trip",
    "TripEnded",
    "command_of",
    "outcome_of",
]

_OUTCOMES: Final = frozenset(errors.__all__)


# Facts of every call are not frozen: that would double what it costs to make them.
@dataclass(slots=True, eq=False)
class Operation:
    """One call of a repository's method, from outside: calls within it belong to it.

    Where every observer is a `TallyingObserver` the calls of a method share one, without an id.

    Attributes:
        port: "test_results", "cache" ...
        method: "bulk_create" ...
        backend: "stub", "postgres" or "redis".
        id: of the entity, or the cache key, where the call names one. It has no bounded number of
            values: for logs, never for labels.
    """

    port: str
    method: str
    backend: str
    id: str | None = None

    @property
    def name(self) -> str:
        """Port and method: "test_results.bulk_create"."""
        return f"{self.port}.{self.method}"


@dataclass(slots=True, eq=False)
class OperationStarted:
    """A method was called; of a stream, its first item asked for."""

    operation: Operation


@dataclass(slots=True, eq=False)
class OperationEnded:
    """A method returned or raised; a stream ended, failed or was given up.

    Attributes:
        operation: the same object that started.
        took: seconds; of a stream, without those in which its consumer had the item.
        error: what it raised; None: it returned, or a stream's consumer had enough.
        rows_in: how many items a bulk call was given; None of other calls.
        rows_out: how many items a call that answers with many answered with; None of other calls
            and of those that raised.
    """

    operation: Operation
    took: float
    error: BaseException | None
    rows_in: int | None
    rows_out: int | None

    @property
    def outcome(self) -> str:
        """How it ended, as `outcome_of` says."""
        return outcome_of(self.error)


@dataclass(slots=True, eq=False)
class TripEnded:
    """A trip to a backend is over.

    Attributes:
        trip: what there is to know of it.
        place: where it went.
        operation: what it was for, the first one where several share it; None: for none.
    """

    trip: Trip
    place: Place
    operation: Operation | None

    @property
    def command(self) -> str:
        """What was sent, in a bounded number of words: "SELECT", "COPY", "MGET", "PIPELINE" ..."""
        return command_of(self.place.backend, self.trip.command)


@dataclass(frozen=True, slots=True)
class BatchSent:
    """Calls of the same moment travel together.

    Attributes:
        backend: "postgres" or "redis".
        operation: what they asked for, such as "test_results.get_by_id"; None: not said.
        calls: how many they are.
    """

    backend: str
    operation: str | None
    calls: int


@dataclass(frozen=True, slots=True)
class PoolOpened:
    """There is a pool of connections from now on.

    Attributes:
        backend: "postgres" or "redis".
        use: asks how busy it is, at any time until it is closed, on any thread.
    """

    backend: str
    use: Callable[[], PoolUse]


@dataclass(frozen=True, slots=True)
class PoolClosed:
    """That pool is gone."""

    backend: str


Fact: TypeAlias = (
    OperationStarted
    | OperationEnded
    | TripEnded
    | BatchSent
    | CacheUsed
    | Probed
    | StateChanged
    | PoolOpened
    | PoolClosed
)
"""One of those above. There may be more in a later version: pass over what you do not know."""

_OTHER: Final = "OTHER"
_VERBS: Final = re.compile(
    r"(?:BEGIN|COMMIT|COPY|DELETE|EXPLAIN|INSERT|LISTEN|LOCK|MERGE|NOTIFY|ROLLBACK|SELECT|SET|SHOW"
    r"|TRUNCATE|UPDATE|VALUES)\b",
    re.IGNORECASE,
)
_CHANGES: Final = re.compile(
    r"\b(?:DELETE FROM|INSERT INTO|MERGE INTO|(?<!FOR )(?<!KEY )UPDATE)\b", re.IGNORECASE
)


@lru_cache(maxsize=512)
def _verb_of(sql: str) -> str:
    begins = sql.lstrip(" \t\r\n(")
    if begins[:4].upper() == "WITH":
        change = _CHANGES.search(begins)
        return change.group().partition(" ")[0].upper() if change else "SELECT"
    verb = _VERBS.match(begins)
    return verb.group().upper() if verb else _OTHER


def command_of(backend: str, sent: str) -> str:
    """What was sent, in a bounded number of words: "SELECT", "COPY", "MGET", "PIPELINE" ..."""
    if backend == "postgres":
        return _verb_of(sent)
    if not sent.isalpha():
        return "PIPELINE" if sent.replace(" ", "").isalpha() else _OTHER
    return sent


class Observer(Protocol):
    """Whoever wants to know what happens; give it to the factory.

    It is told on the event loop, in the middle of the call it is told of: it returns at once.
    What it raises is swallowed and logged once; the call goes on. Kinds of facts that it names
    in an attribute ``passes_over``, a collection, it is not told of where that saves something.
    """

    def notice(self, fact: Fact, /) -> None:
        """Take note."""


@runtime_checkable
class TallyingObserver(Observer, Protocol):
    """An observer that counts and times what is ordinary, and needs no fact for that.

    To make a fact takes longer than to count it. Where every observer of a factory is of this
    kind, and operations are not logged, what is ordinary is added to tallies, of which there is
    one for everything that is counted together; ``notice`` is told of all the rest, but not of
    `OperationStarted`.
    """

    def operation_tally(self, operation: Operation, /) -> Tally:
        """What counts the calls of one method that return.

        It is asked for methods whose `OperationEnded` would tell no rows, and that look up
        nothing in the cache; the calls of others, and those that raise, are facts.

        Args:
            operation: which method, of which backend.
        """
        ...

    def trip_tally(self, place: Place, command: str, operation: Operation | None, /) -> Tally:
        """What counts the trips that are answered at the first attempt without waiting at all.

        It may be asked for the same ones again. A trip that is logged as slow is a fact.

        Args:
            place: where they go.
            command: what is sent, in the words of ``TripEnded.command``.
            operation: what they are for; None: for none.
        """
        ...


def outcome_of(error: BaseException | None) -> str:
    """How something ended, in a bounded number of words.

    Returns:
        "ok"; the name of the error, or of the nearest one of this library that it is one of;
        "CancelledError"; "other" for what this library does not raise on purpose.
    """
    if error is None:
        return "ok"
    if isinstance(error, AdapterError):
        return next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _OUTCOMES)
    return "CancelledError" if isinstance(error, asyncio.CancelledError) else "other"
