"""What a topology has to offer to the waist: trips there and back."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from redis import exceptions

from test_coordinator_data_adapter.resilience.observation import PoolUse

__all__ = ["Command", "Greeting", "Nature", "Node", "Reply", "Route", "Stopwatch"]

Command: TypeAlias = tuple[bytes | str | int, ...]
"""The name of a command and its arguments."""

Reply: TypeAlias = object
"""bytes, int, None, a list of these, or the `redis.exceptions.ResponseError` that was replied."""

Node: TypeAlias = object
"""One server that holds a part of the keys, as the route knows it."""


@dataclass(frozen=True, slots=True)
class Nature:
    """What a trip does, which decides what may be done when it fails.

    Attributes:
        writes: it changes something: a lost answer leaves the outcome unknown.
        repeatable: doing it twice leaves the same behind and answers the same, so it is tried
            once more when its connection turns out to be dead.
    """

    writes: bool
    repeatable: bool


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a server says about itself; None where it does not.

    Attributes:
        role: "master" or "replica".
        version: such as "7.0.15".
    """

    role: str | None = None
    version: str | None = None


class Stopwatch:
    """Times one trip: until it had a connection, and from there to its end."""

    __slots__ = ("_sent", "_start", "late", "repeats")

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._sent: float | None = None
        self.late = False
        """Whether a deadline ended it."""
        self.repeats = 0
        """How often it was sent again."""

    def sent(self) -> None:
        """It has a connection and sets out; only the first time counts."""
        if self._sent is None:
            self._sent = time.perf_counter()

    def failed(self, error: BaseException) -> None:
        """It failed; whether because it was late, the driver's error tells."""
        self.late = isinstance(error, TimeoutError | exceptions.TimeoutError)

    def read(self) -> tuple[float, float]:
        """Seconds waited, and seconds taken since."""
        now = time.perf_counter()
        sent = now if self._sent is None else self._sent
        return sent - self._start, now - sent


class Route(Protocol):
    """One way to the servers."""

    @property
    def spreads(self) -> bool:
        """Whether keys live on several servers, so that one command takes one key."""
        ...

    @property
    def answered_at(self) -> float:
        """When a server last replied, on the clock of `time.monotonic`."""
        ...

    @property
    def greeting(self) -> Greeting:
        """What the server said about itself last."""
        ...

    def pool_use(self) -> PoolUse:
        """How much of the limit is taken."""
        ...

    async def nodes(self) -> Sequence[Node]:
        """The servers that hold keys, each part of them once."""
        ...

    async def trip(
        self,
        commands: Sequence[Command],
        nature: Nature,
        *,
        node: Node | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> list[Reply]:
        """Send commands together and read a reply to each, refusals of single ones included.

        Args:
            commands: one or more; carried out in order on each server.
            nature: what may be done when it fails.
            node: one of `nodes` to go to; None: where the keys live.
            stopwatch: is told when there is a connection.

        Raises:
            AdapterError: no replies came; says whether it can have been applied.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection; a trip under way fails."""
        ...
