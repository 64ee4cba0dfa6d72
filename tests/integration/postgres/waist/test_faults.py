"""The verbs, on a server that is killed, frozen, full, deaf, or not there."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from typing import cast

import asyncpg
import pytest
from sqlalchemy import text

from test_coordinator_data_adapter.adapters.postgres.database import Database, Statement
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    DataIntegrityError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)
from test_coordinator_data_adapter.testing.servers import ThrowawayPostgres
from test_coordinator_data_adapter.tls import TlsSettings

DEADLINES = {"pool_timeout": 0.6, "connect_timeout": 0.6, "query_timeout": 0.6}
# Of what must succeed before its server freezes, however busy the machine is.
ROOMY = {"query_timeout": 2.0}
# Waiting for a connection, opening one, and the trip: each has its own deadline.
LONGEST = sum(DEADLINES.values()) + 1.0

PID = Statement("SELECT pg_backend_pid() AS pid", "test_run", writes=False)
WRITE = Statement("INSERT INTO kept VALUES ($1) RETURNING id", "test_run", writes=True)
READ = Statement("SELECT count(*) AS n FROM kept", "test_run", writes=False)
SLOW_READ = Statement("SELECT pg_sleep(0.2)", "test_run", writes=False)
ENDLESS_ONCE = Statement(
    "SELECT pg_sleep(CASE nextval('calls') WHEN 1 THEN 600 ELSE 0 END)", "test_run", writes=False
)
ENDLESS_WRITE = Statement(
    "INSERT INTO kept SELECT 'slow' FROM pg_sleep(600)", "test_run", writes=True
)
OTHERS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
)


@pytest.fixture(autouse=True, scope="module")
def kept(breakable: ThrowawayPostgres) -> Iterator[None]:
    async def create() -> None:
        connection = await asyncpg.connect(breakable.url().replace("+asyncpg", ""))
        await connection.execute("CREATE TABLE kept (id text); CREATE SEQUENCE calls")
        await connection.close()

    asyncio.run(create())
    return


@pytest.fixture
def warm(make_database, server) -> Callable[..., Awaitable[Database]]:
    """Makes databases, every connection of whose pools is open and idle."""

    async def warm(**settings: float) -> Database:
        database = make_database(
            server.url(), schema="public", pool_size=4, max_overflow=2, **settings
        )
        async with asyncio.timeout(60):
            while database.pool_use().open < 4:
                calls = (database.fetch(SLOW_READ) for _ in range(4))
                await asyncio.gather(*calls, return_exceptions=True)
        await until(lambda: idle(database))
        return database

    return warm


@pytest.fixture
async def fragile(warm) -> Database:
    """A database with short deadlines."""
    return await warm(**DEADLINES)


@pytest.fixture
async def patient(warm) -> Database:
    """The same with long deadlines: nothing it does may fail, however busy the machine is."""
    return await warm()


@pytest.fixture
def deaf() -> Iterator[int]:
    """A port where the system accepts and nobody ever says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def black_hole() -> Iterator[int]:
    """A port where nobody even accepts: the queue is full, what comes is dropped."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    fillers = []
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)  # noqa: FBT003 - socket's own
        filler.connect_ex(listener.getsockname())
        fillers.append(filler)
    yield listener.getsockname()[1]
    for filler in fillers:
        filler.close()
    listener.close()


@pytest.fixture
async def narrow(make_database, server) -> AsyncIterator[Callable[[int], Awaitable[Database]]]:
    """Makes a database whose server has room for so many connections, or makes other room."""
    administrator = await asyncpg.connect(server.url().replace("+asyncpg", ""))
    await administrator.execute("CREATE ROLE narrow LOGIN PASSWORD 'narrow'")
    url = server.url(user="narrow", password="narrow")
    database = make_database(url, schema="public", pool_size=5, max_overflow=5, pool_timeout=10.0)

    async def room_for(connections: int) -> Database:
        await administrator.execute(f"ALTER ROLE narrow CONNECTION LIMIT {connections}")
        return database

    yield room_for
    await database.aclose()
    await administrator.execute("DROP ROLE narrow")
    await administrator.close()


class Gate:
    """Lets connections through to a server, and may see to something before one of them."""

    def __init__(self, server: ThrowawayPostgres) -> None:
        self._server = server
        self._before: dict[int, Callable[[], Awaitable[object]]] = {}
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[object]] = set()
        self.asked = 0
        self.garbles: Callable[[bytes], bytes] = bytes

    async def open(self) -> None:
        self._listening = await asyncio.start_server(self._let_through, "127.0.0.1", 0)
        self._port = self._listening.sockets[0].getsockname()[1]

    def before(self, number: int, see_to: Callable[[], Awaitable[object]]) -> None:
        self._before[number] = see_to

    def url(self, *, user: str, password: str) -> str:
        url = self._server.url(user=user, password=password)
        return url.replace(str(self._server.port), str(self._port))

    async def close(self) -> None:
        self._listening.close()
        for writer in self._open:
            writer.transport.abort()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _let_through(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._serving.add(task)
        self.asked += 1
        if see_to := self._before.get(self.asked):
            await see_to()
        answers, there = await asyncio.open_connection("127.0.0.1", self._server.port)
        self._open |= {writer, there}
        await asyncio.gather(
            self._carry(reader, there, bytes), self._carry(answers, writer, self._garbled)
        )
        self._serving.discard(task)

    def _garbled(self, data: bytes) -> bytes:
        return self.garbles(data)

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        changed: Callable[[bytes], bytes],
    ) -> None:
        with suppress(ConnectionError):
            while read := await reader.read(65_536):
                writer.write(changed(read))
        writer.close()


@pytest.fixture
async def gate(server) -> AsyncIterator[Gate]:
    gate = Gate(server)
    await gate.open()
    yield gate
    await gate.close()


def idle(database: Database) -> bool:
    status = database.pool_use()
    return (status.in_use, status.waiting) == (0, 0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


async def recovers(database: Database) -> None:
    async with asyncio.timeout(60):
        while True:
            with suppress(UnavailableError, OverloadedError):
                await database.fetch(READ)
                return
            await asyncio.sleep(0.05)


async def under_way() -> None:
    """Let calls that have been started, and have their connections, send what they have to."""
    for _ in range(50):
        await asyncio.sleep(0)


# A server that goes away and comes back


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_after_a_restart_not_one_call_fails(patient, server, how):
    await asyncio.to_thread(getattr(server, how))
    await asyncio.to_thread(server.start)

    answers = await asyncio.gather(
        *(patient.fetch(READ) for _ in range(8)),
        *(patient.fetch(WRITE, "after") for _ in range(8)),
    )

    assert len(answers) == 16


async def test_a_restart_during_which_the_event_loop_slept_costs_no_write(patient, server):
    server.kill()
    server.start()

    for _ in range(6):
        await patient.fetch(WRITE, "asleep")
    async with patient.transaction() as transaction:
        await transaction.execute(WRITE, "asleep")


async def test_a_session_survives_a_restart_too(patient, server):
    await asyncio.to_thread(server.restart)

    for _ in range(3):
        async with patient.session_maker()() as session:
            assert await session.scalar(text("SELECT 1")) == 1


async def test_a_server_killed_under_load_loses_nothing_that_was_acknowledged(
    fragile, server, outcome
):
    acknowledged: set[str] = set()
    ended: list[tuple[object, float]] = []
    over = asyncio.Event()

    async def client(number: int) -> None:
        call = 0
        while not over.is_set():
            call += 1
            answer, seconds = await outcome(fragile.fetch_one(WRITE, f"{number}-{call}"))
            ended.append((answer, seconds))
            if isinstance(answer, Exception):
                await asyncio.sleep(0.02)
            else:
                acknowledged.add(answer["id"])
            ended.append(await outcome(fragile.fetch_one(READ)))

    clients = [asyncio.create_task(client(number)) for number in range(10)]
    await until(lambda: len(acknowledged) > 50)
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)
    await recovers(fragile)
    before = len(acknowledged)
    await until(lambda: len(acknowledged) > before + 50)  # writes go on after the restart
    over.set()
    await asyncio.gather(*clients)
    await recovers(fragile)

    stored = {row["id"] for row in await fragile.fetch(Statement("TABLE kept", None, writes=False))}
    errors = [answer for answer, _ in ended if isinstance(answer, Exception)]
    assert acknowledged <= stored
    assert errors, "the server was away for a while"
    assert {type(error) for error in errors} <= {
        UnavailableError,
        OutcomeUnknownError,
        OverloadedError,
    }
    assert max(seconds for _, seconds in ended) < LONGEST
    await until(lambda: idle(fragile))


# A server that freezes


async def test_a_frozen_server_keeps_nobody_longer_than_the_deadline(fragile, server, outcome):
    server.freeze()
    ended = await asyncio.gather(
        *(outcome(fragile.fetch(READ)) for _ in range(10)),
        *(outcome(fragile.fetch(WRITE, "frozen")) for _ in range(10)),
        outcome(fragile.copy("kept", {"id": str}, (("frozen",) for _ in range(100_000)))),
    )
    server.thaw()
    await recovers(fragile)

    reads, writes, copy = ended[:10], ended[10:20], ended[20]
    assert max(seconds for _, seconds in ended) < LONGEST
    assert {type(answer) for answer, _ in reads} <= {UnavailableError, OverloadedError}
    assert {type(answer) for answer, _ in writes} <= {
        UnavailableError,
        OutcomeUnknownError,
        OverloadedError,
    }
    assert isinstance(copy[0], UnavailableError | OverloadedError), "no COPY is in doubt"
    await until(lambda: idle(fragile))


async def test_a_write_that_froze_is_in_doubt_and_a_read_is_not(fragile, server, outcome):
    server.freeze()

    read, write = await asyncio.gather(
        outcome(fragile.fetch(READ)), outcome(fragile.execute(WRITE, "doubt"))
    )

    assert type(read[0]) is UnavailableError
    assert type(write[0]) is OutcomeUnknownError
    assert write[0].outcome == "unknown"
    assert max(read[1], write[1]) < DEADLINES["query_timeout"] + 0.5


async def test_only_the_end_of_a_transaction_is_in_doubt(warm, server, outcome):
    fragile = await warm(**ROOMY)
    reached = asyncio.Event()
    frozen = asyncio.Event()

    async def write() -> None:
        async with fragile.transaction() as transaction:
            await transaction.execute(WRITE, "first")
            reached.set()
            await frozen.wait()

    async def write_more() -> None:
        async with fragile.transaction() as transaction:
            await reached.wait()
            await frozen.wait()
            await transaction.execute(WRITE, "second")

    at_the_end = asyncio.create_task(outcome(write()))
    before_it = asyncio.create_task(outcome(write_more()))
    await reached.wait()
    server.freeze()
    frozen.set()

    assert type((await at_the_end)[0]) is OutcomeUnknownError
    assert type((await before_it)[0]) is UnavailableError


async def test_a_copy_that_freezes_halfway_was_not_applied(warm, server, outcome):
    fragile = await warm(**ROOMY)
    halfway = asyncio.Event()

    def records() -> Iterator[tuple[str]]:
        for number in range(2_000_000):
            if number == 50_000:
                halfway.set()
            yield (f"copied-{number}",)

    task = asyncio.create_task(outcome(fragile.copy("kept", {"id": str}, records())))
    await halfway.wait()
    server.freeze()
    answer, _ = await task
    server.thaw()
    await recovers(fragile)

    rows = await fragile.fetch(
        Statement("SELECT FROM kept WHERE id LIKE 'copied-%'", None, writes=False)
    )
    assert type(answer) is UnavailableError
    assert rows == []


async def test_cancelling_does_not_wait_for_a_frozen_server(patient, server, outcome):
    server.freeze()
    tasks = [
        asyncio.create_task(patient.fetch(READ)),
        asyncio.create_task(patient.execute(WRITE, "cancelled")),
        asyncio.create_task(patient.copy("kept", {"id": str}, (("x",) for _ in range(100_000)))),
    ]
    await under_way()
    for task in tasks:
        task.cancel()

    _, seconds = await outcome(asyncio.wait(tasks))

    assert all(task.cancelled() for task in tasks)
    assert seconds < 0.3
    assert idle(patient)


async def test_closing_does_not_wait_for_a_frozen_server(patient, server, outcome):
    server.freeze()
    call = asyncio.create_task(outcome(patient.execute(WRITE, "closed")))
    await under_way()

    _, seconds = await outcome(patient.aclose())

    assert type((await call)[0]) is OutcomeUnknownError
    assert seconds < 0.3


async def test_a_session_is_not_kept_by_a_frozen_server_either(fragile, server, outcome):
    async def ask() -> None:
        async with fragile.session_maker()() as session:
            await session.execute(text("SELECT 1"))

    await ask()
    server.freeze()
    answer, seconds = await outcome(ask())

    assert isinstance(answer, TimeoutError)
    assert seconds < LONGEST


# Connections that go away


async def test_connections_ended_while_idle_cost_no_call(patient, server):
    await terminate_all(server, patient)

    assert len(await asyncio.gather(*(patient.fetch(WRITE, "idle") for _ in range(4)))) == 4
    await terminate_all(server, patient)
    assert len(await asyncio.gather(*(patient.fetch(READ) for _ in range(4)))) == 4


async def test_a_read_whose_connection_ends_is_repeated(warm, server):
    patient = await warm(query_timeout=60.0)
    await patient.execute(Statement("ALTER SEQUENCE calls RESTART", None, writes=True))
    read = asyncio.create_task(patient.fetch(ENDLESS_ONCE))

    await terminate_all(server, patient, doing=ENDLESS_ONCE)

    assert len(await read) == 1


async def test_a_write_whose_connection_ends_is_in_doubt(warm, server, outcome):
    patient = await warm(query_timeout=60.0)
    write = asyncio.create_task(outcome(patient.execute(ENDLESS_WRITE)))

    await terminate_all(server, patient, doing=ENDLESS_WRITE)

    assert type((await write)[0]) is OutcomeUnknownError


async def terminate_all(
    server: ThrowawayPostgres, database: Database, *, doing: Statement | None = None
) -> None:
    """End all connections of a database, once one of them is doing what it should."""
    name = database._settings.application_name
    connection = await asyncpg.connect(server.url().replace("+asyncpg", ""))
    active = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = $1 AND state = 'active' AND query = $2"
    )
    while doing and not await connection.fetchval(active, name, doing.sql):  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)
    await connection.execute(
        "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = $1",
        name,
    )
    await connection.close()


# A server that is full, refuses, is deaf, or is not there


async def test_a_server_without_room_is_unavailable_until_there_is_some(
    make_database, server, outcome
):
    database = make_database(server.url(), schema="public")
    hogs = [await asyncpg.connect(server.url().replace("+asyncpg", ""))]
    while await hogs[0].fetchval(OTHERS):  # noqa: ASYNC110 - whoever is leaving still makes room
        await asyncio.sleep(0.01)
    with suppress(asyncpg.TooManyConnectionsError):
        while True:
            hogs.append(await asyncpg.connect(server.url().replace("+asyncpg", "")))

    answer, _ = await outcome(database.fetch(WRITE, "no room"))
    for hog in hogs:
        await hog.close()
    await recovers(database)

    assert type(answer) is UnavailableError
    assert answer.sqlstate == "53300"


async def test_where_the_server_has_no_room_at_all_nobody_waits_for_the_others(narrow, outcome):
    database = await narrow(0)

    ended = await asyncio.gather(*(outcome(database.fetch(READ)) for _ in range(30)))

    assert {(type(answer), answer.sqlstate) for answer, _ in ended} == {(UnavailableError, "53300")}
    assert max(seconds for _, seconds in ended) < 5.0
    await until(lambda: idle(database))


async def test_a_server_that_refuses_the_only_one_is_asked_again_before_it_is_believed(
    narrow, gate, make_database
):
    # PostgreSQL counts those it is about to refuse: of two that came at once neither had the place.
    gate.before(4, lambda: narrow(1))
    await narrow(0)
    database = make_database(gate.url(user="narrow", password="narrow"), schema="public")

    answers = await asyncio.gather(*(database.fetch_one(PID) for _ in range(2)))

    assert answers[0] == answers[1]


async def test_a_server_that_stays_full_is_asked_by_one_and_not_for_long(
    narrow, gate, make_database, outcome
):
    await narrow(0)
    # Without TLS every attempt is one connection to the gate, whatever the server supports.
    database = make_database(
        gate.url(user="narrow", password="narrow"),
        schema="public",
        tls=TlsSettings(mode="disable"),
    )

    (_, first), (_, second) = [await outcome(database.fetch(READ)) for _ in range(2)]
    asked = gate.asked

    assert asked == 5 + 1
    assert second < first < 5.0


async def test_where_the_server_has_room_for_fewer_than_the_pool_the_others_wait_their_turn(narrow):
    database = await narrow(2)
    slow_pid = Statement("SELECT pg_backend_pid() FROM pg_sleep(0.1)", "test_run", writes=False)

    async def served_by() -> set[int]:
        rows = await asyncio.gather(*(database.fetch_one(slow_pid) for _ in range(10)))
        return {row[0] for row in rows}

    both, again = await served_by(), await served_by()
    await narrow(4)
    await asyncio.sleep(1.1)  # until it is worth asking the server again
    wider = await served_by()

    assert (len(both), again, len(wider)) == (2, both, 4)


async def test_what_became_free_while_the_server_refused_another_connection_is_not_overlooked(
    narrow, outcome
):
    database = await narrow(1)
    first = await database.fetch_one(PID)

    # The first is back before the second, which found it in use, is refused one of its own.
    ended = await asyncio.gather(*(outcome(database.fetch_one(PID)) for _ in range(2)))

    assert [answer for answer, _ in ended] == [first, first]
    # Else it would be found after the second in which the server is not asked again.
    assert max(seconds for _, seconds in ended) < 0.9


async def test_whoever_waits_for_a_full_server_notices_that_it_has_room_again(narrow):
    database = await narrow(1)
    busy = asyncio.create_task(database.fetch(Statement("SELECT pg_sleep(30)", None, writes=False)))
    await until(lambda: database.pool_use().open == 1)
    slow = Statement("SELECT pg_sleep(1)", None, writes=False)
    waiting = [asyncio.create_task(database.fetch(slow))]
    await until(lambda: database.pool_use().waiting == 1)
    # Behind the one that was refused these stand in line without having asked the server.
    waiting += [asyncio.create_task(database.fetch(slow)) for _ in range(2)]
    await until(lambda: database.pool_use().waiting == 3)

    await narrow(4)
    async with asyncio.timeout(60):
        await asyncio.gather(*waiting)

    assert database.pool_use().open == 4
    busy.cancel()


async def test_where_the_server_has_no_more_room_a_statement_takes_over_from_a_session(narrow):
    database = await narrow(1)

    async with database.session_maker()() as session:
        assert await session.scalar(text("SELECT 1")) == 1
        statement = asyncio.create_task(database.fetch_one(PID))
        await until(lambda: database.pool_use().waiting == 1)

    assert await statement
    assert database.pool_use().open == 1


async def test_where_the_server_has_no_more_room_a_session_takes_over_from_a_statement(narrow):
    database = await narrow(1)
    await asyncio.gather(database.fetch_one(PID), database.fetch(SLOW_READ))

    async with database.session_maker()() as session:
        assert await session.scalar(text("SELECT 1")) == 1
        assert database.pool_use().open == 1


async def test_a_server_that_only_reads_did_not_apply_a_write(make_database, server, outcome):
    database = make_database(server.url(), schema="public")
    with suppress(UnavailableError):
        async with database.transaction() as transaction:
            await transaction.execute(Statement("SET TRANSACTION READ ONLY", None, writes=False))
            answer, _ = await outcome(transaction.execute(WRITE, "read only"))

    assert type(answer) is UnavailableError
    assert "not applied" in str(answer)
    assert answer.sqlstate == "25006"


async def test_a_wrong_password_is_a_matter_of_configuration(make_database, server, outcome):
    database = make_database(server.url(password="hunter2"), schema="public")

    answer, _ = await outcome(database.ping())

    assert type(answer) is ConfigurationError
    assert answer.sqlstate == "28P01"
    assert "hunter2" not in str(answer) + repr(answer)


async def test_a_port_where_nobody_listens_is_unavailable_at_once(make_database, server, outcome):
    await asyncio.to_thread(server.kill)
    database = make_database(server.url(), schema="public")

    answer, seconds = await outcome(database.execute(WRITE, "refused"))

    assert type(answer) is UnavailableError
    assert seconds < 0.5


async def test_a_host_that_does_not_exist_is_unavailable(make_database, outcome):
    database = make_database("postgresql://user@nowhere.invalid/tests", **DEADLINES)

    answer, seconds = await outcome(database.ping())

    assert type(answer) is UnavailableError
    assert seconds < LONGEST


@pytest.mark.parametrize("tls", ["disable", "require"])
async def test_a_port_where_nobody_answers_keeps_nobody(make_database, deaf, tls, outcome):
    database = make_database(
        f"postgresql://user@127.0.0.1:{deaf}/tests?sslmode={tls}", pool_size=2, **DEADLINES
    )

    ended = await asyncio.gather(*(outcome(database.execute(WRITE, "deaf")) for _ in range(8)))

    assert {type(answer) for answer, _ in ended} == {UnavailableError}
    assert max(seconds for _, seconds in ended) < LONGEST
    await until(lambda: idle(database))


async def test_a_black_hole_keeps_nobody(make_database, black_hole, outcome):
    database = make_database(f"postgresql://user@127.0.0.1:{black_hole}/tests", **DEADLINES)

    answer, seconds = await outcome(database.execute(WRITE, "black hole"))

    assert type(answer) is UnavailableError
    assert seconds < LONGEST


async def test_cancelling_a_connection_attempt_leaves_nothing_behind(make_database, deaf, outcome):
    database = make_database(f"postgresql://user@127.0.0.1:{deaf}/tests", **DEADLINES)
    task = asyncio.create_task(database.fetch(READ))
    await until(lambda: database.pool_use().in_use == 1)

    task.cancel()
    _, seconds = await outcome(asyncio.wait([task]))

    assert seconds < DEADLINES["connect_timeout"] / 2
    await until(lambda: idle(database))


async def test_closing_breaks_off_connection_attempts(make_database, deaf, outcome):
    database = make_database(f"postgresql://user@127.0.0.1:{deaf}/tests")
    call = asyncio.create_task(outcome(database.fetch(READ)))
    await until(lambda: database.pool_use().in_use == 1)

    _, seconds = await outcome(database.aclose())

    assert type((await call)[0]) is UnavailableError
    assert seconds < 0.3


@pytest.mark.parametrize("garbage", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 64])
async def test_whatever_else_answers_on_the_port_is_told_as_one_of_our_errors(
    make_database, garbage, outcome
):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(garbage)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    database = make_database(f"postgresql://user@127.0.0.1:{port}/tests")

    told, seconds = await outcome(database.ping())
    listener.close()

    assert isinstance(told, AdapterError)
    assert seconds < LONGEST


def flip(position: int, mask: int) -> Callable[[bytes], bytes]:
    """Flip bits of one byte, of the first data that are long enough."""
    flipped = False

    def change(data: bytes) -> bytes:
        nonlocal flipped
        if flipped or len(data) <= position:
            return data
        flipped = True
        changed = bytearray(data)
        changed[position] ^= mask
        return bytes(changed)

    return change


MANY_TYPES = (
    "SELECT n AS number, n::text AS text, now() AS moment, ARRAY['a', 'b'] AS several,"
    " jsonb_build_object('n', n) AS document FROM generate_series(1, 3) AS n"
)


@pytest.mark.parametrize("writes", [False, True], ids=["read", "write"])
async def test_a_garbled_reply_is_one_of_our_errors_and_costs_the_connection(
    make_database, server, gate, writes
):
    url = gate.url(user="postgres", password=server.password)
    database = make_database(
        url, schema="public", pool_size=1, max_overflow=0, query_timeout=0.5, connect_timeout=30.0
    )
    told: list[AdapterError] = []

    for position in range(0, 160, 11):
        # That it counts as a write decides how often it is sent; every other one is not prepared.
        sql = MANY_TYPES if position % 2 else f"{MANY_TYPES} -- {position}"
        statement = Statement(sql, None, writes=writes)
        await database.fetch(PID)
        gate.garbles = flip(position, 1 << (position % 8))
        with suppress(DataIntegrityError, OutcomeUnknownError, UnavailableError):
            try:
                await database.fetch(statement)
            except AdapterError as error:
                told.append(error)
                raise
        gate.garbles = bytes

    assert len(await database.fetch(Statement(MANY_TYPES, None, writes=False))) == 3
    if writes:
        assert {error.outcome for error in told} == {"unknown"}


async def test_a_garbled_login_is_one_of_our_errors(make_database, server, gate):
    url = gate.url(user="postgres", password=server.password)

    for position in range(0, 400, 29):
        gate.garbles = flip(position, 1 << (position % 8))
        database = make_database(
            url, schema="public", connect_timeout=1.0, query_timeout=2.0, tls=TlsSettings("disable")
        )
        with suppress(AdapterError):
            await database.fetch(PID)
        await database.aclose()


async def test_a_server_that_authenticates_in_an_unknown_way_is_a_matter_of_configuration(
    make_database, outcome
):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(b"R\0\0\0\x08\0\0\0\x06")  # SCM credentials
        await writer.drain()
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    database = make_database(
        f"postgresql://user@127.0.0.1:{port}/tests", tls=TlsSettings("disable")
    )

    told, _ = await outcome(database.ping())
    listener.close()

    assert type(told) is ConfigurationError
    assert f"127.0.0.1:{port}/tests (user user) authenticates" in str(told)


async def test_an_outage_names_host_port_database_and_user(make_database, server, outcome):
    await asyncio.to_thread(server.kill)
    database = make_database(server.url(), schema="public")

    answer, _ = await outcome(database.ping())

    assert f"PostgreSQL at 127.0.0.1:{server.port}/postgres (user postgres) does not" in str(answer)
    assert server.password not in str(answer)
