"""What a Chaos Toolkit journal says, read from the file's bytes and judged by nothing yet."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias, cast

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.journals.files import printable
from test_coordinator_data_adapter.models.values import (
    MAX_MOMENT,
    MIN_MOMENT,
    JsonObject,
    JsonValue,
)

__all__ = [
    "Activity",
    "DryMode",
    "Evaluation",
    "Execution",
    "Journal",
    "parse_journal",
]

DryMode: TypeAlias = Literal["probes", "actions", "activities", "pause"]

_DRY_MODES: Final[dict[object, DryMode]] = {
    "probes": "probes",
    "actions": "actions",
    "activities": "activities",
    "pause": "pause",
}
_WRAPPING: Final = re.compile(r"^(?:chaoslib\.exceptions\.ActivityFailed: )+")
# Every value but the first follows one of these. Those in texts count as well.
_BEFORE_VALUES: Final = (b",", b"[", b"{")
_MAX_VALUES: Final = 4_000_000  # some 500 MB, once parsed
_INTERRUPTION: Final = re.compile(r"\bInterruptExecution\b")


@dataclass(frozen=True, slots=True)
class Activity:
    """One action or probe as the experiment defines it.

    Attributes:
        is_action: an action when true, a probe otherwise.
        name: what the experiment calls it.
        provider: "python", "process", "http", or "" when it names none.
        call: what it calls: "module.func", a process's path or a URL; "" when unknown.
        arguments: the provider's arguments as they stand in the journal.
        pauses: seconds (or references to them) before and after it.
        background: whether the method went on without waiting for it.
        tolerance: what a steady-state probe has to answer.
    """

    is_action: bool
    name: str
    provider: str
    call: str
    arguments: JsonValue
    pauses: JsonValue
    background: bool
    tolerance: JsonValue

    @property
    def label(self) -> str:
        """How messages name it."""
        kind = "action" if self.is_action else "probe"
        return f"{kind} {self.name!r}" + (f" ({printable(self.call)})" if self.call else "")


@dataclass(frozen=True, slots=True)
class Execution:
    """One activity as it was carried out.

    Attributes:
        activity: what was carried out.
        status: "succeeded" or what else the journal says; None when it was cut short.
        output: what it answered.
        start: when it began, or None when a harsh exit lost it.
        end: when it ended, or None.
        duration_s: seconds, or None.
        exception: the traceback, or "".
        tolerance_met: what the toolkit said of a steady-state probe, or None.
    """

    activity: Activity
    status: str | None
    output: JsonValue
    start: datetime | None
    end: datetime | None
    duration_s: float | None
    exception: str
    tolerance_met: bool | None

    @property
    def interrupted(self) -> bool:
        """It was cut short: it has no status, or its exception names InterruptExecution."""
        return self.status is None or _INTERRUPTION.search(self.exception) is not None

    @property
    def raised(self) -> bool:
        """It was carried out and did not succeed."""
        return self.status is not None and self.status != "succeeded"

    @property
    def cause(self) -> str:
        """The last line of its traceback, which says what went wrong; "" without one.

        The toolkit wraps every error in one of its own; that wrapping is left out.
        """
        lines = [line.strip() for line in self.exception.splitlines() if line.strip()]
        return _WRAPPING.sub("", lines[-1]) if lines else ""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The hypothesis evaluated once, probe by probe, up to the first that missed."""

    met: bool
    probes: tuple[Execution, ...]

    @property
    def start(self) -> datetime | None:
        """When its first probe began."""
        return self.probes[0].start if self.probes else None

    @property
    def end(self) -> datetime | None:
        """When its last probe ended."""
        return self.probes[-1].end if self.probes else None


@dataclass(frozen=True, slots=True)
class Journal:
    """A whole journal.

    Attributes:
        experiment: the definition without its secrets.
        title: the experiment's title.
        node: the machine it ran on.
        platform: that machine's system.
        version: of the Chaos Toolkit library that wrote it.
        status: the journal's own status, which is no verdict; None when it was never ended.
        deviated: the journal's own word on deviation.
        dry: the dry mode of the whole experiment, or None.
        strategy: the hypothesis strategy the experiment itself names, or None.
        start: when it began.
        end: when it ended, or None.
        duration_s: seconds, or None.
        hypothesis: the steady-state probes; empty without a hypothesis.
        method: the method's activities.
        before: the hypothesis before the method, or None when it was not evaluated.
        during: each evaluation of a continuous hypothesis, oldest first.
        after: the hypothesis after the method, or None when it was not evaluated.
        run: the method's activities as carried out.
        rollbacks: the rollbacks as carried out.
        scenario_id: from the experiment's extensions, or None.
        correlation_id: from the experiment's extensions, or None.
    """

    experiment: JsonObject
    title: str
    node: str
    platform: str
    version: str
    status: str | None
    deviated: bool
    dry: DryMode | None
    strategy: str | None
    start: datetime
    end: datetime | None
    duration_s: float | None
    hypothesis: tuple[Activity, ...]
    method: tuple[Activity, ...]
    before: Evaluation | None
    during: tuple[Evaluation, ...]
    after: Evaluation | None
    run: tuple[Execution, ...]
    rollbacks: tuple[Execution, ...]
    scenario_id: str | None
    correlation_id: str | None

    def executions(self) -> Iterator[tuple[str, Execution]]:
        """Everything that was carried out, each with the name of its part, in the order of time."""
        if self.before is not None:
            yield from (("before", probe) for probe in self.before.probes)
        yield from (("method", execution) for execution in self.run)
        for evaluation in self.during:
            yield from (("during", probe) for probe in evaluation.probes)
        if self.after is not None:
            yield from (("after", probe) for probe in self.after.probes)
        yield from (("rollbacks", execution) for execution in self.rollbacks)

    def was_executed(self, activity: Activity) -> bool:
        """Whether the dry mode let this activity do anything."""
        if self.dry == "activities":
            return False
        return self.dry != ("actions" if activity.is_action else "probes")


