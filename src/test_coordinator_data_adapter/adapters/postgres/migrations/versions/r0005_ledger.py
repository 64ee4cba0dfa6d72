"""The audit trail becomes a ledger: every mutation can be looked up, and a late one is refused.

The SQL interface of this revision
==================================

**The setting** ``test_coordinator_adapter.audit`` (`audit_setting.AUDIT_SETTING`) holds one JSON
object. It is set by the statement of the mutation itself (``set_config(..., true)`` in
``RETURNING``) or once in a transaction. Every key is optional::

    {
      "actor": "ann", "correlation_id": "request-7", "reason": "drill",
      "operation": "create",                  -- rows of one INSERT are one record each
      "call":  {"id": "<uuid>", "step": 1, "digest": "<hex>", "occurred_at": "<timestamptz>"},
      "calls": {"<entity id>": {"id": ..., "step": ..., "digest": ..., "occurred_at": ...}},
      "not_after": "<timestamptz>",           -- in the clock of the database
      "parts": true                           -- one call may write several records
    }

``call`` identifies the mutation; ``calls`` does so for each row of a batched statement, by the id
of the entity. ``id`` and ``step`` come together; ``digest`` (of the operation and its arguments)
and ``occurred_at`` (when the caller asked, if that was not now) are optional.

**Columns of audit_records**: ``call_id uuid``, ``step int``, ``part int`` (1, or counted within
the transaction with ``parts``), ``call_digest bytea``, ``occurred_at timestamptz`` (NULL: the time
of ``recorded_at``), ``login_role`` (``session_user``, beside the ``actor`` that the client claims).

**Look-up**: ``SELECT ... FROM audit_records WHERE call_id = $1 AND step = $2 ORDER BY part`` uses
the unique index ``uq_audit_records_call (call_id, step, part)``. The same mutation applied twice
violates it: 23505 with this name as constraint.

**Late statements**: a statement that touches a row after ``not_after`` fails with the SQLSTATE
``TCA01`` (`audit_setting.LATE`), and nothing of it is applied.

**fence(not_after timestamptz)** fails with the same SQLSTATE when ``not_after`` has passed. Send
``SELECT "schema".fence('2026-05-06T07:08:09Z'); COMMIT`` as one message: the COMMIT is not
executed after the failure.

**prune(kind text, ids text[]) returns bigint** deletes entities and records their ids alone;
``kind`` as in ``audit_records``. Runs that are pending or running stay. Every other DELETE records
what each row was.

**audit_horizon() returns timestamptz**: a call that was recorded at or before this time may have
been pruned from the trail; NULL when no prune has left an anchor. ``audit prune`` leaves none yet,
so NULL does not prove that nothing was pruned.
"""

# ruff: noqa: S608 - made of the constants below

from __future__ import annotations

from typing import NamedTuple

from alembic import op

from test_coordinator_data_adapter.adapters.postgres.migrations.versions import r0003_audit_trail

revision = "tcda_0005"
down_revision = "tcda_0004"


class _Audited(NamedTuple):
    """A table whose mutations are recorded; the arguments of its triggers."""

    table: str
    kind: str
    id: str
    run_id: str | None = None


_AUDITED = (
    _Audited("scenarios", "scenario", "scenario_id"),
    _Audited("test_runs", "test_run", "run_id"),
    _Audited("chaos_events", "chaos_event", "event_id", "run_id"),
    _Audited("test_results", "test_result", "result_id", "run_id"),
)

# Runs with the owner's rights, whoever calls it.
_AS_OWNER = "LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT"

# Times are recorded in UTC. A function with "SET timezone" pays for it in every session, also in
# those that are in UTC already, as the library's are: a tenth of what a record costs.
_TO_UTC = """
    IF time_zone <> 'UTC' THEN
        PERFORM set_config('timezone', 'UTC', true);
    END IF;
"""
_FROM_UTC = """
    IF time_zone <> 'UTC' THEN
        PERFORM set_config('timezone', time_zone, true);
    END IF;
    RETURN NULL;
"""
_TIME_ZONE = "time_zone text := current_setting('timezone');"

_CONTEXT = """
    context jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );
    call jsonb := context -> 'call';
"""
_COLUMNS = """actor, correlation_id, reason,
    call_id, step, part, call_digest, occurred_at"""


