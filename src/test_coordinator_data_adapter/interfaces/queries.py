"""The closed vocabulary of filters and pages that every backend understands."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Final, Generic, TypeVar, cast

import orjson

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.interfaces.arguments import (
    OneOrMore,
    identifier,
    label_pairs,
    members,
    moment,
    text,
)
from test_coordinator_data_adapter.models.audit import AuditKind, AuditOperation
from test_coordinator_data_adapter.models.chaos_event import EventStatus, EventType
from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.scenario import ScenarioStatus, ScenarioType
from test_coordinator_data_adapter.models.test_result import AssertionType, ResultStatus
from test_coordinator_data_adapter.models.test_run import RunStatus

__all__ = [
    "AuditQuery",
    "ChaosEventQuery",
    "Condition",
    "Contains",
    "HasPairs",
    "NotAfter",
    "NotBefore",
    "OneOf",
    "Page",
    "Position",
    "Query",
    "ScenarioQuery",
    "TestResultQuery",
    "TestRunQuery",
    "conditions_of",
]

_ItemT = TypeVar("_ItemT")

MAX_QUERY_VALUES: Final = 10_000
"""How many values one field of a query may hold."""
MAX_QUERY_TEXT: Final = 2**20
"""How many characters the values of one field of a query may have together."""


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field holds one of these values; of no values, never."""

    field: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Contains:
    """The field is a list and this value is in it."""

    field: str
    value: str


@dataclass(frozen=True, slots=True)
class HasPairs:
    """The field is a mapping and has all of these pairs of key and value."""

    field: str
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class NotBefore:
    """The field holds a time, and it is this one or later."""

    field: str
    moment: datetime


@dataclass(frozen=True, slots=True)
class NotAfter:
    """The field holds a time, and it is this one or earlier."""

    field: str
    moment: datetime


Condition = OneOf | Contains | HasPairs | NotBefore | NotAfter


@dataclass(frozen=True, slots=True)
class _Filter:
    """How one field of a query becomes a condition on one field of the entity."""

    makes: type[Condition]
    on: str
    members_of: type[StrEnum] | None = None
    is_id: bool = False

    def normalised(self, name: str, value: object) -> Any:
        if self.makes in (NotBefore, NotAfter):
            return moment(value, name)
        if self.makes is Contains:
            return identifier(value, name)
        if self.makes is HasPairs:
            return label_pairs(value, name)
        if self.members_of is not None:
            return members(value, self.members_of, name)
        check = identifier if self.is_id else text
        if isinstance(value, str) or not isinstance(value, Collection):
            _require_bounded((value,), name)
            return (check(value, name),)
        values = cast("Collection[object]", value)
        _require_bounded(values, name)
        return tuple(dict.fromkeys(check(item, name) for item in values))


def _require_bounded(values: Collection[object], name: str) -> None:
    """Refuse more than a statement should carry: checking and sending it would stall others."""
    if (
        len(values) <= MAX_QUERY_VALUES
        and sum(len(value) for value in values if isinstance(value, str)) <= MAX_QUERY_TEXT
    ):
        return
    rule = (
        f"must hold at most {MAX_QUERY_VALUES} values, of at most {MAX_QUERY_TEXT} characters"
        " together: ask in several queries"
    )
    raise InvalidValueError(f"{name} {rule}", field=name, rule=rule)


def _one_of(on: str, members_of: type[StrEnum]) -> Any:
    return field(default=None, metadata={"filter": _Filter(OneOf, on, members_of=members_of)})


def _one_id(on: str) -> Any:
    return field(default=None, metadata={"filter": _Filter(OneOf, on, is_id=True)})


def _one_text(on: str) -> Any:
    return field(default=None, metadata={"filter": _Filter(OneOf, on)})


def _contains(on: str) -> Any:
    return field(default=None, metadata={"filter": _Filter(Contains, on)})


def _has_pairs(on: str) -> Any:
    return field(default=None, metadata={"filter": _Filter(HasPairs, on)})


def _since(on: str) -> Any:
    return field(default=None, metadata={"filter": _Filter(NotBefore, on)})


