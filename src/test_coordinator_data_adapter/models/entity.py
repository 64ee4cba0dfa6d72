"""What every stored model shares: one identity, isolated copies, rules that hold at any time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from itertools import repeat
from operator import itemgetter
from typing import Annotated, ClassVar, Self, TypeAlias, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError, to_json

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.models.values import (
    MAX_ID_LENGTH,
    MAX_RECORD_BYTES,
    JsonValue,
    Rule,
)

__all__ = ["Entity", "invalid_value"]

_CERTAINLY_SMALL = MAX_RECORD_BYTES // 16

# What a model consists of, set without a look-up by name for each of many.
_make = object.__new__
_set_values = BaseModel.__dict__["__dict__"].__set__
_set_fields = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private = BaseModel.__dict__["__pydantic_private__"].__set__

_Held: TypeAlias = Mapping[str, JsonValue]
_Judge: TypeAlias = Callable[[Sequence[object]], bool]


class Entity(BaseModel):
    """A value that is stored under an id.

    Constructing and assigning validate; `checked` validates again what may have been
    changed behind the model's back (a nested dict, ``model_construct``).

    Attributes:
        entity_name: what errors call it.
        id_field: the name of the field that holds its id.
    """

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        revalidate_instances="always",
        validate_assignment=True,
    )

    entity_name: ClassVar[str]
    id_field: ClassVar[str]
    containers: ClassVar[tuple[str, ...]] = ()
    long_texts: ClassVar[tuple[str, ...]] = ()
    _every_field: ClassVar[set[str]]
    _values: ClassVar[Callable[[_Held], tuple[object, ...]]]
    _plainly: ClassVar[tuple[_Judge, ...]]

    @classmethod
    def __pydantic_init_subclass__(cls, **_: object) -> None:
        cls._every_field = set(cls.model_fields)
        cls._values = cast("Callable[[_Held], tuple[object, ...]]", itemgetter(*cls.model_fields))
        cls._plainly = tuple(
            _judge(field.annotation, field.metadata) for field in cls.model_fields.values()
        )

    @property
    def identity(self) -> str:
        """The id, whatever this kind calls it."""
        return cast("str", self.__dict__[self.id_field])

    def field_values(self) -> tuple[object, ...]:
        """The value of every field, in the order of declaration."""
        return type(self)._values(self.__dict__)  # noqa: SLF001 - its own class's

    @classmethod
    def checked(cls, value: object) -> Self:
        """An isolated copy of ``value`` that obeys every rule of this kind.

        Raises:
            InvalidValueError: it is no instance of this kind or breaks a rule; names the
                field and the rule, never the value.
        """
        if not isinstance(value, cls):
            raise InvalidValueError(
                f"{cls.entity_name}: expected a {cls.__name__}, not {type(value).__name__}",
                entity=cls.entity_name,
                rule=f"must be a {cls.__name__}",
            )
        try:
            return cast("Self", cls.__pydantic_validator__.validate_python(value))
        except ValidationError as broken:
            raise invalid_value(broken, cls, value) from None

    @classmethod
    def checked_values(cls, values: Sequence[object]) -> list[tuple[object, ...]]:
        """The `field_values` of what `checked` makes of each; of plain ones, far cheaper.

        What holds containers is never plain: they would be shared with the caller.

        Raises:
            InvalidValueError: as `checked` of the first one that breaks a rule.
        """
        return cls._plain_values(values) or [cls.checked(value).field_values() for value in values]

    @classmethod
    def _plain_values(cls, values: Sequence[object]) -> list[tuple[object, ...]] | None:
        held: list[_Held] = [value.__dict__ for value in values if type(value) is cls]
        width = len(cls._every_field)
        if len(held) < len(values) or any(len(one) != width for one in held):
            return None
        try:
            rows = list(map(cls._values, held))
        except KeyError:
            return None
        columns = zip(*rows, strict=True)
        plain = all(judge(column) for judge, column in zip(cls._plainly, columns, strict=False))
        return rows if plain else None

    def clone(self) -> Self:
        """A copy that shares nothing mutable with this one; the values are trusted."""
        held: dict[str, JsonValue] = self.__dict__.copy()
        for name in self.containers:
            held[name] = _copy_container(held[name])
        return type(self)._made_of(held, self.__pydantic_fields_set__.copy())  # noqa: SLF001 - its own class's

    @classmethod
    def trusted(cls, held: dict[str, JsonValue]) -> Self:
        """An entity that holds these values as they are: nothing is checked, nothing copied.

        Args:
            held: every field, in the order of declaration, as validation would have left it;
                nobody else holds the dict.
        """
        # One set for all: every field is in it, so that nothing can ever be added.
        return cls._made_of(held, cls._every_field)

    @classmethod
    def trusted_many(cls, every: list[dict[str, JsonValue]]) -> list[Self]:
        """What `trusted` makes of each; in less time, step by step for all of them."""
        made = list(map(_make, repeat(cls, len(every))))
        for steps in (
            map(_set_values, made, every),
            map(_set_fields, made, repeat(cls._every_field)),
            map(_set_extra, made, repeat(None)),
            map(_set_private, made, repeat(None)),
        ):
            deque(steps, maxlen=0)
        return made

    @classmethod
    def _made_of(cls, held: dict[str, JsonValue], fields: set[str]) -> Self:
        # What pydantic's own copy does, without the hooks these models do not use.
        made = _make(cls)
        _set_values(made, held)
        _set_fields(made, fields)
        _set_extra(made, None)
        _set_private(made, None)
        return made

    @model_validator(mode="after")
    def _fits_one_record(self) -> Self:
        held = self.__dict__
        if (
            self.containers
            or sum(len(text) for name in self.long_texts if (text := held[name]) is not None)
            > _CERTAINLY_SMALL
        ):
            size = len(to_json(held))
            if size > MAX_RECORD_BYTES:
                raise PydanticCustomError(
                    "rule", "{rule}", {"rule": "must be at most 1 MiB as JSON", "path": ""}
                )
        return self


def _judge(annotation: object, metadata: Iterable[object]) -> _Judge:
    """Whether a column of such values is plainly valid; what has no rule of its own never is."""
    for rule in metadata:
        if isinstance(rule, Rule) and rule.plainly is not None:
            return rule.plainly
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return lambda column: set(map(type, column)) == {annotation}
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _judge(parts[0], parts[1:])
    if type(None) in parts:
        (held,) = (part for part in parts if part is not type(None))
        judge = _judge(held, ())

        def judge_present(column: Sequence[object]) -> bool:
            present = [value for value in column if value is not None]
            return not present or judge(present)

        return judge_present
    return lambda _: False


def _copy_container(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {
            key: _copy_container(item) for key, item in cast("dict[str, JsonValue]", value).items()
        }
    if isinstance(value, list):
        return [_copy_container(item) for item in cast("Iterable[JsonValue]", value)]
    return value


def invalid_value(
    broken: ValidationError, kind: type[Entity], value: object = None
) -> InvalidValueError:
    """The first problem pydantic found, in this library's terms and without the value."""
    first = broken.errors(include_url=False, include_input=False)[0]
    context = first.get("ctx") or {}
    field = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]
    ).removeprefix(".") + str(context.get("path", ""))
    rule = first["msg"]
    held = getattr(value, "__dict__", {}).get(kind.id_field)
    id_ = (
        held
        if isinstance(held, str) and held.isprintable() and len(held) <= MAX_ID_LENGTH
        else None
    )
    about = f"{kind.entity_name} {id_!r}" if id_ else kind.entity_name
    return InvalidValueError(
        f"{about}: {field or 'the record'} {rule}",
        entity=kind.entity_name,
        id=id_,
        field=field or None,
        rule=rule,
    )
