"""JSON as jsonb gives it back equal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, cast

import orjson

from test_coordinator_data_adapter.models.values import JsonValue

__all__ = ["json_bytes"]

# jsonb keeps the digits of a number and drops its exponent: 5.818259171915914e+16 would come
# back as the integer 58182591719159140, which is another number. From 2^64 on, what has no
# fraction is read as a float again.
_AS_AN_INTEGER: Final = re.compile(rb"\de\+?1[6-9]")
_SMALLEST: Final = 1e16
_LARGEST: Final = 2.0**64


def json_bytes(value: JsonValue) -> bytes:
    """The JSON text of a value, with a fraction wherever a float must not become an integer."""
    text = orjson.dumps(value)
    return orjson.dumps(_with_fractions(value)) if _AS_AN_INTEGER.search(text) else text


def _with_fractions(value: JsonValue) -> JsonValue:
    if isinstance(value, float) and _SMALLEST <= abs(value) <= _LARGEST:
        return orjson.Fragment(f"{value:.1f}")
    if isinstance(value, dict):
        items = cast("dict[str, JsonValue]", value).items()
        return {key: _with_fractions(item) for key, item in items}
    if isinstance(value, list):
        return [_with_fractions(item) for item in cast("Iterable[JsonValue]", value)]
    return value
