"""Which fault was in effect when, and which passed runs prove nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from test_coordinator_data_adapter.analysis import (
    VacuousReason,
    active_faults,
    active_until,
    has_no_visible_effect,
    is_active,
    is_never_recovered,
    vacuous_reasons,
)
from test_coordinator_data_adapter.models import EventStatus, ResultStatus, RunStatus
from test_coordinator_data_adapter.testing.builders import (
    a_chaos_event,
    a_test_result,
    a_test_run,
)

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
NO_FAULT, NO_ASSERTION, NO_TARGET = VacuousReason
FINISHED = a_test_run(status=RunStatus.PASSED, completed_at=NOON + 60 * SECOND)


def event(**fields):
    return a_chaos_event(**({"injected_at": NOON} | fields))


def result(**fields):
    return a_test_result(**({"phase": "during", "verification_time": NOON + SECOND} | fields))


# Active faults


@pytest.mark.parametrize(
    ("fields", "run", "seconds"),
    [
        ({"recovered_at": NOON + 5 * SECOND, "duration_ms": 9000}, FINISHED, 5),
        ({"duration_ms": 9000}, FINISHED, 9),
        ({}, FINISHED, 60),
        ({"duration_ms": 0}, FINISHED, 0),
    ],
)
def test_a_fault_is_active_from_its_injection_to_its_end_both_included(fields, run, seconds):
    fault, end = event(**fields), NOON + seconds * SECOND

    assert active_until(fault, run) == end
    assert is_active(fault, run, NOON)
    assert is_active(fault, run, end)
    assert not is_active(fault, run, end + timedelta(microseconds=1))
    assert not is_active(fault, run, NOON - timedelta(microseconds=1))


@pytest.mark.parametrize("run", [None, a_test_run(status=RunStatus.RUNNING)])
def test_a_fault_whose_end_is_unknown_stays_active(run):
    assert active_until(event(), run) is None
    assert is_active(event(), run, NOON + timedelta(days=1000))


def test_a_fault_of_a_duration_beyond_all_timestamps_has_no_known_end():
    assert active_until(event(duration_ms=2**63 - 1), FINISHED) is None
    assert is_active(event(duration_ms=2**63 - 1), FINISHED, NOON + 90 * SECOND)


def test_a_fault_that_is_still_pending_is_never_active():
    assert not is_active(event(status=EventStatus.PENDING), FINISHED, NOON)


def test_the_active_faults_of_a_run_keep_their_order():
    late = event(injected_at=NOON + 2 * SECOND)
    short = event(duration_ms=1000)
    long = event(duration_ms=30_000)

    faults = active_faults([late, short, long], FINISHED, NOON + 3 * SECOND)

    assert faults == [late, long]


# Recovery


@pytest.mark.parametrize(
    ("fields", "status", "never"),
    [
        ({"detected_at": NOON}, RunStatus.FAILED, True),
        ({"detected_at": NOON}, RunStatus.CANCELLED, True),
        ({"detected_at": NOON}, RunStatus.RUNNING, False),
        ({"detected_at": NOON, "recovered_at": NOON + SECOND}, RunStatus.FAILED, False),
        ({}, RunStatus.FAILED, False),
        ({"status": EventStatus.FAILED}, RunStatus.FAILED, False),
    ],
)
def test_never_recovered_is_what_was_detected_and_had_not_recovered_when_the_run_finished(
    fields, status, never
):
    assert is_never_recovered(event(**fields), a_test_run(status=status)) is never


def test_a_fault_without_its_run_is_not_known_to_have_never_recovered():
    assert not is_never_recovered(event(detected_at=NOON), None)


@pytest.mark.parametrize(
    ("fault", "results", "expected"),
    [
        ({}, [{}], True),
        ({}, [{}, {"phase": "method"}], True),
        ({"detected_at": NOON + SECOND}, [{}], False),
        ({}, [{"status": ResultStatus.FAILED}], False),
        ({}, [{"status": ResultStatus.SKIPPED}], False),
        ({}, [], False),
        ({"duration_ms": 500}, [{}], False),  # checked when the fault was over
        ({"status": EventStatus.PENDING}, [{}], False),
    ],
)
def test_a_fault_has_no_visible_effect_when_checks_ran_while_it_was_active_and_none_missed(
    fault, results, expected
):
    checks = [result(**fields) for fields in results]

    assert has_no_visible_effect(event(**fault), FINISHED, checks) is expected


# Vacuous passes


@pytest.mark.parametrize(
    ("events", "results", "reasons"),
    [
        ([{}], [{}], []),
        ([{}], [{"phase": "after"}], []),
        ([{"output": ["pod"]}, {"output": []}], [{}], []),
        ([{"output": {}}], [{}], []),
        ([], [{}], [NO_FAULT]),
        ([{"status": EventStatus.PENDING}], [{}], [NO_FAULT]),
        ([{"output": []}, {"output": []}], [{}], [NO_TARGET]),
        ([{"output": []}, {"status": EventStatus.PENDING}], [{}], [NO_TARGET]),
        ([{}], [], [NO_ASSERTION]),
        ([{}], [{"phase": "before"}, {"phase": "method"}, {"phase": None}], [NO_ASSERTION]),
        ([{}], [{"status": ResultStatus.SKIPPED}], [NO_ASSERTION]),
        ([], [], [NO_FAULT, NO_ASSERTION]),
    ],
)
def test_a_passed_run_without_a_fault_or_an_assertion_proves_nothing(events, results, reasons):
    found = vacuous_reasons(
        FINISHED, [event(**fields) for fields in events], [result(**fields) for fields in results]
    )

    assert set(found) == set(reasons)


@pytest.mark.parametrize("status", [status for status in RunStatus if status != "passed"])
def test_only_a_passed_run_can_be_vacuous(status):
    assert vacuous_reasons(a_test_run(status=status), [], []) == []
