"""What analytics needs: labels, when a fault was detected and recovered from, what was measured."""

from __future__ import annotations

from alembic import op

revision = "tcda_0006"
down_revision = "tcda_0005"


def _in_range(column: str) -> str:
    return f"CHECK ({column} >= '1970-01-01 00:00:00+00' AND {column} < '10000-01-01 00:00:00+00')"


_UPGRADE = (
    # A constant default: the table is not rewritten.
    """
    ALTER TABLE test_runs
        ADD COLUMN labels JSONB NOT NULL DEFAULT '{}'
            CONSTRAINT ck_test_runs_labels_object CHECK (jsonb_typeof(labels) = 'object')
    """,
    "CREATE INDEX ix_test_runs_labels ON test_runs USING gin (labels jsonb_path_ops)",
    f"""
    ALTER TABLE chaos_events
        ADD COLUMN detected_at TIMESTAMPTZ
            CONSTRAINT ck_chaos_events_detected_at_range {_in_range("detected_at")},
        ADD COLUMN recovered_at TIMESTAMPTZ
            CONSTRAINT ck_chaos_events_recovered_at_range {_in_range("recovered_at")},
        ADD COLUMN recovery_resolution_ms BIGINT
            CONSTRAINT ck_chaos_events_recovery_resolution_ms_range
            CHECK (recovery_resolution_ms >= 0),
        ADD COLUMN output JSONB
    """,
    """
    ALTER TABLE test_results
        ADD COLUMN duration_ms BIGINT
            CONSTRAINT ck_test_results_duration_ms_range CHECK (duration_ms >= 0),
        ADD COLUMN attempts BIGINT
            CONSTRAINT ck_test_results_attempts_range CHECK (attempts >= 1),
        ADD COLUMN measured_value DOUBLE PRECISION
            CONSTRAINT ck_test_results_measured_value_finite
            CHECK (measured_value > '-Infinity' AND measured_value < 'Infinity'),
        ADD COLUMN unit TEXT COLLATE "C"
            CONSTRAINT ck_test_results_unit_length CHECK (char_length(unit) BETWEEN 1 AND 255)
    """,
)

_DOWNGRADE = (
    """
    ALTER TABLE test_results
        DROP COLUMN duration_ms, DROP COLUMN attempts,
        DROP COLUMN measured_value, DROP COLUMN unit
    """,
    """
    ALTER TABLE chaos_events
        DROP COLUMN detected_at, DROP COLUMN recovered_at,
        DROP COLUMN recovery_resolution_ms, DROP COLUMN output
    """,
    "ALTER TABLE test_runs DROP COLUMN labels",
)


def upgrade() -> None:
    """Add them; what was stored before has no labels and None in every other field."""
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them, and what they held."""
    for statement in _DOWNGRADE:
        op.execute(statement)