def _until(on: str) -> Any:
    return field(default=None, metadata={"filter": _Filter(NotAfter, on)})


@dataclass(frozen=True)
class Query:
    """What to look for: every field that is not None narrows the answer further.

    A field that takes one value or several matches any of them, and an empty collection
    matches nothing. It holds at most 10,000 values, of at most 2^20 characters together.
    ``*_since`` and ``*_until`` are both included; an entity without that
    time does not match. Values are checked when the query is made.

    Raises:
        InvalidValueError: a value breaks the rule of its field.
    """

    __test__: ClassVar[bool] = False  # pytest collects what is called Test*

    def __post_init__(self) -> None:
        for declared in fields(self):
            value = getattr(self, declared.name)
            if value is not None:
                rule = cast("_Filter", declared.metadata["filter"])
                object.__setattr__(self, declared.name, rule.normalised(declared.name, value))

    def conditions(self) -> tuple[Condition, ...]:
        """What must all be true of an entity, in the order the fields are declared."""
        found: list[Condition] = []
        for declared in fields(self):
            value = getattr(self, declared.name)
            if value is not None:
                rule = cast("_Filter", declared.metadata["filter"])
                found.append(rule.makes(rule.on, value))
        return tuple(found)


def conditions_of(query: Query, kind: type[Query]) -> tuple[Condition, ...]:
    """What must all be true of what is asked for.

    Raises:
        InvalidValueError: it is no query of this kind.
    """
    if not isinstance(query, kind):
        rule = f"must be a {kind.__name__}"
        raise InvalidValueError(f"query {rule}", field="query", rule=rule)
    return query.conditions()


@dataclass(frozen=True, kw_only=True)
class ScenarioQuery(Query):
    """Which scenarios.

    Attributes:
        scenario_type: one type or several.
        status: one status or several.
        tag: a tag the scenario carries.
        created_by: who defined it, one or several.
        service: a service it has under test.
        created_since: defined then or later.
        created_until: defined then or earlier.
    """

    scenario_type: OneOrMore[ScenarioType] | None = _one_of("scenario_type", ScenarioType)
    status: OneOrMore[ScenarioStatus] | None = _one_of("status", ScenarioStatus)
    tag: str | None = _contains("tags")
    created_by: OneOrMore[str] | None = _one_text("created_by")
    service: str | None = _contains("services_under_test")
    created_since: datetime | None = _since("created_at")
    created_until: datetime | None = _until("created_at")


@dataclass(frozen=True, kw_only=True)
class TestRunQuery(Query):
    """Which test runs.

    Attributes:
        scenario_id: one scenario or several.
        status: one status or several.
        test_environment: where it ran, one or several.
        labels: labels it carries, as a mapping of keys to values; all of them must be equal. No
            labels match every run. The query holds them as pairs, sorted by key.
        started_since: started then or later; a run that never started does not match.
        started_until: started then or earlier; a run that never started does not match.
        created_since: recorded then or later.
        created_until: recorded then or earlier.
    """

    scenario_id: OneOrMore[str] | None = _one_id("scenario_id")
    status: OneOrMore[RunStatus] | None = _one_of("status", RunStatus)
    test_environment: OneOrMore[str] | None = _one_text("test_environment")
    labels: Mapping[str, str] | Collection[tuple[str, str]] | None = _has_pairs("labels")
    started_since: datetime | None = _since("started_at")
    started_until: datetime | None = _until("started_at")
    created_since: datetime | None = _since("created_at")
    created_until: datetime | None = _until("created_at")


@dataclass(frozen=True, kw_only=True)
class ChaosEventQuery(Query):
    """Which chaos events.

    Attributes:
        run_id: one run or several.
        event_type: one type or several.
        target_service: one service or several.
        status: one status or several.
        injected_since: injected then or later.
        injected_until: injected then or earlier.
    """

    run_id: OneOrMore[str] | None = _one_id("run_id")
    event_type: OneOrMore[EventType] | None = _one_of("event_type", EventType)
    target_service: OneOrMore[str] | None = _one_id("target_service")
    status: OneOrMore[EventStatus] | None = _one_of("status", EventStatus)
    injected_since: datetime | None = _since("injected_at")
    injected_until: datetime | None = _until("injected_at")


