"""So many trips at once and no more."""

from __future__ import annotations

import asyncio

from test_coordinator_data_adapter.adapters.redis.route import Stopwatch
from test_coordinator_data_adapter.adapters.redis.translation import Phase, translate
from test_coordinator_data_adapter.resilience.event_loop import only_loop

__all__ = ["Limit"]


class Limit:
    """A waiting line with a bounded wait; it belongs to the event loop that comes first.

    Attributes:
        size: how many there are at once at most.
        waiting: how many wait until there is one fewer.
    """

    def __init__(self, size: int, patience: float) -> None:
        """Let ``size`` in at once, and have the others wait ``patience`` seconds at most."""
        self.size = size
        self.waiting = 0
        self._patience = patience
        self._free = asyncio.Semaphore(size)
        self._loop: asyncio.AbstractEventLoop | None = None

    def require_its_loop(self) -> None:
        """Let nobody in from another event loop, not even to wait: that would spoil the line.

        Raises:
            ConfigurationError: another one came first.
        """
        if (loop := asyncio.get_running_loop()) is not self._loop:
            self._loop = only_loop(self._loop, loop)

    async def acquire(self, stopwatch: Stopwatch | None) -> None:
        """Come in, and `release` later.

        Args:
            stopwatch: is told when it takes too long.

        Raises:
            OverloadedError: it took too long.
            ConfigurationError: it belongs to another event loop.
        """
        self.require_its_loop()
        if not self._free.locked():
            await self._free.acquire()
            return
        self.waiting += 1
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError as late:
            if stopwatch is not None:
                stopwatch.failed(late)
            raise translate(late, phase=Phase.WAITING, writes=False) from None
        finally:
            self.waiting -= 1

    def release(self) -> None:
        """Leave."""
        self._free.release()
