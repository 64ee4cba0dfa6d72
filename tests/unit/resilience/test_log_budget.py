from __future__ import annotations

from test_coordinator_data_adapter.resilience.log_budget import LogBudget


def test_a_few_lines_a_minute_are_allowed_and_the_others_counted() -> None:
    now = 0.0
    budget = LogBudget(3, clock=lambda: now)
    first_minute = [budget.take() for _ in range(100)]
    now = 20.0

    later = [budget.take() for _ in range(2)]
    now = 80.0
    last = [budget.take() for _ in range(4)]

    assert first_minute == [0, 0, 0, *[None] * 97]
    assert later == [97, None]
    assert last == [1, 0, 0, None]
