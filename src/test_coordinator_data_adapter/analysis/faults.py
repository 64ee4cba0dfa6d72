"""Which fault was in effect when, whether it was survived, and whether a run proved anything."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum

from test_coordinator_data_adapter.models.chaos_event import ChaosEvent, EventStatus
from test_coordinator_data_adapter.models.test_result import TestResult
from test_coordinator_data_adapter.models.test_run import RunStatus, TestRun

__all__ = [
    "VacuousReason",
    "active_faults",
    "active_until",
    "has_no_visible_effect",
    "is_active",
    "is_never_recovered",
    "vacuous_reasons",
]

_PROVING_PHASES = frozenset({"during", "after"})


class VacuousReason(StrEnum):
    """Why a passed run proves nothing."""

    NO_FAULT = "no fault was injected"
    NO_ASSERTION = "no assertion was evaluated during or after a fault"
    NO_TARGET = "no fault hit anything"


def active_until(event: ChaosEvent, run: TestRun | None) -> datetime | None:
    """The end of the time in which a fault is in effect; it starts at ``injected_at``.

    Args:
        event: the fault.
        run: its run; None when it is not stored.

    Returns:
        ``recovered_at``; without it ``injected_at`` plus ``duration_ms``; without that the
        run's ``completed_at``; None when that is unknown too: the fault has no known end.
    """
    if event.recovered_at is not None:
        return event.recovered_at
    if event.duration_ms is not None:
        try:
            return event.injected_at + timedelta(milliseconds=event.duration_ms)
        except OverflowError:
            return None
    return None if run is None else run.completed_at


def is_active(event: ChaosEvent, run: TestRun | None, at: datetime) -> bool:
    """Whether a fault is in effect at a time, both ends of `active_until` included.

    A fault that is still pending was not injected and is never in effect.
    """
    if event.status is EventStatus.PENDING or at < event.injected_at:
        return False
    until = active_until(event, run)
    return until is None or at <= until


def active_faults(
    events: Iterable[ChaosEvent], run: TestRun | None, at: datetime
) -> list[ChaosEvent]:
    """The faults of a run that are in effect at a time, in the order given."""
    return [event for event in events if is_active(event, run, at)]


def is_never_recovered(event: ChaosEvent, run: TestRun | None) -> bool:
    """Whether a service was hit and had not recovered when its run finished.

    That is: ``detected_at`` is set, ``recovered_at`` is not, and the run is finished.
    """
    return (
        event.detected_at is not None
        and event.recovered_at is None
        and run is not None
        and run.status.is_finished
    )


def has_no_visible_effect(
    event: ChaosEvent, run: TestRun | None, results: Iterable[TestResult]
) -> bool:
    """Whether assertions were evaluated while a fault was in effect and none of them missed.

    This is the best outcome ("no effect seen"), not a vacuous pass.

    Args:
        event: the fault.
        run: its run; None when it is not stored.
        results: the results of that run.
    """
    checked = [
        result
        for result in results
        if result.status.is_judged and is_active(event, run, result.verification_time)
    ]
    passed = all(result.status == "passed" for result in checked)
    return event.detected_at is None and bool(checked) and passed


def vacuous_reasons(
    run: TestRun, events: Iterable[ChaosEvent], results: Iterable[TestResult]
) -> list[VacuousReason]:
    """Why a passed run proves nothing.

    Args:
        run: the run.
        events: all events of it.
        results: all results of it.

    Returns:
        NO_FAULT when no event is beyond pending; NO_TARGET when the output of every event
        beyond pending is an empty list; NO_ASSERTION when no result of the phases during and
        after is passed, failed or error. Empty when the pass means something, and for a run
        that did not pass.
    """
    if run.status is not RunStatus.PASSED:
        return []
    outputs = [event.output for event in events if event.status is not EventStatus.PENDING]
    judged = any(result.status.is_judged and result.phase in _PROVING_PHASES for result in results)
    reasons = {
        VacuousReason.NO_FAULT: not outputs,
        VacuousReason.NO_TARGET: bool(outputs) and all(output == [] for output in outputs),
        VacuousReason.NO_ASSERTION: not judged,
    }
    return [reason for reason, applies in reasons.items() if applies]