def parse_journal(content: bytes) -> Journal:
    """Reads a journal.

    Args:
        content: the file's bytes: JSON in UTF-8, with or without a byte order mark.

    Returns:
        The journal; times without a zone, as old versions wrote them, are UTC, and
        ``experiment.secrets`` is gone.

    Raises:
        InvalidValueError: it is no JSON, or JSON but no journal; the message says where.
    """
    if sum(map(content.count, _BEFORE_VALUES)) > _MAX_VALUES:
        raise InvalidValueError(f"contains more than {_MAX_VALUES:,} values")
    try:
        document = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as broken:
        raise InvalidValueError(f"is not UTF-8 (byte {broken.start})") from None
    except json.JSONDecodeError as broken:
        what = "is empty" if not content.strip() else "is not JSON"
        raise InvalidValueError(
            f"{what} (line {broken.lineno}, column {broken.colno}: {broken.msg})"
        ) from None
    except RecursionError:
        raise InvalidValueError("is JSON nested too deeply to be read") from None
    except ValueError:
        raise InvalidValueError("holds a number with too many digits to be read") from None
    if not isinstance(document, dict):
        raise _foreign("it is not a JSON object")
    return _journal(cast("dict[str, JsonValue]", document))


def _journal(document: dict[str, JsonValue]) -> Journal:
    experiment = document.get("experiment")
    if not isinstance(experiment, dict):
        raise _foreign("it has no object 'experiment'")
    definition = {
        key: value
        for key, value in cast("dict[str, JsonValue]", experiment).items()
        if key != "secrets"
    }
    title = definition.get("title")
    if not isinstance(title, str) or not title.strip():
        raise _foreign("'experiment' has no title")
    if not isinstance(document.get("run"), list):
        raise _foreign("it has no list 'run'")
    start = _moment(document.get("start"), "start")
    if start is None:
        raise _foreign("it has no time 'start'")
    states = _object(document.get("steady_states"), "steady_states")
    named = _named_activities(definition)
    hypothesis = _object(definition.get("steady-state-hypothesis"), "steady-state-hypothesis")
    runtime = _object(definition.get("runtime"), "experiment.runtime")
    chosen = _object(runtime.get("hypothesis"), "experiment.runtime.hypothesis")
    return Journal(
        experiment=definition,
        title=title,
        node=_text(document.get("node"), "node") or "",
        platform=_text(document.get("platform"), "platform") or "",
        version=_text(document.get("chaoslib-version"), "chaoslib-version") or "",
        status=_text(document.get("status"), "status"),
        deviated=document.get("deviated") is True,
        dry=_dry(definition.get("dry")),
        strategy=_text(chosen.get("strategy"), "experiment.runtime.hypothesis.strategy"),
        start=start,
        end=_moment(document.get("end"), "end"),
        duration_s=_seconds(document.get("duration")),
        hypothesis=_activities(hypothesis.get("probes"), "steady-state-hypothesis.probes", named),
        method=_activities(definition.get("method"), "experiment.method", named),
        before=_evaluation(states.get("before"), "steady_states.before", named),
        during=tuple(
            evaluation
            for position, state in enumerate(_list(states.get("during"), "steady_states.during"))
            if (evaluation := _evaluation(state, f"steady_states.during[{position}]", named))
        ),
        after=_evaluation(states.get("after"), "steady_states.after", named),
        run=_executions(document.get("run"), "run", named),
        rollbacks=_executions(document.get("rollbacks"), "rollbacks", named),
        scenario_id=_from_extensions(definition, "scenario_id"),
        correlation_id=_from_extensions(definition, "correlation_id"),
    )


def _named_activities(definition: dict[str, JsonValue]) -> dict[str, dict[str, JsonValue]]:
    """The activities that a ``ref`` elsewhere can mean, by name; the first of a name wins."""
    hypothesis = _object(definition.get("steady-state-hypothesis"), "steady-state-hypothesis")
    named: dict[str, dict[str, JsonValue]] = {}
    for place, held in (
        ("steady-state-hypothesis.probes", hypothesis.get("probes")),
        ("experiment.method", definition.get("method")),
        ("experiment.rollbacks", definition.get("rollbacks")),
    ):
        for position, value in enumerate(_list(held, place)):
            activity = _object(value, f"{place}[{position}]")
            if isinstance(name := activity.get("name"), str):
                named.setdefault(name, activity)
    return named


