from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.ext.asyncio import create_async_engine
from typer.testing import CliRunner

from test_coordinator_data_adapter.adapters.postgres import migration, tables
from test_coordinator_data_adapter.adapters.postgres.database import Database
from test_coordinator_data_adapter.adapters.postgres.migration import (
    REVISIONS,
    migrate,
    migration_sql,
    schema_state,
    schema_state_at,
)
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.cli import app
from test_coordinator_data_adapter.errors import (
    ConfigurationError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)
from test_coordinator_data_adapter.models import TestResult
from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.testing.builders import a_test_result
from test_coordinator_data_adapter.tls import TlsSettings

SCHEMA = "test_coordinator"
SOURCE = Path(__file__).parents[3] / "src"
SCHEMA_OF_0004 = Path(__file__).parent / "schemas" / "revision_0004.sql"
KINDS = {kind.entity_name + "s": kind for kind in Entity.__subclasses__()}

EVERYTHING_IN = """
SELECT 'column' AS kind, format('%s.%s', c.relname, a.attname) AS name,
    format('%s %s %s', format_type(a.atttypid, a.atttypmod), a.attcollation::regcollation,
        CASE WHEN a.attnotnull THEN 'not null' END) AS definition
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE c.relnamespace = quote_ident($1)::regnamespace AND c.relkind = 'r' AND a.attnum > 0
    AND NOT a.attisdropped AND c.relname <> 'test_coordinator_adapter_version'
UNION ALL
SELECT 'constraint', conname, pg_get_constraintdef(oid)
FROM pg_constraint
WHERE connamespace = quote_ident($1)::regnamespace AND contype <> 'n'
    AND conrelid::regclass::text NOT LIKE '%test_coordinator_adapter_version'
UNION ALL
SELECT 'index', indexname, replace(indexdef, $1::text || '.', '')
FROM pg_indexes WHERE schemaname = $1::text AND tablename <> 'test_coordinator_adapter_version'
ORDER BY 1, 2
"""


