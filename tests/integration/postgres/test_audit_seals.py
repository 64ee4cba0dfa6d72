from __future__ import annotations

import asyncio
import io
import json
import os
from dataclasses import replace

import asyncpg
import pytest
from typer.testing import CliRunner

from test_coordinator_data_adapter.adapters.postgres import seals as sealing
from test_coordinator_data_adapter.adapters.postgres.database import Database
from test_coordinator_data_adapter.adapters.postgres.roles import role_statements
from test_coordinator_data_adapter.adapters.postgres.seals import _SEALED, _SEALED_IF_SET, Seals
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.cli import app
from test_coordinator_data_adapter.cli import audit as commands
from test_coordinator_data_adapter.errors import DataIntegrityError
from test_coordinator_data_adapter.models.values import MAX_MOMENT
from test_coordinator_data_adapter.testing.builders import a_test_result, a_test_run

SCHEMA = "test_coordinator"
TRAIL = f"{SCHEMA}.audit_records"
WAITING = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
FORGERY = f"INSERT INTO {TRAIL} (record_id, actor, operation, kind) OVERRIDING SYSTEM VALUE VALUES"


@pytest.fixture
async def held(place, repositories_at):
    """The repositories, with eight mutations in the trail."""
    async with repositories_at(place.application) as held:
        for _ in range(3):
            run = await held.test_runs.create(a_test_run())
            await held.test_runs.start_run(run.run_id)
        await held.test_results.bulk_create([a_test_result(), a_test_result()])
        await held.test_results.prune(MAX_MOMENT)
        yield held


@pytest.fixture
async def seals(place):
    database = Database(DatabaseSettings(url=place.owner, schema=SCHEMA, lock_timeout=20.0))
    yield Seals(database)
    await database.aclose()


@pytest.fixture
def _few_at_once(monkeypatch):
    """Three records make a seal, and two are read at once."""
    monkeypatch.setattr(sealing, "_IN_A_SEAL", 3)
    monkeypatch.setattr(sealing, "_AT_ONCE", 2)


async def somebody_waits(watcher, number=1):
    async with asyncio.timeout(60):
        while await watcher.fetchval(WAITING) < number:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.01)


@pytest.fixture
async def superuser(place, connect):
    return await connect(place.admin)


async def test_a_trail_nobody_touched_verifies(held, seals):
    first = await seals.seal()
    await held.test_runs.create(a_test_run())
    second = await seals.seal()
    await held.test_runs.create(a_test_run())

    verdict = await seals.verify(anchor=first.digest)

    assert (first.records, second.records) == (8, 1)
    assert (verdict.problem, verdict.seals, verdict.records) == (None, 2, 9)
    assert verdict.unsealed == 1
    assert verdict.digest == second.digest != first.digest


async def test_sealing_again_adds_nothing_when_nothing_happened(held, seals):
    sealed = await seals.seal()

    again = await seals.seal()

    assert (again.seals, again.records, again.digest) == (0, 0, sealed.digest)


async def test_an_empty_trail_has_no_seal_and_nothing_differs(place, seals):
    assert (await seals.seal()).digest is None
    assert (await seals.verify()).problem is None


@pytest.mark.parametrize(
    ("tampering", "problem"),
    [
        (f"UPDATE {TRAIL} SET actor = 'nobody' WHERE record_id IN (3, 5)", "record 3 was changed"),
        (f"UPDATE {TRAIL} SET after = after || '{{\"a\": 1}}' WHERE record_id = 4", "record 4 was"),
        (f"DELETE FROM {TRAIL} WHERE record_id IN (2, 8)", "record 2 was removed"),
        (f"DELETE FROM {TRAIL} WHERE record_id = 8", "record 8 was removed"),
        (f"DELETE FROM {TRAIL}", "record 1 was removed"),
        (
            f"{FORGERY} (0, 'me', 'create', 'scenario'), (-1, 'me', 'create', 'scenario')",
            "record -1 was inserted",
        ),
        (
            f"UPDATE {TRAIL} SET transaction_id = '7' WHERE record_id = 7",
            "record 7 was changed",
        ),
    ],
)
async def test_what_a_superuser_did_to_a_sealed_record_is_named(
    held, seals, superuser, tampering, problem
):
    await seals.seal()

    await superuser.execute(tampering)

    verdict = await seals.verify()
    assert verdict.problem is not None
    assert verdict.problem.startswith(problem)


