from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest
from sqlalchemy import text

from test_coordinator_data_adapter.adapters.postgres import (
    PostgresChaosEventsRepository,
    PostgresScenariosRepository,
    PostgresTestResultsRepository,
    PostgresTestRunsRepository,
)
from test_coordinator_data_adapter.adapters.postgres.audit import PostgresAuditRepository
from test_coordinator_data_adapter.adapters.postgres.audit_setting import AUDIT_SETTING
from test_coordinator_data_adapter.adapters.postgres.database import Database
from test_coordinator_data_adapter.adapters.postgres.migration import migrate
from test_coordinator_data_adapter.adapters.postgres.retention import (
    PostgresRetentionRepository,
)
from test_coordinator_data_adapter.adapters.postgres.roles import role_statements
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.errors import DuplicateError
from test_coordinator_data_adapter.interfaces.audit import audit_context
from test_coordinator_data_adapter.interfaces.queries import AuditQuery
from test_coordinator_data_adapter.interfaces.retention import RetentionPolicy
from test_coordinator_data_adapter.models import EventStatus, RunStatus
from test_coordinator_data_adapter.models.values import MAX_MOMENT
from test_coordinator_data_adapter.resilience.observation import Hooks
from test_coordinator_data_adapter.testing.builders import (
    a_chaos_event,
    a_scenario,
    a_test_result,
    a_test_run,
)

SCHEMA = "test_coordinator"
TRAIL = f"{SCHEMA}.audit_records"
EVERYTHING = RetentionPolicy(
    scenarios=None,
    test_runs=MAX_MOMENT,
    chaos_events=MAX_MOMENT,
    test_results=MAX_MOMENT,
    keep_last_runs=0,
)
WRITES = {
    "a row": lambda single: PostgresTestRunsRepository(single).create(a_test_run()),
    "a change": lambda single: PostgresTestRunsRepository(single).start_run("r"),
    "rows at once": lambda single: PostgresTestResultsRepository(single).bulk_create(
        [a_test_result(), a_test_result()]
    ),
    "a prune": lambda single: PostgresTestResultsRepository(single).prune(MAX_MOMENT),
    "a sweep": lambda single: PostgresRetentionRepository(single).sweep(EVERYTHING),
}


@pytest.fixture
async def database(place):
    """The waist over a database of the test's own, whose settings name an actor."""
    settings = DatabaseSettings(url=place.application, schema=SCHEMA, audit_actor="the service")
    database = Database(settings)
    yield database
    await database.aclose()


@pytest.fixture
async def single(place):
    """The waist over one connection: whatever is asked of it travels there."""
    settings = DatabaseSettings(url=place.application, schema=SCHEMA, pool_size=1, max_overflow=0)
    database = Database(settings)
    yield database
    await database.aclose()


@pytest.fixture
def test_runs(database):
    return PostgresTestRunsRepository(database)


@pytest.fixture
def chaos_events(database):
    return PostgresChaosEventsRepository(database)


@pytest.fixture
def test_results(database):
    return PostgresTestResultsRepository(database)


@pytest.fixture
async def bare(place, connect):
    """A bare connection of the role the service runs as, that reads jsonb as objects."""
    connection = await connect(place.application)
    await connection.set_type_codec(
        "jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
    )
    return connection


@pytest.fixture
async def _tables_of_its_own(place, connect):
    """The service may make tables that last as long as its session."""
    admin = await connect(place.admin)
    await admin.execute(f'GRANT TEMPORARY ON DATABASE "{place.admin.rpartition("/")[2]}" TO PUBLIC')


async def told(bare, columns="operation", condition="true"):
    rows = await bare.fetch(f"SELECT {columns} FROM {TRAIL} WHERE {condition} ORDER BY record_id")
    return [row[0] if len(row) == 1 else tuple(row) for row in rows]


