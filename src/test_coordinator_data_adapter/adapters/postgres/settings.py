"""What the waist is told about one PostgreSQL: plain values, nothing read from anywhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from test_coordinator_data_adapter.tls import TlsSettings

__all__ = ["DatabaseSettings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseSettings:
    """One PostgreSQL database and how to treat it; all times in seconds.

    Attributes:
        url: ``postgresql://user:password@host:port/database``, the driver's name allowed; libpq's
            TLS options are understood. Not part of ``repr``.
        schema: where the tables are.
        pool_size: how many connections are kept.
        max_overflow: how many more there may be for a while.
        pool_timeout: how long to wait for one of them to become free.
        pool_recycle: how old a connection may become.
        connect_timeout: how long to wait for a new one to be ready.
        query_timeout: how long one trip may take, repeats included; COPY: between two batches.
        statement_timeout: when the server gives up a statement; a little before query_timeout
            unless given, so that the server's definite answer arrives before ours.
        lock_timeout: when the server gives up waiting for a lock; it is then tried again.
        idle_in_transaction_timeout: when the server ends a transaction nobody continues.
        application_name: what the server's statistics call these connections.
        audit_actor: who the audit trail says acts, where `audit_context` does not say; None: the
            role of the database.
        tls: how the way there is protected.
    """

    url: str = field(repr=False)
    schema: str
    pool_size: int = 10
    max_overflow: int = 20
    pool_timeout: float = 30.0
    pool_recycle: float = 3600.0
    connect_timeout: float = 5.0
    query_timeout: float = 30.0
    statement_timeout: float | None = None
    lock_timeout: float = 2.0
    idle_in_transaction_timeout: float = 60.0
    application_name: str = "test-coordinator-data-adapter"
    audit_actor: str | None = None
    tls: TlsSettings = TlsSettings()

    @property
    def server_side_timeout(self) -> float:
        """When the server gives up a statement."""
        if self.statement_timeout is not None:
            return self.statement_timeout
        return self.query_timeout - min(0.5, self.query_timeout / 10)