async def test_a_record_inserted_between_two_others_is_named(held, seals, superuser):
    await superuser.execute(f"DELETE FROM {TRAIL} WHERE record_id = 5")
    await seals.seal()

    await superuser.execute(f"{FORGERY} (5, 'me', 'create', 'scenario')")

    assert (await seals.verify()).problem == "record 5 was inserted"


async def test_a_column_that_records_are_given_later_breaks_no_seal(held, seals, superuser):
    await seals.seal()
    await superuser.execute(f"ALTER TABLE {TRAIL} ADD COLUMN later text DEFAULT 'x'")

    assert (await seals.verify()).problem is None
    await superuser.execute(f"UPDATE {TRAIL} SET run_ids = '{{x}}' WHERE record_id = 3")
    assert (await seals.verify()).problem == "record 3 was changed"


async def test_a_seal_covers_every_column_there_is(place, superuser):
    columns = await superuser.fetchval(
        "SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute"
        f" WHERE attrelid = '{TRAIL}'::regclass AND attnum > 0"
    )

    assert [*_SEALED.split(", "), *_SEALED_IF_SET.split(", ")] == columns


async def test_seals_that_were_changed_removed_or_made_anew_are_noticed(held, seals, superuser):
    kept = (await seals.seal()).digest
    await held.test_runs.create(a_test_run())
    await seals.seal()

    await superuser.execute(f"UPDATE {SCHEMA}.audit_seals SET record_ids[1] = 2 WHERE seal_id = 1")
    changed = await seals.verify()
    await superuser.execute(f"DELETE FROM {SCHEMA}.audit_seals WHERE seal_id = 1")
    removed = await seals.verify()
    await superuser.execute(f"DELETE FROM {SCHEMA}.audit_seals")
    await superuser.execute(f"UPDATE {TRAIL} SET actor = 'nobody' WHERE record_id = 1")
    await seals.seal()
    exchanged = await seals.verify()
    against_the_anchor = await seals.verify(anchor=kept)

    assert changed.problem == "seal 1 was changed"
    assert removed.problem == "seal 1 was removed"
    assert exchanged.problem is None
    assert against_the_anchor.problem is not None


async def test_what_the_auditor_deleted_long_ago_can_be_left_out(held, seals, superuser):
    await seals.seal()
    await held.test_runs.create(a_test_run())
    await seals.seal()

    await superuser.execute(f"DELETE FROM {TRAIL} WHERE record_id <= 8")

    assert (await seals.verify()).problem == "record 1 was removed"
    assert (await seals.verify(first=2)).problem is None


async def test_a_record_that_is_slipped_in_where_others_were_pruned_is_named(
    held, seals, superuser
):
    await seals.seal()
    await held.test_runs.create(a_test_run())
    kept = (await seals.seal()).digest
    await superuser.execute(f"CREATE TABLE spare AS SELECT * FROM {TRAIL} WHERE record_id = 5")
    await superuser.execute(f"DELETE FROM {TRAIL} WHERE record_id <= 8")
    restored = f"INSERT INTO {TRAIL} OVERRIDING SYSTEM VALUE TABLE spare"

    await superuser.execute(restored)
    as_it_was = await seals.verify(first=2, anchor=kept)
    await superuser.execute(f"UPDATE {TRAIL} SET actor = 'nobody' WHERE record_id = 5")
    forged = await seals.verify(first=2, anchor=kept)
    await superuser.execute(f"DELETE FROM {TRAIL} WHERE record_id = 5")
    await superuser.execute("UPDATE spare SET record_id = -5")
    await superuser.execute(restored)
    made_up = await seals.verify(first=2, anchor=kept)

    assert as_it_was.problem is None
    assert forged.problem == "record 5 was changed"
    assert made_up.problem == "record -5 was inserted"


