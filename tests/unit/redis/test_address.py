from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from test_coordinator_data_adapter.adapters.redis.address import (
    Address,
    KeyspaceSettings,
    parse_address,
)
from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.tls import TlsSettings

SECRET = "s3cret"
VERIFIED = TlsSettings("verify-full")


def parsed(url: str, **settings: object) -> Address:
    return parse_address(KeyspaceSettings(url=url, namespace="test:a", **settings))


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://", Address(topology="standalone", nodes=(("localhost", 6379),))),
        ("redis://h", Address(topology="standalone", nodes=(("h", 6379),))),
        ("redis://h:7000/3", Address(topology="standalone", nodes=(("h", 7000),), database=3)),
        ("redis://h/?db=3", Address(topology="standalone", nodes=(("h", 6379),), database=3)),
        ("redis://[::1]:7000/", Address(topology="standalone", nodes=(("::1", 7000),))),
        (
            "redis://user:p%40ss@h",
            Address(topology="standalone", nodes=(("h", 6379),), username="user", password="p@ss"),
        ),
        ("redis://:pw@h", Address(topology="standalone", nodes=(("h", 6379),), password="pw")),
        ("rediss://h", Address(topology="standalone", nodes=(("h", 6379),), tls=VERIFIED)),
        ("unix:///run/a%20b.sock", Address(topology="standalone", path="/run/a b.sock")),
        (
            "unix://:pw@/run/r.sock?db=2",
            Address(topology="standalone", path="/run/r.sock", database=2, password="pw"),
        ),
        (
            "redis+sentinel://:pw@a:1,b/service/2",
            Address(
                topology="sentinel",
                nodes=(("a", 1), ("b", 26379)),
                service="service",
                database=2,
                password="pw",
            ),
        ),
        (
            "rediss+sentinel://a/service",
            Address(topology="sentinel", nodes=(("a", 26379),), service="service", tls=VERIFIED),
        ),
    ],
)
def test_a_url_says_where_redis_is(url, address):
    assert parsed(url) == address


def test_several_hosts_are_nodes_of_a_cluster():
    address = parsed("redis://a:1,b:2", cluster=True)

    assert address == Address(topology="cluster", nodes=(("a", 1), ("b", 2)))


def test_settings_name_sentinels_too():
    address = parsed("redis://:pw@x/1", sentinels=(("a", 1),), sentinel_service="service")

    assert address == Address(
        topology="sentinel", nodes=(("a", 1),), service="service", database=1, password="pw"
    )


def test_certificates_go_with_an_encrypted_url():
    tls = TlsSettings(root_certificate=Path("ca.pem"))

    assert parsed("rediss://h", tls=tls).tls == replace(tls, mode="verify-full")


@pytest.mark.parametrize(
    ("url", "settings", "words"),
    [
        (f"http://u:{SECRET}@h", {}, "must begin with one of"),
        (f"redis://u:{SECRET}@h?ssl=true", {}, "the option ssl,"),
        (f"rediss://u:{SECRET}@h?ssl_cert_reqs=none", {}, "the option ssl_cert_reqs,"),
        (f"rediss://h?ssl_check_hostname=false&x={SECRET}", {}, "ssl_check_hostname"),
        (f"redis://h?password={SECRET}", {}, "the place before the @"),
        ("redis://h?socket_timeout=1", {}, "use redis_socket_timeout"),
        (f"redis://h?{SECRET}%20=1", {}, "unreadable name"),
        (f"redis://u:{SECRET}#x@h", {}, "unescaped"),
        (f"redis://u:{SECRET}@x@h", {}, "unescaped"),
        (f"redis://u:x?{SECRET}=1@h", {}, "unescaped"),
        (f"redis://u:x@x/{SECRET}@h", {}, "unescaped"),
        (f"redis+sentinel://u:x@x/{SECRET}@h/service", {}, "unescaped"),
        (f"unix://u:x?{SECRET}=1@/run/redis.sock", {}, "unescaped"),
        (f"redis://u:{SECRET}@[h", {}, "a host or a port"),
        (f"redis://u:{SECRET}@h:70000", {}, "a port that is not"),
        (f"redis://u:{SECRET}@h/a", {}, "the number of a database"),
        (f"redis://u:{SECRET}@h/0/1", {}, "the number of a database"),
        (f"redis://u:{SECRET}@h?db=x", {}, "the option db"),
        (f"redis://u:{SECRET}@a,b", {}, "several hosts"),
        (f"redis://u:{SECRET}@a/1", {"cluster": True}, "a cluster has none but 0"),
        (f"unix://u:{SECRET}@/", {"cluster": True}, "a unix socket"),
        (f"unix://u:{SECRET}@", {}, "the path of the socket"),
        (f"redis+sentinel://u:{SECRET}@a", {}, "the Sentinels' service"),
        (f"redis+sentinel://u:{SECRET}@a/s", {"cluster": True}, "exclude each other"),
        (
            f"redis://u:{SECRET}@h",
            {"tls": TlsSettings(root_certificate=Path("ca.pem"))},
            "not encrypted",
        ),
    ],
)
def test_a_url_that_is_not_understood_is_refused_without_telling_its_secret(url, settings, words):
    with pytest.raises(ConfigurationError) as refused:
        parsed(url, **settings)

    assert words in str(refused.value)
    assert SECRET not in str(refused.value)


def test_settings_and_addresses_do_not_show_passwords():
    settings = KeyspaceSettings(
        url=f"redis://u:{SECRET}@h", namespace="test:a", sentinel_password=SECRET
    )

    assert SECRET not in repr(settings)
    assert SECRET not in repr(parse_address(settings))