# What they import is imported once: twenty interpreters would take most of their time for that.
TWENTY_PROCESSES = """
import asyncio, os, sys, traceback
import alembic.command
from test_coordinator_data_adapter.adapters.postgres.migration import migrate

def process():
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(migrate(*sys.argv[1:]))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid

for pid in [process() for _ in range(20)]:
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


async def definitions(connection, schema):
    return [tuple(row) for row in await connection.fetch(EVERYTHING_IN, schema)]


async def call(*arguments, **environment):
    """Calls the command line in this process, with these settings and no others."""
    others = {name: None for name in os.environ if name.startswith("TEST_COORDINATOR_ADAPTER_")}
    return await asyncio.to_thread(
        CliRunner().invoke, app, arguments, env={**others, **environment}
    )


def configured(place, **changes):
    return {
        "TEST_COORDINATOR_ADAPTER_POSTGRES_URL": place.application,
        "TEST_COORDINATOR_ADAPTER_MIGRATION_URL": place.admin,
        **changes,
    }


async def test_tables_py_is_what_the_migrations_make(place, connect):
    engine = create_async_engine(place.admin)
    async with engine.begin() as connection:
        await connection.execute(text("CREATE SCHEMA declared"))
        await connection.execute(text("SET LOCAL search_path TO declared"))
        await connection.run_sync(tables.metadata.create_all)
    await engine.dispose()
    bare = await connect(place.admin)

    declared = await definitions(bare, "declared")
    migrated = await definitions(bare, SCHEMA)

    assert declared == migrated
    assert len(declared) > 100


async def test_alembic_finds_nothing_that_a_migration_has_forgotten(place, monkeypatch):
    # SQLAlchemy has no type of its own for it, and would warn that it does not recognise it.
    monkeypatch.setitem(ischema_names, "xid8", tables.Xid8)
    engine = create_async_engine(
        place.admin, connect_args={"server_settings": {"search_path": SCHEMA}}
    )

    def compare(connection):
        options = {
            "include_name": lambda name, kind, _: (
                (kind, name) != ("table", "test_coordinator_adapter_version")
            )
        }
        context = MigrationContext.configure(connection, opts=options)
        return compare_metadata(context, tables.metadata)

    async with engine.connect() as connection:
        found = await connection.run_sync(compare)
    await engine.dispose()

    assert found == []


def test_the_columns_of_a_table_are_the_fields_of_its_kind_in_their_order():
    stored = KINDS.keys() & tables.metadata.tables.keys()

    assert len(stored) == 4
    for name in stored:
        kind, table = KINDS[name], tables.metadata.tables[name]

        assert list(tables.fields_of(table)) == list(kind.model_fields)
        assert list(table.primary_key.columns.keys()) == [kind.id_field]


def test_the_library_knows_its_revisions_without_alembic():
    steps = Path(migration.__file__).parent / "migrations"
    config = Config()
    config.set_main_option("script_location", str(steps))
    scripts = ScriptDirectory.from_config(config)

    known = [script.revision for script in scripts.walk_revisions()]

    assert known == list(reversed(REVISIONS))


def test_alembic_is_imported_only_when_something_migrates():
    code = (
        "import sys, test_coordinator_data_adapter.adapters.postgres.migration;"
        "sys.exit('alembic' in sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], check=False, env=os.environ | {"PYTHONPATH": str(SOURCE)}
    )

    assert done.returncode == 0


async def test_twenty_that_migrate_an_empty_database_at_once_all_succeed(empty_place):
    found = await asyncio.gather(*(migrate(empty_place.admin, SCHEMA) for _ in range(20)))

    assert [state.found for state in found].count(None) == 1
    assert (await schema_state_at(empty_place.admin, SCHEMA)).is_current


async def test_twenty_processes_that_migrate_an_empty_database_at_once_all_succeed(empty_place):
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", TWENTY_PROCESSES, empty_place.admin, SCHEMA),
        env=os.environ | {"PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
    )
    ended, _ = await started.communicate()

    assert ended.split() == [b"0"] * 20
    assert (await schema_state_at(empty_place.admin, SCHEMA)).is_current


async def test_a_migration_that_waits_for_another_gives_up_in_time(empty_place, connect):
    other = await connect(empty_place.admin)
    await other.execute(
        "SELECT pg_advisory_lock(hashtextextended($1, 0))",
        f"test-coordinator-data-adapter/{SCHEMA}",
    )

    with pytest.raises(OverloadedError):
        await migrate(empty_place.admin, SCHEMA, patience=0.1)

    assert (await schema_state_at(empty_place.admin, SCHEMA)).found is None


async def test_whoever_asks_for_the_state_does_not_wait_for_a_lock_for_ever(place, connect):
    other = await connect(place.admin)
    await other.execute(f"BEGIN; LOCK TABLE {SCHEMA}.test_coordinator_adapter_version")

    with pytest.raises(OverloadedError):
        await schema_state_at(place.admin, SCHEMA, patience=0.1)


@asynccontextmanager
async def silent_from(words, url):
    """The same server, which says nothing more to whoever sends these words."""
    there = urlsplit(url)

    async def forward(reader, writer, *, until):
        while (data := await reader.read(65536)) and (until is None or until not in data):
            writer.write(data)

    async def serve(reader, writer):
        server_reader, server_writer = await asyncio.open_connection(there.hostname, there.port)
        answers = asyncio.create_task(forward(server_reader, writer, until=None))
        await forward(reader, server_writer, until=words)
        await reader.read()
        server_writer.close()
        await answers
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as relay:
        user, at, _ = there.netloc.rpartition("@")
        port = relay.sockets[0].getsockname()[1]
        yield urlunsplit(there._replace(netloc=f"{user}{at}127.0.0.1:{port}"))


async def test_a_server_that_falls_silent_is_unavailable_to_whoever_asks_for_the_state(
    place, monkeypatch
):
    monkeypatch.setattr(migration, "_GRACE", 0.1)

    async with silent_from(b"to_regclass", place.admin) as url:
        with pytest.raises(UnavailableError):
            await schema_state_at(url, SCHEMA, tls=TlsSettings("disable"), patience=0.1)


@pytest.mark.parametrize("words", [b"pg_advisory_xact_lock", b"CREATE TABLE"])
async def test_a_server_that_falls_silent_has_migrated_nothing(empty_place, monkeypatch, words):
    monkeypatch.setattr(migration, "_GRACE", 0.1)

    async with silent_from(words, empty_place.admin) as url:
        with pytest.raises(UnavailableError):
            await migrate(url, SCHEMA, tls=TlsSettings("disable"), patience=0.4, within=0.5)

    assert (await schema_state_at(empty_place.admin, SCHEMA)).found is None


async def test_a_server_that_falls_silent_at_the_commit_may_have_migrated(empty_place, monkeypatch):
    move = migration._move

    def moved(*arguments):
        move(*arguments)
        monkeypatch.setattr(migration, "_GRACE", 0.1)  # what precedes the commit has longer

    monkeypatch.setattr(migration, "_move", moved)

    async with silent_from(b"COMMIT", empty_place.admin) as url:
        with pytest.raises(OutcomeUnknownError):
            await migrate(url, SCHEMA, tls=TlsSettings("disable"), patience=0.1)


async def test_a_role_that_may_not_migrate_is_told_whose_url_to_give(empty_place):
    with pytest.raises(ConfigurationError, match="the owner's"):
        await migrate(empty_place.application, SCHEMA)


async def test_a_migration_that_fails_leaves_the_schema_as_it_was(empty_place, connect):
    bare = await connect(empty_place.admin)
    await bare.execute(f"CREATE SCHEMA {SCHEMA}; CREATE TABLE {SCHEMA}.test_results (mine int)")

    with pytest.raises(ConfigurationError):
        await migrate(empty_place.admin, SCHEMA)

    assert await bare.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.scenarios") is None


ROW_OF_0001 = f"""
INSERT INTO {SCHEMA}.test_results VALUES (
    'r1', 'run', 'latency', '< 200 ms', '150 ms', 'passed', '2026-05-06 07:08:09.123456+00',
    NULL, 'c1', '2026-05-06 07:08:10.123456+00'
);
INSERT INTO {SCHEMA}.scenarios VALUES (
    's1', 'one', NULL, 'combined', 'draft', '{{"a": [1, 2.5]}}', '{{svc}}', '{{}}', 'me',
    '2026-05-06 07:08:09.123456+00', '2026-05-06 07:08:09.123456+00', '{{x,x}}'
);
"""


def script_of_older_library(revision):
    """The script that the library printed before its version table had a name of its own."""
    script = SCHEMA_OF_0004.read_text()
    after = script.find(f"-- Running upgrade {revision} ->")
    return script if after < 0 else f"{script[:after]}COMMIT;"


OLDER_REVISIONS = ("0001", "0002", "0003", "0004")


@pytest.mark.parametrize("revision", OLDER_REVISIONS)
async def test_given_a_schema_of_an_older_library_when_it_is_migrated_then_it_is_converted(
    empty_place, place, connect, repositories_at, revision
):
    bare = await connect(empty_place.admin)
    await bare.execute(script_of_older_library(revision))
    await bare.execute(ROW_OF_0001)

    state = await schema_state_at(empty_place.admin, SCHEMA)
    before = await migrate(empty_place.admin, SCHEMA)

    migrated = await connect(place.admin)
    assert (state.found, before.found) == (revision, revision)
    assert "run `test-coordinator-adapter migrate`" in state.problem
    assert await definitions(bare, SCHEMA) == await definitions(migrated, SCHEMA)
    assert (await schema_state_at(empty_place.admin, SCHEMA)).is_current
    health = json.loads(await bare.fetchval(f"SELECT {SCHEMA}.health_check()"))
    assert health["revision"] == REVISIONS[-1]
    assert await bare.fetchval(f"SELECT to_regclass('{SCHEMA}.alembic_version')") is None
    async with repositories_at(empty_place.admin) as held:
        assert await held.test_results.get_by_id("r1") is not None


@pytest.mark.parametrize("revision", OLDER_REVISIONS)
async def test_given_a_schema_of_an_older_library_when_the_script_is_run_then_it_is_converted(
    empty_place, place, connect, revision
):
    bare = await connect(empty_place.admin)
    await bare.execute(script_of_older_library(revision))

    await bare.execute(migration_sql(SCHEMA, start=revision))

    migrated = await connect(place.admin)
    assert (await schema_state_at(empty_place.admin, SCHEMA)).is_current
    assert await definitions(bare, SCHEMA) == await definitions(migrated, SCHEMA)


async def test_given_a_schema_of_an_older_library_when_it_goes_down_then_it_is_converted_first(
    empty_place, connect
):
    bare = await connect(empty_place.admin)
    await bare.execute(script_of_older_library("0004"))

    await migrate(empty_place.admin, SCHEMA, revision="0001")

    assert (await schema_state_at(empty_place.admin, SCHEMA)).found == "tcda_0001"


async def test_given_a_schema_of_an_older_library_the_service_is_told_to_migrate(
    empty_place, connect
):
    bare = await connect(empty_place.admin)
    await bare.execute(script_of_older_library("0004"))
    database = Database(DatabaseSettings(url=empty_place.admin, schema=SCHEMA))

    state = await schema_state(database)
    await database.aclose()

    with pytest.raises(ConfigurationError, match=r"0004.*run `test-coordinator-adapter migrate`"):
        state.require_current()


ANOTHER_APPLICATION = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.alembic_version (version_num VARCHAR(32) PRIMARY KEY);
DELETE FROM {SCHEMA}.alembic_version;
INSERT INTO {SCHEMA}.alembic_version VALUES
"""


