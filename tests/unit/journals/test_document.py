from __future__ import annotations

import copy
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.journals import JournalRecords, read_journal, shipped_mapping

SAMPLES = ("action_fail", "continuous_failfast", "deviated_tolerance", "dry", "interrupted")


def refused(content: bytes) -> str:
    with pytest.raises(InvalidValueError) as raised:
        read_journal(content, shipped_mapping())
    return str(raised.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"{", "is not JSON (line 1, column 2"),
        (b"not json", "is not JSON"),
        (b"{}\n{}", "is not JSON (line 2"),
        (b"\xff\xfe", "is not UTF-8"),
        ("{}".encode("utf-16"), "is not UTF-8"),
        (b'{"a": "\xe9"}', "is not UTF-8 (byte 7)"),
        (b"[" * 200_000, "is JSON nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too many digits"),
        (b"[]", "is not a Chaos Toolkit journal: it is not a JSON object"),
        (b"null", "is not a Chaos Toolkit journal"),
        (b'"text"', "is not a Chaos Toolkit journal"),
        (b"{}", "is not a Chaos Toolkit journal: it has no object 'experiment'"),
        (b'{"experiment": []}', "is not a Chaos Toolkit journal"),
        (b'{"experiment": {}}', "has no title"),
        (b'{"experiment": {"title": " "}}', "has no title"),
        (b'{"experiment": {"title": "t"}}', "it has no list 'run'"),
        (b'{"experiment": {"title": "t"}, "run": []}', "it has no time 'start'"),
    ],
)
def test_what_is_no_journal_is_refused_with_the_reason(content, reason):
    assert reason in refused(content)


def test_an_experiment_file_is_not_mistaken_for_a_journal(build):
    assert "is not a Chaos Toolkit journal" in refused(build.content(build.experiment()))


def test_a_byte_order_mark_is_no_damage(build):
    journal = build.content(build.journal())

    assert read_journal(b"\xef\xbb\xbf" + journal, shipped_mapping()) == read_journal(
        journal, shipped_mapping()
    )


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"start": "yesterday"}, "start"),
        ({"start": 17}, "start"),
        ({"start": "1969-12-31T23:59:59"}, "start"),
        ({"start": "0001-01-01T00:00:00+14:00"}, "start"),
        ({"end": "9999-12-31T23:59:59"}, "end"),
        ({"status": 7}, "status"),
        ({"node": ["x"]}, "node"),
        ({"run": [7]}, "run[0]"),
        ({"run": [{}]}, "run[0].activity"),
        ({"run": [{"activity": {"type": "action"}}]}, "run[0].activity"),
        ({"run": [{"activity": {"type": "rain", "name": "x"}}]}, "run[0].activity.type"),
        ({"run": [{"activity": {"ref": "nobody"}}]}, "run[0].activity"),
        ({"rollbacks": {}}, "rollbacks"),
        ({"steady_states": []}, "steady_states"),
        ({"steady_states": {"before": 1}}, "steady_states.before"),
        ({"steady_states": {"during": {}}}, "steady_states.during"),
        ({"steady_states": {"during": [1]}}, "steady_states.during[0]"),
        ({"steady_states": {"after": {"probes": 1}}}, "steady_states.after.probes"),
    ],
)
def test_a_damaged_journal_is_refused_with_the_place(build, change, place):
    reason = refused(build.content(build.journal(**change)))

    assert reason.startswith("is damaged: ")
    assert place in reason


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"dry": "rain"}, "experiment.dry"),
        ({"dry": 3}, "experiment.dry"),
        ({"extensions": [{"scenario_id": 7}]}, "experiment.extensions[0].scenario_id"),
        ({"extensions": [{"correlation_id": []}]}, "experiment.extensions[0].correlation_id"),
        ({"extensions": {}}, "experiment.extensions"),
        ({"method": {}}, "experiment.method"),
        ({"steady-state-hypothesis": []}, "steady-state-hypothesis"),
        ({"runtime": []}, "experiment.runtime"),
    ],
)
def test_a_damaged_experiment_is_refused_with_the_place(build, change, place):
    assert place in refused(build.content(build.journal(experiment=build.experiment(**change))))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"title": "a\x00b"}, "name"),
        ({"title": "a\ud800b"}, "name"),
        ({"description": "a\x00b"}, "description"),
        ({"tags": [1]}, "tags"),
        ({"tags": ["a\nb"]}, "tags"),
        ({"extensions": [{"scenario_id": ""}]}, "scenario_id"),
        ({"extensions": [{"scenario_id": "x" * 256}]}, "scenario_id"),
        ({"configuration": {"a": "\x00"}}, "configuration"),
        ({"configuration": {"a": float("nan")}}, "configuration"),
        ({"configuration": {"a": 2**70}}, "configuration"),
        ({"configuration": {"a": "x" * 1024 * 1024}}, "1 MiB"),
    ],
)
def test_a_definition_that_cannot_be_stored_as_it_is_is_refused_not_changed(
    build, change, complaint
):
    assert complaint in refused(build.content(build.journal(experiment=build.experiment(**change))))


