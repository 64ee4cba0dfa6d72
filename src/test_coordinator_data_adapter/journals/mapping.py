"""Which fault and which assertion an activity is, because a journal does not say."""

from __future__ import annotations

import fnmatch
import re
import reprlib
import tomllib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Final, TypeVar, cast

from test_coordinator_data_adapter.errors import ConfigurationError, InvalidValueError
from test_coordinator_data_adapter.journals.document import Activity
from test_coordinator_data_adapter.journals.files import printable, read_file
from test_coordinator_data_adapter.models import AssertionType, EventType, ScenarioType
from test_coordinator_data_adapter.models.values import JsonValue

__all__ = [
    "MAX_MAPPING_BYTES",
    "Fault",
    "Mapping",
    "Unmapped",
    "load_mapping",
    "parse_mapping",
    "shipped_mapping",
]

Kind = TypeVar("Kind", bound=StrEnum)

MAX_MAPPING_BYTES: Final = 256 * 1024
"""A larger mapping file is refused unread."""

_MAX_PATTERNS: Final = 1000
_MAX_PATTERN_LENGTH: Final = 1000
_MAX_DOTS: Final = 100
# Texts and comments of a line of TOML, which may contain any number of dots.
_QUOTED_OR_COMMENT: Final = re.compile(r""""(?:[^"\\]|\\.)*(?:"|\\?$)|'[^']*(?:'|$)|#.*""")

_FAMILIES: Final = {
    EventType.SERVICE_RESTART: ScenarioType.SERVICE_RESTART,
    EventType.SERVICE_KILL: ScenarioType.SERVICE_RESTART,
    EventType.NETWORK_PARTITION: ScenarioType.NETWORK_PARTITION,
    EventType.NETWORK_LATENCY: ScenarioType.NETWORK_LATENCY,
    EventType.NETWORK_PACKET_LOSS: ScenarioType.NETWORK_LATENCY,
    EventType.CPU_STRESS: ScenarioType.RESOURCE_EXHAUSTION,
    EventType.MEMORY_STRESS: ScenarioType.RESOURCE_EXHAUSTION,
    EventType.DISK_IO_STRESS: ScenarioType.RESOURCE_EXHAUSTION,
    EventType.CLOCK_SKEW: None,  # no scenario type is about clocks: the title has to say
}


@dataclass(frozen=True, slots=True)
class Fault:
    """What an action injects, and into which service."""

    event_type: EventType
    target_service: str


@dataclass(frozen=True, slots=True)
class Unmapped:
    """Something no rule maps, and the lines of TOML that would.

    Attributes:
        what: the activity or title and what is missing.
        lines: what to add to the mapping file; the values to choose are spelled out.
    """

    what: str
    lines: str


@dataclass(frozen=True, slots=True)
class _Patterns:
    texts: tuple[str, ...]
    compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        alternatives = "|".join(fnmatch.translate(text) for text in self.texts)
        object.__setattr__(self, "compiled", re.compile(alternatives, re.IGNORECASE))

    def match(self, candidates: Iterable[str]) -> bool:
        return any(self.compiled.match(candidate) for candidate in candidates)


@dataclass(frozen=True, slots=True)
class _EventRule:
    patterns: _Patterns
    event_type: EventType
    target_arguments: tuple[str, ...]
    target_service: str | None


@dataclass(frozen=True, slots=True)
class _AssertionRule:
    patterns: _Patterns
    assertion_type: AssertionType


@dataclass(frozen=True, slots=True)
class _ScenarioRule:
    patterns: _Patterns
    scenario_type: ScenarioType


