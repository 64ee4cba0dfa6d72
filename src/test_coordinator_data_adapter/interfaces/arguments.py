"""The rules of arguments, held by every backend before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final, TypeAlias, TypeVar, cast

from pydantic_core import PydanticCustomError

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.models.values import (
    MAX_INTEGER,
    MAX_MOMENT,
    MIN_MOMENT,
    JsonValue,
    copy_json,
    copy_labels,
)

__all__ = [
    "MAX_BATCH",
    "MAX_LIMIT",
    "MAX_TTL",
    "OneOrMore",
    "batch_size_of",
    "boolean",
    "cache_items",
    "cache_key",
    "cache_keys",
    "cache_pattern",
    "cache_value",
    "fraction",
    "identifier",
    "integer",
    "label_pairs",
    "member",
    "members",
    "moment",
    "not_an_integer",
    "offset_of",
    "page_limit",
    "reason",
    "registration_token",
    "seconds",
    "sum_out_of_range",
    "text",
    "time_to_live",
]

MAX_LIMIT: Final = 1000
MAX_BATCH: Final = 10_000
MAX_TTL: Final = 2**31 - 1
MAX_KEY_LENGTH: Final = 1024
MAX_REASON_LENGTH: Final = 4096
MAX_PATTERN_LENGTH: Final = 4096
MAX_PATTERN_STARS: Final = 32
MAX_PATTERN_TAIL: Final = 128

_ValueT = TypeVar("_ValueT", bound=str)
_MemberT = TypeVar("_MemberT", bound=StrEnum)

OneOrMore: TypeAlias = _ValueT | Collection[_ValueT]
"""One value, or a collection of which any value will do."""

_IDENTIFIER: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}")
_KEY: Final = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{MAX_KEY_LENGTH}}}")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TEXT: Final = re.compile(r"[^\x00\ud800-\udfff]*")
# What a Redis glob consists of: an escaped character, a class, a run of stars, or a character.
_GLOB_PART: Final = re.compile(
    r"\\.|\[\^?(?:\\.|[^\]\\]-.|[^\]])*\]?|\*+|.",
    re.DOTALL,
)


def _refused(field: str, rule: str) -> InvalidValueError:
    return InvalidValueError(f"{field} {rule}", field=field, rule=rule)


def identifier(value: object, field: str) -> str:
    """An id: 1 to 255 characters without control characters or lone surrogates."""
    if isinstance(value, str) and _IDENTIFIER.fullmatch(value):
        return value
    raise _refused(
        field,
        "must be text of 1 to 255 characters without control characters or lone surrogates",
    )


def registration_token(value: object) -> str:
    """What names a registration: 1 to 64 letters, digits, hyphens and underscores."""
    if isinstance(value, str) and _TOKEN.fullmatch(value):
        return value
    raise _refused("token", "must be 1 to 64 letters, digits, hyphens and underscores")


def reason(value: object) -> str:
    """Why something is done: at most 4,096 characters without NUL or lone surrogates."""
    if isinstance(value, str) and len(value) <= MAX_REASON_LENGTH and _TEXT.fullmatch(value):
        return value
    raise _refused(
        "reason",
        f"must be text of at most {MAX_REASON_LENGTH} characters without NUL or lone surrogates",
    )


def text(value: object, field: str) -> str:
    """Text without NUL or lone surrogates."""
    if isinstance(value, str) and _TEXT.fullmatch(value):
        return value
    raise _refused(field, "must be text without NUL or lone surrogates")


def integer(value: object, field: str, *, least: int = -MAX_INTEGER - 1) -> int:
    """An integer of 64 bits, not below ``least``."""
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= MAX_INTEGER:
        return int(value)
    low = "-2^63" if least < 0 else str(least)
    raise _refused(field, f"must be an integer from {low} to 2^63-1")


def boolean(value: object, field: str) -> bool:
    """True or False, and nothing that only counts as one of them."""
    if isinstance(value, bool):
        return value
    raise _refused(field, "must be True or False")


def _between(value: object, field: str, least: int, most: int) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and least <= value <= most:
        return int(value)
    raise _refused(field, f"must be an integer from {least} to {most}")


def page_limit(value: object) -> int:
    """How many items a page holds: 1 to 1000."""
    return _between(value, "limit", 1, MAX_LIMIT)


def offset_of(value: object) -> int:
    """How many items are left out first: 0 or more."""
    return integer(value, "offset", least=0)


def batch_size_of(value: object) -> int:
    """How many rows travel at once: 1 to 10,000."""
    return _between(value, "batch_size", 1, MAX_BATCH)


def moment(value: object, field: str) -> datetime:
    """A datetime with a time zone, from 1970-01-01 to 9999-12-31; comes back in UTC."""
    if isinstance(value, datetime) and value.utcoffset() is not None:
        try:
            in_utc = value.astimezone(UTC)
        except OverflowError:
            in_utc = None
        if in_utc is not None and MIN_MOMENT <= in_utc <= MAX_MOMENT:
            return in_utc
    raise _refused(field, "must be a datetime with a time zone, from 1970-01-01 to 9999-12-31")


def member(value: object, kind: type[_MemberT], field: str) -> _MemberT:
    """Exactly one member of an enumeration."""
    if isinstance(value, str):
        with suppress(ValueError):
            return kind(value)
    raise _refused(field, f"must be one of: {', '.join(kind)}")


def members(value: object, kind: type[_MemberT], field: str) -> tuple[_MemberT, ...]:
    """One member of an enumeration or a collection of them, as a tuple without repeats."""
    several: Iterable[object]
    if isinstance(value, str):
        several = (value,)
    elif isinstance(value, Collection):
        several = cast("Collection[object]", value)
    else:
        several = (None,)
    try:
        return tuple(dict.fromkeys(kind(cast("str", item)) for item in several))
    except ValueError:
        known = ", ".join(kind)
        raise _refused(field, f"must be one or several of: {known}") from None


def label_pairs(value: object, field: str) -> tuple[tuple[str, str], ...]:
    """Labels as a mapping, or as pairs with different keys; returned as pairs, sorted by key."""
    pairs: list[object]
    if isinstance(value, Mapping):
        pairs = list(cast("Mapping[object, object]", value).items())
    elif isinstance(value, Collection) and not isinstance(value, str | bytes):
        pairs = list(cast("Collection[object]", value))
    else:
        raise _refused(field, "must be a mapping of keys to values")
    labels: dict[object, object] = {}
    for pair in pairs:
        try:
            key, text = cast("tuple[object, object]", pair)
            labels.setdefault(key, text)
        except (TypeError, ValueError):
            raise _refused(field, "must be a mapping of keys to values") from None
    if len(labels) < len(pairs):
        raise _refused(field, "must name each key once")
    try:
        return tuple(sorted(copy_labels(labels, field=field).items()))
    except PydanticCustomError as problem:
        context = problem.context or {}
        raise _refused(str(context["path"]), str(context["rule"])) from None


def seconds(value: object, field: str) -> float:
    """A span of time in seconds: finite, 0 or more."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_TTL:
        return value
    raise _refused(field, f"must be a number of seconds from 0 to {MAX_TTL}")


