"""How JSON and times are written to PostgreSQL and read from it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias

import orjson

from test_coordinator_data_adapter.adapters.postgres.jsonb import json_bytes

if TYPE_CHECKING:
    import asyncpg

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

__all__ = ["moment_text", "set_jsonb_codec", "set_text_timestamps"]

# The session's settings that the text of a value depends on, as the server reports them.
_FORMAT: Final[Mapping[str, str]] = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO",
    "TimeZone": "UTC",
}
_SET_FORMAT: Final = "; ".join(f"SET {name} TO '{value}'" for name, value in _FORMAT.items())


async def set_jsonb_codec(connection: Connection) -> None:
    """Have a connection write and read jsonb the way this library wants it."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=_encode_json,
        decoder=_decode_json,
        format="binary",
    )


async def set_text_timestamps(connection: Connection) -> None:
    """Have a connection write and read times as text, in UTC.

    The driver makes a time of a number of microseconds by two objects and an addition, which is
    more than half of what a row of results costs it; its text is read by one call.
    """
    settings = connection.get_settings()
    # A pooler in between may have kept these settings to itself.
    reported = ((getattr(settings, name, ""), value) for name, value in _FORMAT.items())
    if not all(now.startswith(value) for now, value in reported):
        await connection.execute(_SET_FORMAT)
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        encoder=moment_text,
        decoder=datetime.fromisoformat,
        format="text",
    )


def moment_text(moment: datetime) -> str:
    """A time as PostgreSQL reads it.

    Raises:
        ValueError: it has no time zone: whose time would it be?
    """
    if moment.tzinfo is not UTC:
        if moment.utcoffset() is None:
            raise ValueError
        moment = moment.astimezone(UTC)
    return moment.isoformat()


def _encode_json(value: object) -> bytes:
    # Text is JSON already: SQLAlchemy serialises by itself. 1 is the version of jsonb's format.
    if isinstance(value, str):
        return b"\x01" + value.encode()
    if isinstance(value, bytes):
        return b"\x01" + value
    return b"\x01" + json_bytes(value)


def _decode_json(value: bytes) -> object:
    return orjson.loads(memoryview(value)[1:])
