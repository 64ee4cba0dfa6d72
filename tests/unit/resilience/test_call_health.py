from __future__ import annotations

import pytest

from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    ConflictError,
    DuplicateError,
    InvalidValueError,
    NotFoundError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)
from test_coordinator_data_adapter.resilience.call_health import CallHealth

DOWN = UnavailableError("no answer")
READ_ONLY = UnavailableError("accepts no writes")
FORBIDDEN = ConfigurationError("a privilege is missing")


@pytest.fixture
def calls() -> CallHealth:
    return CallHealth()


@pytest.mark.parametrize("error", [DOWN, OutcomeUnknownError("lost"), FORBIDDEN])
def test_a_backend_that_does_not_answer_is_failing_until_any_call_succeeds(
    calls: CallHealth, error: AdapterError
) -> None:
    calls.report_failure(error, "write test_run", answered=False)
    failing = calls.failing, calls.error

    calls.report_success("read scenario", writes=False)

    assert failing == (True, error)
    assert (calls.failing, calls.error) == (False, None)


@pytest.mark.parametrize(
    "error",
    [
        OverloadedError("too much"),
        DuplicateError("there"),
        ConflictError("changed"),
        InvalidValueError("bad"),
        NotFoundError("not there"),
    ],
)
def test_an_error_that_says_nothing_of_the_backend_is_no_evidence(
    calls: CallHealth, error: AdapterError
) -> None:
    calls.report_failure(error, "write test_run", answered=True)

    assert not calls.failing


@pytest.mark.parametrize("refusal", [READ_ONLY, FORBIDDEN])
def test_a_refusal_is_disproved_by_the_same_kind_of_call_only(
    calls: CallHealth, refusal: AdapterError
) -> None:
    calls.report_failure(refusal, "write test_run", answered=True)
    calls.report_success("read test_run", writes=False)
    calls.report_success("write scenario", writes=True)
    still = calls.error

    calls.report_success("write test_run", writes=True)

    assert still is refusal
    assert calls.error is None


def test_a_probe_that_found_a_read_only_server_is_disproved_by_a_write_and_not_by_a_read(
    calls: CallHealth,
) -> None:
    calls.report_probe(READ_ONLY)
    calls.report_success("read test_run", writes=False)
    still = calls.error

    calls.report_success("write test_run", writes=True)

    assert still is READ_ONLY
    assert calls.error is None


def test_a_probe_that_found_a_wrong_setting_is_disproved_by_another_probe_only(
    calls: CallHealth,
) -> None:
    calls.report_probe(FORBIDDEN, answered=False)
    calls.report_success("write test_run", writes=True)
    still = calls.error

    calls.report_probe(None)

    assert still is FORBIDDEN
    assert calls.error is None


def test_a_successful_probe_leaves_refusals_of_calls_until_they_are_half_a_minute_old() -> None:
    now = 0.0
    calls = CallHealth(clock=lambda: now)
    calls.report_failure(READ_ONLY, "write test_run", answered=True)
    now = 20.0
    calls.report_failure(FORBIDDEN, "write scenario", answered=True)

    now = 31.0
    calls.report_probe(None)
    later = calls.error
    now = 51.0
    calls.report_probe(None)

    assert later is FORBIDDEN
    assert calls.error is None


def test_what_a_person_has_to_correct_is_more_important_than_what_passes(
    calls: CallHealth,
) -> None:
    calls.report_failure(FORBIDDEN, "write scenario", answered=True)
    calls.report_failure(READ_ONLY, "write test_run", answered=True)

    assert calls.error is FORBIDDEN


def test_every_report_is_passed_on(calls: CallHealth) -> None:
    seen: list[bool] = []
    calls.subscribe(lambda: seen.append(calls.failing))

    calls.report_failure(DOWN, "read test_run", answered=False)
    calls.report_answer()
    calls.report_failure(FORBIDDEN, "read test_run", answered=True)
    calls.reset()

    assert seen == [True, False, True, False]
