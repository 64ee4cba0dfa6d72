import pickle
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_core import to_json

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.models import (
    ChaosEvent,
    ResultStatus,
    RunStatus,
    Scenario,
    ScenarioStatus,
    ServiceInfo,
    TestResult,
    TestRun,
)
from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import (
    MAX_DEPTH,
    MAX_OUTPUT_BYTES,
    MAX_RECORD_BYTES,
    truncate_output,
)
from test_coordinator_data_adapter.testing.builders import (
    a_chaos_event,
    a_scenario,
    a_service,
    a_test_result,
    a_test_run,
)

BUILT = [a_scenario, a_test_run, a_chaos_event, a_test_result, a_service]

BAD_IDS = ["", "x" * 256, "a\0b", "a\nb", "a\x7f", "a\x85b", "a\ud800b", 7, None, b"a"]
BAD_TEXTS = ["a\0b", "\ud800", "\udfff tail", 7]
BAD_MOMENTS = [
    datetime(2026, 1, 1),  # noqa: DTZ001 - naive on purpose
    datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime.max.replace(tzinfo=UTC),
    datetime.min.replace(tzinfo=UTC),
    datetime(9999, 12, 31, 0, 0, 0, 1, tzinfo=UTC),
    "yesterday",
    # Seconds or milliseconds since 1970: which, one would have to guess.
    1_767_225_600,
    1_767_225_600_000.0,
    "1767225600",
    b"1767225600",
    Decimal(1_767_225_600),
    True,
]


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


BAD_JSON: list[tuple[str, object]] = [
    ("nan", {"a": float("nan")}),
    ("infinity", {"a": [float("inf")]}),
    ("minus infinity", {"a": float("-inf")}),
    ("65 bits", {"a": 2**63}),
    ("minus 65 bits", {"a": -(2**63) - 1}),
    ("a key that is no text", {1: 2}),
    ("a tuple", {"a": (1, 2)}),
    ("a set", {"a": {1}}),
    ("bytes", {"a": b"x"}),
    ("a datetime", {"a": datetime.now(UTC)}),
    ("NUL in a value", {"a": "b\0"}),
    ("NUL in a key", {"a\0": 1}),
    ("a lone surrogate in a value", {"a": ["\ud800"]}),
    ("a lone surrogate in a key", {"\ud800": 1}),
    ("too deep", nested(MAX_DEPTH + 1)),
    ("no object", [1]),
    ("too large", {"a": "x" * MAX_RECORD_BYTES}),
]


@pytest.mark.parametrize("value", BAD_IDS, ids=repr)
def test_a_bad_id_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValidationError, match="scenario_id"):
        Scenario.model_validate(a_scenario().model_dump() | {"scenario_id": value})


@pytest.mark.parametrize("value", BAD_TEXTS, ids=repr)
def test_a_bad_text_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValidationError, match="expected_value"):
        TestResult.model_validate(a_test_result().model_dump() | {"expected_value": value})


@pytest.mark.parametrize("value", BAD_MOMENTS, ids=repr)
def test_a_bad_moment_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValidationError, match="injected_at"):
        ChaosEvent.model_validate(a_chaos_event().model_dump() | {"injected_at": value})


@pytest.mark.parametrize("value", [-1, 2**63, 1.5, "soon"])
def test_a_bad_duration_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValidationError, match="duration_ms"):
        TestRun.model_validate(a_test_run().model_dump() | {"duration_ms": value})


@pytest.mark.parametrize("value", [value for _, value in BAD_JSON], ids=[n for n, _ in BAD_JSON])
def test_bad_json_is_refused_when_constructing(value: object) -> None:
    with pytest.raises(ValidationError):
        TestRun.model_validate(a_test_run().model_dump() | {"configuration_snapshot": value})


@pytest.mark.parametrize("value", [value for _, value in BAD_JSON], ids=[n for n, _ in BAD_JSON])
def test_bad_json_that_got_in_behind_the_models_back_is_refused_by_name(value: object) -> None:
    run = a_test_run()
    run.__dict__["configuration_snapshot"] = value

    with pytest.raises(InvalidValueError, match="configuration_snapshot") as caught:
        TestRun.checked(run)

    assert caught.value.entity == "test_run"
    assert caught.value.id == run.run_id
    assert caught.value.rule


