from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_coordinator_data_adapter.errors import ConfigurationError, InvalidValueError
from test_coordinator_data_adapter.journals import (
    load_mapping,
    parse_mapping,
    read_journal,
    shipped_mapping,
)
from test_coordinator_data_adapter.journals.document import Activity
from test_coordinator_data_adapter.journals.mapping import Fault, Unmapped
from test_coordinator_data_adapter.models import AssertionType, EventType, ScenarioType


def activity(name="act", call="module.func", arguments=None, *, is_action=True) -> Activity:
    return Activity(
        is_action=is_action,
        name=name,
        provider="python",
        call=call,
        arguments=arguments,
        pauses=None,
        background=False,
        tolerance=None,
    )


def mapping(text: str):
    return parse_mapping(text, where="test")


def event(match: str, event_type: str = "service_kill", target: str = "svc") -> str:
    return (
        f'[[event]]\nmatch = {match!r}\nevent_type = "{event_type}"\ntarget_service = "{target}"\n'
    )


@pytest.mark.parametrize(
    ("match", "name", "call"),
    [
        ("shop.chaos.kill", "x", "shop.chaos.kill"),
        ("shop.*.kill", "x", "shop.chaos.kill"),
        ("*.kill", "x", "shop.chaos.kill"),
        ("SHOP.chaos.KILL", "x", "shop.chaos.kill"),
        ("/opt/faults/*.sh", "x", "/opt/faults/kill.sh"),
        ("http://chaos/*/kill", "x", "http://chaos/shop/kill"),
        ("stop the sho?", "Stop the shop", "shop.chaos.kill"),
        ("[ks]ill", "kill", ""),
    ],
)
def test_a_pattern_is_a_shell_wildcard_over_the_call_or_the_name(match, name, call):
    found = mapping(event(match)).fault(activity(name, call))

    assert found == Fault(EventType.SERVICE_KILL, "svc")


def test_a_pattern_has_to_match_all_of_a_name():
    found = mapping(event("kill")).fault(activity("kill-shop", "shop.kill"))

    assert isinstance(found, Unmapped)


def test_the_first_rule_that_matches_wins():
    rules = mapping(event("*.a", "cpu_stress") + event("*", "disk_io_stress"))

    assert rules.fault(activity(call="m.a")) == Fault(EventType.CPU_STRESS, "svc")
    assert rules.fault(activity(call="m.b")) == Fault(EventType.DISK_IO_STRESS, "svc")


def test_the_rules_of_the_file_come_before_the_shipped_ones(tmp_path):
    file = tmp_path / "map.toml"
    file.write_text(event("tsefaults.restart", "clock_skew", "mine"))

    found = load_mapping(file).fault(activity(call="tsefaults.restart"))

    assert found == Fault(EventType.CLOCK_SKEW, "mine")


def test_the_shipped_rules_still_hold_for_what_the_file_leaves_out(tmp_path):
    file = tmp_path / "map.toml"
    file.write_text(event("something.else"))

    found = load_mapping(file).fault(activity(call="tsefaults.restart"))

    assert found == Fault(EventType.SERVICE_RESTART, "risk-monitor")


@pytest.mark.parametrize("argument", ['"unit"', '["app", "unit"]'])
def test_the_target_can_be_an_argument_of_the_action(argument):
    rules = mapping(
        f'[[event]]\nmatch = "*"\nevent_type = "cpu_stress"\ntarget_argument = {argument}\n'
    )

    found = rules.fault(activity(arguments={"unit": "billing"}))

    assert found == Fault(EventType.CPU_STRESS, "billing")


@pytest.mark.parametrize("arguments", [None, [], "text", {}, {"unit": 7}, {"unit": ""}])
def test_a_target_that_the_action_does_not_name_is_refused_not_guessed(arguments):
    rules = mapping('[[event]]\nmatch = "*"\nevent_type = "cpu_stress"\ntarget_argument = "unit"\n')

    found = rules.fault(activity("burn", arguments=arguments))

    assert isinstance(found, Unmapped)
    assert "'burn'" in found.what
    assert "target_service" in found.lines


def test_a_rule_with_both_takes_the_argument_first_and_the_service_otherwise():
    rules = mapping(
        '[[event]]\nmatch = "*"\nevent_type = "cpu_stress"\n'
        'target_argument = "unit"\ntarget_service = "everything"\n'
    )

    assert rules.fault(activity(arguments={"unit": "a"})) == Fault(EventType.CPU_STRESS, "a")
    assert rules.fault(activity()) == Fault(EventType.CPU_STRESS, "everything")


