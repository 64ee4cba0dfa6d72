"""Records as COPY reads them: its text format, written some records at a time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any, Final, TypeAlias

import asyncpg
import orjson

from test_coordinator_data_adapter.adapters.postgres.codec import moment_text

__all__ = ["CopyText", "RecordsFailedError"]

_Record: TypeAlias = tuple[object, ...]

# A COPY has the event loop to itself for so many records, so much text and so many seconds at
# most. The server begins with the first of them while the next are written.
_RECORDS: Final = 250
_CHARACTERS: Final = 250_000
_TURN: Final = 0.005

# The backslash goes first: it is part of what the others become.
_ESCAPES: Final[Mapping[str, str]] = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}
_SPECIAL: Final = re.compile(r"[\\\t\n\r]")


class RecordsFailedError(Exception):
    """What the records raised, on its way past the driver and what is made of its errors."""

    def __init__(self, fault: Exception) -> None:
        """Carry ``fault``."""
        self.fault = fault


class CopyText:
    """Records in COPY's text format, part by part.

    In between others have the event loop, and the deadline is renewed.
    """

    __slots__ = ("_clock", "_kinds", "_limit", "_patience", "_records", "_taken")

    def __init__(
        self,
        kinds: Sequence[type],
        records: Iterable[_Record],
        patience: asyncio.Timeout,
        limit: float,
    ) -> None:
        """Write ``records``.

        Args:
            kinds: what each column holds beside None: str, int, float or datetime.
            records: a value for each column.
            patience: the deadline of a part, renewed when it is written.
            limit: seconds that sending a part may take.
        """
        self._kinds = kinds
        self._records = iter(records)
        self._patience = patience
        self._limit = limit
        self._clock = asyncio.get_running_loop().time
        self._taken: list[_Record] = []

    def __aiter__(self) -> CopyText:
        return self

    async def __anext__(self) -> bytes:
        await asyncio.sleep(0)
        part = self._next_part()
        self._patience.reschedule(self._clock() + self._limit)
        if not part:
            raise StopAsyncIteration
        return part

    def _next_part(self) -> bytes:
        """The next records as text; nothing behind the last of them.

        Raises:
            RecordsFailedError: there are none because of what they raised.
            asyncpg.DataError: a value is of another type, or no text; as for any parameter.
        """
        try:
            taken = self._taken or self._take()
        except Exception as fault:
            raise RecordsFailedError(fault) from fault
        if not taken:
            return b""
        try:
            number = _written_at_once(self._kinds, taken)
            self._taken = taken[number:]
            return _written(self._kinds, taken[:number])
        except (TypeError, ValueError):
            raise asyncpg.DataError from None

    def _take(self) -> list[_Record]:
        taken: list[_Record] = []
        until = self._clock() + _TURN
        for record in self._records:
            taken.append(record)
            if len(taken) == _RECORDS or self._clock() > until:
                break
        return taken


def _written_at_once(kinds: Sequence[type], records: Sequence[_Record]) -> int:
    """How many of the records, one at least, make one part."""
    columns = [
        column
        for kind, column in zip(kinds, zip(*records, strict=True), strict=True)
        if kind is str
    ]
    if sum(map(_length, columns)) <= _CHARACTERS:
        return len(records)
    reached = accumulate(map(_length, zip(*columns, strict=True)))
    return max(1, sum(length <= _CHARACTERS for length in reached))


def _length(texts: Sequence[str | None]) -> int:
    return sum(map(len, filter(None, texts)))


def _written(kinds: Sequence[type], records: Sequence[_Record]) -> bytes:
    columns = zip(kinds, zip(*records, strict=True), strict=True)
    texts = [_column_texts(kind, column) for kind, column in columns]
    return ("\n".join(map("\t".join, zip(*texts, strict=True))) + "\n").encode()


def _column_texts(kind: type, column: _Record) -> Iterable[str]:
    found = set(map(type, column))
    missing = type(None) in found
    found.discard(type(None))
    if not all(issubclass(one, kind) for one in found):
        raise TypeError
    if not missing:
        return _TEXTS[kind](column)
    present = iter(_TEXTS[kind]([value for value in column if value is not None]))
    return [r"\N" if value is None else next(present) for value in column]


def _texts(column: Sequence[str]) -> Iterable[str]:
    if _SPECIAL.search("".join(column)) is None:
        return column
    return map(_escaped, column)


def _escaped(text: str) -> str:
    for special, escape in _ESCAPES.items():
        text = text.replace(special, escape)
    return text


def _integers(column: Sequence[int]) -> Iterable[str]:
    return map(str, map(int, column))


def _floats(column: Sequence[float]) -> Iterable[str]:
    return map(repr, map(float, column))


def _moments(column: Sequence[datetime]) -> Iterable[str]:
    if all(type(moment) is datetime and moment.tzinfo is UTC for moment in column):
        # A fifth of the time: Python asks every time zone anew how far it is from UTC.
        return orjson.dumps(column).decode().strip('[]"').split('","')
    return map(moment_text, column)


_TEXTS: Final[Mapping[type, Callable[[Sequence[Any]], Iterable[str]]]] = {
    str: _texts,
    int: _integers,
    float: _floats,
    datetime: _moments,
}