@pytest.mark.parametrize(
    "change",
    [
        "record_digests = ''",
        "record_ids[1] = 2",
        "sealed_at = sealed_at - interval '1 microsecond'",
        "sealed_at = 'infinity'",
    ],
)
async def test_a_digest_older_than_what_is_left_is_still_an_anchor(held, seals, superuser, change):
    kept = (await seals.seal()).digest
    await held.test_runs.create(a_test_run())
    await seals.seal()
    await superuser.execute(f"DELETE FROM {TRAIL} WHERE record_id <= 8")

    untouched = await seals.verify(anchor=kept, first=2)
    await superuser.execute(f"UPDATE {SCHEMA}.audit_seals SET {change} WHERE seal_id = 1")
    changed = await seals.verify(anchor=kept, first=2)

    assert untouched.problem is None
    assert changed.problem == "seal 1 was changed"


async def test_seals_that_are_missing_where_it_is_to_begin_are_noticed(held, seals):
    await seals.seal()

    assert (await seals.verify(first=2)).problem is None
    assert (await seals.verify(first=3)).problem == "seal 2 was removed"


async def test_a_seal_that_was_emptied_is_named_and_nothing_is_sealed_behind_it(
    held, seals, superuser
):
    await seals.seal()
    await superuser.execute(f"UPDATE {SCHEMA}.audit_seals SET record_ids = '{{}}'")

    assert (await seals.verify()).problem == "seal 1 was changed"
    with pytest.raises(DataIntegrityError, match="seal 1"):
        await seals.seal()


async def test_a_record_that_is_not_committed_yet_belongs_to_the_next_seal(
    held, seals, place, connect
):
    writer = await connect(place.application)
    transaction = writer.transaction()
    await transaction.start()
    await writer.execute(f"UPDATE {SCHEMA}.test_runs SET exit_code = 1")
    seal = asyncio.create_task(seals.seal())
    watcher = await connect(place.admin)
    await somebody_waits(watcher)
    await transaction.commit()

    sealed = await seal

    assert sealed.records == 11
    assert (await seals.verify()).problem is None


async def test_two_that_seal_at_once_take_turns(held, seals, superuser, place, connect):
    watcher = await connect(place.admin)
    async with superuser.transaction():
        await superuser.execute(f"LOCK TABLE {SCHEMA}.audit_seals IN SHARE MODE")
        both = [asyncio.create_task(seals.seal()) for _ in range(2)]
        await somebody_waits(watcher, len(both))

    verdicts = await asyncio.gather(*both)

    assert sorted((verdict.seals, verdict.records) for verdict in verdicts) == [(0, 0), (1, 8)]
    assert len({verdict.digest for verdict in verdicts}) == 1
    assert (await seals.verify()).problem is None


async def test_a_turn_to_seal_is_waited_for_longer_than_a_lock(held, place, superuser, connect):
    watcher = await connect(place.admin)
    settings = DatabaseSettings(url=place.owner, schema=SCHEMA, lock_timeout=0.1)
    impatient = Database(settings)
    async with superuser.transaction():
        await superuser.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            f"test-coordinator-data-adapter/{SCHEMA}/seals",
        )
        sealing = asyncio.create_task(Seals(impatient).seal())
        await somebody_waits(watcher)
        await asyncio.sleep(0.3)

    assert (await sealing).records == 8
    await impatient.aclose()


async def test_what_is_deleted_while_it_is_verified_is_no_difference(
    held, seals, superuser, place, connect
):
    await seals.seal()
    watcher = await connect(place.admin)
    async with superuser.transaction():
        await superuser.execute(f"LOCK TABLE {TRAIL} IN ACCESS EXCLUSIVE MODE")
        verifying = asyncio.create_task(seals.verify())
        await somebody_waits(watcher)
        await superuser.execute(f"DELETE FROM {TRAIL}")

    verdict = await verifying

    assert (verdict.problem, verdict.seals, verdict.records) == (None, 1, 8)


