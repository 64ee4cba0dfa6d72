"""The promised names, signatures, defaults and fields, written down a second time on purpose."""

from __future__ import annotations

import inspect
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from pydantic_core import PydanticUndefined

from test_coordinator_data_adapter import AdapterConfig, AdapterFactory, interfaces, models
from test_coordinator_data_adapter.adapters import postgres, redis, stub

EMPTY = inspect.Parameter.empty
NOW = object()

ENUMS = {
    "ScenarioType": "service_restart network_partition network_latency resource_exhaustion"
    " data_corruption combined",
    "ScenarioStatus": "draft active archived deprecated",
    "RunStatus": "pending running passed failed error cancelled timeout",
    "EventType": "service_restart service_kill network_partition network_latency"
    " network_packet_loss cpu_stress memory_stress disk_io_stress clock_skew",
    "EventStatus": "pending injected in_progress recovered failed",
    "AssertionType": "service_health response_time data_consistency audit_trail error_rate"
    " throughput latency availability recovery_time",
    "ResultStatus": "passed failed skipped error",
}

# For each field its default: EMPTY where it has to be given, NOW where it is the moment of making.
FIELDS = {
    "Scenario": {
        "scenario_id": EMPTY,
        "name": EMPTY,
        "description": None,
        "scenario_type": EMPTY,
        "status": models.ScenarioStatus.DRAFT,
        "configuration": EMPTY,
        "services_under_test": [],
        "expected_outcomes": [],
        "created_by": None,
        "created_at": NOW,
        "updated_at": NOW,
        "tags": [],
    },
    "TestRun": {
        "run_id": EMPTY,
        "scenario_id": EMPTY,
        "status": EMPTY,
        "started_at": None,
        "completed_at": None,
        "duration_ms": None,
        "configuration_snapshot": EMPTY,
        "test_environment": None,
        "exit_code": None,
        "error_message": None,
        "created_at": NOW,
        "updated_at": NOW,
        "labels": {},
    },
    "ChaosEvent": {
        "event_id": EMPTY,
        "run_id": EMPTY,
        "event_type": EMPTY,
        "target_service": EMPTY,
        "parameters": EMPTY,
        "injected_at": EMPTY,
        "duration_ms": None,
        "status": EMPTY,
        "recovery_time_ms": None,
        "created_at": NOW,
        "detected_at": None,
        "recovered_at": None,
        "recovery_resolution_ms": None,
        "output": None,
    },
    "TestResult": {
        "result_id": EMPTY,
        "run_id": EMPTY,
        "assertion_type": EMPTY,
        "expected_value": EMPTY,
        "actual_value": EMPTY,
        "status": EMPTY,
        "verification_time": EMPTY,
        "error_details": None,
        "correlation_id": None,
        "created_at": NOW,
        "name": None,
        "phase": None,
        "duration_ms": None,
        "attempts": None,
        "measured_value": None,
        "unit": None,
    },
    "ServiceInfo": {
        "service_id": EMPTY,
        "service_name": EMPTY,
        "version": EMPTY,
        "host": EMPTY,
        "grpc_port": EMPTY,
        "http_port": EMPTY,
        "last_seen": EMPTY,
        "registered_at": EMPTY,
        "metadata": {},
    },
}

QUERIES = {
    "ScenarioQuery": "scenario_type status tag created_by service created_since created_until",
    "TestRunQuery": "scenario_id status test_environment started_since started_until"
    " created_since created_until labels",
    "ChaosEventQuery": "run_id event_type target_service status injected_since injected_until",
    "TestResultQuery": "run_id assertion_type status correlation_id name created_since"
    " created_until",
}

SETTINGS = {
    "postgres_url": "postgresql+asyncpg://test_coordinator_adapter:test-pass@localhost:5432"
    "/trading_ecosystem",
    "postgres_pool_size": 10,
    "postgres_max_overflow": 20,
    "postgres_pool_timeout": 30,
    "postgres_pool_recycle": 3600,
    "postgres_schema": "test_coordinator",
    "redis_url": "redis://localhost:6379/0",
    "redis_pool_size": 10,
    "redis_socket_timeout": 5,
    "redis_socket_connect_timeout": 5,
    "redis_namespace": "test:test-coordinator",
    "cache_ttl_default": 300,
    "cache_ttl_scenarios": 600,
    "cache_ttl_test_runs": 300,
    "cache_ttl_results": 180,
    "service_name": "test-coordinator",
    "service_instance_name": "test-coordinator",
    "environment": "development",
    "heartbeat_interval": 30,
    "stale_service_threshold": 300,
    "batch_size": 100,
    "query_timeout": 30,
    "test_runs_retention_days": 90,
    "scenarios_retention_days": 365,
    "chaos_events_retention_days": 90,
    "test_results_retention_days": 90,
    "log_level": "INFO",
    "log_sql_queries": False,
    "health_check_timeout": 5,
}

