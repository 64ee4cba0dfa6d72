from __future__ import annotations

import pytest

from test_coordinator_data_adapter.testing.conformance import (
    ChaosEventsSuite,
    ScenariosSuite,
    TestResultsSuite,
    TestRunsSuite,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture
def database(emptied_database):
    return emptied_database


class TestScenarios(ScenariosSuite):
    @pytest.fixture
    def repository(self, scenarios):
        return scenarios


class TestTestRuns(TestRunsSuite):
    @pytest.fixture
    def repository(self, test_runs):
        return test_runs


class TestChaosEvents(ChaosEventsSuite):
    @pytest.fixture
    def repository(self, chaos_events):
        return chaos_events


class TestTestResults(TestResultsSuite):
    @pytest.fixture
    def repository(self, test_results):
        return test_results
