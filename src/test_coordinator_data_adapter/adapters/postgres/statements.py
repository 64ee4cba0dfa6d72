"""The SQL about one table: constant text, made once for each shape of question."""

# ruff: noqa: S608 - made of our own tables' names; every value travels as a parameter

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Final

from sqlalchemy import BigInteger, DateTime, Double, Table, Text
from sqlalchemy.dialects.postgresql import JSONB

from test_coordinator_data_adapter.adapters.postgres.audit_setting import AUDIT_SETTING
from test_coordinator_data_adapter.adapters.postgres.database import Statement
from test_coordinator_data_adapter.adapters.postgres.roles import quoted
from test_coordinator_data_adapter.adapters.postgres.tables import INDEXED_BYTES, fields_of
from test_coordinator_data_adapter.interfaces.queries import (
    Condition,
    Contains,
    HasPairs,
    NotAfter,
    NotBefore,
    OneOf,
)

__all__ = ["NOW", "Change", "Statements", "Where", "status_in"]

NOW: Final = "statement_timestamp()"
"""The store's time, one for all that a statement sets."""

_TYPES: Final[Mapping[object, str]] = {
    Text: "text",
    DateTime: "timestamptz",
    Double: "float8",
    BigInteger: "bigint",
    JSONB: "jsonb",
}

# More parameters than any statement of ours has.
_PLACES: Final = tuple(f"${place}" for place in range(1, 65))

# Text of any length is indexed where it is short, and the condition has to say that it is.
_UNBOUNDED: Final = frozenset({"created_by", "name", "test_environment"})


def status_in(statuses: Iterable[StrEnum]) -> str:
    """The condition that the status is one of these."""
    names = ", ".join(f"'{status}'" for status in statuses)
    return f"status IN ({names})"


def _telling(place: int) -> str:
    """Hands what the audit trail is to be told to the triggers, which fire when all rows are done.

    It stands in RETURNING, so that nothing about the statement's plan is changed by it.
    """
    return f"set_config('{AUDIT_SETTING}', ${place}, true) IS NOT NULL"


class _Numbered:
    """SQL whose parameters are numbered as they come."""

    __slots__ = ("parameters",)

    def __init__(self, *parameters: object) -> None:
        self.parameters: list[object] = list(parameters)

    def _number(self, sql: str, values: tuple[object, ...]) -> str:
        held = len(self.parameters)
        self.parameters += values
        return sql.format(*_PLACES[held : held + len(values)])


class Where(_Numbered):
    """Which rows: ``clause`` and ``tail`` hold ``$1``, ``$2`` ... for ``parameters``."""

    __slots__ = ("_cut", "clause", "tail")

    def __init__(self, conditions: tuple[Condition, ...] = ()) -> None:
        """Those that meet every condition."""
        super().__init__()
        self.clause = ""
        self.tail = ""
        self._cut: int | None = None
        for condition in conditions:
            self._meets(condition)

    def add(self, condition: str, *values: object) -> None:
        """Narrow it by SQL with ``{}`` for each value."""
        self.clause += (" AND " if self.clause else " WHERE ") + self._number(condition, values)

    def cut(self, limit: int, offset: int = 0) -> None:
        """Only so many, after leaving out so many."""
        self._cut = len(self.parameters)
        self.tail = self._number(" LIMIT {} OFFSET {}", (limit, offset))

    @property
    def asked(self) -> list[object]:
        """The parameters of ``clause`` alone."""
        return self.parameters[: self._cut]

    def _meets(self, condition: Condition) -> None:
        field = condition.field
        match condition:
            case OneOf(_, (value,)):
                # One value, not an array of one: its index then answers in order.
                self.add(f"{field} = {{}}", value)
            case OneOf(_, values):
                self.add(f"{field} = ANY({{}})", values)
            case Contains(_, value):
                self.add(f"{field} @> ARRAY[{{}}::text]", value)
            case HasPairs(_, pairs):
                self.add(f"{field} @> {{}}", dict(pairs))
            case NotBefore(_, moment):
                self.add(f"{field} >= {{}}", moment)
            case NotAfter(_, moment):
                self.add(f"{field} <= {{}}", moment)
        if (
            isinstance(condition, OneOf)
            and field in _UNBOUNDED
            and all(len(value.encode()) <= INDEXED_BYTES for value in condition.values)
        ):
            self.add(f"octet_length({field}) <= {INDEXED_BYTES}")


class Change(_Numbered):
    """What to set in the row of one id, and in which state only."""

    __slots__ = ("assignments", "condition", "id")

    def __init__(self, id_: str) -> None:
        """Nothing yet, whatever state it is in."""
        super().__init__(id_)
        self.id = id_
        self.assignments: list[str] = []
        self.condition: str | None = None

    def set(self, assignment: str, *values: object) -> None:
        """Assign by SQL with ``{}`` for each value."""
        self.assignments.append(self._number(assignment, values))

    def only_if(self, condition: str, *values: object) -> None:
        """Demand a state by SQL with ``{}`` for each value."""
        self.condition = self._number(condition, values)