@pytest.mark.usefixtures("_few_at_once")
async def test_more_records_than_a_seal_covers_make_several_that_follow_each_other(
    held, seals, superuser
):
    first = await seals.seal()
    await held.test_runs.create(a_test_run())
    second = await seals.seal()

    rows = await superuser.fetch(f"SELECT * FROM {SCHEMA}.audit_seals ORDER BY seal_id")
    verdict = await seals.verify(anchor=first.digest)

    assert [(row["seal_id"], row["record_ids"]) for row in rows] == [
        (1, [1, 2, 3]),
        (2, [4, 5, 6]),
        (3, [7, 8]),
        (4, [9]),
    ]
    assert (first.seals, first.records, second.seals, second.records) == (3, 8, 1, 1)
    assert (verdict.problem, verdict.seals, verdict.records) == (None, 4, 9)
    assert verdict.digest == second.digest


@pytest.mark.usefixtures("_few_at_once")
async def test_a_record_far_behind_the_first_of_its_seal_is_compared_too(held, seals, superuser):
    await seals.seal()

    await superuser.execute(f"UPDATE {TRAIL} SET actor = 'nobody' WHERE record_id = 6")

    assert (await seals.verify()).problem == "record 6 was changed"


@pytest.mark.usefixtures("_few_at_once")
async def test_old_records_go_to_the_last_of_them_however_many_there_are(held, seals, superuser):
    await seals.seal()

    pruned = await seals.prune(MAX_MOMENT)

    assert (pruned.records, pruned.first_seal) == (8, 4)
    assert await superuser.fetchval(f"SELECT count(*) FROM {TRAIL}") == 0


