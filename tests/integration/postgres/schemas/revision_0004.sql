BEGIN;

DO $block$
BEGIN
    IF to_regnamespace('"test_coordinator"') IS NULL THEN
        CREATE SCHEMA "test_coordinator";
    END IF;
END
$block$;

SET LOCAL search_path TO "test_coordinator", pg_temp;

CREATE TABLE test_coordinator.alembic_version (
    version_num VARCHAR(32) NOT NULL, 
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

-- Running upgrade  -> 0001

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
    );

CREATE INDEX ix_scenarios_created_by
        ON scenarios (created_by, created_at, scenario_id)
        WHERE octet_length(created_by) <= 1020;

CREATE INDEX ix_scenarios_order ON scenarios (created_at, scenario_id);

CREATE INDEX ix_scenarios_scenario_type
        ON scenarios (scenario_type, created_at, scenario_id);

CREATE INDEX ix_scenarios_services_under_test ON scenarios USING gin (services_under_test);

CREATE INDEX ix_scenarios_status ON scenarios (status, created_at, scenario_id);

CREATE INDEX ix_scenarios_tags ON scenarios USING gin (tags);

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
    );

CREATE INDEX ix_test_runs_order ON test_runs (created_at, run_id);

CREATE INDEX ix_test_runs_scenario_id
        ON test_runs (scenario_id, created_at, run_id) INCLUDE (status, duration_ms);

CREATE INDEX ix_test_runs_started_at
        ON test_runs (started_at DESC NULLS LAST, created_at, run_id);

CREATE INDEX ix_test_runs_status ON test_runs (status, created_at, run_id);

CREATE INDEX ix_test_runs_status_and_completed_at
        ON test_runs (status, completed_at DESC NULLS LAST, created_at, run_id);

CREATE INDEX ix_test_runs_test_environment
        ON test_runs (test_environment, created_at, run_id)
        WHERE octet_length(test_environment) <= 1020;

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
    );

CREATE INDEX ix_chaos_events_event_type
        ON chaos_events (event_type, created_at, event_id) INCLUDE (recovery_time_ms);

CREATE INDEX ix_chaos_events_injected_at ON chaos_events (injected_at);

CREATE INDEX ix_chaos_events_order ON chaos_events (created_at, event_id);

CREATE INDEX ix_chaos_events_run_id ON chaos_events (run_id, created_at, event_id);

CREATE INDEX ix_chaos_events_status ON chaos_events (status, created_at, event_id);

CREATE INDEX ix_chaos_events_target_service
        ON chaos_events (target_service, created_at, event_id);

ALTER TABLE chaos_events SET (autovacuum_vacuum_insert_scale_factor = 0.01);

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
    );

CREATE INDEX ix_test_results_assertion_type
        ON test_results (assertion_type, created_at, result_id);

CREATE INDEX ix_test_results_assertion_type_and_status
        ON test_results (assertion_type, status);

CREATE INDEX ix_test_results_correlation_id
        ON test_results (correlation_id, created_at, result_id)
        WHERE correlation_id IS NOT NULL;

CREATE INDEX ix_test_results_order ON test_results (created_at, result_id);

CREATE INDEX ix_test_results_run_id ON test_results (run_id, created_at, result_id);

CREATE INDEX ix_test_results_run_id_and_status ON test_results (run_id, status);

CREATE INDEX ix_test_results_status ON test_results (status, created_at, result_id);

ALTER TABLE test_results SET (autovacuum_vacuum_insert_scale_factor = 0.01);

CREATE FUNCTION health_check() RETURNS jsonb
    LANGUAGE sql STABLE PARALLEL SAFE SET search_path FROM CURRENT
    AS $$
        SELECT jsonb_build_object(
            'status', 'ok',
            'revision', (SELECT max(version_num) FROM alembic_version),
            'tables', (
                SELECT jsonb_object_agg(relname, pg_stat_get_live_tuples(oid))
                FROM pg_class
                WHERE relnamespace = current_schema()::regnamespace
                AND relkind = 'r'
                AND relname <> 'alembic_version'
            ),
            'server_time', statement_timestamp()
        )
    $$;

