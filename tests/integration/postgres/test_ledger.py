"""The audit trail as a ledger: identities, latest times, and what direct SQL cannot forge."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import pytest

from test_coordinator_data_adapter.adapters.postgres import PostgresTestResultsRepository
from test_coordinator_data_adapter.adapters.postgres.audit import PostgresAuditRepository
from test_coordinator_data_adapter.adapters.postgres.audit_setting import (
    AUDIT_SETTING,
    LATE,
    Call,
    Teller,
    with_not_after,
)
from test_coordinator_data_adapter.adapters.postgres.database import Database
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.interfaces.queries import AuditQuery
from test_coordinator_data_adapter.testing.builders import a_test_result

SCHEMA = "test_coordinator"
TRAIL = f"{SCHEMA}.audit_records"
A_DAY = timedelta(days=1)
SAYING = f"set_config('{AUDIT_SETTING}', $1, true) IS NOT NULL"


@pytest.fixture
async def database(place):
    database = Database(DatabaseSettings(url=place.application, schema=SCHEMA))
    yield database
    await database.aclose()


@pytest.fixture
async def bare(place, connect):
    """A bare connection of the service's role."""
    connection = await connect(place.application)
    await connection.set_type_codec(
        "jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog"
    )
    return connection


def setting(*, not_after=None, **arguments):
    said = Teller("the service")(**arguments)
    return said if not_after is None else with_not_after(said, not_after)


async def create_runs(connection, said, *ids):
    await connection.execute(
        f"INSERT INTO {SCHEMA}.test_runs (run_id, scenario_id, status, configuration_snapshot,"
        " created_at, updated_at) SELECT id, 's', 'pending', '{}', now(), now()"
        f" FROM unnest($2::text[]) AS id RETURNING {SAYING}",
        said,
        list(ids),
    )


async def start_run(connection, said, id_="r1"):
    await connection.execute(
        f"UPDATE {SCHEMA}.test_runs SET status = 'running' WHERE run_id = $2 RETURNING {SAYING}",
        said,
        id_,
    )


async def delete_run(connection, said, id_="r1"):
    await connection.execute(
        f"DELETE FROM {SCHEMA}.test_runs WHERE run_id = $2 RETURNING {SAYING}", said, id_
    )


MUTATIONS = {
    "a creation": lambda connection, said: create_runs(connection, said, "r2"),
    "a transition": start_run,
    "a deletion": delete_run,
}


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
async def test_given_a_call_when_it_is_applied_then_its_record_carries_it(bare, mutation):
    await create_runs(bare, setting(), "r1")
    call = Call(
        id=uuid4(), step=3, digest="ab" * 16, occurred_at=datetime(2026, 5, 6, 7, tzinfo=UTC)
    )

    await mutation(bare, setting(call=call))

    row = await bare.fetchrow(f"SELECT * FROM {TRAIL} WHERE call_id = $1 AND step = 3", call.id)
    assert (row["part"], row["call_digest"], row["occurred_at"]) == (
        1,
        bytes.fromhex("ab" * 16),
        call.occurred_at,
    )
    assert row["recorded_at"] > call.occurred_at


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
async def test_given_a_call_that_was_applied_when_it_is_sent_again_then_it_is_refused(
    bare, mutation
):
    await create_runs(bare, setting(), "r1")
    call = Call(id=uuid4())
    await start_run(bare, setting(call=call))

    with pytest.raises(asyncpg.UniqueViolationError) as refused:
        await mutation(bare, setting(call=call))

    assert refused.value.constraint_name == "uq_audit_records_call"


@pytest.mark.parametrize("mutation", MUTATIONS.values(), ids=MUTATIONS)
async def test_given_a_statement_past_its_latest_time_when_it_runs_then_nothing_is_applied(
    bare, mutation
):
    await create_runs(bare, setting(), "r1")
    before = await bare.fetch(f"SELECT * FROM {SCHEMA}.test_runs")
    now = await bare.fetchval("SELECT clock_timestamp()")

    with pytest.raises(asyncpg.PostgresError) as refused:
        await mutation(bare, setting(not_after=now))

    assert refused.value.sqlstate == LATE
    assert await bare.fetch(f"SELECT * FROM {SCHEMA}.test_runs") == before
    await mutation(bare, setting(not_after=now + A_DAY))
    assert await bare.fetchval(f"SELECT count(*) FROM {TRAIL}") == 2


