"""Verdicts about two selections of runs: slower or faster, worse or better, or neither."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import inf
from typing import Final, TypeAlias

from test_coordinator_data_adapter.analysis.percentiles import percentile
from test_coordinator_data_adapter.analysis.rank_tests import (
    hodges_lehmann,
    mann_whitney,
    smallest_p_value,
)
from test_coordinator_data_adapter.analysis.rates import (
    Interval,
    Rate,
    fisher_exact,
    newcombe_interval,
)

__all__ = [
    "Comparison",
    "RatesComparison",
    "TimesComparison",
    "Verdict",
    "VerdictWord",
    "compare_rates",
    "compare_times",
    "holm",
    "judge",
]

ALPHA: Final = 0.05
"""A change is reported when its adjusted p-value is below this."""


class VerdictWord(StrEnum):
    """What a comparison shows. No word means "equal": no test can show that."""

    SLOWER = "slower"
    FASTER = "faster"
    WORSE = "worse"
    BETTER = "better"
    NO_EVIDENCE = "no evidence of a change"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class TimesComparison:
    """Times of a candidate against those of a baseline, not yet judged.

    Attributes:
        baseline: how many times the baseline has, never included.
        candidate: how many times the candidate has, never included.
        baseline_median: the baseline's median; ``math.inf`` for never, None without times.
        candidate_median: likewise.
        p_value: the Mann-Whitney test's, not adjusted; None when either has no times.
        smallest_p_value: the smallest p-value that samples of these sizes can give.
        shift: the Hodges-Lehmann shift, candidate - baseline, in the unit of the times; it may
            be infinite. None when either has no times.
        interval: the 95 % interval of the shift; None when the samples are too small for one.
        relevant_shift: a shift of less than this, in either direction, is no change.
    """

    baseline: int
    candidate: int
    baseline_median: float | None
    candidate_median: float | None
    p_value: float | None
    smallest_p_value: float
    shift: float | None
    interval: Interval | None
    relevant_shift: float

    @property
    def sizes(self) -> tuple[int, int]:
        """How many values the baseline and the candidate have."""
        return self.baseline, self.candidate

    @property
    def unit(self) -> str:
        """What the values are, for messages."""
        return "times"

    @property
    def direction(self) -> VerdictWord | None:
        """SLOWER or FASTER; None when the shift is not relevant, whatever its p-value."""
        if not self.shift or abs(self.shift) < self.relevant_shift:
            return None
        return VerdictWord.SLOWER if self.shift > 0 else VerdictWord.FASTER


@dataclass(frozen=True, slots=True)
class RatesComparison:
    """The pass rate of a candidate against that of a baseline, not yet judged.

    Attributes:
        baseline: the baseline's rate.
        candidate: the candidate's rate.
        p_value: the p-value of Fisher's exact test, not adjusted; None when either has none
            judged.
        smallest_p_value: the smallest p-value that groups of these sizes can give.
        difference: candidate - baseline, -1 to 1; None when either has none judged.
        interval: Newcombe's 95 % interval of the difference; None when it is None.
    """

    baseline: Rate
    candidate: Rate
    p_value: float | None
    smallest_p_value: float
    difference: float | None
    interval: Interval | None

    @property
    def sizes(self) -> tuple[int, int]:
        """How many were judged of the baseline and of the candidate."""
        return self.baseline.judged, self.candidate.judged

    @property
    def unit(self) -> str:
        """What was judged, for messages."""
        return "outcomes"

    @property
    def direction(self) -> VerdictWord | None:
        """WORSE or BETTER; None without a difference."""
        if not self.difference:
            return None
        return VerdictWord.WORSE if self.difference < 0 else VerdictWord.BETTER


Comparison: TypeAlias = TimesComparison | RatesComparison
"""Either kind of comparison."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison shows.

    Attributes:
        word: the result.
        adjusted_p_value: the p-value after Holm's correction; None for a comparison that is
            not testable.
        comparisons: how many testable comparisons the correction was made for.
        reason: why nothing can be told (no data, or sample sizes for which no adjusted p-value
            below 0.05 exists), or that a significant shift is not relevant; otherwise None.
    """

    word: VerdictWord
    adjusted_p_value: float | None
    comparisons: int
    reason: str | None = None


def compare_times(
    baseline: Iterable[float],
    candidate: Iterable[float],
    *,
    relative: float = 0.10,
    absolute: float = 50.0,
) -> TimesComparison:
    """Compare two samples of times.

    Args:
        baseline: the times, in any order; ``math.inf`` stands for never.
        candidate: likewise.
        relative: a shift is relevant when it is at least this part of the baseline's median
            and at least ``absolute``. For a median of never or 0, ``absolute`` alone counts.
        absolute: in the unit of the times, 50 ms unless set.
    """
    before, after = sorted(baseline), sorted(candidate)
    median = percentile(before, 50)
    relevant = absolute
    if median is not None and median != inf:
        relevant = max(absolute, relative * abs(median))
    testable = bool(before and after)
    shift, interval = hodges_lehmann(before, after) if testable else (None, None)
    return TimesComparison(
        baseline=len(before),
        candidate=len(after),
        baseline_median=median,
        candidate_median=percentile(after, 50),
        p_value=mann_whitney(before, after) if testable else None,
        smallest_p_value=smallest_p_value(len(before), len(after)) if testable else 1.0,
        shift=shift,
        interval=interval,
        relevant_shift=relevant,
    )


def compare_rates(baseline: Rate, candidate: Rate) -> RatesComparison:
    """Compare two pass rates."""
    before, after = baseline.value, candidate.value
    if before is None or after is None:
        return RatesComparison(baseline, candidate, None, 1.0, None, None)
    # No table of these two sizes is less likely than the one where all passed and none did.
    extremes = Rate(baseline.judged, baseline.judged), Rate(0, candidate.judged)
    return RatesComparison(
        baseline,
        candidate,
        p_value=fisher_exact(baseline, candidate),
        smallest_p_value=fisher_exact(*extremes),
        difference=after - before,
        interval=newcombe_interval(baseline, candidate),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted


def judge(comparisons: Sequence[Comparison]) -> list[Verdict]:
    """Judge all comparisons of one command together.

    A comparison is testable when its sample sizes allow a p-value below 0.05. The p-values of
    the testable ones are adjusted by Holm's correction. A change is reported when the adjusted
    p-value is below 0.05 and, for times, the shift is relevant.

    Returns:
        One verdict for each comparison, in the order given.
    """
    p_values = [_testable_p_value(one) for one in comparisons]
    testable = [p_value for p_value in p_values if p_value is not None]
    adjusted = iter(holm(testable))
    return [
        _untestable(one, len(testable))
        if p_value is None
        else _judged(one, next(adjusted), testable)
        for one, p_value in zip(comparisons, p_values, strict=True)
    ]


def _testable_p_value(one: Comparison) -> float | None:
    return one.p_value if one.smallest_p_value < ALPHA else None


def _untestable(one: Comparison, n: int) -> Verdict:
    missing = [
        name for name, size in zip(("baseline", "candidate"), one.sizes, strict=True) if not size
    ]
    reason = f"the {' and the '.join(missing)} have no {one.unit}"
    if len(missing) == 1:
        reason = f"the {missing[0]} has no {one.unit}"
    if not missing:
        reason = f"{_with_sizes(one)} no p-value below {one.smallest_p_value:#.2g} exists"
    return Verdict(VerdictWord.CANNOT_TELL, None, n, reason)


def _judged(one: Comparison, adjusted: float, p_values: Sequence[float]) -> Verdict:
    n = len(p_values)
    if adjusted < ALPHA and one.direction is not None:
        return Verdict(one.direction, adjusted, n)
    if adjusted < ALPHA:
        return Verdict(VerdictWord.NO_EVIDENCE, adjusted, n, "the shift is not relevant")
    # What the correction would make of the smallest p-value, the others being what they are.
    others = n - sum(p_value < one.smallest_p_value for p_value in p_values)
    smallest = others * one.smallest_p_value
    if smallest < ALPHA:
        return Verdict(VerdictWord.NO_EVIDENCE, adjusted, n)
    reason = (
        f"{_with_sizes(one)} and {n} comparisons no adjusted p-value below {smallest:#.2g} exists"
    )
    return Verdict(VerdictWord.CANNOT_TELL, adjusted, n, reason)


def _with_sizes(one: Comparison) -> str:
    baseline, candidate = one.sizes
    return f"with {baseline} and {candidate} {one.unit}"
