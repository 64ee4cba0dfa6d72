from __future__ import annotations

import copy
import math
import pickle
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.models import ResultStatus, TestResult
from test_coordinator_data_adapter.testing.builders import (
    a_chaos_event,
    a_scenario,
    a_test_result,
    a_test_run,
)


class Word(StrEnum):
    PASSED = "passed"


class LaterThan(datetime):
    pass


HOSTILE = st.one_of(
    st.none(),
    st.text(st.characters(codec=None), max_size=5),
    st.sampled_from(
        [
            "",
            "x" * 255,
            "x" * 256,
            "x" * 2049,
            "\x00",
            "\x85",
            "\ud800",
            "\udc00",
            "\u2028",
            "\U0001f600",
            "line\nline",
            "\xa0",
        ]
    ),
    st.sampled_from([ResultStatus.PASSED, Word.PASSED, "passed", b"passed", 1, True, 1.5]),
    st.sampled_from([0, -1, 2**63 - 1, 2**63, 0.0, math.nan, math.inf, "7", "0.5"]),
    st.sampled_from(
        [
            datetime(2026, 5, 6, tzinfo=UTC),
            datetime(2026, 5, 6, tzinfo=timezone(timedelta(hours=2))),
            datetime(2026, 5, 6),  # noqa: DTZ001 - what is refused
            datetime(1969, 12, 31, tzinfo=UTC),
            datetime(9999, 12, 31, 0, 0, 0, 1, tzinfo=UTC),
            LaterThan(2026, 5, 6, tzinfo=UTC),
        ]
    ),
)


def outcome(make):
    try:
        return make()
    except InvalidValueError as refused:
        return str(refused), refused.field, refused.rule, refused.id


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from([*TestResult.model_fields, "unknown"]), HOSTILE, max_size=2
        ),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_many_are_judged_exactly_as_each_of_them(changes, lacks_one):
    results = [a_test_result() for _ in changes]
    for result, change in zip(results, changes, strict=True):
        result.__dict__.update(change)
    if lacks_one:
        del results[-1].__dict__["phase"]

    each = outcome(lambda: [TestResult.checked(result).field_values() for result in results])
    together = outcome(lambda: TestResult.checked_values(results))

    assert together == each
    if isinstance(each, list):
        types = [[type(value) for value in row] for row in each]
        assert [[type(value) for value in row] for row in together] == types


@pytest.mark.parametrize("stranger", [None, "text", {}, a_scenario()])
def test_one_that_is_of_another_kind_is_refused_among_many(stranger):
    with pytest.raises(InvalidValueError, match="expected a TestResult"):
        TestResult.checked_values([a_test_result(), stranger])


def test_of_none_there_are_none():
    assert TestResult.checked_values([]) == []


def test_values_that_hold_containers_are_copies():
    scenario = a_scenario(tags=["a"], configuration={"a": [1]})

    (values,) = type(scenario).checked_values([scenario])
    scenario.tags.append("b")
    scenario.configuration["a"].append(2)

    held = dict(zip(type(scenario).model_fields, values, strict=True))
    assert (held["tags"], held["configuration"]) == (["a"], {"a": [1]})


@pytest.mark.parametrize("make", [a_scenario, a_test_run, a_chaos_event, a_test_result])
def test_an_entity_made_of_trusted_values_is_like_one_that_was_validated(make):
    validated = make()
    kind = type(validated)

    trusted = kind.trusted(dict(validated.__dict__))

    assert kind.trusted_many([dict(validated.__dict__)]) == [trusted] == [validated]
    assert trusted.model_fields_set == set(kind.model_fields)
    assert pickle.loads(pickle.dumps(trusted)) == validated  # noqa: S301 - our own
    assert copy.deepcopy(trusted) == validated
    assert trusted.model_copy(update={"status": "x"}).model_fields_set == set(kind.model_fields)
    assert kind.model_validate_json(trusted.model_dump_json()) == validated
    assert repr(trusted) == repr(validated)


def test_assigning_to_an_entity_made_of_trusted_values_is_validated_and_changes_no_other():
    one, other = TestResult.trusted_many([dict(a_test_result().__dict__) for _ in range(2)])

    one.actual_value = "changed"
    with pytest.raises(ValueError, match="NUL"):
        one.actual_value = "\x00"

    assert (one.actual_value, other.actual_value) == ("changed", a_test_result().actual_value)
