"""The statements that give each role what it needs, and no more."""

from __future__ import annotations

from itertools import count
from typing import Final

from test_coordinator_data_adapter.errors import ConfigurationError

__all__ = [
    "APPLICATION_ROLE",
    "AUDITOR_ROLE",
    "OWNER_ROLE",
    "block",
    "creation",
    "grants",
    "literal",
    "quoted",
    "role_statements",
]

APPLICATION_ROLE: Final = "test_coordinator_adapter"
OWNER_ROLE: Final = "test_coordinator_owner"
AUDITOR_ROLE: Final = "test_coordinator_auditor"

_TABLES: Final = ("scenarios", "test_runs", "chaos_events")
_RESULTS: Final = "test_results"
_FUNCTIONS: Final = (
    "health_check()",
    "audit_horizon()",
    "fence(timestamptz)",
    "prune(text, text[])",
)

# A statement runs away for 30 s at the most, whoever sent it; sessions may ask for less.
_TIMEOUTS: Final = {
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "60s",
}


def quoted(name: str) -> str:
    """A name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Returns ``text`` as a string constant of SQL."""
    return "'" + text.replace("'", "''") + "'"


def block(body: str) -> str:
    """Returns one anonymous block of PL/pgSQL; no name in ``body`` can end its quotes."""
    mark = next(mark for number in count() if (mark := f"$block{number or ''}$") not in body)
    return f"DO {mark}\n{body}\n{mark}"


def creation(schema: str) -> str:
    """One statement that creates a schema where it is missing.

    Its owner need not be allowed to create another: PostgreSQL asks for that right even where
    ``IF NOT EXISTS`` leaves nothing to do.
    """
    return block(
        f"""BEGIN
    IF to_regnamespace({literal(quoted(schema))}) IS NULL THEN
        CREATE SCHEMA {quoted(schema)};
    END IF;
END"""
    )


def grants(schema: str, role: str, auditor: str = AUDITOR_ROLE) -> str:
    """One statement that lets the roles that exist use what is in the schema.

    It is part of every migration, so that a new table never waits for an administrator. The audit
    trail is written by triggers alone: the service reads it, and only the auditor deletes from it.
    What leads from a result to the record of its creation is the database's to set, too; the
    auditor reads it, and nothing else of a result.
    """
    inside = quoted(schema)
    to, also = quoted(role), quoted(auditor)
    trail, seals = f"{inside}.audit_records", f"{inside}.audit_seals"
    tables = ", ".join(f"{inside}.{table}" for table in _TABLES)
    results = f"{inside}.{_RESULTS}"
    functions = ", ".join(literal(f"{inside}.{function}") for function in _FUNCTIONS)
    return block(f"""DECLARE
    own text;
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(role)})
        AND to_regclass({literal(f"{inside}.test_coordinator_adapter_version")}) IS NOT NULL
        AND to_regprocedure({literal(f"{inside}.health_check()")}) IS NOT NULL
    THEN
        GRANT USAGE ON SCHEMA {inside} TO {to};
        GRANT SELECT, INSERT, UPDATE, DELETE ON {tables} TO {to};
        REVOKE ALL ON {results} FROM {to};
        GRANT SELECT, DELETE ON {results} TO {to};
        SELECT string_agg(quote_ident(attname), ', ') INTO own FROM pg_attribute
        WHERE attrelid = to_regclass({literal(results)}) AND attnum > 0
            AND NOT attisdropped AND attname <> 'created_in';
        EXECUTE 'GRANT INSERT (' || own || '), UPDATE (' || own || ') ON '
            || {literal(results)} || ' TO ' || {literal(to)};
        GRANT SELECT ON {inside}.test_coordinator_adapter_version TO {to};
        FOREACH own IN ARRAY ARRAY[{functions}] LOOP
            IF to_regprocedure(own) IS NOT NULL THEN
                EXECUTE 'GRANT EXECUTE ON FUNCTION ' || own || ' TO ' || {literal(to)};
            END IF;
        END LOOP;
    END IF;
    IF to_regclass({literal(trail)}) IS NOT NULL THEN
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(role)}) THEN
            REVOKE ALL ON {trail} FROM {to};
            GRANT SELECT ON {trail} TO {to};
        END IF;
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(auditor)}) THEN
            GRANT USAGE ON SCHEMA {inside} TO {also};
            GRANT SELECT, DELETE ON {trail} TO {also};
            GRANT SELECT (result_id, run_id, created_in) ON {results} TO {also};
        END IF;
    END IF;
    IF to_regclass({literal(seals)}) IS NOT NULL
        AND EXISTS (SELECT FROM pg_roles WHERE rolname = {literal(auditor)})
    THEN
        GRANT SELECT, INSERT ON {seals} TO {also};
    END IF;
END""")  # noqa: S608 - quoted names


