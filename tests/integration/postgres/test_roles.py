from __future__ import annotations

from datetime import UTC, datetime

import asyncpg
import pytest

from test_coordinator_data_adapter.adapters.postgres.migration import migrate, migration_sql
from test_coordinator_data_adapter.adapters.postgres.roles import role_statements
from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.testing.builders import a_test_run

SCHEMA = "test_coordinator"


@pytest.fixture
async def guarded(place, connect):
    """The database after an administrator ran the statements, twice, in the order advised."""
    statements = role_statements(
        database=place.admin.rpartition("/")[2],
        schema=SCHEMA,
        owner=place.owner_role,
        role=place.application_role,
        auditor=place.auditor_role,
    )
    admin = await connect(place.admin)
    for statement in statements + statements:
        await admin.execute(statement)
    return place


@pytest.fixture
async def service(guarded, connect):
    """A bare connection of the role the service runs as."""
    return await connect(guarded.application)


@pytest.mark.parametrize(
    "statement",
    [
        f"CREATE TABLE {SCHEMA}.mine (a int)",
        "CREATE TABLE public.mine (a int)",
        "CREATE TEMPORARY TABLE mine (a int)",
        "CREATE SCHEMA mine",
        f"CREATE FUNCTION {SCHEMA}.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        f"CREATE INDEX ON {SCHEMA}.test_runs (exit_code)",
        f"ALTER TABLE {SCHEMA}.test_runs ADD COLUMN mine int",
        f"ALTER TABLE {SCHEMA}.test_runs DISABLE TRIGGER ALL",
        f"DROP TABLE {SCHEMA}.test_runs",
        f"DROP SCHEMA {SCHEMA} CASCADE",
        f"TRUNCATE {SCHEMA}.test_runs",
        f"UPDATE {SCHEMA}.test_coordinator_adapter_version SET version_num = '9999'",
        f"DELETE FROM {SCHEMA}.test_coordinator_adapter_version",
        "CREATE ROLE mine",
        "SET session_replication_role = replica",
        "SELECT pg_read_file('postgresql.conf')",
        "COPY (SELECT 1) TO PROGRAM 'true'",
    ],
)
async def test_what_the_service_does_not_need_is_refused(service, statement):
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service.execute(statement)


async def test_the_service_cannot_read_another_instance(guarded, service):
    await migrate(guarded.admin, "another", role="nobody")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await service.fetch("SELECT * FROM another.test_runs")


async def test_the_service_reads_and_writes_rows_the_revision_and_its_health(
    guarded, service, repositories_at
):
    run = a_test_run()

    async with repositories_at(guarded.application) as held:
        await held.test_runs.create(run)
        await held.test_runs.start_run(run.run_id)
        found = await held.test_runs.delete(run.run_id)

    assert found
    assert await service.fetchval(f"SELECT {SCHEMA}.health_check()") is not None
    assert await service.fetchval(
        f"SELECT version_num FROM {SCHEMA}.test_coordinator_adapter_version"
    )


async def test_a_session_of_the_service_waits_for_nothing_without_end(service):
    held = {
        name: await service.fetchval(f"SHOW {name}")
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
    }

    assert held == {
        "statement_timeout": "30s",
        "lock_timeout": "10s",
        "idle_in_transaction_session_timeout": "1min",
    }


async def test_the_owner_migrates_without_being_a_superuser(guarded, connect):
    await migrate(guarded.owner, SCHEMA, revision="base", role=guarded.application_role)
    before = await migrate(guarded.owner, SCHEMA, role=guarded.application_role)

    owner = await connect(guarded.owner)
    service = await connect(guarded.application)
    assert before.found is None
    assert await owner.fetchval("SHOW is_superuser") == "off"
    assert await service.fetchval(f"SELECT count(*) FROM {SCHEMA}.test_runs") == 0


async def test_the_owner_can_run_the_printed_script_where_nothing_else_may_be_created(
    guarded, connect
):
    await migrate(guarded.owner, SCHEMA, revision="base", role=guarded.application_role)
    owner = await connect(guarded.owner)
    await owner.execute(f"DROP TABLE {SCHEMA}.test_coordinator_adapter_version")

    await owner.execute(migration_sql(SCHEMA, role=guarded.application_role))

    service = await connect(guarded.application)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await owner.execute("CREATE SCHEMA another")
    assert await service.fetchval(f"SELECT count(*) FROM {SCHEMA}.test_runs") == 0


