"""What an assertion is called, and in which phase of a run it was checked."""

from __future__ import annotations

from alembic import op

revision = "tcda_0002"
down_revision = "tcda_0001"

_UPGRADE = (
    """
    ALTER TABLE test_results
        ADD COLUMN name TEXT COLLATE "C",
        ADD COLUMN phase TEXT COLLATE "C"
    """,
    """
    CREATE INDEX ix_test_results_name
        ON test_results (name, created_at, result_id) WHERE octet_length(name) <= 1020
    """,
)

_DOWNGRADE = ("ALTER TABLE test_results DROP COLUMN name, DROP COLUMN phase",)


def upgrade() -> None:
    """Add them; results stored before have neither."""
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them, and what they held."""
    for statement in _DOWNGRADE:
        op.execute(statement)
