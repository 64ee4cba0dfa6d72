"""The rules every stored value obeys, each written once as an annotated type."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Final, TypeAlias, cast

from pydantic import AwareDatetime, Field, GetCoreSchemaHandler, PlainValidator, WrapValidator
from pydantic_core import CoreSchema, PydanticCustomError, core_schema, to_json

__all__ = [
    "MAX_DEPTH",
    "MAX_ID_LENGTH",
    "MAX_INTEGER",
    "MAX_LABELS",
    "MAX_MOMENT",
    "MAX_OUTPUT_BYTES",
    "MAX_RECORD_BYTES",
    "MIN_MOMENT",
    "Attempts",
    "Id",
    "Integer",
    "JsonObject",
    "JsonOutput",
    "JsonValue",
    "Labels",
    "Milliseconds",
    "Moment",
    "Number",
    "Port",
    "Rule",
    "Text",
    "copy_json",
    "copy_labels",
    "json_problem",
    "truncate_output",
    "utc_now",
]

MAX_INTEGER: Final = 2**63 - 1
MAX_DEPTH: Final = 64
MAX_ID_LENGTH: Final = 255
MAX_RECORD_BYTES: Final = 1024 * 1024
MAX_OUTPUT_BYTES: Final = 16 * 1024
MAX_LABELS: Final = 32
MIN_MOMENT: Final = datetime(1970, 1, 1, tzinfo=UTC)
MAX_MOMENT: Final = datetime(9999, 12, 31, tzinfo=UTC)
_LONGEST_NAMED_KEY: Final = 64
# So short that a record of nothing but texts, as JSON, is far below its limit.
_LONGEST_PLAIN_TEXT: Final = 2048

JsonValue: TypeAlias = Any
"""None, bool, int, float, str, or lists and string-keyed dicts of these; nothing else."""

PlainJsonObject: TypeAlias = dict[str, Any]


def utc_now() -> datetime:
    """The machine's time, aware, in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Rule:
    """Replaces whatever a constraint says when it fails by the rule in the reader's words.

    Attributes:
        words: what must be true of the value.
        plainly: whether all of many values certainly are what validation would return; when
            in doubt, no. Judging a whole column costs a tenth of validating each value.
    """

    words: str
    plainly: Callable[[Sequence[Any]], bool] | None = None

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.custom_error_schema(
            handler(source), custom_error_type="rule", custom_error_message=self.words
        )


def _in_utc(value: object, read: Callable[[object], datetime]) -> datetime:
    if type(value) is datetime and value.tzinfo is UTC and MIN_MOMENT <= value <= MAX_MOMENT:
        return value
    # Pydantic would take a number for seconds or milliseconds since 1970, by its size.
    if isinstance(value, datetime) or (isinstance(value, str) and ":" in value):
        return read(value).astimezone(UTC)
    raise PydanticCustomError("moment", "is no datetime, nor the text of one")


def _plainly_ids(column: Sequence[Any]) -> bool:
    if set(map(type, column)) != {str}:
        return False
    lengths = set(map(len, column))
    # What is printable holds no control character and no surrogate.
    return min(lengths) > 0 and max(lengths) <= MAX_ID_LENGTH and "".join(column).isprintable()


def _plainly_texts(column: Sequence[Any]) -> bool:
    if set(map(type, column)) != {str} or max(map(len, column)) > _LONGEST_PLAIN_TEXT:
        return False
    joined = "".join(column)
    try:
        joined.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in joined


def _plainly_integers(least: int) -> Callable[[Sequence[Any]], bool]:
    return lambda column: (
        set(map(type, column)) == {int} and min(column) >= least and max(column) <= MAX_INTEGER
    )


def _plainly_numbers(column: Sequence[Any]) -> bool:
    return set(map(type, column)) == {float} and all(map(math.isfinite, column))


def _plainly_moments(column: Sequence[Any]) -> bool:
    return (
        set(map(type, column)) == {datetime}
        and {moment.tzinfo for moment in column} == {UTC}
        and min(column) >= MIN_MOMENT
        and max(column) <= MAX_MOMENT
    )


