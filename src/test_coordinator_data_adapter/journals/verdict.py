"""Whether a journal's run passed, which its own status does not say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from test_coordinator_data_adapter.journals.document import Evaluation, Journal
from test_coordinator_data_adapter.models import RunStatus

__all__ = ["Verdict", "judge"]

# what the experiment itself asks for; a strategy given on the command line is not recorded
_ASKS_BEFORE: Final = {"default", "before-method-only", "continuously"}
_ASKS_AFTER: Final = {"default", "after-method-only", "continuously"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run ended and why.

    Attributes:
        status: cancelled, error, failed or passed.
        reasons: every reason found, the ones that decided first; empty when it passed.
    """

    status: RunStatus
    reasons: tuple[str, ...]


def judge(journal: Journal) -> Verdict:
    """Derives the verdict: cancelled before error, error before failed, failed before passed.

    A phase that the journal does not hold does not count, because it was not meant to run
    (strategies that leave it out, no hypothesis); unless the experiment itself names a
    strategy that has the phase: then its absence is an error, never a pass.
    """
    found = (
        (RunStatus.CANCELLED, tuple(_why_cancelled(journal))),
        (RunStatus.ERROR, tuple(_why_error(journal))),
        (RunStatus.FAILED, tuple(_why_failed(journal))),
    )
    status = next((status for status, reasons in found if reasons), RunStatus.PASSED)
    return Verdict(status, tuple(reason for _, reasons in found for reason in reasons))


def _why_cancelled(journal: Journal) -> Iterator[str]:
    if journal.status == "interrupted":
        yield "the experiment was interrupted"
    elif journal.status is None and journal.end is None:
        yield "the journal was never finished"
    for part, execution in journal.executions():
        if execution.interrupted:
            yield f"{part}: {execution.activity.label} was cut short"
    if journal.dry is not None and journal.dry != "pause":
        yield f"dry run ({journal.dry})"


def _why_error(journal: Journal) -> Iterator[str]:
    if journal.before is not None and not journal.before.met:
        yield f"the baseline was not met, so nothing was injected: {_miss(journal.before)}"
    for part, execution in journal.executions():
        if execution.activity.is_action and execution.raised and not execution.interrupted:
            why = f": {execution.cause}" if execution.cause else ""
            yield f"{part}: {execution.activity.label} raised{why}"
    if journal.status == "aborted":
        yield "the toolkit aborted the experiment after an unexpected error"
    if journal.hypothesis and journal.status != "interrupted":
        if journal.strategy in _ASKS_BEFORE and journal.before is None:
            yield f"the strategy {journal.strategy!r} asks for a baseline and there is none"
        held_before = journal.before is None or journal.before.met
        if held_before and journal.strategy in _ASKS_AFTER and journal.after is None:
            yield f"the strategy {journal.strategy!r} asks for a check afterwards: there is none"


def _why_failed(journal: Journal) -> Iterator[str]:
    for evaluation in journal.during:
        if not evaluation.met:
            yield f"during the method: {_miss(evaluation)}"
            break
    if journal.after is not None and not journal.after.met:
        yield f"after the method: {_miss(journal.after)}"


def _miss(evaluation: Evaluation) -> str:
    if not evaluation.probes:
        return "the hypothesis was not met"
    last = evaluation.probes[-1]
    if last.interrupted:
        return f"{last.activity.label} was cut short"
    if last.raised:
        return f"{last.activity.label} raised" + (f": {last.cause}" if last.cause else "")
    if last.tolerance_met is False:
        return f"{last.activity.label} missed its tolerance"
    return "the hypothesis was not evaluated to its end"
