"""What all commands have in common: exit codes, failures as JSON, -v, help on narrow terminals."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys

import pytest
import typer
from rich.console import Console
from rich.text import Text
from typer.main import get_command
from typer.testing import CliRunner

from test_coordinator_data_adapter.cli import app, screen
from test_coordinator_data_adapter.cli.program import (
    CommandError,
    ExitCode,
    Program,
    add_command,
    run,
)
from test_coordinator_data_adapter.cli.screen import say, show, table
from test_coordinator_data_adapter.errors import (
    ConfigurationError,
    DataIntegrityError,
    InvalidValueError,
    NotFoundError,
    OutcomeUnknownError,
    UnavailableError,
)

PREFIX = "TEST_COORDINATOR_ADAPTER_"


def commands(group, *names):
    for name, inner in group.commands.items():
        if hasattr(inner, "commands"):
            yield (*names, name)
            yield from commands(inner, *names, name)
        else:
            yield (*names, name)


EVERY_COMMAND = [(), *commands(get_command(app))]


@pytest.fixture
def program_that():
    """Calls a program whose only command runs a coroutine function."""

    def program_that(command, *arguments):
        own = typer.Typer(cls=Program)
        own.callback()(lambda: None)

        def only(*, as_json: bool = typer.Option(False, "--json")) -> None:  # noqa: FBT003 - typer's
            run(command)

        add_command(own, "only", only)
        return CliRunner().invoke(own, ["only", *arguments])

    return program_that


FAILURES = [
    (NotFoundError.of("test_run", "r"), 1),
    (InvalidValueError("limit must be at most 1000", field="limit", rule="at most 1000"), 2),
    (ConfigurationError("redis_url has no host", setting="redis_url"), 2),
    (ConfigurationError("the server refused the password", sqlstate="28P01"), 3),
    (UnavailableError("the server does not respond"), 3),
    (OutcomeUnknownError("the response got lost"), 3),
    (DataIntegrityError("a row cannot be read"), 3),
    (CommandError("two runs are needed", ExitCode.NOT_ENOUGH_DATA), 4),
]


@pytest.mark.parametrize(("error", "code"), FAILURES, ids=lambda it: str(it)[:30])
def test_an_error_is_its_message_without_its_class_and_an_exit_code(program_that, error, code):
    async def fail():
        raise error

    result = program_that(fail)

    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == f"{error}\n"


@pytest.mark.parametrize(("error", "code"), FAILURES, ids=lambda it: str(it)[:30])
def test_with_json_an_error_is_json_on_standard_output_too(program_that, error, code):
    async def fail():
        raise error

    result = program_that(fail, "--json")

    assert result.exit_code == code
    assert json.loads(result.stdout) == {"error": {"exit_code": code, "message": str(error)}}
    assert result.stderr == f"{error}\n"


def test_details_of_an_error_are_members_of_its_json_object(program_that):
    async def fail():
        raise CommandError("stopped", ExitCode.NEGATIVE, run_ids=["a", "b"])

    result = program_that(fail, "--json")

    assert json.loads(result.stdout)["error"]["run_ids"] == ["a", "b"]


def test_a_defect_is_no_negative_answer_and_shows_its_traceback(program_that):
    async def fail():
        return {}["missing"]

    result = program_that(fail, "--json")

    assert result.exit_code == 70
    assert "KeyError" in result.stderr
    assert json.loads(result.stdout)["error"]["exit_code"] == 70


def test_a_command_returns_what_its_coroutine_returns():
    async def command():
        return 7

    assert run(command) == 7


def test_without_a_server_a_configuration_error_is_about_a_setting(program_that):
    async def fail():
        raise ConfigurationError("postgres_url names no user")

    with pytest.raises(CommandError) as raised:
        run(fail, offline=True)

    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "command",
    [
        "health --json --nonsense",
        "import chaostoolkit --json",
        "migrate --check --to 0001 --json",
        "audit verify --anchor x --json",
        "nonsense --json",
    ],
)
def test_with_json_a_usage_error_is_json_too(call, command):
    result = call(*command.split())

    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["exit_code"] == 2
    assert "--help" in result.stderr


def test_with_json_a_bad_setting_is_named_in_json(call, monkeypatch):
    monkeypatch.setenv(f"{PREFIX}POSTGRES_POOL_SIZE", "-7342")

    result = call("prune", "--json")

    error = json.loads(result.stdout)["error"]
    assert error["exit_code"] == 2
    assert [problem["setting"] for problem in error["settings"]] == ["postgres_pool_size"]
    assert "7342" not in result.output


@pytest.mark.parametrize(
    "command", ["-v health", "health -v", "--verbose health", "health --json --verbose"]
)
def test_verbose_is_accepted_anywhere(call, command):
    result = call(*command.split())

    assert result.exit_code == 1
    assert "factory_initialized" in result.stderr


def test_an_argument_after_two_dashes_is_no_option(call):
    result = call("import", "chaostoolkit", "--", "-v")

    assert result.exit_code == 1
    assert "-v: there is no such file" in result.stderr
    assert "factory_initialized" not in result.stderr


@pytest.mark.parametrize("command", EVERY_COMMAND, ids=" ".join)
def test_at_60_columns_help_breaks_no_word_and_shows_no_types(call, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "200")
    wide = call(*command, "--help")
    monkeypatch.setenv("COLUMNS", "60")
    narrow = call(*command, "--help")

    assert narrow.stdout.split() == wide.stdout.split()
    assert max(map(len, narrow.stdout.splitlines())) <= 80
    assert "<bool>" not in narrow.stdout
    assert "<" not in narrow.stdout


def a_table():
    drawn = table("Runs", ["Run", "Verdict", "Took"], right=["Took"])
    drawn.add_row("risk-monitor-survives-a-kill", Text("failed"), "236 ms")
    drawn.add_row("background latency and a restart", Text("passed"), "2.05 s")
    return drawn


@pytest.mark.parametrize("columns", [200, 60, 48, 46, 30, 10])
def test_a_table_breaks_no_word_however_narrow_the_terminal(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", str(columns))

    show(a_table())

    shown = capsys.readouterr().out
    words = "Runs Run Verdict Took risk-monitor-survives-a-kill failed 236 ms background latency"
    assert set(f"{words} and a restart passed 2.05 s".split()) <= set(shown.split())
    # the headings and the longest word
    assert max(map(len, shown.splitlines())) <= max(columns, 9 + 28)


def test_a_table_that_does_not_fit_shows_each_row_as_lines(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")

    show(a_table())

    assert capsys.readouterr().out == (
        "Runs\n"
        "\n"
        "Run      risk-monitor-survives-a-kill\n"
        "Verdict  failed\n"
        "Took     236 ms\n"
        "\n"
        "Run      background latency and a\n"
        "         restart\n"
        "Verdict  passed\n"
        "Took     2.05 s\n"
    )


def test_a_message_is_one_line_where_no_terminal_reads_it(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "20")
    message = "PostgreSQL at db.example:5432/trading_ecosystem does not respond"

    say(message)

    assert capsys.readouterr().err == f"{message}\n"


def test_on_a_terminal_a_message_is_broken_between_words_only(monkeypatch):
    terminal = Console(file=io.StringIO(), force_terminal=True, width=20, color_system=None)
    monkeypatch.setattr(screen, "errors", lambda: terminal)

    say("PostgreSQL at db.example:5432/trading_ecosystem does not respond")

    assert terminal.file.getvalue().split() == (
        ["PostgreSQL", "at", "db.example:5432/trading_ecosystem", "does", "not", "respond"]
    )
    assert terminal.file.getvalue().count("\n") == 3


@pytest.mark.parametrize(
    "command", ["migrate --check", "audit verify", "prune", "import chaostoolkit ."]
)
def test_a_url_that_cannot_be_parsed_is_a_wrong_setting(call, monkeypatch, command):
    monkeypatch.setenv(f"{PREFIX}IN_MEMORY", "false")
    monkeypatch.setenv(f"{PREFIX}POSTGRES_URL", "postgresql://me:hunter2@db.example:x/mine")
    monkeypatch.setenv(f"{PREFIX}REDIS_URL", "redis://127.0.0.1:1")

    result = call(*command.split())

    assert (result.exit_code, result.stdout) == (2, "")
    assert "port" in result.stderr
    assert "hunter2" not in result.stderr


@pytest.mark.parametrize(
    "command",
    ["migrate", "migrate --check", "migrate --check --json", "audit seal", "audit verify"],
)
def test_in_memory_no_database_is_contacted(call, monkeypatch, command):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql://me:hunter2@127.0.0.1:{server.getsockname()[1]}/mine"
        monkeypatch.setenv(f"{PREFIX}POSTGRES_URL", url)
        monkeypatch.setenv(f"{PREFIX}MIGRATION_URL", url)
        monkeypatch.setenv(f"{PREFIX}POSTGRES_CONNECT_TIMEOUT", "1")

        result = call(*command.split())

        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()
    assert result.exit_code == 2
    assert "in_memory is set" in result.stderr
    assert "--url" in result.stderr


A_SLOW_THIRD_JOURNAL = """
import asyncio, sys
from test_coordinator_data_adapter.__main__ import main
from test_coordinator_data_adapter.journals import JournalImporter

