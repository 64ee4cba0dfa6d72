from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "since",
    ["yesterday", "2026-05-06T07:08:09", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"],
)
def test_a_time_that_cannot_be_asked_for_is_a_usage_error(call, since):
    result = call("audit", "export", "--since", since)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "since" in result.stderr
