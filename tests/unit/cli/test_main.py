from __future__ import annotations

import os
import pty
import subprocess
import sys
from importlib.metadata import version

import anyio
import pytest
import structlog
from typer.main import get_command

from test_coordinator_data_adapter.cli import app


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra_the_program_says_how_to_install_it(missing):
    code = (
        f"import sys; sys.modules[{missing!r}] = None;"
        "from test_coordinator_data_adapter.__main__ import main; sys.exit(main())"
    )

    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        check=False,
        text=True,
        timeout=600,
    )

    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "pip install 'test-coordinator-data-adapter[cli]'" in ended.stderr
    assert missing in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_missing_module_of_the_package_itself_is_not_taken_for_the_extra():
    code = (
        "import sys; sys.modules['test_coordinator_data_adapter.journals'] = None;"
        "from test_coordinator_data_adapter.__main__ import main; sys.exit(main())"
    )

    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=False, text=True, timeout=600
    )

    assert ended.returncode == 1
    assert "ModuleNotFoundError" in ended.stderr


def test_the_version_is_the_package_s(call):
    result = call("--version")

    assert result.exit_code == 0
    assert result.stdout == version("test-coordinator-data-adapter") + "\n"


def test_a_command_gives_structlog_back_as_it_found_it(call):
    assert call("sql", "roles").exit_code == 0
    assert not structlog.is_configured()

    mine = structlog.testing.LogCapture()
    structlog.configure(processors=[mine])
    assert call("sql", "roles").exit_code == 0

    assert structlog.is_configured()
    assert structlog.get_config()["processors"] == [mine]


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """Runs ``program`` in a shell that redirects what it prints."""
    line = f'program() {{ "{sys.executable}" -m test_coordinator_data_adapter "$@"; }}; {command}'
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, check=False, text=True, timeout=600
    )


@pytest.mark.parametrize("command", ["health --json", "demo"])
def test_a_closed_standard_output_changes_nothing_but_what_is_seen(command):
    seen, unseen = shell(f"program {command}"), shell(f"program {command} >&-")

    assert seen.stdout
    assert unseen.returncode == seen.returncode
    assert unseen.stderr == seen.stderr


@pytest.mark.parametrize("command", ["--version", "demo"])
def test_an_answer_that_cannot_be_written_is_one_line_and_an_exit_code_of_its_own(command):
    ended = shell(f"program {command} >/dev/full")

    assert ended.returncode == 74
    assert "No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "command", ["health >/dev/full 2>&1", "audit prune 2>/dev/full", "nonsense 2>/dev/full"]
)
def test_a_full_disk_for_both_is_not_taken_for_an_answer(command):
    ended = shell(f"program {command}")

    assert ended.returncode == 74
    assert ended.stdout == ""


@pytest.mark.parametrize("command", ["--version", "sql roles"])
def test_an_answer_that_nobody_reads_any_more_has_an_exit_code_of_its_own(command):
    with subprocess.Popen(
        [sys.executable, "-m", "test_coordinator_data_adapter", *command.split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()  # long before the interpreter is up
        told = running.stderr.read()

    assert running.returncode == 141
    assert b"Traceback" not in told
    assert b"Broken" not in told


@pytest.mark.parametrize("command", ["", "audit", "import", "redis", "sql"])
def test_every_group_explains_itself(call, command):
    result = call(*command.split(), "--help")

    assert result.exit_code == 0
    assert "Usage" in result.stdout


def commands(group, *names):
    for name, inner in group.commands.items():
        if hasattr(inner, "commands"):
            yield from commands(inner, *names, name)
        else:
            yield " ".join((*names, name))


@pytest.mark.parametrize("command", list(commands(get_command(app))))
def test_every_command_explains_itself_and_its_exit_codes(call, command):
    result, brief = call(*command.split(), "--help"), call(*command.split(), "-h")

    assert result.exit_code == 0
    assert "Usage" in result.stdout
    assert "Exit code 0" in " ".join(result.stdout.split())
    assert brief.stdout == result.stdout


@pytest.mark.parametrize("arguments", [["nonsense"], ["import", "chaostoolkit"], ["demo", "--no"]])
def test_a_wrong_call_is_a_usage_error(call, arguments):
    result = call(*arguments)

    assert result.exit_code == 2
    assert result.stdout == ""


@pytest.mark.parametrize("command", ["health", "migrate --check", "audit verify"])
def test_an_interruption_is_none_of_the_answers(call, monkeypatch, command):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(anyio, "run", interrupted)

    result = call(*command.split())

    assert result.exit_code == 130
    assert result.stdout == ""


def test_a_bad_setting_is_one_clear_error_without_its_value(call, monkeypatch):
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_POSTGRES_POOL_SIZE", "-7342")

    result = call("demo")

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "postgres_pool_size" in result.stderr
    assert "7342" not in result.stderr
    assert "Traceback" not in result.stderr


def test_what_the_library_says_is_coloured_where_it_is_seen_and_not_in_a_file(tmp_path):
    told = tmp_path / "told"
    ours, theirs = pty.openpty()
    with told.open("wb") as file:
        ended = subprocess.run(
            [sys.executable, "-m", "test_coordinator_data_adapter", "--verbose", "health"],
            stdout=theirs,
            stderr=file,
            env=os.environ | {"TERM": "xterm"},
            check=False,
            timeout=600,
        )
    os.close(theirs)
    shown = os.read(ours, 65536)
    os.close(ours)

    assert ended.returncode == 1
    assert b"\x1b[" in shown
    assert b"factory_initialized" in told.read_bytes()
    assert b"\x1b[" not in told.read_bytes()
