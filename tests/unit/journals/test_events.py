from __future__ import annotations

from datetime import timedelta

import pytest

from test_coordinator_data_adapter.models import EventStatus


def test_every_action_of_the_method_is_an_event_and_no_probe_or_rollback_is(build):
    journal = build.journal(
        run=[
            build.ran(build.action("restart-a")),
            build.ran(build.probe("measure")),
            build.ran(build.action("restart-b")),
        ],
        rollbacks=[build.ran(build.action("restart-c"))],
    )

    events = build.records(journal).events

    assert [event.parameters["activity"] for event in events] == ["restart-a", "restart-b"]


def test_an_event_says_how_it_was_injected(build):
    action = build.action(pauses={"before": 1, "after": "${wait}"}, background=True)
    journal = build.journal(run=[build.ran(action, 3, 4.25)])

    (event,) = build.records(journal).events

    assert event.target_service == "risk-monitor"
    assert event.injected_at == build.start + timedelta(seconds=3)
    assert event.duration_ms == 1250
    assert event.parameters == {
        "activity": "restart-risk-monitor",
        "provider": "python",
        "func": "tsefaults.restart",
        "arguments": {"service": "risk-monitor"},
        "pauses": {"before": 1, "after": "${wait}"},
        "background": True,
    }


def test_an_event_without_pauses_says_so(build):
    (event,) = build.records(build.journal()).events

    assert event.parameters["pauses"] is None
    assert event.parameters["background"] is False


@pytest.mark.parametrize(
    ("provider", "called"),
    [
        (
            {"type": "process", "path": "/opt/restart.sh", "arguments": {"service": "a"}},
            "/opt/restart.sh",
        ),
        (
            {"type": "http", "url": "http://chaos/restart", "arguments": {"service": "a"}},
            "http://chaos/restart",
        ),
    ],
)
def test_processes_and_requests_are_events_too(build, provider, called):
    action = build.action("x", provider=provider)
    experiment = build.experiment(method=[action])
    journal = build.journal(experiment=experiment, run=[build.ran(action)])

    (event,) = build.records(journal).events

    assert event.parameters["func"] == called
    assert event.target_service == "a"


def test_an_event_recovered_when_the_hypothesis_held_afterwards(build):
    (event,) = build.records(build.journal()).events

    assert event.status is EventStatus.RECOVERED


@pytest.mark.parametrize("how", ["missed", "broke"])
def test_an_event_failed_when_the_hypothesis_did_not_hold_afterwards(build, how):
    (event,) = build.records(build.journal(after=getattr(build, how)())).events

    assert event.status is EventStatus.FAILED


def test_an_event_failed_when_its_action_raised_though_the_hypothesis_held(build):
    (event,) = build.records(build.journal(run=[build.raised(build.action())])).events

    assert event.status is EventStatus.FAILED


def test_an_event_failed_when_its_action_was_cut_short(build):
    execution = build.ran(build.action())
    del execution["status"]

    (event,) = build.records(build.journal(run=[execution])).events

    assert event.status is EventStatus.FAILED


def test_an_event_stays_injected_when_nobody_looked_afterwards(build):
    (event,) = build.records(build.journal(after=None)).events

    assert event.status is EventStatus.INJECTED


@pytest.mark.parametrize(
    ("last", "status"),
    [("met", EventStatus.RECOVERED), ("missed", EventStatus.FAILED)],
)
def test_without_a_check_afterwards_the_last_continuous_one_after_the_action_decides(
    build, last, status
):
    other = build.met if last == "missed" else build.missed
    during = [other(begin=3, end=3.1), getattr(build, last)(begin=5, end=5.1)]
    journal = build.journal(after=None, during=during)

    (event,) = build.records(journal).events

    assert event.status is status


def test_a_continuous_check_that_began_before_the_action_ended_proves_no_recovery(build):
    journal = build.journal(after=None, during=[build.met(begin=1.5, end=3)])

    (event,) = build.records(journal).events

    assert event.status is EventStatus.INJECTED