@dataclass(frozen=True, slots=True)
class Mapping:
    """Rules in the order in which they are tried; the first that matches wins.

    Patterns are shell wildcards without regard to case, tried against what an activity
    calls ("module.func", a process's path, a URL) and against its name.

    Attributes:
        events: which fault an action injects, and where.
        assertions: what a steady-state probe asserts.
        scenarios: which kind of scenario a title stands for.
        late_scenarios: the same, asked only when the actions do not decide it either.
    """

    events: tuple[_EventRule, ...] = ()
    assertions: tuple[_AssertionRule, ...] = ()
    scenarios: tuple[_ScenarioRule, ...] = ()
    late_scenarios: tuple[_ScenarioRule, ...] = ()

    def then(self, other: Mapping) -> Mapping:
        """These rules, and after them the other ones; its rules for titles come last of all."""
        return Mapping(
            self.events + other.events,
            self.assertions + other.assertions,
            self.scenarios,
            self.late_scenarios + other.scenarios + other.late_scenarios,
        )

    def fault(self, action: Activity) -> Fault | Unmapped:
        """What this action injects; the target comes from the rule that matched first."""
        for rule in self.events:
            if rule.patterns.match(_names(action)):
                target = _target(rule, action)
                if target is not None:
                    return Fault(rule.event_type, target)
                return Unmapped(
                    f"{action.label} is a {rule.event_type}, but of which service no rule says",
                    _lines("event", _pattern(action), f'event_type = "{rule.event_type}"', _TARGET),
                )
        return Unmapped(
            f"{action.label} matches no rule for faults",
            _lines("event", _pattern(action), _choice("event_type", EventType), _TARGET),
        )

    def assertion(self, probe: Activity) -> AssertionType | Unmapped:
        """What this steady-state probe asserts."""
        for rule in self.assertions:
            if rule.patterns.match(_names(probe)):
                return rule.assertion_type
        return Unmapped(
            f"{probe.label} matches no rule for assertions",
            _lines("assertion", _pattern(probe), _choice("assertion_type", AssertionType)),
        )

    def scenario(self, title: str, faults: Sequence[Fault]) -> ScenarioType | Unmapped:
        """Which kind of scenario this is: by its title, else by its faults, else by its title.

        Faults of one family make its kind, faults of several make it combined.
        """
        for rule in self.scenarios:
            if rule.patterns.match((title,)):
                return rule.scenario_type
        if (kind := _family(faults)) is not None:
            return kind
        for rule in self.late_scenarios:
            if rule.patterns.match((title,)):
                return rule.scenario_type
        return Unmapped(
            f"the title {title!r} matches no rule for scenarios",
            _lines("scenario", _literal(title), _choice("scenario_type", ScenarioType)),
        )


def _family(faults: Sequence[Fault]) -> ScenarioType | None:
    kinds = {_FAMILIES[fault.event_type] for fault in faults}
    if len(kinds) > 1:
        return ScenarioType.COMBINED
    return kinds.pop() if kinds else None


def load_mapping(path: Path) -> Mapping:
    """Reads a mapping file, with the shipped rules after its own.

    Raises:
        ConfigurationError: it cannot be read, or a rule in it is wrong; says which.
    """
    where = f"mapping file {printable(str(path))}"
    try:
        text = read_file(path, max_bytes=MAX_MAPPING_BYTES).decode("utf-8")
    except InvalidValueError as error:
        raise _wrong(where, str(error)) from None
    except OSError as error:
        raise _wrong(where, error.strerror or "cannot be read") from None
    except UnicodeDecodeError:
        raise _wrong(where, "is not UTF-8") from None
    except ValueError:
        raise _wrong(where, "cannot be the name of a file") from None
    return parse_mapping(text, where=where).then(shipped_mapping())


def _wrong(where: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"{where}: {problem}", setting="mapping file")


@cache
def shipped_mapping() -> Mapping:
    """The rules that come with this package, for common names."""
    rules = files("test_coordinator_data_adapter.journals").joinpath("rules.toml")
    return Mapping().then(parse_mapping(rules.read_text(encoding="utf-8"), where="shipped rules"))


def parse_mapping(text: str, *, where: str) -> Mapping:
    """Reads the TOML of a mapping file.

    Args:
        text: tables ``[[event]]`` (match, event_type, target_service and/or
            target_argument), ``[[assertion]]`` (match, assertion_type) and ``[[scenario]]``
            (match, scenario_type).
        where: how errors call it.

    Raises:
        ConfigurationError: it is no TOML, or a rule in it is wrong; says which.
    """
    # The time that tomllib takes grows with the square of the parts of a key.
    if any(_QUOTED_OR_COMMENT.sub("", line).count(".") > _MAX_DOTS for line in text.split("\n")):
        raise _wrong(where, f"a key has more than {_MAX_DOTS} parts")
    try:
        document: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _wrong(where, f"is not TOML: {error}") from None
    except ValueError:
        raise _wrong(where, "contains a number with too many digits") from None
    except RecursionError:
        raise _wrong(where, "is nested too deeply") from None
    unknown = sorted(document.keys() - {"event", "assertion", "scenario"})
    if unknown:
        raise _wrong(
            where,
            f"unknown {reprlib.repr(unknown[0])}; there are [[event]], [[assertion]], [[scenario]]",
        )
    mapping = Mapping(
        tuple(_event_rule(rule) for rule in _rules(document, "event", where)),
        tuple(
            _AssertionRule(rule.patterns(), rule.member("assertion_type", AssertionType))
            for rule in _rules(document, "assertion", where)
        ),
        tuple(
            _ScenarioRule(rule.patterns(), rule.member("scenario_type", ScenarioType))
            for rule in _rules(document, "scenario", where)
        ),
    )
    patterns = [
        *(rule.patterns for rule in mapping.events),
        *(rule.patterns for rule in mapping.assertions),
        *(rule.patterns for rule in mapping.scenarios),
    ]
    if sum(len(one.texts) for one in patterns) > _MAX_PATTERNS:
        raise _wrong(where, f"has more than {_MAX_PATTERNS} patterns")
    return mapping


