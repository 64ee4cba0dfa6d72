"""The in-memory table under the stubs: entities by id, found through sorted indexes."""

from __future__ import annotations

import heapq
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, product
from typing import Any, Final, Generic, TypeVar, cast

from test_coordinator_data_adapter.adapters.stub.trail import Trail
from test_coordinator_data_adapter.errors import DuplicateError, NotFoundError
from test_coordinator_data_adapter.interfaces.queries import (
    Condition,
    Contains,
    HasPairs,
    NotAfter,
    NotBefore,
    OneOf,
)
from test_coordinator_data_adapter.models.entity import Entity

__all__ = ["CREATED", "Index", "Order", "Table"]

EntityT = TypeVar("EntityT", bound=Entity)

# Keys of one order are compared with each other only; their last part is always the id.
Key = tuple[Any, ...]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Order:
    """How an index is sorted: by one moment, ties by creation and id.

    Attributes:
        field: the moment to sort by.
        newest_first: newest first and entities without that moment last; otherwise oldest
            first, for a moment every entity has.
    """

    field: str
    newest_first: bool = False

    def key(self, entity: Entity) -> Key:
        """Where the entity sorts."""
        held = entity.__dict__
        moment = cast("datetime | None", held[self.field])
        if not self.newest_first:
            return moment, held[entity.id_field]
        missing = moment is None
        micros = 0 if moment is None else (moment - _EPOCH) // _MICROSECOND
        return missing, -micros, held["created_at"], held[entity.id_field]

    def span(self, since: datetime | None, until: datetime | None) -> tuple[Key | None, Key | None]:
        """The keys between which lies what has its moment in the range; None is open."""
        if not self.newest_first:
            return (
                None if since is None else (since,),
                None if until is None else (until + _MICROSECOND,),
            )
        if since is None and until is None:
            return None, None
        return (
            (False,) if until is None else (False, -((until - _EPOCH) // _MICROSECOND)),
            (True,) if since is None else (False, 1 - (since - _EPOCH) // _MICROSECOND),
        )


CREATED: Final = Order("created_at")


@dataclass(frozen=True, slots=True)
class Index:
    """One way to find entities: those with the same values in ``fields`` lie together, sorted.

    Attributes:
        fields: the fields; one of them may hold a list or a mapping, then each element or each
            pair counts.
        order: how each group is sorted.
    """

    fields: tuple[str, ...] = ()
    order: Order = CREATED


class _Groups:
    """The content of one index."""

    __slots__ = ("groups", "index")

    def __init__(self, index: Index) -> None:
        self.index = index
        self.groups: dict[tuple[object, ...], list[Key]] = {}

    def _names(self, entity: Entity) -> Iterator[tuple[object, ...]]:
        held = entity.__dict__
        return product(*(_choices(held[field]) for field in self.index.fields))

    def add(self, entity: Entity) -> None:
        key = self.index.order.key(entity)
        for name in self._names(entity):
            group = self.groups.get(name)
            if group is None:
                self.groups[name] = [key]
            elif group[-1] < key:
                group.append(key)
            else:
                insort(group, key)

    def remove(self, entity: Entity) -> None:
        key = self.index.order.key(entity)
        for name in self._names(entity):
            group = self.groups[name]
            del group[bisect_left(group, key)]
            if not group:
                del self.groups[name]

    def remove_many(self, entities: Iterable[Entity]) -> None:
        """Remove in one pass over each group touched, however many go."""
        going: dict[tuple[object, ...], set[Key]] = {}
        for entity in entities:
            key = self.index.order.key(entity)
            for name in self._names(entity):
                going.setdefault(name, set()).add(key)
        for name, keys in going.items():
            left = [key for key in self.groups[name] if key not in keys]
            if left:
                self.groups[name] = left
            else:
                del self.groups[name]


def _choices(value: object) -> Iterable[object]:
    """What an entity with that value is found by."""
    if isinstance(value, list):
        return dict.fromkeys(cast("list[object]", value))
    if isinstance(value, dict):
        return cast("dict[object, object]", value).items()
    return (value,)


@dataclass(frozen=True, slots=True)
class _Part:
    """The keys of one group from ``start`` to before ``stop``."""

    keys: list[Key]
    start: int
    stop: int

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[Key]:
        return islice(self.keys, self.start, self.stop)

    def __reversed__(self) -> Iterator[Key]:
        return map(self.keys.__getitem__, range(self.stop - 1, self.start - 1, -1))


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which parts of which index hold every candidate, and what is still to be checked."""

    order: Order
    parts: list[_Part]
    rest: tuple[Condition, ...]

    @property
    def candidates(self) -> int:
        return sum(map(len, self.parts))


class Table(Generic[EntityT]):
    """Entities of one kind: copies in, copies out, every change all or nothing.

    No method awaits, so each is atomic on an event loop. A question costs what its answer
    costs where an index covers its conditions.
    """

    def __init__(
        self,
        kind: type[EntityT],
        *indexes: Index,
        order: Order = CREATED,
        trail: Trail | None = None,
    ) -> None:
        """Make an empty table.

        Args:
            kind: what it holds.
            indexes: how to find it, beside by id.
            order: how answers are sorted.
            trail: where every change is recorded, if it is.
        """
        self._kind = kind
        self._trail = trail
        self._order = order
        self._held: dict[str, EntityT] = {}
        self._indexes = [_Groups(index) for index in (Index(order=order), *indexes)]

    def __len__(self) -> int:
        return len(self._held)

    def get(self, id_: str) -> EntityT | None:
        """A copy of the entity with that id, or None."""
        found = self._held.get(id_)
        return None if found is None else found.clone()

    def insert(self, entities: Iterable[object]) -> list[EntityT]:
        """Store new entities, all or none, and return copies of them.

        Raises:
            InvalidValueError: one of them breaks a rule.
            DuplicateError: an id is there already, or twice among them.
        """
        fresh = [self._kind.checked(entity) for entity in entities]
        seen: set[str] = set()
        repeated: dict[str, None] = {}
        for entity in fresh:
            if entity.identity in seen or entity.identity in self._held:
                repeated[entity.identity] = None
            seen.add(entity.identity)
        if repeated:
            raise DuplicateError.of(self._kind.entity_name, *repeated)
        for entity in fresh:
            self._add(entity)
        if self._trail is not None:
            self._trail.created(fresh)
        return [entity.clone() for entity in fresh]

    def put(self, entity: object) -> EntityT:
        """Store an entity, replacing the one of that id, and return a copy of it."""
        fresh = self._kind.checked(entity)
        self._drop(fresh.identity)
        self._add(fresh)
        return fresh.clone()

    def change(self, id_: str, changed: Callable[[EntityT], dict[str, object]]) -> EntityT:
        """Set fields of one entity in one step and return a copy of what is stored then.

        Args:
            id_: which one.
            changed: given the stored entity, which it must not change, the new values by
                field; what it raises leaves everything as it was.

        Raises:
            NotFoundError: there is none with that id.
        """
        stored = self._held.get(id_)
        if stored is None:
            raise NotFoundError.of(self._kind.entity_name, id_)
        fresh = stored.model_copy(update=changed(stored))
        self._drop(id_)
        self._add(fresh)
        if self._trail is not None:
            self._trail.changed(stored, fresh)
        return fresh.clone()

    def delete(self, id_: str) -> bool:
        """Remove the entity with that id; True when it was there."""
        gone = self._drop(id_)
        if gone is not None and self._trail is not None:
            self._trail.deleted(gone)
        return gone is not None

    def delete_matching(self, conditions: tuple[Condition, ...]) -> int:
        """Remove everything that meets every condition; returns how many that were."""
        plan = self._plan(conditions)
        going = list(self._matching(plan, plan.order))
        self.delete_many([entity.identity for entity in going])
        return len(going)

    def delete_each(self, conditions: tuple[Condition, ...]) -> None:
        """Remove everything that meets every condition, as if one by one."""
        plan = self._plan(conditions)
        for entity in list(self._matching(plan, plan.order)):
            self.delete(entity.identity)

    def delete_many(self, ids: Iterable[str]) -> None:
        """Remove the entities with those ids, in one pass however many they are."""
        going = [self._held.pop(id_) for id_ in ids]
        for index in self._indexes:
            index.remove_many(going)
        if self._trail is not None:
            self._trail.pruned(going)

    def select(
        self,
        conditions: tuple[Condition, ...] = (),
        *,
        order: Order | None = None,
        after: Key | None = None,
        limit: int | None = None,
        offset: int = 0,
        reverse: bool = False,
    ) -> list[EntityT]:
        """Copies of what meets every condition.

        Args:
            conditions: what must be true.
            order: how to sort; None for the table's order.
            after: only what sorts behind this key.
            limit: how many at the most; None: all.
            offset: how many are left out first.
            reverse: from the end of that order to its beginning.
        """
        order = order or self._order
        plan = self._plan(conditions, order, after, reverse=reverse)
        matching = self._matching(plan, order, reverse=reverse)
        # Behind the last entity there is nothing, however far the offset reaches.
        offset = min(offset, len(self._held))
        stop = None if limit is None else offset + limit
        return [entity.clone() for entity in islice(matching, offset, stop)]

    def count(self, conditions: tuple[Condition, ...]) -> int:
        """How many entities meet every condition."""
        plan = self._plan(conditions)
        return sum(1 for _ in self._matching(plan, plan.order)) if plan.rest else plan.candidates

    def values(self, conditions: tuple[Condition, ...], field: str) -> Iterator[object]:
        """One field of everything that meets every condition, in no order."""
        plan = self._plan(conditions)
        return (entity.__dict__[field] for entity in self._matching(plan, plan.order))

    def _add(self, entity: EntityT) -> None:
        self._held[entity.identity] = entity
        for index in self._indexes:
            index.add(entity)

    def _drop(self, id_: str) -> EntityT | None:
        entity = self._held.pop(id_, None)
        if entity is not None:
            for index in self._indexes:
                index.remove(entity)
        return entity

    def _plan(
        self,
        conditions: tuple[Condition, ...],
        order: Order | None = None,
        after: Key | None = None,
        *,
        reverse: bool = False,
    ) -> _Plan:
        """The index with the fewest candidates; of equals, one sorted in the order wanted."""
        plans = (
            plan
            for groups in self._indexes
            if (plan := _plan_for(groups, conditions, order, after, reverse=reverse)) is not None
        )
        return min(plans, key=lambda plan: (plan.candidates, plan.order != order, len(plan.rest)))

    def _matching(self, plan: _Plan, order: Order, *, reverse: bool = False) -> Iterator[EntityT]:
        parts = [reversed(part) if reverse else iter(part) for part in plan.parts]
        keys = parts[0] if len(parts) == 1 else heapq.merge(*parts, reverse=reverse)
        found = (self._held[key[-1]] for key in keys)
        if plan.rest:
            found = (entity for entity in found if all(_meets(entity, c) for c in plan.rest))
        if plan.order != order:
            return iter(sorted(found, key=order.key, reverse=reverse))
        return found


def _plan_for(
    groups: _Groups,
    conditions: tuple[Condition, ...],
    order: Order | None,
    after: Key | None,
    *,
    reverse: bool,
) -> _Plan | None:
    index = groups.index
    wanted: dict[str, tuple[object, ...]] = {}
    since: datetime | None = None
    until: datetime | None = None
    rest: list[Condition] = []
    for condition in conditions:
        field = condition.field
        values = _indexed_values(condition)
        if values is not None and field in index.fields and field not in wanted:
            wanted[field] = values
            if isinstance(condition, HasPairs) and len(condition.pairs) > 1:
                rest.append(condition)
        elif isinstance(condition, NotBefore) and field == index.order.field:
            since = condition.moment
        elif isinstance(condition, NotAfter) and field == index.order.field:
            until = condition.moment
        else:
            rest.append(condition)
    if len(wanted) < len(index.fields) or (after is not None and index.order != order):
        return None
    low, high = index.order.span(since, until)
    if after is not None and reverse:
        high = after if high is None else min(high, after)
    elif after is not None:
        behind = (*after, "")
        low = behind if low is None else max(low, behind)
    parts: list[_Part] = []
    for name in product(*(wanted[field] for field in index.fields)):
        keys = groups.groups.get(name)
        if keys:
            start = 0 if low is None else bisect_left(keys, low)
            stop = len(keys) if high is None else bisect_left(keys, high)
            if start < stop:
                parts.append(_Part(keys, start, stop))
    return _Plan(index.order, parts, tuple(rest))


def _indexed_values(condition: Condition) -> tuple[object, ...] | None:
    """What an index of the field finds everything by that can meet the condition, or None."""
    match condition:
        case OneOf(_, values):
            return values
        case Contains(_, value):
            return (value,)
        case HasPairs(_, (first, *_)):
            return (first,)
        case _:
            return None


def _meets(entity: Entity, condition: Condition) -> bool:
    value = entity.__dict__[condition.field]
    match condition:
        case OneOf(_, values):
            return value in values
        case Contains(_, wanted):
            return wanted in value
        case HasPairs(_, pairs):
            return all(value.get(key) == text for key, text in pairs)
        case NotBefore(_, moment):
            return value is not None and value >= moment
        case NotAfter(_, moment):
            return value is not None and value <= moment