def _values(call: str = "call") -> str:
    """The values of `_COLUMNS`; ``call`` is the SQL of the call's JSON."""
    return f"""coalesce(left(context ->> 'actor', 255), session_user),
    left(context ->> 'correlation_id', 255), context ->> 'reason',
    ({call} ->> 'id')::uuid, ({call} ->> 'step')::integer,
    CASE WHEN {call} IS NULL THEN NULL WHEN context ? 'parts' THEN next_audit_part() ELSE 1 END,
    decode({call} ->> 'digest', 'hex'), ({call} ->> 'occurred_at')::timestamptz"""


_REFUSE_LATE = """
    IF clock_timestamp() > (context ->> 'not_after')::timestamptz THEN
        RAISE EXCEPTION USING ERRCODE = 'TCA01',
            MESSAGE = 'the statement arrived after its latest permitted time';
    END IF;
"""

# The arguments of a trigger: the kind, the column of its id and, if it has one, of its run. Rows
# are compared by key, as JSON of whatever columns the table has: no column is named here.
_AUDIT_ROW = f"""
CREATE FUNCTION audit_row() RETURNS trigger {_AS_OWNER} AS $$
DECLARE {_CONTEXT} {_TIME_ZONE}
    old_row jsonb;
    new_row jsonb;
    id text;
    unchanged text[];
    moved boolean;
BEGIN
    {_REFUSE_LATE}
    {_TO_UTC}
    IF TG_OP = 'UPDATE' THEN
        old_row := to_jsonb(OLD);
        new_row := to_jsonb(NEW);
        unchanged := ARRAY(SELECT key FROM jsonb_each(old_row) WHERE new_row -> key = value);
        id := old_row ->> TG_ARGV[1];
        IF call IS NULL THEN
            call := context -> 'calls' -> id;
        END IF;
        moved := old_row ->> TG_ARGV[2] <> new_row ->> TG_ARGV[2];
        INSERT INTO audit_records (
            operation, kind, entity_id, run_id, before, after, run_ids, created_in, {_COLUMNS}
        )
        VALUES (
            CASE
                WHEN TG_ARGV[0] = 'chaos_event' AND new_row ->> 'status' = 'recovered'
                    AND NOT unchanged @> '{{status,recovery_time_ms}}' THEN 'recovery'
                WHEN NOT 'status' = ANY (unchanged) THEN 'status_change'
                ELSE 'update'
            END,
            TG_ARGV[0], id, old_row ->> TG_ARGV[2],
            old_row - unchanged, new_row - unchanged,
            CASE WHEN moved THEN ARRAY[old_row ->> TG_ARGV[2], new_row ->> TG_ARGV[2]] END,
            CASE WHEN moved AND old_row ? 'created_in'
                THEN ARRAY[(old_row ->> 'created_in')::xid8] END,
            {_values()}
        );
    ELSIF TG_OP = 'INSERT' THEN
        new_row := to_jsonb(NEW);
        id := new_row ->> TG_ARGV[1];
        IF call IS NULL THEN
            call := context -> 'calls' -> id;
        END IF;
        INSERT INTO audit_records (operation, kind, entity_id, run_id, after, {_COLUMNS})
        VALUES (
            'create', TG_ARGV[0], id, new_row ->> TG_ARGV[2], new_row,
            {_values()}
        );
    ELSE
        IF context ->> 'operation' = 'prune' AND EXISTS (
            SELECT FROM audit_pruning WHERE transaction_id = pg_current_xact_id()
        ) THEN
            {_FROM_UTC}
        END IF;
        old_row := to_jsonb(OLD);
        id := old_row ->> TG_ARGV[1];
        IF call IS NULL THEN
            call := context -> 'calls' -> id;
        END IF;
        INSERT INTO audit_records (
            operation, kind, entity_id, run_id, before, created_in, {_COLUMNS}
        )
        VALUES (
            'delete', TG_ARGV[0], id, old_row ->> TG_ARGV[2],
            old_row - 'created_in',
            CASE WHEN old_row ? 'created_in' THEN ARRAY[(old_row ->> 'created_in')::xid8] END,
            {_values()}
        );
    END IF;
    {_FROM_UTC}
END
$$
"""

