from __future__ import annotations

import pytest
from pydantic import ValidationError

from test_coordinator_data_adapter.models.values import utc_now
from test_coordinator_data_adapter.testing import builders
from test_coordinator_data_adapter.testing.builders import (
    a_chaos_event,
    a_scenario,
    a_service,
    a_test_result,
    a_test_run,
)

BUILDERS = {
    a_scenario: builders.ScenarioFields,
    a_test_run: builders.RunFields,
    a_chaos_event: builders.ChaosEventFields,
    a_test_result: builders.ResultFields,
    a_service: builders.ServiceFields,
}


@pytest.mark.parametrize("build", BUILDERS)
def test_what_is_built_is_valid(build):
    built = build()

    assert type(built).checked(built) == built


@pytest.mark.parametrize("build", BUILDERS)
def test_each_has_a_fresh_id(build):
    assert len({build().identity for _ in range(100)}) == 100


@pytest.mark.parametrize("build", BUILDERS)
def test_no_two_share_anything(build):
    one, other = build(), build()

    for name in type(one).containers:
        held = getattr(one, name)
        assert held is None or getattr(other, name) is not held


@pytest.mark.parametrize(("build", "fields"), BUILDERS.items())
def test_every_field_of_the_model_can_be_given(build, fields):
    kind = type(build())
    assert set(fields.__annotations__) == set(kind.model_fields)

    given = build().model_dump()

    assert build(**given) == kind(**given)


@pytest.mark.parametrize("build", BUILDERS)
def test_the_times_are_those_of_now_unless_given(build):
    before = utc_now()
    built = build()
    after = utc_now()

    times = [built.__dict__[name] for name in ("created_at", "last_seen") if name in built.__dict__]
    assert times
    assert all(before <= moment <= after for moment in times)


@pytest.mark.parametrize("build", BUILDERS)
def test_a_field_that_breaks_a_rule_is_refused(build):
    with pytest.raises(ValidationError):
        build(**{type(build()).id_field: ""})
    with pytest.raises((TypeError, ValidationError)):
        build(no_such_field=1)
