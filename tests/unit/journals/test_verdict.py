from __future__ import annotations

import itertools

import pytest

from test_coordinator_data_adapter.journals.verdict import judge
from test_coordinator_data_adapter.models import RunStatus


def verdict(build, journal) -> RunStatus:
    return judge(build.parsed(journal)).status


def test_a_run_passes_when_the_hypothesis_held_and_every_action_succeeded(build):
    journal = build.journal()

    assert verdict(build, journal) is RunStatus.PASSED
    assert judge(build.parsed(journal)).reasons == ()


@pytest.mark.parametrize("status", ["completed", "failed", None])
def test_the_status_of_the_journal_is_no_verdict(build, status):
    journal = build.journal(status=status, deviated=True)

    assert verdict(build, journal) is RunStatus.PASSED


def test_a_tolerance_missed_after_the_method_fails_the_run(build):
    journal = build.journal(after=build.missed())

    judged = judge(build.parsed(journal))

    assert judged.status is RunStatus.FAILED
    assert "'is-healthy'" in judged.reasons[0]


def test_a_probe_that_raises_after_the_method_fails_the_run(build):
    journal = build.journal(after=build.broke())

    judged = judge(build.parsed(journal))

    assert judged.status is RunStatus.FAILED
    assert "no route" in judged.reasons[0]


def test_a_tolerance_missed_during_the_method_fails_the_run_though_it_was_met_afterwards(build):
    journal = build.journal(during=[build.met(), build.missed(), build.met()])

    assert verdict(build, journal) is RunStatus.FAILED


def test_a_probe_that_raises_during_the_method_fails_the_run(build):
    journal = build.journal(during=[build.broke()])

    assert verdict(build, journal) is RunStatus.FAILED


@pytest.mark.parametrize("how", ["missed", "broke"])
def test_a_baseline_that_is_not_met_is_an_error(build, how):
    journal = build.journal(before=getattr(build, how)(), after=None, run=[])

    judged = judge(build.parsed(journal))

    assert judged.status is RunStatus.ERROR
    assert "nothing was injected" in judged.reasons[0]


@pytest.mark.parametrize("part", ["run", "rollbacks"])
def test_an_action_that_raises_is_an_error(build, part):
    journal = build.journal(**{part: [build.raised(build.action())]})

    judged = judge(build.parsed(journal))

    assert judged.status is RunStatus.ERROR
    assert "no route" in judged.reasons[0]


def test_a_probe_of_the_method_that_raises_decides_nothing(build):
    journal = build.journal(run=[build.ran(build.action()), build.raised(build.probe("measure"))])

    assert verdict(build, journal) is RunStatus.PASSED


def test_an_experiment_that_the_toolkit_aborted_is_an_error(build):
    journal = build.journal(status="aborted", after=None)

    assert verdict(build, journal) is RunStatus.ERROR


def test_an_interrupted_journal_is_cancelled(build):
    journal = build.journal(status="interrupted", after=None)

    assert verdict(build, journal) is RunStatus.CANCELLED


@pytest.mark.parametrize(
    "exception",
    [
        ["Traceback\n", "chaoslib.exceptions.InterruptExecution: SIGTERM signal received\n"],
        "InterruptExecution",
    ],
)
@pytest.mark.parametrize("part", ["run", "rollbacks"])
def test_an_exception_that_names_interrupt_execution_cancels_a_run_that_looks_completed(
    build, part, exception
):
    execution = build.ran(build.action(), status="failed", exception=exception)
    journal = build.journal(**{part: [execution]})

    assert verdict(build, journal) is RunStatus.CANCELLED


def test_a_word_that_only_contains_interrupt_execution_cancels_nothing(build):
    execution = build.raised(build.action(), why="NotInterruptExecutionAtAll: x")
    journal = build.journal(run=[execution])

    assert verdict(build, journal) is RunStatus.ERROR


@pytest.mark.parametrize("part", ["run", "rollbacks"])
@pytest.mark.parametrize("absent", ["missing", "null"])
def test_an_activity_without_a_status_cancels_the_run(build, part, absent):
    execution = build.ran(build.action())
    if absent == "missing":
        del execution["status"]
    else:
        execution["status"] = None
    journal = build.journal(**{part: [execution]})

    assert verdict(build, journal) is RunStatus.CANCELLED


@pytest.mark.parametrize("phase", ["before", "after", "during"])
def test_a_steady_state_probe_without_a_status_cancels_the_run(build, phase):
    state = build.met()
    del state["probes"][0]["status"]
    journal = build.journal(**{phase: [state] if phase == "during" else state})

    assert verdict(build, journal) is RunStatus.CANCELLED


@pytest.mark.parametrize("dry", ["probes", "actions", "activities", True])
def test_a_dry_run_is_cancelled(build, dry):
    journal = build.journal(experiment=build.experiment(dry=dry))

    assert verdict(build, journal) is RunStatus.CANCELLED


