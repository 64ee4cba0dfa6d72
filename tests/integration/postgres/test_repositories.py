from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from time import monotonic

import pytest

from test_coordinator_data_adapter.adapters.postgres import (
    PostgresChaosEventsRepository,
    PostgresScenariosRepository,
    PostgresTestResultsRepository,
    PostgresTestRunsRepository,
)
from test_coordinator_data_adapter.adapters.postgres.database import Database, Statement
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.adapters.postgres.statements import Statements, Where
from test_coordinator_data_adapter.adapters.postgres.tables import metadata
from test_coordinator_data_adapter.errors import (
    ConfigurationError,
    ConflictError,
    DataIntegrityError,
    DuplicateError,
    OverloadedError,
)
from test_coordinator_data_adapter.interfaces.audit import audit_context
from test_coordinator_data_adapter.interfaces.queries import (
    ChaosEventQuery,
    ScenarioQuery,
    TestResultQuery,
    TestRunQuery,
)
from test_coordinator_data_adapter.models import (
    ChaosEvent,
    ResultStatus,
    RunStatus,
    Scenario,
    TestResult,
    TestRun,
)
from test_coordinator_data_adapter.resilience.backoff import Backoff
from test_coordinator_data_adapter.resilience.observation import Hooks
from test_coordinator_data_adapter.testing.builders import (
    a_chaos_event,
    a_scenario,
    a_test_result,
    a_test_run,
)

SCHEMA = "test_coordinator"
NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)


@pytest.fixture
async def trips(shared_place, database):
    """A waist that notes what it sends, over the tables that `database` has emptied."""
    noted = []
    watched = Database(
        DatabaseSettings(url=shared_place.application, schema=SCHEMA),
        hooks_at=lambda _: Hooks(on_trip=noted.append),
    )
    watched.noted = noted
    yield watched
    await watched.aclose()


CORE = {
    "create": lambda held: held.test_runs.create(a_test_run()),
    "get_by_id": lambda held: held.test_runs.get_by_id("r"),
    "update": lambda held: held.test_runs.update(a_test_run(run_id="r")),
    "update if unchanged": lambda held: held.test_runs.update(
        a_test_run(run_id="r"), if_unchanged_since=held.stored.updated_at
    ),
    "update_status": lambda held: held.test_runs.update_status("r", RunStatus.RUNNING),
    "update_status expected": lambda held: held.test_runs.update_status(
        "r", RunStatus.RUNNING, expected=tuple(RunStatus)
    ),
    "start_run": lambda held: held.test_runs.start_run("r"),
    "complete_run": lambda held: held.test_runs.complete_run("r", RunStatus.PASSED, 0),
    "record_completion": lambda held: held.test_runs.record_completion("r", 1, 5),
    "delete": lambda held: held.test_runs.delete("r"),
    "find": lambda held: held.test_runs.find(TestRunQuery()),
    "list_matching": lambda held: held.test_runs.list_matching(TestRunQuery()),
    "count": lambda held: held.test_runs.count(TestRunQuery()),
    "get_recent_runs": lambda held: held.test_runs.get_recent_runs(),
    "calculate_pass_rate": lambda held: held.test_runs.calculate_pass_rate("s"),
    "get_average_duration": lambda held: held.test_runs.get_average_duration("s"),
    "list_all": lambda held: held.scenarios.list_all(),
    "record_recovery": lambda held: held.chaos_events.record_recovery("e", 5),
    "calculate_average_recovery_time": lambda held: (
        held.chaos_events.calculate_average_recovery_time("clock_skew")
    ),
    "get_assertion_statistics": lambda held: held.test_results.get_assertion_statistics("latency"),
    "prune": lambda held: held.test_results.prune(NOON),
}


class Held:
    def __init__(self, database):
        self.scenarios = PostgresScenariosRepository(database)
        self.test_runs = PostgresTestRunsRepository(database)
        self.chaos_events = PostgresChaosEventsRepository(database)
        self.test_results = PostgresTestResultsRepository(database)
        self.stored = None


