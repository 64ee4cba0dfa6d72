"""The in-memory entries under the cache stub: JSON values that expire."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

from test_coordinator_data_adapter.models.values import JsonValue, copy_json

__all__ = ["Entries"]

_FEW: Final = 64


class Entries:
    """Values under keys, each with an optional moment at which it is gone."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """Make it empty; ``monotonic`` gives seconds that never step back."""
        self._monotonic = monotonic
        self._held: dict[str, tuple[JsonValue, float | None]] = {}
        self._expiring: list[tuple[float, str]] = []

    def _drop_expired(self) -> None:
        if not self._expiring:
            return
        now = self._monotonic()
        while self._expiring and self._expiring[0][0] <= now:
            moment, key = heapq.heappop(self._expiring)
            held = self._held.get(key)
            # An entry that was set again or given another life has a newer mark of its own.
            if held is not None and held[1] == moment:
                del self._held[key]

    def __contains__(self, key: str) -> bool:
        self._drop_expired()
        return key in self._held

    def names(self) -> list[str]:
        """Every key, in no order."""
        self._drop_expired()
        return list(self._held)

    def get(self, key: str) -> JsonValue:
        """A copy of the value, None without one."""
        self._drop_expired()
        held = self._held.get(key)
        return None if held is None else copy_json(held[0])

    def put(self, key: str, value: JsonValue, seconds: float | None) -> None:
        """Keep a value nobody else holds, for so many seconds or for good."""
        expires = None if seconds is None else self._monotonic() + seconds
        self._held[key] = (value, expires)
        self._mark(key, expires)

    def change(self, key: str, value: JsonValue) -> None:
        """Give an entry another value and leave its expiry."""
        expires = self._held[key][1] if key in self._held else None
        self._held[key] = (value, expires)

    def expire(self, key: str, seconds: float) -> bool:
        """Give an entry another life; True when it was there."""
        self._drop_expired()
        if key not in self._held:
            return False
        expires = self._monotonic() + seconds
        self._held[key] = (self._held[key][0], expires)
        self._mark(key, expires)
        return True

    def left(self, key: str) -> float | None:
        """Seconds until an entry expires; None: no entry or no expiry."""
        self._drop_expired()
        expires = self._held.get(key, (None, None))[1]
        return None if expires is None else expires - self._monotonic()

    def drop(self, key: str) -> bool:
        """Remove an entry; True when it was there."""
        self._drop_expired()
        return self._held.pop(key, None) is not None

    def _mark(self, key: str, expires: float | None) -> None:
        if expires is None:
            return
        heapq.heappush(self._expiring, (expires, key))
        # Keys that are set again and again leave old marks behind: sweep before they pile up.
        if len(self._expiring) > _FEW and len(self._expiring) > 2 * len(self._held):
            self._expiring = [
                (moment, held) for held, (_, moment) in self._held.items() if moment is not None
            ]
            heapq.heapify(self._expiring)