REVOKE ALL ON FUNCTION health_check() FROM PUBLIC;

INSERT INTO test_coordinator.alembic_version (version_num) VALUES ('0001') RETURNING test_coordinator.alembic_version.version_num;

-- Running upgrade 0001 -> 0002

ALTER TABLE test_results
        ADD COLUMN name TEXT COLLATE "C",
        ADD COLUMN phase TEXT COLLATE "C";

CREATE INDEX ix_test_results_name
        ON test_results (name, created_at, result_id) WHERE octet_length(name) <= 1020;

UPDATE test_coordinator.alembic_version SET version_num='0002' WHERE test_coordinator.alembic_version.version_num = '0001';

-- Running upgrade 0002 -> 0003

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
    );

CREATE INDEX ix_audit_records_entity ON audit_records (entity_id, kind, record_id);

CREATE INDEX ix_audit_records_prune ON audit_records USING gin (entity_ids, run_ids)
        WHERE operation = 'prune';

CREATE INDEX ix_audit_records_recorded_at ON audit_records (recorded_at);

CREATE INDEX ix_audit_records_run ON audit_records (run_id, record_id)
        WHERE run_id IS NOT NULL;

CREATE INDEX ix_audit_records_correlation_id ON audit_records (correlation_id, record_id)
        WHERE correlation_id IS NOT NULL;

CREATE INDEX ix_audit_records_bulk ON audit_records (transaction_id)
        WHERE operation = 'bulk_create';

ALTER TABLE test_results ADD COLUMN created_in XID8;

ALTER TABLE test_results ALTER COLUMN created_in SET DEFAULT pg_current_xact_id();

CREATE FUNCTION audit_insert_scenarios() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET timezone TO 'UTC' AS $$
        DECLARE 
    told jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );

        BEGIN 
            INSERT INTO audit_records (operation, kind, entity_id, run_id, after, actor, correlation_id, reason)
            VALUES (
                'create', 'scenario', NEW.scenario_id, NULL,
                to_jsonb(NEW), coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
            );
    
            RETURN NULL;
        END
        $$;

CREATE FUNCTION audit_update_scenarios() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET timezone TO 'UTC' AS $$
        DECLARE 
    told jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );

            unchanged text[] := ARRAY[CASE WHEN OLD.scenario_id IS NOT DISTINCT FROM NEW.scenario_id THEN 'scenario_id' END, CASE WHEN OLD.name IS NOT DISTINCT FROM NEW.name THEN 'name' END, CASE WHEN OLD.description IS NOT DISTINCT FROM NEW.description THEN 'description' END, CASE WHEN OLD.scenario_type IS NOT DISTINCT FROM NEW.scenario_type THEN 'scenario_type' END, CASE WHEN OLD.status IS NOT DISTINCT FROM NEW.status THEN 'status' END, CASE WHEN OLD.configuration IS NOT DISTINCT FROM NEW.configuration THEN 'configuration' END, CASE WHEN OLD.services_under_test IS NOT DISTINCT FROM NEW.services_under_test THEN 'services_under_test' END, CASE WHEN OLD.expected_outcomes IS NOT DISTINCT FROM NEW.expected_outcomes THEN 'expected_outcomes' END, CASE WHEN OLD.created_by IS NOT DISTINCT FROM NEW.created_by THEN 'created_by' END, CASE WHEN OLD.created_at IS NOT DISTINCT FROM NEW.created_at THEN 'created_at' END, CASE WHEN OLD.updated_at IS NOT DISTINCT FROM NEW.updated_at THEN 'updated_at' END, CASE WHEN OLD.tags IS NOT DISTINCT FROM NEW.tags THEN 'tags' END];
        BEGIN
            INSERT INTO audit_records (
                operation, kind, entity_id, run_id, before, after, actor, correlation_id, reason
            )
            VALUES (
                CASE WHEN OLD.status <> NEW.status THEN 'status_change' ELSE 'update' END, 'scenario', OLD.scenario_id,
                NULL,
                to_jsonb(OLD) - unchanged, to_jsonb(NEW) - unchanged, coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
            );
            RETURN NULL;
        END
        $$;

