"""What belongs to one event loop, and says so to every other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from test_coordinator_data_adapter.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["only_loop"]


def only_loop(known: AbstractEventLoop | None, running: AbstractEventLoop) -> AbstractEventLoop:
    """The loop to remember: the first that came.

    Args:
        known: the one that came first; None: none has.
        running: another one.

    Raises:
        ConfigurationError: one had come before; futures and sockets of two loops, most of all
            of two threads, would wait for each other for ever.
    """
    if known is not None:
        raise ConfigurationError(
            "these connections belong to another event loop; open one factory per event loop"
        )
    return running