async def test_a_role_without_a_right_is_told_what_grants_it_and_that_does(
    place, connect, repositories_at
):
    admin = await connect(place.admin)
    await admin.execute(f"REVOKE ALL ON {SCHEMA}.test_runs FROM {place.application_role}")

    async with repositories_at(place.application) as held:
        with pytest.raises(ConfigurationError, match="`test-coordinator-adapter migrate`, run as"):
            await held.test_runs.get_failed_runs()
        await migrate(place.owner, SCHEMA, role=place.application_role)

        assert await held.test_runs.get_failed_runs() == []


async def test_the_statements_also_grant_what_was_migrated_before(empty_place, connect):
    await migrate(empty_place.admin, SCHEMA, role="nobody")
    statements = role_statements(
        database=empty_place.admin.rpartition("/")[2],
        schema=SCHEMA,
        owner=empty_place.owner_role,
        role=empty_place.application_role,
        auditor=empty_place.auditor_role,
    )

    admin = await connect(empty_place.admin)
    for statement in statements:
        await admin.execute(statement)

    service = await connect(empty_place.application)
    assert await service.fetchval(f"SELECT count(*) FROM {SCHEMA}.scenarios") == 0


async def test_names_that_need_quoting_are_quoted(empty_place, connect):
    admin = await connect(empty_place.admin)
    role = f"{empty_place.application_role}\"; -- $block$ :x %s \\'"
    statements = role_statements(
        database=empty_place.admin.rpartition("/")[2],
        schema='a "schema"',
        owner=empty_place.owner_role,
        role=role,
        auditor=empty_place.auditor_role,
    )

    for statement in statements:
        await admin.execute(statement)
    await migrate(empty_place.admin, 'a "schema"', role=role)

    may_write = await admin.fetchval(
        "SELECT has_table_privilege($1, $2, 'INSERT')", role, '"a ""schema""".scenarios'
    )
    await admin.execute('DROP SCHEMA "a ""schema""" CASCADE')
    quoted = role.replace('"', '""')
    await admin.execute(f'DROP OWNED BY "{quoted}"; DROP ROLE "{quoted}"')
    assert may_write


async def test_the_database_itself_refuses_what_no_model_would_hold(place, connect):
    service = await connect(place.application)
    run = a_test_run(created_at=datetime(2026, 5, 6, tzinfo=UTC)).field_values()
    columns = ", ".join(f"${position + 1}" for position in range(len(run)))

    def altered(**changes):
        return [changes.get(name, value) for name, value in zip(FIELDS, run, strict=True)]

    insert = f"INSERT INTO {SCHEMA}.test_runs VALUES ({columns})"
    for changes in (
        {"run_id": ""},
        {"run_id": "x" * 256},
        {"status": "done"},
        {"duration_ms": -1},
        {"created_at": datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)},
        {"configuration_snapshot": "[]"},
    ):
        objects = {"configuration_snapshot": "{}", "labels": "{}"}
        with pytest.raises(asyncpg.CheckViolationError):
            await service.execute(insert, *altered(**(objects | changes)))


FIELDS = tuple(type(a_test_run()).model_fields)


async def test_the_owner_gets_what_an_administrator_migrated_before_there_was_one(
    empty_place, connect, repositories_at
):
    await migrate(empty_place.admin, SCHEMA)
    admin = await connect(empty_place.admin)
    for statement in role_statements(
        database=empty_place.admin.rpartition("/")[2],
        schema=SCHEMA,
        owner=empty_place.owner_role,
        role=empty_place.application_role,
        auditor=empty_place.auditor_role,
    ):
        await admin.execute(statement)

    await migrate(empty_place.owner, SCHEMA, revision="0002", role=empty_place.application_role)
    await migrate(empty_place.owner, SCHEMA, role=empty_place.application_role)

    async with repositories_at(empty_place.application) as held:
        run = await held.test_runs.create(a_test_run())
        assert await held.test_runs.get_by_id(run.run_id) == run