# As a caller would write it: what stands after * is given by name.
STORED = """
    find(query, *, limit=100, cursor=None, newest_first=False)
    list_matching(query)
    stream(query, *, batch_size=None, newest_first=False)
    count(query)
    prune(older_than, *, batch_size=None)
    get_by_id(ID)
"""
PORTS = {
    "ScenariosRepository": STORED.replace("ID", "scenario_id")
    + """
    create(scenario)
    update(scenario, *, if_unchanged_since=None)
    delete(scenario_id)
    list_all(limit=100, offset=0)
    get_by_type(scenario_type)
    get_by_status(status)
    update_status(scenario_id, status, *, expected=None)
    search_by_tag(tag)
    get_active_scenarios()
    """,
    "TestRunsRepository": STORED.replace("ID", "run_id")
    + """
    create(run)
    update(run, *, if_unchanged_since=None)
    delete(run_id, *, with_children=False)
    get_by_scenario(scenario_id)
    get_by_status(status)
    update_status(run_id, status, *, expected=None)
    start_run(run_id)
    complete_run(run_id, status, exit_code=None)
    record_completion(run_id, exit_code, duration_ms)
    get_recent_runs(limit=10)
    get_failed_runs(limit=10)
    get_runs_by_date_range(start, end)
    calculate_pass_rate(scenario_id)
    get_average_duration(scenario_id)
    """,
    "ChaosEventsRepository": STORED.replace("ID", "event_id")
    + """
    create(event)
    update(event)
    get_by_run(run_id)
    get_by_type(event_type)
    get_by_service(service_name)
    update_status(event_id, status, *, expected=None)
    record_recovery(event_id, recovery_time_ms, *, detected_at=None)
    get_active_events()
    calculate_average_recovery_time(event_type)
    """,
    "TestResultsRepository": STORED.replace("ID", "result_id")
    + """
    create(result)
    bulk_create(results)
    get_by_run(run_id)
    get_by_assertion_type(assertion_type)
    get_by_status(status)
    get_failed_results(run_id)
    get_by_correlation_id(correlation_id)
    calculate_pass_rate(run_id)
    count_by_status(run_id, status)
    get_assertion_statistics(assertion_type)
    """,
    "ServiceDiscoveryRepository": """
    register(service)
    deregister(service_id)
    get_service_by_id(service_id)
    get_service_by_name(service_name)
    list_services_by_name(service_name)
    list_all_services()
    update_heartbeat(service_id)
    remove_stale_services(threshold_seconds, *, max_fraction=None)
    is_service_healthy(service_id, threshold_seconds)
    get_service_count()
    """,
    "CacheRepository": """
    get(key)
    set(key, value, ttl=None)
    delete(key)
    exists(key)
    expire(key, ttl)
    get_ttl(key)
    increment(key, amount=1)
    decrement(key, amount=1)
    get_many(keys)
    set_many(items, ttl=None)
    delete_many(keys)
    keys(pattern='*')
    delete_pattern(pattern)
    flush_all()
    get_json(key)
    set_json(key, value, ttl=None)
    """,
}
FACTORY = """
    initialize()
    cleanup()
    health_check()
    get_session_maker()
    get_redis_client()
    get_scenarios_repository(use_stub=False)
    get_test_runs_repository(use_stub=False)
    get_chaos_events_repository(use_stub=False)
    get_test_results_repository(use_stub=False)
    get_service_discovery_repository(use_stub=False)
    get_cache_repository(use_stub=False)
"""
ADAPTERS = [
    (getattr(room, prefix + port), port)
    for room, prefix in ((stub, "Stub"), (postgres, "Postgres"), (redis, "Redis"))
    for port in PORTS
    if hasattr(room, prefix + port)
]


def promised(lines):
    return {
        line.strip().partition("(")[0]: line.strip() for line in lines.split("\n") if line.strip()
    }


