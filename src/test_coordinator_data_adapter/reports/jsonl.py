"""Stored entities as JSON Lines."""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import TextIO

from test_coordinator_data_adapter.models.entity import Entity

__all__ = ["write_jsonl"]


async def write_jsonl(entities: AsyncIterable[Entity], out: TextIO) -> int:
    """Write one JSON object for each entity, each on a line of its own.

    The first member, ``kind``, is the kind ("scenario", "test_run", "chaos_event",
    "test_result"); the others are the fields of the model, timestamps in ISO 8601 in UTC, so
    that ``Model.model_validate_json`` reads a line back once ``kind`` is removed.

    Args:
        entities: what to write, in this order; one is in memory at a time.
        out: a text file in UTF-8.

    Returns:
        How many entities were written.
    """
    written = 0
    async for entity in entities:
        out.write(f'{{"kind":"{entity.entity_name}",{entity.model_dump_json()[1:]}\n')
        written += 1
    return written
