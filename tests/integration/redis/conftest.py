"""A user, a namespace and a registry of each test's own, on the session's server or another."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import socket
import struct
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis
from redis.asyncio import Redis

from test_coordinator_data_adapter.adapters.redis import (
    Keyspace,
    KeyspaceSettings,
    RedisCacheRepository,
    RedisServiceDiscoveryRepository,
)
from test_coordinator_data_adapter.adapters.redis.acl import acl_rules
from test_coordinator_data_adapter.resilience.observation import Hooks, Trip
from test_coordinator_data_adapter.testing.servers import (
    KeyspaceServer,
    ThrowawayValkey,
    system_redis_program,
)

SettingsMaker = Callable[..., KeyspaceSettings]

PLATFORM_RULES = ("resetkeys", "~test:*", "-@all", "+@read", "+@write", "+@keyspace", "-@dangerous")
"""What the platform grants, whatever the library would like."""


@dataclass(frozen=True)
class Deployment:
    """Servers, and what a user may do on them.

    Attributes:
        urls: an administrator's, of every server that holds keys.
        grants: "least" is what the library asks for, "platform" what the platform grants.
    """

    urls: tuple[str, ...]
    grants: str = "least"

    @property
    def is_cluster(self) -> bool:
        return len(self.urls) > 1

    def rules(self, namespace: str, registry: str) -> tuple[str, ...]:
        if self.grants == "platform":
            return PLATFORM_RULES
        return acl_rules(
            namespace, registry, topology="cluster" if self.is_cluster else "standalone"
        )


@pytest.fixture
def deployment(redis_server: KeyspaceServer) -> Deployment:
    return Deployment((redis_server.url,))


@pytest.fixture
def deployment_of() -> type[Deployment]:
    return Deployment


@pytest.fixture
async def admins(deployment: Deployment) -> AsyncIterator[list[Redis]]:
    async with AsyncExitStack() as opened:
        yield [await opened.enter_async_context(Redis.from_url(url)) for url in deployment.urls]


@pytest.fixture
def admin(admins: list[Redis]) -> Redis:
    return admins[0]


@pytest.fixture
async def settings_for(deployment: Deployment, admins: list[Redis]) -> AsyncIterator[SettingsMaker]:
    """Settings of a namespace that nobody else has, for a user with nothing but its rights."""
    number = itertools.count()
    run, password = uuid.uuid4().hex[:12], secrets.token_urlsafe(12)
    users: list[str] = []

    def make(**changes: object) -> KeyspaceSettings:
        user = f"{run}-{next(number)}"
        namespace = str(changes.pop("namespace", f"test:{user}"))
        registry = f"test:{run}:services:"
        for url in deployment.urls:
            with redis.Redis.from_url(url) as blocking:
                blocking.execute_command(
                    *("ACL", "SETUSER", user, "on", f">{password}"),
                    *deployment.rules(namespace, registry),
                )
        users.append(user)
        parts = urlsplit(deployment.urls[0])
        place = parts.netloc.rpartition("@")[2]
        return KeyspaceSettings(
            **{
                "url": urlunsplit(parts._replace(netloc=f"{user}:{password}@{place}")),
                "namespace": namespace,
                "registry": registry,
                "cluster": deployment.is_cluster,
                **changes,
            }
        )

    yield make
    for admin in admins:
        removing = admin.pipeline(transaction=False)
        async for key in admin.scan_iter(f"test:{run}*", count=10_000):
            removing.unlink(key)  # one by one: on a cluster they are of different slots
        await removing.execute()
        await admin.execute_command("ACL", "DELUSER", *users, "nobody-at-all")


@pytest.fixture
async def trips() -> list[Trip]:
    """What the keyspace was told of."""
    return []


@pytest.fixture
async def keyspace(settings_for: SettingsMaker, trips: list[Trip]) -> AsyncIterator[Keyspace]:
    opened = Keyspace(settings_for(), hooks_at=lambda place: Hooks(on_trip=trips.append))
    yield opened
    assert opened.pool_use().in_use == 0
    await opened.aclose()
    assert opened.pool_use().open == 0


@pytest.fixture
async def cache(keyspace: Keyspace) -> AsyncIterator[RedisCacheRepository]:
    repository = RedisCacheRepository(keyspace)
    yield repository
    await repository.aclose()


@pytest.fixture
def services(keyspace: Keyspace) -> RedisServiceDiscoveryRepository:
    return RedisServiceDiscoveryRepository(keyspace)


@pytest.fixture(scope="session")
def redis_7(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the system's own Redis 7.0, unless there is none."""
    program = system_redis_program()
    if program is None:
        pytest.skip("no redis-server is installed on this machine")
    with ThrowawayValkey(tmp_path_factory.mktemp("redis-7"), program=program) as server:
        yield server.url()


