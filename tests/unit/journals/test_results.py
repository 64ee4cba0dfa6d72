from __future__ import annotations

import json
from datetime import timedelta

import pytest

from test_coordinator_data_adapter.journals.records import MAX_TEXT
from test_coordinator_data_adapter.models import ResultStatus


def test_each_probe_of_the_hypothesis_has_one_result_per_phase(build):
    a, b = build.probe("a-health"), build.probe("b-health", tolerance=[0, 5])
    hypothesis = {"title": "h", "probes": [a, b]}
    journal = build.journal(
        experiment=build.experiment(**{"steady-state-hypothesis": hypothesis}),
        before=build.met(a, b),
        during=[build.met(a, b), build.met(a, b), build.met(a, b)],
        after=build.met(a, b, begin=8, end=9),
    )

    results = build.records(journal).results

    assert [(result.phase, result.name) for result in results] == [
        (phase, name)
        for phase in ("before", "during", "after")
        for name in ("a-health", "b-health")
    ]
    assert {result.status for result in results} == {ResultStatus.PASSED}
    assert results[1].expected_value == "[0, 5]"
    assert results[1].actual_value == "true"


def test_a_result_was_verified_when_its_probe_ended(build):
    results = build.records(build.journal()).results

    assert [result.verification_time for result in results] == [
        build.start + timedelta(seconds=0.6),
        build.start + timedelta(seconds=9),
    ]


def test_a_missed_tolerance_is_a_failed_result(build):
    *_, result = build.records(build.journal(after=build.missed())).results

    assert result.status is ResultStatus.FAILED
    assert result.actual_value == "false"
    assert result.error_details == "the tolerance was not met"


def test_a_probe_that_raised_is_an_error_that_says_first_why(build):
    *_, result = build.records(build.journal(after=build.broke())).results

    assert result.status is ResultStatus.ERROR
    assert result.actual_value == "null"
    assert result.error_details is not None
    assert result.error_details.splitlines()[0] == "ActivityFailed: no route"
    assert "Traceback" in result.error_details


def test_a_probe_that_was_cut_short_is_an_error(build):
    state = build.met()
    del state["probes"][0]["status"], state["probes"][0]["tolerance_met"]

    *_, result = build.records(build.journal(after=state)).results

    assert result.status is ResultStatus.ERROR
    assert result.error_details == "the probe was cut short"


def test_a_probe_of_which_nothing_says_whether_it_was_met_is_an_error(build):
    state = build.met()
    del state["probes"][0]["tolerance_met"]

    *_, result = build.records(build.journal(after=state)).results

    assert result.status is ResultStatus.ERROR


def test_probes_after_the_first_miss_are_skipped(build):
    a, b, c = (build.probe(f"{name}-health", tolerance=name) for name in "abc")
    experiment = build.experiment(
        **{"steady-state-hypothesis": {"title": "h", "probes": [a, b, c]}}
    )
    journal = build.journal(
        experiment=experiment, before=build.met(a, b, c), after=build.missed(last=a)
    )

    after = [result for result in build.records(journal).results if result.phase == "after"]

    assert [result.status for result in after] == ["failed", "skipped", "skipped"]
    assert [result.name for result in after] == ["a-health", "b-health", "c-health"]
    assert [result.expected_value for result in after] == ['"a"', '"b"', '"c"']
    assert after[1].actual_value == "null"
    assert "'a-health'" in (after[1].error_details or "")


def test_results_keep_the_order_of_the_hypothesis_when_listed_by_creation(build):
    probes = [build.probe(f"health-{number}") for number in range(9)]
    experiment = build.experiment(**{"steady-state-hypothesis": {"title": "h", "probes": probes}})
    journal = build.journal(
        experiment=experiment, before=build.met(*probes), after=build.missed(last=probes[0])
    )

    after = [result for result in build.records(journal).results if result.phase == "after"]

    ordered = sorted(after, key=lambda result: (result.created_at, result.result_id))
    assert [result.name for result in ordered] == [probe["name"] for probe in probes]


def test_a_phase_that_never_began_has_no_results(build):
    journal = build.journal(before=build.missed(), after=None, run=[])

    results = build.records(journal).results

    assert {result.phase for result in results} == {"before"}


@pytest.mark.parametrize(
    ("iterations", "status"),
    [
        (["met", "met"], ResultStatus.PASSED),
        (["met", "missed", "met"], ResultStatus.FAILED),
        (["met", "broke", "missed", "met"], ResultStatus.ERROR),
        (["missed", "broke"], ResultStatus.FAILED),
    ],
)
def test_what_went_wrong_first_during_the_method_is_the_result_of_that_phase(
    build, iterations, status
):
    during = [
        getattr(build, how)(begin=number, end=number + 0.5)
        for number, how in enumerate(iterations, start=1)
    ]

    (result,) = [
        result
        for result in build.records(build.journal(during=during)).results
        if result.phase == "during"
    ]

    wrong = [how for how in iterations if how != "met"]
    first = iterations.index(wrong[0]) + 1 if wrong else len(iterations)
    assert result.status is status
    assert result.verification_time == build.start + timedelta(seconds=first + 0.5)
    if wrong:
        assert f"{len(wrong)} of {len(iterations)} evaluations" in (result.error_details or "")


