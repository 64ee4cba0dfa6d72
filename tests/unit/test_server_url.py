"""The one URL parser: which URLs it understands, which it refuses, what it never quotes."""

from __future__ import annotations

import pytest

from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.server_url import (
    ServerUrl,
    is_this_machine,
    parse_server_url,
    postgres_target,
)

SECRET = "s3cret"


def parse(text: str) -> ServerUrl:
    return parse_server_url(text, subject="the URL")


def hosts_of(text: str, **environment: str) -> tuple[tuple[str, int], ...]:
    return postgres_target(parse(text), environment, subject="the URL").hosts


def test_a_url_is_split_into_decoded_parts():
    url = parse("scheme+driver://us%40er:p%3Ass@h1:1,%2Frun%2Fdb,[::1]:3,h%41/na%2Fme?a=b%26c&d")

    assert url == ServerUrl(
        scheme="scheme+driver",
        username="us@er",
        password="p:ss",
        hosts=(("h1", 1), ("/run/db", None), ("::1", 3), ("hA", None)),
        path="na/me",
        options=(("a", "b&c"), ("d", "")),
    )


def test_the_parts_of_a_url_are_optional():
    assert parse("redis://") == ServerUrl(scheme="redis")
    assert parse("redis://:pw@") == ServerUrl(scheme="redis", password="pw")
    assert parse("redis://:7000/") == ServerUrl(scheme="redis", hosts=(("", 7000),))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "cannot be parsed"),
        (f"{SECRET}@host", "cannot be parsed"),
        (f"{SECRET} x://host", "cannot be parsed"),
        (f"x://u:{SECRET}@a@h/d", "unescaped"),
        (f"x://u:p@a/{SECRET}@h/d", "unescaped"),
        (f"x://u:12/{SECRET}@h/d", "unescaped"),
        (f"x://u:12?{SECRET}=1@h/d", "unescaped"),
        (f"x://u:12#{SECRET}@h/d", "unescaped"),
        (f"x://u:p@{SECRET}:x/d", "cannot be parsed"),
        (f"x://u:{SECRET}@h:0/d", "port"),
        (f"x://u:{SECRET}@h:65536/d", "port"),
        (f"x://u:{SECRET}@h:-5/d", "cannot be parsed"),
        (f"x://u:{SECRET}@h,,i/d", "cannot be parsed"),
        (f"x://u:{SECRET}@::1/d", "cannot be parsed"),
        (f"x://u:{SECRET}@[::1/d", "cannot be parsed"),
        (f"x://u:{SECRET}@h o/d", "cannot be parsed"),
        (f"x://u:{SECRET}%FF@h/d", "not UTF-8"),
    ],
)
def test_what_cannot_be_parsed_is_refused_without_quoting_it(text, words):
    with pytest.raises(ConfigurationError, match=f"^the URL .*{words}") as refused:
        parse(text)

    assert SECRET not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_an_option_is_not_named_where_it_may_be_a_part_of_the_password():
    url = parse("x://user:p@ss?word=1@host/name")

    assert url.printable("word") == "with an unreadable name"
    assert parse("x://host?word=1").printable("word") == "word"
    assert parse("x://host?w%00rd=1").printable("w\x00rd") == "with an unreadable name"


def test_a_parsed_url_does_not_show_its_password():
    assert SECRET not in repr(parse(f"x://u:{SECRET}@h?{SECRET}={SECRET}"))


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("postgresql://h1:1,h2:2/d", (("h1", 1), ("h2", 2))),
        ("postgresql://h1,h2:2/d", (("h1", 5432), ("h2", 2))),
        ("postgresql://h1,[::1]:2/d", (("h1", 5432), ("::1", 2))),
        ("postgresql:///d?host=h1&host=h2", (("h1", 5432), ("h2", 5432))),
        ("postgresql:///d?host=h1:1&host=h2:2", (("h1", 1), ("h2", 2))),
        ("postgresql:///d?host=h1,h2&port=1,2", (("h1", 1), ("h2", 2))),
        ("postgresql:///d?host=h1,h2&port=1", (("h1", 1), ("h2", 1))),
        ("postgresql:///d?host=h1,h2&port=,2", (("h1", 5432), ("h2", 2))),
        ("postgresql:///d?host=h1&host=h2&port=1,2", (("h1", 1), ("h2", 2))),
        ("postgresql:///d?host=%2Frun%2Fpg&port=1", (("/run/pg", 1),)),
        ("postgresql:///d?host=/run/pg,h2", (("/run/pg", 5432), ("h2", 5432))),
        ("postgresql://%2Frun%2Fpg:1,h2/d", (("/run/pg", 1), ("h2", 5432))),
        ("postgresql://%2Frun%2Fpg/d", (("/run/pg", 5432),)),
        ("postgresql:///d?host=::1", (("::1", 5432),)),
        ("postgresql:///d?host=[::1]:1", (("::1", 1),)),
        ("postgresql://first/d?host=second:2", (("second", 2),)),
        ("postgresql:///d", (("", 5432),)),
        ("postgresql:///d?port=1", (("", 1),)),
        ("postgresql://:1/d", (("", 1),)),
    ],
)
def test_every_form_in_which_libpq_or_sqlalchemy_names_hosts_is_understood(url, hosts):
    assert hosts_of(url) == hosts


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:///d?host=h1,h2&port=1,2,3",
        f"postgresql:///d?host=h1:{SECRET}",
        "postgresql:///d?host=h1:0",
        f"postgresql:///d?port={SECRET}",
        "postgresql:///d?host=h1,,h2",
    ],
)
def test_hosts_and_ports_that_do_not_fit_together_are_refused(url):
    with pytest.raises(ConfigurationError, match=r"the URL .*port") as refused:
        hosts_of(url)

    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "environment", "hosts"),
    [
        ("postgresql:///d", {"PGHOST": "db"}, (("db", 5432),)),
        ("postgresql:///d", {"PGHOST": "db", "PGPORT": "1"}, (("db", 1),)),
        ("postgresql:///d", {"PGHOST": "a,b", "PGPORT": "1,2"}, (("a", 1), ("b", 2))),
        ("postgresql:///d", {"PGHOST": "/run/pg"}, (("/run/pg", 5432),)),
        ("postgresql:///d", {"PGPORT": "1"}, (("", 1),)),
        ("postgresql://h/d", {"PGHOST": "db", "PGPORT": "1"}, (("h", 1),)),
        ("postgresql://h:2/d", {"PGHOST": "db", "PGPORT": "1,2,3"}, (("h", 2),)),
        ("postgresql:///d?host=h&port=2", {"PGHOST": "db", "PGPORT": "1"}, (("h", 2),)),
        ("postgresql:///d", {"PGHOST": "", "PGPORT": ""}, (("", 5432),)),
    ],
)
def test_pghost_and_pgport_name_what_the_url_leaves_out(url, environment, hosts):
    assert hosts_of(url, **environment) == hosts


def test_a_variable_that_cannot_be_parsed_is_named():
    with pytest.raises(ConfigurationError, match="PGPORT contains a port"):
        hosts_of("postgresql:///d", PGPORT="many")
    with pytest.raises(ConfigurationError, match="PGHOST contains a host"):
        hosts_of("postgresql:///d", PGHOST="a,,b")


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("", True),
        ("/run/postgresql", True),
        ("localhost", True),
        ("LocalHost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("db.example", False),
        ("localhost.db.example", False),
        ("127.db.example", False),
        ("10.0.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - nothing is bound to it
    ],
)
def test_only_what_certainly_is_this_machine_counts_as_this_machine(host, local):
    assert is_this_machine(host) is local