def _activities(
    value: JsonValue, place: str, named: dict[str, dict[str, JsonValue]]
) -> tuple[Activity, ...]:
    return tuple(
        _activity(item, f"{place}[{position}]", named)
        for position, item in enumerate(_list(value, place))
    )


def _activity(value: JsonValue, place: str, named: dict[str, dict[str, JsonValue]]) -> Activity:
    held = _object(value, place)
    if isinstance(reference := held.get("ref"), str):
        if reference not in named:
            raise InvalidValueError(f"is damaged: {place} refers to an activity that is not there")
        held = named[reference]
    name = held.get("name")
    kind = held.get("type")
    if not isinstance(name, str) or not name:
        raise InvalidValueError(f"is damaged: {place} has no name")
    if kind not in ("action", "probe"):
        raise InvalidValueError(f"is damaged: {place}.type is neither 'action' nor 'probe'")
    provider = _object(held.get("provider"), f"{place}.provider")
    return Activity(
        is_action=kind == "action",
        name=name,
        provider=_text(provider.get("type"), f"{place}.provider.type") or "",
        call=_call(provider),
        arguments=provider.get("arguments"),
        pauses=held.get("pauses"),
        background=held.get("background") is True,
        tolerance=held.get("tolerance"),
    )


def _call(provider: dict[str, JsonValue]) -> str:
    module, func = provider.get("module"), provider.get("func")
    if isinstance(module, str) and isinstance(func, str):
        return f"{module}.{func}"
    for key in ("path", "url"):
        if isinstance(held := provider.get(key), str):
            return held
    return ""


def _executions(
    value: JsonValue, place: str, named: dict[str, dict[str, JsonValue]]
) -> tuple[Execution, ...]:
    return tuple(
        _execution(item, f"{place}[{position}]", named)
        for position, item in enumerate(_list(value, place))
    )


def _execution(value: JsonValue, place: str, named: dict[str, dict[str, JsonValue]]) -> Execution:
    held = _object(value, place)
    met = held.get("tolerance_met")
    return Execution(
        activity=_activity(held.get("activity"), f"{place}.activity", named),
        status=_text(held.get("status"), f"{place}.status"),
        output=held.get("output"),
        start=_moment(held.get("start"), f"{place}.start"),
        end=_moment(held.get("end"), f"{place}.end"),
        duration_s=_seconds(held.get("duration")),
        exception=_traceback(held.get("exception")),
        tolerance_met=met if isinstance(met, bool) else None,
    )


def _evaluation(
    value: JsonValue, place: str, named: dict[str, dict[str, JsonValue]]
) -> Evaluation | None:
    if value is None:
        return None
    held = _object(value, place)
    return Evaluation(
        met=held.get("steady_state_met") is True,
        probes=_executions(held.get("probes"), f"{place}.probes", named),
    )


def _from_extensions(definition: dict[str, JsonValue], key: str) -> str | None:
    for position, item in enumerate(_list(definition.get("extensions"), "experiment.extensions")):
        place = f"experiment.extensions[{position}]"
        held = _object(item, place).get(key)
        if held is not None:
            if not isinstance(held, str):
                raise InvalidValueError(f"is damaged: {place}.{key} is not text")
            return held
    return None


def _dry(value: JsonValue) -> DryMode | None:
    if not value:
        return None
    if value is True:  # before modes existed, dry meant that nothing was executed
        return "activities"
    if isinstance(value, str) and value in _DRY_MODES:
        return _DRY_MODES[value]
    raise InvalidValueError(
        "is damaged: experiment.dry is none of probes, actions, activities, pause"
    )


def _moment(value: JsonValue, place: str) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise InvalidValueError(f"is damaged: {place} is not a time in ISO 8601") from None
    if not MIN_MOMENT <= moment < MAX_MOMENT:
        raise InvalidValueError(f"is damaged: {place} is not between 1970-01-01 and 9999-12-31")
    return moment


def _seconds(value: JsonValue) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < 2**52 and math.isfinite(value) else None


def _traceback(value: JsonValue) -> str:
    if isinstance(value, list):
        return "".join(str(line) for line in cast("Iterable[JsonValue]", value))
    return value if isinstance(value, str) else ""


def _text(value: JsonValue, place: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidValueError(f"is damaged: {place} is not text")
    return value


def _list(value: JsonValue, place: str) -> Sequence[JsonValue]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidValueError(f"is damaged: {place} is not a list")
    return cast("Sequence[JsonValue]", value)


def _object(value: JsonValue, place: str) -> dict[str, JsonValue]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidValueError(f"is damaged: {place} is not an object")
    return cast("dict[str, JsonValue]", value)


def _foreign(why: str) -> InvalidValueError:
    return InvalidValueError(f"is not a Chaos Toolkit journal: {why}")