async def test_given_a_statement_that_waited_for_a_lock_when_it_is_late_then_it_is_refused(
    place, connect, bare
):
    await create_runs(bare, setting(), "r1")
    other = await connect(place.application)
    transaction = other.transaction()
    await transaction.start()
    await other.execute(f"SELECT FROM {SCHEMA}.test_runs FOR UPDATE")
    now = await bare.fetchval("SELECT clock_timestamp()")
    waiting = start_run(bare, setting(not_after=now + timedelta(seconds=1)))
    admin = await connect(place.admin)

    async def release():
        while not await admin.fetchval(
            "SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted", bare.get_server_pid()
        ):
            await admin.execute("SELECT pg_sleep(0.05)")
        await admin.execute("SELECT pg_sleep_until($1)", now + timedelta(seconds=1.1))
        await transaction.rollback()

    with pytest.raises(asyncpg.PostgresError) as refused:
        await asyncio.gather(waiting, release())

    assert refused.value.sqlstate == LATE


async def test_given_a_batch_when_it_is_applied_then_each_record_carries_its_own_call(bare):
    calls = {"r1": Call(id=uuid4()), "r2": Call(id=uuid4(), step=2)}

    await create_runs(bare, setting(calls=calls), "r1", "r2")
    await bare.execute(
        f"UPDATE {SCHEMA}.test_runs SET exit_code = 1 RETURNING {SAYING}",
        setting(calls={"r2": Call(id=uuid4(), step=7)}),
    )

    rows = await bare.fetch(f"SELECT entity_id, call_id, step, part FROM {TRAIL}")
    created, updated = rows[:2], {row["entity_id"]: row["step"] for row in rows[2:]}
    assert {row["entity_id"]: row["call_id"] for row in created} == {
        id_: call.id for id_, call in calls.items()
    }
    assert updated == {"r1": None, "r2": 7}


async def test_given_results_created_together_then_their_records_carry_their_calls(bare, database):
    one, *several = (Call(id=uuid4()) for _ in range(3))
    insert = (
        f"INSERT INTO {SCHEMA}.test_results (result_id, run_id, assertion_type, expected_value,"
        " actual_value, status, verification_time, created_at) SELECT id, 'run', 'latency', '',"
        f" '', 'passed', now(), now() FROM unnest($2::text[]) AS id RETURNING {SAYING}"
    )

    await bare.execute(insert, setting(call=one), ["a", "b"])
    calls = dict(zip("cd", several, strict=True))
    await bare.execute(insert, setting(operation="create", calls=calls), ["c", "d"])

    records = [
        record
        async for record in PostgresAuditRepository(database).stream(AuditQuery(kind="test_result"))
    ]
    assert [(record.operation, record.call_id, record.step) for record in records] == [
        ("bulk_create", one.id, 1),
        ("create", several[0].id, 1),
        ("create", several[1].id, 1),
    ]


async def test_given_a_call_of_several_parts_then_each_record_is_numbered(bare):
    await create_runs(bare, setting(), "r1", "r2")
    call = Call(id=uuid4())

    async def close_all():
        async with bare.transaction():
            await bare.execute(f"SELECT {SAYING}", setting(call=call, parts=True))
            await bare.execute(f"UPDATE {SCHEMA}.test_runs SET status = 'error'")
            await bare.execute(f"SELECT {SCHEMA}.prune('test_run', '{{r1,r2}}')")

    await close_all()
    await create_runs(bare, setting(), "r3")
    with pytest.raises(asyncpg.UniqueViolationError):
        await close_all()

    rows = await bare.fetch(f"SELECT operation, part FROM {TRAIL} WHERE call_id = $1", call.id)
    assert sorted(map(tuple, rows)) == [("prune", 3), ("status_change", 1), ("status_change", 2)]


