"""Encrypted connections: nothing is taken on trust, and nothing in the URL weakens them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from redis.asyncio import Redis

from test_coordinator_data_adapter.adapters.redis import (
    Keyspace,
    KeyspaceSettings,
    RedisCacheRepository,
)
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    OutcomeUnknownError,
    UnavailableError,
)
from test_coordinator_data_adapter.testing.servers import ThrowawayValkey, system_redis_program
from test_coordinator_data_adapter.tls import TlsSettings


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def ca_file(authority, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("ca") / "ca.pem"
    authority.cert_pem.write_to_path(str(file))
    return file


@pytest.fixture(scope="module")
def client_file(authority, tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("client") / "client.pem"
    authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(
        str(file)
    )
    return file


@pytest.fixture(scope="module")
def encrypted_server(authority, tmp_path_factory):
    """Starts servers that speak nothing but TLS."""
    program = system_redis_program()
    if program is None:
        pytest.skip("no redis-server with TLS is installed; the wheel's Valkey has none")

    with contextlib.ExitStack() as started:

        def start(
            name: str = "127.0.0.1", *, wants_clients: str = "no", config: Sequence[str] = ()
        ) -> str:
            server = ThrowawayValkey(
                tmp_path_factory.mktemp("tls"),
                program=program,
                has_plain_port=False,
                config=[
                    "tls-cert-file server.pem",
                    "tls-key-file server.pem",
                    "tls-ca-cert-file ca.pem",
                    f"tls-auth-clients {wants_clients}",
                    *config,
                ],
            )
            server.config.append(f"tls-port {server.port}")
            issued = authority.issue_cert(name)
            server.add_file("server.pem", issued.private_key_and_cert_chain_pem.bytes())
            server.add_file("ca.pem", authority.cert_pem.bytes())
            started.enter_context(server)
            return server.url().replace("redis://", "rediss://")

        yield start


@pytest.fixture(scope="module")
def url(encrypted_server) -> str:
    return encrypted_server()


def verified_by(ca_file: Path, *, certificate: Path | None = None) -> TlsSettings:
    return TlsSettings(mode="verify-full", root_certificate=ca_file, certificate=certificate)


async def refusal(settings: KeyspaceSettings) -> AdapterError:
    """What a first question ends with."""
    keyspace = Keyspace(settings)
    try:
        with pytest.raises(AdapterError) as refused:
            await keyspace.probe()
    finally:
        await keyspace.aclose()
    return refused.value


async def test_a_server_with_a_trusted_certificate_is_spoken_to(url, ca_file):
    keyspace = Keyspace(KeyspaceSettings(url=url, namespace="test:tls", tls=verified_by(ca_file)))
    cache = RedisCacheRepository(keyspace)

    await cache.set("key", {"large": "x" * 200_000})

    assert keyspace.encrypted
    assert await cache.get("key") == {"large": "x" * 200_000}
    await cache.aclose()
    await keyspace.aclose()


async def test_a_certificate_of_an_unknown_authority_is_refused(url):
    error = await refusal(KeyspaceSettings(url=url, namespace="test:tls"))

    assert type(error) is ConfigurationError
    assert "redis_tls_ca" in str(error)


async def test_a_certificate_of_another_host_is_refused(encrypted_server, ca_file):
    elsewhere = encrypted_server("elsewhere.example")

    error = await refusal(
        KeyspaceSettings(url=elsewhere, namespace="test:tls", tls=verified_by(ca_file))
    )

    assert type(error) is ConfigurationError


async def test_a_client_shows_its_own_certificate(encrypted_server, ca_file, client_file):
    strict = encrypted_server(wants_clients="yes")
    tls = verified_by(ca_file, certificate=client_file)
    keyspace = Keyspace(KeyspaceSettings(url=strict, namespace="test:tls", tls=tls))

    await keyspace.probe()

    await keyspace.aclose()


async def test_a_client_without_a_certificate_is_not_served_where_one_is_wanted(
    encrypted_server, ca_file
):
    strict = encrypted_server(wants_clients="yes")

    # In TLS 1.3 the server says no after the handshake, and may hang up before that arrives:
    # whether it is a matter of configuration cannot always be told.
    await refusal(KeyspaceSettings(url=strict, namespace="test:tls", tls=verified_by(ca_file)))


async def test_an_unencrypted_client_is_not_served(url):
    plain = url.replace("rediss://", "redis://")

    await refusal(KeyspaceSettings(url=plain, namespace="test:tls"))


async def test_a_server_without_tls_is_not_spoken_to_in_the_clear(redis_server, ca_file):
    encrypted = redis_server.url.replace("redis://", "rediss://")

    await refusal(
        KeyspaceSettings(
            url=encrypted, namespace="test:tls", tls=verified_by(ca_file), connect_timeout=0.5
        )
    )


@pytest.mark.parametrize("name", ["root_certificate", "certificate"])
def test_a_certificate_that_cannot_be_read_is_a_matter_of_configuration(tmp_path, name):
    tls = TlsSettings(mode="verify-full", **{name: tmp_path / "missing.pem"})

    with pytest.raises(ConfigurationError, match="redis_tls_"):
        Keyspace(KeyspaceSettings(url="rediss://127.0.0.1", namespace="test:tls", tls=tls))


WITH_A_TERMINAL = """
import fcntl, sys, termios
from pathlib import Path
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from test_coordinator_data_adapter.adapters.redis import Keyspace, KeyspaceSettings
from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.tls import TlsSettings
try:
    tls = TlsSettings("verify-full", None, Path(sys.argv[1]), Path(sys.argv[2]))
    Keyspace(KeyspaceSettings(url="rediss://127.0.0.1", namespace="n", tls=tls))