CREATE FUNCTION audit_delete_scenarios() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET timezone TO 'UTC' AS $$
        DECLARE 
    told jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );

        BEGIN
            IF told ->> 'operation' IS DISTINCT FROM 'prune' THEN
                INSERT INTO audit_records (
                    operation, kind, entity_id, run_id, before, created_in, actor, correlation_id, reason
                )
                SELECT 'delete', 'scenario', scenario_id, NULL, to_jsonb(gone),
                    NULL, coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
                FROM gone WHERE NOT EXISTS (SELECT FROM gone OFFSET 1);
                IF FOUND THEN
                    RETURN NULL;
                END IF;
            END IF;
            INSERT INTO audit_records (
                operation, kind, count, entity_ids, created_in, run_ids, actor, correlation_id, reason
            )
            SELECT 'prune', 'scenario', cardinality(ids), ids, created_in, run_ids, coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
            FROM (
                SELECT array_agg(scenario_id), NULL::xid8[], NULL::text[]
                FROM gone
            ) AS every (ids, created_in, run_ids)
            WHERE ids IS NOT NULL;
            RETURN NULL;
        END
        $$;

CREATE FUNCTION audit_insert_test_runs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET timezone TO 'UTC' AS $$
        DECLARE 
    told jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );

        BEGIN 
            INSERT INTO audit_records (operation, kind, entity_id, run_id, after, actor, correlation_id, reason)
            VALUES (
                'create', 'test_run', NEW.run_id, NULL,
                to_jsonb(NEW), coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
            );
    
            RETURN NULL;
        END
        $$;

CREATE FUNCTION audit_update_test_runs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET timezone TO 'UTC' AS $$
        DECLARE 
    told jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );

            unchanged text[] := ARRAY[CASE WHEN OLD.run_id IS NOT DISTINCT FROM NEW.run_id THEN 'run_id' END, CASE WHEN OLD.scenario_id IS NOT DISTINCT FROM NEW.scenario_id THEN 'scenario_id' END, CASE WHEN OLD.status IS NOT DISTINCT FROM NEW.status THEN 'status' END, CASE WHEN OLD.started_at IS NOT DISTINCT FROM NEW.started_at THEN 'started_at' END, CASE WHEN OLD.completed_at IS NOT DISTINCT FROM NEW.completed_at THEN 'completed_at' END, CASE WHEN OLD.duration_ms IS NOT DISTINCT FROM NEW.duration_ms THEN 'duration_ms' END, CASE WHEN OLD.configuration_snapshot IS NOT DISTINCT FROM NEW.configuration_snapshot THEN 'configuration_snapshot' END, CASE WHEN OLD.test_environment IS NOT DISTINCT FROM NEW.test_environment THEN 'test_environment' END, CASE WHEN OLD.exit_code IS NOT DISTINCT FROM NEW.exit_code THEN 'exit_code' END, CASE WHEN OLD.error_message IS NOT DISTINCT FROM NEW.error_message THEN 'error_message' END, CASE WHEN OLD.created_at IS NOT DISTINCT FROM NEW.created_at THEN 'created_at' END, CASE WHEN OLD.updated_at IS NOT DISTINCT FROM NEW.updated_at THEN 'updated_at' END];
        BEGIN
            INSERT INTO audit_records (
                operation, kind, entity_id, run_id, before, after, actor, correlation_id, reason
            )
            VALUES (
                CASE WHEN OLD.status <> NEW.status THEN 'status_change' ELSE 'update' END, 'test_run', OLD.run_id,
                NULL,
                to_jsonb(OLD) - unchanged, to_jsonb(NEW) - unchanged, coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
            );
            RETURN NULL;
        END
        $$;

