"""Verdicts about two selections: what is found, what is not reported, what cannot be told."""

from __future__ import annotations

from math import inf
from random import Random

import pytest

from test_coordinator_data_adapter.analysis import (
    Rate,
    Verdict,
    VerdictWord,
    compare_rates,
    compare_times,
    holm,
    judge,
)

SLOWER, FASTER, WORSE, BETTER, NO_EVIDENCE, CANNOT_TELL = VerdictWord


def verdict(comparison):
    (one,) = judge([comparison])
    return one


def times(seed, n=10, factor=1.0, median=1000):
    random = Random(seed)
    return [median * factor * random.lognormvariate(0, 0.2) for _ in range(n)]


# Holm's correction


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([], []),
        ([0.03], [0.03]),
        # Worked out by hand: 4 * 0.005, 3 * 0.01, 2 * 0.03, then never less than before.
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02, 0.02], [0.04, 0.04]),
    ],
)
def test_holm_adjusts_p_values_in_the_order_given(p_values, adjusted):
    assert holm(p_values) == pytest.approx(adjusted)


# Times


def test_a_shift_that_exists_is_found_in_its_direction():
    baseline, candidate = times(1), times(2, factor=1.8)

    slower, faster = compare_times(baseline, candidate), compare_times(candidate, baseline)

    assert verdict(slower).word is SLOWER
    assert verdict(faster).word is FASTER
    assert slower.shift == pytest.approx(800, rel=0.3)
    assert slower.interval.low < slower.shift < slower.interval.high
    assert slower.shift == -faster.shift


def test_the_same_times_are_no_evidence_of_a_change():
    comparison = compare_times(times(1), times(1))

    assert verdict(comparison) == Verdict(NO_EVIDENCE, 1.0, 1)
    assert comparison.shift == 0


@pytest.mark.parametrize(
    ("median", "shift", "word"),
    [
        (100, 49, NO_EVIDENCE),  # 49 %, but below 50 ms
        (100, 51, SLOWER),
        (1000, 60, NO_EVIDENCE),  # above 50 ms, but 6 %
        (1000, 101, SLOWER),
        (1000, -101, FASTER),
        (1000, -99, NO_EVIDENCE),
        (0, 51, SLOWER),  # of 0 every shift is more than 10 %
    ],
)
def test_a_shift_below_50_ms_or_10_percent_of_the_baseline_is_no_change(median, shift, word):
    comparison = compare_times([median] * 20, [median + shift] * 20)

    assert verdict(comparison).word is word
    assert (verdict(comparison).reason is None) == (word is not NO_EVIDENCE)


def test_which_shift_is_relevant_can_be_set():
    small = compare_times([100] * 20, [105] * 20, relative=0.01, absolute=1)
    large = compare_times([100] * 20, [190] * 20, relative=1.0)

    assert verdict(small).word is SLOWER
    assert verdict(large).word is NO_EVIDENCE


def test_never_counts_as_slower_than_any_time():
    comparison = compare_times([100] * 10, [100, 100, *[inf] * 8])

    assert verdict(comparison).word is SLOWER
    assert comparison.shift == inf
    assert comparison.candidate_median == inf


def test_a_baseline_of_never_is_compared_by_the_absolute_shift_alone():
    assert verdict(compare_times([inf] * 10, [500] * 10)).word is FASTER
    assert verdict(compare_times([inf] * 10, [inf] * 10)).word is NO_EVIDENCE


def test_three_times_each_are_too_few_to_tell():
    found = verdict(compare_times([1, 1, 1], [9000, 9000, 9000]))

    assert found == Verdict(CANNOT_TELL, None, 0, "with 3 and 3 times no p-value below 0.10 exists")


@pytest.mark.parametrize(
    ("baseline", "candidate", "reason"),
    [
        ([], [1] * 9, "the baseline has no times"),
        ([1] * 9, [], "the candidate has no times"),
        ([], [], "the baseline and the candidate have no times"),
    ],
)
def test_without_times_nothing_can_be_told(baseline, candidate, reason):
    comparison = compare_times(baseline, candidate)

    assert verdict(comparison) == Verdict(CANNOT_TELL, None, 0, reason)
    assert (comparison.p_value, comparison.shift, comparison.interval) == (None, None, None)


