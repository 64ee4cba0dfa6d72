from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from test_coordinator_data_adapter.models import ScenarioStatus

NAMED = [{"name": "other"}, {"name": "tse", "scenario_id": "scen_7", "correlation_id": "trace-7"}]


def ids(records) -> tuple[str, str, list[str], list[str]]:
    return (
        records.scenario.scenario_id,
        records.run.run_id,
        [event.event_id for event in records.events],
        [result.result_id for result in records.results],
    )


def test_the_same_journal_gives_the_same_records(build):
    journal = build.journal()

    assert build.records(journal) == build.records(journal)


def test_neither_the_order_of_keys_nor_the_layout_of_the_file_changes_an_identity(build):
    journal = build.journal()
    shuffled = {key: journal[key] for key in reversed(journal)}
    shuffled["experiment"] = {
        key: journal["experiment"][key] for key in reversed(journal["experiment"])
    }

    assert json.dumps(shuffled) != json.dumps(journal)
    assert ids(build.records(shuffled)) == ids(build.records(journal))


def test_the_scenario_id_is_the_one_that_an_extension_names(build):
    records = build.records(build.journal(experiment=build.experiment(extensions=NAMED)))

    assert records.scenario.scenario_id == "scen_7"
    assert records.run.scenario_id == "scen_7"
    assert {result.correlation_id for result in records.results} == {"trace-7"}


def test_without_an_extension_equal_experiments_are_one_scenario(build):
    first = build.records(build.journal())
    later = build.records(build.journal(start=build.at(-5), node="elsewhere"))

    assert first.scenario.scenario_id == later.scenario.scenario_id
    assert first.run.run_id != later.run.run_id


@pytest.mark.parametrize(
    "change", [{"title": "Another restart"}, {"description": "x"}, {"configuration": {"a": 1}}]
)
def test_another_definition_is_another_scenario(build, change):
    first = build.records(build.journal())
    other = build.records(build.journal(experiment=build.experiment(**change)))

    assert first.scenario.scenario_id != other.scenario.scenario_id


@pytest.mark.parametrize(
    "change",
    [{"secrets": {"api": {"token": {"type": "env", "key": "TOKEN"}}}}, {"dry": "activities"}],
)
def test_secrets_and_the_dry_mode_do_not_define_a_scenario(build, change):
    first = build.records(build.journal())
    other = build.records(build.journal(experiment=build.experiment(**change)))

    assert first.scenario.scenario_id == other.scenario.scenario_id
    assert first.scenario.configuration["experiment"] == other.scenario.configuration["experiment"]


def test_the_value_that_the_toolkit_writes_into_a_tolerance_does_not_define_a_scenario(build):
    def experiment(measured):
        arguments = {"limit": 3} | measured
        provider = {"type": "python", "module": "m", "func": "f", "arguments": arguments}
        tolerance = {"type": "probe", "name": "t", "provider": provider}
        probe = build.probe(tolerance=tolerance)
        return build.experiment(**{"steady-state-hypothesis": {"title": "h", "probes": [probe]}})

    defined = build.records(build.journal(experiment=experiment({})))
    measured = build.records(build.journal(experiment=experiment({"value": 17})))

    assert defined.scenario == measured.scenario
    assert defined.run.run_id == measured.run.run_id


@pytest.mark.parametrize(
    "change", [{"node": "chaos-node-2"}, {"start": "2026-05-04T11:59:59+00:00"}]
)
def test_another_node_or_start_is_another_run_of_the_same_scenario(build, change):
    first = build.records(build.journal())
    other = build.records(build.journal(**change))

    assert first.scenario.scenario_id == other.scenario.scenario_id
    assert first.run.run_id != other.run.run_id


def test_a_naive_time_of_an_old_version_is_utc(build):
    aware = build.journal(start="2026-05-04T12:00:00+00:00")
    naive = build.journal(start="2026-05-04T12:00:00")
    elsewhere = build.journal(start="2026-05-04T14:00:00+02:00")

    records = build.records(naive)

    assert records.run.started_at == datetime(2026, 5, 4, 12, tzinfo=UTC)
    assert ids(records) == ids(build.records(aware)) == ids(build.records(elsewhere))


def test_the_run_keeps_its_own_snapshot_without_secrets(build):
    secrets = {"api": {"token": {"type": "env", "key": "TOKEN", "default": "hunter2"}}}
    experiment = build.experiment(secrets=secrets)

    records = build.records(build.journal(experiment=experiment))

    stored = records.run.model_dump_json() + records.scenario.model_dump_json()
    definition = records.scenario.configuration["experiment"]
    assert records.run.configuration_snapshot["experiment"] == definition
    assert records.run.configuration_snapshot["node"] == "chaos-node-1"
    assert records.run.configuration_snapshot["chaoslib_version"] == "1.44.0"
    assert "hunter2" not in stored
    assert "secrets" not in stored


def test_the_run_has_the_times_of_the_journal(build):
    run = build.records(build.journal(duration=9.8764)).run

    assert run.started_at == build.start
    assert run.completed_at == datetime(2026, 5, 4, 12, 0, 10, tzinfo=UTC)
    assert run.duration_ms == 9876
    assert run.created_at == build.start


@pytest.mark.parametrize("duration", [None, "long", True, float("nan"), -1.0, 1e300])
def test_a_duration_that_is_none_is_taken_from_the_times(build, duration):
    run = build.records(build.journal(duration=duration)).run

    assert run.duration_ms == 10_000


def test_a_journal_without_an_end_has_no_duration_and_no_completion(build):
    run = build.records(build.journal(end=None, duration=None, status=None)).run

    assert run.duration_ms is None
    assert run.completed_at is None


def test_the_scenario_says_what_the_experiment_says(build):
    scenario = build.records(build.journal()).scenario

    assert scenario.name == "Risk monitor survives a restart"
    assert scenario.description == "It comes back."
    assert scenario.status is ScenarioStatus.ACTIVE
    assert scenario.services_under_test == ["risk-monitor"]
    assert scenario.expected_outcomes == ["all is well"]
    assert scenario.tags == ["chaos"]
    assert scenario.created_by == "chaostoolkit"


def test_a_run_that_ended_before_it_began_has_no_duration(build):
    run = build.records(build.journal(end=build.at(-1), duration=None)).run

    assert run.duration_ms is None


def test_only_a_tolerance_that_is_a_probe_loses_the_value_written_into_it(build):
    tolerance = {"type": "regex", "provider": {"arguments": {"value": 1}}}
    probe = build.probe(tolerance=tolerance)
    hypothesis = {"title": "h", "probes": [probe]}
    experiment = build.experiment(**{"steady-state-hypothesis": hypothesis})

    run = build.records(build.journal(experiment=experiment)).run

    assert run.configuration_snapshot["experiment"] == experiment