async def test_every_mutation_is_recorded_with_what_it_changed(test_runs, bare):
    run = a_test_run()

    await test_runs.create(run)
    await test_runs.start_run(run.run_id)
    started = await test_runs.get_by_id(run.run_id)
    await test_runs.update(started.model_copy(update={"error_message": "it's \\ broken"}))
    await test_runs.delete(run.run_id)

    records = await bare.fetch(f"SELECT * FROM {TRAIL} ORDER BY record_id")
    assert [record["operation"] for record in records] == [
        "create",
        "status_change",
        "update",
        "delete",
    ]
    assert {record["entity_id"] for record in records} == {run.run_id}
    created, began, updated, deleted = records
    assert created["before"] is None
    assert created["after"].keys() == set(type(run).model_fields)
    assert began["before"].keys() == {"status", "started_at", "updated_at"}
    assert (began["before"]["status"], began["after"]["status"]) == ("pending", "running")
    assert updated["after"]["error_message"] == "it's \\ broken"
    assert updated["before"]["error_message"] is None
    assert deleted["before"]["error_message"] == "it's \\ broken"
    assert deleted["after"] is None


async def test_the_time_is_the_one_the_mutation_itself_has_set(test_runs, bare):
    run = await test_runs.create(a_test_run())

    started = await test_runs.start_run(run.run_id)

    assert (await told(bare, "recorded_at"))[-1] == started.started_at


async def test_a_mutation_that_is_refused_leaves_no_record(test_runs, bare):
    run = await test_runs.create(a_test_run())

    with pytest.raises(DuplicateError):
        await test_runs.create(run)
    with pytest.raises(ValueError, match="test_run"):
        await test_runs.start_run("nobody")

    assert await told(bare) == ["create"]


async def test_a_recovery_is_told_from_other_changes_of_status(chaos_events, bare):
    event = await chaos_events.create(a_chaos_event(status=EventStatus.PENDING))

    await chaos_events.update_status(event.event_id, EventStatus.INJECTED)
    await chaos_events.record_recovery(event.event_id, 40)

    assert await told(bare) == ["create", "status_change", "recovery"]
    assert (await told(bare, "after"))[-1]["recovery_time_ms"] == 40


async def test_the_actor_is_who_the_context_says_and_otherwise_the_settings(test_runs, bare):
    run = await test_runs.create(a_test_run())
    with audit_context(actor="o'brien \\", correlation_id="c1", reason="drill"):
        await test_runs.start_run(run.run_id)
        with audit_context(reason="enough"):
            await test_runs.update_status(
                run.run_id, RunStatus.CANCELLED, expected=RunStatus.RUNNING
            )
    await test_runs.delete(run.run_id)

    assert await told(bare, "actor, correlation_id, reason") == [
        ("the service", None, None),
        ("o'brien \\", "c1", "drill"),
        ("o'brien \\", "c1", "enough"),
        ("the service", None, None),
    ]


async def test_tasks_at_the_same_time_each_speak_for_themselves(test_runs, bare):
    async def work(name):
        with audit_context(actor=name):
            run = await test_runs.create(a_test_run(run_id=name))
            await test_runs.start_run(run.run_id)
            await test_runs.delete(name)

    names = [f"worker-{number}" for number in range(10)]
    await asyncio.gather(*map(work, names))

    assert await told(bare, "count(*)", "actor = entity_id GROUP BY actor, record_id") == [1] * 30


async def test_what_does_not_come_from_this_library_is_recorded_with_the_role(
    test_runs, bare, place
):
    run = await test_runs.create(a_test_run())

    await bare.execute(f"UPDATE {SCHEMA}.test_runs SET exit_code = 3")

    assert (await told(bare, "actor, operation, entity_id"))[-1] == (
        place.application_role,
        "update",
        run.run_id,
    )
    assert (await told(bare, "after"))[-1] == {"exit_code": 3}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
async def test_who_acted_is_forgotten_when_the_write_is_over_whoever_uses_the_connection_next(
    single, bare, place, write
):
    await PostgresScenariosRepository(single).create(a_scenario())
    await PostgresTestResultsRepository(single).create(a_test_result())
    await PostgresTestRunsRepository(single).create(
        a_test_run(run_id="r", status=RunStatus.PENDING)
    )
    with audit_context(actor="ann", correlation_id="c1", reason="drill"):
        await write(single)

    async with single.session_maker()() as session, session.begin():
        await session.execute(text(f"UPDATE {SCHEMA}.scenarios SET description = 'by hand'"))

    assert (await told(bare, "actor, correlation_id, reason"))[-1] == (
        place.application_role,
        None,
        None,
    )