def _create_role(role: str) -> str:
    # There is no CREATE ROLE IF NOT EXISTS, and roles are shared by all databases: another
    # administrator may be at it.
    return block(f"""BEGIN
    CREATE ROLE {quoted(role)} LOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END""")


def _hand_over(inside: str, owner: str) -> str:
    """Give the owner what another role migrated before there was one."""
    schema = f"to_regnamespace({literal(inside)})"
    return block(f"""DECLARE
    thing text;
BEGIN
    IF to_regclass({literal(f"{inside}.test_coordinator_adapter_version")}) IS NOT NULL THEN
        FOR thing IN SELECT oid::regclass FROM pg_class
            WHERE relnamespace = {schema} AND relkind = 'r'
        LOOP
            EXECUTE 'ALTER TABLE ' || thing || ' OWNER TO ' || {literal(owner)};
        END LOOP;
        FOR thing IN SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = {schema}
        LOOP
            EXECUTE 'ALTER FUNCTION ' || thing || ' OWNER TO ' || {literal(owner)};
        END LOOP;
    END IF;
END""")  # noqa: S608 - quoted names


_CLOSE_PUBLIC: Final = block("""BEGIN
    IF to_regnamespace('public') IS NOT NULL THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    END IF;
END""")


def role_statements(
    *,
    database: str,
    schema: str,
    owner: str = OWNER_ROLE,
    role: str = APPLICATION_ROLE,
    auditor: str = AUDITOR_ROLE,
) -> list[str]:
    r"""What an administrator runs once for a database and a schema; again is harmless.

    Passwords are not among them: set them with ``\password``, which keeps them out of logs.

    Args:
        database: the database the schema is in.
        schema: the schema of one instance.
        owner: the role that migrates: it owns the schema and everything in it.
        role: the role the service runs as: it reads and writes rows, and nothing else.
        auditor: the role that looks after the audit trail: it reads, seals and deletes records.

    Raises:
        ConfigurationError: one of them has no name, or two are the same: what one may do is kept
            from the others.
    """
    three = (owner, role, auditor)
    if not all(three) or len(set(three)) < len(three):
        raise ConfigurationError(
            "owner, role of the service and auditor must be three roles, each with its own name"
        )
    inside, on = quoted(schema), quoted(database)
    statements = [_create_role(owner), _create_role(role), _create_role(auditor)]
    statements += [
        f"ALTER ROLE {quoted(role)} IN DATABASE {on} SET {setting} = {literal(value)}"
        for setting, value in _TIMEOUTS.items()
    ]
    to = quoted(role)
    statements += [
        # Everybody has these by default: only taking them from everybody takes them from the role.
        f"REVOKE CREATE, TEMPORARY ON DATABASE {on} FROM PUBLIC, {to}",
        f"GRANT CONNECT ON DATABASE {on} TO {quoted(owner)}, {to}, {quoted(auditor)}",
        _CLOSE_PUBLIC,
        f"CREATE SCHEMA IF NOT EXISTS {inside} AUTHORIZATION {quoted(owner)}",
        f"ALTER SCHEMA {inside} OWNER TO {quoted(owner)}",
        _hand_over(inside, quoted(owner)),
        f"REVOKE ALL ON SCHEMA {inside} FROM PUBLIC, {to}",
        f"GRANT USAGE ON SCHEMA {inside} TO {to}",
        grants(schema, role, auditor),
    ]
    return statements