async def test_given_a_fence_that_is_past_when_the_commit_comes_with_it_then_nothing_is_applied(
    bare,
):
    now = await bare.fetchval("SELECT clock_timestamp()")

    async def run(not_after):
        await bare.execute("BEGIN")
        await create_runs(bare, setting(), "r1")
        try:
            await bare.execute(f"SELECT {SCHEMA}.fence('{not_after.isoformat()}'); COMMIT")
        except asyncpg.PostgresError as refused:
            await bare.execute("ROLLBACK")
            return refused.sqlstate
        return None

    late = await run(now)
    left = await bare.fetchval(f"SELECT count(*) FROM {SCHEMA}.test_runs")
    in_time = await run(now + A_DAY)

    assert (late, left, in_time) == (LATE, 0, None)
    assert await bare.fetchval(f"SELECT count(*) FROM {SCHEMA}.test_runs") == 1


async def test_the_role_that_logged_in_is_recorded_beside_the_actor_that_it_claims(bare, place):
    await create_runs(bare, json.dumps({"actor": "somebody else"}), "r1")

    row = await bare.fetchrow(f"SELECT actor, login_role FROM {TRAIL}")
    assert tuple(row) == ("somebody else", place.application_role)


async def test_only_the_function_of_the_owner_omits_what_was_deleted(bare, place):
    await create_runs(bare, setting(), "r1", "r2", "r3")
    await start_run(bare, setting(), "r3")

    async with bare.transaction():
        pruned = await bare.fetchval(f"SELECT {SCHEMA}.prune('test_run', '{{r1,r2,r3,nobody}}')")
    await bare.execute(f"UPDATE {SCHEMA}.test_runs SET status = 'passed' WHERE run_id = 'r1'")
    async with bare.transaction():
        pruned += await bare.fetchval(f"SELECT {SCHEMA}.prune('test_run', '{{r1}}')")
        await delete_run(bare, json.dumps({"operation": "prune"}), "r2")

    rows = await bare.fetch(
        f"SELECT operation, entity_id, entity_ids, before IS NOT NULL, actor FROM {TRAIL}"
        " WHERE operation IN ('prune', 'delete') ORDER BY record_id"
    )
    role = place.application_role
    assert pruned == 1
    assert [tuple(row) for row in rows] == [
        ("prune", None, ["r1"], False, role),
        ("delete", "r2", None, True, role),
    ]


async def test_the_service_cannot_pretend_that_a_prune_runs(bare):
    for statement in (
        f"INSERT INTO {SCHEMA}.audit_pruning VALUES (pg_current_xact_id())",
        f"SELECT * FROM {SCHEMA}.audit_pruning",
        f"SELECT {SCHEMA}.next_audit_part()",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await bare.execute(statement)


async def test_a_result_that_was_moved_is_found_from_both_runs(bare, database):
    results = [a_test_result(run_id="first") for _ in range(2)]
    repository = PostgresTestResultsRepository(database)
    await repository.bulk_create(results)
    moved = results[0].result_id

    await bare.execute(
        f"UPDATE {SCHEMA}.test_results SET run_id = 'second' WHERE result_id = $1", moved
    )
    audit = PostgresAuditRepository(database)

    async def found(run_id):
        return [
            (entry.record.operation, entry.entity_id)
            for entry in await audit.run_timeline(run_id)
            if entry.entity_id == moved
        ]

    assert await found("first") == [("bulk_create", moved), ("update", moved)]
    assert await found("second") == [("bulk_create", moved), ("update", moved)]
    await bare.execute(f"DELETE FROM {SCHEMA}.test_results WHERE result_id = $1", moved)
    assert await found("first") == [("bulk_create", moved), ("update", moved)]
    assert (await found("second"))[-1] == ("delete", moved)


async def test_a_column_that_a_table_is_given_later_needs_no_new_trigger(bare, place, connect):
    admin = await connect(place.admin)
    await create_runs(bare, setting(), "r1")
    await admin.execute(f"ALTER TABLE {SCHEMA}.test_runs ADD COLUMN shard text")

    await start_run(bare, setting())
    await admin.execute(f"UPDATE {SCHEMA}.test_runs SET shard = 'a'")

    rows = await bare.fetch(f"SELECT before, after FROM {TRAIL} ORDER BY record_id OFFSET 1")
    assert [tuple(row) for row in rows] == [
        ({"status": "pending"}, {"status": "running"}),
        ({"shard": None}, {"shard": "a"}),
    ]
