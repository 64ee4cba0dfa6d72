"""Pass rates: their intervals, and whether two of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, lgamma, sqrt
from statistics import NormalDist
from typing import Final, NamedTuple

from test_coordinator_data_adapter.models.test_result import ResultStatus
from test_coordinator_data_adapter.models.test_run import RunStatus

__all__ = [
    "Interval",
    "Rate",
    "fisher_exact",
    "newcombe_interval",
    "pass_rate",
    "wilson_interval",
]

Z_95: Final = NormalDist().inv_cdf(0.975)
"""Half the width of a 95 % interval of the normal distribution, in standard deviations."""

# Two tables whose probabilities differ by less than this, relatively, are equally likely: they
# are computed with rounding errors.
_SAME_PROBABILITY: Final = 1e-7


class Interval(NamedTuple):
    """A 95 % interval, both ends included."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Rate:
    """How many of those that were judged passed.

    Attributes:
        passed: how many passed.
        judged: how many were judged; see `pass_rate`.
    """

    passed: int
    judged: int

    @property
    def value(self) -> float | None:
        """``passed / judged``; None when none was judged."""
        return self.passed / self.judged if self.judged else None

    @property
    def interval(self) -> Interval | None:
        """Wilson's 95 % interval; None when none was judged."""
        return wilson_interval(self.passed, self.judged) if self.judged else None


def pass_rate(tally: Mapping[RunStatus, int] | Mapping[ResultStatus, int]) -> Rate:
    """The pass rate of runs or results.

    Args:
        tally: how many there are of each status.

    Returns:
        Passed of judged; the judged ones are passed, failed, error and timeout.
    """
    judged = {status: n for status, n in tally.items() if status.is_judged}
    return Rate(sum(n for status, n in judged.items() if status == "passed"), sum(judged.values()))


def wilson_interval(passed: int, n: int) -> Interval:
    """Wilson's 95 % score interval of the rate ``passed / n``, for ``n`` of at least 1."""
    rate, z2 = passed / n, Z_95 * Z_95
    center = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = Z_95 / (1 + z2 / n) * sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return Interval(
        0.0 if passed == 0 else center - half,
        1.0 if passed == n else center + half,
    )


def newcombe_interval(baseline: Rate, candidate: Rate) -> Interval | None:
    """Newcombe's 95 % hybrid score interval of the candidate's rate minus the baseline's.

    Returns:
        The interval, within -1 to 1; None when either has none judged.
    """
    if baseline.value is None or candidate.value is None:
        return None
    before = wilson_interval(baseline.passed, baseline.judged)
    after = wilson_interval(candidate.passed, candidate.judged)
    difference = candidate.value - baseline.value
    down = sqrt((candidate.value - after.low) ** 2 + (before.high - baseline.value) ** 2)
    up = sqrt((after.high - candidate.value) ** 2 + (baseline.value - before.low) ** 2)
    return Interval(difference - down, difference + up)


def fisher_exact(baseline: Rate, candidate: Rate) -> float:
    """The two-sided p-value of Fisher's exact test that both have the same pass rate.

    It is the probability, the margins being fixed, of all tables that are at most as likely as
    the one observed.
    """
    passed, n = baseline.passed + candidate.passed, baseline.judged + candidate.judged

    def log_weight(k: int) -> float:
        """Of ``k`` passed ones in the baseline, up to a constant."""
        return _log_comb(baseline.judged, k) + _log_comb(candidate.judged, passed - k)

    total = _log_comb(n, passed)
    observed = log_weight(baseline.passed) + _SAME_PROBABILITY
    tables = range(max(0, passed - candidate.judged), min(passed, baseline.judged) + 1)
    weights = map(log_weight, tables)
    return min(1.0, sum(exp(weight - total) for weight in weights if weight <= observed))


def _log_comb(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)
