from __future__ import annotations

import pytest

from test_coordinator_data_adapter.adapters.redis.acl import (
    COMMANDS,
    acl_rules,
    sentinel_acl_rules,
)
from test_coordinator_data_adapter.adapters.redis.pattern import escaped


def test_a_user_gets_its_keys_and_commands_and_nothing_else():
    rules = acl_rules("test:a", "test:services:")

    assert rules[:3] == ("~test:a:*", "~test:a/reads:*", "~test:services:*")
    assert rules[3:] == tuple(f"+{command}" for command in COMMANDS)


def test_a_user_of_the_family_gets_the_keys_of_all_instances():
    assert acl_rules("test:a", "test:services:", whole_family=True)[0] == "~test:*"
    assert acl_rules("test:a", "test:services:", whole_family=True)[1].startswith("+")
    assert acl_rules("a:b", "c:d:", whole_family=True)[:2] == ("~a:*", "~c:*")


def test_no_rule_takes_a_right_away():
    rules = (*acl_rules("test:a", "test:services:", topology="cluster"), *sentinel_acl_rules())

    assert {rule[0] for rule in rules} == {"~", "+"}


def test_a_namespace_with_glob_characters_grants_no_other():
    assert r"~test:a\[b\]\*:*" in acl_rules("test:a[b]*", "test:services:")


@pytest.mark.parametrize(
    ("circumstances", "more"),
    [
        ({"topology": "cluster"}, {"+asking", "+cluster|slots", "+command"}),
        ({"topology": "sentinel"}, set()),
        ({"database": 1}, {"+select"}),
    ],
)
def test_what_else_is_needed_depends_on_where_the_keys_are(circumstances, more):
    least = set(acl_rules("test:a", "test:services:"))

    assert set(acl_rules("test:a", "test:services:", **circumstances)) - least == more


def test_sentinels_are_only_asked_for_the_primary():
    assert sentinel_acl_rules()[-1] == "+sentinel|masters"


@pytest.mark.parametrize(
    ("text", "glob"),
    [("a-b:c^d", "a-b:c^d"), ("*?[]\\", "\\*\\?\\[\\]\\\\"), ("", "")],
)
def test_an_escaped_text_matches_only_itself(text, glob):
    assert escaped(text) == glob
