from __future__ import annotations

import io
from datetime import UTC, datetime

import pytest

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.journals.junit import MAX_REPORT_BYTES, read_junit
from test_coordinator_data_adapter.models import ResultStatus

PASSED, FAILED, SKIPPED, ERROR = (
    ResultStatus.PASSED,
    ResultStatus.FAILED,
    ResultStatus.SKIPPED,
    ResultStatus.ERROR,
)


def read(text: str):
    return read_junit(io.BytesIO(text.encode()))


def suite(cases: str, attributes: str = 'name="orders"') -> str:
    return f"<testsuites><testsuite {attributes}>{cases}</testsuite></testsuites>"


class Endless(io.RawIOBase):
    """A report without an end: open suites, one after the other, for as long as it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.served = 0

    def read(self, size: int = -1) -> bytes:
        text = b"<testsuites>" if not self.served else b" "
        chunk = text.ljust(size, b" ")
        self.served += len(chunk)
        return chunk


@pytest.mark.parametrize(
    ("children", "status"),
    [
        ("", PASSED),
        ("<skipped/>", SKIPPED),
        ("<failure/>", FAILED),
        ("<error/>", ERROR),
        ("<error/><failure/><skipped/>", ERROR),
        ("<skipped/><failure/>", FAILED),
        ("<system-out>&lt;failure/></system-out>", PASSED),
    ],
)
def test_given_several_statuses_in_one_test_case_then_the_worst_counts(children, status):
    (case,) = read(suite(f'<testcase name="a">{children}</testcase>'))

    assert case.status is status


@pytest.mark.parametrize("status", ["notrun", "disabled"])
def test_given_a_test_case_that_was_not_run_then_it_is_skipped(status):
    (case,) = read(suite(f'<testcase name="a" status="{status}"/>'))

    assert case.status is SKIPPED


def test_given_declared_counts_that_are_wrong_then_the_listed_test_cases_count():
    cases = read(suite('<testcase name="a"/><testcase name="b"/>', 'name="s" tests="1"'))

    assert [case.name for case in cases] == ["s / a", "s / b"]


def test_given_nested_suites_then_the_name_holds_their_path_without_repetition():
    cases = read(
        '<testsuite name="all"><testsuite name="orders"><testsuite name="book.Limit">'
        '<testcase classname="book.Limit" name="fills"/></testsuite></testsuite>'
        '<testcase name="top"/></testsuite>'
    )

    assert [case.name for case in cases] == ["all / orders / book.Limit / fills", "all / top"]


def test_given_a_test_case_listed_twice_then_it_is_one_with_two_attempts_and_the_last_decides():
    (case,) = read(
        suite(
            '<testcase name="a"><failure message="first"/></testcase><testcase name="a" time="2"/>'
        )
    )

    assert (case.status, case.attempts, case.duration_ms) == (PASSED, 2, 2000)
    assert case.messages == ("first",)


def test_given_failed_attempts_within_a_test_case_that_passed_then_it_passed():
    (case,) = read(suite('<testcase name="a"><flakyFailure message="once"/></testcase>'))

    assert (case.status, case.attempts, case.messages) == (PASSED, 2, ("once",))


def test_given_failures_then_their_messages_and_texts_are_kept_in_order():
    (case,) = read(
        suite(
            '<testcase name="a"><failure message="lag 3 s">lag 3 s\nat line 7</failure>'
            '<error message="teardown">port in use</error></testcase>'
        )
    )

    assert case.messages == ("lag 3 s\nat line 7", "teardown\nport in use")


def test_given_a_huge_message_then_it_is_cut_with_a_mark():
    (case,) = read(suite(f'<testcase name="a"><failure>{"x" * 100_000}</failure></testcase>'))

    assert len(case.messages[0]) == 8192
    assert case.messages[0].endswith("... [cut]")


@pytest.mark.parametrize(
    ("time", "milliseconds"),
    [
        ("0.25", 250),
        ("1,234.5", 1_234_500),
        ("", None),
        ("fast", None),
        ("-1", None),
        ("nan", None),
        ("1e999", None),
    ],
)
def test_given_a_time_then_it_is_milliseconds_or_unknown(time, milliseconds):
    (case,) = read(suite(f'<testcase name="a" time="{time}"/>'))

    assert case.duration_ms == milliseconds


@pytest.mark.parametrize(
    ("text", "timestamp"),
    [
        ("2026-03-01T10:00:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("2026-03-01T12:00:00+02:00", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("yesterday", None),
    ],
)
def test_given_the_time_of_a_suite_then_its_test_cases_have_it_unless_it_is_no_time(
    text, timestamp
):
    (case,) = read(suite('<testcase name="a"/>', f'name="s" timestamp="{text}"'))

    assert case.started_at == timestamp


def test_given_a_nested_suite_without_a_time_then_that_of_the_suite_around_it_counts():
    (case,) = read(
        suite('<testsuite name="in"><testcase name="a"/></testsuite>', 'timestamp="2026-03-01"')
    )

    assert case.started_at == datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not well-formed XML"),
        ("<testsuites>\n<testsuite>", r"line 2, column \d+"),
        ("<html/>", "is not a JUnit report"),
        ("<testsuites/>", "lists no test case"),
        ('<testsuite tests="6"/>', "declares 6 tests but lists none"),
        ("<testsuite>" * 70, "is nested deeper than 64 levels"),
        (
            '<!DOCTYPE a [<!ENTITY b "c">]><testsuite><testcase name="&b;"/></testsuite>',
            "has a DOCTYPE",
        ),
    ],
)
def test_given_a_report_that_cannot_be_read_then_the_error_states_why(text, message):
    with pytest.raises(InvalidValueError, match=message):
        read(text)


def test_given_a_report_without_end_then_reading_stops_at_the_limit():
    report = Endless()

    with pytest.raises(InvalidValueError, match="is larger than 64 MiB"):
        read_junit(report)

    assert report.served <= MAX_REPORT_BYTES + 64 * 1024
