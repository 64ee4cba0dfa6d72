from __future__ import annotations

import pytest

from test_coordinator_data_adapter.adapters.redis.acl import COMMANDS


@pytest.fixture
def granted():
    return " ".join(f"+{command}" for command in COMMANDS)


def test_the_rights_redis_has_to_grant_are_printed_for_redis_cli(call, granted):
    result = call("redis", "acl")

    assert result.exit_code == 0
    assert result.output == (
        "ACL SETUSER test-coordinator-adapter reset on >PASSWORD resetkeys"
        " ~test:test-coordinator:* ~test:test-coordinator/reads:* ~test:services:*"
        f" resetchannels -@all {granted}\n"
    )


def test_the_rights_are_printed_for_an_aclfile(call, granted):
    result = call("redis", "acl", "--file")

    assert result.output == (
        "user test-coordinator-adapter on >PASSWORD resetkeys"
        " ~test:test-coordinator:* ~test:test-coordinator/reads:* ~test:services:*"
        f" resetchannels -@all {granted}\n"
    )


def test_the_rights_are_those_of_the_configured_instance(call, monkeypatch):
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_SERVICE_INSTANCE_NAME", "test-coordinator-chaos1")

    result = call("redis", "acl")

    own = "test:test-coordinator-chaos1"
    assert f" ~{own}:* ~{own}/reads:* ~test:services:* " in result.output


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

    assert "~test:test-coordinator:*" in servers
    assert sentinels == (
        "ACL SETUSER test-coordinator-adapter reset on >PASSWORD"
        " resetkeys resetchannels -@all +sentinel|masters"
    )


def test_a_url_that_cannot_be_read_is_told_without_its_password(call, monkeypatch):
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_REDIS_URL", "redis://u:s3cret@h?ssl=true")

    result = call("redis", "acl")

    assert result.exit_code != 0
    assert "the option ssl" in result.stderr
    assert "s3cret" not in result.output + result.stderr