@pytest.mark.parametrize("method", CORE)
async def test_every_method_is_one_statement_and_one_trip(trips, method):
    held = Held(trips)
    held.stored = await held.test_runs.create(a_test_run(run_id="r"))
    await held.chaos_events.create(a_chaos_event(event_id="e"))
    trips.noted.clear()

    await CORE[method](held)

    assert len(trips.noted) == 1


async def test_an_update_that_is_refused_is_one_trip_too(trips):
    held = Held(trips)
    await held.test_runs.create(a_test_run(run_id="r", status=RunStatus.PASSED))
    trips.noted.clear()

    with pytest.raises(ConflictError):
        await held.test_runs.update_status("r", RunStatus.RUNNING, expected=RunStatus.PENDING)

    assert len(trips.noted) == 1


async def test_a_bulk_creation_of_any_size_is_one_copy(trips):
    held = Held(trips)

    await held.test_results.bulk_create([a_test_result() for _ in range(2500)])

    assert [trip.command.split()[0] for trip in trips.noted] == ["BEGIN;", "COPY", "COMMIT"]


async def test_reads_of_the_same_moment_travel_together_and_each_gets_a_copy_of_its_own(trips):
    held = Held(trips)
    await held.scenarios.create(a_scenario(scenario_id="a", tags=["x"]))
    trips.noted.clear()

    first, *others = await asyncio.gather(
        *(held.scenarios.get_by_id(id_) for id_ in ("a", "a", "b", "a"))
    )
    first.tags.append("mine")

    assert len(trips.noted) <= 2
    assert [None if one is None else one.tags for one in others] == [["x"], None, ["x"]]


async def test_who_waited_for_a_row_is_judged_by_what_the_other_left(
    test_runs, shared_place, connect
):
    await test_runs.create(a_test_run(run_id="r", status=RunStatus.PENDING))
    other = await connect(shared_place.admin)
    transaction = other.transaction()
    await transaction.start()
    await other.execute(f"UPDATE {SCHEMA}.test_runs SET status = 'running' WHERE run_id = 'r'")

    refused = asyncio.create_task(
        test_runs.update_status("r", RunStatus.PASSED, expected=RunStatus.PENDING)
    )
    accepted = asyncio.create_task(
        test_runs.update_status("r", RunStatus.FAILED, expected=RunStatus.RUNNING)
    )
    await until_waiting(await connect(shared_place.admin), 2)
    await transaction.commit()

    with pytest.raises(ConflictError):
        await refused
    assert (await accepted).status is RunStatus.FAILED


async def test_who_waited_for_a_row_that_was_deleted_meanwhile_is_told_that_it_is_gone(
    test_runs, shared_place, connect
):
    await test_runs.create(a_test_run(run_id="r", status=RunStatus.PENDING))
    other = await connect(shared_place.admin)
    transaction = other.transaction()
    await transaction.start()
    await other.execute(f"DELETE FROM {SCHEMA}.test_runs WHERE run_id = 'r'")

    late = asyncio.create_task(
        test_runs.update_status("r", RunStatus.PASSED, expected=RunStatus.PENDING)
    )
    await until_waiting(await connect(shared_place.admin), 1)
    await transaction.commit()

    with pytest.raises(ValueError, match="does not exist"):
        await late


async def until_waiting(connection, number):
    query = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    async with asyncio.timeout(60):
        while await connection.fetchval(query) < number:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.01)


async def test_of_many_updates_based_on_the_same_state_one_is_applied(test_runs):
    stored = await test_runs.create(a_test_run(run_id="r"))

    answers = await asyncio.gather(
        *(
            test_runs.update(
                stored.model_copy(update={"exit_code": code}),
                if_unchanged_since=stored.updated_at,
            )
            for code in range(20)
        ),
        return_exceptions=True,
    )

    applied = [answer for answer in answers if isinstance(answer, TestRun)]
    assert len(applied) == 1
    assert await test_runs.get_by_id("r") == applied[0]


