"""The audit trail: every mutation of the stored kinds, recorded by the database itself."""

# ruff: noqa: S608 - made of the constants below

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

_TABLES = {
    "scenarios": "'scenario', 'scenario_id'",
    "test_runs": "'test_run', 'run_id'",
    "chaos_events": "'chaos_event', 'event_id'",
    "test_results": "'test_result', 'result_id'",
}
_TRIGGERS = {
    "audit_insert": ("AFTER INSERT", "REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT"),
    "audit_update": ("AFTER UPDATE", "FOR EACH ROW"),
    "audit_delete": ("AFTER DELETE", "REFERENCING OLD TABLE AS gone FOR EACH STATEMENT"),
    "refuse_truncate": ("BEFORE TRUNCATE", "FOR EACH STATEMENT"),
}

# Runs with the owner's rights, whoever fires it; times are written in UTC, whose session it may be.
_FUNCTION = """RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET timezone TO 'UTC'"""

_TOLD = """
    told jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );
    actor text := coalesce(left(told ->> 'actor', 255), session_user);
    correlation_id text := left(told ->> 'correlation_id', 255);
    reason text := told ->> 'reason';
"""

_UPGRADE = (
    """
    CREATE TABLE audit_records (
        record_id BIGINT GENERATED ALWAYS AS IDENTITY,
        recorded_at TIMESTAMPTZ NOT NULL DEFAULT statement_timestamp(),
        transaction_id XID8 NOT NULL DEFAULT pg_current_xact_id(),
        actor TEXT COLLATE "C" NOT NULL,
        operation TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_audit_records_operation_known
            CHECK (operation IN (
                'create', 'update', 'delete', 'status_change', 'recovery', 'bulk_create', 'prune'
            )),
        kind TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_audit_records_kind_known
            CHECK (kind IN ('scenario', 'test_run', 'chaos_event', 'test_result')),
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
    """
    CREATE INDEX ix_audit_records_entity ON audit_records (entity_id, kind, record_id)
        WHERE entity_id IS NOT NULL
    """,
    """
    CREATE INDEX ix_audit_records_entity_ids ON audit_records USING gin (entity_ids)
        WHERE entity_ids IS NOT NULL
    """,
    """
    CREATE INDEX ix_audit_records_run_ids ON audit_records USING gin (run_ids)
        WHERE run_ids IS NOT NULL
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
    # Rows of one statement share one record where they can be found again from it.
    f"""
    CREATE FUNCTION audit_insert() {_FUNCTION} AS $$
    DECLARE
        {_TOLD}
        touched bigint := (SELECT count(*) FROM fresh);
    BEGIN
        IF touched > 1 AND TG_ARGV[0] = 'test_result'
            AND told ->> 'operation' IS DISTINCT FROM 'create'
        THEN
            INSERT INTO audit_records (actor, operation, kind, count, correlation_id, reason)
            VALUES (actor, 'bulk_create', TG_ARGV[0], touched, correlation_id, reason);
        ELSE
            INSERT INTO audit_records (
                actor, operation, kind, entity_id, run_id, after, correlation_id, reason
            )
            SELECT actor, 'create', TG_ARGV[0], held ->> TG_ARGV[1], held ->> 'run_id',
                held - 'created_in', correlation_id, reason
            FROM (SELECT to_jsonb(fresh) AS held FROM fresh) AS every;
        END IF;
        RETURN NULL;
    END
    $$
    """,
    f"""
    CREATE FUNCTION audit_update() {_FUNCTION} AS $$
    DECLARE
        {_TOLD}
        was jsonb := to_jsonb(OLD);
        is_now jsonb := to_jsonb(NEW);
        changed_status boolean := was -> 'status' <> is_now -> 'status';
        recovers boolean := TG_ARGV[0] = 'chaos_event' AND is_now ->> 'status' = 'recovered' AND (
            changed_status OR was -> 'recovery_time_ms' <> is_now -> 'recovery_time_ms'
        );
    BEGIN
        INSERT INTO audit_records (
            actor, operation, kind, entity_id, run_id, before, after, correlation_id, reason
        )
        SELECT actor,
            CASE WHEN recovers THEN 'recovery' WHEN changed_status THEN 'status_change'
                ELSE 'update' END,
            TG_ARGV[0], was ->> TG_ARGV[1], was ->> 'run_id',
            coalesce(jsonb_object_agg(key, value), '{{}}'),
            coalesce(jsonb_object_agg(key, is_now -> key), '{{}}'), correlation_id, reason
        FROM jsonb_each(was) WHERE value <> is_now -> key;
        RETURN NULL;
    END
    $$
    """,
    f"""
    CREATE FUNCTION audit_delete() {_FUNCTION} AS $$
    DECLARE
        {_TOLD}
        touched bigint := (SELECT count(*) FROM gone);
    BEGIN
        IF touched = 1 AND told ->> 'operation' IS DISTINCT FROM 'prune' THEN
            INSERT INTO audit_records (
                actor, operation, kind, entity_id, run_id, before, correlation_id, reason,
                created_in
            )
            SELECT actor, 'delete', TG_ARGV[0], held ->> TG_ARGV[1], held ->> 'run_id',
                held - 'created_in', correlation_id, reason,
                CASE WHEN held ? 'created_in' THEN ARRAY[(held ->> 'created_in')::xid8] END
            FROM (SELECT to_jsonb(gone) AS held FROM gone) AS every;
        ELSIF touched > 0 THEN
            EXECUTE format(
                'INSERT INTO audit_records ('
                '  actor, operation, kind, count, correlation_id, reason, entity_ids, created_in,'
                '  run_ids'
                ') SELECT $1, ''prune'', $2, $3, $4, $5, array_agg(%I), %s FROM gone',
                TG_ARGV[1],
                CASE WHEN TG_ARGV[0] = 'test_result'
                    THEN 'array_agg(created_in), array_agg(run_id)' ELSE 'NULL, NULL' END
            ) USING actor, TG_ARGV[0], touched, correlation_id, reason;
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE FUNCTION refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE insufficient_privilege
            USING MESSAGE = 'TRUNCATE would leave no trace in the audit trail: use DELETE';
    END
    $$
    """,
    *(
        f"CREATE TRIGGER {does} {moment} ON {table} {rows} EXECUTE FUNCTION {does}({told})"
        for table, told in _TABLES.items()
        for does, (moment, rows) in _TRIGGERS.items()
    ),
    """
    REVOKE ALL ON FUNCTION audit_insert(), audit_update(), audit_delete(), refuse_truncate()
        FROM PUBLIC
    """,
)

_DOWNGRADE = (
    *(f"DROP TRIGGER {does} ON {table}" for table in _TABLES for does in _TRIGGERS),
    "DROP FUNCTION audit_insert(), audit_update(), audit_delete(), refuse_truncate()",
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
