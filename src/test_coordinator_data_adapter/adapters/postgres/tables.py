"""The tables as the newest migration leaves them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Double,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import UserDefinedType

from test_coordinator_data_adapter.models import (
    AssertionType,
    EventStatus,
    EventType,
    ResultStatus,
    RunStatus,
    ScenarioStatus,
    ScenarioType,
)

__all__ = [
    "INDEXED_BYTES",
    "MEMBERS",
    "Xid8",
    "audit_pruning",
    "audit_records",
    "audit_seals",
    "chaos_events",
    "fields_of",
    "free_json_of",
    "metadata",
    "scenarios",
    "test_results",
    "test_runs",
]

MEMBERS: Final = "members"
"""Where a column's ``info`` names the enumeration it holds members of."""

INDEXED_BYTES: Final = 1020
"""Longer text is not indexed: with an id beside it, it might not fit an index entry."""

_CREATED_IN: Final = "created_in"


class Xid8(UserDefinedType[str]):
    """The id of a transaction, which never comes again."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        """What PostgreSQL calls it."""
        return "xid8"


def fields_of(table: Table) -> dict[str, Column[Any]]:
    """The columns that are fields of the table's kind, in their order."""
    return {name: column for name, column in table.columns.items() if name != _CREATED_IN}


def free_json_of(table: Table) -> frozenset[int]:
    """The places, among the fields, of the columns that hold any JSON value, not just objects."""
    return frozenset(
        place
        for place, column in enumerate(fields_of(table).values())
        if isinstance(column.type, JSONB) and column.nullable
    )


metadata = MetaData(
    naming_convention={"pk": "pk_%(table_name)s", "ck": "ck_%(table_name)s_%(constraint_name)s"}
)


