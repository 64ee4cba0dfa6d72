"""How many lines of one kind may be logged in a minute."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

__all__ = ["LogBudget"]

_MINUTE: Final = 60.0


class LogBudget:
    """Allows a few lines a minute, and counts those that it suppresses."""

    __slots__ = ("_clock", "_per_minute", "_suppressed", "_tokens", "_updated_at")

    def __init__(self, per_minute: int = 5, *, clock: Callable[[], float] = monotonic) -> None:
        """Allow so many lines at once, and so many in every minute after that."""
        self._per_minute = per_minute
        self._clock = clock
        self._tokens = float(per_minute)
        self._updated_at = clock()
        self._suppressed = 0

    def take(self) -> int | None:
        """Ask whether a line may be logged.

        Returns:
            How many were suppressed since the last line that was allowed; None: suppress this one.
        """
        now = self._clock()
        earned = (now - self._updated_at) * self._per_minute / _MINUTE
        self._tokens = min(float(self._per_minute), self._tokens + earned)
        self._updated_at = now
        if self._tokens < 1.0:
            self._suppressed += 1
            return None
        self._tokens -= 1.0
        suppressed, self._suppressed = self._suppressed, 0
        return suppressed
