import math
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import pytest

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.interfaces import arguments
from test_coordinator_data_adapter.interfaces.chaos_events import EventChanges
from test_coordinator_data_adapter.interfaces.scenarios import ScenarioChanges
from test_coordinator_data_adapter.interfaces.test_runs import RunChanges
from test_coordinator_data_adapter.models import EventStatus, RunStatus, ScenarioStatus


@pytest.mark.parametrize("value", [1, 1000])
def test_a_page_holds_one_to_a_thousand_items(value: int) -> None:
    assert arguments.page_limit(value) == value


@pytest.mark.parametrize("value", [0, -1, 1001, True, 1.0, "10", None])
def test_any_other_page_limit_is_refused(value: object) -> None:
    with pytest.raises(InvalidValueError, match="limit"):
        arguments.page_limit(value)


@pytest.mark.parametrize("value", [-1, True, 1.5, None, 2**63])
def test_an_offset_is_a_whole_number_not_below_zero(value: object) -> None:
    assert arguments.offset_of(0) == 0
    with pytest.raises(InvalidValueError, match="offset"):
        arguments.offset_of(value)


@pytest.mark.parametrize("value", [0, 10_001, True, "5"])
def test_a_batch_has_one_to_ten_thousand_rows(value: object) -> None:
    assert arguments.batch_size_of(10_000) == 10_000
    with pytest.raises(InvalidValueError, match="batch_size"):
        arguments.batch_size_of(value)


@pytest.mark.parametrize("value", [0, -1, 2**31, True, 1.5, "5"])
def test_a_time_to_live_is_whole_seconds_from_one(value: object) -> None:
    assert arguments.time_to_live(1) == 1
    with pytest.raises(InvalidValueError, match="ttl"):
        arguments.time_to_live(value)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, "5", None])
def test_seconds_are_finite_and_not_negative(value: object) -> None:
    assert arguments.seconds(0.5, "threshold_seconds") == 0.5
    with pytest.raises(InvalidValueError, match="threshold_seconds"):
        arguments.seconds(value, "threshold_seconds")


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, True, "1"])
def test_a_fraction_lies_between_zero_and_one(value: object) -> None:
    assert arguments.fraction(1, "max_fraction") == 1
    with pytest.raises(InvalidValueError, match="max_fraction"):
        arguments.fraction(value, "max_fraction")


@pytest.mark.parametrize("value", ["", "x" * 1025, "a\nb", "\ud800", 7, b"k"])
def test_a_cache_key_is_text_of_one_to_1024_characters(value: object) -> None:
    assert arguments.cache_key("x" * 1024) == "x" * 1024
    with pytest.raises(InvalidValueError, match="key"):
        arguments.cache_key(value)


def test_one_text_is_no_list_of_keys() -> None:
    assert arguments.cache_keys(["a", "b", "a"]) == ["a", "b"]
    with pytest.raises(InvalidValueError, match="collection of keys"):
        arguments.cache_keys("abc")


def test_a_bad_cache_value_is_refused_with_its_path() -> None:
    with pytest.raises(InvalidValueError) as caught:
        arguments.cache_value({"a": [(1,)]})

    assert caught.value.field == "value.a[0]"


def test_many_cache_values_are_checked_before_any_is_used() -> None:
    with pytest.raises(InvalidValueError, match="items"):
        arguments.cache_items({"good": 1, "bad": {1, 2}})


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, True, 1.0, "1"])
def test_an_exit_code_has_64_bits(value: int) -> None:
    with pytest.raises(InvalidValueError, match="exit_code"):
        RunChanges(status=RunStatus.FAILED, exit_code=value)


@pytest.mark.parametrize("value", [-1, 2**63])
def test_a_duration_is_not_negative(value: int) -> None:
    with pytest.raises(InvalidValueError, match="duration_ms"):
        RunChanges(status=RunStatus.FAILED, duration_ms=value)


@pytest.mark.parametrize("status", RunStatus)
def test_a_run_starts_with_a_status_that_ends_none_and_completes_with_one_that_does(
    status: RunStatus,
) -> None:
    wrong = {"starts": True} if status.is_finished else {"completes": True}

    with pytest.raises(InvalidValueError, match=r"status must (not )?end a run") as caught:
        RunChanges(status=status, **wrong)

    assert caught.value.field == "status"


@pytest.mark.parametrize("value", [-1, 2**63])
def test_a_recovery_time_is_not_negative(value: int) -> None:
    with pytest.raises(InvalidValueError, match="recovery_time_ms"):
        EventChanges(status=EventStatus.RECOVERED, recovery_time_ms=value)


def test_a_moment_comes_back_in_utc() -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)

    assert arguments.moment(moment, "older_than") == moment


@pytest.mark.parametrize(
    ("changes", "member"),
    [
        (ScenarioChanges, ScenarioStatus.ACTIVE),
        (RunChanges, RunStatus.PASSED),
        (EventChanges, EventStatus.FAILED),
    ],
)
def test_what_a_transition_sets_is_a_status_of_its_kind(changes: Any, member: StrEnum) -> None:
    assert changes(status=member.value).status is member
    for value in ("nothing of the kind", "", None, [member]):
        with pytest.raises(InvalidValueError, match="status must be one of: "):
            changes(status=value)