def _text(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(name, Text(collation="C"), nullable=nullable)


def _id(name: str, *, nullable: bool = False) -> Column[str]:
    return Column(
        name,
        Text(collation="C"),
        CheckConstraint(f"char_length({name}) BETWEEN 1 AND 255", name=f"{name}_length"),
        nullable=nullable,
    )


def _member(name: str, members: type[StrEnum]) -> Column[str]:
    known = ", ".join(f"'{member}'" for member in members)
    return Column(
        name,
        Text(collation="C"),
        CheckConstraint(f"{name} IN ({known})", name=f"{name}_known"),
        nullable=False,
        info={MEMBERS: members},
    )


def _moment(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(
        name,
        DateTime(timezone=True),
        CheckConstraint(
            f"{name} >= '1970-01-01 00:00:00+00' AND {name} < '10000-01-01 00:00:00+00'",
            name=f"{name}_range",
        ),
        nullable=nullable,
    )


def _integer(name: str, *, least: int) -> Column[int]:
    return Column(
        name, BigInteger, CheckConstraint(f"{name} >= {least}", name=f"{name}_range"), nullable=True
    )


def _milliseconds(name: str) -> Column[int]:
    return _integer(name, least=0)


def _number(name: str) -> Column[float]:
    return Column(
        name,
        Double,
        CheckConstraint(
            f"{name} > '-Infinity' AND {name} < 'Infinity'",  # NaN is greater than all others
            name=f"{name}_finite",
        ),
        nullable=True,
    )


def _json(name: str, *, default: str | None = None) -> Column[Any]:
    return Column(
        name,
        JSONB,
        CheckConstraint(f"jsonb_typeof({name}) = 'object'", name=f"{name}_object"),
        server_default=None if default is None else text(default),
        nullable=False,
    )


def _several(name: str, item: Any, *, nullable: bool = False) -> Column[Any]:
    return Column(name, ARRAY(item), nullable=nullable)


def _texts(name: str, *, nullable: bool = False) -> Column[Any]:
    return _several(name, Text(collation="C"), nullable=nullable)


def _short(column: str) -> Any:
    return text(f"octet_length({column}) <= {INDEXED_BYTES}")


_ORDER: Final = {
    "scenarios": ("created_at", "scenario_id"),
    "test_runs": ("created_at", "run_id"),
    "chaos_events": ("created_at", "event_id"),
    "test_results": ("created_at", "result_id"),
}


def _by(table: str, *columns: str, **options: Any) -> Index:
    """An index that answers in the order (created_at, id) for each value of the columns."""
    name = "_and_".join(columns) or "order"
    return Index(f"ix_{table}_{name}", *columns, *_ORDER[table], **options)


def _newest(moment: str, *columns: str) -> Index:
    """An index that answers `list_newest`: by that time, newest first, runs without it last."""
    name = "_and_".join((*columns, moment))
    newest = text(f"{moment} DESC NULLS LAST")
    return Index(f"ix_test_runs_{name}", *columns, newest, *_ORDER["test_runs"])


scenarios = Table(
    "scenarios",
    metadata,
    _id("scenario_id"),
    _text("name"),
    _text("description", nullable=True),
    _member("scenario_type", ScenarioType),
    _member("status", ScenarioStatus),
    _json("configuration"),
    _texts("services_under_test"),
    _texts("expected_outcomes"),
    _text("created_by", nullable=True),
    _moment("created_at"),
    _moment("updated_at"),
    _texts("tags"),
    PrimaryKeyConstraint("scenario_id"),
    _by("scenarios"),
    _by("scenarios", "scenario_type"),
    _by("scenarios", "status"),
    _by("scenarios", "created_by", postgresql_where=_short("created_by")),
    Index("ix_scenarios_tags", "tags", postgresql_using="gin"),
    Index("ix_scenarios_services_under_test", "services_under_test", postgresql_using="gin"),
)

test_runs = Table(
    "test_runs",
    metadata,
    _id("run_id"),
    _id("scenario_id"),
    _member("status", RunStatus),
    _moment("started_at", nullable=True),
    _moment("completed_at", nullable=True),
    _milliseconds("duration_ms"),
    _json("configuration_snapshot"),
    _text("test_environment", nullable=True),
    Column("exit_code", BigInteger, nullable=True),
    _text("error_message", nullable=True),
    _moment("created_at"),
    _moment("updated_at"),
    _json("labels", default="'{}'"),
    PrimaryKeyConstraint("run_id"),
    Index(
        "ix_test_runs_labels",
        "labels",
        postgresql_using="gin",
        postgresql_ops={"labels": "jsonb_path_ops"},
    ),
    _by("test_runs"),
    _by("test_runs", "scenario_id", postgresql_include=["status", "duration_ms"]),
    _by("test_runs", "status"),
    _by("test_runs", "test_environment", postgresql_where=_short("test_environment")),
    _newest("started_at"),
    _newest("completed_at", "status"),
)

chaos_events = Table(
    "chaos_events",
    metadata,
    _id("event_id"),
    _id("run_id"),
    _member("event_type", EventType),
    _id("target_service"),
    _json("parameters"),
    _moment("injected_at"),
    _milliseconds("duration_ms"),
    _member("status", EventStatus),
    _milliseconds("recovery_time_ms"),
    _moment("created_at"),
    _moment("detected_at", nullable=True),
    _moment("recovered_at", nullable=True),
    _milliseconds("recovery_resolution_ms"),
    Column("output", JSONB, nullable=True),
    PrimaryKeyConstraint("event_id"),
    _by("chaos_events"),
    _by("chaos_events", "run_id"),
    _by("chaos_events", "event_type", postgresql_include=["recovery_time_ms"]),
    _by("chaos_events", "target_service"),
    _by("chaos_events", "status"),
    Index("ix_chaos_events_injected_at", "injected_at"),
)

test_results = Table(
    "test_results",
    metadata,
    _id("result_id"),
    _id("run_id"),
    _member("assertion_type", AssertionType),
    _text("expected_value"),
    _text("actual_value"),
    _member("status", ResultStatus),
    _moment("verification_time"),
    _text("error_details", nullable=True),
    _id("correlation_id", nullable=True),
    _moment("created_at"),
    _text("name", nullable=True),
    _text("phase", nullable=True),
    # How the audit trail finds the record of a bulk creation from each of its rows.
    Column(_CREATED_IN, Xid8, server_default=text("pg_current_xact_id()"), nullable=True),
    _milliseconds("duration_ms"),
    _integer("attempts", least=1),
    _number("measured_value"),
    _id("unit", nullable=True),
    PrimaryKeyConstraint("result_id"),
    _by("test_results"),
    _by("test_results", "run_id"),
    _by("test_results", "assertion_type"),
    _by("test_results", "status"),
    _by("test_results", "correlation_id", postgresql_where=text("correlation_id IS NOT NULL")),
    _by("test_results", "name", postgresql_where=_short("name")),
    # Counting by status reads nothing but these, which repeat few values and so stay small.
    Index("ix_test_results_run_id_and_status", "run_id", "status"),
    Index("ix_test_results_assertion_type_and_status", "assertion_type", "status"),
)

audit_records = Table(
    "audit_records",
    metadata,
    Column("record_id", BigInteger, Identity(always=True), nullable=False),
    Column(
        "recorded_at",
        DateTime(timezone=True),
        server_default=text("statement_timestamp()"),
        nullable=False,
    ),
    Column("transaction_id", Xid8, server_default=text("pg_current_xact_id()"), nullable=False),
    _text("actor"),
    # Triggers alone write these: a CHECK would cost every mutation, and find nothing.
    _text("operation"),
    _text("kind"),
    _text("entity_id", nullable=True),
    _text("run_id", nullable=True),
    Column("count", BigInteger, server_default=text("1"), nullable=False),
    Column("before", JSONB, nullable=True),
    Column("after", JSONB, nullable=True),
    _text("correlation_id", nullable=True),
    _text("reason", nullable=True),
    _texts("entity_ids", nullable=True),
    _several(_CREATED_IN, Xid8, nullable=True),
    _texts("run_ids", nullable=True),
    Column("call_id", Uuid, nullable=True),
    Column("step", Integer, nullable=True),
    Column("part", Integer, nullable=True),
    Column("call_digest", LargeBinary, nullable=True),
    Column("occurred_at", DateTime(timezone=True), nullable=True),
    Column("login_role", Text(collation="C"), server_default=text("SESSION_USER"), nullable=True),
    PrimaryKeyConstraint("record_id"),
    Index(
        "ix_audit_records_entity",
        "entity_id",
        "kind",
        "record_id",
    ),
    Index(
        "ix_audit_records_ids",
        "entity_ids",
        "run_ids",
        postgresql_using="gin",
        postgresql_where=text("entity_ids IS NOT NULL OR run_ids IS NOT NULL"),
    ),
    Index(
        "uq_audit_records_call",
        "call_id",
        "step",
        "part",
        unique=True,
        postgresql_where=text("call_id IS NOT NULL"),
    ),
    Index("ix_audit_records_recorded_at", "recorded_at"),
    Index(
        "ix_audit_records_run",
        "run_id",
        "record_id",
        postgresql_where=text("run_id IS NOT NULL"),
    ),
    Index(
        "ix_audit_records_correlation_id",
        "correlation_id",
        "record_id",
        postgresql_where=text("correlation_id IS NOT NULL"),
    ),
    Index(
        "ix_audit_records_bulk",
        "transaction_id",
        postgresql_where=text("operation = 'bulk_create'"),
    ),
)

audit_seals = Table(
    "audit_seals",
    metadata,
    Column("seal_id", BigInteger, autoincrement=False, nullable=False),
    Column("sealed_at", DateTime(timezone=True), nullable=False),
    _several("record_ids", BigInteger),
    Column("record_digests", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("pruned_through", BigInteger, nullable=True),
    Column("pruned_until", DateTime(timezone=True), nullable=True),
    PrimaryKeyConstraint("seal_id"),
)

# Written by the function prune() alone: what it deletes is recorded without its content.
audit_pruning = Table(
    "audit_pruning",
    metadata,
    Column("transaction_id", Xid8, nullable=False),
    PrimaryKeyConstraint("transaction_id"),
)
