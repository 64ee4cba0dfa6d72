"""The Mann-Whitney test and the Hodges-Lehmann shift against scipy and against brute force."""

from __future__ import annotations

import statistics
from itertools import combinations, product
from math import inf, isnan
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from test_coordinator_data_adapter.analysis import (
    hodges_lehmann,
    mann_whitney,
    smallest_p_value,
)

tied = st.lists(st.integers(0, 6), min_size=1, max_size=7)


@pytest.mark.parametrize("sizes", [(1, 1), (3, 3), (5, 8), (8, 5), (20, 20), (2, 200)])
def test_without_ties_the_p_value_is_exactly_the_one_scipy_computes(sizes):
    random = Random(sum(sizes))
    for _ in range(5):
        values = random.sample(range(10_000), sum(sizes))
        one, other = values[: sizes[0]], values[sizes[0] :]

        expected = stats.mannwhitneyu(one, other, method="exact").pvalue

        assert mann_whitney(one, other) == pytest.approx(expected, rel=1e-9)


@given(tied, tied)
def test_with_ties_the_p_value_is_that_of_every_permutation(one, other):
    ranks = stats.rankdata(one + other)
    observed = sum(ranks[: len(one)])
    sums = [sum(group) for group in combinations(ranks, len(one))]

    shorter = sum(total <= observed for total in sums) / len(sums)
    longer = sum(total >= observed for total in sums) / len(sums)

    assert mann_whitney(one, other) == pytest.approx(min(1, 2 * min(shorter, longer)))


def test_with_ties_the_p_value_is_the_one_of_scipys_permutation_test():
    random = Random(11)
    for _ in range(5):
        one = [random.randrange(8) for _ in range(6)]
        other = [random.randrange(3, 11) for _ in range(5)]

        exact = stats.PermutationMethod(n_resamples=10_000)

        assert mann_whitney(one, other) == pytest.approx(
            stats.mannwhitneyu(one, other, method=exact).pvalue
        )


def test_three_against_three_can_never_be_below_a_tenth():
    # The normal approximation gives 0.047 here.
    assert mann_whitney([1, 1, 1], [2, 2, 2]) == pytest.approx(0.10)
    assert smallest_p_value(3, 3) == pytest.approx(0.10)


@given(tied, tied)
def test_no_p_value_is_below_the_smallest_for_these_sizes(one, other):
    assert mann_whitney(one, other) >= smallest_p_value(len(one), len(other)) * (1 - 1e-12)


@pytest.mark.parametrize("sizes", [(21, 20), (50, 60), (400, 2), (300, 500)])
@pytest.mark.parametrize("kinds", [5, 100_000])
def test_above_400_pairs_the_p_value_is_scipys_normal_approximation(sizes, kinds):
    random = Random(kinds)
    for shift in (0, kinds // 4):
        one = [random.randrange(kinds) for _ in range(sizes[0])]
        other = [random.randrange(kinds) + shift for _ in range(sizes[1])]

        expected = stats.mannwhitneyu(one, other, method="asymptotic", use_continuity=True)

        assert mann_whitney(one, other) == pytest.approx(expected.pvalue, rel=1e-6)


@pytest.mark.parametrize("n", [2, 30])
def test_values_that_are_all_the_same_give_a_p_value_of_1(n):
    assert mann_whitney([5] * n, [5] * n) == 1.0
    assert mann_whitney([inf] * n, [inf] * n) == 1.0


def test_never_ranks_above_every_time():
    finite = mann_whitney([1, 2, 3, 9, 9], [4, 5, 9, 9, 9])

    assert mann_whitney([1, 2, 3, inf, inf], [4, 5, inf, inf, inf]) == finite


@given(tied, tied)
def test_the_p_value_is_the_same_in_both_directions(one, other):
    assert mann_whitney(one, other) == pytest.approx(mann_whitney(other, one))


@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=30),
    st.lists(st.integers(0, 50), min_size=1, max_size=30),
)
def test_the_shift_is_the_median_of_all_differences(baseline, candidate):
    differences = [y - x for x, y in product(baseline, candidate)]

    shift, _ = hodges_lehmann(sorted(baseline), sorted(candidate))

    assert shift == statistics.median(differences)


def test_the_shift_of_large_samples_is_found_without_making_all_differences():
    random = Random(5)
    baseline = sorted(random.gauss(100, 10) for _ in range(3000))

    shift, (low, high) = hodges_lehmann(baseline, [value + 7 for value in baseline])

    assert shift == pytest.approx(7, abs=1e-9)
    assert 6 < low < 7 < high < 8


@pytest.mark.parametrize(
    ("n1", "n2", "outside"),
    [
        # The published critical values of U, two-sided 5 %: one more is the first difference.
        (4, 4, 1),
        (5, 5, 3),
        (8, 10, 18),
        (10, 10, 24),
        (15, 20, 91),
        (20, 20, 128),
        # Above 400 pairs, from the normal distribution.
        (25, 30, 259),
    ],
)
def test_the_interval_of_a_shift_cuts_off_the_published_number_of_differences(n1, n2, outside):
    baseline = [0.001 * value for value in range(n1)]
    candidate = [float(value) for value in range(n2)]
    differences = sorted(y - x for x, y in product(baseline, candidate))

    _, interval = hodges_lehmann(baseline, candidate)

    assert interval == (differences[outside - 1], differences[-outside])


def test_samples_that_are_too_small_have_a_shift_without_an_interval():
    assert hodges_lehmann([1, 2, 3], [4, 5, 6]) == (3, None)
    assert hodges_lehmann([1], [1]) == (0, None)


@pytest.mark.parametrize(
    ("baseline", "candidate", "expected"),
    [
        ([inf], [inf], 0),
        ([100], [inf], inf),
        ([inf], [100], -inf),
        ([100, inf], [100, inf], 0),
        ([100, 200, 300], [200, inf, inf], inf),
        ([100, 100], [150, inf], inf),  # half way between a time and never
        ([150, inf], [100, 100], -inf),
        ([inf] * 30, [inf] * 30, 0),
    ],
)
def test_the_shift_to_never_is_infinite_and_never_minus_never_is_0(baseline, candidate, expected):
    shift, interval = hodges_lehmann(baseline, candidate)

    assert shift == expected
    assert not any(map(isnan, interval or ()))


def test_the_interval_contains_the_true_shift_in_95_percent_of_samples():
    random = Random(9)

    def interval():
        baseline = sorted(random.lognormvariate(0, 1) for _ in range(8))
        return hodges_lehmann(baseline, sorted(random.lognormvariate(0, 1) for _ in range(8)))[1]

    covered = sum(low <= 0 <= high for low, high in (interval() for _ in range(500)))

    # Of 500 samples 475 are expected, with a standard deviation of 5.
    assert covered >= 460