CREATE FUNCTION audit_delete_test_runs() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET timezone TO 'UTC' AS $$
        DECLARE 
    told jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );

        BEGIN
            IF told ->> 'operation' IS DISTINCT FROM 'prune' THEN
                INSERT INTO audit_records (
                    operation, kind, entity_id, run_id, before, created_in, actor, correlation_id, reason
                )
                SELECT 'delete', 'test_run', run_id, NULL, to_jsonb(gone),
                    NULL, coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
                FROM gone WHERE NOT EXISTS (SELECT FROM gone OFFSET 1);
                IF FOUND THEN
                    RETURN NULL;
                END IF;
            END IF;
            INSERT INTO audit_records (
                operation, kind, count, entity_ids, created_in, run_ids, actor, correlation_id, reason
            )
            SELECT 'prune', 'test_run', cardinality(ids), ids, created_in, run_ids, coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
            FROM (
                SELECT array_agg(run_id), NULL::xid8[], NULL::text[]
                FROM gone
            ) AS every (ids, created_in, run_ids)
            WHERE ids IS NOT NULL;
            RETURN NULL;
        END
        $$;

CREATE FUNCTION audit_insert_chaos_events() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET timezone TO 'UTC' AS $$
        DECLARE 
    told jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );

        BEGIN 
            INSERT INTO audit_records (operation, kind, entity_id, run_id, after, actor, correlation_id, reason)
            VALUES (
                'create', 'chaos_event', NEW.event_id, NEW.run_id,
                to_jsonb(NEW), coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
            );
    
            RETURN NULL;
        END
        $$;

CREATE FUNCTION audit_update_chaos_events() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET timezone TO 'UTC' AS $$
        DECLARE 
    told jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );

            unchanged text[] := ARRAY[CASE WHEN OLD.event_id IS NOT DISTINCT FROM NEW.event_id THEN 'event_id' END, CASE WHEN OLD.run_id IS NOT DISTINCT FROM NEW.run_id THEN 'run_id' END, CASE WHEN OLD.event_type IS NOT DISTINCT FROM NEW.event_type THEN 'event_type' END, CASE WHEN OLD.target_service IS NOT DISTINCT FROM NEW.target_service THEN 'target_service' END, CASE WHEN OLD.parameters IS NOT DISTINCT FROM NEW.parameters THEN 'parameters' END, CASE WHEN OLD.injected_at IS NOT DISTINCT FROM NEW.injected_at THEN 'injected_at' END, CASE WHEN OLD.duration_ms IS NOT DISTINCT FROM NEW.duration_ms THEN 'duration_ms' END, CASE WHEN OLD.status IS NOT DISTINCT FROM NEW.status THEN 'status' END, CASE WHEN OLD.recovery_time_ms IS NOT DISTINCT FROM NEW.recovery_time_ms THEN 'recovery_time_ms' END, CASE WHEN OLD.created_at IS NOT DISTINCT FROM NEW.created_at THEN 'created_at' END];
        BEGIN
            INSERT INTO audit_records (
                operation, kind, entity_id, run_id, before, after, actor, correlation_id, reason
            )
            VALUES (
                CASE WHEN NEW.status = 'recovered' AND (OLD.status <> NEW.status
            OR OLD.recovery_time_ms IS DISTINCT FROM NEW.recovery_time_ms)
        THEN 'recovery' ELSE CASE WHEN OLD.status <> NEW.status THEN 'status_change' ELSE 'update' END END, 'chaos_event', OLD.event_id,
                OLD.run_id,
                to_jsonb(OLD) - unchanged, to_jsonb(NEW) - unchanged, coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
            );
            RETURN NULL;
        END
        $$;

