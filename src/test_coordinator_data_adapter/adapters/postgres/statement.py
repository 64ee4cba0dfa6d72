"""What is sent to PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Statement"]


@dataclass(frozen=True, slots=True)
class Statement:
    """Constant SQL, with parameters as ``$1``, ``$2`` ...

    Attributes:
        sql: what is sent; the schema's name stands in it already.
        entity: what it is about, "test_run" ...; None for none of the stored kinds.
        writes: whether it can change anything. A read is repeated when its connection was lost;
            of a write whose answer was lost nobody knows whether it was applied.
        batched: whether it carries several callers' work: it is not repeated when a lock was not
            obtained, because its parts are sent one by one.
    """

    sql: str
    entity: str | None
    writes: bool
    batched: bool = False
