from __future__ import annotations

import pytest

from test_coordinator_data_adapter.cli.screen import duration, plain, ratio


@pytest.mark.parametrize(
    ("milliseconds", "shown"),
    [
        (None, "-"),
        (0, "0 ms"),
        (999, "999 ms"),
        (999.7, "1.00 s"),
        (1000, "1.00 s"),
        (119_990, "119.99 s"),
        (120_000, "2 min 0 s"),
        (3_725_000, "62 min 5 s"),
    ],
)
def test_a_duration_is_shown_in_the_unit_that_people_would_choose(milliseconds, shown):
    assert duration(milliseconds) == shown


@pytest.mark.parametrize(("part", "shown"), [(0, "0%"), (2 / 3, "67%"), (1, "100%")])
def test_a_ratio_is_shown_as_per_cent(part, shown):
    assert ratio(part) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Straße 🦜", "Straße 🦜"),
        ("a\nb\tc", "a b c"),
        ("a\x1b[2Jb", "a\ufffd[2Jb"),
        ("a\u202eb", "a\ufffdb"),
        ("a\ud800b", "a\ufffdb"),
    ],
)
def test_nothing_that_could_steer_a_terminal_is_shown(text, shown):
    assert plain(text) == shown