async def test_times_rise_strictly_however_many_write_at_once(test_runs):
    future = datetime.now(UTC) + timedelta(days=1)
    await test_runs.create(a_test_run(run_id="r", updated_at=future))

    updated = await asyncio.gather(
        *(test_runs.update_status("r", RunStatus.RUNNING) for _ in range(30))
    )

    times = sorted(run.updated_at for run in updated)
    assert times == [future + timedelta(microseconds=step) for step in range(1, 31)]


async def test_a_prune_deletes_what_somebody_changes_while_it_waits(
    test_runs, shared_place, connect
):
    await test_runs.create(a_test_run(run_id="changed", status=RunStatus.PASSED, created_at=NOON))
    await test_runs.create(a_test_run(run_id="restarted", status=RunStatus.PASSED, created_at=NOON))
    other = await connect(shared_place.admin)
    transaction = other.transaction()
    await transaction.start()
    await other.execute(
        f"UPDATE {SCHEMA}.test_runs SET exit_code = 3 WHERE run_id = 'changed';"
        f"UPDATE {SCHEMA}.test_runs SET status = 'running' WHERE run_id = 'restarted'"
    )

    pruned = asyncio.create_task(test_runs.prune(NOON + timedelta(days=1)))
    await until_waiting(await connect(shared_place.admin), 1)
    await transaction.commit()

    assert await pruned == 1
    assert [run.run_id for run in await test_runs.list_matching(TestRunQuery())] == ["restarted"]


async def test_a_prune_leaves_the_server_to_others_after_each_batch(shared_place, test_results):
    class Slow(Database):
        async def fetch(self, *arguments, **options):
            began = monotonic()
            await asyncio.sleep(0.02)
            rows = await super().fetch(*arguments, **options)
            spans.append((began, monotonic()))
            return rows

    spans = []
    database = Slow(DatabaseSettings(url=shared_place.application, schema=SCHEMA))
    await test_results.bulk_create([a_test_result(created_at=NOON) for _ in range(3)])

    pruned = await PostgresTestResultsRepository(database).prune(
        NOON + timedelta(days=1), batch_size=1
    )

    await database.aclose()
    assert pruned == 3
    assert len(spans) == 4
    for (began, ended), (again, _) in pairwise(spans):
        assert again - ended > (ended - began) / 4


async def test_duplicates_of_a_bulk_creation_are_named_whether_stored_or_given_twice(test_results):
    await test_results.create(a_test_result(result_id="stored"))
    given = [a_test_result(result_id=id_) for id_ in ("twice", "new", "stored", "twice")]

    with pytest.raises(DuplicateError) as refused:
        await test_results.bulk_create(given)

    assert refused.value.ids == ("stored", "twice")
    assert await test_results.count(TestResultQuery()) == 1


async def test_a_duplicate_that_is_deleted_before_it_can_be_named_is_one_all_the_same(
    shared_place, test_results
):
    class WithARivalWhoDeletes(Database):
        async def copy(self, *arguments, **options):
            try:
                await super().copy(*arguments, **options)
            finally:
                await self.execute(
                    Statement(f"DELETE FROM {SCHEMA}.test_results", None, writes=True)
                )

    result = await test_results.create(a_test_result())
    database = WithARivalWhoDeletes(DatabaseSettings(url=shared_place.application, schema=SCHEMA))
    repository = PostgresTestResultsRepository(database)

    with pytest.raises(DuplicateError) as caught:
        await repository.bulk_create([result])
    await database.aclose()

    assert caught.value.constraint == "pk_test_results"


