"""Whether an assertion is steady, broken or flaky."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final

__all__ = ["SMALLEST_N", "Steadiness", "SteadinessWord", "steadiness"]

SMALLEST_N: Final = 5
"""With fewer evaluated runs nothing is said about an assertion."""


class SteadinessWord(StrEnum):
    """What the newest runs say about one assertion."""

    UNKNOWN = "unknown"
    STEADY = "steady"
    BROKEN = "broken"
    FIXED = "fixed"
    JUST_FAILED = "just failed"
    JUST_PASSED = "just passed"
    FLAKY = "flaky"


@dataclass(frozen=True, slots=True)
class Steadiness:
    """What the newest runs say about one assertion.

    Attributes:
        word: the result.
        n: how many of the runs evaluated the assertion.
        changes: how often the outcome differs from the one before.
        since: where the outcome changed to what it is now, as an index into the letters; None
            when it did not change (BROKEN then means: since before these runs), when it
            changed more than once, or when the word is UNKNOWN.
    """

    word: SteadinessWord
    n: int
    changes: int
    since: int | None = None

    @property
    def score(self) -> float:
        """How flaky: ``changes / (n - 1)``, 0 to 1; 0 for fewer than two evaluated runs."""
        return self.changes / (self.n - 1) if self.n > 1 else 0.0


def steadiness(letters: str) -> Steadiness:
    """Classify an assertion by one letter per judged run, oldest to newest.

    Args:
        letters: one for each run, oldest first: ``P`` passed, ``F`` failed,
            ``E`` error (counts as failed), ``S`` skipped and ``-`` no result (both left out).

    Returns:
        UNKNOWN for fewer than 5 evaluated runs; STEADY when all passed; BROKEN when all
        failed; with one change JUST_FAILED or JUST_PASSED when only the newest differs,
        otherwise BROKEN or FIXED; with two or more changes FLAKY.
    """
    evaluated = [
        (index, letter == "P") for index, letter in enumerate(letters) if letter in {*"PFE"}
    ]
    changed_at = [index for (_, before), (index, passed) in pairwise(evaluated) if passed != before]
    n, changes = len(evaluated), len(changed_at)
    if n < SMALLEST_N:
        return Steadiness(SteadinessWord.UNKNOWN, n, changes)
    newest, passes = evaluated[-1]
    if changes == 0:
        return Steadiness(SteadinessWord.STEADY if passes else SteadinessWord.BROKEN, n, changes)
    if changes > 1:
        return Steadiness(SteadinessWord.FLAKY, n, changes)
    (since,) = changed_at
    if since == newest:
        word = SteadinessWord.JUST_PASSED if passes else SteadinessWord.JUST_FAILED
    else:
        word = SteadinessWord.FIXED if passes else SteadinessWord.BROKEN
    return Steadiness(word, n, changes, since)
