from __future__ import annotations

from typing import Any

import pytest

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.interfaces.audit import audit_context, current_audit_context


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("actor", ""),
        ("actor", "x" * 256),
        ("actor", "a\nb"),
        ("actor", 7),
        ("correlation_id", "x" * 256),
        ("correlation_id", "\0"),
        ("reason", "x" * 4097),
        ("reason", "\0"),
        ("reason", "\ud800"),
        ("reason", b"why"),
    ],
)
def test_what_breaks_its_rule_is_refused_by_name_and_nothing_is_said(field, value):
    said: Any = {field: value}

    with pytest.raises(InvalidValueError) as refused, audit_context(**said):
        pass

    assert refused.value.field == field
    assert current_audit_context().actor is None


def test_a_reason_may_be_as_long_as_a_paragraph_and_have_lines():
    with audit_context(reason="why\n" * 1024) as context:
        assert context.reason == "why\n" * 1024