async def test_what_a_session_says_of_itself_is_cut_to_what_a_record_holds(
    database, test_runs, bare
):
    run = await test_runs.create(a_test_run())
    said = json.dumps({"actor": "a" * 300, "correlation_id": "c" * 300})

    await bare.execute("SELECT set_config($1, $2, false)", AUDIT_SETTING, said)
    await bare.execute(f"UPDATE {SCHEMA}.test_runs SET exit_code = 3")

    record = (await PostgresAuditRepository(database).history("test_run", run.run_id))[-1]
    assert (record.actor, record.correlation_id) == ("a" * 255, "c" * 255)


@pytest.mark.parametrize(
    ("kind", "build"),
    [
        (PostgresScenariosRepository, a_scenario),
        (PostgresTestRunsRepository, a_test_run),
        (PostgresChaosEventsRepository, a_chaos_event),
        (PostgresTestResultsRepository, a_test_result),
    ],
)
async def test_an_update_of_one_column_records_that_column_alone(database, bare, kind, build):
    entity = await kind(database).create(build())
    table, id_field = f"{SCHEMA}.{entity.entity_name}s", entity.id_field

    await bare.execute(f"UPDATE {table} SET {id_field} = 'another'")

    assert (await told(bare, "entity_id, before, after"))[-1] == (
        entity.identity,
        {id_field: entity.identity},
        {id_field: "another"},
    )


async def test_times_are_recorded_in_utc_whatever_the_session_says(test_runs, bare):
    run = await test_runs.create(a_test_run())

    await bare.execute("SET timezone = 'Asia/Tokyo'")
    await bare.execute(f"UPDATE {SCHEMA}.test_runs SET started_at = created_at")

    after = (await told(bare, "after"))[-1]
    assert after["started_at"].endswith("+00:00")
    assert after["started_at"][:19] == run.created_at.isoformat()[:19]


async def test_a_bulk_creation_is_one_record_that_every_row_leads_to(test_results, bare):
    await test_results.create(a_test_result())
    results = [a_test_result() for _ in range(300)]

    with audit_context(actor="o'brien \\", correlation_id="c'1"):
        await test_results.bulk_create(results)

    ((operation, count, actor, correlation_id),) = await told(
        bare, "operation, count, actor, correlation_id", "entity_id IS NULL"
    )
    assert (operation, count) == ("bulk_create", 300)
    assert (actor, correlation_id) == ("o'brien \\", "c'1")
    led_to = await bare.fetchval(
        f"SELECT count(*) FROM {TRAIL} JOIN {SCHEMA}.test_results ON created_in = transaction_id"
        " WHERE operation = 'bulk_create'".replace("created_in", "test_results.created_in")
    )
    assert led_to == 300


async def test_the_timeline_tells_of_every_result_once_however_a_transaction_created_it(
    database, bare
):
    insert = (
        f"INSERT INTO {SCHEMA}.test_results (result_id, run_id, assertion_type, expected_value,"
        " actual_value, status, verification_time, created_at)"
        " SELECT id, 'run', 'latency', '', '', 'passed', now(), now() FROM unnest($1::text[]) AS id"
    )
    async with bare.transaction():
        for ids in (["alone"], ["a", "b"], ["c", "d"]):
            await bare.execute(insert, ids)
    audit = PostgresAuditRepository(database)
    before = await audit.run_timeline("run")
    await bare.execute(f"DELETE FROM {SCHEMA}.test_results WHERE result_id IN ('alone', 'a')")
    await bare.execute(f"DELETE FROM {SCHEMA}.test_results WHERE result_id = 'b'")

    after = await audit.run_timeline("run")

    assert [(entry.record.operation, entry.entity_id) for entry in before] == [
        ("create", "alone"),
        *(("bulk_create", id_) for id_ in "abcd"),
    ]
    assert after[:-3] == before
    assert [(entry.record.operation, entry.entity_id) for entry in after[-3:]] == [
        ("delete", "alone"),
        ("delete", "a"),
        ("delete", "b"),
    ]


