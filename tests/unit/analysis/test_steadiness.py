"""Which word the newest runs give an assertion."""

from __future__ import annotations

from itertools import product
from random import Random

import pytest

from test_coordinator_data_adapter.analysis import Steadiness, SteadinessWord, steadiness

UNKNOWN, STEADY, BROKEN, FIXED, JUST_FAILED, JUST_PASSED, FLAKY = SteadinessWord


@pytest.mark.parametrize(
    ("letters", "expected"),
    [
        ("", Steadiness(UNKNOWN, 0, 0)),
        ("P", Steadiness(UNKNOWN, 1, 0)),
        ("PFPF", Steadiness(UNKNOWN, 4, 3)),
        ("-SPPPP-S", Steadiness(UNKNOWN, 4, 0)),
        ("PPPPP", Steadiness(STEADY, 5, 0)),
        ("FFFFF", Steadiness(BROKEN, 5, 0)),
        ("EFEFE", Steadiness(BROKEN, 5, 0)),
        ("PPPPF", Steadiness(JUST_FAILED, 5, 1, since=4)),
        ("PPPPE--S", Steadiness(JUST_FAILED, 5, 1, since=4)),
        ("FFFFP", Steadiness(JUST_PASSED, 5, 1, since=4)),
        ("PPPFF", Steadiness(BROKEN, 5, 1, since=3)),
        ("PPP-S-FE", Steadiness(BROKEN, 5, 1, since=6)),
        ("PFFFF", Steadiness(BROKEN, 5, 1, since=1)),
        ("FPPPP", Steadiness(FIXED, 5, 1, since=1)),
        ("PFPPP", Steadiness(FLAKY, 5, 2)),
        ("PFPFP", Steadiness(FLAKY, 5, 4)),
        ("PPPPPPPPPPPPPPPPPPFP", Steadiness(FLAKY, 20, 2)),
    ],
)
def test_the_letters_of_an_assertion_give_its_word(letters, expected):
    assert steadiness(letters) == expected


def test_the_score_is_the_share_of_neighbours_that_differ():
    assert steadiness("PFPFP").score == 1
    assert steadiness("PFPPP").score == 0.5
    assert steadiness("PPPPP").score == 0
    assert steadiness("P").score == 0
    assert steadiness("").score == 0


@pytest.mark.parametrize("letters", ["".join(six) for six in product("PF", repeat=6)])
def test_only_two_or_more_changes_are_flaky(letters):
    changes = letters.count("PF") + letters.count("FP")

    verdict = steadiness(letters)

    assert (verdict.word is FLAKY) == (changes >= 2)
    assert verdict.changes == changes
    assert (verdict.since is None) == (changes != 1)


def test_an_assertion_that_broke_is_never_called_flaky_and_a_flaky_one_mostly_is():
    random = Random(4)
    broken = ["P" * at + "F" * (10 - at) for at in range(1, 10)]
    flaky = ["".join(random.choices("PF", (4, 1), k=10)) for _ in range(2000)]

    assert not [letters for letters in broken if steadiness(letters).word is FLAKY]
    # An assertion that fails one time in five is detected in 81 % of windows of ten.
    assert sum(steadiness(letters).word is FLAKY for letters in flaky) / 2000 == pytest.approx(
        0.81, abs=0.03
    )
