"""The verbs, on a server that behaves."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import column, insert, select, table, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.engine import make_url

from test_coordinator_data_adapter.adapters.postgres.database import Statement
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    DataIntegrityError,
    DuplicateError,
    InvalidValueError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)
from test_coordinator_data_adapter.resilience.backoff import Backoff
from test_coordinator_data_adapter.resilience.observation import Hooks, PoolUse

SELECT_ONE = Statement("SELECT 1 AS one", None, writes=False)
PID = Statement("SELECT pg_backend_pid() AS pid", None, writes=False)
INSERT = Statement(
    "INSERT INTO waist.things (id, number, document) VALUES ($1, $2, $3) RETURNING *",
    "test_run",
    writes=True,
)
COUNT = Statement("SELECT count(*) AS n FROM waist.things", "test_run", writes=False)
SLEEP = Statement("SELECT pg_sleep($1)", "test_run", writes=False)
FAIL = Statement("SELECT waist.fail($1, $2) AS call", "test_run", writes=True)
BACKENDS = Statement(
    "SELECT state, query FROM pg_stat_activity WHERE application_name = $1", None, writes=False
)


async def count(database) -> int:
    row = await database.fetch_one(COUNT)
    return row["n"]


async def backends(administrator, database) -> list[tuple[str, str]]:
    rows = await administrator.fetch(BACKENDS, database._settings.application_name)
    return [(row["state"], row["query"]) for row in rows]


async def eventually(question, expected):
    """The last answer to a question that is asked until it is the expected one."""
    async with asyncio.timeout(60):
        while (answer := await question()) != expected:  # noqa: ASYNC110 - no event tells
            await asyncio.sleep(0.02)
    return answer


# What goes in and comes out


async def test_rows_come_back_all_or_the_first_or_none(database, reading):
    numbers = reading("SELECT n FROM generate_series(1, $1) n")

    rows = await database.fetch(numbers, 3)
    first = await database.fetch_one(numbers, 3)
    none = await database.fetch_one(numbers, 0)

    assert [row["n"] for row in rows] == [1, 2, 3]
    assert first["n"] == 1
    assert none is None


async def test_execute_tells_how_many_rows_it_touched(database, writing):
    for number in range(3):
        await database.execute(INSERT, f"id-{number}", number, None)

    touched = await database.execute(
        writing("UPDATE waist.things SET number = 9 WHERE number >= $1"), 1
    )

    assert touched == 2


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        {"a": [1, None, True, 1.5, "é", {"b": {}}]},
        {"": ""},
        {"n": 2**63 - 1},
        {"n": -(2**63)},
    ],
)
async def test_a_document_comes_back_as_it_went_in(database, document):
    row = await database.fetch_one(INSERT, "id", 1, document)

    assert row["document"] == document


async def test_bytes_for_a_document_are_json_as_they_are(database):
    row = await database.fetch_one(INSERT, "id", 1, b'{"a": [1]}')

    assert row["document"] == {"a": [1]}


async def test_moments_come_back_aware_and_in_utc(database, reading):
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, timezone(timedelta(hours=5)))

    row = await database.fetch_one(reading("SELECT $1::timestamptz AS moment"), moment)

    assert row["moment"] == moment
    assert row["moment"].tzinfo is UTC


async def test_what_cannot_be_read_costs_no_other_connection(make_database, url, reading):
    database = make_database(url)
    busy = reading("SELECT pg_backend_pid() AS pid, pg_sleep(0.1)")

    async def connections():
        rows = await asyncio.gather(*(database.fetch_one(busy) for _ in range(3)))
        return {row["pid"] for row in rows}

    before = await connections()
    with pytest.raises(DataIntegrityError):
        await database.fetch(reading("SELECT timestamptz 'infinity'"))
    after = await connections()

    assert len(before) == 3
    assert len(before & after) == 2


MOMENTS = [
    datetime(1970, 1, 1, tzinfo=UTC),
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    *(datetime(2026, 1, 2, 3, 4, 5, 10**digits, tzinfo=UTC) for digits in range(6)),
    datetime(2026, 1, 2, 3, 4, 5, 999_999, tzinfo=timezone(-timedelta(hours=9, minutes=30))),
    datetime(9999, 12, 31, tzinfo=UTC),
]


async def test_moments_go_one_by_one_and_many_at_once(database, reading):
    (row,) = await database.fetch(
        reading("SELECT $1::timestamptz[] AS moments, $2::timestamptz AS first"),
        MOMENTS,
        MOMENTS[0],
    )

    assert row["moments"] == MOMENTS
    assert row["first"] == MOMENTS[0]


async def test_a_moment_without_a_time_zone_is_refused_and_not_guessed(database, reading):
    naive = datetime(2026, 1, 2)  # noqa: DTZ001 - what is refused

    with pytest.raises(InvalidValueError):
        await database.fetch(reading("SELECT $1::timestamptz"), naive)


@pytest.mark.parametrize("moment", ["20000-01-01", "4000-01-01 BC", "infinity", "-infinity"])
async def test_a_moment_that_cannot_be_read_is_a_matter_of_integrity(database, reading, moment):
    beyond = reading(f"SELECT timestamptz '{moment}'")

    with pytest.raises(DataIntegrityError):
        await database.fetch(beyond)
    with pytest.raises(DataIntegrityError):
        async with database.transaction() as transaction:
            await transaction.fetch(beyond)

    assert (await database.fetch_one(SELECT_ONE))["one"] == 1


async def test_a_write_whose_reply_cannot_be_read_may_have_been_applied(database, writing):
    insert = writing(
        "INSERT INTO waist.things (id, moment) VALUES ('written', 'infinity') RETURNING moment"
    )

    with pytest.raises(OutcomeUnknownError):
        await database.fetch(insert)

    assert await count(database) == 1


async def test_every_session_is_set_up(make_database, url, reading):
    database = make_database(
        url,
        application_name="set-up",
        query_timeout=8.0,
        lock_timeout=1.5,
        idle_in_transaction_timeout=7.0,
    )
    names = (
        "application_name timezone statement_timeout lock_timeout"
        " idle_in_transaction_session_timeout search_path client_connection_check_interval"
    )

    row = await database.fetch_one(
        reading("SELECT " + ", ".join(f"current_setting('{name}')" for name in names.split()))
    )

    assert list(row) == ["set-up", "UTC", "7500ms", "1500ms", "7s", '"waist"', "1s"]


async def test_the_name_in_the_url_wins(make_database, url, reading):
    database = make_database(f"{url}?application_name=from-the-url")

    row = await database.fetch_one(reading("SELECT current_setting('application_name')"))

    assert row[0] == "from-the-url"


async def test_the_server_tells_what_it_is(database):
    facts = await database.ping()

    assert int(facts.version.split(".")[0]) >= 15
    assert (facts.in_recovery, facts.read_only, facts.tls) == (False, False, None)
    assert database.schema == "waist"
    assert database.tls_mode == "prefer"


async def test_an_error_is_an_answer_and_being_cut_off_is_none(database):
    moments = [database.answered_at, time.monotonic()]
    await database.fetch(SELECT_ONE)
    moments += [database.answered_at, time.monotonic()]
    with pytest.raises(InvalidValueError):
        await database.fetch_one(FAIL, "23514", 1)
    moments += [database.answered_at, time.monotonic()]
    call = asyncio.create_task(database.fetch(SLEEP, 60))
    await asyncio.sleep(0.05)
    call.cancel()
    await asyncio.wait([call])

    assert moments == sorted(moments)
    assert database.answered_at <= moments[-1]


# What is refused


async def test_a_second_one_with_the_same_id_is_a_duplicate(database):
    await database.fetch_one(INSERT, "id", 1, None)

    with pytest.raises(DuplicateError) as refused:
        await database.fetch_one(INSERT, "id", 2, None)

    assert refused.value.entity == "test_run"
    assert refused.value.constraint == "things_pkey"
    assert refused.value.__suppress_context__


@pytest.mark.parametrize(
    "values",
    [("id", -1, None), ("id\0", 1, None), ("id", 2**70, None), ("id", 1, b"no json"), (1, 1, None)],
)
async def test_a_value_that_breaks_a_rule_is_refused_and_the_connection_lives_on(database, values):
    pid = (await database.fetch_one(PID))["pid"]

    with pytest.raises(InvalidValueError):
        await database.fetch_one(INSERT, *values)

    assert (await database.fetch_one(PID))["pid"] == pid


@pytest.mark.parametrize(
    "sql", ["SELECT * FROM nowhere", "SELECT nothing FROM waist.things", "SELECT nowhere.f()"]
)
async def test_another_schema_than_expected_is_a_matter_of_configuration(database, reading, sql):
    with pytest.raises(ConfigurationError, match="migrate"):
        await database.fetch(reading(sql))


@pytest.mark.parametrize(
    "change",
    [
        lambda url: url.rpartition("/")[0] + "/tca_nowhere",
        lambda url: url.replace("://", "://nobody-here_", 1),
    ],
)
async def test_a_database_or_role_that_does_not_exist_is_a_matter_of_configuration(
    make_database, url, change
):
    database = make_database(change(url))

    with pytest.raises(ConfigurationError) as refused:
        await database.ping()

    password = url.partition("@")[0].rpartition(":")[2]
    assert password not in str(refused.value)


async def test_another_event_loop_is_refused(database):
    await database.fetch_one(SELECT_ONE)

    def elsewhere() -> None:
        asyncio.run(database.fetch_one(SELECT_ONE))

    with pytest.raises(ConfigurationError, match="event loop"):
        await asyncio.to_thread(elsewhere)


# Trying again


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03"])
async def test_what_others_caused_is_tried_again(make_database, url, sqlstate):
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)

    database = make_database(
        url,
        hooks={"random": lambda: 0.5, "sleep": sleep, "backoff": Backoff(5, base=0.1, cap=0.3)},
    )

    row = await database.fetch_one(FAIL, sqlstate, 4)

    assert row["call"] == 5
    assert pauses == pytest.approx([0.05, 0.1, 0.15, 0.15])


async def test_trying_again_has_an_end(make_database, url):
    database = make_database(url, hooks={"backoff": Backoff(3, base=0.0)})

    with pytest.raises(OverloadedError) as overloaded:
        await database.fetch_one(FAIL, "40001", 100)

    assert overloaded.value.sqlstate == "40001"
    assert (await database.fetch_one(FAIL, "40001", 0))["call"] == 4


async def test_no_pause_outlasts_the_deadline(make_database, url):
    pauses = []

    async def sleep(seconds):
        pauses.append(seconds)

    database = make_database(
        url,
        query_timeout=59.0,
        hooks={"random": lambda: 1.0, "sleep": sleep, "backoff": Backoff(9, base=60, cap=60)},
    )

    with pytest.raises(OverloadedError):
        await database.fetch_one(FAIL, "40001", 100)

    assert pauses == []


async def test_a_statement_that_took_too_long_is_tried_once_more(database):
    assert (await database.fetch_one(FAIL, "57014", 1))["call"] == 2


async def test_and_only_once(database):
    with pytest.raises(OverloadedError):
        await database.fetch_one(FAIL, "57014", 2)

    assert (await database.fetch_one(FAIL, "57014", 0))["call"] == 3


async def test_the_servers_own_deadline_comes_first_and_is_definite(make_database, url, writing):
    database = make_database(url, query_timeout=60.0, statement_timeout=0.1)

    with pytest.raises(OverloadedError) as overloaded:
        await database.fetch(writing("SELECT pg_sleep(600)"))

    assert overloaded.value.sqlstate == "57014"
    assert overloaded.value.outcome == "not_applied"


async def test_a_lock_that_is_held_is_waited_for_within_the_deadline(make_database, url, writing):
    database = make_database(url, lock_timeout=0.1, hooks={"backoff": Backoff(3, base=0.01)})

    async with database.transaction() as holder:
        await holder.execute(writing("LOCK TABLE waist.things"))
        with pytest.raises(OverloadedError) as overloaded:
            await database.execute(INSERT, "id", 1, None)

    assert overloaded.value.sqlstate == "55P03"


async def test_a_lock_is_not_waited_for_again_when_time_is_too_short_for_it(
    make_database, url, writing
):
    database = make_database(url, lock_timeout=1.2, query_timeout=2.2)
    await database.fetch(SELECT_ONE)
    (pid,) = await database.fetch(PID)

    async with make_database(url).transaction() as holder:
        await holder.execute(writing("LOCK TABLE waist.things"))
        with pytest.raises(OverloadedError) as overloaded:
            await database.execute(INSERT, "id", 1, None)

    assert overloaded.value.sqlstate == "55P03"
    assert await database.fetch(PID) == [pid]


async def test_callers_at_once_wait_for_a_connection_as_long_as_they_may(make_database, url):
    database = make_database(
        url, pool_size=1, max_overflow=1, connect_timeout=0.6, pool_timeout=60.0
    )

    answers = await asyncio.gather(*(database.fetch(SLEEP, 0.4) for _ in range(6)))

    assert len(answers) == 6
    assert database.pool_use().open <= 2


async def test_one_call_waits_for_connections_no_longer_than_it_may_however_often_it_is_tried(
    make_database, url
):
    """Not anew before each repeat."""
    database = make_database(url, pool_size=1, max_overflow=0, pool_timeout=1.7)

    async def pause(_: float) -> None:
        others.append(asyncio.create_task(database.fetch(SLEEP, 1.2)))
        await asyncio.sleep(0)

    database._sleep = pause
    others = [asyncio.create_task(database.fetch(SLEEP, 1.2))]
    while not database.pool_use().open:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0)

    with pytest.raises(OverloadedError) as overloaded:
        await database.fetch_one(FAIL, "40001", 1)
    await asyncio.gather(*others)

    assert overloaded.value.sqlstate is None
    assert len(others) == 2


@pytest.mark.parametrize("forgetting", ["DEALLOCATE ALL", "DISCARD ALL"])
async def test_a_session_that_forgot_its_statements_costs_no_call(
    make_database, url, writing, forgetting
):
    database = make_database(url, pool_size=1, max_overflow=0)
    await database.fetch_one(INSERT, "first", 1, None)
    assert await count(database) == 1

    await database.execute(writing(forgetting))
    await database.fetch_one(INSERT, "second", 1, None)

    assert await count(database) == 2


async def test_a_write_that_a_standby_refused_is_sent_again_on_a_new_connection(
    make_database, url, writing
):
    database = make_database(url, pool_size=1, max_overflow=0)
    await database.execute(writing("SET default_transaction_read_only = on"))

    await database.fetch_one(INSERT, "first", 1, None)

    assert await count(database) == 1


async def test_one_write_that_a_standby_refused_replaces_all_connections(
    make_database, url, reading, writing
):
    database = make_database(url, pool_size=3, max_overflow=0)
    pause = writing("SELECT set_config('default_transaction_read_only', 'on', false), pg_sleep(1)")
    await asyncio.gather(*(database.fetch(pause) for _ in range(3)))

    await database.fetch_one(INSERT, "first", 1, None)
    setting = reading(
        "SELECT current_setting('default_transaction_read_only') AS value, pg_sleep(0.5)"
    )
    rows = await asyncio.gather(*(database.fetch_one(setting) for _ in range(3)))

    assert [row["value"] for row in rows] == ["off"] * 3


async def test_health_finds_the_server_that_accepts_writes_again(make_database, url, writing):
    database = make_database(url, pool_size=1, max_overflow=0)
    await database.execute(writing("SET default_transaction_read_only = on"))

    assert (await database.ping()).read_only is False


async def test_a_transaction_leaves_what_became_a_standby_as_well(make_database, url, writing):
    database = make_database(url, pool_size=1, max_overflow=0)
    await database.execute(writing("SET default_transaction_read_only = on"))

    with pytest.raises(UnavailableError) as refused:
        await database.copy("things", {"id": str}, [("first",)])
    await database.copy("things", {"id": str}, [("second",)])

    assert refused.value.sqlstate == "25006"
    assert await count(database) == 1


async def test_a_plan_that_no_longer_fits_is_made_anew(make_database, own_url, reading, writing):
    database, administrator = make_database(own_url), make_database(own_url)
    everything = reading("SELECT * FROM waist.things")
    await database.fetch_one(INSERT, "id", 1, None)
    assert len((await database.fetch(everything))[0]) == 4

    await administrator.execute(writing("ALTER TABLE waist.things ADD COLUMN late text"))
    rows = await database.fetch(everything)

    assert len(rows[0]) == 5


# Transactions


async def test_a_transaction_applies_everything_together(database):
    async with database.transaction() as transaction:
        await transaction.fetch_one(INSERT, "one", 1, None)
        assert await count(database) == 0
        assert await transaction.execute(INSERT, "two", 2, None) == 1

    assert await count(database) == 2


async def test_an_error_in_the_block_undoes_everything_and_passes(database):
    async def block():
        async with database.transaction() as transaction:
            await transaction.fetch(INSERT, "one", 1, None)
            raise LookupError

    with pytest.raises(LookupError):
        await block()

    assert await count(database) == 0
    assert database.pool_use().in_use == 0


async def test_a_statement_that_failed_dooms_the_transaction_even_if_nobody_says_so(database):
    async def block():
        async with database.transaction() as transaction:
            await transaction.execute(INSERT, "one", 1, None)
            with suppress(DuplicateError):
                await transaction.execute(INSERT, "one", 1, None)

    with pytest.raises(DuplicateError):
        await block()

    assert await count(database) == 0


async def test_a_cancelled_transaction_applies_nothing(database):
    entered = asyncio.Event()

    async def hold():
        async with database.transaction() as transaction:
            await transaction.execute(INSERT, "one", 1, None)
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await entered.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert await count(database) == 0
    assert database.pool_use().in_use == 0


async def test_a_transaction_left_open_swallows_nothing_that_follows(database, administrator):
    await database.execute(Statement("BEGIN", None, writes=True))
    await database.execute(INSERT, "one", 1, None)

    assert await count(administrator) == 1


# COPY


async def test_copy_may_take_longer_than_its_deadline_as_long_as_it_goes_on(make_database, url):
    database = make_database(url, query_timeout=2.0)

    def slowly():
        for number in range(250):
            time.sleep(0.01)  # what preparing a record takes is taken from the event loop
            yield (f"id-{number}",)

    await database.copy("things", {"id": str}, slowly())

    assert await count(database) == 250


async def test_what_comes_after_a_copy_has_its_deadline_again(make_database, url, reading):
    database = make_database(url, pool_size=1, max_overflow=0, statement_timeout=7.0)

    await database.copy("things", {"id": str}, [("one",)])

    (deadline,) = await database.fetch_one(reading("SHOW statement_timeout"))
    assert deadline == "7s"


async def test_copy_lets_others_have_their_turn(database):
    turns = 0

    async def others():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    task = asyncio.create_task(others())
    await database.copy("things", {"id": str}, ((f"id-{number}",) for number in range(20_000)))
    task.cancel()

    assert turns > 5


async def test_copy_is_all_or_nothing(database):
    await database.fetch_one(INSERT, "id-7", 1, None)

    with pytest.raises(DuplicateError) as refused:
        await database.copy(
            "things",
            {"id": str},
            ((f"id-{number}",) for number in range(1000)),
            entity="test_result",
        )

    assert refused.value.entity == "test_result"
    assert await count(database) == 1


async def test_copied_values_come_back_as_they_went_in(database, writing):
    await database.execute(writing("CREATE TABLE waist.copied (n bigint, t text, at timestamptz)"))
    columns = {"n": int, "t": str, "at": datetime}
    texts = [
        "",
        " ",
        "a\tb",
        "a\nb",
        "a\r\nb",
        "\\",
        "\\N",
        "\\.",
        "\\t",
        "\\\\\n",
        "é\u2028\U0001f600",
        "'\"",
    ]
    others = [(-(2**63), None, MOMENTS[-1]), (2**63 - 1, "x", None), (None, None, None)]
    of_one_zone = [(number, "plain", moment) for number, moment in enumerate(MOMENTS[:-2])]
    records = [(number, text, MOMENTS[number % len(MOMENTS)]) for number, text in enumerate(texts)]

    for some in (records, others, of_one_zone):
        await database.copy("copied", columns, some)

    rows = await database.fetch(Statement("SELECT n, t, at FROM copied", None, writes=False))
    assert [tuple(row) for row in rows] == records + others + of_one_zone


async def test_copy_of_nothing_stores_nothing(database):
    await database.copy("things", {"id": str}, ())

    assert await count(database) == 0


@pytest.mark.parametrize("fault", [LookupError, ValueError])
async def test_what_the_records_raise_passes_and_stores_nothing(database, fault):
    def records():
        yield ("id-1",)
        raise fault

    with pytest.raises(fault):
        await database.copy("things", {"id": str}, records())

    assert await count(database) == 0
    assert database.pool_use().in_use == 0


@pytest.mark.parametrize(
    "record",
    [
        ("id", "one"),
        ("id", 2**70),
        (1, 1),
        ("\ud800", 1),
        ("\0", 1),
        ("id",),
        ("id", 1, 1),
        (b"", 1),
    ],
)
async def test_a_record_that_cannot_be_stored_is_refused(database, record):
    with pytest.raises(InvalidValueError):
        await database.copy("things", {"id": str, "number": int}, [("first", 1), record])

    assert await count(database) == 0


async def test_a_cancelled_copy_stores_nothing(database, administrator):
    started = asyncio.Event()

    def records():
        number = 0
        while True:
            yield (f"id-{number}",)
            number += 1
            if number == 5000:
                started.set()

    task = asyncio.create_task(database.copy("things", {"id": str}, records()))
    await started.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert await eventually(lambda: count(administrator), 0) == 0


# The pool


async def test_callers_beyond_the_pool_wait_their_turn(make_database, url):
    database = make_database(url, pool_size=2, max_overflow=1)

    rows = await asyncio.gather(*(database.fetch_one(PID) for _ in range(50)))

    assert 1 <= len({row["pid"] for row in rows}) <= 3
    assert database.pool_use().open <= 2


async def test_an_exhausted_pool_is_overloaded_when_its_time_is_up(make_database, url, outcome):
    database = make_database(url, pool_size=1, max_overflow=0, pool_timeout=0.2)

    async with database.transaction():
        status = database.pool_use()
        began = asyncio.get_running_loop().time()
        overloaded, seconds = await outcome(database.execute(INSERT, "id", 1, None))
        took = asyncio.get_running_loop().time() - began

    assert type(overloaded) is OverloadedError
    assert overloaded.outcome == "not_applied"
    assert took >= 0.2
    assert seconds < 1.0
    assert (status.size, status.limit, status.open, status.in_use) == (1, 1, 1, 1)
    assert await count(database) == 0


async def test_whoever_waits_is_counted(make_database, url):
    database = make_database(url, pool_size=1, max_overflow=0)

    async with database.transaction():
        waiting = [asyncio.create_task(database.fetch_one(SELECT_ONE)) for _ in range(3)]
        await eventually(lambda: asyncio.sleep(0, database.pool_use().waiting), 3)
        busy = database.pool_use()
    await asyncio.gather(*waiting)

    assert busy == PoolUse(size=1, limit=1, open=1, in_use=1, waiting=3)
    assert database.pool_use() == PoolUse(size=1, limit=1, open=1, in_use=0, waiting=0)


async def test_sessions_and_statements_share_the_limit_of_the_pool(
    make_database, url, administrator
):
    database = make_database(url, pool_size=1, max_overflow=0)

    for _ in range(3):
        await database.fetch_one(SELECT_ONE)
        async with database.session_maker()() as session:
            assert await session.scalar(text("SELECT 1")) == 1
            assert database.pool_use() == PoolUse(size=1, limit=1, open=1, in_use=1, waiting=0)

    async def connected():
        return len(await backends(administrator, database))

    assert await eventually(connected, 1) == 1


async def test_sessions_keep_their_connections_while_nobody_else_needs_them(make_database, url):
    database = make_database(url, pool_size=2, max_overflow=0)

    async def pid():
        async with database.session_maker()() as session:
            return await session.scalar(text("SELECT pg_backend_pid()"))

    first = await pid()
    await database.fetch_one(SELECT_ONE)

    assert await pid() == first


async def test_a_session_cancelled_while_it_connects_leaves_its_room_to_others(make_database, url):
    async def ask(database):
        async with database.session_maker()() as session:
            await session.scalar(text("SELECT 1"))

    for milliseconds in (0, 2, 4, 8, 16):
        database = make_database(url, pool_size=1, max_overflow=0, connect_timeout=2.0)
        session = asyncio.create_task(ask(database))
        await asyncio.sleep(milliseconds / 1000)
        session.cancel()
        await asyncio.wait([session])

        assert (await database.fetch_one(SELECT_ONE))["one"] == 1
        await database.aclose()


async def test_a_session_that_waits_gets_what_a_statement_gives_back(make_database, url):
    database = make_database(url, pool_size=1, max_overflow=0)

    async def in_session():
        async with database.session_maker()() as session:
            return await session.scalar(text("SELECT 1"))

    sleeping = asyncio.create_task(database.fetch(SLEEP, 0.2))
    await eventually(lambda: asyncio.sleep(0, database.pool_use().in_use), 1)

    assert await in_session() == 1
    await sleeping


async def test_sessions_and_statements_are_served_by_turns(make_database, url):
    database = make_database(url, pool_size=1, max_overflow=0)
    served = []

    async def session():
        async with database.session_maker()() as in_session:
            await in_session.scalar(text("SELECT 1"))
        served.append("session")

    async def statement():
        await database.fetch_one(SELECT_ONE)
        served.append("statement")

    async with database.transaction():
        waiting = [asyncio.create_task(call()) for call in (session, statement) * 4]
        # Beyond the limit, sessions wait in the queue of their engine.
        await eventually(lambda: asyncio.sleep(0, database.pool_use().waiting), 5)
    await asyncio.gather(*waiting)

    assert sorted(served) == ["session"] * 4 + ["statement"] * 4
    assert database.pool_use().open == 1


async def test_those_who_wait_are_served_in_the_order_they_came(make_database, url):
    database = make_database(url, pool_size=1, max_overflow=0)
    served = []

    async def call(number):
        await database.fetch_one(SELECT_ONE)
        served.append(number)

    async with database.transaction():
        waiting = [asyncio.create_task(call(number)) for number in range(10)]
        await eventually(lambda: asyncio.sleep(0, database.pool_use().waiting), 10)
        waiting[3].cancel()
    await asyncio.wait(waiting)

    assert served == [0, 1, 2, 4, 5, 6, 7, 8, 9]


async def test_whoever_just_gave_a_connection_back_does_not_jump_the_line(make_database, url):
    database = make_database(url, pool_size=1, max_overflow=0)
    over = asyncio.Event()
    calls = [0, 0, 0, 0]

    async def greedy(number):
        while not over.is_set():
            await database.fetch_one(SELECT_ONE)
            calls[number] += 1

    tasks = [asyncio.create_task(greedy(number)) for number in range(4)]
    await eventually(lambda: asyncio.sleep(0, min(calls) > 20), expected=True)
    over.set()
    await asyncio.gather(*tasks)

    assert max(calls) - min(calls) <= 2


async def test_connections_do_not_grow_old(make_database, url):
    database, lasting = make_database(url, pool_recycle=0.2), make_database(url, pool_recycle=60)

    async def pids():
        return [(await each.fetch_one(PID))["pid"] for each in (database, lasting)]

    first = await pids()
    await asyncio.sleep(0.25)
    later = await pids()

    assert later[0] != first[0]
    assert later[1] == first[1]


async def test_sessions_do_not_get_old_connections_either(make_database, url):
    database = make_database(url, pool_recycle=0.2)

    async def pid():
        async with database.session_maker()() as session:
            return await session.scalar(text("SELECT pg_backend_pid()"))

    first = await pid()
    await asyncio.sleep(0.25)

    assert await pid() != first


# Cancelling


async def test_a_cancelled_statement_ends_on_the_server_too(database, administrator):
    task = asyncio.create_task(database.fetch(SLEEP, 25))
    await eventually(lambda: backends(administrator, database), [("active", SLEEP.sql)])

    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert await eventually(lambda: backends(administrator, database), []) == []


async def test_hundreds_of_cancellations_leave_nothing_behind(make_database, url, administrator):
    database = make_database(url, pool_size=4, max_overflow=2)
    draw = random.Random(20260731)
    loop = asyncio.get_running_loop()

    async def call(number):
        match number % 4:
            case 0:
                return await database.fetch(SLEEP, 0.1)
            case 1:
                return await database.execute(INSERT, f"id-{number}", number, {"n": number})
            case 2:
                async with database.transaction() as transaction:
                    await transaction.execute(INSERT, f"id-{number}", number, None)
                    return await transaction.fetch(SLEEP, 0.1)
            case _:
                return await database.fetch_one(SELECT_ONE)

    tasks = []
    for number in range(400):
        task = asyncio.create_task(call(number))
        loop.call_later(draw.random() / 20, task.cancel)
        tasks.append(task)
        if number % 20 == 19:
            await asyncio.sleep(0.01)
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    failed = [a for a in answers if isinstance(a, Exception)]
    cancelled = [a for a in answers if isinstance(a, asyncio.CancelledError)]
    await eventually(lambda: asyncio.sleep(0, database.pool_use().in_use), 0)
    status = database.pool_use()
    assert failed == []
    assert len(cancelled) >= 200, "every other call sleeps longer than it is given"
    assert (status.in_use, status.waiting) == (0, 0)
    assert status.open <= 4
    assert (await database.fetch_one(SELECT_ONE))["one"] == 1

    async def busy():
        return [state for state, _ in await backends(administrator, database) if state != "idle"]

    assert await eventually(busy, []) == []
    assert len(await backends(administrator, database)) == database.pool_use().open


# Watching


async def test_every_trip_is_told_once(make_database, url):
    trips = []
    database = make_database(url, hooks={"hooks_at": lambda place: Hooks(on_trip=trips.append)})

    await database.fetch(INSERT, "id", 1, None)
    with pytest.raises(DuplicateError):
        await database.execute(INSERT, "id", 1, None)

    assert [(trip.command, trip.entity, trip.rows) for trip in trips] == [
        (INSERT.sql, "test_run", 1),
        (INSERT.sql, "test_run", 0),
    ]
    assert trips[0].error is None
    assert isinstance(trips[1].error, DuplicateError)
    assert trips[0].waited > 0
    assert trips[0].took > 0


async def test_a_trip_that_was_cancelled_is_told_as_abandoned(make_database, url):
    trips = []
    database = make_database(url, hooks={"hooks_at": lambda place: Hooks(on_trip=trips.append)})
    await database.fetch_one(SELECT_ONE)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await database.fetch(SLEEP, 25)

    assert [trip.abandoned for trip in trips] == [False, True]


async def test_the_statements_of_a_transaction_are_told_too(make_database, url):
    trips = []
    database = make_database(url, hooks={"hooks_at": lambda place: Hooks(on_trip=trips.append)})

    async with database.transaction() as transaction:
        await transaction.execute(INSERT, "id", 1, None)
        await transaction.copy("things", {"id": str}, [("one",), ("two",)])

    assert [(trip.command, trip.rows) for trip in trips] == [
        ("BEGIN", 0),
        (INSERT.sql, 1),
        ("COPY things FROM STDIN", 2),
        ("COMMIT", 0),
    ]


async def test_only_trips_that_took_long_enough_are_told(make_database, url):
    trips = []

    def told_from(seconds):
        return {"hooks_at": lambda place: Hooks(on_trip=trips.append, trips_from=seconds)}

    await make_database(url, hooks=told_from(60.0)).fetch_one(SELECT_ONE)
    await make_database(url, hooks=told_from(0.1)).fetch(SLEEP, 0.15)

    assert [trip.command for trip in trips] == [SLEEP.sql]


async def test_repeats_and_time_outs_are_told(make_database, url):
    trips = []
    hooks = {"hooks_at": lambda place: Hooks(on_trip=trips.append), "backoff": Backoff(2, 0.0)}

    with pytest.raises(OverloadedError):
        await make_database(url, hooks=hooks).fetch_one(FAIL, "40001", 100)
    with pytest.raises(OverloadedError):
        await make_database(url, statement_timeout=0.1, hooks=hooks).fetch(SLEEP, 25)
    with pytest.raises(OverloadedError):
        await make_database(url, hooks=hooks).fetch_one(FAIL, "55P03", 100)

    assert [(trip.retries, trip.timed_out) for trip in trips] == [
        (0, False),
        (1, False),
        *[(0, True), (1, True)] * 2,
    ]


async def test_who_waited_in_vain_for_a_connection_is_told(make_database, url):
    trips = []
    database = make_database(
        url,
        pool_size=1,
        max_overflow=0,
        pool_timeout=0.1,
        hooks={"hooks_at": lambda place: Hooks(on_trip=trips.append)},
    )

    async with database.transaction():
        with pytest.raises(OverloadedError):
            await database.fetch_one(SELECT_ONE)

    (failed,) = [trip for trip in trips if trip.error is not None]
    assert failed.timed_out
    assert failed.waited >= 0.1
    assert failed.took == 0.0


async def test_the_hooks_know_where_the_database_is_and_no_password(make_database, url):
    places = []

    def hooks_at(place):
        places.append(place)
        return Hooks()

    make_database(url, hooks={"hooks_at": hooks_at})

    (place,) = places
    assert place.backend == "postgres"
    assert place.namespace.endswith("|waist")
    assert place.address == make_url(url).host


# SQLAlchemy sessions


async def test_a_session_works_in_the_schema_with_documents(database):
    things = table("things", column("id"), column("document", JSONB))

    async with database.session_maker()() as session, session.begin():
        await session.execute(insert(things).values(id="one", document={"a": ["é", None]}))
    async with database.session_maker()() as session:
        stored = (await session.execute(select(things.c.document))).scalar_one()
    row = await database.fetch_one(Statement("SELECT document FROM things", None, writes=False))

    assert stored == {"a": ["é", None]}
    assert row["document"] == stored


async def test_a_session_that_forgets_its_transaction_leaves_none_to_the_next(database):
    async with database.session_maker()() as session:
        await session.execute(text("INSERT INTO things (id) VALUES ('one')"))

    await database.execute(INSERT, "two", 2, None)

    assert await count(database) == 1


@pytest.mark.parametrize(
    "setting",
    ["timezone TO 'Asia/Tokyo'", "datestyle TO 'German'", "client_encoding TO 'LATIN1'"],
)
async def test_how_a_session_wants_its_values_written_stays_there(
    make_database, url, reading, setting
):
    database = make_database(url, pool_size=1, max_overflow=0)
    async with database.session_maker()() as session, session.begin():
        await session.execute(text(f"SET {setting}"))

    row = await database.fetch_one(reading("SELECT $1::timestamptz AS moment"), MOMENTS[1])
    await database.copy("things", {"id": str}, [("é",)])

    assert row["moment"] == MOMENTS[1]
    assert row["moment"].tzinfo is UTC
    assert await database.fetch_one(reading("SELECT id FROM waist.things")) == ("é",)


async def test_a_session_reads_times_within_rows_and_ranges(make_database, url, reading):
    database = make_database(url, pool_size=1, max_overflow=0)
    await database.fetch_one(reading("SELECT $1::timestamptz"), MOMENTS[1])

    async with database.session_maker()() as session:
        row, span = (
            await session.execute(
                text(
                    "SELECT row(at, 1), tstzrange(at, NULL) FROM (SELECT :at ::timestamptz) t (at)"
                ),
                {"at": MOMENTS[1]},
            )
        ).one()
    again = await database.fetch_one(reading("SELECT $1::timestamptz AS moment"), MOMENTS[1])

    assert tuple(row) == (MOMENTS[1], 1)
    assert span.lower == again["moment"] == MOMENTS[1]


# The end


async def test_what_is_under_way_when_all_is_closed_ends_at_once(make_database, url, outcome):
    database = make_database(url)
    reads = asyncio.create_task(database.fetch(SLEEP, 25))
    await eventually(lambda: asyncio.sleep(0, database.pool_use().open), 1)

    _, closing = await outcome(database.aclose())
    read, reading = await outcome(reads)

    assert type(read) is UnavailableError
    assert closing + reading < 1.0


@pytest.mark.parametrize("turns", range(12))
async def test_closing_at_any_moment_of_a_trip_ends_it_in_an_error_of_ours(
    make_database, url, outcome, reading, turns
):
    database = make_database(url)
    await database.fetch(SELECT_ONE)
    calls = [
        database.fetch(reading(f"SELECT {turns} AS not_prepared_yet")),
        database.fetch_one(INSERT, "one", 1, None),
        database.copy("things", {"id": str}, [("two",)]),
    ]
    tasks = [asyncio.create_task(outcome(call)) for call in calls]
    for _ in range(turns):
        await asyncio.sleep(0)

    await database.aclose()

    for answer, _ in await asyncio.gather(*tasks):
        assert not isinstance(answer, Exception) or isinstance(answer, AdapterError), repr(answer)


async def test_closing_while_connections_are_opened_leaves_no_error_that_nobody_sees(
    make_database, url, outcome
):
    unseen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))

    for turns in range(20):
        database = make_database(url)
        tasks = [asyncio.create_task(outcome(database.fetch(SELECT_ONE))) for _ in range(6)]
        for _ in range(turns):
            await asyncio.sleep(0)
        await database.aclose()
        await asyncio.gather(*tasks)
    gc.collect()

    assert unseen == []


async def test_the_pool_logs_nothing_of_its_own(make_database, url, caplog):
    caplog.set_level("DEBUG", logger="sqlalchemy")
    caplog.set_level("DEBUG", logger="test_coordinator_data_adapter")
    database = make_database(url)
    await database.fetch(SELECT_ONE)
    before = list(caplog.records)
    async with database.session_maker()() as session:
        await session.scalar(text("SELECT 1"))

    await database.aclose()

    assert before == []
    assert {record.name.partition(".")[0] for record in caplog.records} == {"sqlalchemy"}


async def test_after_closing_nothing_is_sent_and_nothing_is_left(make_database, url, administrator):
    database = make_database(url)
    await asyncio.gather(*(database.fetch(SLEEP, 0.05) for _ in range(6)))

    await database.aclose()
    await database.aclose()

    with pytest.raises(UnavailableError, match="closed"):
        await database.fetch(SELECT_ONE)
    assert await eventually(lambda: backends(administrator, database), []) == []