@dataclass(frozen=True, kw_only=True)
class TestResultQuery(Query):
    """Which test results.

    Attributes:
        run_id: one run or several.
        assertion_type: one type or several.
        status: one status or several.
        correlation_id: one correlation id or several.
        name: one assertion name or several.
        created_since: recorded then or later.
        created_until: recorded then or earlier.
    """

    run_id: OneOrMore[str] | None = _one_id("run_id")
    assertion_type: OneOrMore[AssertionType] | None = _one_of("assertion_type", AssertionType)
    status: OneOrMore[ResultStatus] | None = _one_of("status", ResultStatus)
    correlation_id: OneOrMore[str] | None = _one_id("correlation_id")
    name: OneOrMore[str] | None = _one_text("name")
    created_since: datetime | None = _since("created_at")
    created_until: datetime | None = _until("created_at")


@dataclass(frozen=True, kw_only=True)
class AuditQuery(Query):
    """Which records of the audit trail.

    Attributes:
        kind: one kind or several.
        operation: one operation or several.
        entity_id: the only one a mutation was about, one id or several; `history` also finds
            what was done to many at once.
        actor: who acted, one or several.
        correlation_id: one correlation id or several.
        recorded_since: recorded then or later.
        recorded_until: recorded then or earlier.
    """

    kind: OneOrMore[AuditKind] | None = _one_of("kind", AuditKind)
    operation: OneOrMore[AuditOperation] | None = _one_of("operation", AuditOperation)
    entity_id: OneOrMore[str] | None = _one_id("entity_id")
    actor: OneOrMore[str] | None = _one_text("actor")
    correlation_id: OneOrMore[str] | None = _one_id("correlation_id")
    recorded_since: datetime | None = _since("recorded_at")
    recorded_until: datetime | None = _until("recorded_at")


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
# What a cursor ends with, by whether its pages come newest first.
_NEWEST_FIRST: Final[Mapping[bool, list[str]]] = {False: [], True: ["newest"]}


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where an entity stands in the order (created_at, id); a page's cursor names one."""

    created_at: datetime
    id: str

    @classmethod
    def of(cls, entity: Entity) -> Position:
        """Where an entity of a stored kind stands."""
        return cls(entity.__dict__["created_at"], entity.identity)

    def to_cursor(self, *, newest_first: bool = False) -> str:
        """The opaque text a caller hands back to get the next page in the same order."""
        micros = (self.created_at - _EPOCH) // _MICROSECOND
        parts = [micros, self.id, *_NEWEST_FIRST[newest_first]]
        return base64.urlsafe_b64encode(orjson.dumps(parts)).decode().rstrip("=")

    @classmethod
    def from_cursor(cls, cursor: str, *, newest_first: bool = False) -> Position:
        """The position a cursor names.

        Raises:
            InvalidValueError: the text is no cursor of this library, or one of pages in the
                other order.
        """
        try:
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            micros, id_, *order = orjson.loads(
                base64.b64decode(padded, altchars=b"-_", validate=True)
            )
            if order != _NEWEST_FIRST[newest_first]:
                raise ValueError
            return cls(
                moment(_EPOCH + timedelta(microseconds=micros), "cursor"),
                identifier(id_, "cursor"),
            )
        except (
            AttributeError,
            InvalidValueError,
            OverflowError,
            TypeError,
            ValueError,
            binascii.Error,
        ):
            rule = "must be the next_cursor of an earlier page in the same order"
            raise InvalidValueError(f"cursor {rule}", field="cursor", rule=rule) from None


@dataclass(frozen=True, slots=True)
class Page(Generic[_ItemT]):
    """A bounded part of an ordered answer.

    Attributes:
        items: the entities, ordered by (created_at, id), ascending or newest first as asked.
        next_cursor: hand it to `find` for what follows; None when nothing followed.
    """

    items: list[_ItemT]
    next_cursor: str | None = None