# Rates


def test_rates_that_differ_are_worse_or_better():
    one, other = Rate(19, 20), Rate(8, 20)

    assert verdict(compare_rates(one, other)).word is WORSE
    assert verdict(compare_rates(other, one)).word is BETTER
    assert compare_rates(one, other).difference == pytest.approx(-0.55)


def test_rates_that_hardly_differ_are_no_evidence_and_have_an_interval():
    comparison = compare_rates(Rate(18, 20), Rate(17, 20))

    assert verdict(comparison).word is NO_EVIDENCE
    assert comparison.interval.low < -0.05 < comparison.interval.high


def test_too_few_outcomes_cannot_tell():
    assert verdict(compare_rates(Rate(3, 3), Rate(0, 3))).reason == (
        "with 3 and 3 outcomes no p-value below 0.10 exists"
    )
    assert verdict(compare_rates(Rate(0, 0), Rate(5, 5))).reason == "the baseline has no outcomes"


# Several at once


def test_comparisons_at_once_are_corrected_for_how_many_they_are():
    weak = compare_rates(Rate(10, 10), Rate(5, 10))
    alone = verdict(weak)

    together = judge([weak, compare_times(times(1), times(3)), compare_times(times(4), times(5))])

    assert alone == Verdict(WORSE, pytest.approx(0.0325, abs=1e-4), 1)
    assert together[0] == Verdict(NO_EVIDENCE, pytest.approx(3 * 0.0325, abs=3e-4), 3)


def test_comparisons_that_are_not_testable_do_not_weaken_the_others():
    weak = compare_rates(Rate(10, 10), Rate(5, 10))
    hopeless = compare_times([1, 2, 3], [4, 5, 6])

    first, _, last = judge([hopeless, weak, hopeless])

    assert first.word is CANNOT_TELL
    assert judge([hopeless, weak, hopeless])[1] == verdict(weak)
    assert last == first


def test_what_the_correction_makes_impossible_cannot_be_told():
    four = compare_times([1, 2, 3, 4], [1000, 2000, 3000, 4000])
    same = compare_times(times(1), times(1))

    assert verdict(four).word is SLOWER
    assert judge([four, same])[0] == Verdict(
        CANNOT_TELL,
        pytest.approx(4 / 70),
        2,
        "with 4 and 4 times and 2 comparisons no adjusted p-value below 0.057 exists",
    )


def test_nothing_to_judge_is_no_verdict():
    assert judge([]) == []


# False alarms


@pytest.mark.parametrize(
    ("spread", "largest"),
    [
        # Times that vary widely: what limits false alarms is the level of the test alone.
        (0.6, 50),
        # Times that vary by 10 %: most significant shifts are too small to be relevant.
        (0.1, 30),
    ],
)
def test_times_that_did_not_change_raise_an_alarm_in_at_most_5_percent_of_comparisons(
    spread, largest
):
    random = Random(16)

    def sample():
        # About 3 s, and one in fifty never.
        return [
            inf if random.random() < 0.02 else round(random.lognormvariate(8, spread))
            for _ in range(10)
        ]

    alarms = [verdict(compare_times(sample(), sample())) for _ in range(1000)]

    assert sum(alarm.word in {SLOWER, FASTER} for alarm in alarms) <= largest


def test_rates_that_did_not_change_raise_an_alarm_in_at_most_5_percent_of_comparisons():
    random = Random(17)

    def sample():
        return Rate(sum(random.random() < 0.7 for _ in range(20)), 20)

    alarms = [verdict(compare_rates(sample(), sample())) for _ in range(1000)]

    assert sum(alarm.word in {WORSE, BETTER} for alarm in alarms) <= 50


def test_a_gate_of_ten_comparisons_raises_an_alarm_in_at_most_5_percent_of_gates():
    random = Random(18)

    def comparison():
        samples = ([random.lognormvariate(7, 0.5) for _ in range(8)] for _ in range(2))
        return compare_times(*samples)

    gates = [judge([comparison() for _ in range(10)]) for _ in range(100)]

    alarms = sum(any(one.word in {SLOWER, FASTER} for one in gate) for gate in gates)
    assert alarms <= 5