CREATE FUNCTION audit_delete_chaos_events() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET timezone TO 'UTC' AS $$
        DECLARE 
    told jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );

        BEGIN
            IF told ->> 'operation' IS DISTINCT FROM 'prune' THEN
                INSERT INTO audit_records (
                    operation, kind, entity_id, run_id, before, created_in, actor, correlation_id, reason
                )
                SELECT 'delete', 'chaos_event', event_id, run_id, to_jsonb(gone),
                    NULL, coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
                FROM gone WHERE NOT EXISTS (SELECT FROM gone OFFSET 1);
                IF FOUND THEN
                    RETURN NULL;
                END IF;
            END IF;
            INSERT INTO audit_records (
                operation, kind, count, entity_ids, created_in, run_ids, actor, correlation_id, reason
            )
            SELECT 'prune', 'chaos_event', cardinality(ids), ids, created_in, run_ids, coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
            FROM (
                SELECT array_agg(event_id), NULL::xid8[], NULL::text[]
                FROM gone
            ) AS every (ids, created_in, run_ids)
            WHERE ids IS NOT NULL;
            RETURN NULL;
        END
        $$;

CREATE FUNCTION audit_insert_test_results() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET timezone TO 'UTC' AS $$
        DECLARE 
    told jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );

        BEGIN 
            IF told ->> 'operation' IS DISTINCT FROM 'create' THEN
                INSERT INTO audit_records (operation, kind, count, actor, correlation_id, reason)
                SELECT 'bulk_create', 'test_result', touched, coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
                FROM (SELECT count(*) FROM fresh) AS every (touched) WHERE touched > 1;
                IF FOUND THEN
                    RETURN NULL;
                END IF;
            END IF;
            INSERT INTO audit_records (operation, kind, entity_id, run_id, after, actor, correlation_id, reason)
            SELECT 'create', 'test_result', result_id, run_id, to_jsonb(fresh) - 'created_in', coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
            FROM fresh;
        
            RETURN NULL;
        END
        $$;

CREATE FUNCTION audit_update_test_results() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET timezone TO 'UTC' AS $$
        DECLARE 
    told jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );

            unchanged text[] := ARRAY[CASE WHEN OLD.result_id IS NOT DISTINCT FROM NEW.result_id THEN 'result_id' END, CASE WHEN OLD.run_id IS NOT DISTINCT FROM NEW.run_id THEN 'run_id' END, CASE WHEN OLD.assertion_type IS NOT DISTINCT FROM NEW.assertion_type THEN 'assertion_type' END, CASE WHEN OLD.expected_value IS NOT DISTINCT FROM NEW.expected_value THEN 'expected_value' END, CASE WHEN OLD.actual_value IS NOT DISTINCT FROM NEW.actual_value THEN 'actual_value' END, CASE WHEN OLD.status IS NOT DISTINCT FROM NEW.status THEN 'status' END, CASE WHEN OLD.verification_time IS NOT DISTINCT FROM NEW.verification_time THEN 'verification_time' END, CASE WHEN OLD.error_details IS NOT DISTINCT FROM NEW.error_details THEN 'error_details' END, CASE WHEN OLD.correlation_id IS NOT DISTINCT FROM NEW.correlation_id THEN 'correlation_id' END, CASE WHEN OLD.created_at IS NOT DISTINCT FROM NEW.created_at THEN 'created_at' END, CASE WHEN OLD.name IS NOT DISTINCT FROM NEW.name THEN 'name' END, CASE WHEN OLD.phase IS NOT DISTINCT FROM NEW.phase THEN 'phase' END, CASE WHEN OLD.created_in IS NOT DISTINCT FROM NEW.created_in THEN 'created_in' END];
        BEGIN
            INSERT INTO audit_records (
                operation, kind, entity_id, run_id, before, after, actor, correlation_id, reason
            )
            VALUES (
                CASE WHEN OLD.status <> NEW.status THEN 'status_change' ELSE 'update' END, 'test_result', OLD.result_id,
                OLD.run_id,
                to_jsonb(OLD) - unchanged, to_jsonb(NEW) - unchanged, coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
            );
            RETURN NULL;
        END
        $$;

