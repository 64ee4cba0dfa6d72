"""JUnit XML reports of other tools, read into test cases."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import BinaryIO, Final
from xml.parsers import expat

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.models import ResultStatus
from test_coordinator_data_adapter.models.values import MAX_MOMENT, MIN_MOMENT

__all__ = ["MAX_REPORT_BYTES", "JunitCase", "read_junit"]

MAX_REPORT_BYTES: Final = 64 * 1024 * 1024
"""A larger report is refused."""

_CHUNK_BYTES: Final = 64 * 1024
_MAX_DEPTH: Final = 64
_MAX_MESSAGE_CHARACTERS: Final = 8192
_MAX_MILLISECONDS: Final = 2**63 - 1

# What a child element of a test case says about it, and which of several counts: the worst.
_STATUSES: Final = {
    "skipped": ResultStatus.SKIPPED,
    "failure": ResultStatus.FAILED,
    "error": ResultStatus.ERROR,
}
_SEVERITY: Final = (
    ResultStatus.PASSED,
    ResultStatus.SKIPPED,
    ResultStatus.FAILED,
    ResultStatus.ERROR,
)
# googletest and its relatives list a disabled test as a test case with this status.
_NOT_RUN: Final = frozenset({"notrun", "disabled", "skipped"})
# Surefire lists the failed attempts of one test case within it.
_ATTEMPTS: Final = frozenset({"flakyFailure", "flakyError", "rerunFailure", "rerunError"})
_SUITES: Final = frozenset({"testsuites", "testsuite"})
_UNWANTED: Final = frozenset({"system-out", "system-err", "properties"})


@dataclass(frozen=True, slots=True)
class JunitCase:
    """One test case of a report.

    Attributes:
        name: the names of its suites, its class and itself, joined by " / "; a name that repeats
            the one before it is left out.
        status: the worst of what the report states about it: error, failed, skipped, passed.
        attempts: how often it was run, 1 or more.
        duration_ms: milliseconds, or None when the report has no valid time.
        started_at: when its suite started, UTC, or None. A time without a zone is UTC.
        messages: what the report states about failures, errors and skips, one text for each, in
            the order of the report, each at most 8,192 characters.
    """

    name: str
    status: ResultStatus
    attempts: int = 1
    duration_ms: int | None = None
    started_at: datetime | None = None
    messages: tuple[str, ...] = ()


def read_junit(report: BinaryIO) -> list[JunitCase]:
    """Read the test cases of a JUnit XML report.

    The root may be ``testsuites`` or ``testsuite``, and suites may be nested. Test cases are
    counted by their elements; the counts that a report declares are ignored, because tools
    disagree about them. A test case that is listed several times is one with as many attempts,
    of which the last decides. Properties and captured output are not read.

    Args:
        report: a file opened for reading bytes; at most 64 MiB are read, in chunks.

    Returns:
        The test cases in the order in which each occurs first.

    Raises:
        InvalidValueError: the report is not well-formed XML (with line and column), is larger than
            64 MiB, has a DOCTYPE, has another root, is nested deeper than 64 levels, or lists no
            test case.
    """
    reader = _Reader()
    for chunk in _chunks(report):
        reader.feed(chunk)
    reader.feed(b"", final=True)
    cases = _with_attempts(reader.cases)
    if not cases:
        if reader.declared:
            raise InvalidValueError(
                f"declares {reader.declared} tests but lists none: the report is incomplete"
            )
        raise InvalidValueError("lists no test case")
    return cases


def _chunks(report: BinaryIO) -> Iterator[bytes]:
    size = 0
    while chunk := report.read(_CHUNK_BYTES):
        size += len(chunk)
        if size > MAX_REPORT_BYTES:
            raise InvalidValueError(f"is larger than {MAX_REPORT_BYTES // 1024**2} MiB")
        yield chunk


def _with_attempts(cases: Iterable[JunitCase]) -> list[JunitCase]:
    by_name: dict[str, JunitCase] = {}
    for case in cases:
        earlier = by_name.get(case.name)
        by_name[case.name] = (
            case
            if earlier is None
            else replace(
                case,
                attempts=earlier.attempts + case.attempts,
                messages=earlier.messages + case.messages,
            )
        )
    return list(by_name.values())


@dataclass(slots=True)
class _OpenCase:
    """The test case that is being read."""

    depth: int
    name: str
    status: ResultStatus
    duration_ms: int | None
    started_at: datetime | None
    attempts: int = 1
    messages: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class _Message:
    """The failure, error or skip that is being read."""

    depth: int
    message: str
    parts: list[str] = field(default_factory=list[str])
    size: int = 0


class _Reader:
    """Turns the events of the XML parser into test cases; holds one test case at a time."""

    def __init__(self) -> None:
        self.cases: list[JunitCase] = []
        self.declared = 0
        self._suites: list[tuple[str, datetime | None]] = []
        self._case: _OpenCase | None = None
        self._message: _Message | None = None
        self._unwanted_depth = 0
        self._depth = 0
        parser = self._parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text

    def feed(self, chunk: bytes, *, final: bool = False) -> None:
        try:
            self._parser.Parse(chunk, final)
        except expat.ExpatError as error:
            raise InvalidValueError(
                f"is not well-formed XML (line {error.lineno}, column {error.offset + 1}:"
                f" {expat.ErrorString(error.code)})"
            ) from None

    def _refuse_doctype(self, *_: object) -> None:
        # The only way to define entities: without one, no input can expand.
        raise InvalidValueError("has a DOCTYPE, which is not allowed in a report")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = tag.rpartition(":")[2]
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise InvalidValueError(f"is nested deeper than {_MAX_DEPTH} levels")
        if self._depth == 1 and tag not in _SUITES:
            raise InvalidValueError("is not a JUnit report: the root must be testsuite(s)")
        if self._unwanted_depth:
            return
        if tag in _UNWANTED:
            self._unwanted_depth = self._depth
        elif self._case is None:
            self._start_outside_case(tag, attributes)
        elif self._message is None and (tag in _STATUSES or tag in _ATTEMPTS):
            self._start_in_case(self._case, tag, attributes)

    def _start_outside_case(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "testsuite":
            self.declared += _count(attributes.get("tests"))
            inherited = self._suites[-1][1] if self._suites else None
            started_at = _timestamp(attributes.get("timestamp")) or inherited
            self._suites.append((attributes.get("name", ""), started_at))
        elif tag == "testcase":
            names = [name for name, _ in self._suites]
            not_run = attributes.get("status", "").lower() in _NOT_RUN
            self._case = _OpenCase(
                depth=self._depth,
                name=_joined([*names, attributes.get("classname", ""), attributes.get("name", "")]),
                status=ResultStatus.SKIPPED if not_run else ResultStatus.PASSED,
                duration_ms=_milliseconds(attributes.get("time")),
                started_at=self._suites[-1][1] if self._suites else None,
            )

    def _start_in_case(self, case: _OpenCase, tag: str, attributes: dict[str, str]) -> None:
        if tag in _ATTEMPTS:
            case.attempts += 1
        else:
            case.status = max(case.status, _STATUSES[tag], key=_SEVERITY.index)
        self._message = _Message(self._depth, attributes.get("message", ""))

    def _text(self, text: str) -> None:
        message = self._message
        if message is not None and not self._unwanted_depth:
            if message.size < _MAX_MESSAGE_CHARACTERS:
                message.parts.append(text)
            message.size += len(text)

    def _end(self, tag: str) -> None:
        tag = tag.rpartition(":")[2]
        if self._unwanted_depth == self._depth:
            self._unwanted_depth = 0
        elif not self._unwanted_depth:
            self._end_wanted(tag)
        self._depth -= 1

    def _end_wanted(self, tag: str) -> None:
        case, message = self._case, self._message
        if message is not None and message.depth == self._depth:
            self._message = None
            if case is not None and (text := _message_text(message)):
                case.messages.append(text)
        elif case is not None and case.depth == self._depth:
            self._case = None
            self.cases.append(
                JunitCase(
                    name=case.name,
                    status=case.status,
                    attempts=case.attempts,
                    duration_ms=case.duration_ms,
                    started_at=case.started_at,
                    messages=tuple(case.messages),
                )
            )
        elif case is None and tag == "testsuite":
            self._suites.pop()


def _joined(names: Iterable[str]) -> str:
    parts: list[str] = []
    for name in (" ".join(name.split()) for name in names):
        if name and name != (parts[-1] if parts else None):
            parts.append(name)
    return " / ".join(parts) or "(unnamed)"


def _message_text(message: _Message) -> str:
    body = "".join(message.parts).strip()
    summary = message.message.strip()
    text = body if summary in body else f"{summary}\n{body}" if body else summary
    if len(text) <= _MAX_MESSAGE_CHARACTERS:
        return text
    mark = " ... [cut]"
    return text[: _MAX_MESSAGE_CHARACTERS - len(mark)] + mark


def _count(text: str | None) -> int:
    return int(text) if text is not None and text.isascii() and text.isdigit() else 0


def _milliseconds(text: str | None) -> int | None:
    """Seconds as tools write them, some with a thousands separator, as milliseconds."""
    try:
        milliseconds = float((text or "").strip().replace(",", "")) * 1000
    except ValueError:
        return None
    if not math.isfinite(milliseconds) or not 0 <= milliseconds <= _MAX_MILLISECONDS:
        return None
    return round(milliseconds)


def _timestamp(text: str | None) -> datetime | None:
    """A time as tools write it; Go writes 0001-01-01 for "no time"."""
    try:
        timestamp = datetime.fromisoformat((text or "").strip())
        if timestamp.tzinfo is None:
            timestamp = timestamp.replace(tzinfo=UTC)
        timestamp = timestamp.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return timestamp if MIN_MOMENT <= timestamp <= MAX_MOMENT else None
