"""JSON values as bytes: integers stay integers of Redis, so that it can count with them."""

from __future__ import annotations

import orjson

from test_coordinator_data_adapter.errors import DataIntegrityError
from test_coordinator_data_adapter.models.values import JsonValue

__all__ = ["decoded", "encoded"]


def encoded(value: JsonValue) -> bytes:
    """The bytes of a value that obeys the rules of stored JSON."""
    return orjson.dumps(value)


def decoded(raw: bytes, key: str) -> JsonValue:
    """The value of those bytes, equal to what was encoded and of the same type.

    Raises:
        DataIntegrityError: they are no JSON; somebody else wrote them.
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        raise DataIntegrityError(
            f"what is stored under cache_key {key!r} is no JSON: delete it or set it anew",
            entity="cache_key",
            id=key,
        ) from None