CREATE FUNCTION audit_delete_test_results() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
    SET search_path FROM CURRENT SET timezone TO 'UTC' AS $$
        DECLARE 
    told jsonb := coalesce(
        nullif(current_setting('test_coordinator_adapter.audit', true), '')::jsonb, '{}'
    );

        BEGIN
            IF told ->> 'operation' IS DISTINCT FROM 'prune' THEN
                INSERT INTO audit_records (
                    operation, kind, entity_id, run_id, before, created_in, actor, correlation_id, reason
                )
                SELECT 'delete', 'test_result', result_id, run_id, to_jsonb(gone) - 'created_in',
                    ARRAY[created_in], coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
                FROM gone WHERE NOT EXISTS (SELECT FROM gone OFFSET 1);
                IF FOUND THEN
                    RETURN NULL;
                END IF;
            END IF;
            INSERT INTO audit_records (
                operation, kind, count, entity_ids, created_in, run_ids, actor, correlation_id, reason
            )
            SELECT 'prune', 'test_result', cardinality(ids), ids, created_in, run_ids, coalesce(left(told ->> 'actor', 255), session_user),
    left(told ->> 'correlation_id', 255), told ->> 'reason'
            FROM (
                SELECT array_agg(result_id), array_agg(created_in), array_agg(run_id)
                FROM gone
            ) AS every (ids, created_in, run_ids)
            WHERE ids IS NOT NULL;
            RETURN NULL;
        END
        $$;

CREATE FUNCTION refuse_truncate() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE insufficient_privilege
            USING MESSAGE = 'TRUNCATE would leave no trace in the audit trail: use DELETE';
    END
    $$;

CREATE TRIGGER audit_insert AFTER INSERT ON scenarios FOR EACH ROW EXECUTE FUNCTION audit_insert_scenarios();

CREATE TRIGGER audit_update AFTER UPDATE ON scenarios FOR EACH ROW EXECUTE FUNCTION audit_update_scenarios();

CREATE TRIGGER audit_delete AFTER DELETE ON scenarios REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION audit_delete_scenarios();

CREATE TRIGGER audit_insert AFTER INSERT ON test_runs FOR EACH ROW EXECUTE FUNCTION audit_insert_test_runs();

CREATE TRIGGER audit_update AFTER UPDATE ON test_runs FOR EACH ROW EXECUTE FUNCTION audit_update_test_runs();

CREATE TRIGGER audit_delete AFTER DELETE ON test_runs REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION audit_delete_test_runs();

CREATE TRIGGER audit_insert AFTER INSERT ON chaos_events FOR EACH ROW EXECUTE FUNCTION audit_insert_chaos_events();

CREATE TRIGGER audit_update AFTER UPDATE ON chaos_events FOR EACH ROW EXECUTE FUNCTION audit_update_chaos_events();

CREATE TRIGGER audit_delete AFTER DELETE ON chaos_events REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION audit_delete_chaos_events();

CREATE TRIGGER audit_insert AFTER INSERT ON test_results REFERENCING NEW TABLE AS fresh FOR EACH STATEMENT EXECUTE FUNCTION audit_insert_test_results();

CREATE TRIGGER audit_update AFTER UPDATE ON test_results FOR EACH ROW EXECUTE FUNCTION audit_update_test_results();

CREATE TRIGGER audit_delete AFTER DELETE ON test_results REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION audit_delete_test_results();

CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON scenarios FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON test_runs FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON chaos_events FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON test_results FOR EACH STATEMENT EXECUTE FUNCTION refuse_truncate();

REVOKE ALL ON FUNCTION audit_insert_scenarios() FROM PUBLIC;

REVOKE ALL ON FUNCTION audit_update_scenarios() FROM PUBLIC;

REVOKE ALL ON FUNCTION audit_delete_scenarios() FROM PUBLIC;

REVOKE ALL ON FUNCTION audit_insert_test_runs() FROM PUBLIC;

