"""The audit trail in PostgreSQL, where triggers write it."""

# ruff: noqa: S608 - made of our own names; every value travels as a parameter

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

from asyncpg import Record

from test_coordinator_data_adapter.adapters.postgres.database import Database, Statement
from test_coordinator_data_adapter.adapters.postgres.roles import quoted
from test_coordinator_data_adapter.adapters.postgres.statements import Where
from test_coordinator_data_adapter.interfaces.arguments import (
    batch_size_of,
    identifier,
    member,
    page_limit,
)
from test_coordinator_data_adapter.interfaces.audit import AuditRepository, record_behind
from test_coordinator_data_adapter.interfaces.queries import AuditQuery, Page, conditions_of
from test_coordinator_data_adapter.models.audit import AuditKind, AuditRecord

__all__ = ["PostgresAuditRepository"]

_BATCH: Final = 100
# Then others have the event loop.
_ROWS_AT_ONCE: Final = 200
_EXPRESSIONS: Final = {
    "entity_ids": "coalesce(entity_ids, '{}') AS entity_ids",
    "occurred_at": "coalesce(occurred_at, recorded_at) AS occurred_at",
}
_COLUMNS: Final = ", ".join(_EXPRESSIONS.get(name, name) for name in AuditRecord.model_fields)


class PostgresAuditRepository(AuditRepository):
    """The audit trail in PostgreSQL."""

    def __init__(self, database: Database, *, batch_size: int = _BATCH) -> None:
        """Read it in the schema of ``database``; streams travel by ``batch_size``."""
        self._database = database
        self._batch_size = batch_size_of(batch_size)
        schema = quoted(database.schema)
        self._trail = f"{schema}.audit_records"
        results = f"{schema}.test_results"
        self._history = _reading(
            "WITH own AS ("
            f"SELECT * FROM {self._trail} WHERE kind = $1 AND entity_id = $2 UNION ALL"
            f" SELECT * FROM {self._trail} WHERE kind = $1 AND entity_ids @> ARRAY[$2::text]"
            "), bulk AS ("
            f"SELECT * FROM {self._trail} WHERE operation = 'bulk_create' AND kind = $1"
            " AND transaction_id IN ("
            "SELECT created_in[coalesce(array_position(entity_ids, $2), 1)] FROM own"
            f" UNION ALL SELECT created_in FROM {results}"
            " WHERE $1 = 'test_result' AND result_id = $2)"
            f") SELECT {_COLUMNS} FROM (TABLE own UNION ALL TABLE bulk) AS found ORDER BY record_id"
        )
        # Results that are there, were deleted or were pruned lead to the bulk creation of their
        # transaction; of several in one, which nothing of ours makes, to the first.
        self._of_run = _reading(
            f"WITH own AS (SELECT * FROM {self._trail} WHERE run_id = $1 UNION ALL"
            f" SELECT * FROM {self._trail} WHERE kind = 'test_run' AND entity_id = $1"
            # What was moved away is recorded with this run as its run_id already.
            f" UNION ALL SELECT * FROM {self._trail} WHERE run_ids @> ARRAY[$1::text]"
            " AND operation <> 'prune' AND run_id <> $1"
            "), result AS ("
            f"SELECT created_in, result_id FROM {results} WHERE run_id = $1"
            " UNION SELECT created_in[1], entity_id FROM own"
            " WHERE created_in IS NOT NULL AND kind = 'test_result'"
            f" UNION SELECT gone.created_in, gone.result_id FROM {self._trail} AS prune,"
            " unnest(prune.created_in, prune.entity_ids, prune.run_ids)"
            " AS gone (created_in, result_id, run_id)"
            " WHERE entity_ids IS NOT NULL AND run_ids @> ARRAY[$1::text] AND gone.run_id = $1"
            "), bulk AS ("
            "SELECT created_in, array_agg(result_id ORDER BY result_id) AS ids FROM result"
            " WHERE NOT EXISTS (SELECT FROM own WHERE operation = 'create'"
            " AND transaction_id = result.created_in AND entity_id = result.result_id)"
            " GROUP BY created_in"
            f") SELECT {_COLUMNS}, ARRAY[entity_id] AS ids FROM own UNION ALL"
            f" SELECT {_COLUMNS}, ids FROM (SELECT record.*, ids FROM bulk, LATERAL ("
            f"SELECT * FROM {self._trail} AS record WHERE operation = 'bulk_create'"
            " AND transaction_id = bulk.created_in ORDER BY record_id LIMIT 1"
            ") AS record) AS found ORDER BY record_id"
        )

    async def history(self, kind: AuditKind, entity_id: str) -> list[AuditRecord]:
        asked = member(kind, AuditKind, "kind"), identifier(entity_id, "entity_id")
        return await _read(await self._database.fetch(self._history, *asked))

    async def find(
        self, query: AuditQuery, *, limit: int = 100, cursor: str | None = None
    ) -> Page[AuditRecord]:
        wanted = page_limit(limit)
        records = await self._behind(query, record_behind(cursor), wanted + 1)
        if len(records) <= wanted:
            return Page(records)
        return Page(records[:wanted], str(records[wanted - 1].record_id))

    async def stream(
        self, query: AuditQuery, *, batch_size: int | None = None
    ) -> AsyncIterator[AuditRecord]:
        wanted = self._batch_size if batch_size is None else batch_size_of(batch_size)
        after = record_behind(None)
        while True:
            records = await self._behind(query, after, wanted)
            for record in records:
                yield record
            if len(records) < wanted:
                return
            after = records[-1].record_id

    async def list_of_run(self, run_id: str) -> list[tuple[AuditRecord, Sequence[str]]]:
        rows = await self._database.fetch(self._of_run, identifier(run_id, "run_id"))
        return list(zip(await _read(rows), (row["ids"] for row in rows), strict=True))

    async def _behind(self, query: AuditQuery, after: int, limit: int) -> list[AuditRecord]:
        where = Where(conditions_of(query, AuditQuery))
        where.add("record_id > {}", after)
        where.cut(limit)
        statement = _reading(
            f"SELECT {_COLUMNS} FROM {self._trail}{where.clause} ORDER BY record_id{where.tail}"
        )
        return await _read(await self._database.fetch(statement, *where.parameters))


def _reading(sql: str) -> Statement:
    return Statement(sql, "audit_record", writes=False)


async def _read(rows: list[Record]) -> list[AuditRecord]:
    records: list[AuditRecord] = []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        if start:
            await asyncio.sleep(0)
        records += map(_record, rows[start : start + _ROWS_AT_ONCE])
    return records


def _record(row: Record) -> AuditRecord:
    return AuditRecord.model_validate({field: row[field] for field in AuditRecord.model_fields})
