"""Rows of a table as entities, without checking again what the schema guarantees."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar, cast

from asyncpg import Record
from sqlalchemy import Table

from test_coordinator_data_adapter.adapters.postgres.tables import MEMBERS, fields_of
from test_coordinator_data_adapter.errors import DataIntegrityError
from test_coordinator_data_adapter.models.entity import Entity

__all__ = ["Row", "RowReader", "unreadable"]

EntityT = TypeVar("EntityT", bound=Entity)

Row: TypeAlias = Record | tuple[object, ...]
"""One value for each field, in the order the fields are declared."""


_Values: TypeAlias = Callable[[Iterable[Row]], list[dict[str, Any]]]


class RowReader(Generic[EntityT]):
    """Makes entities of one kind from the rows of its table.

    The columns hold what the model's rules demand: the driver gives exact types, and the table's
    constraints hold the ranges. What neither can promise is looked at here.
    """

    def __init__(self, kind: type[EntityT], table: Table) -> None:
        """Read rows of ``table``: of the columns that are fields of ``kind``, in their order."""
        self._kind = kind
        self._place = list(fields_of(table)).index(kind.id_field)
        self._values = _compiled(table)

    def one(self, row: Row) -> EntityT:
        """The entity of a row.

        Raises:
            DataIntegrityError: it holds what is no value of its field; names the id.
        """
        try:
            return self._kind.trusted(self._values((row,))[0])
        except (LookupError, ValueError):
            raise self._first_problem((row,)) from None

    def many(self, rows: Sequence[Row]) -> list[EntityT]:
        """The entities, in the order of the rows.

        Raises:
            DataIntegrityError: as of the first row that is no entity.
        """
        try:
            return self._kind.trusted_many(self._values(rows))
        except (LookupError, ValueError):
            raise self._first_problem(rows) from None

    def _first_problem(self, rows: Iterable[Row]) -> DataIntegrityError:
        entity = self._kind.entity_name
        for row in rows:
            try:
                self._values((row,))
            except (LookupError, ValueError):
                return unreadable(entity, str(row[self._place]))
        return DataIntegrityError(f"a row of {entity} cannot be read", entity=entity)


def unreadable(entity: str, id_: str) -> DataIntegrityError:
    """The error about a row that cannot become an entity."""
    return DataIntegrityError(
        f"{entity} {id_!r} holds what is no value of its field: mend or delete the row",
        entity=entity,
        id=id_,
    )


def _compiled(table: Table) -> _Values:
    """A function from rows to the fields of entities.

    A literal dict over unpacked names takes half the time of any generic way to build one, so it
    is written out here from the names of the columns, as ``dataclasses`` does.
    """
    known: dict[str, object] = {}
    items: list[str] = []
    for name, column in fields_of(table).items():
        value = name
        if MEMBERS in column.info:
            known[f"{name}_members"] = {member.value: member for member in column.info[MEMBERS]}
            value = f"{name}_members[{name}]"
        items.append(f"{name!r}: {value}")
    names = ", ".join(fields_of(table))
    source = f"lambda rows: [{{{', '.join(items)}}} for {names} in rows]"
    return cast("_Values", eval(source, known))  # noqa: S307 - made of our own columns' names
