"""Processes that use the embedded server of a folder until their input ends.

    owner.py KIND FOLDER COUNT

Each of COUNT processes, forked at once, prints one line of JSON when it has started.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from test_coordinator_data_adapter.embedded import EmbeddedPostgres, EmbeddedValkey
from test_coordinator_data_adapter.errors import AdapterError


async def use(kind: str, folder: Path) -> None:
    try:
        if kind == "postgres":
            async with EmbeddedPostgres(folder, start_timeout=300) as postgres:
                await report(postgres.endpoint.owner_url, folder / "postgres/data/postmaster.pid")
        else:
            async with EmbeddedValkey(folder, start_timeout=300) as valkey:
                await report(valkey.endpoint.url, folder / "valkey/data/valkey.pid")
    except AdapterError as error:
        say(error=type(error).__name__, message=str(error))


async def report(url: str, pid_file: Path) -> None:
    text = await asyncio.to_thread(pid_file.read_text)
    say(url=url, server=int(text.split("\n", 1)[0]), owner=os.getpid())
    await asyncio.to_thread(sys.stdin.read)


def say(**report: object) -> None:
    sys.stdout.write(json.dumps(report) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, kind, folder, count = sys.argv
    children: list[int] = []
    for _ in range(int(count) - 1):
        child = os.fork()
        if child == 0:
            children.clear()
            break
        children.append(child)
    asyncio.run(use(kind, Path(folder)))
    for child in children:
        os.waitpid(child, 0)
