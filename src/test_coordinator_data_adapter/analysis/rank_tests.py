"""Whether the times of one sample tend to be longer than those of another, and by how much."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, groupby
from math import comb, erfc, floor, sqrt
from operator import le, lt
from typing import Final

from test_coordinator_data_adapter.analysis.percentiles import interpolate
from test_coordinator_data_adapter.analysis.rates import Z_95, Interval

__all__ = ["hodges_lehmann", "mann_whitney", "smallest_p_value"]

# The largest product of the sample sizes for which the exact distribution is computed.
_EXACT_UP_TO: Final = 400
_TAIL: Final = 0.025


def mann_whitney(baseline: Sequence[float], candidate: Sequence[float]) -> float:
    """The two-sided p-value of the Mann-Whitney test.

    While ``n1 * n2`` is at most 400 it is computed from the exact permutation distribution of
    the midranks: twice the smaller of the two tails, at most 1. Above, it is the normal
    approximation with tie and continuity correction.

    Args:
        baseline: at least one value, in any order; ``math.inf`` stands for never.
        candidate: likewise.
    """
    ranks, ties = _doubled_midranks((*baseline, *candidate))
    n, n1, n2 = len(ranks), len(baseline), len(candidate)
    if n1 * n2 <= _EXACT_UP_TO:
        observed = sum(ranks[:n1] if n1 <= n2 else ranks[n1:])
        ways = _rank_sums(ranks, min(n1, n2))
        return min(1.0, 2 * min(sum(ways[: observed + 1]), sum(ways[observed:])) / comb(n, n1))
    # The mean of the sum of the doubled midranks is n1 * (n + 1).
    distance = abs(sum(ranks[:n1]) - n1 * (n + 1)) / 2
    variance = n1 * n2 / 12 * (n + 1 - sum(tie**3 - tie for tie in ties) / (n * (n - 1)))
    return erfc(max(0.0, distance - 0.5) / sqrt(2 * variance)) if variance else 1.0


def smallest_p_value(n1: int, n2: int) -> float:
    """The smallest p-value `mann_whitney` can give for samples of these sizes, 1 or more each."""
    return min(1.0, 2 / comb(n1 + n2, n1))


def hodges_lehmann(
    baseline: Sequence[float], candidate: Sequence[float]
) -> tuple[float, Interval | None]:
    """The Hodges-Lehmann shift: the median of all differences candidate - baseline.

    Never minus never is 0; a difference between never and a finite time is infinite.

    Args:
        baseline: at least one value, in ascending order; ``math.inf`` stands for never.
        candidate: likewise.

    Returns:
        The shift and its 95 % interval, which follows from the distribution of the
        Mann-Whitney statistic without ties; None instead of the interval when the samples are
        too small for one.
    """
    n = len(baseline) * len(candidate)
    pair = [_difference_at(index, baseline, candidate) for index in ((n - 1) // 2, n // 2)]
    shift = interpolate(pair, 0, Fraction(1, 2))
    outside = _differences_outside(len(baseline), len(candidate))
    if outside == 0:
        return shift, None
    low = _difference_at(outside - 1, baseline, candidate)
    return shift, Interval(low, _difference_at(n - outside, baseline, candidate))


def _doubled_midranks(values: Sequence[float]) -> tuple[list[int], list[int]]:
    """Twice the midrank of each value, which is an integer, and the sizes of the ties."""
    ranks = [0] * len(values)
    ties: list[int] = []
    before = 0
    order = sorted(range(len(values)), key=values.__getitem__)
    for _, group in groupby(order, key=values.__getitem__):
        tied = list(group)
        for place in tied:
            ranks[place] = 2 * before + len(tied) + 1
        before += len(tied)
        ties.append(len(tied))
    return ranks, ties


def _rank_sums(ranks: Sequence[int], size: int) -> list[int]:
    """At index ``s``: how many ways there are to choose ``size`` of the ranks with sum ``s``."""
    width = comb(len(ranks), size).bit_length() // 8 + 1
    # One integer holds the numbers for all sums, `width` bytes each: a polynomial whose
    # multiplication by x^rank is a shift. ways[k] is the one for k ranks.
    ways = [1] + [0] * size
    for rank in ranks:
        for k in range(size, 0, -1):
            ways[k] += ways[k - 1] << (8 * width * rank)
    largest = sum(sorted(ranks)[-size:])
    packed = ways[size].to_bytes(width * (largest + 1), "little")
    return [
        int.from_bytes(packed[start : start + width], "little")
        for start in range(0, len(packed), width)
    ]


@lru_cache
def _differences_outside(n1: int, n2: int) -> int:
    """How many of the ordered differences lie below the 95 % interval, and as many above it."""
    if n1 * n2 <= _EXACT_UP_TO:
        size = min(n1, n2)
        smallest_sum = size * (size + 1) // 2
        ways = _rank_sums(range(1, n1 + n2 + 1), size)[smallest_sum:]
        limit = _TAIL * comb(n1 + n2, n1)
        return sum(at_most <= limit for at_most in accumulate(ways))
    deviation = sqrt(n1 * n2 * (n1 + n2 + 1) / 12)
    return max(0, floor(n1 * n2 / 2 - Z_95 * deviation + 0.5))


def _difference_at(index: int, baseline: Sequence[float], candidate: Sequence[float]) -> float:
    """The difference at an index among all candidate - baseline in ascending order.

    It is selected without making all of them: there are n1 * n2.
    """
    # For each value of the baseline: the positions in the candidate that are still possible.
    starts, stops = [0] * len(baseline), [len(candidate)] * len(baseline)
    while True:
        pivot = _weighted_median(
            (_minus(candidate[(start + stop) // 2], x), stop - start)
            for x, start, stop in zip(baseline, starts, stops, strict=True)
            if start < stop
        )
        below = _how_many(lt, pivot, baseline, candidate)
        up_to = _how_many(le, pivot, baseline, candidate)
        if index < sum(below):
            stops = list(map(min, stops, below))
        elif index >= sum(up_to):
            starts = list(map(max, starts, up_to))
        else:
            return pivot


def _weighted_median(weighted: Iterable[tuple[float, int]]) -> float:
    ordered = sorted(weighted)
    reached = list(accumulate(weight for _, weight in ordered))
    return ordered[bisect_left(reached, reached[-1] / 2)][0]


def _how_many(
    compare: Callable[[float, float], bool],
    limit: float,
    baseline: Sequence[float],
    candidate: Sequence[float],
) -> list[int]:
    """For each value of the baseline: how many differences from it compare so with the limit."""
    counts: list[int] = []
    stop = 0
    for x in baseline:
        while stop < len(candidate) and compare(_minus(candidate[stop], x), limit):
            stop += 1
        counts.append(stop)
    return counts


def _minus(y: float, x: float) -> float:
    return 0 if y == x else y - x