def test_assertions_are_mapped_like_actions():
    rules = mapping('[[assertion]]\nmatch = "*.lag"\nassertion_type = "audit_trail"\n')

    assert rules.assertion(activity(call="db.lag", is_action=False)) is AssertionType.AUDIT_TRAIL
    assert isinstance(rules.assertion(activity(call="db.x", is_action=False)), Unmapped)


@pytest.mark.parametrize(
    ("faults", "kind"),
    [
        (["service_kill"], "service_restart"),
        (["service_restart", "service_kill"], "service_restart"),
        (["network_partition"], "network_partition"),
        (["network_latency", "network_packet_loss"], "network_latency"),
        (["cpu_stress", "memory_stress", "disk_io_stress"], "resource_exhaustion"),
        (["service_kill", "network_latency"], "combined"),
        (["service_kill", "clock_skew"], "combined"),
    ],
)
def test_the_faults_decide_the_kind_of_a_scenario_that_no_title_decides(faults, kind):
    injected = [Fault(EventType(fault), "svc") for fault in faults]

    assert shipped_mapping().scenario("Monday", injected) is ScenarioType(kind)


def test_a_title_in_the_file_decides_before_the_faults_do():
    rules = mapping('[[scenario]]\nmatch = "mon*"\nscenario_type = "data_corruption"\n')

    kind = rules.then(shipped_mapping()).scenario("Monday", [Fault(EventType.CPU_STRESS, "svc")])

    assert kind is ScenarioType.DATA_CORRUPTION


def test_the_shipped_titles_are_asked_last():
    rules = shipped_mapping()

    decided_by_fault = rules.scenario("latency", [Fault(EventType.CPU_STRESS, "svc")])

    assert decided_by_fault is ScenarioType.RESOURCE_EXHAUSTION
    assert rules.scenario("latency", []) is ScenarioType.NETWORK_LATENCY


@pytest.mark.parametrize("faults", [[], [Fault(EventType.CLOCK_SKEW, "svc")]])
def test_a_scenario_that_neither_title_nor_faults_decide_is_refused(faults):
    found = shipped_mapping().scenario("Monday", faults)

    assert isinstance(found, Unmapped)
    assert tomllib.loads(found.lines)["scenario"][0]["match"] == "Monday"


def test_a_refusal_names_every_activity_and_the_lines_to_add(build):
    action = build.action("boom", provider={"type": "python", "module": "shop", "func": "boom"})
    probe = build.probe("orders", provider={"type": "process", "path": "/opt/orders"})
    experiment = build.experiment(
        **{"steady-state-hypothesis": {"title": "h", "probes": [probe]}}, method=[action]
    )
    journal = build.journal(
        experiment=experiment,
        before=build.met(probe),
        after=build.met(probe),
        run=[build.ran(action)],
    )

    with pytest.raises(InvalidValueError) as refused:
        build.records(journal)

    reason = str(refused.value)
    assert "action 'boom' (shop.boom)" in reason
    assert "probe 'orders' (/opt/orders)" in reason
    lines = tomllib.loads(reason.split("\n\n", 1)[1])
    assert lines["event"][0]["match"] == "shop.boom"
    assert lines["assertion"] == [{"match": "/opt/orders", "assertion_type": "..."}]


def test_an_action_of_the_method_that_was_never_reached_is_mapped_as_well(build):
    unknown = build.action("boom", provider={"type": "python", "module": "shop", "func": "boom"})
    experiment = build.experiment(method=[build.action(), unknown])

    with pytest.raises(InvalidValueError, match="boom"):
        build.records(build.journal(experiment=experiment))


def test_probes_of_the_method_need_no_mapping(build):
    probe = build.probe("measure", provider={"type": "process", "path": "/opt/measure"})
    journal = build.journal(run=[build.ran(build.action()), build.ran(probe)])

    assert build.records(journal).run.status == "passed"