async def test_a_duplicate_names_the_constraint(test_results):
    await test_results.create(a_test_result(result_id="stored"))

    with pytest.raises(DuplicateError) as one:
        await test_results.create(a_test_result(result_id="stored"))
    with pytest.raises(DuplicateError) as many:
        await test_results.bulk_create([a_test_result(result_id="stored")])

    assert one.value.constraint == many.value.constraint == "pk_test_results"


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("verification_time", "'infinity'"),
        ("verification_time", "'-infinity'"),
        ("verification_time", "'20000-01-01'"),
        ("created_at", "'4000-01-01 BC'"),
        ("assertion_type", "'telepathy'"),
    ],
)
async def test_a_row_that_cannot_be_read_back_is_said_to_be_corrupt(
    place, connect, repositories_at, column, value
):
    async with repositories_at(place.application) as held:
        await held.test_results.bulk_create(
            [a_test_result(result_id=id_, run_id="run") for id_ in ("bad", "good")]
        )
        admin = await connect(place.admin)
        constraint = "known" if column == "assertion_type" else "range"
        await admin.execute(
            f"ALTER TABLE {SCHEMA}.test_results"
            f" DROP CONSTRAINT ck_test_results_{column}_{constraint}"
        )
        await admin.execute(
            f"UPDATE {SCHEMA}.test_results SET {column} = {value} WHERE result_id = 'bad'"
        )

        with pytest.raises(DataIntegrityError) as one:
            await held.test_results.get_by_id("bad")
        with pytest.raises(DataIntegrityError) as many:
            await held.test_results.get_by_run("run")
        with pytest.raises(DataIntegrityError) as page:
            await held.test_results.find(TestResultQuery(), limit=5)
        together = await asyncio.gather(
            *(held.test_results.get_by_id(id_) for id_ in ("good", "bad", "good")),
            return_exceptions=True,
        )

    for caught in (one, many, page):
        assert (caught.value.entity, caught.value.id) == ("test_result", "bad")
    assert [type(answer) for answer in together] == [TestResult, DataIntegrityError, TestResult]


async def test_a_missing_schema_is_a_matter_of_configuration(empty_place, repositories_at):
    async with repositories_at(empty_place.admin) as held:
        with pytest.raises(ConfigurationError, match="migrate"):
            await held.scenarios.get_by_id("s")


async def test_an_error_about_one_entity_names_it(empty_place, repositories_at):
    async with repositories_at(empty_place.admin) as held:
        calls = [
            held.test_runs.create(a_test_run(run_id="r")),
            held.test_runs.get_by_id("r"),
            held.test_runs.update(a_test_run(run_id="r")),
            held.test_runs.start_run("r"),
            held.test_runs.delete("r"),
        ]

        for call in calls:
            with pytest.raises(ConfigurationError) as told:
                await call
            assert (told.value.entity, told.value.id) == ("test_run", "r")


