"""Pauses between attempts."""

from __future__ import annotations

import pytest

from test_coordinator_data_adapter.resilience.backoff import Backoff


def test_the_bound_doubles_up_to_its_cap():
    backoff = Backoff(attempts=6, base=0.1, cap=0.5)

    pauses = [backoff.pause(failures, lambda: 1.0) for failures in range(1, 6)]

    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.5, 0.5])


def test_any_moment_up_to_the_bound_is_as_likely_as_another():
    backoff = Backoff(base=0.1)

    assert backoff.pause(1, lambda: 0.0) == 0.0
    assert backoff.pause(1, lambda: 0.5) == pytest.approx(0.05)


@pytest.mark.parametrize("attempts", [1, 2, 5])
def test_it_ends_after_so_many_attempts(attempts):
    backoff = Backoff(attempts=attempts)

    pauses = [backoff.pause(failures, lambda: 0.5) for failures in range(1, attempts + 3)]

    assert [pause is None for pause in pauses] == [
        failures >= attempts for failures in range(1, attempts + 3)
    ]


def test_however_often_it_failed_the_bound_is_a_number():
    assert Backoff(attempts=10**9).pause(10**8, lambda: 1.0) == 1.0
