from __future__ import annotations

from collections import Counter

import pytest

from test_coordinator_data_adapter.journals import read_journal, shipped_mapping

EXPECTED = {
    "action_fail": ("error", "resource_exhaustion", [("cpu_stress", "failed")], "6p"),
    "background": (
        "passed",
        "combined",
        [("network_latency", "recovered"), ("service_restart", "recovered")],
        "6p",
    ),
    "continuous_failfast": ("failed", "service_restart", [("service_kill", "failed")], "3p 2e 4s"),
    "deviated": ("failed", "service_restart", [("service_kill", "failed")], "3p 1e 2s"),
    "deviated_tolerance": ("failed", "service_restart", [("service_restart", "failed")], "7p 1f"),
    "dry": ("cancelled", "service_restart", [("service_restart", "pending")], "6s"),
    "failed_before": ("error", "service_restart", [], "3p 1f"),
    "interrupted": ("cancelled", "network_latency", [("network_latency", "failed")], "3p"),
    "ok": ("passed", "service_restart", [("service_restart", "recovered")], "6p"),
    "sigterm": ("cancelled", "network_latency", [("network_latency", "failed")], "6p"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_recorded_journal_becomes_what_it_recorded(build, name):
    verdict, kind, events, results = EXPECTED[name]

    records = read_journal(build.sample(name), shipped_mapping())

    counts = Counter(result.status.value[0] for result in records.results)
    assert records.run.status == verdict
    assert records.scenario.scenario_type == kind
    assert [(event.event_type, event.status) for event in records.events] == events
    assert " ".join(f"{counts[key]}{key}" for key in "pfes" if counts[key]) == results


@pytest.mark.parametrize("name", EXPECTED)
def test_the_identities_that_the_experiment_names_are_kept(build, name):
    records = read_journal(build.sample(name), shipped_mapping())

    assert records.scenario.scenario_id == "scen_001"
    assert records.run.scenario_id == "scen_001"
    assert {result.correlation_id for result in records.results} == {"audit_trace_123"}
    assert {result.run_id for result in records.results} <= {records.run.run_id}
    assert {event.run_id for event in records.events} <= {records.run.run_id}


@pytest.mark.parametrize("name", EXPECTED)
def test_no_secret_of_a_recorded_journal_is_stored(build, name):
    content = build.sample(name)

    records = read_journal(content, shipped_mapping())

    stored = "".join(
        entity.model_dump_json()
        for entity in (records.scenario, records.run, *records.events, *records.results)
    )
    assert b"API_TOKEN" in content
    assert "API_TOKEN" not in stored
    assert '"secrets"' not in stored


def test_no_two_recorded_journals_share_a_run_an_event_or_a_result(build):
    every = [read_journal(build.sample(name), shipped_mapping()) for name in EXPECTED]

    for ids in (
        [records.run.run_id for records in every],
        [event.event_id for records in every for event in records.events],
        [result.result_id for records in every for result in records.results],
    ):
        assert len(set(ids)) == len(ids)


def test_a_miss_without_a_recovery_measures_no_recovery_time(build):
    records = read_journal(build.sample("continuous_failfast"), shipped_mapping())

    assert [event.recovery_time_ms for event in records.events] == [None]


def test_what_an_action_says_of_its_own_recovery_is_not_taken_for_a_measurement(build):
    content = build.sample("ok")

    records = read_journal(content, shipped_mapping())

    assert b"recovery_time_ms" in content
    assert [event.recovery_time_ms for event in records.events] == [None]
    assert [event.duration_ms for event in records.events] == [605]
