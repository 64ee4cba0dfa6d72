"""Several servers behind one URL, one of which accepts writes; databases that are refused."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import pytest

from test_coordinator_data_adapter.adapters.postgres.endpoint import Endpoint
from test_coordinator_data_adapter.adapters.postgres.translation import ReadOnlyServerError
from test_coordinator_data_adapter.errors import ConfigurationError, UnavailableError
from test_coordinator_data_adapter.testing.servers import ThrowawayPostgres
from test_coordinator_data_adapter.tls import TlsSettings

PASSWORD = "opens nothing"


def prepared(folder) -> ThrowawayPostgres:
    server = ThrowawayPostgres(folder)
    server.password = PASSWORD
    return server


@pytest.fixture(scope="module")
def primary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThrowawayPostgres]:
    with prepared(tmp_path_factory.mktemp("primary")) as server:
        yield server


@pytest.fixture(scope="module")
def standby(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThrowawayPostgres]:
    """A server that stays in recovery; it does not matter that it follows nobody."""
    server = prepared(tmp_path_factory.mktemp("standby"))
    # What its data were made with, or more.
    server.settings |= {"max_wal_senders": "10", "wal_level": "replica"}
    server.add_file("standby.signal", "")
    with server:
        yield server


@pytest.fixture(scope="module")
def unused_port() -> Iterator[int]:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture(scope="module")
def silent_port() -> Iterator[int]:
    """A port whose server accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def url(*ports: int, options: str = "") -> str:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return f"postgresql://postgres:opens%20nothing@{hosts}/postgres{options}"


@asynccontextmanager
async def balancer(*servers: ThrowawayPostgres) -> AsyncIterator[int]:
    """One port whose connections go to the servers in turn."""
    following = itertools.cycle(servers)
    serving: set[asyncio.Task[None]] = set()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
        writer.transport.abort()

    async def let_through(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        server_reader, server_writer = await asyncio.open_connection(
            "127.0.0.1", next(following).port
        )
        await asyncio.gather(carry(reader, server_writer), carry(server_reader, writer))

    listener = await asyncio.start_server(let_through, "127.0.0.1", 0)
    yield listener.sockets[0].getsockname()[1]
    listener.close()
    await asyncio.wait(serving)


async def port_of_next_connection(endpoint: Endpoint) -> int:
    connection = await endpoint.connect(timeout=30)
    try:
        return await connection.fetchval("SELECT inet_server_port()")
    finally:
        await connection.close()


@pytest.mark.parametrize(
    "options", ["", "?target_session_attrs=any", "?target_session_attrs=primary"]
)
async def test_of_several_hosts_the_one_that_accepts_writes_is_used(primary, standby, options):
    endpoint = Endpoint.of(url(standby.port, primary.port, options=options), TlsSettings())

    assert await port_of_next_connection(endpoint) == primary.port


async def test_a_host_that_is_down_is_skipped(primary, unused_port):
    endpoint = Endpoint.of(url(unused_port, primary.port), TlsSettings())

    assert await port_of_next_connection(endpoint) == primary.port


async def test_a_host_that_never_answers_leaves_time_for_the_next(primary, silent_port):
    endpoint = Endpoint.of(url(silent_port, primary.port), TlsSettings("disable"))

    connection = await endpoint.connect(timeout=4)
    assert await connection.fetchval("SELECT inet_server_port()") == primary.port
    await connection.close()


async def test_the_host_that_was_found_last_is_tried_first(primary, silent_port):
    endpoint = Endpoint.of(url(silent_port, primary.port), TlsSettings("disable"))
    first = await endpoint.connect(timeout=4)

    async with asyncio.timeout(30):
        second = await endpoint.connect(timeout=600)

    await first.close()
    await second.close()


async def test_a_standby_alone_is_unavailable_and_named(make_database, standby):
    database = make_database(url(standby.port), schema="public")

    with pytest.raises(UnavailableError, match=rf"127\.0\.0\.1:{standby.port}.*standby") as refused:
        await database.ping()

    assert (refused.value.sqlstate, refused.value.outcome) == ("25006", "not_applied")


async def test_behind_one_address_every_connection_is_one_to_the_primary(
    make_database, primary, standby, reading
):
    async with balancer(standby, primary) as port:
        database = make_database(url(port), schema="public")

        rows = await asyncio.gather(
            *(
                database.fetch_one(
                    reading("SELECT pg_is_in_recovery() AS r, pg_sleep(0.2)::text AS s")
                )
                for _ in range(4)
            )
        )
        await database.aclose()

    assert [row["r"] for row in rows] == [False] * 4


async def test_a_server_set_to_read_only_is_skipped(primary, standby):
    administrator = await asyncpg.connect(url(primary.port))
    await administrator.execute("ALTER DATABASE postgres SET default_transaction_read_only = on")
    try:
        endpoint = Endpoint.of(url(standby.port, primary.port), TlsSettings())
        with pytest.raises(ReadOnlyServerError, match="accepts no writes"):
            await endpoint.connect(timeout=30)
    finally:
        await administrator.execute(
            "SET default_transaction_read_only = off;"
            "ALTER DATABASE postgres RESET default_transaction_read_only"
        )
        await administrator.close()


async def test_a_wrong_password_is_reported_although_another_host_is_down(
    make_database, primary, unused_port
):
    wrong = url(primary.port, unused_port).replace("opens%20nothing", "wrong")
    database = make_database(wrong, schema="public")

    with pytest.raises(ConfigurationError) as refused:
        await database.ping()

    assert refused.value.sqlstate == "28P01"


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
async def test_a_database_in_another_encoding_than_utf8_is_refused_by_name(
    make_database, primary, encoding
):
    name = f"in_{encoding.lower()}"
    administrator = await asyncpg.connect(url(primary.port))
    await administrator.execute(
        f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
    )
    await administrator.close()
    database = make_database(primary.url(name), schema="public")

    with pytest.raises(ConfigurationError, match=rf"database {name} .*{encoding}.*UTF8"):
        await database.ping()