# Results are created many at once: these share one record, to which each of their rows leads.
_AUDIT_CREATED_ROWS = f"""
CREATE FUNCTION audit_created_rows() RETURNS trigger {_AS_OWNER} AS $$
DECLARE {_CONTEXT} {_TIME_ZONE}
BEGIN
    {_REFUSE_LATE}
    IF context ->> 'operation' IS DISTINCT FROM 'create' THEN
        INSERT INTO audit_records (operation, kind, count, {_COLUMNS})
        SELECT 'bulk_create', TG_ARGV[0], number, {_values()}
        FROM (SELECT count(*) FROM created_rows) AS counted (number) WHERE number > 1;
        IF FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    {_TO_UTC}
    INSERT INTO audit_records (operation, kind, entity_id, run_id, after, {_COLUMNS})
    SELECT 'create', TG_ARGV[0], new_row ->> TG_ARGV[1], new_row ->> TG_ARGV[2],
        new_row - 'created_in',
        {_values("coalesce(call, context -> 'calls' -> (new_row ->> TG_ARGV[1]))")}
    FROM (SELECT to_jsonb(created_rows) FROM created_rows) AS created (new_row);
    {_FROM_UTC}
END
$$
"""

# Its row in audit_pruning, which only the owner can write, tells the trigger that it runs.
_PRUNE = f"""
CREATE FUNCTION prune(kind text, ids text[]) RETURNS bigint {_AS_OWNER} AS $$
DECLARE {_CONTEXT}
    said text := current_setting('test_coordinator_adapter.audit', true);
    pruned_ids text[];
    created_in xid8[];
    run_ids text[];
BEGIN
    IF cardinality(ids) = 0 THEN
        RETURN 0;
    END IF;
    PERFORM set_config(
        'test_coordinator_adapter.audit', (context || '{{"operation": "prune"}}')::text, true
    );
    INSERT INTO audit_pruning VALUES (pg_current_xact_id());
    CASE kind
        WHEN 'scenario' THEN
            WITH pruned AS (
                DELETE FROM scenarios WHERE scenario_id = ANY (ids) RETURNING scenario_id AS id
            ) SELECT array_agg(id) INTO pruned_ids FROM pruned;
        WHEN 'test_run' THEN
            WITH pruned AS (
                DELETE FROM test_runs WHERE run_id = ANY (ids)
                    AND status NOT IN ('pending', 'running') RETURNING run_id AS id
            ) SELECT array_agg(id) INTO pruned_ids FROM pruned;
        WHEN 'chaos_event' THEN
            WITH pruned AS (
                DELETE FROM chaos_events WHERE event_id = ANY (ids) RETURNING event_id AS id
            ) SELECT array_agg(id) INTO pruned_ids FROM pruned;
        WHEN 'test_result' THEN
            WITH pruned AS (
                DELETE FROM test_results AS result WHERE result_id = ANY (ids)
                RETURNING result_id AS id, result.created_in AS transaction_id, run_id
            ) SELECT array_agg(id), array_agg(transaction_id), array_agg(run_id)
                INTO pruned_ids, created_in, run_ids FROM pruned;
    END CASE;
    DELETE FROM audit_pruning WHERE transaction_id = pg_current_xact_id();
    PERFORM set_config('test_coordinator_adapter.audit', coalesce(said, ''), true);
    IF pruned_ids IS NULL THEN
        RETURN 0;
    END IF;
    {_REFUSE_LATE}
    INSERT INTO audit_records (
        operation, kind, count, entity_ids, created_in, run_ids, {_COLUMNS}
    )
    VALUES (
        'prune', prune.kind, cardinality(pruned_ids), pruned_ids, created_in, run_ids,
        {_values()}
    );
    RETURN cardinality(pruned_ids);
END
$$
"""

_NEXT_AUDIT_PART = """
CREATE FUNCTION next_audit_part() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    part integer := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit_part', true), '')::integer, 0
    ) + 1;
BEGIN
    PERFORM set_config('test_coordinator_adapter.audit_part', part::text, true);
    RETURN part;
END
$$
"""

_FENCE = """
CREATE FUNCTION fence(not_after timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF clock_timestamp() > not_after THEN
        RAISE EXCEPTION USING ERRCODE = 'TCA01',
            MESSAGE = 'the transaction ended after its latest permitted time';
    END IF;
END
$$
"""

_AUDIT_HORIZON = """
CREATE FUNCTION audit_horizon() RETURNS timestamptz LANGUAGE sql STABLE SECURITY DEFINER
SET search_path FROM CURRENT AS $$
    SELECT max(pruned_until) FROM audit_seals
$$
"""