@pytest.mark.parametrize("foreign", ["0004", "tcda_0004", "9f3a1c"])
async def test_given_another_application_in_the_schema_its_revision_is_not_taken_for_ours(
    empty_place, connect, foreign
):
    bare = await connect(empty_place.admin)
    await bare.execute(f"{ANOTHER_APPLICATION} ('{foreign}')")

    before = await migrate(empty_place.admin, SCHEMA)

    assert before.found is None
    assert (await schema_state_at(empty_place.admin, SCHEMA)).is_current
    await migrate(empty_place.admin, SCHEMA, revision="base")
    rows = await bare.fetch(f"SELECT version_num FROM {SCHEMA}.alembic_version")
    assert [row[0] for row in rows] == [foreign]


@pytest.mark.parametrize("foreign", ["('9f3a1c')", "('0004'), ('9f3a1c')"])
async def test_given_another_application_wrote_over_the_older_revision_it_is_found_all_the_same(
    empty_place, connect, foreign
):
    bare = await connect(empty_place.admin)
    await bare.execute(script_of_older_library("0004"))
    await bare.execute(ANOTHER_APPLICATION + foreign)

    before = await migrate(empty_place.admin, SCHEMA)

    assert before.found == "0004"
    assert (await schema_state_at(empty_place.admin, SCHEMA)).is_current
    left = await bare.fetch(f"SELECT version_num FROM {SCHEMA}.alembic_version")
    assert "9f3a1c" in {row[0] for row in left}