@pytest.fixture(scope="session")
def form_cluster() -> Callable[[list[ThrowawayValkey]], None]:
    """Gives each node its share of the slots, and lets all know each other."""
    return _form_cluster


@pytest.fixture(scope="session")
def cluster_urls(
    tmp_path_factory: pytest.TempPathFactory,
    form_cluster: Callable[[list[ThrowawayValkey]], None],
) -> Iterator[tuple[str, ...]]:
    """The URLs of the three nodes of a cluster."""
    folder = tmp_path_factory.mktemp("cluster")
    config = ["cluster-enabled yes", "cluster-node-timeout 60000"]
    with contextlib.ExitStack() as started:
        nodes = [
            started.enter_context(ThrowawayValkey(folder / str(number), config=config))
            for number in range(3)
        ]
        form_cluster(nodes)
        yield tuple(node.url() for node in nodes)


def _form_cluster(nodes: list[ThrowawayValkey]) -> None:
    with contextlib.ExitStack() as opened:
        admins = [
            opened.enter_context(redis.Redis(host=node.host, port=node.port)) for node in nodes
        ]
        share = 16384 // len(nodes)
        for number, admin in enumerate(admins):
            last = 16383 if number == len(nodes) - 1 else (number + 1) * share - 1
            admin.execute_command("CLUSTER", "ADDSLOTSRANGE", number * share, last)
            admins[0].execute_command("CLUSTER", "MEET", nodes[number].host, nodes[number].port)
        deadline = time.monotonic() + 120
        while not all(_knows(admin, len(nodes)) for admin in admins):
            assert time.monotonic() < deadline, "the cluster did not form"
            time.sleep(0.02)


def _knows(admin: redis.Redis, nodes: int) -> bool:
    facts = admin.cluster("info")
    return facts["cluster_state"] == "ok" and facts["cluster_known_nodes"] == str(nodes)


@pytest.fixture
def server_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("server")


class Proxy:
    """Passes everything on to a server, and loses, delays or garbles what a test wants.

    Attributes:
        port: where it listens, on 127.0.0.1.
        sends: while it is cleared, requests are kept back; they are sent on when it is set, also
            those of clients that have given up meanwhile.
        alters: gets the next replies of the server; what it returns is passed on instead.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._clients: set[asyncio.StreamWriter] = set()
        self._dropped: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0
        self.sends = asyncio.Event()
        self.sends.set()
        self.alters: Callable[[bytes], bytes] | None = None

    async def open(self, port: int = 0) -> None:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", port)
        self.port = self._listening.sockets[0].getsockname()[1]

    def lead_to(self, url: str) -> None:
        """Pass on to another server from the next connection on."""
        parts = urlsplit(url)
        self._target = parts.hostname or "127.0.0.1", parts.port or 6379

    def refuse(self) -> None:
        """Let nobody connect any more."""
        self._listening.close()

    def drop(self) -> None:
        """Say nothing on the open connections any more, as a firewall that has forgotten them."""
        self._dropped |= self._clients

    def reset(self) -> None:
        """End the open connections abruptly."""
        for client in self._clients:
            client.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
            client.transport.abort()

    async def close(self) -> None:
        self.refuse()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _serve(self, requests: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._clients.add(client)
        self.connections += 1
        try:
            replies, server = await asyncio.open_connection(*self._target)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass_requests(requests, server, client))
                    both.create_task(self._pass_replies(replies, client))
            finally:
                server.transport.abort()
        except (OSError, ExceptionGroup):
            pass
        finally:
            self._clients.discard(client)
            self._serving.discard(task)
            client.transport.abort()

    async def _pass_requests(
        self,
        requests: asyncio.StreamReader,
        server: asyncio.StreamWriter,
        client: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await requests.read(65536):
                await self.sends.wait()
                if client not in self._dropped:
                    server.write(data)
        # What was sent before the client gave up arrives nevertheless.
        await asyncio.sleep(0.1)
        server.close()

    async def _pass_replies(
        self, replies: asyncio.StreamReader, client: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await replies.read(65536):
                alter, self.alters = self.alters, None
                if client not in self._dropped:
                    client.write(alter(data) if alter else data)
        client.close()


@pytest.fixture
async def proxy_to() -> AsyncIterator[Callable[[str], Awaitable[Proxy]]]:
    """Opens proxies to the servers of URLs."""
    opened: list[Proxy] = []

    async def proxy_to(url: str) -> Proxy:
        parts = urlsplit(url)
        proxy = Proxy(parts.hostname or "127.0.0.1", parts.port or 6379)
        await proxy.open()
        opened.append(proxy)
        return proxy

    yield proxy_to
    for proxy in opened:
        await proxy.close()
