from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

SECTIONS = (
    "Scenarios",
    "Runs",
    "Why they did not pass",
    "Injected chaos",
    "Assertions",
    "Registered services",
)


def test_the_demo_shows_everything_a_user_wants_to_see(call):
    result = call("demo")

    assert result.exit_code == 0
    assert result.stderr == ""
    assert [line for line in result.stdout.splitlines() if line in SECTIONS] == list(SECTIONS)
    for shown in (
        "scen_001",
        "Background latency + restart",
        "network_latency  risk-monitor",
        "p99-latency-within-sla   latency",
        "cancelled",
        "test-coordinator  test-coordinator-demo",
        "7 of 8",
        "88%",
        "action 'boom' (tsefaults.boom) raised: injected failure: docker",
    ):
        assert shown in result.stdout
    assert result.stdout.endswith(
        "10 recorded experiments: 10 imported.\nAnswered by memory (gone when this command ends).\n"
    )


def test_the_demo_counts_the_verdicts_right(call):
    lines = call("demo").stdout.split("Why they did not pass")[0].splitlines()

    verdicts = [line.split("  ")[1:] for line in lines]
    words = [word.strip() for line in verdicts for word in line]
    assert {word: words.count(word) for word in ("passed", "failed", "error", "cancelled")} == {
        "passed": 2,
        "failed": 3,
        "error": 2,
        "cancelled": 3,
    }


def test_the_demo_prints_the_same_every_time(call):
    assert call("demo").stdout == call("demo").stdout


@pytest.mark.parametrize("columns", ["80", "60", "40", "200"])
def test_no_line_is_wider_than_the_terminal_or_ends_in_blanks(call, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", columns)

    lines = call("demo").stdout.splitlines()

    assert max(len(line) for line in lines) <= max(int(columns), 78)
    assert [line for line in lines if line != line.rstrip()] == []


def test_the_program_is_silent_but_for_the_tables(program):
    ended = program("demo")

    assert ended.returncode == 0
    assert ended.stderr == ""
    assert "\x1b" not in ended.stdout


def test_a_terminal_without_unicode_gets_the_tables_too(program):
    ended = program("demo", PYTHONIOENCODING="ascii", LC_ALL="C")

    assert ended.returncode == 0
    assert ended.stderr == ""
    assert ended.stdout.isascii()


def test_verbose_says_on_standard_error_what_the_library_does(program):
    ended = program("--verbose", "demo")

    assert ended.returncode == 0
    assert "factory_initialized" in ended.stderr
    assert "factory_initialized" not in ended.stdout


def test_on_a_terminal_the_verdicts_have_colours():
    ours, theirs = pty.openpty()
    environment = {name: held for name, held in os.environ.items() if name != "NO_COLOR"}
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "test_coordinator_data_adapter", "demo"],
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=environment | {"TERM": "xterm-256color"},
    ) as running:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how a terminal whose program has gone ends
                break
            if not part:
                break
            shown += part
        os.close(ours)

    assert running.returncode == 0
    assert b"\x1b[32mpassed" in shown
    assert b"\x1b[31mfailed" in shown
    assert b"\x1b[33mcancelled" in shown
