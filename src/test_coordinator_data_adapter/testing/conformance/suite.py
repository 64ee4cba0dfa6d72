"""What every suite is: tests that a backend inherits, and the words they are written in."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar, cast

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import JsonValue

__all__ = [
    "Suite",
    "altered",
    "assert_same",
    "assert_same_list",
    "cancelled_after",
    "in_turns",
    "refused",
    "same_json",
    "shuffled",
    "smuggled",
    "spoil",
]

_ResultT = TypeVar("_ResultT")
_EntityT = TypeVar("_EntityT", bound=Entity)

_AT_ONCE = 8


class Suite:
    """Tests of one port, for a backend to inherit.

    Subclass it and supply one fixture, ``repository``: an open repository of the backend
    that holds nothing and that no other test sees. Whatever runs ``async def`` tests in
    the project runs these: nothing more is needed with pytest-asyncio in auto mode; in
    strict mode the subclass carries ``@pytest.mark.asyncio``, with anyio's plugin
    ``@pytest.mark.anyio`` (on asyncio).

    A suite itself is never collected, wherever it is imported; every subclass is, whatever
    its name, unless it says ``__test__ = False``.
    """

    __test__: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let pytest collect the subclass."""
        super().__init_subclass__(**kwargs)
        if "__test__" not in cls.__dict__:
            cls.__test__ = True


def altered(entity: _EntityT, **fields: Any) -> _EntityT:
    """A valid entity like that one but for some fields; it shares nothing with it."""
    return type(entity).model_validate(entity.model_dump() | fields)


def smuggled(entity: _EntityT, **fields: object) -> _EntityT:
    """The entity with values in it that its own validation never saw."""
    vars(entity).update(fields)
    return entity


def spoil(entity: Entity) -> None:
    """Change everything in an entity that can be changed in place, nested values included."""
    held = vars(entity)
    for name in type(entity).model_fields:
        _spoil_nested(held[name])
        if isinstance(held[name], str) and name != entity.id_field:
            held[name] = "spoiled"


def _spoil_nested(value: JsonValue) -> None:
    kind = cast("object", type(value))
    if kind is dict:
        for item in value.values():
            _spoil_nested(item)
        value["spoiled"] = True
    elif kind is list:
        for item in value:
            _spoil_nested(item)
        value.append("spoiled")


def same_json(one: JsonValue, other: JsonValue, *, exact: bool = False) -> bool:
    """Whether two JSON values are the same.

    Args:
        one: the first.
        other: the second.
        exact: an integer and an equal float are different.
    """
    kinds: set[object] = {type(one), type(other)}
    if kinds == {dict}:
        return one.keys() == other.keys() and all(
            same_json(value, other[key], exact=exact) for key, value in one.items()
        )
    if kinds == {list}:
        return len(one) == len(other) and all(
            same_json(value, wanted, exact=exact) for value, wanted in zip(one, other, strict=True)
        )
    alike = len(kinds) == 1 or (not exact and kinds == {int, float})
    return bool(alike and one == other)


def assert_same(actual: Entity | None, expected: Entity, *, but: Iterable[str] = ()) -> None:
    """The entities agree in every field, in the types of the values too.

    Args:
        actual: what came back.
        expected: what it should be.
        but: fields that may differ.
    """
    assert actual is not None
    assert type(actual) is type(expected)
    for name in type(expected).model_fields:
        if name not in but:
            found, wanted = actual.__dict__[name], expected.__dict__[name]
            assert same_json(found, wanted), name
            assert (type(found), str(found)) == (type(wanted), str(wanted)) or isinstance(
                found, dict
            ), name


def assert_same_list(actual: Iterable[Entity], expected: Iterable[Entity]) -> None:
    """The lists hold the same entities in the same order."""
    found, wanted = list(actual), list(expected)
    assert [entity.identity for entity in found] == [entity.identity for entity in wanted]
    for one, other in zip(found, wanted, strict=True):
        assert_same(one, other)


@contextmanager
def refused(value: object, field: str | None = None) -> Generator[None]:
    """What happens inside raises InvalidValueError, which says the rule.

    Args:
        value: what must not be accepted, for the report of the test that fails.
        field: the field or argument the error must name; None: any.
    """
    caught: InvalidValueError | None = None
    try:
        yield
    except InvalidValueError as error:
        caught = error
    assert caught is not None, f"accepted {ascii(value)[:200]}"
    assert caught.rule, "the error names no rule"
    assert field is None or (caught.field or "").startswith(field), caught.field


def shuffled(items: Iterable[_EntityT]) -> list[_EntityT]:
    """The items in another order, always the same one."""
    mixed = list(items)
    random.Random(5).shuffle(mixed)  # noqa: S311 - nothing secret: an order that is no order
    return mixed


async def in_turns(calls: Iterable[Awaitable[_ResultT]]) -> list[_ResultT]:
    """The answers of all the calls, a few of them under way at a time."""
    waiting = list(calls)
    answers: list[_ResultT] = []
    while waiting:
        answers += await asyncio.gather(*waiting[:_AT_ONCE])
        del waiting[:_AT_ONCE]
    return answers


async def cancelled_after(
    steps: int, call: Callable[[], Coroutine[object, object, object]]
) -> BaseException | None:
    """Begin a call, let the event loop turn so many times, cancel it and wait for its end.

    Returns:
        What it raised, the cancellation included; None when it had finished before.
    """
    task = asyncio.ensure_future(call())
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    (ended,) = await asyncio.gather(task, return_exceptions=True)
    return ended if isinstance(ended, BaseException) else None
