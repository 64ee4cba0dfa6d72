"""A journal turned into the records that are stored: scenario, run, chaos events, results."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar, cast
from uuid import UUID, uuid5

from pydantic import ValidationError

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.journals.document import (
    Activity,
    Evaluation,
    Execution,
    Journal,
    parse_journal,
)
from test_coordinator_data_adapter.journals.mapping import Fault, Mapping, Unmapped
from test_coordinator_data_adapter.journals.verdict import judge
from test_coordinator_data_adapter.models import (
    AssertionType,
    ChaosEvent,
    EventStatus,
    ResultStatus,
    Scenario,
    ScenarioStatus,
    ScenarioType,
    TestResult,
    TestRun,
)
from test_coordinator_data_adapter.models.entity import Entity, invalid_value
from test_coordinator_data_adapter.models.values import JsonObject, JsonValue

__all__ = ["MAX_TEXT", "JournalRecords", "defined_by", "read_journal"]

MAX_TEXT: Final = 8192
"""Characters of expected values, actual values and error texts; what is longer is cut."""

_CREATED_BY: Final = "chaostoolkit"
_NAMESPACE: Final = UUID("b1f2dd2a-6c2b-5f0e-9b53-6d1f6d3f8a54")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")

EntityT = TypeVar("EntityT", bound=Entity)


@dataclass(frozen=True, slots=True)
class JournalRecords:
    """Everything that one journal becomes.

    Attributes:
        scenario: the experiment's definition.
        run: the run with its verdict.
        events: one per action of the method, in the order they were carried out.
        results: one per steady-state probe and phase, in the order of the phases.
    """

    scenario: Scenario
    run: TestRun
    events: tuple[ChaosEvent, ...]
    results: tuple[TestResult, ...]


def read_journal(content: bytes, mapping: Mapping) -> JournalRecords:
    """Turns the bytes of a journal into records; the same bytes give the same records.

    Records carry the times of the journal, also in ``created_at``: queries by time find the
    run when it took place, and retention counts from there.

    Args:
        content: the file's bytes.
        mapping: which fault and which assertion an activity is.

    Raises:
        InvalidValueError: it is no journal, a value in it cannot be stored, or something in
            it cannot be mapped; the message then holds the lines to add to the mapping.
    """
    try:
        return _Conversion(parse_journal(content), mapping).records()
    except RecursionError:
        raise InvalidValueError("is JSON nested too deeply to be stored") from None


def defined_by(scenario: Scenario) -> tuple[str, str] | None:
    """Which journal a stored definition comes from: its start and its run, in that order.

    The greater one is the newer one. None for a scenario that no journal defined.
    """
    start = scenario.configuration.get("defined_at")
    run_id = scenario.configuration.get("defined_by_run")
    if scenario.created_by == _CREATED_BY and isinstance(start, str) and isinstance(run_id, str):
        return start, run_id
    return None


class _Conversion:
    """One journal on its way; the ids it derives and what its activities map to."""

    def __init__(self, journal: Journal, mapping: Mapping) -> None:
        self._journal = journal
        self._mapping = mapping
        self._definition = _definition(journal.experiment)
        self._scenario_id = journal.scenario_id
        if self._scenario_id is None:
            self._scenario_id = str(uuid5(_NAMESPACE, f"scenario {_canonical(self._definition)}"))
        identity = [journal.node, journal.start.isoformat(), self._definition]
        self._run_id = str(uuid5(_NAMESPACE, f"run {_canonical(identity)}"))

    def records(self) -> JournalRecords:
        journal = self._journal
        actions = [execution for execution in journal.run if execution.activity.is_action]
        planned = [activity for activity in journal.method if activity.is_action]
        checks = list(self._checks())

        faults = [self._mapping.fault(execution.activity) for execution in actions]
        planned_faults = [self._mapping.fault(activity) for activity in planned]
        assertions = [self._mapping.assertion(check.probe) for check in checks]
        _refuse_unmapped([*faults, *planned_faults, *assertions])
        known = cast("list[Fault]", planned_faults or faults)
        kind = self._mapping.scenario(journal.title, known)
        _refuse_unmapped([kind])

        return JournalRecords(
            self._scenario(cast("ScenarioType", kind), known),
            self._run(),
            tuple(self._events(actions, cast("list[Fault]", faults))),
            tuple(
                self._result(check, assertion)
                for check, assertion in zip(
                    checks, cast("list[AssertionType]", assertions), strict=True
                )
            ),
        )

    def _scenario(self, kind: ScenarioType, faults: Sequence[Fault]) -> Scenario:
        journal = self._journal
        hypothesis = cast("JsonObject", journal.experiment.get("steady-state-hypothesis") or {})
        outcome = hypothesis.get("title")
        return _built(
            Scenario,
            scenario_id=self._scenario_id,
            name=journal.title,
            description=journal.experiment.get("description"),
            scenario_type=kind,
            status=ScenarioStatus.ACTIVE,
            configuration={
                "experiment": self._definition,
                "defined_at": journal.start.isoformat(timespec="microseconds"),
                "defined_by_run": self._run_id,
            },
            services_under_test=list(dict.fromkeys(fault.target_service for fault in faults)),
            expected_outcomes=[outcome] if outcome else [],
            created_by=_CREATED_BY,
            created_at=journal.start,
            updated_at=journal.start,
            tags=journal.experiment.get("tags") or [],
        )

    def _run(self) -> TestRun:
        journal = self._journal
        verdict = judge(journal)
        duration = _milliseconds(journal.duration_s, journal.start, journal.end)
        return _built(
            TestRun,
            run_id=self._run_id,
            scenario_id=self._scenario_id,
            status=verdict.status,
            started_at=journal.start,
            completed_at=journal.end,
            duration_ms=duration,
            configuration_snapshot={
                "experiment": self._definition,
                "dry": journal.dry,
                "journal_status": journal.status,
                "deviated": journal.deviated,
                "node": journal.node,
                "platform": journal.platform,
                "chaoslib_version": journal.version,
            },
            error_message=_prose("; ".join(verdict.reasons)) if verdict.reasons else None,
            created_at=journal.start,
            updated_at=journal.start,
        )

    # events

    def _events(
        self, actions: Sequence[Execution], faults: Sequence[Fault]
    ) -> Iterator[ChaosEvent]:
        recoveries = self._recoveries(actions)
        for position, (execution, fault) in enumerate(zip(actions, faults, strict=True)):
            activity = execution.activity
            start = execution.start or self._journal.start
            yield _built(
                ChaosEvent,
                event_id=str(uuid5(_NAMESPACE, f"event {self._run_id} {position}")),
                run_id=self._run_id,
                event_type=fault.event_type,
                target_service=fault.target_service,
                parameters={
                    "activity": activity.name,
                    "provider": activity.provider,
                    "func": activity.call,
                    "arguments": activity.arguments,
                    "pauses": activity.pauses,
                    "background": activity.background,
                },
                injected_at=start,
                duration_ms=_milliseconds(execution.duration_s, execution.start, execution.end),
                status=self._event_status(execution),
                recovery_time_ms=recoveries.get(position),
                created_at=start,
            )

    def _event_status(self, execution: Execution) -> EventStatus:
        journal = self._journal
        if not journal.was_executed(execution.activity):
            return EventStatus.PENDING
        if execution.raised or execution.interrupted:
            return EventStatus.FAILED
        held = self._held_after(execution)
        if held is None:
            return EventStatus.INJECTED
        return EventStatus.RECOVERED if held else EventStatus.FAILED

    def _held_after(self, execution: Execution) -> bool | None:
        """Whether the hypothesis held after an action; None when nobody looked."""
        journal = self._journal
        if journal.hypothesis and not journal.was_executed(journal.hypothesis[0]):
            return None
        if journal.after is not None:
            return journal.after.met
        ended = execution.end or execution.start
        later = [
            evaluation
            for evaluation in journal.during
            if ended is not None and evaluation.start is not None and evaluation.start >= ended
        ]
        return later[-1].met if later else None

    def _recoveries(self, actions: Sequence[Execution]) -> dict[int, int]:
        """Milliseconds from first miss to first met, by the position of the action before it.

        A continuous hypothesis saw something when the probe that decided it ended; a miss is
        put down to the action that began last before that.
        """
        if self._journal.dry in ("probes", "activities"):
            return {}
        found: dict[int, int] = {}
        missed_at: datetime | None = None
        for evaluation in self._journal.during:
            seen = evaluation.end
            if seen is None:
                continue
            if not evaluation.met:
                missed_at = missed_at or seen
            elif missed_at is not None:
                cause = self._began_last_before(missed_at, actions)
                if cause is not None:
                    found.setdefault(cause, _whole_milliseconds(seen - missed_at))
                missed_at = None
        return found

    def _began_last_before(self, moment: datetime, actions: Sequence[Execution]) -> int | None:
        begun = [
            (execution.start, position)
            for position, execution in enumerate(actions)
            if execution.start is not None
            and execution.start <= moment
            and self._journal.was_executed(execution.activity)
        ]
        return max(begun)[1] if begun else None

    # results

    def _checks(self) -> Iterator[_Check]:
        journal = self._journal
        for phase, evaluations in (
            ("before", (journal.before,) if journal.before else ()),
            ("during", journal.during),
            ("after", (journal.after,) if journal.after else ()),
        ):
            if not evaluations:
                continue
            count = max(len(evaluation.probes) for evaluation in evaluations)
            for position in range(max(count, len(journal.hypothesis))):
                executions = tuple(
                    evaluation.probes[position]
                    for evaluation in evaluations
                    if position < len(evaluation.probes)
                )
                probe = executions[0].activity if executions else journal.hypothesis[position]
                yield _Check(phase, position, probe, executions, evaluations)

    def _result(self, check: _Check, assertion: AssertionType) -> TestResult:
        journal = self._journal
        outcomes = [(self._outcome(execution), execution) for execution in check.executions]
        # what went wrong first tells most; without anything wrong, the last look does
        status, decisive = next(
            (outcome for outcome in outcomes if outcome[0] is not ResultStatus.PASSED),
            outcomes[-1] if outcomes else (ResultStatus.SKIPPED, None),
        )
        order = timedelta(0)
        if decisive is not None:
            moment = decisive.end or decisive.start or journal.start
        else:
            miss = check.evaluations[-1]
            moment = miss.end or miss.start or journal.start
            # a list of results is ordered by created_at: keep the order of the hypothesis
            order = timedelta(microseconds=check.position)
        return _built(
            TestResult,
            result_id=str(
                uuid5(_NAMESPACE, f"result {self._run_id} {check.phase} {check.position}")
            ),
            run_id=self._run_id,
            assertion_type=assertion,
            expected_value=_json_text(check.probe.tolerance),
            actual_value=_json_text(decisive.output if decisive else None),
            status=status,
            verification_time=moment,
            error_details=self._details(check, status, decisive, outcomes),
            correlation_id=journal.correlation_id,
            created_at=moment + order,
            name=check.probe.name,
            phase=check.phase,
        )

    def _outcome(self, execution: Execution) -> ResultStatus:
        if not self._journal.was_executed(execution.activity):
            return ResultStatus.SKIPPED
        if execution.raised or execution.interrupted or execution.tolerance_met is None:
            return ResultStatus.ERROR
        return ResultStatus.PASSED if execution.tolerance_met else ResultStatus.FAILED

    def _details(
        self,
        check: _Check,
        status: ResultStatus,
        decisive: Execution | None,
        outcomes: Sequence[tuple[ResultStatus, Execution]],
    ) -> str | None:
        if status is ResultStatus.PASSED:
            return None
        if decisive is None:
            miss = check.evaluations[-1].probes
            because = f": {miss[-1].activity.label} ended the evaluation first" if miss else ""
            return _prose(f"not evaluated{because}")
        if status is ResultStatus.SKIPPED:
            return f"not executed: dry run ({self._journal.dry})"
        if status is ResultStatus.FAILED:
            text = "the tolerance was not met"
        elif decisive.raised:
            # the end of a traceback says most, and what is too long is cut at the end
            text = f"{decisive.cause}\n\n{decisive.exception}".strip()
            text = text or "the probe failed without saying why"
        elif decisive.interrupted:
            text = "the probe was cut short"
        else:
            text = "the journal does not say whether the tolerance was met"
        wrong = sum(outcome is not ResultStatus.PASSED for outcome, _ in outcomes)
        count = f"{wrong} of {len(outcomes)} evaluations; first: " if len(outcomes) > 1 else ""
        return _prose(f"{count}{text}")


@dataclass(frozen=True, slots=True)
class _Check:
    """One steady-state probe in one phase, with every time it was carried out there."""

    phase: str
    position: int
    probe: Activity
    executions: tuple[Execution, ...]
    evaluations: Sequence[Evaluation]


def _refuse_unmapped(mapped: Sequence[object]) -> None:
    missing = list(dict.fromkeys(one for one in mapped if isinstance(one, Unmapped)))
    if missing:
        what = "; ".join(one.what for one in missing)
        lines = "\n\n".join(dict.fromkeys(one.lines for one in missing))
        raise InvalidValueError(
            f"{what}. Add to the mapping file (--map) and choose the values:\n\n{lines}"
        )


def _built(kind: type[EntityT], **values: Any) -> EntityT:
    try:
        return kind(**values)
    except ValidationError as broken:
        raise invalid_value(broken, kind) from None


def _definition(experiment: JsonObject) -> JsonObject:
    """The experiment without what differs from run to run.

    That is the dry mode, and the argument ``value`` of a tolerance that is a probe: the
    toolkit writes the value it measured last into the definition.
    """
    definition = {key: value for key, value in experiment.items() if key != "dry"}
    hypothesis = definition.get("steady-state-hypothesis")
    if isinstance(hypothesis, dict):
        probes = cast("JsonObject", hypothesis).get("probes")
        if isinstance(probes, list):
            definition["steady-state-hypothesis"] = {
                **cast("JsonObject", hypothesis),
                "probes": [
                    _without_measured(probe) for probe in cast("Iterable[JsonValue]", probes)
                ],
            }
    return definition


def _without_measured(probe: JsonValue) -> JsonValue:
    held: JsonValue = probe
    path = ("tolerance", "provider", "arguments")
    for key in path:
        held = cast("JsonObject", held).get(key) if isinstance(held, dict) else None
    if (
        not isinstance(held, dict)
        or "value" not in held
        or probe["tolerance"].get("type") != "probe"
    ):
        return probe
    tolerance = probe["tolerance"]
    arguments = {key: value for key, value in cast("JsonObject", held).items() if key != "value"}
    provider = {**tolerance["provider"], "arguments": arguments}
    return {**probe, "tolerance": {**tolerance, "provider": provider}}


def _canonical(value: JsonValue) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _json_text(value: JsonValue) -> str:
    """JSON as text; what text may not hold (NUL, lone surrogates) stands there escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return _cut(_SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def _prose(text: str) -> str:
    """Words as text; what text may not hold (NUL, lone surrogates) becomes U+FFFD."""
    return _cut(_UNSTORABLE.sub("\ufffd", text))


def _cut(text: str) -> str:
    if len(text) <= MAX_TEXT:
        return text
    mark = f" ... [cut, {len(text)} characters in all]"
    return text[: MAX_TEXT - len(mark)] + mark


def _milliseconds(
    seconds: float | None, start: datetime | None, end: datetime | None
) -> int | None:
    if seconds is not None:
        return round(seconds * 1000)
    if start is None or end is None or end < start:
        return None
    return _whole_milliseconds(end - start)


def _whole_milliseconds(span: timedelta) -> int:
    return round(span / timedelta(milliseconds=1))