async def test_what_one_statement_did_stands_in_the_order_it_was_recorded_in(database, bare):
    await bare.execute(
        f"INSERT INTO {SCHEMA}.chaos_events (event_id, run_id, event_type, target_service,"
        " parameters, injected_at, status, created_at)"
        " SELECT id, 'run', 'cpu_stress', 'svc', '{}', now(), 'pending', now()"
        " FROM unnest($1::text[]) AS id",
        ["z", "y", "x"],
    )

    timeline = await PostgresAuditRepository(database).run_timeline("run")

    assert [entry.entity_id for entry in timeline] == ["z", "y", "x"]
    assert len({entry.record.recorded_at for entry in timeline}) == 1


async def test_a_prune_is_one_record_for_each_statement_and_names_what_went(test_results, bare):
    results = [a_test_result() for _ in range(5)]
    await test_results.bulk_create(results)

    with audit_context(actor="the caretaker"):
        await test_results.prune(MAX_MOMENT, batch_size=2)

    prunes = await told(bare, "count, actor, entity_ids", "operation = 'prune'")
    assert [(count, actor) for count, actor, _ in prunes] == [
        (2, "the caretaker"),
        (2, "the caretaker"),
        (1, "the caretaker"),
    ]
    gone = {id_ for _, _, ids in prunes for id_ in ids}
    assert gone == {result.result_id for result in results}


async def test_given_direct_sql_when_it_deletes_many_rows_then_each_is_recorded_as_it_was(
    test_runs, bare
):
    runs = [await test_runs.create(a_test_run()) for _ in range(3)]

    await bare.execute("SELECT set_config($1, $2, false)", AUDIT_SETTING, '{"operation": "prune"}')
    await bare.execute(f"DELETE FROM {SCHEMA}.test_runs")
    await bare.execute(f"DELETE FROM {SCHEMA}.test_runs")

    deletions = await told(bare, "operation, entity_id, before", "operation <> 'create'")
    assert {(name, id_, before["scenario_id"]) for name, id_, before in deletions} == {
        ("delete", run.run_id, run.scenario_id) for run in runs
    }


async def test_retention_prunes_even_when_it_takes_a_single_row(database, test_runs, bare):
    run = await test_runs.create(a_test_run(status=RunStatus.PASSED))

    with audit_context(reason="kept long enough"):
        await PostgresRetentionRepository(database).sweep(EVERYTHING)

    assert await told(bare, "operation, entity_ids, reason", "operation <> 'create'") == [
        ("prune", [run.run_id], "kept long enough")
    ]


async def test_what_is_rolled_back_was_never_recorded(bare):
    transaction = bare.transaction()
    await transaction.start()
    await bare.execute(
        f"INSERT INTO {SCHEMA}.test_results VALUES ('r', 'run', 'latency', '', '', 'passed',"
        " now(), NULL, NULL, now())"
    )
    recorded = await told(bare)
    await transaction.rollback()

    assert recorded == ["create"]
    assert await told(bare) == []


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO {TRAIL} (actor, operation, kind) VALUES ('me', 'create', 'scenario')",
        f"UPDATE {TRAIL} SET actor = 'somebody else'",
        f"DELETE FROM {TRAIL}",
        f"TRUNCATE {TRAIL}",
        f"DROP TABLE {TRAIL}",
        f"ALTER TABLE {SCHEMA}.test_runs DISABLE TRIGGER audit_update",
        f"DROP TRIGGER audit_update ON {SCHEMA}.test_runs",
        f"SELECT setval(pg_get_serial_sequence('{TRAIL}', 'record_id'), 1)",
        f"UPDATE {SCHEMA}.test_results SET created_in = NULL",
        f"INSERT INTO {SCHEMA}.test_results (result_id, created_in) VALUES ('r', NULL)",
    ],
)
async def test_the_service_can_neither_write_nor_change_nor_delete_records(bare, statement):
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await bare.execute(statement)


