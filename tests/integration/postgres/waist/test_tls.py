"""The way to a server with TLS, without it, and with somebody in between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest
import trustme

from test_coordinator_data_adapter.errors import ConfigurationError, UnavailableError
from test_coordinator_data_adapter.testing.servers import (
    ThrowawayPostgres,
    system_postgres_programs,
)
from test_coordinator_data_adapter.tls import TlsSettings

LONG_AGO = {
    "not_before": datetime(2020, 1, 1, tzinfo=UTC),
    "not_after": datetime(2021, 1, 1, tzinfo=UTC),
}
PROGRAMS = system_postgres_programs()
NEEDS_TLS = pytest.mark.skipif(
    PROGRAMS is None, reason="no PostgreSQL of the system, and that of the wheel has no TLS"
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Path:
    """ca.pem, stranger.pem (another authority); .pem and .key of client, expired and foreign."""
    folder = tmp_path_factory.mktemp("certificates")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "stranger.pem"))
    issuers = {
        "client": lambda **dates: authority.issue_cert("guest@example.org", **dates),
        "expired": lambda **dates: authority.issue_cert("guest@example.org", **LONG_AGO, **dates),
        "foreign": lambda **dates: trustme.CA().issue_cert("guest@example.org", **dates),
    }
    for name, issue in issuers.items():
        client = issue(common_name="guest")
        client.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
        client.private_key_pem.write_to_path(str(folder / f"{name}.key"))
    return folder


@pytest.fixture(scope="module")
def encrypted(
    tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA
) -> Iterator[ThrowawayPostgres]:
    """A server that speaks TLS as localhost, and asks the role guest for a certificate."""
    server = ThrowawayPostgres(
        tmp_path_factory.mktemp("encrypted"),
        programs=PROGRAMS,
        settings={
            "ssl": "on",
            "ssl_cert_file": "server.pem",
            "ssl_key_file": "server.key",
            "ssl_ca_file": "ca.pem",
        },
        hba=[
            "hostssl all guest 127.0.0.1/32 cert",
            "hostnossl all plain 127.0.0.1/32 scram-sha-256",
            "hostssl all plain 127.0.0.1/32 reject",
            "host all all 127.0.0.1/32 scram-sha-256",
        ],
    )
    issued = authority.issue_cert("localhost")
    server.add_file("server.pem", issued.cert_chain_pems[0].bytes())
    server.add_file("server.key", issued.private_key_pem.bytes())
    server.add_file("ca.pem", authority.cert_pem.bytes())
    with server:
        asyncio.run(add_role(server, "guest"))
        asyncio.run(add_role(server, "plain", "PASSWORD 'guessed'"))
        yield server


async def add_role(server: ThrowawayPostgres, name: str, options: str = "") -> None:
    connection = await asyncpg.connect(server.url().replace("+asyncpg", ""))
    await connection.execute(f"CREATE ROLE {name} LOGIN {options}")
    await connection.close()


@NEEDS_TLS
async def test_the_right_authority_and_name_are_trusted(make_database, encrypted, files):
    database = make_database(
        encrypted.url(host="localhost"),
        tls=TlsSettings("verify-full", root_certificate=files / "ca.pem"),
        schema="public",
    )

    facts = await database.ping()

    assert facts.tls is not None
    assert facts.tls.startswith("TLSv1.")
    assert database.tls_mode == "verify-full"


@NEEDS_TLS
async def test_libpqs_options_in_the_url_do_the_same(make_database, encrypted, files):
    url = encrypted.url(host="localhost")
    database = make_database(
        f"{url}?sslmode=verify-full&sslrootcert={files / 'ca.pem'}", schema="public"
    )

    facts = await database.ping()

    assert facts.tls is not None
    assert database.tls_mode == "verify-full"


@NEEDS_TLS
@pytest.mark.parametrize("mode", ["require", "verify-full"])
async def test_a_strange_authority_is_refused(make_database, encrypted, files, mode):
    database = make_database(
        encrypted.url(host="localhost"),
        tls=TlsSettings(mode, root_certificate=files / "stranger.pem"),
        schema="public",
    )

    with pytest.raises(ConfigurationError, match=r"TLS.* authority"):
        await database.ping()


@NEEDS_TLS
async def test_the_systems_authorities_do_not_vouch_for_ours(make_database, encrypted):
    database = make_database(
        encrypted.url(host="localhost"), tls=TlsSettings("verify-full"), schema="public"
    )

    with pytest.raises(ConfigurationError, match=r"TLS.* authority"):
        await database.ping()


@NEEDS_TLS
async def test_another_host_name_is_refused_and_only_by_verify_full(
    make_database, encrypted, files
):
    authority = files / "ca.pem"
    by_address = encrypted.url(host="127.0.0.1")
    full = make_database(
        by_address, tls=TlsSettings("verify-full", root_certificate=authority), schema="public"
    )
    authority_only = make_database(
        by_address, tls=TlsSettings("require", root_certificate=authority), schema="public"
    )

    with pytest.raises(ConfigurationError, match=r"TLS.* host name"):
        await full.ping()
    assert (await authority_only.ping()).tls is not None


@NEEDS_TLS
@pytest.mark.parametrize("mode", ["prefer", "require"])
async def test_without_an_authority_it_is_encrypted_for_whoever_it_is(
    make_database, encrypted, mode
):
    database = make_database(encrypted.url(), tls=TlsSettings(mode), schema="public")

    assert (await database.ping()).tls is not None


@NEEDS_TLS
async def test_disabled_is_plain(make_database, encrypted):
    database = make_database(encrypted.url(), tls=TlsSettings("disable"), schema="public")

    assert (await database.ping()).tls is None


@NEEDS_TLS
async def test_a_certificate_opens_the_door_for_a_role_without_password(
    make_database, encrypted, files
):
    url = encrypted.url(user="guest", password="", host="localhost")
    authority = files / "ca.pem"
    shown = make_database(
        url,
        tls=TlsSettings(
            "verify-full",
            root_certificate=authority,
            certificate=files / "client.pem",
            key=files / "client.key",
        ),
        schema="public",
    )
    hidden = make_database(
        url, tls=TlsSettings("verify-full", root_certificate=authority), schema="public"
    )

    assert (await shown.ping()).tls is not None
    with pytest.raises(ConfigurationError):
        await hidden.ping()


@NEEDS_TLS
async def test_a_key_that_is_encrypted_asks_nobody_on_the_terminal(make_database, files, tmp_path):
    key = tmp_path / "encrypted.key"
    pem = (files / "client.key").read_text().splitlines()
    pem[1:1] = ["Proc-Type: 4,ENCRYPTED", f"DEK-Info: AES-128-CBC,{'0' * 32}", ""]
    key.write_text("\n".join(pem))

    with pytest.raises(ConfigurationError, match="encrypted"):
        make_database(
            "postgresql://guest@localhost/tests",
            tls=TlsSettings("require", certificate=files / "client.pem", key=key),
        )


@NEEDS_TLS
@pytest.mark.parametrize(
    ("name", "words"), [("foreign", "refuses this client"), ("expired", "has expired")]
)
async def test_a_client_certificate_that_the_server_refuses_is_a_matter_of_configuration(
    make_database, encrypted, files, name, words
):
    database = make_database(
        encrypted.url(user="guest", password="", host="localhost"),
        tls=TlsSettings(
            "verify-full",
            root_certificate=files / "ca.pem",
            certificate=files / f"{name}.pem",
            key=files / f"{name}.key",
        ),
        schema="public",
        connect_timeout=30.0,
    )

    for _ in range(5):
        with pytest.raises(ConfigurationError, match=rf"TLS: PostgreSQL at localhost.*{words}"):
            await database.ping()


@pytest.fixture(scope="module")
def expired(
    tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA
) -> Iterator[ThrowawayPostgres]:
    """A server whose certificate has expired."""
    server = ThrowawayPostgres(
        tmp_path_factory.mktemp("expired"),
        programs=PROGRAMS,
        settings={"ssl": "on", "ssl_cert_file": "server.pem", "ssl_key_file": "server.key"},
    )
    issued = authority.issue_cert("localhost", **LONG_AGO)
    server.add_file("server.pem", issued.cert_chain_pems[0].bytes())
    server.add_file("server.key", issued.private_key_pem.bytes())
    with server:
        yield server


@NEEDS_TLS
async def test_an_expired_certificate_of_the_server_is_reported_as_expired(
    make_database, expired, files
):
    tls = TlsSettings("verify-full", root_certificate=files / "ca.pem")
    database = make_database(expired.url(host="localhost"), tls=tls, schema="public")

    with pytest.raises(ConfigurationError, match=r"certificate of PostgreSQL .* has expired"):
        await database.ping()


# Whoever strips TLS from the way answers like a server that has none.


@pytest.mark.parametrize("mode", ["require", "verify-full"])
async def test_a_server_without_tls_is_refused_where_tls_is_demanded(make_database, server, mode):
    database = make_database(server.url(), tls=TlsSettings(mode), schema="public")

    with pytest.raises(ConfigurationError, match="does not support TLS"):
        await database.ping()


async def test_a_server_without_tls_will_do_where_it_is_only_preferred(make_database, server):
    database = make_database(server.url(), tls=TlsSettings("prefer"), schema="public")

    assert (await database.ping()).tls is None


async def test_a_url_cannot_talk_the_demand_away(make_database, server):
    database = make_database(
        f"{server.url()}?sslmode=disable", tls=TlsSettings("verify-full"), schema="public"
    )

    with pytest.raises(ConfigurationError, match="does not support TLS"):
        await database.ping()


async def test_a_connection_that_breaks_off_during_the_handshake_is_an_outage(make_database):
    def hang_up(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        connection.recv(8)
        connection.sendall(b"S")
        connection.recv(1)
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        database = make_database(
            f"postgresql://guest@127.0.0.1:{port}/tests",
            tls=TlsSettings("require"),
            schema="public",
        )
        hanging_up = asyncio.create_task(asyncio.to_thread(hang_up, listener))
        with pytest.raises(UnavailableError):
            await database.ping()
        await hanging_up


# Linux and macOS connect 0.0.0.0 to this machine, but nobody can tell that from the address.

OTHER_MACHINE = "0.0.0.0"  # noqa: S104 - nothing is bound to it
CLEARTEXT_REQUEST = b"R\0\0\0\x08\0\0\0\x03"
AUTHENTICATED = b"R\0\0\0\x08\0\0\0\0"
PARAMETER = b"S\0\0\0\x19server_encoding\0UTF8\0"


@pytest.fixture(scope="module")
def cleartext(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThrowawayPostgres]:
    """A server without TLS that asks the role guest for its password in clear text."""
    server = ThrowawayPostgres(
        tmp_path_factory.mktemp("cleartext"),
        hba=[
            "host all guest 127.0.0.1/32 password",
            "host all all 127.0.0.1/32 scram-sha-256",
        ],
    )
    with server:
        asyncio.run(add_role(server, "guest", "PASSWORD 'guessed'"))
        yield server


@asynccontextmanager
async def pretending(parts: list[bytes]) -> AsyncIterator[tuple[int, bytearray]]:
    """Refuses TLS, answers the start-up message by some bytes, and notes what comes back."""
    received = bytearray()
    answering: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.current_task())
        with suppress(ConnectionError):
            length = int.from_bytes(await reader.readexactly(4), "big")
            await reader.readexactly(length - 4)
            answers = [b"N"] if length == len(b"12345678") else parts
            for part in answers:
                writer.write(part)
                await asyncio.sleep(0.01)
            received.extend(await reader.read())
        writer.transport.abort()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1], received
    await asyncio.wait(answering)
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize(
    "parts",
    [
        [CLEARTEXT_REQUEST],
        [CLEARTEXT_REQUEST[:3], CLEARTEXT_REQUEST[3:]],
        [AUTHENTICATED + CLEARTEXT_REQUEST],
        [AUTHENTICATED + PARAMETER[:9], PARAMETER[9:] + CLEARTEXT_REQUEST],
    ],
    ids=["at once", "in two parts", "after authentication", "after a parameter"],
)
async def test_a_password_is_not_sent_in_clear_text_to_another_machine(make_database, parts):
    async with pretending(parts) as (port, received):
        database = make_database(f"postgresql://guest:guessed@{OTHER_MACHINE}:{port}/tests")
        with pytest.raises(ConfigurationError, match="clear text"):
            await database.ping()

    assert received == b""


async def test_a_real_server_that_asks_for_clear_text_is_refused_by_name(make_database, cleartext):
    url = cleartext.url(user="guest", password="guessed", host=OTHER_MACHINE)
    database = make_database(url, schema="public")

    with pytest.raises(ConfigurationError, match=rf"0\.0\.0\.0:{cleartext.port} .*scram-sha-256"):
        await database.ping()


@pytest.mark.parametrize(("host", "mode"), [(OTHER_MACHINE, "disable"), ("127.0.0.1", "prefer")])
async def test_clear_text_is_for_this_machine_or_on_request(make_database, cleartext, host, mode):
    url = cleartext.url(user="guest", password="guessed", host=host)
    database = make_database(url, tls=TlsSettings(mode), schema="public")

    assert (await database.ping()).tls is None


async def test_an_unencrypted_connection_to_another_machine_is_one_warning(
    make_database, cleartext, caplog
):
    database = make_database(cleartext.url(host=OTHER_MACHINE), schema="public")

    await asyncio.gather(*(database.ping() for _ in range(4)))

    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("connection_not_encrypted backend='postgres'")
    assert f"to {OTHER_MACHINE}:{cleartext.port} is not encrypted" in record.getMessage()
    assert cleartext.password not in caplog.text
    assert database.encryption_warning is not None


async def test_an_unencrypted_connection_to_this_machine_is_no_warning(
    make_database, cleartext, caplog
):
    database = make_database(cleartext.url(), schema="public")

    await database.ping()

    assert database.encryption_warning is None
    assert not caplog.records


@NEEDS_TLS
async def test_an_encrypted_connection_to_another_machine_is_no_warning(
    make_database, encrypted, caplog
):
    database = make_database(encrypted.url(host=OTHER_MACHINE), schema="public")

    assert (await database.ping()).tls is not None
    assert database.encryption_warning is None
    assert not caplog.records


@NEEDS_TLS
async def test_a_rule_for_unencrypted_connections_only_is_followed_where_tls_is_preferred(
    make_database, encrypted
):
    url = encrypted.url(user="plain", password="guessed")
    preferred = make_database(url, tls=TlsSettings("prefer"), schema="public")
    required = make_database(url, tls=TlsSettings("require"), schema="public")

    assert (await preferred.ping()).tls is None
    with pytest.raises(ConfigurationError):
        await required.ping()