class Statements:
    """What can be said about one table; the last parameter of a mutation is for the audit trail."""

    def __init__(self, schema: str, table: Table, entity: str) -> None:
        """Prepare what has one shape only.

        Args:
            schema: where the table is.
            table: the table.
            entity: what its rows are, "test_run" ...
        """
        self._entity = entity
        self._table = table
        self._schema = quoted(schema)
        self.table: Final = f"{self._schema}.{table.name}"
        self.columns: Final = tuple(fields_of(table))
        self.key: Final = f"pk_{table.name}"
        self.id: Final = table.primary_key.columns.keys()[0]
        self._rows = ", ".join(self.columns)
        self._order = f"created_at, {self.id}"
        width = len(self.columns)
        places = ", ".join(f"${place}" for place in range(1, width + 1))
        self.insert: Final = self._write(
            f"INSERT INTO {self.table} ({self._rows}) VALUES ({places})"
            f" RETURNING {_telling(width + 1)}"
        )
        self.by_id: Final = self._read(
            f"SELECT {self._rows} FROM {self.table} WHERE {self.id} = $1"
        )
        self.by_ids: Final = self._read(
            f"SELECT {self._rows} FROM {self.table} WHERE {self.id} = ANY($1)"
        )
        self.known_ids: Final = self._read(
            f"SELECT {self.id} FROM {self.table} WHERE {self.id} = ANY($1)"
        )
        self.delete: Final = self._write(
            f"DELETE FROM {self.table} WHERE {self.id} = $1 RETURNING {_telling(2)}"
        )
        self.beyond: Final = " OR ".join(
            f"{name} < '0001-01-01 00:00:00+00' OR {name} >= '10000-01-01 00:00:00+00'"
            for name, column in fields_of(table).items()
            if isinstance(column.type, DateTime)
        )
        self.select = lru_cache(self._select)
        self.ask = lru_cache(self._ask)
        self.update = lru_cache(self._update)
        self.prune = lru_cache(self._prune)

    @cached_property
    def insert_many(self) -> Statement:
        """Takes an array for each column, none of arrays; answers the ids that were not there."""
        types = (_TYPES[type(column.type)] for column in fields_of(self._table).values())
        arrays = ", ".join(f"${place}::{name}[]" for place, name in enumerate(types, start=1))
        return Statement(
            f"INSERT INTO {self.table} ({self._rows}) SELECT * FROM unnest({arrays})"
            f" ON CONFLICT DO NOTHING RETURNING {self.id}, {_telling(len(self.columns) + 1)}",
            self._entity,
            writes=True,
            batched=True,
        )

    def delete_with(self, *children: Table, by: str) -> Statement:
        """Delete the row of ``$1`` and, in tables beside it, the rows that refer to it by a column.

        Returns one row: whether the row of ``$1`` was there.
        """
        schema = self.table.rpartition(".")[0]
        deletes = "".join(
            f", deleted_{child.name} AS (DELETE FROM {schema}.{child.name} WHERE {by} = $1)"
            for child in children
        )
        return self._write(
            f"WITH deleted AS (DELETE FROM {self.table} WHERE {self.id} = $1 RETURNING {self.id})"
            f"{deletes} SELECT EXISTS (SELECT FROM deleted) AS was_there, {_telling(2)}"
        )

    def _select(self, clause: str, tail: str = "", by: str = "") -> Statement:
        """Rows in the order (created_at, id), or first by something else."""
        order = f"{by}, {self._order}" if by else self._order
        return self._read(f"SELECT {self._rows} FROM {self.table}{clause} ORDER BY {order}{tail}")

    def _ask(self, answer: str, clause: str, grouping: str = "") -> Statement:
        """What an expression makes of the rows."""
        return self._read(f"SELECT {answer} FROM {self.table}{clause}{grouping}")

    def _update(self, assignments: tuple[str, ...], condition: str | None, told: int) -> Statement:
        """Change the row of ``$1``; answers whether the condition held, and the row as it is now.

        No answer means there is no such row. A condition is judged on the row as the statement
        locked it, so that of several at once each sees what the one before it left. ``$told`` is
        for the audit trail.
        """
        sets = ", ".join(assignments)
        if condition is None:
            return self._write(
                f"UPDATE {self.table} SET {sets} WHERE {self.id} = $1"
                f" RETURNING {_telling(told)}, {self._rows}"
            )
        changed = ", ".join(f"changed.{column}" for column in self.columns)
        returned = ", ".join(f"stored.{column}" for column in self.columns)
        return self._write(
            f"WITH held AS ("
            f"SELECT {self.id} AS id, {condition} AS met FROM {self.table}"
            f" WHERE {self.id} = $1 FOR NO KEY UPDATE"
            f"), changed AS ("
            f"UPDATE {self.table} AS stored SET {sets} FROM held"
            f" WHERE stored.{self.id} = held.id AND held.met"
            f" RETURNING {returned}, {_telling(told)}"
            f") SELECT held.met, {changed} FROM held LEFT JOIN changed ON true"
        )

    def _prune(self, condition: str = "true") -> Statement:
        """Prune the next ``$3`` rows created before ``$1``, from ``$2`` on.

        Answers how many were deleted, how many were there to delete, and when the last of them
        was created.
        """
        return self._write(
            f"WITH old AS MATERIALIZED ("
            f"SELECT {self.id}, created_at FROM {self.table}"
            f" WHERE created_at < $1 AND created_at >= $2 AND {condition}"
            f" ORDER BY {self._order} LIMIT $3"
            # What was changed meanwhile is looked at again once it is locked.
            f"), locked AS MATERIALIZED ("
            f"SELECT {self.id} FROM {self.table}"
            f" WHERE {self.id} = ANY(ARRAY(SELECT {self.id} FROM old)) AND {condition}"
            f" FOR UPDATE"
            f") SELECT CASE WHEN {_telling(4)} THEN {self._schema}.prune("
            f"'{self._entity}', ARRAY(SELECT {self.id} FROM locked)) END,"
            f" count(*), max(created_at) FROM old"
        )

    def _read(self, sql: str) -> Statement:
        return Statement(sql, self._entity, writes=False)

    def _write(self, sql: str) -> Statement:
        return Statement(sql, self._entity, writes=True)