def written(kind, name):
    """A method as a caller would write it, without types."""
    told = inspect.signature(getattr(kind, name))
    bare = [
        parameter.replace(annotation=EMPTY)
        for parameter in told.parameters.values()
        if parameter.name != "self"
    ]
    return f"{name}{told.replace(parameters=bare, return_annotation=EMPTY)}"


def default_of(field):
    if field.default_factory is not None:
        value = field.default_factory()
        return NOW if isinstance(value, datetime) and value.tzinfo is UTC else value
    return EMPTY if field.default is PydanticUndefined else field.default


@pytest.fixture
def config(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in AdapterConfig.model_fields:
        monkeypatch.delenv(f"TEST_COORDINATOR_ADAPTER_{name.upper()}", raising=False)
    return AdapterConfig()


@pytest.mark.parametrize("name", ENUMS)
def test_an_enum_has_the_promised_values_and_no_others(name):
    members = getattr(models, name)

    assert [member.value for member in members] == ENUMS[name].split()
    assert [member.name for member in members] == ENUMS[name].upper().split()


@pytest.mark.parametrize("name", FIELDS)
def test_a_model_has_the_promised_fields_and_defaults(name):
    declared = {
        field: default_of(held) for field, held in getattr(models, name).model_fields.items()
    }

    assert declared == FIELDS[name]


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_filters_on_the_promised_fields_and_on_nothing_by_default(name):
    kind = getattr(interfaces, name)

    assert set(inspect.signature(kind).parameters) == set(QUERIES[name].split())
    assert set(vars(kind()).values()) == {None}


@pytest.mark.parametrize("name", PORTS)
def test_a_port_has_the_promised_methods(name):
    port = getattr(interfaces, name)

    assert {one: written(port, one) for one in promised(PORTS[name])} == promised(PORTS[name])


@pytest.mark.parametrize(("adapter", "port"), ADAPTERS)
def test_an_adapter_is_called_as_its_port_is(adapter, port):
    assert issubclass(adapter, getattr(interfaces, port))
    assert {one: written(adapter, one) for one in promised(PORTS[port])} == promised(PORTS[port])


@pytest.mark.parametrize("name", PORTS)
def test_every_method_of_a_port_is_awaited_but_a_stream(name):
    port = getattr(interfaces, name)

    plain = {
        one for one in promised(PORTS[name]) if not inspect.iscoroutinefunction(getattr(port, one))
    }

    assert plain <= {"stream"}


def test_every_port_has_its_adapters():
    assert len(ADAPTERS) == len(PORTS) * 2


def test_the_factory_has_the_promised_methods():
    assert {one: written(AdapterFactory, one) for one in promised(FACTORY)} == promised(FACTORY)


def test_a_factory_can_be_made_of_nothing_or_of_a_config(config):
    made = AdapterFactory(config)

    assert made.config is config
    assert made._is_initialized is False
    assert inspect.signature(AdapterFactory).parameters["config"].default is None
    assert (made.get_session_maker(), made.get_redis_client()) == (None, None)


def test_the_factory_masks_a_password_for_existing_callers():
    masked = AdapterFactory._mask_password("redis://user:s3cret@host:6379/0")

    assert masked == "redis://user:***@host:6379/0"


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_has_the_promised_default(name, config):
    assert getattr(config, name) == SETTINGS[name]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_read_from_its_variable(name, config, monkeypatch):
    given = {"log_level": "DEBUG", "log_sql_queries": "true", "heartbeat_interval": "7"}
    value = given.get(name, "1" if isinstance(SETTINGS[name], int) else SETTINGS[name])
    value = "77" if name == "stale_service_threshold" else value
    monkeypatch.setenv(f"TEST_COORDINATOR_ADAPTER_{name.upper()}", value)

    assert name in AdapterConfig().model_fields_set


def test_service_info_is_the_same_class_wherever_it_is_imported_from():
    assert interfaces.ServiceInfo is models.ServiceInfo


def test_importing_what_is_called_test_warns_no_test_suite(tmp_path):
    suite = tmp_path / "test_imports.py"
    suite.write_text(
        "from test_coordinator_data_adapter.interfaces import *\n"
        "from test_coordinator_data_adapter.interfaces import TestResultsRepository\n"
        "from test_coordinator_data_adapter.models import *\n"
        "from test_coordinator_data_adapter.adapters.stub import StubTestRunsRepository\n\n"
        "def test_nothing():\n    pass\n"
    )

    ran = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-W", "error::pytest.PytestCollectionWarning", suite),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        cwd=tmp_path,
    )

    assert "1 passed" in ran.stdout, ran.stdout
