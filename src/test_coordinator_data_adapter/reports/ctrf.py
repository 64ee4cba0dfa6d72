"""Run records in the Common Test Report Format (CTRF)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterable, Iterator
from datetime import datetime
from importlib.metadata import version
from typing import Final, TextIO

from test_coordinator_data_adapter.models import ResultStatus, TestResult
from test_coordinator_data_adapter.models.values import JsonValue
from test_coordinator_data_adapter.reports.run_record import (
    RunRecord,
    assertion_name,
    verdict_problem,
)

__all__ = ["write_ctrf"]

_TOOL: Final = "test-coordinator-data-adapter"
_SPEC_VERSION: Final = "0.0.0"
_STATUSES: Final = {
    ResultStatus.PASSED: "passed",
    ResultStatus.FAILED: "failed",
    ResultStatus.SKIPPED: "skipped",
    # The format has no word for an assertion that could not be evaluated.
    ResultStatus.ERROR: "failed",
}
_COUNTED: Final = ("passed", "failed", "skipped", "pending", "other")


async def write_ctrf(records: AsyncIterable[RunRecord], out: TextIO) -> int:
    """Write a CTRF report: a test for each assertion, with its run's scenario as the suite.

    Times are milliseconds since 1970. What the verdict of a run states and no assertion shows is a
    test "verdict". One record is in memory at a time, so the summary is written last.

    Args:
        records: the runs, in the order in which they are to be written.
        out: a text file in UTF-8.

    Returns:
        How many runs were written.
    """
    counts: Counter[str] = Counter()
    runs, start, stop = 0, None, 0
    out.write(f'{{"reportFormat":"CTRF","specVersion":"{_SPEC_VERSION}","results":{{')
    out.write(f'"tool":{_json({"name": _TOOL, "version": version(_TOOL)})},"tests":[')
    async for record in records:
        runs += 1
        began = _milliseconds(record.began_at)
        start = began if start is None else min(start, began)
        stop = max(stop, _milliseconds(record.run.completed_at or record.began_at))
        for test in _tests(record):
            out.write(",\n" if counts.total() else "\n")
            out.write(_json(test))
            counts[str(test["status"])] += 1
    summary: dict[str, JsonValue] = {"tests": counts.total()}
    summary |= {status: counts[status] for status in _COUNTED}
    summary |= {"suites": runs, "start": start or 0, "stop": stop}
    out.write(f'\n],"summary":{_json(summary)}}}}}\n')
    return runs


def _tests(record: RunRecord) -> Iterator[dict[str, JsonValue]]:
    for result in record.results:
        yield _test(record, result)
    if (problem := verdict_problem(record)) is not None:
        status, text = problem
        yield {
            "name": "verdict",
            "status": _STATUSES[status],
            "rawStatus": record.run.status.value,
            "duration": record.run.duration_ms or 0,
            "start": _milliseconds(record.began_at),
            "suite": [record.name],
            "message": text,
            "labels": _labels(record),
        }


def _test(record: RunRecord, result: TestResult) -> dict[str, JsonValue]:
    test: dict[str, JsonValue] = {
        "executionId": result.result_id,
        "name": assertion_name(result) or "(unnamed)",
        "status": _STATUSES[result.status],
        "rawStatus": result.status.value,
        "duration": result.duration_ms or 0,
        "start": _milliseconds(result.verification_time),
        "suite": [record.name, *([result.phase] if result.phase else [])],
        "type": result.assertion_type.value,
        "labels": _labels(record),
    }
    if result.attempts is not None and result.attempts > 1:
        test["retries"] = result.attempts - 1
        test["flaky"] = result.status is ResultStatus.PASSED
    if result.status is not ResultStatus.PASSED:
        test["message"] = f"expected {result.expected_value}, actual {result.actual_value}"
        if result.error_details:
            test["trace"] = result.error_details
    return test


def _labels(record: RunRecord) -> dict[str, JsonValue]:
    return {**record.run.labels, "run_id": record.run.run_id}


def _milliseconds(timestamp: datetime) -> int:
    return round(timestamp.timestamp() * 1000)


def _json(value: JsonValue) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
