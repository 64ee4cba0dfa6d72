"""Values that stores get wrong: what must come back unchanged, what must be refused."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, Final, cast

from test_coordinator_data_adapter.models.values import (
    MAX_DEPTH,
    MAX_INTEGER,
    MAX_LABELS,
    MAX_RECORD_BYTES,
    JsonObject,
    JsonValue,
)

__all__ = [
    "GOOD_IDS",
    "GOOD_JSON",
    "GOOD_LABELS",
    "GOOD_NUMBERS",
    "GOOD_TEXTS",
    "MIN_INTEGER",
    "REFUSED_BATCH_SIZES",
    "REFUSED_CURSORS",
    "REFUSED_IDS",
    "REFUSED_ID_ARGUMENTS",
    "REFUSED_INTEGERS",
    "REFUSED_JSON",
    "REFUSED_LABELS",
    "REFUSED_LIMITS",
    "REFUSED_MILLISECONDS",
    "REFUSED_MOMENTS",
    "REFUSED_MOMENT_ARGUMENTS",
    "REFUSED_NUMBERS",
    "REFUSED_OFFSETS",
    "REFUSED_TEXTS",
    "endless",
    "nested",
]

MIN_INTEGER: Final = -MAX_INTEGER - 1

_WORDS: Final = (
    "plain",
    "PLAIN",
    " leading",
    "trailing ",
    " ",
    "'; DROP TABLE scenarios; --",
    "' OR '1'='1",
    'double " quote',
    "back\\slash",
    "\\u0000",
    "100%",
    "%",
    "_",
    "*",
    "?",
    "[a-z]",
    "{}",
    "$1",
    ":name",
    "%s",
    "null",
    "NULL",
    "0",
    "true",
    "../../etc/passwd",
    "\N{LATIN SMALL LETTER E WITH ACUTE}",
    "e\N{COMBINING ACUTE ACCENT}",
    "\N{LATIN SMALL LETTER SHARP S}",
    "\N{LATIN CAPITAL LETTER I WITH DOT ABOVE}",
    "\u65e5\u672c\u8a9e",
    "\u05e9\u05dc\u05d5\u05dd",
    "\N{RIGHT-TO-LEFT OVERRIDE}dlrow",
    "\N{ZERO WIDTH SPACE}",
    "\N{NO-BREAK SPACE}",
    "\N{LINE SEPARATOR}",
    "\N{ZERO WIDTH NO-BREAK SPACE}bom",
    "\N{GRINNING FACE}",
    "\N{MAN}\N{ZERO WIDTH JOINER}\N{WOMAN}\N{ZERO WIDTH JOINER}\N{GIRL}",
    "\uffff",
    "\U0010ffff",
)

GOOD_IDS: Final = (*_WORDS, "x" * 255, "\N{GRINNING FACE}" * 255)
"""Ids to keep apart from each other and to bring back as they are."""

REFUSED_IDS: Final = (
    "",
    "x" * 256,
    "\0",
    "a\0b",
    "line\n",
    "\ttab",
    "\x1b[31m",
    "\x7f",
    "\x85",
    "\ud800",
    "a\udfff",
)
"""Texts that are no ids, wherever an id is expected."""

REFUSED_ID_ARGUMENTS: Final[tuple[Any, ...]] = (*REFUSED_IDS, None, 1, True, b"bytes", ["list"])
"""What is no id, as an argument."""

GOOD_TEXTS: Final = (
    *_WORDS,
    "",
    "two\nlines\r\n",
    "\x01\x02\x1b\x7f\x85\x9f",
    '{"looks": "like JSON"}',
    "long " * 10_000,
)
"""Texts to bring back as they are."""

REFUSED_TEXTS: Final = ("\0", "a\0b", "\ud800", "a\udfff", "x" * (MAX_RECORD_BYTES + 1))
"""Texts that are never stored."""


def nested(levels: int) -> JsonObject:
    """A dict with so many levels of dicts and lists in turn, itself the first."""
    value: JsonValue = {} if levels % 2 else []
    for level in range(levels - 1, 0, -1):
        value = {"level": value} if level % 2 else [value]
    return cast("JsonObject", value)


def endless() -> JsonObject:
    """A dict that holds itself."""
    value: JsonObject = {}
    value["again"] = [value]
    return value


GOOD_JSON: Final[JsonObject] = {
    "null": None,
    "true": True,
    "false": False,
    "zero": 0,
    "one": 1,
    "one as a float": 1.0,
    "minus one": -1,
    "greatest": MAX_INTEGER,
    "least": MIN_INTEGER,
    "no float holds it": 2**53 + 1,
    "tenth": 0.1,
    "minus zero": -0.0,
    "1e16": 1e16,
    "1e22": 1e22,
    "greatest float": 1.7976931348623157e308,
    "least float": 5e-324,
    "third": 1 / 3,
    "texts": list(GOOD_TEXTS[:-1]),
    "empty list": [],
    "empty dict": {},
    "nests": [[], [{}], {"a": {"b": [{"c": None}]}}],
    "mixed": [1, "1", 1.5, True, None, [1], {"1": 1}],
    "keys": {text: number for number, text in enumerate(GOOD_TEXTS[:-1])},
    "long": list(range(1000)),
    "$ref": "#/",
    "a.b[0]": "no path",
    "__proto__": {},
}
"""Every kind of JSON value there is, to bring back equal."""


class _Colour(StrEnum):
    RED = "red"


class _Number(IntEnum):
    ONE = 1


class _Text(str):
    __slots__ = ()


def _deep(levels: int) -> JsonValue:
    value: JsonValue = []
    for _ in range(levels):
        value = [value]
    return value


REFUSED_JSON: Final[dict[str, Any]] = {
    "NUL": "\0",
    "a nested NUL": {"list": ["fine", "a\0b"]},
    "NUL in a key": {"a\0": 1},
    "a lone surrogate": "\ud800",
    "a lone surrogate in a key": {"\udfff": 1},
    "not a number": math.nan,
    "infinity": [math.inf],
    "minus infinity": -math.inf,
    "2^63": 2**63,
    "-2^63-1": MIN_INTEGER - 1,
    "10^400": 10**400,
    "a tuple": (1, 2),
    "a nested tuple": {"list": [[(1,)]]},
    "a set": {1, 2},
    "bytes": b"bytes",
    "a bytearray": bytearray(b"bytes"),
    "a complex number": 1j,
    "a Decimal": Decimal(1),
    "a datetime": datetime(2026, 1, 1, tzinfo=UTC),
    "a text enumeration": _Colour.RED,
    "an integer enumeration": _Number.ONE,
    "a kind of str": _Text("text"),
    "an integer as key": {1: 2},
    "None as key": {None: 1},
    "a bool as key": {True: 1},
    "a kind of str as key": {_Text("key"): 1},
    "an object": object(),
    "too deep": _deep(MAX_DEPTH + 1),
    "far too deep": _deep(50_000),
    "itself": endless()["again"],
    "too large": "x" * (MAX_RECORD_BYTES + 1),
    "too large, many": ["x" * 1024] * 1024,
    "too large once encoded": "\N{GRINNING FACE}" * (MAX_RECORD_BYTES // 4 + 1),
}
"""What is no JSON value of ours, by what is wrong with it."""

REFUSED_MOMENTS: Final[tuple[Any, ...]] = (
    datetime(2026, 1, 1),  # noqa: DTZ001 - being naive is what is wrong with it
    datetime.max,  # noqa: DTZ901 - being naive is what is wrong with it
    datetime.max.replace(tzinfo=UTC),
    datetime.min.replace(tzinfo=UTC),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-14))),
    datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    datetime(9999, 12, 31, 0, 0, 0, 1, tzinfo=UTC),
    "yesterday",
)
"""What is no moment of ours, wherever one is expected."""

REFUSED_MOMENT_ARGUMENTS: Final[tuple[Any, ...]] = (
    *REFUSED_MOMENTS,
    None,
    0,
    1_767_225_600.0,
    "2026-01-01T00:00:00Z",
    date(2026, 1, 1),
)
"""What is no moment, as an argument: nothing is guessed there."""

GOOD_LABELS: Final[tuple[dict[str, str], ...]] = (
    {},
    {"version": "1.9.0"},
    {"a/b.c-d_9": "x", "0": " ", "-": "'; --", "x" * 63: "y" * 255},
    {"emoji": "\N{GRINNING FACE}" * 255, "percent": "%", "quotes": "\"'\\"},
    {f"key{number}": "value" for number in range(MAX_LABELS)},
)
"""Labels to bring back equal."""

REFUSED_LABELS: Final[tuple[Any, ...]] = (
    None,
    "version",
    [("version", "1")],
    {"": "1"},
    {"Version": "1"},
    {"a b": "1"},
    {"ä": "1"},
    {"line\n": "1"},
    {"x" * 64: "1"},
    {7: "1"},
    {"version": ""},
    {"version": "x" * 256},
    {"version": "a\0b"},
    {"version": "a\nb"},
    {"version": "\ud800"},
    {"version": 1},
    {"version": None},
    {f"key{number}": "value" for number in range(MAX_LABELS + 1)},
)
"""What are no labels."""

GOOD_NUMBERS: Final = (
    0.0,
    1.0,
    -1.5,
    0.1,
    1 / 3,
    1e16,
    -1e22,
    2.0**53 + 2,
    1.7976931348623157e308,
    5e-324,
)
"""Floats to bring back as they are."""

REFUSED_NUMBERS: Final[tuple[Any, ...]] = (math.nan, math.inf, -math.inf, "one", [1.0])
"""What is no number, wherever a float is expected."""

REFUSED_INTEGERS: Final[tuple[Any, ...]] = (2**63, MIN_INTEGER - 1, 10**400, math.inf, "one")
"""What is no integer of 64 bits."""

REFUSED_MILLISECONDS: Final[tuple[Any, ...]] = (*REFUSED_INTEGERS, -1, MIN_INTEGER)
"""What is no duration."""

REFUSED_LIMITS: Final[tuple[Any, ...]] = (
    0,
    -1,
    1001,
    2**63,
    MIN_INTEGER,
    True,
    False,
    1.0,
    "10",
    None,
)
"""What is no limit of a page: that is 1 to 1000."""

REFUSED_OFFSETS: Final[tuple[Any, ...]] = (-1, 2**63, MIN_INTEGER, True, False, 0.0, "0", None)
"""What is no offset: that is 0 to 2^63-1."""

REFUSED_BATCH_SIZES: Final[tuple[Any, ...]] = (0, -1, 10_001, 2**63, True, False, 1.5, "10")
"""What is no size of a batch: that is 1 to 10,000."""

REFUSED_CURSORS: Final[tuple[Any, ...]] = (
    "",
    "nonsense",
    "!!!!",
    "\N{GRINNING FACE}",
    "\0",
    "\ud800",
    "bnVsbA",  # null
    "W10",  # []
    "WzFd",  # [1]
    "WzEsMl0",  # [1,2]
    "WzEsIiJd",  # [1,""]
    "WyIxIiwiYSJd",  # ["1","a"]
    "WzEuNSwiXHUwMDAwIl0",  # [1.5,"\u0000"]
    "Wy0xLCJhIl0",  # [-1,"a"]
    "WzFlMzA4LCJhIl0",  # [1e308,"a"]
    "WzI1MzQwMjMwMDgwMDAwMDAwMSwiYSJd",  # [253402300800000001,"a"]
    "e30",  # {}
    "A" * 100_000,
    5,
    b"W10",
    True,
)
"""What is the cursor of no page."""