async def test_the_service_can_neither_make_nor_change_seals(held, place, connect):
    service = await connect(place.application)

    for statement in (
        f"INSERT INTO {SCHEMA}.audit_seals (seal_id) VALUES (1)",
        f"DELETE FROM {SCHEMA}.audit_seals",
        f"UPDATE {SCHEMA}.audit_seals SET digest = ''",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await service.execute(statement)


async def call(place, *arguments, days=None):
    """Calls the command line in this process, as the service of that database."""
    others = {name: None for name in os.environ if name.startswith("TEST_COORDINATOR_ADAPTER_")}
    settings = {
        "TEST_COORDINATOR_ADAPTER_POSTGRES_URL": place.application,
        "TEST_COORDINATOR_ADAPTER_MIGRATION_URL": place.auditor,
        "TEST_COORDINATOR_ADAPTER_REDIS_URL": "redis://127.0.0.1:1",
        "TEST_COORDINATOR_ADAPTER_AUDIT_RETENTION_DAYS": days,
        "COLUMNS": "200",
    }
    return await asyncio.to_thread(CliRunner().invoke, app, arguments, env=others | settings)


@pytest.fixture
async def _an_auditor(place, superuser):
    for statement in role_statements(
        database=place.admin.rpartition("/")[2],
        schema=SCHEMA,
        owner=place.owner_role,
        role=place.application_role,
        auditor=place.auditor_role,
    ):
        await superuser.execute(statement)


@pytest.mark.usefixtures("_an_auditor")
async def test_the_auditor_exports_the_trail_by_the_url_it_seals_with(held, place):
    nobody = replace(place, admin="postgresql://me:hunter2@127.0.0.1:1/none")

    exported = await call(nobody, "audit", "export", "--url", place.auditor)
    unreachable = await call(place, "audit", "export", "--url", nobody.admin)

    lines = [json.loads(line) for line in exported.stdout.splitlines()]
    assert exported.exit_code == 0, exported.output
    assert [line["record_id"] for line in lines] == list(range(1, 9))
    assert (unreachable.exit_code, unreachable.stdout) == (3, "")
    assert "hunter2" not in unreachable.output


@pytest.mark.usefixtures("_an_auditor")
async def test_the_auditor_reads_a_history_by_the_url_it_seals_with(held, place):
    nobody = replace(place, admin="postgresql://me:hunter2@127.0.0.1:1/none")
    result = (await held.test_results.bulk_create([a_test_result(), a_test_result()]))[0]

    history = ["audit", "history", "test_result", result.result_id, "--json"]
    read = await call(nobody, *history, "--url", place.auditor)
    unreachable = await call(place, *history, "--url", nobody.admin)

    assert read.exit_code == 0, read.output
    assert json.loads(read.stdout)["operation"] == "bulk_create"
    assert unreachable.exit_code == 3
    assert json.loads(unreachable.stdout)["error"]["exit_code"] == 3
    assert "hunter2" not in unreachable.output


@pytest.mark.usefixtures("_an_auditor")
async def test_the_commands_seal_and_verify_as_the_auditor(held, place, superuser):
    sealed = await call(place, "audit", "seal")
    digest = sealed.stdout.strip()
    good = await call(place, "audit", "verify", "--anchor", digest)
    await superuser.execute(f"UPDATE {TRAIL} SET reason = 'x' WHERE record_id = 2")
    bad = await call(place, "audit", "verify", "--anchor", digest)

    assert (sealed.exit_code, len(digest)) == (0, 64), sealed.output
    assert (good.exit_code, good.stdout) == (0, "nothing differs\n")
    assert (bad.exit_code, bad.stdout) == (1, "record 2 was changed\n")


async def test_json_tells_programs_what_the_commands_tell_people(held, place, superuser):
    async def told(code, *arguments, days=None):
        done = await call(place, "audit", *arguments, "--json", "--url", place.owner, days=days)
        assert (done.exit_code, done.stderr) == (code, ""), done.output
        return json.loads(done.stdout)

    nothing = await told(0, "verify")
    sealed = await told(0, "seal")
    digest = sealed["digest"]
    await held.test_runs.create(a_test_run())
    good = await told(0, "verify", "--anchor", digest)
    kept, pruned = await told(0, "prune"), await told(0, "prune", days="30")
    await superuser.execute(f"UPDATE {TRAIL} SET reason = 'x' WHERE record_id = 2")
    bad = await told(1, "verify")

    counted = {"seals": 1, "records": 8}
    assert nothing == {"problem": None, "seals": 0, "records": 0, "unsealed": 8, "digest": None}
    assert sealed == {**counted, "digest": digest}
    assert good == {**counted, "problem": None, "unsealed": 1, "digest": digest}
    assert bad == {**good, "problem": "record 2 was changed"}
    assert kept == {"records": 0, "first_seal": None}
    assert pruned == {"records": 0, "first_seal": 1}


async def test_a_digest_is_an_anchor_however_it_was_written_down(held, place, seals):
    kept = (await seals.seal()).digest
    await held.test_runs.create(a_test_run())
    await seals.seal()
    verify = ["audit", "verify", "--url", place.owner, "--anchor"]

    good = await call(place, *verify, f" {kept.upper()}\n")
    another = await call(place, *verify, f"{'0' * 64}")

    assert (good.exit_code, good.stdout) == (0, "nothing differs\n"), good.output
    assert another.exit_code == 1


async def test_the_command_verifies_from_the_seal_it_is_told(held, place, seals, superuser):
    await seals.seal()
    await held.test_runs.create(a_test_run())
    await seals.seal()
    await superuser.execute(f"DELETE FROM {TRAIL} WHERE record_id <= 8")

    all_of_it = await call(place, "audit", "verify", "--url", place.owner)
    rest = await call(place, "audit", "verify", "--url", place.owner, "--from", "2")

    assert (all_of_it.exit_code, all_of_it.stdout) == (1, "record 1 was removed\n")
    assert (rest.exit_code, rest.stdout) == (0, "nothing differs\n")
    assert "Seals: 1. Records: 1. Not sealed: 0." in rest.stderr


async def test_a_role_that_may_not_seal_is_told_whose_url_to_give(held, place):
    refused = await call(place, "audit", "seal", "--url", place.application)

    assert refused.exit_code == 3
    assert "give the owner's or the auditor's" in refused.stderr
    assert "--url" in refused.stderr


async def test_the_commands_show_a_history_and_export_the_trail(held, place, superuser):
    run_id = await superuser.fetchval(f"SELECT entity_id FROM {TRAIL} WHERE record_id = 1")
    middle = await superuser.fetchval(f"SELECT recorded_at FROM {TRAIL} WHERE record_id = 5")

    shown = await call(place, "audit", "history", "test_run", run_id)
    listed = await call(place, "audit", "history", "test_run", run_id, "--json")
    everything = await call(place, "audit", "export")
    later = await call(place, "audit", "export", "--since", middle.isoformat())
    unclear = await call(place, "audit", "export", "--since", "2026-05-06T07:08:09")

    drawn = shown.stdout.splitlines()
    created, started = (line for line in drawn if place.application_role in line)
    assert created.split()[-2:] == ["create", place.application_role]
    assert "status_change" in started
    assert started.endswith(" started_at, status, updated_at")
    assert [json.loads(line)["record_id"] for line in listed.stdout.splitlines()] == [1, 2]
    lines = [json.loads(line) for line in everything.stdout.splitlines()]
    assert [line["record_id"] for line in lines] == list(range(1, 9))
    assert [json.loads(line)["record_id"] for line in later.stdout.splitlines()] == [5, 6, 7, 8]
    assert unclear.exit_code == 2


async def test_the_trail_is_printed_as_it_comes_and_never_held_as_a_whole(held, place, monkeypatch):
    monkeypatch.setattr(commands, "_AT_ONCE", 2)
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_POSTGRES_URL", place.application)
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_REDIS_URL", "redis://127.0.0.1:1")
    loop = asyncio.get_running_loop()

    class Screen(io.StringIO):
        def write(self, text):
            if not self.getvalue():
                late = held.test_runs.create(a_test_run())
                asyncio.run_coroutine_threadsafe(late, loop).result(60)
            return super().write(text)

    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    await asyncio.to_thread(app, ["audit", "export"], standalone_mode=False)

    printed = [json.loads(line)["record_id"] for line in screen.getvalue().splitlines()]
    assert printed == list(range(1, 10))


async def test_whole_seals_of_old_records_go_and_the_rest_still_verifies(held, seals, superuser):
    await seals.seal()
    await held.test_runs.create(a_test_run())
    second = await seals.seal()
    await held.test_runs.create(a_test_run())
    between = await superuser.fetchval(
        f"SELECT recorded_at FROM {TRAIL} ORDER BY record_id DESC OFFSET 1 LIMIT 1"
    )

    pruned = await seals.prune(between)
    left = await superuser.fetchval(f"SELECT count(*) FROM {TRAIL}")
    verdict = await seals.verify(anchor=second.digest, first=pruned.first_seal)

    assert (pruned.records, pruned.first_seal, left) == (8, 2, 2)
    assert (verdict.problem, verdict.records, verdict.unsealed) == (None, 1, 1)


async def test_records_that_are_not_sealed_stay_whatever_their_age(held, seals, superuser):
    nothing = await seals.prune(MAX_MOMENT)

    assert nothing.records == 0
    assert await superuser.fetchval(f"SELECT count(*) FROM {TRAIL}") == 8


async def test_a_seal_with_one_young_record_stays(held, seals, superuser):
    await seals.seal()
    youngest = await superuser.fetchval(f"SELECT max(recorded_at) FROM {TRAIL}")

    assert (await seals.prune(youngest)).records == 0


async def test_the_command_prunes_by_its_setting(held, place, seals, superuser):
    await superuser.execute(f"UPDATE {TRAIL} SET recorded_at = recorded_at - interval '31 days'")
    await seals.seal()
    await held.test_runs.create(a_test_run())
    await superuser.execute(
        f"UPDATE {TRAIL} SET recorded_at = recorded_at - interval '29 days' WHERE record_id = 9"
    )
    await seals.seal()
    arguments = ["audit", "prune", "--url", place.owner]

    kept = await call(place, *arguments)
    pruned = await call(place, *arguments, days="30")
    again = await call(place, *arguments, days="30")

    assert (kept.exit_code, pruned.exit_code, again.exit_code) == (0, 0, 0)
    assert "everything is kept" in kept.output
    assert "Records deleted: 8. Verify with --from 2." in pruned.output
    assert "Records deleted: 0. Verify with --from 2." in again.output
    assert await superuser.fetchval(f"SELECT min(record_id) FROM {TRAIL}") == 9