def test_a_continuous_check_that_began_the_moment_the_action_ended_proves_it(build):
    journal = build.journal(after=None, during=[build.met(begin=2, end=3)])

    (event,) = build.records(journal).events

    assert event.status is EventStatus.RECOVERED


@pytest.mark.parametrize("dry", ["actions", "activities"])
def test_an_action_that_a_dry_run_did_not_execute_is_pending(build, dry):
    journal = build.journal(experiment=build.experiment(dry=dry))

    (event,) = build.records(journal).events

    assert event.status is EventStatus.PENDING


def test_an_action_whose_recovery_no_probe_checked_in_a_dry_run_stays_injected(build):
    journal = build.journal(experiment=build.experiment(dry="probes"))

    (event,) = build.records(journal).events

    assert event.status is EventStatus.INJECTED


def test_an_action_that_a_harsh_exit_left_without_times_began_with_the_run(build):
    lost = {"start": None, "end": None, "duration": None, "status": "failed", "exception": None}
    journal = build.journal(run=[build.ran(build.action(background=True)) | lost])

    (event,) = build.records(journal).events

    assert event.injected_at == build.start
    assert event.duration_ms is None
    assert event.status is EventStatus.FAILED


def test_the_recovery_time_runs_from_the_first_miss_to_the_first_met(build):
    during = [
        build.met(begin=0.9, end=1.0),
        build.missed(begin=2.0, end=2.1),
        build.broke(begin=3.0, end=3.1),
        build.met(begin=4.0, end=4.35),
        build.met(begin=5.0, end=5.1),
    ]

    (event,) = build.records(build.journal(during=during)).events

    assert event.recovery_time_ms == 2250


def test_a_hypothesis_that_was_met_all_along_measures_no_recovery(build):
    during = [build.met(begin=2, end=3), build.met(begin=4, end=5)]

    (event,) = build.records(build.journal(during=during)).events

    assert event.recovery_time_ms is None


def test_without_a_continuous_hypothesis_there_is_no_recovery_time(build):
    (event,) = build.records(build.journal()).events

    assert event.recovery_time_ms is None


def test_each_recovery_belongs_to_the_action_that_began_last_before_the_miss(build):
    run = [
        build.ran(build.action(f"restart-{name}"), at, at + 1)
        for name, at in (("a", 1), ("b", 4), ("c", 7))
    ]
    during = [
        build.missed(begin=2, end=2.5),
        build.met(begin=3, end=3.5),
        build.missed(begin=7.1, end=7.2),
        build.met(begin=9, end=9.2),
    ]

    events = build.records(build.journal(run=run, during=during)).events

    assert [event.recovery_time_ms for event in events] == [1000, None, 2000]


def test_a_miss_before_anything_was_injected_is_nobodys_recovery(build):
    during = [build.missed(begin=0.2, end=0.3), build.met(begin=0.8, end=0.9)]

    (event,) = build.records(build.journal(during=during)).events

    assert event.recovery_time_ms is None


def test_the_first_of_several_recoveries_from_one_action_is_its_recovery(build):
    during = [
        build.missed(begin=2, end=3),
        build.met(begin=3, end=4),
        build.missed(begin=4, end=5),
        build.met(begin=7, end=8),
    ]

    (event,) = build.records(build.journal(during=during)).events

    assert event.recovery_time_ms == 1000


def test_a_miss_seen_the_moment_an_action_began_is_put_down_to_it(build):
    during = [build.missed(begin=0.2, end=1), build.met(begin=2, end=3)]

    (event,) = build.records(build.journal(during=during)).events

    assert event.recovery_time_ms == 2000


@pytest.mark.parametrize("dry", ["actions", "probes", "activities"])
def test_a_dry_run_measures_no_recovery(build, dry):
    during = [build.missed(begin=2, end=3), build.met(begin=3, end=4)]
    journal = build.journal(experiment=build.experiment(dry=dry), during=during)

    (event,) = build.records(journal).events

    assert event.recovery_time_ms is None
