"""Pass rates against scipy and against the worked examples of Newcombe's paper."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from test_coordinator_data_adapter.analysis import (
    Interval,
    Rate,
    fisher_exact,
    newcombe_interval,
    pass_rate,
    wilson_interval,
)
from test_coordinator_data_adapter.models import ResultStatus, RunStatus


@st.composite
def rates(draw, largest=200):
    judged = draw(st.integers(1, largest))
    return Rate(draw(st.integers(0, judged)), judged)


@given(rates(largest=100_000))
def test_the_interval_of_a_rate_is_the_one_scipy_computes(rate):
    expected = stats.binomtest(rate.passed, rate.judged).proportion_ci(method="wilson")

    assert rate.interval == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-12)


@given(rates())
def test_the_interval_of_a_rate_contains_it_and_lies_within_0_and_1(rate):
    low, high = wilson_interval(rate.passed, rate.judged)

    assert 0 <= low <= rate.value <= high <= 1


@pytest.mark.parametrize(
    ("passed", "n", "low", "high"),
    [
        # Wilson's interval by hand: z = 1.959964, z^2 = 3.841459.
        (0, 1, 0.0, 0.793450),  # z^2 / (1 + z^2)
        (1, 1, 0.206549, 1.0),  # 1 / (1 + z^2)
        (5, 10, 0.236593, 0.763407),  # 1/2 -+ z / (2 sqrt(10 + z^2))
    ],
)
def test_the_interval_of_a_rate_worked_out_by_hand(passed, n, low, high):
    assert wilson_interval(passed, n) == pytest.approx((low, high), abs=1e-6)


def test_nothing_judged_has_neither_rate_nor_interval():
    rate = Rate(0, 0)

    assert rate.value is None
    assert rate.interval is None


def test_the_pass_rate_of_runs_leaves_out_what_was_not_judged():
    tally = dict(zip(RunStatus, (1, 2, 4, 8, 16, 32, 64), strict=True))

    assert list(tally) == [
        *("pending", "running", "passed", "failed", "error", "cancelled", "timeout")
    ]
    assert pass_rate(tally) == Rate(passed=4, judged=4 + 8 + 16 + 64)


def test_the_pass_rate_of_results_leaves_out_skipped_ones():
    tally = {
        ResultStatus.PASSED: 1,
        ResultStatus.FAILED: 2,
        ResultStatus.SKIPPED: 4,
        ResultStatus.ERROR: 8,
    }

    assert pass_rate(tally) == Rate(passed=1, judged=11)


def test_the_pass_rate_of_nothing_has_no_value():
    assert pass_rate({}).value is None
    assert pass_rate({RunStatus.CANCELLED: 3}).value is None


@given(rates(), rates())
def test_fishers_p_value_is_the_one_scipy_computes(baseline, candidate):
    table = [[rate.passed, rate.judged - rate.passed] for rate in (baseline, candidate)]

    assert fisher_exact(baseline, candidate) == pytest.approx(
        stats.fisher_exact(table).pvalue, rel=1e-6
    )


def test_fishers_p_value_worked_out_by_hand():
    # Fisher's tea: of the C(8, 4) = 70 tables, 1 + 16 are as extreme as 3 of 4 on each side.
    assert fisher_exact(Rate(3, 4), Rate(1, 4)) == pytest.approx(34 / 70)
    assert fisher_exact(Rate(4, 4), Rate(0, 4)) == pytest.approx(2 / 70)


def test_fishers_p_value_of_large_groups_is_computed_in_time():
    table = [[90_000, 10_000], [89_500, 10_500]]

    assert fisher_exact(Rate(90_000, 100_000), Rate(89_500, 100_000)) == pytest.approx(
        stats.fisher_exact(table).pvalue, rel=1e-4
    )


@pytest.mark.parametrize(
    ("candidate", "baseline", "low", "high"),
    [
        # R. G. Newcombe, Interval estimation for the difference between independent
        # proportions, Statistics in Medicine 17 (1998), table II, method 10.
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0000),
        ((10, 10), (0, 10), 0.6075, 1.0000),
    ],
)
def test_the_interval_of_a_difference_is_the_published_one(candidate, baseline, low, high):
    interval = newcombe_interval(Rate(*baseline), Rate(*candidate))

    assert interval == pytest.approx((low, high), abs=5e-5)


@given(rates(), rates())
def test_the_interval_of_a_difference_contains_it_and_mirrors_when_sides_change(one, other):
    low, high = newcombe_interval(one, other)
    mirrored = newcombe_interval(other, one)

    assert -1 <= low <= other.value - one.value <= high <= 1
    assert mirrored == pytest.approx((-high, -low))


def test_a_difference_to_nothing_has_no_interval():
    assert newcombe_interval(Rate(0, 0), Rate(1, 2)) is None
    assert newcombe_interval(Rate(1, 2), Rate(0, 0)) is None
    assert isinstance(newcombe_interval(Rate(1, 2), Rate(1, 2)), Interval)