REVOKE ALL ON FUNCTION audit_update_test_runs() FROM PUBLIC;

REVOKE ALL ON FUNCTION audit_delete_test_runs() FROM PUBLIC;

REVOKE ALL ON FUNCTION audit_insert_chaos_events() FROM PUBLIC;

REVOKE ALL ON FUNCTION audit_update_chaos_events() FROM PUBLIC;

REVOKE ALL ON FUNCTION audit_delete_chaos_events() FROM PUBLIC;

REVOKE ALL ON FUNCTION audit_insert_test_results() FROM PUBLIC;

REVOKE ALL ON FUNCTION audit_update_test_results() FROM PUBLIC;

REVOKE ALL ON FUNCTION audit_delete_test_results() FROM PUBLIC;

REVOKE ALL ON FUNCTION refuse_truncate() FROM PUBLIC;

UPDATE test_coordinator.alembic_version SET version_num='0003' WHERE test_coordinator.alembic_version.version_num = '0002';

-- Running upgrade 0003 -> 0004

CREATE TABLE audit_seals (
        seal_id BIGINT NOT NULL,
        sealed_at TIMESTAMPTZ NOT NULL,
        record_ids BIGINT[] NOT NULL,
        record_digests BYTEA NOT NULL,
        digest BYTEA NOT NULL,
        CONSTRAINT pk_audit_seals PRIMARY KEY (seal_id)
    );

UPDATE test_coordinator.alembic_version SET version_num='0004' WHERE test_coordinator.alembic_version.version_num = '0003';

DO $block$
DECLARE
    own text;
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'test_coordinator_adapter')
        AND to_regclass('"test_coordinator".alembic_version') IS NOT NULL
        AND to_regprocedure('"test_coordinator".health_check()') IS NOT NULL
    THEN
        GRANT USAGE ON SCHEMA "test_coordinator" TO "test_coordinator_adapter";
        GRANT SELECT, INSERT, UPDATE, DELETE ON "test_coordinator".scenarios, "test_coordinator".test_runs, "test_coordinator".chaos_events TO "test_coordinator_adapter";
        REVOKE ALL ON "test_coordinator".test_results FROM "test_coordinator_adapter";
        GRANT SELECT, DELETE ON "test_coordinator".test_results TO "test_coordinator_adapter";
        SELECT string_agg(quote_ident(attname), ', ') INTO own FROM pg_attribute
        WHERE attrelid = to_regclass('"test_coordinator".test_results') AND attnum > 0
            AND NOT attisdropped AND attname <> 'created_in';
        EXECUTE 'GRANT INSERT (' || own || '), UPDATE (' || own || ') ON '
            || '"test_coordinator".test_results' || ' TO ' || '"test_coordinator_adapter"';
        GRANT SELECT ON "test_coordinator".alembic_version TO "test_coordinator_adapter";
        GRANT EXECUTE ON FUNCTION "test_coordinator".health_check() TO "test_coordinator_adapter";
    END IF;
    IF to_regclass('"test_coordinator".audit_records') IS NOT NULL THEN
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'test_coordinator_adapter') THEN
            REVOKE ALL ON "test_coordinator".audit_records FROM "test_coordinator_adapter";
            GRANT SELECT ON "test_coordinator".audit_records TO "test_coordinator_adapter";
        END IF;
        IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'test_coordinator_auditor') THEN
            GRANT USAGE ON SCHEMA "test_coordinator" TO "test_coordinator_auditor";
            GRANT SELECT, DELETE ON "test_coordinator".audit_records TO "test_coordinator_auditor";
        END IF;
    END IF;
    IF to_regclass('"test_coordinator".audit_seals') IS NOT NULL
        AND EXISTS (SELECT FROM pg_roles WHERE rolname = 'test_coordinator_auditor')
    THEN
        GRANT SELECT, INSERT ON "test_coordinator".audit_seals TO "test_coordinator_auditor";
    END IF;
END
$block$;

COMMIT;