def test_a_probe_that_some_iterations_reached_was_not_skipped(build):
    a, b = build.probe("a-health"), build.probe("b-health")
    experiment = build.experiment(**{"steady-state-hypothesis": {"title": "h", "probes": [a, b]}})
    journal = build.journal(
        experiment=experiment,
        before=build.met(a, b),
        during=[build.met(a, b), build.missed(last=a)],
        after=None,
    )

    during = [result for result in build.records(journal).results if result.phase == "during"]

    assert [result.status for result in during] == [ResultStatus.FAILED, ResultStatus.PASSED]


@pytest.mark.parametrize("dry", ["probes", "activities", True])
def test_probes_that_a_dry_run_did_not_execute_are_skipped(build, dry):
    journal = build.journal(experiment=build.experiment(dry=dry))

    results = build.records(journal).results

    assert {result.status for result in results} == {ResultStatus.SKIPPED}
    assert all("dry run" in (result.error_details or "") for result in results)


@pytest.mark.parametrize("dry", ["actions", "pause"])
def test_probes_that_a_dry_run_did_execute_keep_their_outcome(build, dry):
    journal = build.journal(experiment=build.experiment(dry=dry), after=build.missed())

    results = build.records(journal).results

    assert [result.status for result in results] == [ResultStatus.PASSED, ResultStatus.FAILED]


@pytest.mark.parametrize("dry", ["probes", "actions", "activities", "pause", None])
def test_the_snapshot_names_the_dry_mode(build, dry):
    run = build.records(build.journal(experiment=build.experiment(dry=dry))).run

    assert run.configuration_snapshot["dry"] == dry


def test_what_is_too_long_is_cut_and_says_so(build):
    state = build.met()
    state["probes"][0]["output"] = "x" * (MAX_TEXT + 1)

    result, *_ = build.records(build.journal(before=state)).results

    assert len(result.actual_value) == MAX_TEXT
    assert result.actual_value.endswith(f"[cut, {MAX_TEXT + 3} characters in all]")


def test_what_just_fits_is_not_cut(build):
    state = build.met()
    state["probes"][0]["output"] = "x" * (MAX_TEXT - 2)

    result, *_ = build.records(build.journal(before=state)).results

    assert json.loads(result.actual_value) == "x" * (MAX_TEXT - 2)


@pytest.mark.parametrize("output", ["a\x00b", "\ud800", "\udfff\ud800", "Straße 🦜", "\x1b[31m"])
def test_text_that_cannot_be_stored_stands_escaped_in_the_json(build, output):
    state = build.met()
    state["probes"][0]["output"] = output

    result, *_ = build.records(build.journal(before=state)).results

    assert json.loads(result.actual_value) == output


def test_a_traceback_with_text_that_cannot_be_stored_keeps_the_rest(build):
    state = build.broke()
    state["probes"][0]["exception"] = ["Boom: a\x00b\ud800c\n"]

    *_, result = build.records(build.journal(after=state)).results

    assert result.error_details is not None
    assert result.error_details.startswith("Boom: a\ufffdb\ufffdc")


def test_probes_that_refer_to_another_activity_are_resolved(build):
    named = build.probe("deep-health", tolerance=7)
    experiment = build.experiment(
        **{
            "steady-state-hypothesis": {
                "title": "h",
                "probes": [build.probe("a-health"), {"ref": "deep-health"}],
            }
        },
        method=[build.action(), named],
    )
    journal = build.journal(
        experiment=experiment, before=build.missed(last=build.probe("a-health")), after=None
    )

    results = build.records(journal).results

    assert [(result.name, result.expected_value) for result in results] == [
        ("a-health", "true"),
        ("deep-health", "7"),
    ]


def test_a_name_that_several_activities_share_means_the_first_of_them(build):
    first, second = build.probe("deep-health", tolerance=1), build.probe("deep-health", tolerance=2)
    probes = [build.probe("a-health"), {"ref": "deep-health"}]
    experiment = build.experiment(
        **{"steady-state-hypothesis": {"title": "h", "probes": probes}},
        method=[build.action(), first, second],
    )
    journal = build.journal(
        experiment=experiment, before=build.missed(last=build.probe("a-health")), after=None
    )

    *_, result = build.records(journal).results

    assert result.expected_value == "1"


def test_probes_that_were_evaluated_without_being_defined_are_results_too(build):
    experiment = build.experiment(**{"steady-state-hypothesis": None})

    results = build.records(build.journal(experiment=experiment)).results

    assert [result.phase for result in results] == ["before", "after"]