def fraction(value: object, field: str) -> float:
    """A share of a whole: 0 to 1."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
        return value
    raise _refused(field, "must be a number from 0 to 1")


def time_to_live(value: object) -> int:
    """Whole seconds until a cache entry expires: 1 to 2^31-1."""
    return _between(value, "ttl", 1, MAX_TTL)


def cache_key(value: object, field: str = "key") -> str:
    """A cache key: 1 to 1024 characters without control characters or lone surrogates."""
    if isinstance(value, str) and _KEY.fullmatch(value):
        return value
    raise _refused(
        field,
        f"must be text of 1 to {MAX_KEY_LENGTH} characters without control characters"
        " or lone surrogates",
    )


def cache_keys(values: Iterable[object]) -> list[str]:
    """Cache keys, each once, in the order given; one str is refused: it is no list of keys."""
    if isinstance(values, str | bytes):
        raise _refused("keys", "must be a collection of keys, not one text")
    return list(dict.fromkeys(cache_key(value, "keys") for value in values))


def cache_pattern(value: object) -> str:
    """A Redis glob of bounded complexity.

    To match one key takes as many steps as the key is long times what follows the first ``*``,
    and a server that scans its keys does so for each of them without serving anybody else.
    """
    pattern = text(value, "pattern")
    if len(pattern) <= MAX_PATTERN_LENGTH:
        stars, tail = 0, 0
        for part in _GLOB_PART.findall(pattern):
            if part[0] == "*":
                stars += len(part)
            elif stars:
                tail += len(part)
        if stars <= MAX_PATTERN_STARS and tail <= MAX_PATTERN_TAIL:
            return pattern
    raise _refused(
        "pattern",
        f"must have at most {MAX_PATTERN_LENGTH} characters, at most {MAX_PATTERN_STARS} of them"
        f" an unescaped *, and at most {MAX_PATTERN_TAIL} others after the first *",
    )


def cache_value(value: JsonValue, field: str = "value") -> JsonValue:
    """An isolated copy of a JSON value of at most 1 MiB."""
    try:
        return copy_json(value, field=field)
    except PydanticCustomError as problem:
        context = problem.context or {}
        raise _refused(str(context["path"]), str(context["rule"])) from None


def cache_items(items: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Isolated copies of the values under checked keys."""
    if not isinstance(cast("object", items), Mapping):
        raise _refused("items", "must be a mapping of keys to values")
    return {
        cache_key(key, "items"): cache_value(value, f"items[{position}]")
        for position, (key, value) in enumerate(items.items())
    }


def not_an_integer(key: str) -> InvalidValueError:
    """The error every backend raises when a value cannot be counted with."""
    rule = "must hold an integer to be incremented"
    return InvalidValueError(
        f"cache_key {key!r} {rule}", entity="cache_key", id=key, field="key", rule=rule
    )


def sum_out_of_range(key: str) -> InvalidValueError:
    """The error every backend raises when a sum does not fit 64 bits."""
    rule = "must leave a sum of 64 bits"
    return InvalidValueError(
        f"cache_key {key!r}: amount {rule}", entity="cache_key", id=key, field="amount", rule=rule
    )
