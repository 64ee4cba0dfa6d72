"""Which processors the benchmark's process and the server's run on."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from benchmarks.stage import Stage, connected

ELSEWHERE = "the server on another processor"


async def server_processes(stage: Stage) -> list[int]:
    """Those that answer us."""
    async with connected(stage.url) as connection:
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
    return [row["pid"] for row in rows]


def placements() -> Iterator[tuple[set[int], set[int], str]]:
    """Processors for this process and for the server's, and what that is called.

    Whether two processes that answer each other share a processor halves or doubles the time of a
    trip: left to the scheduler, that is what would be measured.
    """
    processors = os.sched_getaffinity(0) if hasattr(os, "sched_setaffinity") else set[int]()
    if not processors:
        yield processors, processors, "on whatever processors"
        return
    ours, theirs = min(processors), max(processors)
    if ours != theirs:
        yield {ours}, {theirs}, ELSEWHERE
    yield {ours}, {ours}, "the server on the same processor"


@contextmanager
def kept_on(ours: set[int], theirs: set[int], servers: Sequence[int]) -> Iterator[None]:
    """Keep this process and the server's on their processors until the block ends."""
    if not ours:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, ours)
    for server in servers:
        os.sched_setaffinity(server, theirs)
    try:
        yield
    finally:
        for process in (0, *servers):
            with suppress(ProcessLookupError):
                os.sched_setaffinity(process, before)