@pytest.fixture
async def working(place):
    """The waist over a database of the test's own."""
    database = Database(DatabaseSettings(url=place.application, schema=SCHEMA))
    yield database
    await database.aclose()


@pytest.mark.parametrize("revision", REVISIONS)
async def test_what_any_revision_stored_is_there_after_the_upgrade(
    empty_place, connect, repositories_at, revision
):
    await migrate(empty_place.admin, SCHEMA, revision=revision)
    bare = await connect(empty_place.admin)
    await bare.execute(ROW_OF_0001)

    await migrate(empty_place.admin, SCHEMA)

    async with repositories_at(empty_place.admin) as held:
        result = await held.test_results.get_by_id("r1")
        scenario = await held.scenarios.get_by_id("s1")
        assert result is not None
        assert scenario is not None
        assert (result.name, result.phase, result.actual_value) == (None, None, "150 ms")
        assert (scenario.configuration, scenario.tags) == ({"a": [1, 2.5]}, ["x", "x"])


async def test_a_downgrade_keeps_all_that_the_older_revision_knows(place, connect, repositories_at):
    added = {"name": "p99", "phase": "after", "duration_ms": 5, "attempts": 2}
    measured = {"measured_value": 0.5, "unit": "s"}
    result = a_test_result(**added, **measured)
    async with repositories_at(place.application) as held:
        await held.test_results.create(result)

    before = await migrate(place.owner, SCHEMA, revision="0001", role=place.application_role)

    bare = await connect(place.admin)
    row = await bare.fetchrow(f"SELECT * FROM {SCHEMA}.test_results")
    assert before.found == REVISIONS[-1]
    assert set(TestResult.model_fields) - set(row.keys()) == {*added, *measured}
    assert row["result_id"] == result.result_id