def test_a_nested_value_changed_in_place_is_refused_with_its_path() -> None:
    scenario = a_scenario(configuration={"a": [1, {"b": 2}]})
    scenario.configuration["a"][1]["b"] = float("nan")

    with pytest.raises(InvalidValueError) as caught:
        Scenario.checked(scenario)

    assert caught.value.field == "configuration.a[1].b"
    assert caught.value.rule == "must be a finite number"


def test_what_model_construct_let_through_is_refused() -> None:
    made = TestResult.model_construct(result_id="r", run_id=3)

    with pytest.raises(InvalidValueError, match="run_id"):
        TestResult.checked(made)


def test_a_bad_assignment_is_refused_and_changes_nothing() -> None:
    scenario = a_scenario(name="before")

    with pytest.raises(ValidationError, match="name"):
        scenario.name = "a\0b"

    assert scenario.name == "before"


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="colour"):
        Scenario.model_validate(a_scenario().model_dump() | {"colour": "red"})


def test_no_error_shows_the_value() -> None:
    secret = "s3cr3t\0"
    made = a_test_result().model_copy(update={"actual_value": secret})

    with pytest.raises(ValidationError) as constructing:
        TestResult.model_validate(made.__dict__)
    with pytest.raises(InvalidValueError) as checking:
        TestResult.checked(made)

    assert "s3cr3t" not in f"{constructing.value} {checking.value}"


@pytest.mark.parametrize("other", [None, "text", 3, {}], ids=repr)
def test_something_else_than_the_kind_is_refused(other: object) -> None:
    with pytest.raises(InvalidValueError, match="expected a Scenario"):
        Scenario.checked(other)


def test_a_record_of_one_mebibyte_fits_and_a_byte_more_does_not() -> None:
    empty = a_test_result(actual_value="", error_details=None)
    room = MAX_RECORD_BYTES - len(empty.model_dump_json())

    fits = empty.model_copy(update={"actual_value": "x" * room})

    assert TestResult.checked(fits) == fits
    with pytest.raises(InvalidValueError, match="1 MiB"):
        TestResult.checked(empty.model_copy(update={"actual_value": "x" * (room + 1)}))


def test_times_are_kept_in_utc_to_the_microsecond() -> None:
    moment = datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=5)))

    event = a_chaos_event(injected_at=moment)

    assert event.injected_at == moment
    assert event.injected_at.tzinfo is UTC


@pytest.mark.parametrize(
    "moment",
    [datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)],
    ids=str,
)
def test_the_first_and_the_last_moment_are_accepted(moment: datetime) -> None:
    assert a_chaos_event(injected_at=moment).injected_at == moment


def test_json_up_to_the_greatest_depth_is_accepted() -> None:
    value = nested(MAX_DEPTH)

    assert a_scenario(configuration=value).configuration == value


def test_a_value_that_refers_to_itself_is_refused() -> None:
    loop: dict[str, Any] = {}
    loop["again"] = loop

    with pytest.raises(ValidationError, match="deeper"):
        a_scenario(configuration=loop)


def test_a_value_whose_parts_are_shared_beyond_measure_is_refused_quickly() -> None:
    shared: list[Any] = ["x"]
    for _ in range(60):
        shared = [shared, shared]

    with pytest.raises(ValidationError, match="1 MiB"):
        a_scenario(configuration={"a": shared})


@pytest.mark.parametrize("build", BUILT)
def test_a_checked_entity_is_an_equal_and_isolated_copy(build: Any) -> None:
    entity: Entity = build()

    copied = type(entity).checked(entity)

    assert copied == entity
    assert copied is not entity
    for name in entity.containers:
        held = getattr(entity, name)
        assert held is None or getattr(copied, name) is not held


