from __future__ import annotations

from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_coordinator_data_adapter.adapters.postgres.jsonb import json_bytes


@given(
    st.floats(1e15, 1e21)
    | st.floats(-1e21, -1e15)
    | st.floats(allow_nan=False, allow_infinity=False)
)
def test_a_float_keeps_its_value_when_its_exponent_is_written_out(number):
    text = json_bytes([number]).decode()

    # What jsonb does: digits and scale stay, the exponent goes.
    plain = f"{Decimal(text[1:-1]):f}"

    assert orjson.loads(plain) == number


@pytest.mark.parametrize(
    "value",
    [{"a": {"1e16": [1e16, "2e17", 2**63 - 1, None, True]}}, "1e16", {"b": [[{}]]}, 1e300],
)
def test_everything_else_is_written_as_it_is(value):
    assert orjson.loads(json_bytes(value)) == value


def test_a_large_float_stays_a_float():
    assert json_bytes({"a": [-1e16, 5.818259171915914e16]}) == (
        b'{"a":[-10000000000000000.0,58182591719159136.0]}'
    )