import_file, calls = JournalImporter.import_file, []

async def slow(self, path):
    calls.append(path)
    if len(calls) == 3:
        print("READY", file=sys.stderr, flush=True)
        await asyncio.sleep(600)
    return await import_file(self, path)

JournalImporter.import_file = slow
sys.exit(main())
"""


@pytest.mark.parametrize(("sent", "options"), [(signal.SIGINT, []), (signal.SIGTERM, ["--json"])])
def test_an_interrupted_import_reports_how_far_it_got(samples, sent, options):
    with subprocess.Popen(
        [sys.executable, "-c", A_SLOW_THIRD_JOURNAL, "import", "chaostoolkit", *options, samples],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {f"{PREFIX}IN_MEMORY": "true"},
    ) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "READY\n"
        running.send_signal(sent)
        stdout, stderr = running.communicate(timeout=120)

    assert running.returncode == 130
    message = "Interrupted after 2 of 10 journals (2 imported). Run the command again to import"
    assert stderr == f"{message} the rest.\n"
    if options:
        error = json.loads(stdout)["error"]
        assert (error["exit_code"], error["total"]) == (130, 10)
        assert [journal["outcome"] for journal in error["journals"]] == ["imported"] * 2
    else:
        assert stdout == ""


def test_with_json_an_interruption_is_json_too(call, monkeypatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("anyio.run", interrupted)

    result = call("health", "--json")

    assert result.exit_code == 130
    assert json.loads(result.stdout) == {"error": {"exit_code": 130, "message": "interrupted"}}
