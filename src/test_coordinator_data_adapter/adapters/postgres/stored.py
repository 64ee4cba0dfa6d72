"""What the repositories of the four stored kinds do alike in PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import datetime
from enum import StrEnum
from time import monotonic
from typing import ClassVar, Final, TypeVar, cast

from asyncpg import Record
from sqlalchemy import Table

from test_coordinator_data_adapter.adapters.postgres.database import Database
from test_coordinator_data_adapter.adapters.postgres.jsonb import json_bytes
from test_coordinator_data_adapter.adapters.postgres.rows import RowReader, unreadable
from test_coordinator_data_adapter.adapters.postgres.statements import (
    NOW,
    Change,
    Statements,
    Where,
)
from test_coordinator_data_adapter.adapters.postgres.tables import free_json_of
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConflictError,
    DataIntegrityError,
    DuplicateError,
    NotFoundError,
    OverloadedError,
)
from test_coordinator_data_adapter.interfaces.arguments import (
    batch_size_of,
    boolean,
    identifier,
    moment,
    page_limit,
)
from test_coordinator_data_adapter.interfaces.queries import Page, Position, Query
from test_coordinator_data_adapter.interfaces.stored import StoredRepository
from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import MIN_MOMENT
from test_coordinator_data_adapter.resilience.coalescing import Coalescer

__all__ = ["TOUCHED", "PostgresStoredRepository"]

EntityT = TypeVar("EntityT", bound=Entity)
QueryT = TypeVar("QueryT", bound=Query)
StatusT = TypeVar("StatusT", bound=StrEnum)

TOUCHED: Final = f"updated_at = greatest({NOW}, updated_at + interval '1 microsecond')"
"""Later than what is stored in any case, even when the clock stepped back."""

_BATCH: Final = 100
_PRUNED_AT_ONCE: Final = 1000
# How long a prune leaves the server alone after each batch, as a share of what that took.
_REST: Final = 0.5
# So many rows become entities in about a millisecond; then others have the event loop.
_ROWS_AT_ONCE: Final = 500


class PostgresStoredRepository(StoredRepository[EntityT, QueryT]):
    """Answers from one table, each question with one statement."""

    _prunable: ClassVar[str] = "true"

    def __init__(
        self,
        database: Database,
        kind: type[EntityT],
        table: Table,
        *,
        batch_size: int = _BATCH,
    ) -> None:
        """Answer from the table of that kind in the schema of ``database``.

        Args:
            database: the waist; stays the caller's to close.
            kind: what the rows are.
            table: where they are.
            batch_size: how many rows of a stream travel at once unless told otherwise.
        """
        self._database = database
        self._kind = kind
        self._batch_size = batch_size_of(batch_size)
        self._statements = Statements(database.schema, table, kind.entity_name)
        self._columns = self._statements.columns
        self._replaceable = tuple(
            column
            for column in self._columns
            if column not in {kind.id_field, "created_at", "updated_at"}
        )
        self._free_json = free_json_of(table)
        self._read = RowReader(kind, table)
        self._together: Coalescer[str, EntityT | None] = Coalescer(
            self._get_together,
            operation=f"{table.name}.get_by_id",
            on_batch=database.hooks.on_batch,
        )

        self._creating: Coalescer[tuple[EntityT, str], EntityT] = Coalescer(
            self._insert_together,
            writes=True,
            operation=f"{table.name}.create",
            on_batch=database.hooks.on_batch,
        )

    async def aclose(self) -> None:
        """Cut off calls that are under way together; the database stays open."""
        await self._together.aclose()
        await self._creating.aclose()

    async def find(
        self,
        query: QueryT,
        *,
        limit: int = 100,
        cursor: str | None = None,
        newest_first: bool = False,
    ) -> Page[EntityT]:
        wanted, newest = page_limit(limit), boolean(newest_first, "newest_first")
        after = None if cursor is None else Position.from_cursor(cursor, newest_first=newest)
        rows = await self._rows_behind(query, after, wanted + 1, newest)
        items = await self._entities(rows[:wanted])
        if len(rows) <= wanted:
            return Page(items)
        return Page(items, Position.of(items[-1]).to_cursor(newest_first=newest))

    async def list_matching(self, query: QueryT) -> list[EntityT]:
        return await self._entities(await self._select(Where(self._conditions(query))))

    async def stream(
        self, query: QueryT, *, batch_size: int | None = None, newest_first: bool = False
    ) -> AsyncIterator[EntityT]:
        newest = boolean(newest_first, "newest_first")
        wanted = self._batch_size if batch_size is None else batch_size_of(batch_size)
        after: Position | None = None
        while True:
            rows = await self._rows_behind(query, after, wanted, newest)
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                for entity in self._read.many(rows[start : start + _ROWS_AT_ONCE]):
                    yield entity
            if len(rows) < wanted:
                return
            after = Position(rows[-1]["created_at"], rows[-1][self._kind.id_field])

    async def count(self, query: QueryT) -> int:
        rows = await self._ask(query, "count(*)")
        return int(rows[0][0])

    async def prune(self, older_than: datetime, *, batch_size: int | None = None) -> int:
        before = moment(older_than, "older_than")
        limit = _PRUNED_AT_ONCE if batch_size is None else batch_size_of(batch_size)
        statement = self._statements.prune(self._prunable)
        pruned, missed, gone_now = 0, 1, 1
        # What somebody changes while a batch waits for it is met again from the start, as long
        # as that leads anywhere.
        while missed and gone_now:
            missed, gone_now, found, since = 0, 0, limit, MIN_MOMENT
            while found == limit:
                began = monotonic()
                ((gone, found, last),) = await self._database.fetch(
                    statement, before, since, limit, self._database.tell()
                )
                if found == limit:
                    # The server is others', too.
                    await asyncio.sleep(_REST * (monotonic() - began))
                gone_now += gone
                missed += found - gone
                if not gone and last == since:
                    break
                since = last
            pruned += gone_now
        return pruned

    async def _create(self, entity: object) -> EntityT:
        return await self._insert(self._kind.checked(entity), self._database.tell())

    async def _create_in_company(self, entity: object) -> EntityT:
        """As `_create`; what many create at the same moment is committed together."""
        fresh = self._kind.checked(entity)
        try:
            return await self._creating((fresh, self._database.tell(operation="create")))
        except AdapterError as error:
            error.id = fresh.identity
            raise

    async def _insert_together(
        self, asked: Sequence[tuple[EntityT, str]]
    ) -> list[EntityT | AdapterError]:
        # A statement tells the audit trail one thing: only those that tell the same share it.
        alike: dict[str, list[EntityT]] = {}
        for entity, told in asked:
            alike.setdefault(told, []).append(entity)
        if len(alike) == 1:
            ((told, entities),) = alike.items()
            return await self._insert_alike(entities, told)
        parts = await asyncio.gather(
            *(self._answered(entities, told) for told, entities in alike.items())
        )
        answers = dict(zip(alike, map(iter, parts), strict=True))
        return [next(answers[told]) for _, told in asked]

    async def _answered(self, fresh: list[EntityT], told: str) -> list[EntityT | AdapterError]:
        try:
            return await self._insert_alike(fresh, told)
        except AdapterError as error:
            return [error] * len(fresh)

    async def _insert_alike(self, fresh: list[EntityT], told: str) -> list[EntityT | AdapterError]:
        if len(fresh) == 1:
            return [await self._insert(fresh[0], told)]
        # In one order everywhere, so that two trips never wait for each other.
        in_order = sorted(fresh, key=lambda entity: entity.identity)
        columns = map(list, zip(*map(self._parameters, in_order), strict=True))
        try:
            rows = await self._database.fetch(self._statements.insert_many, *columns, told)
        except OverloadedError as error:
            if error.sqlstate is None:
                raise
            # Another transaction keeps one of them locked, and nothing was applied: each by
            # itself, so that only that one waits and fails.
            return [
                answer
                for answers in await asyncio.gather(
                    *(self._answered([entity], told) for entity in fresh)
                )
                for answer in answers
            ]
        new = {row[0] for row in rows}
        answers: list[EntityT | AdapterError] = []
        for entity in fresh:
            if entity.identity in new:
                new.remove(entity.identity)
                answers.append(entity)
            else:
                answers.append(self._duplicate(entity.identity, self._statements.key))
        return answers

    async def _insert(self, fresh: EntityT, told: str) -> EntityT:
        try:
            await self._database.execute(self._statements.insert, *self._parameters(fresh), told)
        except DuplicateError as found:
            raise self._duplicate(fresh.identity, found.constraint) from None
        except AdapterError as error:
            error.id = fresh.identity
            raise
        return fresh

    def _parameters(self, entity: EntityT) -> tuple[object, ...]:
        """The values of the fields as the driver takes them."""
        values = entity.field_values()
        if not self._free_json:
            return values
        # The driver would take a text for JSON text, and a list for a dimension of an array.
        return tuple(
            json_bytes(value) if place in self._free_json and value is not None else value
            for place, value in enumerate(values)
        )

    def _duplicate(self, id_: str, constraint: str | None) -> DuplicateError:
        return DuplicateError.of(self._kind.entity_name, id_, constraint=constraint)

    def _get(self, id_: str) -> Awaitable[EntityT | None]:
        return self._together(identifier(id_, self._kind.id_field))

    async def _get_together(self, ids: Sequence[str]) -> list[EntityT | AdapterError | None]:
        if len(ids) == 1:
            row = await self._database.fetch_one(self._statements.by_id, ids[0])
            return [None if row is None else self._read.one(row)]
        rows = await self._database.fetch(self._statements.by_ids, ids)
        found = {entity.identity: entity for entity in self._read.many(rows)}
        answers: list[EntityT | AdapterError | None] = []
        given: set[str] = set()
        for id_ in ids:
            entity = found.get(id_)
            answers.append(entity.clone() if entity is not None and id_ in given else entity)
            given.add(id_)
        return answers

    async def _replace(self, entity: object, *, since: datetime | None = None) -> EntityT:
        fresh = self._kind.checked(entity)
        change = Change(fresh.identity)
        parameters = dict(zip(self._columns, self._parameters(fresh), strict=True))
        for column in self._replaceable:
            change.set(f"{column} = {{}}", parameters[column])
        if "updated_at" in self._columns:
            change.set(TOUCHED)
        if since is not None:
            change.only_if("updated_at = {}", moment(since, "if_unchanged_since"))
        return await self._apply(change)

    async def _apply(self, change: Change) -> EntityT:
        parameters = (*change.parameters, self._database.tell())
        statement = self._statements.update(
            tuple(change.assignments), change.condition, len(parameters)
        )
        try:
            row = await self._database.fetch_one(statement, *parameters)
        except AdapterError as error:
            error.id = change.id
            raise
        if row is None:
            raise NotFoundError.of(self._kind.entity_name, change.id)
        if not row[0]:
            raise ConflictError.of(self._kind.entity_name, change.id)
        return self._read.one(row[1:])

    async def _delete(self, id_: str) -> bool:
        id_ = identifier(id_, self._kind.id_field)
        try:
            return (
                await self._database.execute(self._statements.delete, id_, self._database.tell())
                > 0
            )
        except AdapterError as error:
            error.id = id_
            raise

    async def _count_by(self, query: QueryT, status: type[StatusT]) -> dict[StatusT, int]:
        rows = await self._ask(query, "status, count(*)", " GROUP BY status")
        return {status(row[0]): row[1] for row in rows}

    async def _sum_of(self, query: QueryT, column: str) -> tuple[int, int]:
        ((total, number),) = await self._ask(query, f"coalesce(sum({column}), 0), count({column})")
        return int(total), number

    async def _ask(self, query: QueryT, answer: str, grouping: str = "") -> list[Record]:
        where = Where(self._conditions(query))
        statement = self._statements.ask(answer, where.clause, grouping)
        return await self._database.fetch(statement, *where.parameters)

    async def _rows_behind(
        self,
        query: QueryT,
        after: Position | None,
        limit: int,
        newest_first: bool,  # noqa: FBT001 - private
    ) -> list[Record]:
        where = Where(self._conditions(query))
        if after is not None:
            beyond = "<" if newest_first else ">"
            where.add(
                f"(created_at, {self._kind.id_field}) {beyond} ({{}}, {{}})",
                after.created_at,
                after.id,
            )
        where.cut(limit)
        id_ = self._kind.id_field
        return await self._select(where, f"created_at DESC, {id_} DESC" if newest_first else "")

    async def _select(self, where: Where, by: str = "") -> list[Record]:
        statement = self._statements.select(where.clause, where.tail, by)
        try:
            return await self._database.fetch(statement, *where.parameters)
        except DataIntegrityError:
            # The driver gave up on a time that no datetime can hold, and did not say whose.
            id_ = await self._beyond_time(where)
            if id_ is None:
                raise
            raise unreadable(self._kind.entity_name, id_) from None

    async def _beyond_time(self, where: Where) -> str | None:
        """The first id among what meets the conditions with a time that no datetime can hold."""
        conditions = f"{where.clause} AND" if where.clause else " WHERE"
        statement = self._statements.ask(
            f"min({self._kind.id_field})", f"{conditions} ({self._statements.beyond})"
        )
        rows = await self._database.fetch(statement, *where.asked)
        return cast("str | None", rows[0][0])

    async def _entities(self, rows: list[Record]) -> list[EntityT]:
        entities = self._read.many(rows[:_ROWS_AT_ONCE])
        for start in range(_ROWS_AT_ONCE, len(rows), _ROWS_AT_ONCE):
            await asyncio.sleep(0)
            entities += self._read.many(rows[start : start + _ROWS_AT_ONCE])
        return entities
