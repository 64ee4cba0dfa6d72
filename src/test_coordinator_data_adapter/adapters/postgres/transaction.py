"""Several statements on one connection, applied together or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Final, TypeVar

import asyncpg

from test_coordinator_data_adapter.adapters.postgres.connections import Connections, Lease
from test_coordinator_data_adapter.adapters.postgres.copying import CopyText, RecordsFailedError
from test_coordinator_data_adapter.adapters.postgres.observer import Observer, rows_touched
from test_coordinator_data_adapter.adapters.postgres.statement import Statement
from test_coordinator_data_adapter.adapters.postgres.translation import (
    USELESS,
    Phase,
    normalize_error,
    translate,
)
from test_coordinator_data_adapter.errors import AdapterError

__all__ = ["Transaction"]

_AnswerT = TypeVar("_AnswerT")

_COMMIT: Final = Statement("COMMIT", None, writes=True)
_ROLLBACK: Final = Statement("ROLLBACK", None, writes=False)


class Transaction:
    """The verbs of ``Database`` on one connection, applied together or not at all."""

    __slots__ = ("_connections", "_failure", "_lease", "_limit", "_observer", "_schema", "_server")

    def __init__(
        self,
        lease: Lease,
        connections: Connections,
        *,
        schema: str,
        limit: float,
        observer: Observer,
        server: str,
    ) -> None:
        self._connections = connections
        self._lease = lease
        self._schema = schema
        self._limit = limit
        self._observer = observer
        self._server = server
        self._failure: AdapterError | None = None

    async def fetch(self, statement: Statement, *parameters: object) -> list[asyncpg.Record]:
        """All rows."""
        sql = statement.sql
        return await self._run(statement, lambda wire: wire.connection.fetch(sql, *parameters))

    async def fetch_one(self, statement: Statement, *parameters: object) -> asyncpg.Record | None:
        """The first row, or None."""
        sql = statement.sql
        return await self._run(statement, lambda wire: wire.connection.fetchrow(sql, *parameters))

    async def execute(self, statement: Statement, *parameters: object) -> int:
        """How many rows it touched."""
        sql = statement.sql
        return rows_touched(
            await self._run(statement, lambda wire: wire.connection.execute(sql, *parameters))
        )

    async def copy(
        self,
        table: str,
        columns: Mapping[str, type],
        records: Iterable[tuple[object, ...]],
        *,
        entity: str | None = None,
    ) -> None:
        """Store many rows by one COPY; see ``Database.copy``."""

        async def send(lease: Lease) -> str:
            async with asyncio.timeout(self._limit) as patience:
                return await lease.connection.copy_to_table(
                    table,
                    schema_name=self._schema,
                    columns=tuple(columns),
                    source=CopyText(tuple(columns.values()), records, patience, self._limit),
                )

        statement = Statement(f"COPY {table} FROM STDIN", entity, writes=True)
        try:
            await self._run(statement, send, limit=inf)
        except RecordsFailedError as failed:
            fault = failed.fault
        else:
            return
        raise fault

    async def end(self) -> None:
        """Apply it all, or tell again what doomed it."""
        if self._failure is not None:
            raise self._failure
        await self._run(_COMMIT, lambda wire: wire.connection.execute("COMMIT"), decides=True)

    async def abandon(self) -> None:
        """Apply nothing; whatever hinders that costs the connection, and hides no earlier error."""
        if self._lease.connection.is_closed() or not self._lease.connection.is_in_transaction():
            return
        with suppress(AdapterError):
            await self._run(_ROLLBACK, lambda wire: wire.connection.execute("ROLLBACK"))

    async def _run(
        self,
        statement: Statement,
        send: Callable[[Lease], Awaitable[_AnswerT]],
        *,
        decides: bool = False,
        limit: float | None = None,
    ) -> _AnswerT:
        sent = monotonic()
        self._connections.set_deadline(
            self._lease, sent + (self._limit if limit is None else limit)
        )
        answer: _AnswerT | None = None
        told: AdapterError | None = None
        abandoned = False
        try:
            answer = await send(self._lease)
            if self._observer.calls.failing:
                self._observer.report_success(statement)
            return answer
        except BaseException as error:
            told = self._told(statement, error, Phase.SENT if decides else Phase.UNDECIDED)
            if told is None or told.sqlstate is None or told.sqlstate in USELESS:
                self._lease.connection.terminate()
            if told is None:
                abandoned = True
                raise
            self._failure = told
            self._observer.report_failure(statement, told)
            raise told from None
        finally:
            self._lease.deadline = inf
            took = monotonic() - sent
            if took >= self._observer.threshold:
                self._observer.tell(
                    statement,
                    waited=0.0,
                    took=took,
                    answer=answer,
                    error=told,
                    abandoned=abandoned,
                    expired=self._lease.expired,
                )

    def _told(
        self, statement: Statement, error: BaseException, phase: Phase
    ) -> AdapterError | None:
        if isinstance(error, RecordsFailedError):
            return None
        closed = self._lease.connection.is_closed()
        error = normalize_error(error, expired=self._lease.expired, closed=closed)
        if not isinstance(error, Exception):
            return None
        return translate(
            error,
            phase=phase,
            writes=statement.writes,
            entity=statement.entity,
            server=self._server,
        )
