from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.interfaces.queries import (
    ChaosEventQuery,
    Contains,
    HasPairs,
    NotAfter,
    NotBefore,
    OneOf,
    Page,
    Position,
    Query,
    ScenarioQuery,
    TestResultQuery,
    TestRunQuery,
)
from test_coordinator_data_adapter.models import RunStatus, ScenarioStatus
from test_coordinator_data_adapter.testing.builders import a_scenario

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_a_query_without_fields_asks_for_nothing_in_particular() -> None:
    assert TestRunQuery().conditions() == ()


def test_one_value_and_several_mean_the_same_condition() -> None:
    one = TestRunQuery(status=RunStatus.FAILED)
    several = TestRunQuery(status=[RunStatus.FAILED])

    assert one.conditions() == several.conditions() == (OneOf("status", (RunStatus.FAILED,)),)
    assert one == several
    assert hash(one) == hash(several)


def test_an_empty_collection_is_a_condition_that_nothing_meets() -> None:
    assert TestRunQuery(status=[]).conditions() == (OneOf("status", ()),)


def test_every_kind_of_field_becomes_its_condition() -> None:
    query = ScenarioQuery(
        status={ScenarioStatus.DRAFT},
        tag="nightly",
        service="risk",
        created_by=["a", "b", "a"],
        created_since=NOON,
        created_until=NOON,
    )

    assert query.conditions() == (
        OneOf("status", (ScenarioStatus.DRAFT,)),
        Contains("tags", "nightly"),
        OneOf("created_by", ("a", "b")),
        Contains("services_under_test", "risk"),
        NotBefore("created_at", NOON),
        NotAfter("created_at", NOON),
    )


def test_times_are_taken_in_any_zone_and_kept_in_utc() -> None:
    query = ChaosEventQuery(injected_since=NOON.astimezone(timezone(timedelta(hours=-7))))

    assert query.injected_since == NOON
    assert query.injected_since is not None
    assert query.injected_since.tzinfo is UTC


def test_labels_are_kept_as_pairs_sorted_by_key() -> None:
    one = TestRunQuery(labels={"version": "1.9.0", "branch": "main"})
    other = TestRunQuery(labels=[("branch", "main"), ("version", "1.9.0")])

    assert one.conditions() == (HasPairs("labels", (("branch", "main"), ("version", "1.9.0"))),)
    assert one == other == replace(one)
    assert hash(one) == hash(other)


@pytest.mark.parametrize(
    ("labels", "field"),
    [
        ("version", "labels"),
        (["version"], "labels"),
        ([("version", "1", "2")], "labels"),
        ([("version", "1"), ("version", "2")], "labels"),
        ([({}, "1")], "labels"),
        ({"Version": "1"}, "labels"),
        ({"version": ""}, "labels.version"),
        ({"version": None}, "labels.version"),
        (7, "labels"),
    ],
)
def test_bad_labels_are_refused_by_name(labels: Any, field: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        TestRunQuery(labels=labels)

    assert caught.value.field == field


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (TestRunQuery, "status", "no such status"),
        (TestRunQuery, "status", 7),
        (TestRunQuery, "status", ["running", None]),
        (TestRunQuery, "scenario_id", ""),
        (TestRunQuery, "scenario_id", ["ok", "x" * 256]),
        (TestRunQuery, "test_environment", "a\0"),
        (TestRunQuery, "test_environment", 7),
        (TestRunQuery, "started_since", datetime(2026, 1, 1)),  # noqa: DTZ001 - naive on purpose
        (TestRunQuery, "started_since", "2026-01-01"),
        (TestRunQuery, "started_until", datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))),
        (ScenarioQuery, "tag", ["a"]),
        (TestResultQuery, "name", "\ud800"),
        (TestResultQuery, "correlation_id", "a\nb"),
    ],
)
def test_a_bad_value_is_refused_by_name(kind: type[Query], field: str, value: object) -> None:
    with pytest.raises(InvalidValueError) as caught:
        kind(**{field: value})

    assert caught.value.field == field


def test_a_query_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        TestRunQuery().status = RunStatus.FAILED  # type: ignore[misc] # what is tested


@pytest.mark.parametrize("id_", ["a", "ü" * 255, "🦆", '"; drop table', "%_*?["])
def test_a_cursor_names_the_position_it_was_made_from(id_: str) -> None:
    position = Position(NOON + timedelta(microseconds=7), id_)

    assert Position.from_cursor(position.to_cursor()) == position


def test_the_position_of_an_entity_is_its_creation_and_its_id() -> None:
    scenario = a_scenario(created_at=NOON)

    assert Position.of(scenario) == Position(NOON, scenario.scenario_id)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "no cursor",
        "é",
        "W10",
        "WzFd",
        "WzEsMl0",
        "WyJhIiwiYiJd",
        "WzFlOTksImEiXQ",
        7,
        b"x",
    ],
)
def test_a_text_that_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidValueError, match="cursor"):
        Position.from_cursor(cursor)


def test_a_page_ends_when_nothing_follows() -> None:
    assert Page([1, 2]).next_cursor is None


@pytest.mark.parametrize(
    "values",
    ["x" * (2**20 + 1), ["x" * 2**19, "y" * 2**19, "z"], [str(number) for number in range(10_001)]],
    ids=["one text", "several texts", "many values"],
)
def test_more_than_a_statement_should_carry_is_refused_by_the_name_of_the_field(
    values: str | list[str],
) -> None:
    with pytest.raises(InvalidValueError, match="in several queries") as caught:
        TestRunQuery(test_environment=values)

    assert caught.value.field == "test_environment"


def test_as_many_values_as_a_query_may_hold_are_accepted() -> None:
    ids = [str(number) for number in range(10_000)]

    assert TestRunQuery(scenario_id=ids).scenario_id == tuple(ids)
    assert TestRunQuery(test_environment="x" * 2**20).test_environment == ("x" * 2**20,)
