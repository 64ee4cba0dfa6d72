"""How soon a server that had no room for another connection is asked for one again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["TooManyConnectionsBackoff"]

# The pause after the first refusal, in seconds; each further one doubles it, up to the longest.
_FIRST: Final = 0.05
_LONGEST: Final = 1.0
# PostgreSQL counts connections that it refuses while they last, those of the same moment against
# each other: whoever asks alone and after so long, in seconds, is refused for others.
_LINGERING: Final = 0.4


class TooManyConnectionsBackoff:
    """The refusals since a connection was last opened, or failed to open for another reason.

    Args:
        over: called whenever a pause ends.
    """

    def __init__(self, over: Callable[[], object]) -> None:
        self._over = over
        self._pause = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __bool__(self) -> bool:
        return self._pause > 0.0

    @property
    def pausing(self) -> bool:
        """Whether the server is not to be asked now."""
        return self._timer is not None

    @property
    def final(self) -> bool:
        """Whether asking alone once more is in vain: it was tried long enough."""
        return self._pause > _LINGERING

    def add(self) -> float:
        """Note one, and tell for how many seconds not to ask again.

        Those that come during a pause were asked for before it, and make it no longer.
        """
        loop = asyncio.get_running_loop()
        if self._timer is None:
            self._pause = min(max(_FIRST, 2 * self._pause), _LONGEST)
            self._timer = loop.call_later(self._pause, self._end)
        return max(0.0, self._timer.when() - loop.time())

    def reset(self) -> None:
        """Forget them: the server is not full, or there is no telling."""
        self._pause = 0.0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self) -> None:
        self._timer = None
        self._over()
