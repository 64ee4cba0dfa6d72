from __future__ import annotations

from datetime import UTC, datetime

import pytest

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.interfaces.retention import KINDS, RetentionPolicy


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("before", [datetime(2026, 1, 1), datetime(1969, 1, 1, tzinfo=UTC), 7])  # noqa: DTZ001 - which is what is refused
def test_what_is_no_time_to_keep_until_is_refused(kind, before):
    with pytest.raises(InvalidValueError) as refused:
        RetentionPolicy(**{kind: before})

    assert refused.value.field == kind


@pytest.mark.parametrize("number", [-1, 1.5, True])
def test_what_is_no_number_of_runs_is_refused(number):
    with pytest.raises(InvalidValueError) as refused:
        RetentionPolicy(keep_last_runs=number)

    assert refused.value.field == "keep_last_runs"
