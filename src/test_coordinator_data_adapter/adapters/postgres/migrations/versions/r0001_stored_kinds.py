"""The four stored kinds, and the schema's own word on its health."""

from __future__ import annotations

from alembic import op

revision = "tcda_0001"
down_revision = None

_UPGRADE = (
    """
    CREATE TABLE scenarios (
        scenario_id TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_scenarios_scenario_id_length
            CHECK (char_length(scenario_id) BETWEEN 1 AND 255),
        name TEXT COLLATE "C" NOT NULL,
        description TEXT COLLATE "C",
        scenario_type TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_scenarios_scenario_type_known
            CHECK (scenario_type IN (
                'service_restart', 'network_partition', 'network_latency',
                'resource_exhaustion', 'data_corruption', 'combined'
            )),
        status TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_scenarios_status_known
            CHECK (status IN ('draft', 'active', 'archived', 'deprecated')),
        configuration JSONB NOT NULL
            CONSTRAINT ck_scenarios_configuration_object
            CHECK (jsonb_typeof(configuration) = 'object'),
        services_under_test TEXT[] COLLATE "C" NOT NULL,
        expected_outcomes TEXT[] COLLATE "C" NOT NULL,
        created_by TEXT COLLATE "C",
        created_at TIMESTAMPTZ NOT NULL
            CONSTRAINT ck_scenarios_created_at_range
            CHECK (created_at >= '1970-01-01 00:00:00+00'
                AND created_at < '10000-01-01 00:00:00+00'),
        updated_at TIMESTAMPTZ NOT NULL
            CONSTRAINT ck_scenarios_updated_at_range
            CHECK (updated_at >= '1970-01-01 00:00:00+00'
                AND updated_at < '10000-01-01 00:00:00+00'),
        tags TEXT[] COLLATE "C" NOT NULL,
        CONSTRAINT pk_scenarios PRIMARY KEY (scenario_id)
    )
    """,
    """
    CREATE INDEX ix_scenarios_created_by
        ON scenarios (created_by, created_at, scenario_id)
        WHERE octet_length(created_by) <= 1020
    """,
    "CREATE INDEX ix_scenarios_order ON scenarios (created_at, scenario_id)",
    """
    CREATE INDEX ix_scenarios_scenario_type
        ON scenarios (scenario_type, created_at, scenario_id)
    """,
    "CREATE INDEX ix_scenarios_services_under_test ON scenarios USING gin (services_under_test)",
    "CREATE INDEX ix_scenarios_status ON scenarios (status, created_at, scenario_id)",
    "CREATE INDEX ix_scenarios_tags ON scenarios USING gin (tags)",
    """
    CREATE TABLE test_runs (
        run_id TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_test_runs_run_id_length CHECK (char_length(run_id) BETWEEN 1 AND 255),
        scenario_id TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_test_runs_scenario_id_length
            CHECK (char_length(scenario_id) BETWEEN 1 AND 255),
        status TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_test_runs_status_known
            CHECK (status IN (
                'pending', 'running', 'passed', 'failed', 'error', 'cancelled',
                'timeout'
            )),
        started_at TIMESTAMPTZ
            CONSTRAINT ck_test_runs_started_at_range
            CHECK (started_at >= '1970-01-01 00:00:00+00'
                AND started_at < '10000-01-01 00:00:00+00'),
        completed_at TIMESTAMPTZ
            CONSTRAINT ck_test_runs_completed_at_range
            CHECK (completed_at >= '1970-01-01 00:00:00+00'
                AND completed_at < '10000-01-01 00:00:00+00'),
        duration_ms BIGINT
            CONSTRAINT ck_test_runs_duration_ms_range CHECK (duration_ms >= 0),
        configuration_snapshot JSONB NOT NULL
            CONSTRAINT ck_test_runs_configuration_snapshot_object
            CHECK (jsonb_typeof(configuration_snapshot) = 'object'),
        test_environment TEXT COLLATE "C",
        exit_code BIGINT,
        error_message TEXT COLLATE "C",
        created_at TIMESTAMPTZ NOT NULL
            CONSTRAINT ck_test_runs_created_at_range
            CHECK (created_at >= '1970-01-01 00:00:00+00'
                AND created_at < '10000-01-01 00:00:00+00'),
        updated_at TIMESTAMPTZ NOT NULL
            CONSTRAINT ck_test_runs_updated_at_range
            CHECK (updated_at >= '1970-01-01 00:00:00+00'
                AND updated_at < '10000-01-01 00:00:00+00'),
        CONSTRAINT pk_test_runs PRIMARY KEY (run_id)
    )
    """,
    "CREATE INDEX ix_test_runs_order ON test_runs (created_at, run_id)",
    """
    CREATE INDEX ix_test_runs_scenario_id
        ON test_runs (scenario_id, created_at, run_id) INCLUDE (status, duration_ms)
    """,
    """
    CREATE INDEX ix_test_runs_started_at
        ON test_runs (started_at DESC NULLS LAST, created_at, run_id)
    """,
    "CREATE INDEX ix_test_runs_status ON test_runs (status, created_at, run_id)",
    """
    CREATE INDEX ix_test_runs_status_and_completed_at
        ON test_runs (status, completed_at DESC NULLS LAST, created_at, run_id)
    """,
    """
    CREATE INDEX ix_test_runs_test_environment
        ON test_runs (test_environment, created_at, run_id)
        WHERE octet_length(test_environment) <= 1020
    """,
    """
    CREATE TABLE chaos_events (
        event_id TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_chaos_events_event_id_length
            CHECK (char_length(event_id) BETWEEN 1 AND 255),
        run_id TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_chaos_events_run_id_length
            CHECK (char_length(run_id) BETWEEN 1 AND 255),
        event_type TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_chaos_events_event_type_known
            CHECK (event_type IN (
                'service_restart', 'service_kill', 'network_partition',
                'network_latency', 'network_packet_loss', 'cpu_stress',
                'memory_stress', 'disk_io_stress', 'clock_skew'
            )),
        target_service TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_chaos_events_target_service_length
            CHECK (char_length(target_service) BETWEEN 1 AND 255),
        parameters JSONB NOT NULL
            CONSTRAINT ck_chaos_events_parameters_object
            CHECK (jsonb_typeof(parameters) = 'object'),
        injected_at TIMESTAMPTZ NOT NULL
            CONSTRAINT ck_chaos_events_injected_at_range
            CHECK (injected_at >= '1970-01-01 00:00:00+00'
                AND injected_at < '10000-01-01 00:00:00+00'),
        duration_ms BIGINT
            CONSTRAINT ck_chaos_events_duration_ms_range CHECK (duration_ms >= 0),
        status TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_chaos_events_status_known
            CHECK (status IN ('pending', 'injected', 'in_progress', 'recovered', 'failed')),
        recovery_time_ms BIGINT
            CONSTRAINT ck_chaos_events_recovery_time_ms_range CHECK (recovery_time_ms >= 0),
        created_at TIMESTAMPTZ NOT NULL
            CONSTRAINT ck_chaos_events_created_at_range
            CHECK (created_at >= '1970-01-01 00:00:00+00'
                AND created_at < '10000-01-01 00:00:00+00'),
        CONSTRAINT pk_chaos_events PRIMARY KEY (event_id)
    )
    """,
    """
    CREATE INDEX ix_chaos_events_event_type
        ON chaos_events (event_type, created_at, event_id) INCLUDE (recovery_time_ms)
    """,
    "CREATE INDEX ix_chaos_events_injected_at ON chaos_events (injected_at)",
    "CREATE INDEX ix_chaos_events_order ON chaos_events (created_at, event_id)",
    "CREATE INDEX ix_chaos_events_run_id ON chaos_events (run_id, created_at, event_id)",
    "CREATE INDEX ix_chaos_events_status ON chaos_events (status, created_at, event_id)",
    """
    CREATE INDEX ix_chaos_events_target_service
        ON chaos_events (target_service, created_at, event_id)
    """,
    # Answers from the index alone need the visibility map of what was just inserted.
    "ALTER TABLE chaos_events SET (autovacuum_vacuum_insert_scale_factor = 0.01)",
    """
    CREATE TABLE test_results (
        result_id TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_test_results_result_id_length
            CHECK (char_length(result_id) BETWEEN 1 AND 255),
        run_id TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_test_results_run_id_length
            CHECK (char_length(run_id) BETWEEN 1 AND 255),
        assertion_type TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_test_results_assertion_type_known
            CHECK (assertion_type IN (
                'service_health', 'response_time', 'data_consistency', 'audit_trail',
                'error_rate', 'throughput', 'latency', 'availability', 'recovery_time'
            )),
        expected_value TEXT COLLATE "C" NOT NULL,
        actual_value TEXT COLLATE "C" NOT NULL,
        status TEXT COLLATE "C" NOT NULL
            CONSTRAINT ck_test_results_status_known
            CHECK (status IN ('passed', 'failed', 'skipped', 'error')),
        verification_time TIMESTAMPTZ NOT NULL
            CONSTRAINT ck_test_results_verification_time_range
            CHECK (verification_time >= '1970-01-01 00:00:00+00'
                AND verification_time < '10000-01-01 00:00:00+00'),
        error_details TEXT COLLATE "C",
        correlation_id TEXT COLLATE "C"
            CONSTRAINT ck_test_results_correlation_id_length
            CHECK (char_length(correlation_id) BETWEEN 1 AND 255),
        created_at TIMESTAMPTZ NOT NULL
            CONSTRAINT ck_test_results_created_at_range
            CHECK (created_at >= '1970-01-01 00:00:00+00'
                AND created_at < '10000-01-01 00:00:00+00'),
        CONSTRAINT pk_test_results PRIMARY KEY (result_id)
    )
    """,
    """
    CREATE INDEX ix_test_results_assertion_type
        ON test_results (assertion_type, created_at, result_id)
    """,
    """
    CREATE INDEX ix_test_results_assertion_type_and_status
        ON test_results (assertion_type, status)
    """,
    """
    CREATE INDEX ix_test_results_correlation_id
        ON test_results (correlation_id, created_at, result_id)
        WHERE correlation_id IS NOT NULL
    """,
    "CREATE INDEX ix_test_results_order ON test_results (created_at, result_id)",
    "CREATE INDEX ix_test_results_run_id ON test_results (run_id, created_at, result_id)",
    "CREATE INDEX ix_test_results_run_id_and_status ON test_results (run_id, status)",
    "CREATE INDEX ix_test_results_status ON test_results (status, created_at, result_id)",
    # Answers from the index alone need the visibility map of what was just inserted.
    "ALTER TABLE test_results SET (autovacuum_vacuum_insert_scale_factor = 0.01)",
    """
    CREATE FUNCTION health_check() RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path FROM CURRENT
    AS $$
        SELECT jsonb_build_object(
            'status', 'ok',
            'revision', (SELECT max(version_num) FROM test_coordinator_adapter_version),
            'tables', (
                SELECT jsonb_object_agg(relname, pg_stat_get_live_tuples(oid))
                FROM pg_class
                WHERE relnamespace = current_schema()::regnamespace
                AND relkind = 'r'
                AND relname <> 'test_coordinator_adapter_version'
            ),
            'server_time', statement_timestamp()
        )
    $$
    """,
    "REVOKE ALL ON FUNCTION health_check() FROM PUBLIC",
)

_DOWNGRADE = (
    "DROP FUNCTION health_check()",
    "DROP TABLE scenarios, test_runs, chaos_events, test_results",
)


def upgrade() -> None:
    """Create them."""
    for statement in _UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them, and everything they hold."""
    for statement in _DOWNGRADE:
        op.execute(statement)