_KEYS: Final = {
    "event": {"match", "event_type", "target_service", "target_argument"},
    "assertion": {"match", "assertion_type"},
    "scenario": {"match", "scenario_type"},
}


@dataclass(frozen=True, slots=True)
class _RawRule:
    held: dict[str, object]
    where: str

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.held.get(key)
        items = cast("list[object]", value) if isinstance(value, list) else [value]
        if not items or not all(isinstance(item, str) and item for item in items):
            raise _wrong(self.where, f"{key} must be text or a list of texts")
        return tuple(cast("list[str]", items))

    def patterns(self) -> _Patterns:
        if "match" not in self.held:
            raise _wrong(self.where, "has no 'match'")
        texts = self.texts("match")
        if len(texts) > _MAX_PATTERNS or max(map(len, texts)) > _MAX_PATTERN_LENGTH:
            raise _wrong(
                self.where,
                f"match must be at most {_MAX_PATTERNS} patterns of at most"
                f" {_MAX_PATTERN_LENGTH} characters",
            )
        return _Patterns(texts)

    def member(self, key: str, kind: type[Kind]) -> Kind:
        value = self.held.get(key)
        for member in kind:
            if member.value == value:
                return member
        raise _wrong(
            self.where, f"{key} must be one of {', '.join(member.value for member in kind)}"
        )


def _rules(document: dict[str, object], table: str, where: str) -> list[_RawRule]:
    held = document.get(table, [])
    if not isinstance(held, list):
        raise _wrong(where, f"write [[{table}]], with double brackets")
    rules: list[_RawRule] = []
    for number, item in enumerate(cast("list[object]", held), start=1):
        name = f"{where}: [[{table}]] number {number}"
        if not isinstance(item, dict):
            raise _wrong(name, "is not a table")
        rule = cast("dict[str, object]", item)
        if unknown := sorted(rule.keys() - _KEYS[table]):
            raise _wrong(
                name,
                f"unknown key {reprlib.repr(unknown[0])}; there are"
                f" {', '.join(sorted(_KEYS[table]))}",
            )
        rules.append(_RawRule(rule, name))
    return rules


def _event_rule(rule: _RawRule) -> _EventRule:
    patterns = rule.patterns()
    event_type = rule.member("event_type", EventType)
    arguments = rule.texts("target_argument") if "target_argument" in rule.held else ()
    service = rule.held.get("target_service")
    if service is not None and (not isinstance(service, str) or not service):
        raise _wrong(rule.where, "target_service must be text")
    if not arguments and service is None:
        raise _wrong(rule.where, "needs a 'target_service', or a 'target_argument' that names it")
    return _EventRule(patterns, event_type, arguments, service)


def _names(activity: Activity) -> tuple[str, ...]:
    return (activity.call, activity.name) if activity.call else (activity.name,)


def _target(rule: _EventRule, action: Activity) -> str | None:
    arguments: JsonValue = action.arguments
    if isinstance(arguments, dict):
        for name in rule.target_arguments:
            value = cast("dict[str, object]", arguments).get(name)
            if isinstance(value, str) and value:
                return value
    return rule.target_service


_TARGET: Final = 'target_service = "..."  # or target_argument = "<an argument that names it>"'


def _choice(key: str, kind: type[StrEnum]) -> str:
    return f'{key} = "..."  # one of: {", ".join(member.value for member in kind)}'


def _lines(table: str, match: str, *rest: str) -> str:
    return "\n".join((f"[[{table}]]", f"match = {match}", *rest))


def _pattern(activity: Activity) -> str:
    return _literal(activity.call or activity.name)


def _literal(text: str) -> str:
    """A TOML string with a pattern that matches exactly this text."""
    return '"' + "".join(_toml_character(character) for character in text) + '"'


def _toml_character(character: str) -> str:
    if character in "*?[":
        return f"[{character}]"
    if character in '"\\':
        return "\\" + character
    if unicodedata.category(character) == "Cs":
        return "?"  # a lone surrogate can stand in no file
    return character if character.isprintable() else f"\\U{ord(character):08X}"