@pytest.mark.parametrize("revision", REVISIONS)
async def test_every_revision_can_be_left_downwards_and_reached_again(
    empty_place, connect, revision
):
    await migrate(empty_place.admin, SCHEMA, revision=revision)
    bare = await connect(empty_place.admin)
    there = await definitions(bare, SCHEMA)

    await migrate(empty_place.admin, SCHEMA, revision="base")
    left = await definitions(bare, SCHEMA)
    await migrate(empty_place.admin, SCHEMA, revision=revision)

    assert left == []
    assert await definitions(bare, SCHEMA) == there


async def test_the_printed_script_makes_what_a_migration_makes(
    empty_place, place, connect, postgres_server
):
    script = migration_sql(SCHEMA, role=place.application_role)

    bare = await connect(empty_place.admin)
    await bare.execute(script)

    migrated = await connect(place.admin)
    assert await definitions(bare, SCHEMA) == await definitions(migrated, SCHEMA)
    assert (await schema_state_at(empty_place.application, SCHEMA)).is_current


@pytest.mark.parametrize("revision", REVISIONS[:-1])
async def test_the_printed_script_goes_on_from_any_revision_and_back_to_it(
    empty_place, place, connect, revision
):
    await migrate(empty_place.admin, SCHEMA, revision=revision, role=place.application_role)
    bare = await connect(empty_place.admin)
    migrated = await connect(place.admin)
    there = await definitions(bare, SCHEMA)

    await bare.execute(migration_sql(SCHEMA, start=revision, role=place.application_role))
    onward = await definitions(bare, SCHEMA)
    await bare.execute(
        migration_sql(SCHEMA, start="head", revision=revision, role=place.application_role)
    )

    assert onward == await definitions(migrated, SCHEMA)
    assert await definitions(bare, SCHEMA) == there


async def test_a_current_schema_is_worked_with(working):
    state = await schema_state(working)

    state.require_current()


async def test_a_missing_schema_names_the_command_to_run(empty_place):
    database = Database(DatabaseSettings(url=empty_place.admin, schema=SCHEMA))

    state = await schema_state(database)
    await database.aclose()

    assert state.found is None
    with pytest.raises(ConfigurationError, match="run `test-coordinator-adapter migrate`"):
        state.require_current()


async def test_an_older_schema_names_the_command_to_run(place, working):
    await migrate(place.owner, SCHEMA, revision="0001", role=place.application_role)

    state = await schema_state(working)

    with pytest.raises(ConfigurationError, match=r"older.*test-coordinator-adapter migrate"):
        state.require_current()