Id = Annotated[
    str,
    Field(strict=True, min_length=1, max_length=MAX_ID_LENGTH, pattern=r"^\P{Cc}*$"),
    Rule(
        "must be text of 1 to 255 characters without control characters or lone surrogates",
        _plainly_ids,
    ),
]
Text = Annotated[
    str,
    Field(strict=True, max_length=MAX_RECORD_BYTES, pattern=r"^[^\x00]*$"),
    Rule("must be text without NUL or lone surrogates, at most 1 MiB", _plainly_texts),
]
Integer = Annotated[
    int,
    Field(ge=-MAX_INTEGER - 1, le=MAX_INTEGER),
    Rule("must be an integer of 64 bits"),
]
Milliseconds = Annotated[
    int,
    Field(ge=0, le=MAX_INTEGER),
    Rule("must be an integer from 0 to 2^63-1 (milliseconds)", _plainly_integers(0)),
]
Attempts = Annotated[
    int,
    Field(ge=1, le=MAX_INTEGER),
    Rule("must be an integer from 1 to 2^63-1", _plainly_integers(1)),
]
Number = Annotated[
    float,
    Field(allow_inf_nan=False),
    Rule("must be a finite number", _plainly_numbers),
]
Port = Annotated[int, Field(ge=0, le=65535), Rule("must be an integer from 0 to 65535")]
Moment = Annotated[
    AwareDatetime,
    Field(ge=MIN_MOMENT, le=MAX_MOMENT),
    WrapValidator(_in_utc),
    Rule("must be a datetime with a time zone, from 1970-01-01 to 9999-12-31", _plainly_moments),
]


class _Walk:
    """One pass over a JSON value: copies it, counts its bytes, finds the first problem."""

    __slots__ = ("left",)

    def __init__(self, budget: int) -> None:
        self.left = budget

    def copy(self, value: object, path: str, depth: int) -> JsonValue:
        kind = type(value)
        if kind is str:
            self._text(cast("str", value), path)
            return value
        if value is None or kind is bool:
            self._spend(4, path)
            return value
        if kind is int:
            self._spend(1, path)
            if not -MAX_INTEGER - 1 <= cast("int", value) <= MAX_INTEGER:
                raise _problem(path, "must be an integer of 64 bits")
            return value
        if kind is float:
            self._spend(3, path)
            if not math.isfinite(cast("float", value)):
                raise _problem(path, "must be a finite number")
            return value
        if kind is not list and kind is not dict:
            raise _problem(
                path, f"must be JSON (null, bool, int, float, str, list, dict), not {kind.__name__}"
            )
        if depth == MAX_DEPTH:
            raise _problem(path, f"must not nest deeper than {MAX_DEPTH} levels")
        self._spend(2, path)
        if kind is list:
            items = cast("list[object]", value)
            return [
                self.copy(item, f"{path}[{position}]", depth + 1)
                for position, item in enumerate(items)
            ]
        copied: PlainJsonObject = {}
        for key, item in cast("dict[object, object]", value).items():
            if type(key) is not str:
                raise _problem(path, "must have keys of type str only")
            self._text(key, path, "must have no keys with")
            where = f"{path}.{key}" if len(key) <= _LONGEST_NAMED_KEY else path
            copied[key] = self.copy(item, where, depth + 1)
        return copied

    def _text(self, text: str, path: str, rule: str = "must not contain") -> None:
        self._spend(len(text) + 2, path)
        if text.isascii():
            if "\0" in text:
                raise _problem(path, f"{rule} NUL")
            return
        if "\0" in text:
            raise _problem(path, f"{rule} NUL")
        try:
            encoded = text.encode()
        except UnicodeEncodeError:
            raise _problem(path, f"{rule} lone surrogates") from None
        self._spend(len(encoded) - len(text), path)

    def _spend(self, size: int, path: str) -> None:
        self.left -= size
        if self.left < 0:
            raise _problem(path, "must leave the record within 1 MiB")


def _problem(path: str, rule: str) -> PydanticCustomError:
    return PydanticCustomError("rule", "{rule}", {"rule": rule, "path": path})


