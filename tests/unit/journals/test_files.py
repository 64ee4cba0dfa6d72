from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from test_coordinator_data_adapter.errors import ConfigurationError, InvalidValueError
from test_coordinator_data_adapter.journals.document import parse_journal
from test_coordinator_data_adapter.journals.files import printable, read_file
from test_coordinator_data_adapter.journals.mapping import (
    MAX_MAPPING_BYTES,
    load_mapping,
    parse_mapping,
)


def a_pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def a_file_of(content: str):
    def write(folder: Path) -> Path:
        path = folder / "mapping.toml"
        path.write_text(content)
        return path

    return write


UNREADABLE = {
    "a pipe": (a_pipe, "is not a regular file"),
    "a device without an end": (lambda _: Path("/dev/zero"), "is not a regular file"),
    "a file below /proc": (lambda _: Path("/proc/kmsg"), "is empty"),
    "a folder": (lambda folder: folder, "is not a regular file"),
    "an empty file": (a_file_of(""), "is empty"),
    "a large file": (a_file_of("{}," * MAX_MAPPING_BYTES), "is larger than 256 KiB"),
    "a name that is too long": (lambda folder: folder / ("a" * 5000), "too long"),
    "a name with NUL": (lambda folder: folder / "a\0b", "cannot be the name of a file"),
}


@pytest.mark.parametrize(("make", "problem"), UNREADABLE.values(), ids=UNREADABLE)
def test_what_is_no_ordinary_mapping_file_is_refused_without_waiting(tmp_path, make, problem):
    with pytest.raises(ConfigurationError, match=problem):
        load_mapping(make(tmp_path))


SLOW = {
    "too many dotted keys": "a." * 100_000 + "a = 1",
    "too many quoted keys": '"\u2028".' * 40_000 + "a = 1",
    "an unterminated text": '"' + '\\"' * 100_000,
    "too many patterns in a rule": (
        "[[assertion]]\nassertion_type = 'latency'\nmatch = [" + "'a*'," * 50_000 + "]"
    ),
    "too many rules": "[[assertion]]\nassertion_type = 'latency'\nmatch = 'a'\n" * 1001,
    "a pattern that is too long": (
        f"[[assertion]]\nassertion_type = 'latency'\nmatch = '{'*a' * 501}'"
    ),
    "a number with too many digits": "x = " + "1" * 5000,
    "too deep": "x = " + "[" * 100_000,
}


@pytest.mark.parametrize("text", SLOW.values(), ids=SLOW)
def test_a_mapping_that_would_take_long_is_refused_at_once(text):
    began = time.thread_time()

    with pytest.raises(ConfigurationError, match=r"^mapping: ") as raised:
        parse_mapping(text, where="mapping")

    assert time.thread_time() - began < 5
    assert len(str(raised.value)) < 200


def test_patterns_and_comments_may_contain_any_number_of_dots():
    text = (
        f"# {'.' * 200}\n[[assertion]]\nassertion_type = 'latency'\n"
        "match = [" + ", ".join(f"'a.b.c{number}'" for number in range(100)) + "]"
    )

    assert len(parse_mapping(text, where="mapping").assertions[0].patterns.texts) == 100


@pytest.mark.parametrize("unit", [b"{},", b"0,", b"[[]],"])
def test_a_journal_of_too_many_values_is_refused_before_it_is_parsed(unit):
    content = b"[" + unit * (8_000_000 // len(unit)) + b"0]"

    with pytest.raises(InvalidValueError, match=r"more than 4,000,000 values"):
        parse_journal(content)


def test_a_file_may_be_as_large_as_the_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 2048)

    assert read_file(path, max_bytes=2048) == b"x" * 2048
    with pytest.raises(InvalidValueError, match="is larger than 1 KiB"):
        read_file(path, max_bytes=1024)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a b.toml", "a b.toml"), ("a\nb", r"'a\nb'"), ("\x1b[31m", r"'\x1b[31m'"), ("é", "é")],
)
def test_names_are_shown_without_characters_that_could_change_a_terminal(text, shown):
    assert printable(text) == shown


def test_a_mapping_file_cannot_forge_a_line(tmp_path):
    with pytest.raises(ConfigurationError) as raised:
        load_mapping(tmp_path / "a\nrun-1: imported")

    assert "\n" not in str(raised.value)
