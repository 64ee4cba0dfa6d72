"""What belongs to one event loop, and says so to every other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from test_coordinator_data_adapter.errors import ConfigurationError

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop

__all__ = ["WrongEventLoopError", "only_loop"]


class WrongEventLoopError(ConfigurationError):
    """The caller uses connections of another event loop; it says nothing about the backend."""


def only_loop(known: AbstractEventLoop | None, running: AbstractEventLoop) -> AbstractEventLoop:
    """The loop to remember: the first that came.

    Args:
        known: the one that came first; None: none has.
        running: another one.

    Raises:
        WrongEventLoopError: one had come before; futures and sockets of two loops, most of all
            of two threads, would wait for each other for ever.
    """
    if known is not None:
        raise WrongEventLoopError(
            "these connections belong to another event loop; open one factory per event loop"
        )
    return running
