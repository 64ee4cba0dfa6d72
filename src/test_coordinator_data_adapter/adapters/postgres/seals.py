"""Sealing the audit trail, and finding what was changed, removed or inserted since."""

# ruff: noqa: S608 - made of our own names; every value travels as a parameter

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from test_coordinator_data_adapter.adapters.postgres.database import (
    Database,
    Statement,
    Transaction,
)
from test_coordinator_data_adapter.adapters.postgres.roles import quoted
from test_coordinator_data_adapter.errors import DataIntegrityError

__all__ = ["Pruned", "Seals", "Verdict"]

_IN_A_SEAL: Final = 10_000
_AT_ONCE: Final = 500
# By name: what a later revision adds to the records leaves the seals of older ones good.
_SEALED: Final = (
    "record_id, recorded_at, transaction_id, actor, operation, kind, entity_id, run_id, count,"
    " before, after, correlation_id, reason, entity_ids, created_in, run_ids"
)
# Sealed where they hold a value: records that are older than these columns look as they did.
_SEALED_IF_SET: Final = "call_id, step, part, call_digest, occurred_at, login_role"
_BYTES: Final = hashlib.sha256().digest_size
_BEFORE_THE_FIRST: Final = (bytes(_BYTES), -(2**63))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the seals say.

    Attributes:
        problem: the first thing that is not as it was sealed, or None.
        seals: how many seals were made, or had their records compared.
        records: how many records they cover.
        unsealed: how many records came after the last seal: nothing is known of those.
        digest: of the last seal, hexadecimal, to be kept where nobody who administers the
            database can write; None without a seal.
    """

    problem: str | None
    seals: int
    records: int
    unsealed: int
    digest: str | None


@dataclass(frozen=True, slots=True)
class Pruned:
    """What went of the trail.

    Attributes:
        records: how many records were deleted.
        first_seal: the seal from which on the trail can be verified.
    """

    records: int
    first_seal: int


class Seals:
    """The seals of one schema's audit trail.

    A seal covers the records behind the one before it. It holds the SHA-256 of each record, by
    which the first one that differs is named, and the SHA-256 of these, of its own time and of the
    seal before.
    Whoever can change the seals as well can make them fit: only a digest kept elsewhere proves
    that they did not.
    """

    def __init__(self, database: Database) -> None:
        """Work in the schema of ``database``, as the owner or the auditor."""
        self._database = database
        self._trail = f"{quoted(database.schema)}.audit_records"
        self._seals = f"{quoted(database.schema)}.audit_seals"
        self._records = _reading(
            "SELECT record_id, ((SELECT to_jsonb(sealed) FROM (SELECT"
            f" {_SEALED}) AS sealed) || jsonb_strip_nulls((SELECT to_jsonb(added)"
            f" FROM (SELECT {_SEALED_IF_SET}) AS added)))::text FROM {self._trail}"
            f" WHERE record_id > $1 AND record_id <= $2 ORDER BY record_id LIMIT {_AT_ONCE}"
        )
        self._next_seal = _reading(
            "SELECT seal_id, sealed_at::text, record_ids, record_digests, digest"
            f" FROM {self._seals} WHERE seal_id >= $1 ORDER BY seal_id LIMIT 1"
        )

    async def seal(self) -> Verdict:
        """Seal every record so far.

        Those who write wait for a moment at most; records of theirs that are not committed yet
        belong to the next seal.

        Raises:
            DataIntegrityError: the last seal is not one that this made.
        """
        async with self._database.transaction() as transaction:
            # When the lock is held, whoever was given a lower number has ended.
            await transaction.execute(
                Statement(f"LOCK TABLE {self._trail} IN SHARE MODE", None, writes=True)
            )
            row = await transaction.fetch_one(
                _reading(f"SELECT coalesce(max(record_id), 0) FROM {self._trail}")
            )
        end: int = row[0] if row else 0
        async with self._database.transaction() as transaction:
            # Two that seal at once take turns, however long the first one's is.
            await transaction.execute(Statement("SET LOCAL lock_timeout TO 0", None, writes=False))
            row = await transaction.fetch_one(
                _reading(
                    "SELECT pg_advisory_xact_lock(hashtextextended($1, 0)),"
                    " clock_timestamp()::text AS now"
                ),
                f"test-coordinator-data-adapter/{self._database.schema}/seals",
            )
            assert row is not None  # noqa: S101 - tells the type checkers: this SELECT has no FROM
            now: str = row["now"]
            seal_id, digest, after = await self._last(transaction)
            made = sealed = 0
            covered: dict[int, bytes] = {}
            async for record_id, record_digest in self._digests(transaction, after, end):
                if len(covered) == _IN_A_SEAL:
                    made, sealed = made + 1, sealed + len(covered)
                    digest = await self._add(transaction, seal_id + made, digest, covered, at=now)
                    covered = {}
                covered[record_id] = record_digest
            if covered:
                made, sealed = made + 1, sealed + len(covered)
                digest = await self._add(transaction, seal_id + made, digest, covered, at=now)
        return Verdict(None, made, sealed, 0, digest.hex() if seal_id + made else None)

    async def prune(self, before: datetime) -> Pruned:
        """Delete the old part of the trail: whole seals of which every record is older.

        What is not sealed stays, and so do the seals themselves: what is left still verifies,
        from ``first_seal`` on. It works in bounded batches and can be broken off and repeated.

        Args:
            before: what was recorded then or later stays.
        """
        row = await self._database.fetch_one(
            _reading(
                f"SELECT seal_id, record_ids[cardinality(record_ids)] FROM {self._seals}"
                " WHERE record_ids[cardinality(record_ids)] < coalesce("
                f"(SELECT min(record_id) FROM {self._trail} WHERE recorded_at >= $1),"
                " 9223372036854775807) ORDER BY seal_id DESC LIMIT 1"
            ),
            before,
        )
        if row is None:
            return Pruned(0, 1)
        seal_id, last = row
        statement = Statement(
            f"DELETE FROM {self._trail} WHERE record_id = ANY(ARRAY(SELECT record_id"
            f" FROM {self._trail} WHERE record_id <= $1 ORDER BY record_id LIMIT {_IN_A_SEAL}))",
            None,
            writes=True,
        )
        records = 0
        while gone := await self._database.execute(statement, last):
            records += gone
        return Pruned(records, seal_id + 1)

    async def verify(self, *, anchor: str | None = None, first: int = 1) -> Verdict:
        """Compare every sealed record with what it was.

        Args:
            anchor: the digest of a seal, as it was told when it was made; it must still be there,
                wherever ``first`` is.
            first: the seal to begin with; records that earlier ones cover may be gone.
        """
        problem: str | None = None
        seals = records = 0
        async with self._database.transaction() as transaction:
            await transaction.execute(
                Statement(
                    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY", None, writes=False
                )
            )
            before, after = _BEFORE_THE_FIRST
            anchored = anchor is None
            expected = 1
            while row := await transaction.fetch_one(self._next_seal, expected):
                seal_id, sealed_at, ids, held, digest = row
                if problem is None and seal_id != expected:
                    problem = f"seal {expected} was removed"
                if problem is None and (not ids or _digest(before, sealed_at, ids, held) != digest):
                    problem = f"seal {seal_id} was changed"
                pruned = seal_id < first
                if problem is None:
                    problem = await self._first_difference(
                        transaction, after, ids, held, pruned=pruned
                    )
                if not pruned:
                    seals, records = seals + 1, records + len(ids)
                anchored = anchored or digest.hex() == anchor
                before, after, expected = digest, ids[-1] if ids else after, seal_id + 1
            if problem is None and expected < first:
                problem = f"seal {expected} was removed"
            if problem is None and not anchored:
                problem = "no seal has the digest that was kept: the seals were exchanged"
            row = await transaction.fetch_one(
                _reading(f"SELECT count(*) FROM {self._trail} WHERE record_id > $1"), after
            )
        return Verdict(
            problem, seals, records, row[0] if row else 0, before.hex() if expected > 1 else None
        )

    async def _first_difference(
        self, transaction: Transaction, after: int, ids: list[int], held: bytes, *, pruned: bool
    ) -> str | None:
        sealed = {id_: held[at * _BYTES :][:_BYTES] for at, id_ in enumerate(ids)}
        differences: dict[int, str] = {}
        async for id_, digest in self._digests(transaction, after, ids[-1]):
            was = sealed.pop(id_, None)
            if was != digest:
                differences[id_] = "inserted" if was is None else "changed"
        if not pruned:
            differences |= dict.fromkeys(sealed, "removed")
        if not differences:
            return None
        first = min(differences)
        return f"record {first} was {differences[first]}"

    async def _digests(
        self, transaction: Transaction, after: int, end: int
    ) -> AsyncGenerator[tuple[int, bytes]]:
        while rows := await transaction.fetch(self._records, after, end):
            for record_id, canonical in rows:
                yield record_id, hashlib.sha256(canonical.encode()).digest()
            after = rows[-1][0]

    async def _last(self, transaction: Transaction) -> tuple[int, bytes, int]:
        """The last seal, its digest, and the last record it covers."""
        row = await transaction.fetch_one(
            _reading(
                "SELECT seal_id, digest, record_ids[cardinality(record_ids)]"
                f" FROM {self._seals} ORDER BY seal_id DESC LIMIT 1"
            )
        )
        if row is None:
            return 0, *_BEFORE_THE_FIRST
        if row[2] is None:
            raise DataIntegrityError(
                f"seal {row[0]} was changed: it covers nothing; see what `audit verify` says"
            )
        return row[0], row[1], row[2]

    async def _add(
        self,
        transaction: Transaction,
        seal_id: int,
        before: bytes,
        covered: dict[int, bytes],
        *,
        at: str,
    ) -> bytes:
        ids, held = list(covered), b"".join(covered.values())
        digest = _digest(before, at, ids, held)
        await transaction.execute(
            Statement(
                f"INSERT INTO {self._seals}"
                " (seal_id, sealed_at, record_ids, record_digests, digest)"
                " VALUES ($1, $2::text::timestamptz, $3, $4, $5)",
                None,
                writes=True,
            ),
            seal_id,
            at,
            ids,
            held,
            digest,
        )
        return digest


def _digest(before: bytes, sealed_at: str, ids: list[int], held: bytes) -> bytes:
    named = f"{sealed_at}\n{','.join(map(str, ids))}\n".encode()
    return hashlib.sha256(before + named + held).digest()


def _reading(sql: str) -> Statement:
    return Statement(sql, None, writes=False)
