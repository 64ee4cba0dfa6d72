"""Several statements on one connection, applied together or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Final, TypeVar

import asyncpg

from test_coordinator_data_adapter.adapters.postgres.connections import Connections, Lease
from test_coordinator_data_adapter.adapters.postgres.observer import Observer, rows_touched
from test_coordinator_data_adapter.adapters.postgres.statement import Statement
from test_coordinator_data_adapter.adapters.postgres.translation import (
    DRIVER_ERRORS,
    Failure,
    Phase,
    classify,
    translate,
)
from test_coordinator_data_adapter.errors import AdapterError

__all__ = ["Transaction"]

_AnswerT = TypeVar("_AnswerT")

_COMMIT: Final = Statement("COMMIT", None, writes=True)
_ROLLBACK: Final = Statement("ROLLBACK", None, writes=False)
# For how many seconds a COPY has the event loop to itself.
_TURN: Final = 0.005
# The driver's own timer, where ours decides.
_NEVER: Final = 10.0**8


class Transaction:
    """The verbs of ``Database`` on one connection, applied together or not at all."""

    __slots__ = ("_connections", "_failure", "_lease", "_limit", "_observer", "_schema")

    def __init__(
        self,
        lease: Lease,
        connections: Connections,
        *,
        schema: str,
        limit: float,
        observer: Observer,
    ) -> None:
        self._connections = connections
        self._lease = lease
        self._schema = schema
        self._limit = limit
        self._observer = observer
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
        columns: Sequence[str],
        records: Iterable[tuple[object, ...]],
        *,
        entity: str | None = None,
    ) -> None:
        """Store many rows by one COPY; see ``Database.copy``."""

        async def send(lease: Lease) -> str:
            async with asyncio.timeout(self._limit) as patience:
                paced = _Paced(records, patience, self._limit)
                try:
                    return await lease.connection.copy_records_to_table(
                        table,
                        schema_name=self._schema,
                        columns=columns,
                        records=paced,
                        timeout=_NEVER,
                    )
                except (AttributeError, OverflowError, TypeError, ValueError):
                    if paced.failed:
                        raise
                    # What the driver's encoders raise, which it wraps everywhere but here.
                    raise asyncpg.DataError from None

        await self._run(Statement(f"COPY {table} FROM STDIN", entity, writes=True), send, limit=inf)

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
        self._connections.watch(self._lease, sent + (self._limit if limit is None else limit))
        answer: _AnswerT | None = None
        told: AdapterError | None = None
        abandoned = False
        try:
            answer = await send(self._lease)
            return answer
        except BaseException as error:
            # Before the transaction ends nothing is applied, whatever gets lost.
            told = self._told(statement, error, writes=decides)
            if told is None or told.sqlstate is None:
                self._lease.connection.terminate()
            if told is None:
                abandoned = True
                raise
            self._failure = told
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
        self, statement: Statement, error: BaseException, *, writes: bool
    ) -> AdapterError | None:
        if self._lease.expired and classify(error) is Failure.LOST:
            error = TimeoutError()
        if not isinstance(error, DRIVER_ERRORS):
            return None
        return translate(error, phase=Phase.SENT, writes=writes, entity=statement.entity)


class _Paced:
    """Records, one by one; lets others have the event loop and renews the deadline in between."""

    __slots__ = ("_clock", "_limit", "_patience", "_records", "_renewed", "failed")

    def __init__(
        self, records: Iterable[tuple[object, ...]], patience: asyncio.Timeout, limit: float
    ) -> None:
        self._records = iter(records)
        self._patience = patience
        self._limit = limit
        self._clock = asyncio.get_running_loop().time
        self._renewed = self._clock()
        self.failed = False

    def __aiter__(self) -> _Paced:
        return self

    async def __anext__(self) -> tuple[object, ...]:
        now = self._clock()
        if now - self._renewed > _TURN:
            await asyncio.sleep(0)
            self._renew()
        try:
            return next(self._records)
        except StopIteration:
            self._renew()
            raise StopAsyncIteration from None
        except BaseException:
            self.failed = True
            raise

    def _renew(self) -> None:
        self._renewed = self._clock()
        self._patience.reschedule(self._renewed + self._limit)
