"""The audit trail: every mutation of the stored kinds, recorded by the database itself."""

# ruff: noqa: S608 - made of the constants below

from __future__ import annotations

from typing import NamedTuple

from alembic import op

revision = "tcda_0003"
down_revision = "tcda_0002"


class _Audited(NamedTuple):
    """A table whose mutations are recorded."""

    table: str
    kind: str
    id: str
    run_id: str
    columns: tuple[str, ...]


_EVERY = (
    _Audited(
        "scenarios",
        "scenario",
        "scenario_id",
        "NULL",
        (
            *("scenario_id", "name", "description", "scenario_type", "status", "configuration"),
            *("services_under_test", "expected_outcomes", "created_by", "created_at"),
            *("updated_at", "tags"),
        ),
    ),
    _Audited(
        "test_runs",
        "test_run",
        "run_id",
        "NULL",
        (
            *("run_id", "scenario_id", "status", "started_at", "completed_at", "duration_ms"),
            *("configuration_snapshot", "test_environment", "exit_code", "error_message"),
            *("created_at", "updated_at"),
        ),
    ),
    _Audited(
        "chaos_events",
        "chaos_event",
        "event_id",
        "run_id",
        (
            *("event_id", "run_id", "event_type", "target_service", "parameters", "injected_at"),
            *("duration_ms", "status", "recovery_time_ms", "created_at"),
        ),
    ),
    _Audited(
        "test_results",
        "test_result",
        "result_id",
        "run_id",
        (
            *("result_id", "run_id", "assertion_type", "expected_value", "actual_value", "status"),
            *("verification_time", "error_details", "correlation_id", "created_at", "name"),
            *("phase", "created_in"),
        ),
    ),
)
_TRIGGERS = {
    "audit_insert": "AFTER INSERT",
    "audit_update": "AFTER UPDATE",
    "audit_delete": "AFTER DELETE",
}
_CREATED_IN_BULK = "test_results"


def _rows_of(table: str, trigger: str) -> str:
    """What a trigger is told at once: keeping the rows of a statement costs each of them more."""
    if trigger == "audit_delete":
        return "REFERENCING OLD TABLE AS gone FOR EACH STATEMENT"
    if trigger == "audit_insert" and table == _CREATED_IN_BULK:
        return "REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT"
    return "FOR EACH ROW"


# Runs with the owner's rights, whoever fires it; times are written in UTC, whose session it may be.
_FUNCTION = """RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET timezone TO 'UTC'"""

_CONTEXT = "actor, correlation_id, reason"
_TOLD = """
    told jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );
"""
_TOLD_CONTEXT = """coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'"""


def _functions(audited: _Audited) -> tuple[str, str, str]:
    """Each of a table's own: every mutation pays for what a function has to find out."""
    table, kind, id_, run_id, columns = audited
    of_results = table == _CREATED_IN_BULK
    without, one_link, links = "", "NULL", "NULL::xid8[], NULL::text[]"
    if of_results:
        without, one_link = " - 'created_in'", "ARRAY[created_in]"
        links = "array_agg(created_in), array_agg(run_id)"
    operation = "CASE WHEN OLD.status <> NEW.status THEN 'status_change' ELSE 'update' END"
    if kind == "chaos_event":
        operation = f"""CASE WHEN NEW.status = 'recovered' AND (OLD.status <> NEW.status
            OR OLD.recovery_time_ms IS DISTINCT FROM NEW.recovery_time_ms)
        THEN 'recovery' ELSE {operation} END"""
    unchanged = ", ".join(
        f"CASE WHEN OLD.{column} IS NOT DISTINCT FROM NEW.{column} THEN '{column}' END"
        for column in columns
    )
    record = f"INSERT INTO audit_records (operation, kind, entity_id, run_id, after, {_CONTEXT})"
    recorded = f"""
            {record}
            VALUES (
                'create', '{kind}', NEW.{id_}, {run_id if run_id == "NULL" else f"NEW.{run_id}"},
                to_jsonb(NEW), {_TOLD_CONTEXT}
            );
    """
    if of_results:
        # Rows of one statement share one record where they can be found again from it.
        recorded = f"""
            IF told ->> 'operation' IS DISTINCT FROM 'create' THEN
                INSERT INTO audit_records (operation, kind, count, {_CONTEXT})
                SELECT 'bulk_create', '{kind}', touched, {_TOLD_CONTEXT}
                FROM (SELECT count(*) FROM fresh) AS every (touched) WHERE touched > 1;
                IF FOUND THEN
                    RETURN NULL;
                END IF;
            END IF;
            {record}
            SELECT 'create', '{kind}', {id_}, {run_id}, to_jsonb(fresh){without}, {_TOLD_CONTEXT}
            FROM fresh;
        """
    return (
        f"""
        CREATE FUNCTION audit_insert_{table}() {_FUNCTION} AS $$
        DECLARE {_TOLD}
        BEGIN {recorded}
            RETURN NULL;
        END
        $$
        """,
        f"""
        CREATE FUNCTION audit_update_{table}() {_FUNCTION} AS $$
        DECLARE {_TOLD}
            unchanged text[] := ARRAY[{unchanged}];
        BEGIN
            INSERT INTO audit_records (
                operation, kind, entity_id, run_id, before, after, {_CONTEXT}
            )
            VALUES (
                {operation}, '{kind}', OLD.{id_},
                {run_id if run_id == "NULL" else f"OLD.{run_id}"},
                to_jsonb(OLD) - unchanged, to_jsonb(NEW) - unchanged, {_TOLD_CONTEXT}
            );
            RETURN NULL;
        END
        $$
        """,
        f"""
        CREATE FUNCTION audit_delete_{table}() {_FUNCTION} AS $$
        DECLARE {_TOLD}
        BEGIN
            IF told ->> 'operation' IS DISTINCT FROM 'prune' THEN
                INSERT INTO audit_records (
                    operation, kind, entity_id, run_id, before, created_in, {_CONTEXT}
                )
                SELECT 'delete', '{kind}', {id_}, {run_id}, to_jsonb(gone){without},
                    {one_link}, {_TOLD_CONTEXT}
                FROM gone WHERE NOT EXISTS (SELECT FROM gone OFFSET 1);
                IF FOUND THEN
                    RETURN NULL;
                END IF;
            END IF;
            INSERT INTO audit_records (
                operation, kind, count, entity_ids, created_in, run_ids, {_CONTEXT}
            )
            SELECT 'prune', '{kind}', cardinality(ids), ids, created_in, run_ids, {_TOLD_CONTEXT}
            FROM (
                SELECT array_agg({id_}), {links}
                FROM gone
            ) AS every (ids, created_in, run_ids)
            WHERE ids IS NOT NULL;
            RETURN NULL;
        END
        $$
        """,
    )