@pytest.mark.parametrize("dry", ["pause", None, False, ""])
def test_a_run_whose_pauses_alone_are_dry_is_judged_like_any_other(build, dry):
    passed = build.journal(experiment=build.experiment(dry=dry))
    failed = build.journal(experiment=build.experiment(dry=dry), after=build.missed())

    assert verdict(build, passed) is RunStatus.PASSED
    assert verdict(build, failed) is RunStatus.FAILED


def test_a_journal_that_was_never_finished_is_cancelled(build):
    journal = build.journal(status=None, end=None, after=None)

    assert verdict(build, journal) is RunStatus.CANCELLED


PROBLEMS = ("cancelled", "error", "failed")


@pytest.mark.parametrize(
    "present",
    [set(some) for size in (1, 2, 3) for some in itertools.combinations(PROBLEMS, size)],
    ids=lambda present: "+".join(sorted(present)),
)
def test_cancelled_comes_before_error_and_error_before_failed(build, present):
    journal = build.journal(
        status="interrupted" if "cancelled" in present else "completed",
        run=[build.raised(build.action()) if "error" in present else build.ran(build.action())],
        after=build.missed() if "failed" in present else build.met(),
    )

    judged = judge(build.parsed(journal))

    assert judged.status == next(problem for problem in PROBLEMS if problem in present)
    assert len(judged.reasons) == len(present), "every reason is told, not the first class alone"


@pytest.mark.parametrize(
    ("strategy", "phases"),
    [
        ("before-method-only", {"after": None}),
        ("after-method-only", {"before": None}),
        ("skip", {"before": None, "after": None}),
        ("during-method-only", {"before": None, "after": None}),
        (None, {"after": None}),
        (None, {"before": None, "after": None}),
    ],
)
def test_a_phase_that_was_not_meant_to_run_does_not_count(build, strategy, phases):
    runtime = {"runtime": {"hypothesis": {"strategy": strategy}}} if strategy else {}
    journal = build.journal(experiment=build.experiment(**runtime), **phases)

    assert verdict(build, journal) is RunStatus.PASSED


@pytest.mark.parametrize("hypothesis", [None, {"title": "nothing to see", "probes": []}])
def test_an_experiment_without_a_hypothesis_passes_by_its_actions(build, hypothesis):
    experiment = build.experiment(**{"steady-state-hypothesis": hypothesis})
    passed = build.journal(experiment=experiment, before=None, after=None)
    broken = passed | {"run": [build.raised(build.action())]}

    assert verdict(build, passed) is RunStatus.PASSED
    assert verdict(build, broken) is RunStatus.ERROR


@pytest.mark.parametrize(
    ("strategy", "phase"),
    [
        ("default", "before"),
        ("default", "after"),
        ("continuously", "after"),
        ("after-method-only", "after"),
        ("before-method-only", "before"),
    ],
)
def test_a_phase_that_the_experiment_asks_for_and_nobody_checked_is_never_a_pass(
    build, strategy, phase
):
    experiment = build.experiment(runtime={"hypothesis": {"strategy": strategy}})
    journal = build.journal(experiment=experiment, **{phase: None})

    judged = judge(build.parsed(journal))

    assert judged.status is RunStatus.ERROR
    assert strategy in judged.reasons[0]


def test_a_hypothesis_that_was_not_evaluated_to_its_end_is_not_met(build):
    state = build.met()
    state["steady_state_met"] = None

    assert verdict(build, build.journal(after=state)) is RunStatus.FAILED
    assert verdict(build, build.journal(before=state)) is RunStatus.ERROR


def test_what_cut_an_action_short_is_not_told_as_its_error_too(build):
    interruption = build.raised(build.action(), why="chaoslib.exceptions.InterruptExecution: x")

    judged = judge(build.parsed(build.journal(run=[interruption])))

    assert len(judged.reasons) == 1


def test_a_continuous_hypothesis_that_missed_often_is_one_reason(build):
    journal = build.journal(during=[build.missed(), build.missed(), build.broke()])

    assert len(judge(build.parsed(journal)).reasons) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "interrupted", "before": None, "after": None},
        {"before": {"steady_state_met": False, "probes": []}, "after": None, "run": []},
    ],
    ids=["interrupted", "baseline not met"],
)
def test_a_phase_that_could_not_begin_any_more_is_no_reason_of_its_own(build, changes):
    experiment = build.experiment(runtime={"hypothesis": {"strategy": "default"}})
    journal = build.journal(experiment=experiment, **changes)

    assert len(judge(build.parsed(journal)).reasons) == 1


def test_a_strategy_asks_nothing_of_an_experiment_without_a_hypothesis(build):
    experiment = build.experiment(
        **{"steady-state-hypothesis": None}, runtime={"hypothesis": {"strategy": "default"}}
    )
    journal = build.journal(experiment=experiment, before=None, after=None)

    assert verdict(build, journal) is RunStatus.PASSED
