"""The way to a server with TLS, without it, and with somebody in between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
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

PROGRAMS = system_postgres_programs()
NEEDS_TLS = pytest.mark.skipif(
    PROGRAMS is None, reason="no PostgreSQL of the system, and that of the wheel has no TLS"
)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> Path:
    """ca.pem, stranger.pem (another authority), client.pem and client.key."""
    folder = tmp_path_factory.mktemp("certificates")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(folder / "stranger.pem"))
    client = authority.issue_cert("guest@example.org", common_name="guest")
    client.cert_chain_pems[0].write_to_path(str(folder / "client.pem"))
    client.private_key_pem.write_to_path(str(folder / "client.key"))
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
            "host all all 127.0.0.1/32 scram-sha-256",
        ],
    )
    issued = authority.issue_cert("localhost")
    server.add_file("server.pem", issued.cert_chain_pems[0].bytes())
    server.add_file("server.key", issued.private_key_pem.bytes())
    server.add_file("ca.pem", authority.cert_pem.bytes())
    with server:
        asyncio.run(add_guest(server))
        yield server


async def add_guest(server: ThrowawayPostgres) -> None:
    connection = await asyncpg.connect(server.url().replace("+asyncpg", ""))
    await connection.execute("CREATE ROLE guest LOGIN")
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


# Whoever strips TLS from the way answers like a server that has none.


@pytest.mark.parametrize("mode", ["require", "verify-full"])
async def test_a_server_without_tls_is_refused_where_tls_is_demanded(make_database, server, mode):
    database = make_database(server.url(), tls=TlsSettings(mode), schema="public")

    with pytest.raises(ConfigurationError, match="speaks no TLS"):
        await database.ping()


async def test_a_server_without_tls_will_do_where_it_is_only_preferred(make_database, server):
    database = make_database(server.url(), tls=TlsSettings("prefer"), schema="public")

    assert (await database.ping()).tls is None


async def test_a_url_cannot_talk_the_demand_away(make_database, server):
    database = make_database(
        f"{server.url()}?sslmode=disable", tls=TlsSettings("verify-full"), schema="public"
    )

    with pytest.raises(ConfigurationError, match="speaks no TLS"):
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
