from __future__ import annotations

import io
import json
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import junitparser
import pytest

from test_coordinator_data_adapter.adapters.stub import (
    MemoryStore,
    StubChaosEventsRepository,
    StubScenariosRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.errors import NotFoundError
from test_coordinator_data_adapter.interfaces import TestRunQuery
from test_coordinator_data_adapter.models import (
    AssertionType,
    EventStatus,
    EventType,
    ResultStatus,
    RunStatus,
    TestRun,
)
from test_coordinator_data_adapter.reports import (
    RunRecord,
    RunRecords,
    write_ctrf,
    write_jsonl,
    write_junit,
)
from test_coordinator_data_adapter.testing.builders import (
    a_chaos_event,
    a_scenario,
    a_test_result,
    a_test_run,
)

HOSTILE = "<script>&\"'\x01\x0b\U0001f600 ]]>"
BEGAN = datetime(2026, 3, 1, 10, 0, tzinfo=UTC)


def record(
    status: RunStatus = RunStatus.PASSED, results: tuple[ResultStatus, ...] = (), **run
) -> RunRecord:
    one = a_test_run(status=status, started_at=BEGAN, duration_ms=1500, **run)
    return RunRecord(
        run=one,
        scenario=a_scenario(scenario_id=one.scenario_id, name="Risk monitor restarts"),
        events=(
            a_chaos_event(
                run_id=one.run_id,
                event_type=EventType.SERVICE_RESTART,
                target_service="risk-monitor",
                status=EventStatus.RECOVERED,
                recovery_time_ms=605,
            ),
        ),
        results=tuple(
            a_test_result(
                run_id=one.run_id,
                status=result,
                name=f"p99-{position}",
                phase="after",
                assertion_type=AssertionType.LATENCY,
                expected_value="< 250 ms",
                actual_value="300 ms",
                error_details="too slow",
            )
            for position, result in enumerate(results)
        ),
    )


async def stream(*items) -> AsyncIterator:
    for item in items:
        yield item


async def junit(*records: RunRecord) -> junitparser.JUnitXml:
    out = io.StringIO()
    await write_junit(stream(*records), out)
    return junitparser.JUnitXml.fromstring(out.getvalue().encode())


async def ctrf(*records: RunRecord) -> dict:
    out = io.StringIO()
    await write_ctrf(stream(*records), out)
    return json.loads(out.getvalue())["results"]


async def test_given_a_run_when_written_as_junit_then_another_tool_reads_suite_cases_and_faults():
    every = (ResultStatus.PASSED, ResultStatus.FAILED, ResultStatus.ERROR, ResultStatus.SKIPPED)

    (suite,) = await junit(record(RunStatus.FAILED, every, run_id="run-1"))

    assert (suite.name, suite.time, suite.timestamp) == (
        "Risk monitor restarts",
        1.5,
        "2026-03-01T10:00:00+00:00",
    )
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (4, 1, 1, 1)
    properties = {one.name: one.value for one in suite.properties()}
    assert properties["run_id"] == "run-1"
    assert properties["fault.1"] == (
        "service_restart on risk-monitor: recovered, recovered in 605 ms"
    )
    cases = list(suite)
    assert {case.classname for case in cases} == {"Risk monitor restarts.after"}
    assert [[type(one).__name__ for one in case.result] for case in cases] == [
        [],
        ["Failure"],
        ["Error"],
        ["Skipped"],
    ]
    assert cases[1].result[0].message == "expected < 250 ms, actual 300 ms"
    assert cases[1].result[0].text == "too slow"


@pytest.mark.parametrize(
    ("status", "results", "expected"),
    [
        (RunStatus.PASSED, (ResultStatus.PASSED,), None),
        (RunStatus.FAILED, (ResultStatus.FAILED,), None),
        (RunStatus.FAILED, (), "failure"),
        (RunStatus.FAILED, (ResultStatus.PASSED,), "failure"),
        (RunStatus.ERROR, (ResultStatus.PASSED,), "error"),
        (RunStatus.ERROR, (ResultStatus.ERROR,), "error"),
        (RunStatus.TIMEOUT, (), "error"),
        (RunStatus.CANCELLED, (), "error"),
        (RunStatus.PENDING, (), "skipped"),
        (RunStatus.RUNNING, (), "skipped"),
    ],
)
async def test_given_a_verdict_that_no_assertion_shows_then_it_is_a_test_case_of_its_own(
    status, results, expected
):
    one = record(status, results, error_message="baseline not met")

    (suite,) = await junit(one)
    tests = (await ctrf(one))["tests"]

    shown = [case for case in suite if case.name == "verdict"]
    assert [case.result[0]._tag for case in shown] == ([expected] if expected else [])
    assert [test["name"] for test in tests].count("verdict") == (1 if expected else 0)
    if expected == "error":
        assert "baseline not met" in shown[0].result[0].message


async def test_given_labels_durations_and_attempts_then_both_formats_show_them():
    one = record(labels={"version": "1.9.0"})
    result = a_test_result(
        run_id=one.run.run_id, status=ResultStatus.PASSED, name="p99", duration_ms=250, attempts=2
    )
    one = RunRecord(one.run, one.scenario, one.events, (result,))

    (suite,) = await junit(one)
    (test,) = (await ctrf(one))["tests"]

    assert {one.name: one.value for one in suite.properties()}["label.version"] == "1.9.0"
    assert [case.time for case in suite] == [0.25]
    assert (test["duration"], test["retries"], test["flaky"]) == (250, 1, True)
    assert test["labels"] == {"version": "1.9.0", "run_id": one.run.run_id}


async def test_given_hostile_text_when_written_as_junit_then_the_report_stays_well_formed():
    one = record(RunStatus.ERROR, (ResultStatus.FAILED,), error_message=HOSTILE)
    named = one.scenario.model_copy(update={"name": HOSTILE})

    (suite,) = await junit(RunRecord(one.run, named, one.events, one.results))

    assert suite.name == HOSTILE.replace("\x01", "\ufffd").replace("\x0b", "\ufffd")


async def test_given_runs_when_written_as_ctrf_then_summary_and_tests_agree():
    results = await ctrf(
        record(RunStatus.FAILED, (ResultStatus.PASSED, ResultStatus.FAILED)),
        record(RunStatus.ERROR, (ResultStatus.SKIPPED,)),
    )

    assert results["summary"] == {
        "tests": 4,
        "passed": 1,
        "failed": 2,
        "skipped": 1,
        "pending": 0,
        "other": 0,
        "suites": 2,
        "start": 1772359200000,
        "stop": 1772359200000,
    }
    assert [test["status"] for test in results["tests"]] == [
        "passed",
        "failed",
        "skipped",
        "failed",
    ]
    assert results["tests"][1]["suite"] == ["Risk monitor restarts", "after"]
    assert all(type(test["duration"]) is int for test in results["tests"])


async def test_given_no_run_then_each_format_is_still_a_valid_document():
    assert len(await junit()) == 0
    assert (await ctrf())["summary"]["tests"] == 0


async def test_given_entities_when_written_as_json_lines_then_each_line_reads_back_equal():
    runs = [a_test_run(error_message=HOSTILE), a_test_run(started_at=BEGAN)]
    out = io.StringIO()

    written = await write_jsonl(stream(*runs), out)

    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert written == 2
    assert {line.pop("kind") for line in lines} == {"test_run"}
    assert [TestRun.model_validate_json(json.dumps(line)) for line in lines] == runs


async def test_given_stored_runs_then_records_hold_all_that_belongs_to_each():
    store = MemoryStore()
    scenarios, runs = StubScenariosRepository(store), StubTestRunsRepository(store)
    events, results = StubChaosEventsRepository(store), StubTestResultsRepository(store)
    records = RunRecords(scenarios, runs, events, results)
    scenario = await scenarios.create(a_scenario())
    run = await runs.create(a_test_run(scenario_id=scenario.scenario_id))
    orphan = await runs.create(a_test_run(scenario_id="gone"))
    event = await events.create(a_chaos_event(run_id=run.run_id))
    result = await results.create(a_test_result(run_id=run.run_id))
    await results.create(a_test_result(run_id=orphan.run_id))

    assert await records.get(run.run_id) == RunRecord(run, scenario, (event,), (result,))
    streamed = [one async for one in records.stream(TestRunQuery())]
    assert [one.name for one in streamed] == [scenario.name, "gone"]
    with pytest.raises(NotFoundError, match=re.escape("'nothing'")):
        await records.get("nothing")
