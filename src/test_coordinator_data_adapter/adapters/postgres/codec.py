"""How times and JSON are written to PostgreSQL and read from it, and whole rows for COPY."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import asyncpg
import orjson

from test_coordinator_data_adapter.adapters.postgres.jsonb import json_bytes

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

__all__ = ["SESSION_FORMAT", "copy_text", "speak", "speaks"]

SESSION_FORMAT: Final[Mapping[str, str]] = {"datestyle": "ISO", "timezone": "UTC"}
"""The session's settings that the text of a time depends on."""

_ESCAPED: Final = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}
_SPECIAL: Final = re.compile(r"[\\\t\n\r]")


async def speak(connection: Connection) -> None:
    """Have a connection write and read times and JSON the way this library wants them."""
    # The driver makes a time of a number of microseconds by two objects and an addition, which is
    # more than half of what a row of results costs it; its text is read by one call.
    await connection.set_type_codec(
        "timestamptz",
        schema="pg_catalog",
        encoder=_moment_text,
        decoder=datetime.fromisoformat,
        format="text",
    )
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=_encode_json,
        decoder=_decode_json,
        format="binary",
    )


def speaks(connection: Connection) -> bool:
    """Whether the session still has the settings it began with: whose it was may change them.

    The server tells of every change by itself, so nothing is asked.
    """
    settings = connection.get_settings()
    return bool(settings.TimeZone == "UTC" and settings.DateStyle.startswith("ISO"))


def copy_text(kinds: Sequence[type], records: Sequence[tuple[object, ...]]) -> bytes:
    """Rows as COPY reads them, in its text format.

    Args:
        kinds: what each column holds beside None: str, int or datetime.
        records: one value for each column; at least one record.

    Raises:
        asyncpg.DataError: a value is of another type, or no text; as for any other parameter.
    """
    try:
        columns = zip(kinds, zip(*records, strict=True), strict=True)
        texts = [_column_text(kind, column) for kind, column in columns]
        return ("\n".join(map("\t".join, zip(*texts, strict=True))) + "\n").encode()
    except (TypeError, ValueError):
        raise asyncpg.DataError from None


def _column_text(kind: type, column: tuple[object, ...]) -> Iterable[str]:
    found = set(map(type, column))
    missing = type(None) in found
    found.discard(type(None))
    if not all(issubclass(one, kind) for one in found):
        raise TypeError
    held = [value for value in column if value is not None] if missing else column
    texts = list(_TEXTS[kind](held))
    if missing:
        present = iter(texts)
        return [r"\N" if value is None else next(present) for value in column]
    return texts


def _escaped(column: Sequence[str]) -> Iterable[str]:
    if _SPECIAL.search("".join(column)) is None:
        return column
    return (_SPECIAL.sub(lambda found: _ESCAPED[found[0]], text) for text in column)


def _moment_text(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise ValueError  # whose time would it be?
    return moment.isoformat()


def _moment_texts(column: Sequence[datetime]) -> Iterable[str]:
    if {(type(moment), moment.tzinfo) for moment in column} == {(datetime, UTC)}:
        # A fifth of the time: Python asks every time zone anew how far it is from UTC.
        return orjson.dumps(column).decode().strip('[]"').split('","')
    return map(_moment_text, column)


_TEXTS: Final[Mapping[type, Callable[[Sequence[Any]], Iterable[str]]]] = {
    str: _escaped,
    int: lambda column: map(str, column),
    datetime: _moment_texts,
}


def _encode_json(value: object) -> bytes:
    # Text is JSON already: SQLAlchemy serialises by itself. 1 is the version of jsonb's format.
    if isinstance(value, str):
        return b"\x01" + value.encode()
    if isinstance(value, bytes):
        return b"\x01" + value
    return b"\x01" + json_bytes(value)


def _decode_json(value: bytes) -> object:
    return orjson.loads(memoryview(value)[1:])