def test_a_definition_nested_too_deeply_is_refused(build):
    deep: list[object] = []
    for _ in range(80):
        deep = [deep]

    reason = refused(
        build.content(build.journal(experiment=build.experiment(configuration={"a": deep})))
    )

    assert "64" in reason


def test_a_refusal_never_quotes_a_value(build):
    experiment = build.experiment(configuration={"token": "hunter2\x00"})

    assert "hunter2" not in refused(build.content(build.journal(experiment=experiment)))


def test_what_newer_versions_may_add_is_no_reason_to_refuse(build):
    journal = build.journal(future={"a": 1})
    journal["run"][0]["future"] = True
    journal["steady_states"]["future"] = [1]

    assert build.records(journal).run.status == "passed"


@pytest.mark.parametrize(
    "key",
    [
        "chaoslib-version",
        "platform",
        "node",
        "status",
        "deviated",
        "steady_states",
        "rollbacks",
        "end",
        "duration",
    ],
)
def test_what_older_versions_did_not_write_is_no_reason_to_refuse(build, key):
    journal = build.journal()
    del journal[key]

    assert isinstance(build.records(journal), JournalRecords)


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [path] if path else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += places(item, (*path, key))
    elif isinstance(value, list):
        for position, item in enumerate(value):
            found += places(item, (*path, position))
    return found


def read_or_refused(content: bytes) -> JournalRecords | None:
    try:
        return read_journal(content, shipped_mapping())
    except InvalidValueError:
        return None


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(
        ["action", "probe", "succeeded", "2026-01-01T00:00:00", "activities", "\x00", "\ud800"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


@settings(max_examples=300)
@given(data=st.data())
def test_a_journal_with_anything_anywhere_is_read_or_refused_and_nothing_else(build, data):
    journal = json.loads(build.sample(data.draw(st.sampled_from(SAMPLES))))
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(journal)))
        holder = journal
        for step in path[:-1]:
            holder = holder[step]
        if data.draw(st.booleans()):
            holder[path[-1]] = copy.deepcopy(data.draw(JSON))
        else:
            del holder[path[-1]]

    records = read_or_refused(json.dumps(journal).encode())

    if records is not None:
        assert records.run.status in {"passed", "failed", "error", "cancelled"}
        assert len(records.events) == sum(
            one["activity"].get("type") == "action" for one in journal["run"]
        )


@settings(max_examples=200)
@given(data=st.data())
def test_a_journal_with_damaged_bytes_is_read_or_refused_and_nothing_else(build, data):
    content = bytearray(build.sample("failed_before"))
    start = data.draw(st.integers(0, len(content) - 1))
    content[start : start + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=20))

    records = read_or_refused(bytes(content))

    assert records is None or records.run.scenario_id == records.scenario.scenario_id
