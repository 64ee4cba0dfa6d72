"""Things of one kind, counted by how long they took."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

__all__ = ["Tally"]


class Tally:
    """Counts things of one kind by how long they took; whoever made it reads it at any time.

    Attributes:
        bounds: in seconds, ascending; each is the longest that is counted below it.
        counts: how many there were for each bound, and last those that took longer.
        total: seconds that all of them took together.
    """

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Start with nothing counted."""
        self.bounds: Final[tuple[float, ...]] = tuple(bounds)
        self.counts: list[int] = [0] * (len(bounds) + 1)
        self.total: float = 0.0

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds
