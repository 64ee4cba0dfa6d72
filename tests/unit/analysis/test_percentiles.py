"""Percentiles against the standard library, and their intervals against scipy."""

from __future__ import annotations

import statistics
from math import inf, isnan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from test_coordinator_data_adapter.analysis import (
    percentile,
    percentile_interval,
    smallest_n_with_interval,
)

PERCENTS = (1, 5, 25, 50, 75, 90, 95, 99)
milliseconds = st.integers(0, 2**53)
finite = st.floats(allow_nan=False, allow_infinity=False)


def standard_percentiles(ordered):
    every = statistics.quantiles(ordered, n=100, method="inclusive")
    return [every[percent - 1] for percent in PERCENTS]


@given(st.lists(milliseconds, min_size=2, max_size=50).map(sorted))
def test_percentiles_of_integers_are_exactly_those_of_the_standard_library(ordered):
    expected = standard_percentiles(ordered)

    assert [percentile(ordered, percent) for percent in PERCENTS] == expected


@given(st.lists(finite, min_size=1, max_size=50).map(sorted), st.integers(0, 100))
def test_percentiles_of_floats_lie_between_the_values_next_to_them(ordered, percent):
    position = percent * (len(ordered) - 1) // 100

    value = percentile(ordered, percent)

    assert ordered[position] <= value <= ordered[min(position + 1, len(ordered) - 1)]


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=50).map(sorted))
def test_percentiles_of_floats_are_those_of_the_standard_library(ordered):
    expected = standard_percentiles(ordered)

    assert [percentile(ordered, percent) for percent in PERCENTS] == pytest.approx(
        expected, rel=1e-12, abs=1e-9
    )


def test_nothing_has_no_percentile():
    assert percentile([], 50) is None


def test_one_value_is_every_percentile():
    assert [percentile([7], percent) for percent in (0, 50, 99, 100)] == [7, 7, 7, 7]


@pytest.mark.parametrize(
    ("ordered", "percent", "expected"),
    [
        ([100, 200, inf], 50, 200),  # falls on a value: fraction 0
        ([100, inf, inf], 50, inf),
        ([100, inf], 50, inf),  # half way between 100 ms and never
        ([100, inf], 1, inf),  # a hundredth of the way to never is never
        ([100, inf], 0, 100),
        ([inf], 50, inf),
        ([inf, inf], 50, inf),  # half way from never to never
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, inf], 90, 10),  # 0.9 * 10 is 9 exactly
        ([*range(1, 21), inf], 95, 20),
    ],
)
def test_never_is_longer_than_any_time(ordered, percent, expected):
    value = percentile(ordered, percent)

    assert value == expected
    assert not isnan(value)


@pytest.mark.parametrize(("percent", "n"), [(50, 6), (90, 36), (95, 72), (99, 368)])
def test_an_interval_exists_from_a_number_of_values_on(percent, n):
    assert smallest_n_with_interval(percent) == n
    assert percentile_interval(range(n - 1), percent) is None
    assert percentile_interval(range(n), percent) is not None


@pytest.mark.parametrize("percent", [10, 50, 90, 95, 99])
@pytest.mark.parametrize("n", [6, 36, 72, 100, 368, 500, 5000])
def test_the_interval_leaves_at_most_two_and_a_half_percent_on_each_side(n, percent):
    # The rank is the value: the i-th smallest of n values is i.
    interval = percentile_interval(range(1, n + 1), percent)
    if n < smallest_n_with_interval(percent):
        assert interval is None
        return

    low, high = interval
    below = stats.binom(n, percent / 100).cdf
    assert below(low - 1) <= 0.025 < below(low)
    assert 1 - below(high - 1) <= 0.025 < 1 - below(high - 2)


def test_the_interval_of_a_median_worked_out_by_hand():
    # Of 10 values, P(B <= 1) = 11 / 1024 and P(B <= 2) = 56 / 1024: the second and the ninth.
    assert percentile_interval([10, 20, 30, 40, 50, 60, 70, 80, 90, 100], 50) == (20, 90)


def test_an_interval_may_end_at_never():
    assert percentile_interval([1, 2, 3, 4, inf, inf], 50) == (1, inf)


def test_the_interval_contains_the_percentile_in_95_percent_of_samples():
    random = Random(3)
    samples = (sorted(random.random() for _ in range(50)) for _ in range(1000))

    intervals = [percentile_interval(ordered, 90) for ordered in samples]

    assert sum(low <= 0.9 <= high for low, high in intervals) >= 950
