from __future__ import annotations

import pytest


@pytest.mark.parametrize("password", ["hunter2", "hunter%2F2", "hunter%232", "hunter%3F2"])
def test_the_roles_are_for_the_user_and_the_database_that_the_url_connects_to(
    call, monkeypatch, password
):
    url = f"postgresql://me:{password}@localhost/mine"
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_POSTGRES_URL", url)

    result = call("sql", "roles")

    assert result.exit_code == 0
    assert 'CREATE ROLE "me" LOGIN' in result.stdout
    assert 'ALTER ROLE "me" IN DATABASE "mine"' in result.stdout
    assert "hunter" not in result.output


@pytest.mark.parametrize(
    "options",
    [
        ["--owner", ""],
        ["--auditor", ""],
        ["--owner", "one", "--auditor", "one"],
        ["--owner", "me"],
        ["--auditor", "me"],
    ],
    ids=" ".join,
)
def test_roles_that_would_not_be_three_are_refused(call, monkeypatch, options):
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_POSTGRES_URL", "postgresql://me:x@localhost/mine")

    result = call("sql", "roles", *options)

    assert (result.exit_code, result.stdout) == (2, "")
    assert "three roles" in result.stderr


@pytest.mark.parametrize(
    ("command", "url"),
    [
        ("sql roles", "postgresql://me:hunter2@[::1/mine"),
        ("sql roles", "postgresql://me:hunter2@localhost:x/mine"),
        ("sql roles", "postgresql://me:hunter2@localhost"),
        ("sql roles", "postgresql://localhost/mine"),
        ("migrate --sql", "postgresql://me:hunter2@[::1/mine"),
        ("migrate --sql", "postgresql://me:hunter2@localhost:x/mine"),
    ],
)
def test_a_url_that_does_not_say_what_is_needed_is_one_clear_error(call, monkeypatch, command, url):
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_POSTGRES_URL", url)

    result = call(*command.split())

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "postgres" in result.stderr.lower()
    assert "hunter2" not in result.stderr


@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("migrate --sql --check", "--sql"),
        ("migrate --from 0003", "--from"),
        ("migrate --check --to 0003", "--to"),
        ("audit verify --anchor 5f0c2a", "--anchor"),
        (f"audit verify --anchor {'g' * 64}", "--anchor"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_anything_is_done(call, command, option):
    result = call(*command.split())

    assert result.exit_code == 2
    assert result.stdout == ""
    assert f"Invalid value for {option}: " in result.stderr
