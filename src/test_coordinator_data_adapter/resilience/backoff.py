"""How long to wait before trying again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter: any moment up to the bound is as likely as another.

    Attributes:
        attempts: how often something is tried in all, the first time included.
        base: the bound of the first pause, in seconds; it doubles from pause to pause.
        cap: what no bound exceeds, in seconds.
    """

    attempts: int = 5
    base: float = 0.025
    cap: float = 1.0

    def pause(self, failures: int, random: Callable[[], float]) -> float | None:
        """How long to wait after so many failures.

        Args:
            failures: how often it failed so far, 1 or more.
            random: draws a number from 0 to 1, such as ``random.random``.

        Returns:
            Seconds, or None when it has been tried often enough.
        """
        if failures >= self.attempts:
            return None
        return random() * min(self.cap, self.base * 2.0 ** min(failures - 1, 60))
