from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from test_coordinator_data_adapter.adapters.stub import (
    MemoryStore,
    StubScenariosRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.adapters.stub.store import STARTED_NEWEST
from test_coordinator_data_adapter.interfaces.queries import ScenarioQuery, TestRunQuery
from test_coordinator_data_adapter.models import RunStatus, TestRun
from test_coordinator_data_adapter.testing.builders import a_scenario, a_test_result, a_test_run

START = datetime(2026, 1, 1, tzinfo=UTC)
moments = st.integers(0, 5).map(lambda minutes: START + timedelta(minutes=minutes))
runs = st.builds(
    a_test_run,
    scenario_id=st.sampled_from(["s1", "s2"]),
    status=st.sampled_from(RunStatus),
    started_at=st.none() | moments,
    created_at=moments,
)
queries = st.builds(
    TestRunQuery,
    scenario_id=st.none() | st.lists(st.sampled_from(["s1", "s2", "s3"])),
    status=st.none() | st.lists(st.sampled_from(RunStatus), max_size=3),
    started_since=st.none() | moments,
    started_until=st.none() | moments,
    created_since=st.none() | moments,
    created_until=st.none() | moments,
)


def matches(run: TestRun, query: TestRunQuery) -> bool:
    """The meaning of a query, spelled without any index."""
    return (
        (query.scenario_id is None or run.scenario_id in query.scenario_id)
        and (query.status is None or run.status in query.status)
        and (
            query.started_since is None
            or (run.started_at is not None and run.started_at >= query.started_since)
        )
        and (
            query.started_until is None
            or (run.started_at is not None and run.started_at <= query.started_until)
        )
        and (query.created_since is None or run.created_at >= query.created_since)
        and (query.created_until is None or run.created_at <= query.created_until)
    )


@given(held=st.lists(runs, max_size=12), query=queries)
def test_whatever_index_answers_the_answer_is_the_same(
    held: list[TestRun], query: TestRunQuery
) -> None:
    table = MemoryStore().test_runs
    table.insert(held)
    expected = [run for run in held if matches(run, query)]

    found = table.select(query.conditions())
    newest = table.select(query.conditions(), order=STARTED_NEWEST)

    assert found == sorted(expected, key=lambda run: (run.created_at, run.run_id))
    assert newest == sorted(
        expected,
        key=lambda run: (
            run.started_at is None,
            -(run.started_at or START).timestamp(),
            run.created_at,
            run.run_id,
        ),
    )
    assert table.count(query.conditions()) == len(expected)
    assert table.delete_matching(query.conditions()) == len(expected)
    assert table.select() == sorted(
        (run for run in held if run not in expected), key=lambda run: (run.created_at, run.run_id)
    )


@given(held=st.lists(runs, max_size=12), query=queries, limit=st.integers(1, 4))
async def test_pages_laid_end_to_end_are_the_whole_answer(
    held: list[TestRun], query: TestRunQuery, limit: int
) -> None:
    store = MemoryStore()
    store.test_runs.insert(held)
    repository = StubTestRunsRepository(store)
    paged: list[TestRun] = []
    cursor: str | None = None

    while True:
        page = await repository.find(query, limit=limit, cursor=cursor)
        paged += page.items
        cursor = page.next_cursor
        if cursor is None:
            break

    assert paged == await repository.list_matching(query)
    assert paged == [run async for run in repository.stream(query, batch_size=limit)]


async def test_a_tag_that_stands_twice_is_found_once_and_forgotten_with_its_scenario() -> None:
    repository = StubScenariosRepository()
    scenario = await repository.create(a_scenario(tags=["x", "y", "x"]))

    found = await repository.search_by_tag("x")
    await repository.update(scenario.model_copy(update={"tags": ["y"]}))

    assert found == [scenario]
    assert await repository.search_by_tag("x") == []
    assert await repository.count(ScenarioQuery(tag="y")) == 1


async def test_a_question_about_one_run_touches_no_other() -> None:
    store = MemoryStore()
    repository = StubTestResultsRepository(store)
    await repository.bulk_create([a_test_result(run_id=f"run{n % 10}") for n in range(200)])
    for result_id, result in list(store.test_results._held.items()):
        if result.run_id != "run7":
            # Touching it would now raise.
            store.test_results._held[result_id] = None  # type: ignore[assignment] # see above

    assert len(await repository.get_by_run("run7")) == 20
    assert 0.0 <= await repository.calculate_pass_rate("run7") <= 1.0


async def test_updated_at_increases_even_when_the_clock_steps_back() -> None:
    now = [START]
    repository = StubScenariosRepository(MemoryStore(clock=lambda: now[0]))
    scenario = await repository.create(a_scenario(updated_at=START))

    now[0] = START - timedelta(hours=1)
    first = await repository.update(scenario)
    second = await repository.update(scenario)

    assert START < first.updated_at < second.updated_at