except ConfigurationError as refused:
    print(refused)
"""


def test_an_encrypted_key_is_refused_and_nobody_at_a_terminal_is_asked(
    authority, client_file, tmp_path
):
    key = load_pem_private_key(client_file.read_bytes(), None)
    encryption = BestAvailableEncryption(b"secret")
    file = tmp_path / "key.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    terminal, stdin = os.openpty()

    told = subprocess.run(
        [sys.executable, "-c", WITH_A_TERMINAL, client_file, file],
        stdin=stdin,
        capture_output=True,
        check=True,
        encoding="utf-8",
        start_new_session=True,
        timeout=60,
    )
    os.close(terminal)
    os.close(stdin)

    assert "redis_tls_key" in told.stdout
    assert told.stderr == ""


@pytest.mark.parametrize("topology", ["one server", "cluster"])
async def test_a_reply_that_was_garbled_leaves_the_outcome_of_a_write_unknown(
    encrypted_server, ca_file, proxy_to, topology
):
    cluster = topology == "cluster"
    config = ["cluster-enabled yes", "tls-cluster yes"] if cluster else []
    direct = encrypted_server(config=config).rpartition("/")[0]
    proxy = await proxy_to(direct)
    async with Redis.from_url(direct, ssl_ca_certs=str(ca_file)) as admin:
        if cluster:
            await admin.execute_command("CONFIG", "SET", "cluster-announce-tls-port", proxy.port)
            await admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    keyspace = Keyspace(
        KeyspaceSettings(
            url=f"rediss://127.0.0.1:{proxy.port}",
            namespace="test:garbled",
            tls=verified_by(ca_file),
            cluster=cluster,
        )
    )
    cache = RedisCacheRepository(keyspace)
    await until_answered(keyspace)

    proxy.alters = lambda reply: reply[:-1] + bytes([reply[-1] ^ 1])
    with pytest.raises(OutcomeUnknownError):
        await cache.increment("counter")
    assert await cache.get("counter") == 1
    proxy.alters = lambda reply: reply[:-1] + bytes([reply[-1] ^ 1])
    assert await cache.get("counter") == 1

    await cache.aclose()
    await keyspace.aclose()


async def test_a_cluster_is_spoken_to_encrypted(encrypted_server, ca_file):
    url = encrypted_server(config=["cluster-enabled yes", "tls-cluster yes"])
    async with Redis.from_url(url, ssl_ca_certs=str(ca_file)) as admin:
        await admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    keyspace = Keyspace(
        KeyspaceSettings(
            url=url.rpartition("/")[0],
            namespace="test:tls",
            tls=verified_by(ca_file),
            cluster=True,
        )
    )
    cache = RedisCacheRepository(keyspace)
    await until_answered(keyspace)

    await cache.set_many({"a": 1, "b": 2})

    assert await cache.get_many(["a", "b"]) == {"a": 1, "b": 2}
    await cache.aclose()
    await keyspace.aclose()


async def until_answered(keyspace: Keyspace) -> None:
    """Return once the cluster of one node has found out that it is complete."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(UnavailableError):
                return await keyspace.probe()
            await asyncio.sleep(0.02)
