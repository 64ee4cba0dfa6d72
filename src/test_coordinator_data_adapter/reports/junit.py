"""Run records as a JUnit XML report."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterable
from typing import Final, TextIO
from xml.etree.ElementTree import Element, SubElement, tostring

from test_coordinator_data_adapter.models import ResultStatus, TestResult
from test_coordinator_data_adapter.reports.run_record import (
    RunRecord,
    assertion_name,
    verdict_problem,
)

__all__ = ["write_junit"]

# What XML 1.0 cannot hold, not even escaped.
_ILLEGAL: Final = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_ELEMENTS: Final = {
    ResultStatus.FAILED: "failure",
    ResultStatus.ERROR: "error",
    ResultStatus.SKIPPED: "skipped",
}


async def write_junit(records: AsyncIterable[RunRecord], out: TextIO) -> int:
    """Write a JUnit XML report: a test suite for each run, a test case for each assertion.

    The suite has the name of the scenario, the start and the duration of the run, and as properties
    the run's id, its labels and each of its faults. A test case has the class name
    ``scenario.phase``. What the verdict states and no assertion shows (an error, a timeout, a
    cancellation) is a test case "verdict". One record is in memory at a time.

    Args:
        records: the runs, in the order in which they are to be written.
        out: a text file in UTF-8.

    Returns:
        How many runs were written.
    """
    runs = 0
    out.write('<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n')
    async for record in records:
        out.write(tostring(_suite(record), encoding="unicode"))
        out.write("\n")
        runs += 1
    out.write("</testsuites>\n")
    return runs


def _suite(record: RunRecord) -> Element:
    run = record.run
    suite = Element("testsuite", name=_text(record.name), id=_text(run.run_id))
    suite.set("timestamp", record.began_at.isoformat())
    if run.duration_ms is not None:
        suite.set("time", _seconds(run.duration_ms))
    properties = SubElement(suite, "properties")
    for name, value in _properties(record):
        SubElement(properties, "property", name=_text(name), value=_text(value))
    counts: Counter[ResultStatus] = Counter()
    for result in record.results:
        counts[result.status] += 1
        _case(suite, record, result)
    if (problem := verdict_problem(record)) is not None:
        status, text = problem
        counts[status] += 1
        case = SubElement(suite, "testcase", classname=_text(record.name), name="verdict")
        SubElement(case, _ELEMENTS[status], message=_text(text))
    suite.set("tests", str(counts.total()))
    suite.set("failures", str(counts[ResultStatus.FAILED]))
    suite.set("errors", str(counts[ResultStatus.ERROR]))
    suite.set("skipped", str(counts[ResultStatus.SKIPPED]))
    return suite


def _properties(record: RunRecord) -> list[tuple[str, str]]:
    run = record.run
    properties = [("run_id", run.run_id), ("scenario_id", run.scenario_id)]
    properties.append(("status", run.status.value))
    if run.test_environment is not None:
        properties.append(("environment", run.test_environment))
    properties += [(f"label.{key}", value) for key, value in sorted(run.labels.items())]
    for position, event in enumerate(record.events, start=1):
        fault = f"{event.event_type.value} on {event.target_service}: {event.status.value}"
        if event.recovery_time_ms is not None:
            fault += f", recovered in {event.recovery_time_ms} ms"
        properties.append((f"fault.{position}", fault))
    return properties


def _case(suite: Element, record: RunRecord, result: TestResult) -> None:
    classname = f"{record.name}.{result.phase}" if result.phase else record.name
    case = SubElement(
        suite, "testcase", classname=_text(classname), name=_text(assertion_name(result))
    )
    if result.duration_ms is not None:
        case.set("time", _seconds(result.duration_ms))
    if result.status is ResultStatus.PASSED:
        return
    message = f"expected {result.expected_value}, actual {result.actual_value}"
    detail = SubElement(case, _ELEMENTS[result.status], message=_text(message))
    detail.set("type", result.assertion_type.value)
    if result.error_details:
        detail.text = _text(result.error_details)


def _text(value: str) -> str:
    return _ILLEGAL.sub("\ufffd", value)


def _seconds(milliseconds: int) -> str:
    return f"{milliseconds / 1000:.3f}"