FILL = {
    "scenarios": """
        INSERT INTO scenarios SELECT 's' || n, 'name', NULL, 'combined', 'draft', '{}',
            ARRAY['svc' || n], '{}', 'me' || n, now() - n * interval '1 s', now(), ARRAY['t' || n]
        FROM generate_series(1, 5000) n""",
    "test_runs": """
        INSERT INTO test_runs SELECT 'r' || n, 's' || n / 10, 'passed',
            now() - n * interval '1 s', now(), n, '{}', 'env' || n, 0, NULL,
            now() - n * interval '1 s', now()
        FROM generate_series(1, 5000) n""",
    "chaos_events": """
        INSERT INTO chaos_events SELECT 'e' || n, 'r' || n / 10, 'clock_skew', 'svc' || n, '{}',
            now() - n * interval '1 s', n, 'recovered', n, now() - n * interval '1 s'
        FROM generate_series(1, 5000) n""",
    "test_results": """
        INSERT INTO test_results SELECT 't' || n, 'r' || n / 10, 'latency', 'a', 'b', 'passed',
            now(), NULL, 'c' || n, now() - n * interval '1 s', 'name' || n, NULL
        FROM generate_series(1, 5000) n""",
}
SOON = datetime(2000, 1, 1, tzinfo=UTC)
QUESTIONS = [
    (Scenario, ScenarioQuery(scenario_type="data_corruption"), "scenario_type"),
    (Scenario, ScenarioQuery(status="active"), "status"),
    (Scenario, ScenarioQuery(tag="t7"), "tags"),
    (Scenario, ScenarioQuery(service="svc7"), "services_under_test"),
    (Scenario, ScenarioQuery(created_by="me7"), "created_by"),
    (Scenario, ScenarioQuery(created_until=SOON), "order"),
    (TestRun, TestRunQuery(scenario_id="s7"), "scenario_id"),
    (TestRun, TestRunQuery(status="running"), "status"),
    (TestRun, TestRunQuery(test_environment="env7"), "test_environment"),
    (TestRun, TestRunQuery(started_until=SOON), "started_at"),
    (TestRun, TestRunQuery(created_until=SOON), "order"),
    (ChaosEvent, ChaosEventQuery(run_id="r7"), "run_id"),
    (ChaosEvent, ChaosEventQuery(event_type="cpu_stress"), "event_type"),
    (ChaosEvent, ChaosEventQuery(target_service="svc7"), "target_service"),
    (ChaosEvent, ChaosEventQuery(status=("injected", "in_progress")), "status"),
    (ChaosEvent, ChaosEventQuery(injected_until=SOON), "injected_at"),
    (TestResult, TestResultQuery(run_id="r7"), "run_id"),
    (TestResult, TestResultQuery(run_id="r7", status="passed"), "run_id"),
    (TestResult, TestResultQuery(assertion_type="audit_trail"), "assertion_type"),
    (TestResult, TestResultQuery(status="error"), "status"),
    (TestResult, TestResultQuery(correlation_id="c7"), "correlation_id"),
    (TestResult, TestResultQuery(correlation_id=("c7", "c8")), "correlation_id"),
    (TestResult, TestResultQuery(name="name7"), "name"),
    (TestResult, TestResultQuery(created_until=SOON), "order"),
]


async def plan_of(connection, statement, parameters):
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    prepared = await connection.prepare("EXPLAIN " + statement)
    return "\n".join(row[0] for row in await prepared.fetch(*parameters))


async def test_every_question_has_its_index(place, connect):
    admin = await connect(place.admin)
    await admin.execute(f"SET search_path = {SCHEMA}")
    for fill in FILL.values():
        await admin.execute(fill)
    await admin.execute("ANALYZE")

    for kind, query, index in QUESTIONS:
        name = f"{kind.entity_name}s"
        where = Where(query.conditions())
        statement = Statements(SCHEMA, metadata.tables[name], kind.entity_name).select(
            where.clause, ""
        )
        plan = await plan_of(admin, statement.sql, where.parameters)

        assert f"ix_{name}_{index}" in plan, (query, plan)
        assert "Seq Scan" not in plan, (query, plan)


async def test_counting_by_status_reads_nothing_but_an_index(place, connect):
    admin = await connect(place.admin)
    await admin.execute(f"SET search_path = {SCHEMA}")
    await admin.execute(FILL["test_results"])
    await admin.execute("VACUUM ANALYZE test_results")
    statements = Statements(SCHEMA, metadata.tables["test_results"], "test_result")
    where = Where(TestResultQuery(run_id="r7").conditions())

    statement = statements.ask("status, count(*)", where.clause, " GROUP BY status")
    plan = await plan_of(admin, statement.sql, where.parameters)

    assert "Index Only Scan using ix_test_results_run_id_and_status" in plan


async def test_text_of_any_length_is_found_by_it(scenarios, test_runs, test_results):
    for text in ("", "é" * 510, "é" * 511, "x" * 1020, "x" * 1021, "z" * 500_000):
        await scenarios.create(a_scenario(created_by=text))
        await test_runs.create(a_test_run(test_environment=text))
        await test_results.create(a_test_result(name=text))

        found = (
            await scenarios.list_matching(ScenarioQuery(created_by=text)),
            await test_runs.list_matching(TestRunQuery(test_environment=(text, "other"))),
            await test_results.list_matching(TestResultQuery(name=(text, "z" * 500_001))),
        )

        assert [len(some) for some in found] == [1, 1, 1]


