"""Percentiles of times, some of which never ended, and their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate
from math import exp, inf, lgamma, log

from test_coordinator_data_adapter.analysis.rates import Interval

__all__ = ["interpolate", "percentile", "percentile_interval", "smallest_n_with_interval"]

_TAIL = 0.025


def percentile(ordered: Sequence[float], percent: int) -> float | None:
    """A percentile by linear interpolation between order statistics ("inclusive", type 7).

    Args:
        ordered: the values in ascending order; ``math.inf`` stands for never.
        percent: which percentile, 0 to 100.

    Returns:
        The percentile, not rounded further than to a float; ``math.inf`` for never: when the
        position falls on a value that is never, or between a finite value and never. None
        without any value.
    """
    if not ordered:
        return None
    position, hundredths = divmod(percent * (len(ordered) - 1), 100)
    return interpolate(ordered, position, Fraction(hundredths, 100))


def interpolate(ordered: Sequence[float], position: int, fraction: Fraction) -> float:
    """The value that lies a fraction of the way from one position to the next.

    With a fraction of 0 it is the value at ``position``. Otherwise it is infinite when either
    of the two values is.
    """
    low = ordered[position]
    if fraction == 0:
        return low
    high = ordered[position + 1]
    if low in (inf, -inf) or high in (inf, -inf):
        return high if high == inf else low
    # Exact until the end: sums of floats could overflow, or differ from sums of integers.
    return float(Fraction(low) + (Fraction(high) - Fraction(low)) * fraction)


def percentile_interval(ordered: Sequence[float], percent: int) -> Interval | None:
    """The distribution-free 95 % interval of a percentile, from binomial order statistics.

    Args:
        ordered: the values in ascending order; ``math.inf`` stands for never.
        percent: which percentile, 1 to 99.

    Returns:
        Two of the values, outside of which the percentile lies with a probability of at most
        2.5 % on each side; None when there are fewer than `smallest_n_with_interval` values.
    """
    n = len(ordered)
    if n < smallest_n_with_interval(percent):
        return None
    # below[k] is the probability that at most k of the values lie below the percentile.
    below = list(accumulate(_binomial(n, percent / 100)))
    low = sum(probability <= _TAIL for probability in below)
    high = next(k for k, probability in enumerate(below, start=1) if 1 - probability <= _TAIL)
    return Interval(ordered[low - 1], ordered[high - 1])


def smallest_n_with_interval(percent: int) -> int:
    """How many values a percentile (1 to 99) needs to have an interval: 6 for 50, 72 for 95."""
    farther = max(percent, 100 - percent) / 100
    n = max(1, int(log(_TAIL) / log(farther)))
    return n if farther**n <= _TAIL else n + 1


def _binomial(n: int, p: float) -> Iterator[float]:
    for k in range(n + 1):
        log_comb = lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
        yield exp(log_comb + k * log(p) + (n - k) * log(1 - p))