def copy_json(value: JsonValue, *, field: str = "value") -> JsonValue:
    """A deep copy of a JSON value that obeys every rule of stored JSON.

    Args:
        value: None, bool, int, float, str, or lists and string-keyed dicts of these.
        field: what to call the outermost value when a rule is broken.

    Returns:
        The copy; no container of it is shared with ``value``.

    Raises:
        PydanticCustomError: a rule is broken; its context holds ``path`` and ``rule``.
    """
    return _Walk(MAX_RECORD_BYTES).copy(value, field, 0)


def json_problem(value: JsonValue, *, field: str = "value") -> tuple[str, str] | None:
    """Where a value breaks the rules of stored JSON, as (path, rule), or None."""
    try:
        copy_json(value, field=field)
    except PydanticCustomError as problem:
        context = problem.context or {}
        return str(context["path"]), str(context["rule"])
    return None


def _json_object(value: object) -> PlainJsonObject:
    if type(value) is not dict:
        raise _problem("", "must be a dict")
    return cast("PlainJsonObject", copy_json(cast("object", value), field=""))


JsonObject = Annotated[PlainJsonObject, PlainValidator(_json_object)]
"""A dict of JSON values; validating it copies it."""


def _json_output(value: object) -> JsonValue:
    copied = copy_json(value, field="")
    if len(to_json(copied)) > MAX_OUTPUT_BYTES:
        raise _problem("", "must be at most 16 KiB as JSON")
    return copied


JsonOutput = Annotated[JsonValue, PlainValidator(_json_output)]
"""Any JSON value of at most 16 KiB; validating it copies it."""


def truncate_output(value: JsonValue) -> JsonValue:
    """What of a JSON value can be stored as the output of an action.

    Args:
        value: any JSON value that `copy_json` accepts.

    Returns:
        A copy of it; of more than 16 KiB the beginning of its JSON text, with an ellipsis.

    Raises:
        PydanticCustomError: it is no JSON value; its context holds ``path`` and ``rule``.
    """
    copied = copy_json(value)
    text = to_json(copied)
    if len(text) <= MAX_OUTPUT_BYTES:
        return copied
    # As JSON text in turn: each quote and backslash takes two bytes then, a control
    # character six.
    beginning = text[:MAX_OUTPUT_BYTES].decode(errors="ignore")
    while len(to_json(beginning)) > MAX_OUTPUT_BYTES - len("…".encode()):
        excess = len(to_json(beginning)) - MAX_OUTPUT_BYTES + len("…".encode())
        beginning = beginning[: -max(1, excess // 6)]
    return f"{beginning}…"


_LABEL_KEY: Final = re.compile(r"[a-z0-9._/-]{1,63}")
_LABEL_VALUE: Final = re.compile(rf"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{{1,{MAX_ID_LENGTH}}}")


def copy_labels(value: object, *, field: str = "labels") -> dict[str, str]:
    """A copy of labels that obeys their rules.

    Args:
        value: at most 32 pairs in a dict. Keys are 1 to 63 characters of ``a-z 0-9 . _ / -``,
            values 1 to 255 characters without control characters or lone surrogates.
        field: what to call it when a rule is broken.

    Raises:
        PydanticCustomError: a rule is broken; its context holds ``path`` and ``rule``.
    """
    if type(value) is not dict:
        raise _problem(field, "must be a dict")
    labels = cast("dict[object, object]", value)
    if len(labels) > MAX_LABELS:
        raise _problem(field, f"must be at most {MAX_LABELS} labels")
    for key, text in labels.items():
        if not isinstance(key, str) or not _LABEL_KEY.fullmatch(key):
            raise _problem(field, "must have keys of 1 to 63 characters of a-z 0-9 . _ / -")
        if not isinstance(text, str) or not _LABEL_VALUE.fullmatch(text):
            raise _problem(
                f"{field}.{key}",
                "must be text of 1 to 255 characters without control characters or lone surrogates",
            )
    return cast("dict[str, str]", labels.copy())


def _labels(value: object) -> dict[str, str]:
    return copy_labels(value, field="")


Labels = Annotated[dict[str, str], PlainValidator(_labels)]
"""At most 32 short texts under short keys; validating them copies them."""
