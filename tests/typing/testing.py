"""What the author of a downstream test suite writes, only type-checked."""

from __future__ import annotations

from typing import assert_type

import pytest

from test_coordinator_data_adapter.adapters.stub import (
    StubCacheRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.errors import UnavailableError
from test_coordinator_data_adapter.interfaces import CacheRepository, TestRunsRepository
from test_coordinator_data_adapter.models import (
    ChaosEvent,
    EventStatus,
    RunStatus,
    Scenario,
    ScenarioType,
    ServiceInfo,
    TestResult,
    TestRun,
)
from test_coordinator_data_adapter.testing.builders import (
    a_chaos_event,
    a_scenario,
    a_service,
    a_test_result,
    a_test_run,
)
from test_coordinator_data_adapter.testing.conformance import TestRunsSuite
from test_coordinator_data_adapter.testing.faults import Fault, FaultInjector, Injected


def entities_are_built() -> None:
    assert_type(a_scenario(scenario_type=ScenarioType.COMBINED, tags=["a"]), Scenario)
    assert_type(a_test_run(status=RunStatus.FAILED, started_at=None), TestRun)
    assert_type(a_chaos_event(status=EventStatus.PENDING, parameters={"any": ["json"]}), ChaosEvent)
    assert_type(a_test_result(name="up"), TestResult)
    assert_type(a_service(http_port=80), ServiceInfo)


def a_builder_knows_the_fields_and_their_types() -> None:
    a_scenario(name=1)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # wrong type
    a_test_run(nmae="x")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue] # no such field


async def repositories_fail_on_request(faults: FaultInjector) -> None:
    runs = faults.wrap(StubTestRunsRepository())
    assert_type(runs, TestRunsRepository)
    assert_type(faults.wrap(StubCacheRepository()), CacheRepository)
    assert_type(faults.hang(method="create", every=3), Fault)
    with (
        faults.unavailable(port=TestRunsRepository, probability=0.5),
        pytest.raises(UnavailableError),
    ):
        await runs.get_recent_runs()
    assert_type(faults.injected, list[Injected])


class TestMyRuns(TestRunsSuite):
    @pytest.fixture
    def repository(self) -> TestRunsRepository:
        return StubTestRunsRepository()