async def test_a_newer_schema_is_said_to_be_newer_and_is_not_touched(place, working, connect):
    bare = await connect(place.admin)
    await bare.execute(f"UPDATE {SCHEMA}.test_coordinator_adapter_version SET version_num = '9999'")

    state = await schema_state(working)

    with pytest.raises(ConfigurationError, match="newer"):
        state.require_current()
    with pytest.raises(ConfigurationError, match="newer"):
        await migrate(place.owner, SCHEMA)


async def test_health_check_tells_status_revision_rows_and_time(place, connect):
    service = await connect(place.application)

    answer = json.loads(await service.fetchval(f"SELECT {SCHEMA}.health_check()"))

    assert answer.keys() == {"status", "revision", "tables", "server_time"}
    assert (answer["status"], answer["revision"]) == ("ok", REVISIONS[-1])
    assert answer["tables"] == dict.fromkeys(tables.metadata.tables, 0)


async def test_two_instances_live_side_by_side_in_one_database(place, connect):
    await migrate(place.admin, "test_coordinator_chaos1", role=place.application_role)

    bare = await connect(place.admin)
    there = await definitions(bare, "test_coordinator_chaos1")
    assert there == await definitions(bare, SCHEMA)


async def test_a_server_that_does_not_answer_is_unavailable(place):
    nobody = place.admin.rpartition("@")[0] + "@127.0.0.1:1/nothing"

    with pytest.raises(UnavailableError):
        await schema_state_at(nobody, SCHEMA)


async def test_the_command_checks_and_migrates(empty_place):
    setting = configured(empty_place)

    done = [
        await call(*arguments, **setting)
        for arguments in (
            ("migrate", "--check"),
            ("migrate",),
            ("migrate", "--check"),
            ("migrate", "--to", "0001"),
            ("migrate", "--check"),
            ("migrate", "--to", "7"),
        )
    ]

    assert [one.exit_code for one in done] == [1, 0, 0, 0, 1, 2]
    missing, _, current, _, older, _ = (one.output for one in done)
    assert "is missing: run `test-coordinator-adapter migrate`" in missing
    assert "up to date" in current
    assert "older than" in older
    assert "run `test-coordinator-adapter migrate`" in older


async def test_the_command_says_when_the_server_does_not_answer_and_keeps_the_password(place):
    secret = replace(place, admin="postgresql://me:hunter2@127.0.0.1:1/nothing")

    done = await call("migrate", "--check", **configured(secret))

    assert done.exit_code == 3
    assert "hunter2" not in done.output


async def test_the_command_takes_the_url_that_it_is_given(empty_place):
    wrong = configured(replace(empty_place, admin="postgresql://me@127.0.0.1:1/nothing"))

    done = await call("migrate", "--url", empty_place.admin, **wrong)

    assert done.exit_code == 0, done.stderr
    assert (await schema_state_at(empty_place.admin, SCHEMA)).is_current


async def test_the_command_demands_what_the_host_it_connects_to_deserves(empty_place):
    setting = configured(empty_place, TEST_COORDINATOR_ADAPTER_ENVIRONMENT="production")
    there = urlsplit(empty_place.admin)
    # This machine by a name that does not say so.
    abroad = there.netloc.replace(str(there.hostname), "0.0.0.0")  # noqa: S104 - not listened on

    near = await call("migrate", "--check", **setting)
    far = await call(
        "migrate", "--check", "--url", urlunsplit(there._replace(netloc=abroad)), **setting
    )

    assert near.exit_code == 1, near.output
    assert far.exit_code == 3, far.output


async def test_the_command_prints_the_script_instead_of_running_it(empty_place, connect):
    done = await call("migrate", "--sql", **configured(empty_place))

    bare: asyncpg.Connection = await connect(empty_place.admin)
    assert (await schema_state_at(empty_place.admin, SCHEMA)).found is None
    await bare.execute(done.stdout)
    assert (await schema_state_at(empty_place.admin, SCHEMA)).is_current
