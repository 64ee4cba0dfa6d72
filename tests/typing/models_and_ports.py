"""What a user writes, only type-checked: models, queries and ports."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_type

from test_coordinator_data_adapter.errors import AdapterError, NotFoundError
from test_coordinator_data_adapter.interfaces import (
    CacheRepository,
    ChaosEventsRepository,
    Page,
    ScenariosRepository,
    ServiceDiscoveryRepository,
    ServiceInfo,
    TestResultsRepository,
    TestRunQuery,
    TestRunsRepository,
)
from test_coordinator_data_adapter.models import (
    ChaosEvent,
    EventStatus,
    ResultStatus,
    RunStatus,
    Scenario,
    ScenarioStatus,
    ScenarioType,
    TestResult,
    TestRun,
)

if TYPE_CHECKING:
    from datetime import datetime


async def scenarios_are_kept(scenarios: ScenariosRepository, moment: datetime) -> None:
    scenario = Scenario(
        scenario_id="restart-the-broker",
        name="Restart the broker",
        scenario_type=ScenarioType.SERVICE_RESTART,
        configuration={"service": "broker", "times": 3},
    )
    assert_type(await scenarios.create(scenario), Scenario)
    assert_type(await scenarios.get_by_id("restart-the-broker"), Scenario | None)
    assert_type(await scenarios.update(scenario, if_unchanged_since=moment), Scenario)
    assert_type(
        await scenarios.update_status(
            "restart-the-broker", ScenarioStatus.ACTIVE, expected=ScenarioStatus.DRAFT
        ),
        Scenario,
    )
    assert_type(await scenarios.list_all(limit=10, offset=0), list[Scenario])
    assert_type(await scenarios.delete("restart-the-broker"), bool)
    assert_type(await scenarios.prune(moment), int)


async def runs_are_judged(runs: TestRunsRepository) -> None:
    try:
        run = await runs.start_run("run-1")
    except NotFoundError as error:
        assert_type(error.id, str | None)
        raise
    except AdapterError as error:
        assert_type(error.transient, bool)
        raise
    assert_type(run, TestRun)
    assert_type(await runs.complete_run(run.run_id, RunStatus.PASSED, exit_code=0), TestRun)
    assert_type(await runs.calculate_pass_rate(run.scenario_id), float)


async def runs_are_read_page_by_page(runs: TestRunsRepository) -> None:
    query = TestRunQuery(status=(RunStatus.FAILED, RunStatus.ERROR), scenario_id="one")
    page = await runs.find(query, limit=50)
    assert_type(page, Page[TestRun])
    while page.next_cursor is not None:
        page = await runs.find(query, limit=50, cursor=page.next_cursor)
    async for run in runs.stream(query, batch_size=500):
        assert_type(run, TestRun)
    assert_type(await runs.count(query), int)


async def chaos_is_followed(events: ChaosEventsRepository) -> None:
    assert_type(await events.get_active_events(), list[ChaosEvent])
    assert_type(await events.record_recovery("event-1", recovery_time_ms=1200), ChaosEvent)
    assert_type(
        await events.update_status(
            "event-1", EventStatus.FAILED, expected=[EventStatus.INJECTED, EventStatus.IN_PROGRESS]
        ),
        ChaosEvent,
    )


async def results_are_counted(results: TestResultsRepository, one: TestResult) -> None:
    assert_type(await results.bulk_create([one]), list[TestResult])
    assert_type(await results.count_by_status("run-1", ResultStatus.FAILED), int)


async def services_are_found(services: ServiceDiscoveryRepository) -> None:
    assert_type(await services.get_service_by_name("broker"), ServiceInfo | None)
    assert_type(await services.remove_stale_services(300, max_fraction=0.5), int)


async def values_are_cached(cache: CacheRepository) -> None:
    assert_type(await cache.set("key", {"any": ["json", 1, None]}, ttl=60), bool)
    assert_type(await cache.get_ttl("key"), int | None)
    assert_type(await cache.increment("counter", amount=2), int)