@pytest.mark.parametrize("build", BUILT)
def test_a_clone_is_equal_and_behaves_as_any_other_instance(build: Any) -> None:
    entity: Entity = build()

    copied = entity.clone()

    assert copied == entity
    assert copied.model_fields_set == entity.model_fields_set
    assert copied.model_dump() == entity.model_dump()
    assert pickle.loads(pickle.dumps(copied)) == entity  # noqa: S301 - made two lines above
    assert repr(copied) == repr(entity)


def test_changing_a_clone_leaves_the_original() -> None:
    scenario = a_scenario(configuration={"a": {"b": [1]}}, tags=["x"])

    copied = scenario.clone()
    copied.configuration["a"]["b"].append(2)
    copied.tags.append("y")
    copied.name = "other"

    assert scenario.configuration == {"a": {"b": [1]}}
    assert scenario.tags == ["x"]
    assert scenario.name != "other"


@pytest.mark.parametrize("build", BUILT)
def test_a_model_survives_a_round_trip_through_json(build: Any) -> None:
    entity: Entity = build()

    assert type(entity).model_validate_json(entity.model_dump_json()) == entity


@pytest.mark.parametrize("port", [-1, 65536, "x"])
def test_a_bad_port_is_refused_by_name(port: object) -> None:
    with pytest.raises(ValidationError, match="grpc_port"):
        ServiceInfo.model_validate(a_service().model_dump() | {"grpc_port": port})


@pytest.mark.parametrize("kind", [TestRun, TestResult])
def test_pytest_does_not_collect_what_is_called_test(kind: type[Entity]) -> None:
    assert kind.__dict__["__test__"] is False


def test_two_statuses_do_not_end_a_run_and_two_retire_a_scenario() -> None:
    unfinished = {status for status in RunStatus if not status.is_finished}
    retired = {status for status in ScenarioStatus if status.is_retired}

    assert unfinished == {RunStatus.PENDING, RunStatus.RUNNING}
    assert retired == {ScenarioStatus.ARCHIVED, ScenarioStatus.DEPRECATED}


def test_labels_are_refused_by_the_key_whose_value_breaks_a_rule() -> None:
    run = a_test_run()
    run.labels["version"] = "a\nb"

    with pytest.raises(InvalidValueError) as caught:
        TestRun.checked(run)

    assert caught.value.field == "labels.version"
    assert caught.value.id == run.run_id


def test_labels_that_are_assigned_are_a_copy() -> None:
    labels = {"version": "1.8.0"}
    run = a_test_run(labels=labels)

    labels["version"] = "1.9.0"

    assert run.labels == {"version": "1.8.0"}


@pytest.mark.parametrize(
    "output", [None, [], {"pods": 1}, 7, "x" * (MAX_OUTPUT_BYTES - 2), ["ä" * 100]]
)
def test_an_output_of_at_most_16_kib_is_kept_as_it_is(output: Any) -> None:
    kept = truncate_output(output)

    assert kept == output
    assert kept is not output or not isinstance(output, list | dict)
    assert a_chaos_event(output=kept).output == output


@pytest.mark.parametrize(
    "output",
    [
        "x" * MAX_OUTPUT_BYTES,
        "\x01" * MAX_OUTPUT_BYTES,
        ['"' * 5000, "\\" * 20_000],
        {"list": list(range(10_000))},
        "\N{GRINNING FACE}" * 20_000,
    ],
)
def test_an_output_of_more_is_truncated_to_the_beginning_of_its_json(output: Any) -> None:
    kept = truncate_output(output)

    assert isinstance(kept, str)
    assert kept.endswith("…")
    assert to_json(output).decode().startswith(kept[:-1])
    assert MAX_OUTPUT_BYTES * 0.8 < len(to_json(kept)) <= MAX_OUTPUT_BYTES
    assert a_chaos_event(output=kept).output == kept


def test_cancelled_unfinished_and_skipped_are_not_judged() -> None:
    judged = {status for status in RunStatus if status.is_judged}

    assert judged == {RunStatus.PASSED, RunStatus.FAILED, RunStatus.ERROR, RunStatus.TIMEOUT}
    assert {status for status in ResultStatus if not status.is_judged} == {ResultStatus.SKIPPED}
