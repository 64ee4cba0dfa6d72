from __future__ import annotations

from hashlib import sha256

import pytest

from test_coordinator_data_adapter.adapters.redis.acl import COMMANDS


@pytest.fixture
def granted():
    return " ".join(f"+{command}" for command in COMMANDS)


def test_the_rights_redis_has_to_grant_are_printed_for_redis_cli(call, granted):
    result = call("redis", "acl")

    assert result.exit_code == 0
    assert result.output == (
        f"ACL SETUSER test-coordinator-adapter on >PASSWORD ~test:* {granted}\n"
    )


def test_the_rights_are_printed_for_an_aclfile(call, granted):
    result = call("redis", "acl", "--file")

    assert result.output == (f"user test-coordinator-adapter on >PASSWORD ~test:* {granted}\n")


def test_all_instances_of_a_family_get_the_same_line(call, monkeypatch):
    first = call("redis", "acl").output
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_SERVICE_INSTANCE_NAME", "test-coordinator-chaos1")

    assert call("redis", "acl").output == first


def test_an_instance_gets_a_user_of_its_own_on_request(call, monkeypatch):
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_SERVICE_INSTANCE_NAME", "test-coordinator-chaos1")

    result = call("redis", "acl", "--instance")

    own = "test:test-coordinator-chaos1"
    assert result.output.startswith(
        "ACL SETUSER test-coordinator-chaos1 on >PASSWORD"
        f" ~{own}:* ~{own}/reads:* ~test:services:* +"
    )


def test_a_password_from_stdin_is_printed_as_its_hash_only(call):
    for password in ("a/b&c d'\"", "s3cret"):
        result = call("redis", "acl", "--password-stdin", stdin=f"{password}\n")

        assert f" on #{sha256(password.encode()).hexdigest()} ~test:* " in result.output
        assert password not in result.output


def test_an_empty_password_is_refused(call):
    assert call("redis", "acl", "--password-stdin", stdin="\n").exit_code != 0


def test_a_cluster_and_another_database_need_more(call, monkeypatch):
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_REDIS_CLUSTER", "true")
    in_a_cluster = call("redis", "acl")
    monkeypatch.delenv("TEST_COORDINATOR_ADAPTER_REDIS_CLUSTER")
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_REDIS_URL", "redis://h/1")
    in_another_database = call("redis", "acl")

    assert in_a_cluster.output.endswith(" +asking +cluster|slots +command\n")
    assert in_another_database.output.endswith(" +select\n")


def test_sentinels_get_a_line_of_their_own(call, monkeypatch):
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_REDIS_URL", "redis+sentinel://a,b/service")

    servers, sentinels = call("redis", "acl").output.splitlines()

    assert "~test:*" in servers
    assert sentinels == "ACL SETUSER test-coordinator-adapter on >PASSWORD +sentinel|masters"


def test_a_url_that_cannot_be_read_is_told_without_its_password(call, monkeypatch):
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_REDIS_URL", "redis://u:s3cret@h?ssl=true")

    result = call("redis", "acl")

    assert result.exit_code != 0
    assert "the option ssl" in result.stderr
    assert "s3cret" not in result.output + result.stderr