_FUNCTIONS = (
    ("next_audit_part()", _NEXT_AUDIT_PART),
    ("audit_row()", _AUDIT_ROW),
    ("audit_created_rows()", _AUDIT_CREATED_ROWS),
    ("prune(text, text[])", _PRUNE),
    ("fence(timestamptz)", _FENCE),
    ("audit_horizon()", _AUDIT_HORIZON),
)


def _triggers(audited: _Audited) -> list[str]:
    table, *arguments = audited
    names = ", ".join(f"'{argument}'" for argument in arguments if argument is not None)
    created = "FOR EACH ROW EXECUTE FUNCTION audit_row"
    if table == "test_results":
        created = (
            "REFERENCING NEW TABLE AS created_rows FOR EACH STATEMENT"
            " EXECUTE FUNCTION audit_created_rows"
        )
    row = "FOR EACH ROW EXECUTE FUNCTION audit_row"
    return [
        f"CREATE TRIGGER audit_insert AFTER INSERT ON {table} {created}({names})",
        f"CREATE TRIGGER audit_update AFTER UPDATE ON {table} {row}({names})",
        f"CREATE TRIGGER audit_delete AFTER DELETE ON {table} {row}({names})",
    ]


_UPGRADE = (
    *r0003_audit_trail.NO_RECORDING,
    # Existing records keep NULL: nothing is known of them, and the table is not rewritten.
    """
    ALTER TABLE audit_records
        ADD COLUMN call_id UUID,
        ADD COLUMN step INTEGER,
        ADD COLUMN part INTEGER,
        ADD COLUMN call_digest BYTEA,
        ADD COLUMN occurred_at TIMESTAMPTZ,
        ADD COLUMN login_role TEXT COLLATE "C"
    """,
    "ALTER TABLE audit_records ALTER COLUMN login_role SET DEFAULT session_user",
    """
    CREATE UNIQUE INDEX uq_audit_records_call ON audit_records (call_id, step, part)
        WHERE call_id IS NOT NULL
    """,
    "DROP INDEX ix_audit_records_prune",
    """
    CREATE INDEX ix_audit_records_ids ON audit_records USING gin (entity_ids, run_ids)
        WHERE entity_ids IS NOT NULL OR run_ids IS NOT NULL
    """,
    """
    CREATE TABLE audit_pruning (
        transaction_id XID8 NOT NULL,
        CONSTRAINT pk_audit_pruning PRIMARY KEY (transaction_id)
    )
    """,
    """
    ALTER TABLE audit_seals
        ADD COLUMN pruned_through BIGINT,
        ADD COLUMN pruned_until TIMESTAMPTZ
    """,
    *(statement for _, statement in _FUNCTIONS),
    *(f"REVOKE ALL ON FUNCTION {name} FROM PUBLIC" for name, _ in _FUNCTIONS),
    *(statement for audited in _AUDITED for statement in _triggers(audited)),
)

_DOWNGRADE = (
    *(
        f"DROP TRIGGER {name} ON {table}"
        for table, *_ in _AUDITED
        for name in ("audit_insert", "audit_update", "audit_delete")
    ),
    *(f"DROP FUNCTION {name}" for name, _ in reversed(_FUNCTIONS)),
    "ALTER TABLE audit_seals DROP COLUMN pruned_through, DROP COLUMN pruned_until",
    "DROP TABLE audit_pruning",
    "DROP INDEX ix_audit_records_ids",
    """
    CREATE INDEX ix_audit_records_prune ON audit_records USING gin (entity_ids, run_ids)
        WHERE operation = 'prune'
    """,
    """
    ALTER TABLE audit_records
        DROP COLUMN call_id, DROP COLUMN step, DROP COLUMN part, DROP COLUMN call_digest,
        DROP COLUMN occurred_at, DROP COLUMN login_role
    """,
    *r0003_audit_trail.RECORDING,
)


def upgrade() -> None:
    """Give every mutation an identity, and the trail one generic function for every table."""
    for statement in _UPGRADE:
        op.execute(statement.replace(":", r"\:"))


def downgrade() -> None:
    """Drop the identities; the records stay."""
    for statement in _DOWNGRADE:
        op.execute(statement.replace(":", r"\:"))