@pytest.mark.usefixtures("_tables_of_its_own")
async def test_the_service_cannot_slip_a_table_of_its_own_under_the_triggers(test_runs, bare):
    await bare.execute("CREATE TEMPORARY TABLE audit_records (LIKE " + TRAIL + ")")
    await test_runs.create(a_test_run())

    await bare.execute(f"UPDATE {SCHEMA}.test_runs SET exit_code = 3")

    assert await told(bare) == ["create", "update"]


@pytest.mark.usefixtures("_tables_of_its_own")
async def test_the_service_cannot_have_what_it_makes_up_in_a_table_of_its_own_recorded(bare):
    await bare.execute(f"CREATE TEMPORARY TABLE own (LIKE {SCHEMA}.test_runs)")
    functions = await bare.fetch(
        "SELECT oid::regprocedure::text FROM pg_proc"
        " WHERE pronamespace = $1::regnamespace AND prorettype = 'trigger'::regtype",
        SCHEMA,
    )

    for (function,) in functions:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied for func"):
            await bare.execute(
                f"CREATE TRIGGER forges AFTER INSERT ON own"
                f" FOR EACH ROW EXECUTE FUNCTION {function}"
            )
    assert f"{SCHEMA}.audit_row()" in {function for (function,) in functions}


async def test_nobody_truncates_what_is_recorded_not_even_a_superuser(place, connect):
    admin = await connect(place.admin)

    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="DELETE"):
        await admin.execute(f"TRUNCATE {SCHEMA}.test_runs")


async def test_the_auditor_deletes_records_and_touches_nothing_else(place, connect, test_runs):
    await test_runs.create(a_test_run())
    admin = await connect(place.admin)
    for statement in role_statements(
        database=place.admin.rpartition("/")[2],
        schema=SCHEMA,
        owner=place.owner_role,
        role=place.application_role,
        auditor=place.auditor_role,
    ):
        await admin.execute(statement)
    auditor = await connect(place.auditor)

    assert await auditor.execute(f"DELETE FROM {TRAIL}") == "DELETE 1"

    for statement in (f"SELECT * FROM {SCHEMA}.test_runs", f"UPDATE {TRAIL} SET actor = 'x'"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await auditor.execute(statement)


async def test_a_downgrade_keeps_the_rows_and_leaves_nothing_of_the_trail(
    place, connect, test_results
):
    await test_results.bulk_create([a_test_result(), a_test_result()])
    admin = await connect(place.admin)

    await migrate(place.owner, SCHEMA, revision="0002", role=place.application_role)
    left = await admin.fetchval(
        "SELECT count(*) FROM pg_proc WHERE pronamespace = $1::regnamespace", SCHEMA
    )
    await admin.execute(
        f"DELETE FROM {SCHEMA}.test_results WHERE result_id IN"
        f" (SELECT result_id FROM {SCHEMA}.test_results LIMIT 1)"
    )
    await migrate(place.owner, SCHEMA, role=place.application_role)
    await test_results.create(a_test_result())

    assert left == 1
    assert await told(admin) == ["create"]
    assert await admin.fetchval(f"SELECT count(*) FROM {SCHEMA}.test_results") == 2


async def test_scenarios_are_recorded_too(place, bare, repositories_at):
    scenario = a_scenario()

    async with repositories_at(place.application) as held:
        await held.scenarios.create(scenario)

    assert await told(bare, "kind, entity_id, actor") == [
        ("scenario", scenario.scenario_id, place.application_role)
    ]


async def test_the_trail_is_fetched_in_parts_no_larger_than_was_asked_for(place, test_runs):
    for _ in range(7):
        await test_runs.create(a_test_run())
    trips = []
    settings = DatabaseSettings(url=place.application, schema=SCHEMA)
    database = Database(settings, hooks_at=lambda _: Hooks(on_trip=trips.append))
    audit = PostgresAuditRepository(database)

    streamed = [record async for record in audit.stream(AuditQuery(), batch_size=2)]
    page = await audit.find(AuditQuery(), limit=3)
    await database.aclose()

    assert (len(streamed), len(page.items)) == (7, 3)
    assert [trip.rows for trip in trips] == [2, 2, 2, 1, 4]