RECORDING = (
    *(function for audited in _EVERY for function in _functions(audited)),
    *(
        f"CREATE TRIGGER {does} {moment} ON {table} {_rows_of(table, does)}"
        f" EXECUTE FUNCTION {does}_{table}()"
        for table, *_ in _EVERY
        for does, moment in _TRIGGERS.items()
    ),
    *(
        f"REVOKE ALL ON FUNCTION {does}_{table}() FROM PUBLIC"
        for table, *_ in _EVERY
        for does in _TRIGGERS
    ),
)
"""Makes the triggers of this revision; a later one replaces them, and its downgrade uses this."""

NO_RECORDING = (
    *(f"DROP TRIGGER {does} ON {table}" for table, *_ in _EVERY for does in _TRIGGERS),
    *(f"DROP FUNCTION {does}_{table}()" for table, *_ in _EVERY for does in _TRIGGERS),
)
"""Removes them."""

_UPGRADE = (
    """
    CREATE TABLE audit_records (
        record_id BIGINT GENERATED ALWAYS AS IDENTITY,
        recorded_at TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
        transaction_id XID8 NOT NULL DEFAULT pg_current_xact_id(),
        actor TEXT COLLATE "C" NOT NULL,
        operation TEXT COLLATE "C" NOT NULL,
        kind TEXT COLLATE "C" NOT NULL,
        entity_id TEXT COLLATE "C",
        run_id TEXT COLLATE "C",
        count BIGINT NOT NULL DEFAULT 1,
        before JSONB,
        after JSONB,
        correlation_id TEXT COLLATE "C",
        reason TEXT COLLATE "C",
        entity_ids TEXT[] COLLATE "C",
        created_in XID8[],
        run_ids TEXT[] COLLATE "C",
        CONSTRAINT pk_audit_records PRIMARY KEY (record_id)
    )
    """,
    # Every condition costs every record something, and so does every CHECK: there are few.
    "CREATE INDEX ix_audit_records_entity ON audit_records (entity_id, kind, record_id)",
    """
    CREATE INDEX ix_audit_records_prune ON audit_records USING gin (entity_ids, run_ids)
        WHERE operation = 'prune'
    """,
    "CREATE INDEX ix_audit_records_recorded_at ON audit_records (recorded_at)",
    """
    CREATE INDEX ix_audit_records_run ON audit_records (run_id, record_id)
        WHERE run_id IS NOT NULL
    """,
    """
    CREATE INDEX ix_audit_records_correlation_id ON audit_records (correlation_id, record_id)
        WHERE correlation_id IS NOT NULL
    """,
    """
    CREATE INDEX ix_audit_records_bulk ON audit_records (transaction_id)
        WHERE operation = 'bulk_create'
    """,
    # In two steps: what is there already keeps none, and the table is not written anew.
    "ALTER TABLE test_results ADD COLUMN created_in XID8",
    "ALTER TABLE test_results ALTER COLUMN created_in SET DEFAULT pg_current_xact_id()",
    *RECORDING,
    """
    CREATE FUNCTION refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE insufficient_privilege
            USING MESSAGE = 'TRUNCATE would leave no trace in the audit trail: use DELETE';
    END
    $$
    """,
    *(
        f"CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON {table}"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate()"
        for table, *_ in _EVERY
    ),
    "REVOKE ALL ON FUNCTION refuse_truncate() FROM PUBLIC",
)

_DOWNGRADE = (
    *(f"DROP TRIGGER refuse_truncate ON {table}" for table, *_ in _EVERY),
    *NO_RECORDING,
    "DROP FUNCTION refuse_truncate()",
    "ALTER TABLE test_results DROP COLUMN created_in",
    "DROP TABLE audit_records",
)


def upgrade() -> None:
    """Record from now on; what is there already has no history."""
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Record no more, and drop what was recorded."""
    for statement in _DOWNGRADE:
        op.execute(statement)
