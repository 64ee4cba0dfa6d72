"""Seals over the audit trail: what each record was, chained so that no seal can be exchanged."""

from __future__ import annotations

from alembic import op

revision = "tcda_0004"
down_revision = "tcda_0003"

_UPGRADE = """
    CREATE TABLE audit_seals (
        seal_id BIGINT NOT NULL,
        sealed_at TIMESTAMPTZ NOT NULL,
        record_ids BIGINT[] NOT NULL,
        record_digests BYTEA NOT NULL,
        digest BYTEA NOT NULL,
        CONSTRAINT pk_audit_seals PRIMARY KEY (seal_id)
    )
"""


def upgrade() -> None:
    """Make room for them."""
    op.execute(_UPGRADE)


def downgrade() -> None:
    """Drop them; the trail stays."""
    op.execute("DROP TABLE audit_seals")
