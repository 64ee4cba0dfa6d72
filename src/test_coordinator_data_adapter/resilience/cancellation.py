"""Work that is not to be broken off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

__all__ = ["to_its_end"]

ResultT = TypeVar("ResultT")


async def to_its_end(
    work: asyncio.Future[ResultT], *, on_cancel: Callable[[], object] = lambda: None
) -> ResultT:
    """Wait for work that has to be done, come what may.

    Args:
        work: what is under way; it ends in bounded time.
        on_cancel: what may hurry it when nobody wants its result any more.

    Returns:
        What came of it.

    Raises:
        asyncio.CancelledError: whoever waits was cancelled; the work is done all the same.
        Exception: what the work failed with.
    """
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        on_cancel()
        while not work.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait((work,))
        if not work.cancelled():
            work.exception()  # so that asyncio does not take it for overlooked
        raise
