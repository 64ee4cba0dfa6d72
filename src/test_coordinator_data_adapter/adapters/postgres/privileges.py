"""Whether the tables exist and the role may use them, as calls are about to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from test_coordinator_data_adapter.adapters.postgres.roles import quoted
from test_coordinator_data_adapter.adapters.postgres.statement import Statement
from test_coordinator_data_adapter.errors import ConfigurationError

if TYPE_CHECKING:
    from test_coordinator_data_adapter.adapters.postgres.database import Database

__all__ = ["require_privileges"]

# The audit trail is written by triggers, with their owner's privileges.
_NEEDED: Final = {
    **dict.fromkeys(
        ("scenarios", "test_runs", "chaos_events", "test_results"), "SELECT,INSERT,UPDATE,DELETE"
    ),
    "audit_records": "SELECT",
}
_VALUES: Final = ", ".join(
    f"('{name}', '{{{needed}}}'::text[])" for name, needed in _NEEDED.items()
)
# Some privileges are granted by column; DELETE never is.
_QUESTION: Final = Statement(
    "SELECT needed.name, found IS NULL AS is_missing, ARRAY("  # noqa: S608 - constants
    "SELECT privilege FROM unnest(needed.privileges) AS privilege WHERE NOT CASE privilege"
    " WHEN 'DELETE' THEN has_table_privilege(found, privilege)"
    " ELSE has_any_column_privilege(found, privilege) END) AS lacking"
    f" FROM (VALUES {_VALUES}) AS needed (name, privileges),"
    " LATERAL to_regclass($1 || '.' || needed.name) AS found",
    None,
    writes=False,
)


async def require_privileges(database: Database) -> None:
    """Check, in one round trip, that every table can be used.

    Raises:
        ConfigurationError: a table or a privilege is missing; the message names it.
        AdapterError: as every read.
    """
    rows = await database.fetch(_QUESTION, quoted(database.schema))
    missing = [row["name"] for row in rows if row["is_missing"]]
    if missing:
        raise ConfigurationError(
            f"the schema {database.schema!r} has no table {', '.join(missing)}: restore it from a"
            " backup, or drop the schema and run `test-coordinator-adapter migrate`"
        )
    lacking = [f"{'/'.join(row['lacking'])} on {row['name']}" for row in rows if row["lacking"]]
    if lacking:
        raise ConfigurationError(
            f"the role lacks {', '.join(lacking)} in the schema {database.schema!r};"
            " `test-coordinator-adapter migrate`, run as the schema's owner, grants the role of"
            " postgres_url what it needs"
        )