@given(name=st.text(min_size=1, max_size=30), call=st.text(max_size=30))
def test_the_lines_of_a_refusal_map_exactly_that_activity_once_completed(name, call):
    act = activity(name, call)
    nothing = mapping("")

    fault, assertion, scenario = (
        nothing.fault(act),
        nothing.assertion(act),
        nothing.scenario(name, []),
    )

    assert isinstance(fault, Unmapped)
    assert isinstance(assertion, Unmapped)
    assert isinstance(scenario, Unmapped)
    completed = mapping(
        fault.lines.replace('event_type = "..."', 'event_type = "cpu_stress"')
        + "\n"
        + assertion.lines.replace('= "..."', '= "latency"')
        + "\n"
        + scenario.lines.replace('= "..."', '= "combined"')
    )
    assert completed.fault(act) == Fault(EventType.CPU_STRESS, "...")
    assert completed.assertion(act) is AssertionType.LATENCY
    assert completed.scenario(name, []) is ScenarioType.COMBINED
    assert isinstance(completed.fault(activity(name + "x", (call or name) + "x")), Unmapped)


GOOD_EVENT = 'match = "x"\nevent_type = "cpu_stress"\ntarget_service = "s"\n'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[[event]", "is not TOML"),
        ("[[events]]\n" + GOOD_EVENT, "unknown 'events'"),
        ("[event]\n" + GOOD_EVENT, r"write \[\[event\]\]"),
        ("event = [1]", "is not a table"),
        ('[[event]]\nevent_type = "cpu_stress"\ntarget_service = "s"', "has no 'match'"),
        ('[[event]]\nmatch = 1\nevent_type = "cpu_stress"\ntarget_service = "s"', "match must be"),
        ('[[event]]\nmatch = []\nevent_type = "cpu_stress"\ntarget_service = "s"', "match must be"),
        ('[[event]]\nmatch = ""\nevent_type = "cpu_stress"\ntarget_service = "s"', "match must be"),
        (
            '[[event]]\nmatch = "x"\nevent_type = "rain"\ntarget_service = "s"',
            "event_type must be one of service_restart",
        ),
        ('[[event]]\nmatch = "x"\nevent_type = ["cpu_stress"]\ntarget_service = "s"', "one of"),
        ('[[event]]\nmatch = "x"\nevent_type = "cpu_stress"', "needs a 'target_service'"),
        ('[[event]]\nmatch = "x"\nevent_type = "cpu_stress"\ntarget_service = 1', "target_service"),
        ('[[event]]\nmatch = "x"\nevent_type = "cpu_stress"\ntarget_argument = 1', "target_arg"),
        ("[[event]]\n" + GOOD_EVENT + 'typo = "x"', "unknown key 'typo'"),
        ('[[assertion]]\nmatch = "x"', "assertion_type must be one of"),
        ('[[assertion]]\nmatch = "x"\ntarget_service = "s"', "unknown key 'target_service'"),
        ('[[scenario]]\nmatch = "x"\nscenario_type = "cpu_stress"', "scenario_type must be one of"),
    ],
)
def test_a_wrong_mapping_file_is_one_clear_error(text, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        mapping(text)


def test_a_wrong_rule_is_named_by_its_place():
    with pytest.raises(ConfigurationError, match=r"number 2.*typo"):
        mapping(event("a") + "[[event]]\n" + GOOD_EVENT + "typo = 1")


@pytest.mark.parametrize("kind", ["missing", "folder", "latin-1"])
def test_a_mapping_file_that_cannot_be_read_is_one_clear_error(tmp_path, kind):
    file = tmp_path / "map.toml"
    if kind == "folder":
        file.mkdir()
    elif kind == "latin-1":
        file.write_bytes("# Straße".encode("latin-1"))

    with pytest.raises(ConfigurationError, match=r"map\.toml"):
        load_mapping(file)


def test_a_mapping_file_can_rename_what_a_recorded_journal_is_about(build, tmp_path):
    file = tmp_path / "map.toml"
    file.write_text(
        event("kill-*", "memory_stress", "elsewhere")
        + '[[assertion]]\nmatch = "*/health"\nassertion_type = "availability"\n'
        + '[[scenario]]\nmatch = "Risk monitor*"\nscenario_type = "data_corruption"\n'
    )

    records = read_journal(build.sample("deviated"), load_mapping(file))

    assert records.scenario.scenario_type == "data_corruption"
    assert records.scenario.services_under_test == ["elsewhere"]
    assert [(one.event_type, one.target_service) for one in records.events] == [
        ("memory_stress", "elsewhere")
    ]
    assert records.results[0].assertion_type == "availability"
    assert records.results[1].assertion_type == "service_health"