async def test_a_large_answer_lets_others_have_the_event_loop(test_results):
    await test_results.bulk_create(
        [a_test_result(run_id="run", status=ResultStatus.PASSED) for _ in range(5000)]
    )
    turns = 0

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(count_turns())
    found = await test_results.get_by_run("run")
    other.cancel()
    await asyncio.wait([other])

    assert len(found) == 5000
    assert turns > 9


async def test_what_many_create_at_once_is_committed_together(trips):
    held = Held(trips)
    events = [a_chaos_event(parameters={"a": [1, {"b": None}]}) for _ in range(50)]

    answers = await asyncio.gather(*(held.chaos_events.create(event) for event in events))

    assert answers == events
    assert len(trips.noted) <= 3
    assert await held.chaos_events.count(ChaosEventQuery()) == 50


async def test_of_those_created_together_each_has_its_own_answer(trips):
    held = Held(trips)
    await held.test_results.create(a_test_result(result_id="stored"))
    given = ["first", "stored", "twice", "new", "twice"]

    answers = await asyncio.gather(
        *(held.test_results.create(a_test_result(result_id=id_)) for id_ in given),
        return_exceptions=True,
    )

    refused = [answer for answer in answers if isinstance(answer, DuplicateError)]
    assert [(error.id, error.constraint) for error in refused] == [
        ("stored", "pk_test_results"),
        ("twice", "pk_test_results"),
    ]
    assert await held.test_results.count(TestResultQuery()) == 4


async def test_those_created_together_are_recorded_each_by_itself_with_what_each_has_said(
    place, repositories_at, connect
):
    async with repositories_at(place.application) as held:

        async def create(id_, actor):
            with audit_context(actor=actor):
                await held.test_results.create(a_test_result(result_id=id_))

        actors = ("ann", "bob", "ann", "bob", "ann")
        await asyncio.gather(*(create(f"r{n}", actor) for n, actor in enumerate(actors)))

    admin = await connect(place.admin)
    records = await admin.fetch(
        f"SELECT operation, entity_id, actor FROM {SCHEMA}.audit_records ORDER BY entity_id"
    )
    assert [tuple(record) for record in records] == [
        ("create", f"r{n}", actor) for n, actor in enumerate(actors)
    ]


async def test_a_burst_beyond_the_pool_is_served_without_a_word_from_the_pool(test_runs, caplog):
    runs = [a_test_run() for _ in range(200)]

    with caplog.at_level("WARNING", logger="sqlalchemy"):
        for _ in range(3):
            await asyncio.gather(*(test_runs.create(run) for run in runs))
            await asyncio.gather(*(test_runs.delete(run.run_id) for run in runs))

    assert not caplog.records


async def test_of_those_created_together_only_the_one_that_another_transaction_locks_fails(
    place, connect
):
    admin = await connect(place.admin)
    settings = DatabaseSettings(url=place.application, schema=SCHEMA, lock_timeout=0.5)
    database = Database(settings, backoff=Backoff(attempts=1))
    results = PostgresTestResultsRepository(database)
    ids = [f"r{number:02}" for number in range(20)]
    transaction = admin.transaction()
    await transaction.start()
    await admin.execute(
        f"INSERT INTO {SCHEMA}.test_results (result_id, run_id, assertion_type, expected_value,"
        " actual_value, status, verification_time, created_at) VALUES"
        " ('r07', 'r', 'latency', '', '', 'passed', now(), now())"
    )

    answers = await asyncio.gather(
        *(results.create(a_test_result(result_id=id_)) for id_ in ids), return_exceptions=True
    )
    await transaction.rollback()
    stored = {result.result_id for result in await results.list_matching(TestResultQuery())}
    await results.aclose()
    await database.aclose()

    failed = [answer for answer in answers if isinstance(answer, BaseException)]
    assert [type(error) for error in failed] == [OverloadedError]
    assert failed[0].id == "r07"
    assert stored == {*ids} - {"r07"}
