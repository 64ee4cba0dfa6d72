"""What Alembic runs around the steps: the schema they work in, and who may use what they made."""

from __future__ import annotations

from alembic import context

from test_coordinator_data_adapter.adapters.postgres.migration import VERSION_TABLE, conversion
from test_coordinator_data_adapter.adapters.postgres.roles import creation, grants, quoted

attributes = context.config.attributes
schema: str = attributes["schema"]
role: str = attributes["role"]

context.configure(
    connection=attributes.get("connection"),
    dialect_name="postgresql",
    version_table=VERSION_TABLE,
    version_table_schema=schema,
)
with context.begin_transaction():
    # A colon in a name stands for itself, and not for a parameter.
    context.execute(creation(schema).replace(":", r"\:"))
    context.execute(conversion(schema).replace(":", r"\:"))
    # Temporary tables come last: what runs with the owner's rights must not take them for ours.
    context.execute(f"SET LOCAL search_path TO {quoted(schema)}, pg_temp")
    context.run_migrations()
    context.execute(grants(schema, role).replace(":", r"\:"))
