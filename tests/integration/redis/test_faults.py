"""A server that dies, freezes, forgets, fills up: every call ends in time with the right error."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import cast

import pytest
import redis
from redis.asyncio import Redis

from test_coordinator_data_adapter.adapters.redis import (
    Keyspace,
    KeyspaceSettings,
    RedisBackend,
    RedisCacheRepository,
    RedisServiceDiscoveryRepository,
)
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    NotFoundError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)
from test_coordinator_data_adapter.resilience.observation import Hooks, PoolUse
from test_coordinator_data_adapter.testing.builders import a_service
from test_coordinator_data_adapter.testing.servers import ThrowawayValkey, system_redis_program

DEADLINE = 0.4
IMPATIENT = dict.fromkeys(("pool_timeout", "connect_timeout", "socket_timeout"), DEADLINE)
IN_TIME = 3 * DEADLINE + 1.0
"""Waiting, connecting, the trip; and the second that is allowed on top."""


@pytest.fixture
def server(server_folder):
    with ThrowawayValkey(server_folder, config=["enable-debug-command yes"]) as server:
        yield server


@pytest.fixture
async def keyspace(server):
    """One with long deadlines: nothing fails because the machine is busy."""
    opened = Keyspace(settings_of(server))
    yield opened
    assert opened.pool_use().in_use == 0
    await opened.aclose()


@pytest.fixture
async def watched(server, trips):
    """Makes keyspaces of which it is told what they send."""
    opened: list[Keyspace] = []

    def make(**settings: object) -> Keyspace:
        opened.append(
            Keyspace(
                settings_of(server, **settings), hooks_at=lambda _: Hooks(on_trip=trips.append)
            )
        )
        return opened[-1]

    yield make
    for keyspace in opened:
        assert keyspace.pool_use().in_use == 0
        await keyspace.aclose()


@pytest.fixture
async def admin(server):
    async with Redis.from_url(server.url()) as client:
        yield client


def settings_of(server: ThrowawayValkey, **changes: object) -> KeyspaceSettings:
    return KeyspaceSettings(
        **{
            "url": server.url(),
            "namespace": "test:faults",
            "pool_size": 4,
            "pool_timeout": 60,
            "connect_timeout": 60,
            "socket_timeout": 60,
            **changes,
        }
    )


READING_FIRST = ("update_heartbeat", "remove_stale_services", "deregister")
"""The writes that begin with a read: while that fails, nothing was applied."""


def reads(cache: RedisCacheRepository, services: RedisServiceDiscoveryRepository):
    return {
        "get": lambda: cache.get("key"),
        "get_many": lambda: cache.get_many(["a", "b"]),
        "exists": lambda: cache.exists("key"),
        "get_ttl": lambda: cache.get_ttl("key"),
        "keys": cache.keys,
        "get_service_by_id": lambda: services.get_service_by_id("id"),
        "list_services_by_name": lambda: services.list_services_by_name("name"),
        "list_all_services": services.list_all_services,
        "get_service_count": services.get_service_count,
        "is_service_healthy": lambda: services.is_service_healthy("id", 1),
    }


def writes(cache: RedisCacheRepository, services: RedisServiceDiscoveryRepository):
    return {
        "set": lambda: cache.set("key", 1),
        "set_many": lambda: cache.set_many({"a": 1, "b": 2}),
        "delete": lambda: cache.delete("key"),
        "delete_many": lambda: cache.delete_many(["a", "b"]),
        "expire": lambda: cache.expire("key", 10),
        "increment": lambda: cache.increment("key"),
        "register": lambda: services.register(a_service()),
        "update_heartbeat": lambda: services.update_heartbeat("id"),
        "remove_stale_services": lambda: services.remove_stale_services(10),
        "deregister": lambda: services.deregister("id"),
    }


@pytest.fixture
def outcomes(outcome):
    """Tells how each of many calls at once ends, the value None being one way; each in time."""

    async def outcomes(calls: dict[str, Callable[[], Awaitable[object]]]) -> dict[str, type | None]:
        ended = await asyncio.gather(*(outcome(call()) for call in calls.values()))
        assert max(seconds for _, seconds in ended) < IN_TIME
        return {
            name: type(answer) if isinstance(answer, Exception) else None
            for name, (answer, _) in zip(calls, ended, strict=True)
        }

    return outcomes


async def connected(keyspace: Keyspace, number: int) -> None:
    """Return when so many connections are open, however short the deadlines are."""
    async with asyncio.timeout(60):
        while keyspace.pool_use().open < number:
            probes = (keyspace.probe() for _ in range(number))
            await asyncio.gather(*probes, return_exceptions=True)


async def answers(keyspace: Keyspace) -> None:
    """Return when the server does."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(AdapterError):
                return await keyspace.probe()
            await asyncio.sleep(0.02)


def repositories(keyspace: Keyspace):
    return RedisCacheRepository(keyspace), RedisServiceDiscoveryRepository(keyspace)


async def test_nothing_is_applied_while_the_server_is_down(server, keyspace, outcomes):
    calls = {**reads(*repositories(keyspace)), **writes(*repositories(keyspace))}
    server.kill()

    ended = await outcomes(calls)

    assert ended == dict.fromkeys(calls, UnavailableError)


async def test_a_frozen_server_leaves_writes_unknown_and_reads_undone(server, outcomes):
    keyspace = Keyspace(settings_of(server, pool_size=30, **IMPATIENT))
    asked, told = reads(*repositories(keyspace)), writes(*repositories(keyspace))
    await connected(keyspace, 30)
    server.freeze()

    ended = await outcomes({**asked, **told})

    server.thaw()
    assert ended == {
        **dict.fromkeys(asked, UnavailableError),
        **dict.fromkeys(told, OutcomeUnknownError),
        **dict.fromkeys(READING_FIRST, UnavailableError),
    }
    await answers(keyspace)
    await keyspace.aclose()


async def test_calls_that_find_all_connections_frozen_are_overload(server, outcomes):
    keyspace = Keyspace(settings_of(server, pool_size=1, pool_timeout=0.1, socket_timeout=1))
    cache = RedisCacheRepository(keyspace)
    await answers(keyspace)
    server.freeze()

    ended = await outcomes(
        {"first": lambda: cache.set("a", 1), "second": lambda: cache.set("b", 1)}
    )

    server.thaw()
    assert ended == {"first": OutcomeUnknownError, "second": OverloadedError}
    await keyspace.aclose()


async def test_after_a_restart_every_repeatable_call_succeeds_at_once(server, keyspace):
    cache, services = repositories(keyspace)
    service = await services.register(a_service())
    await asyncio.gather(*(keyspace.probe() for _ in range(4)))

    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)

    assert await cache.get("key") is None
    assert await cache.set("key", 1)
    assert await services.get_service_by_id(service.service_id) is None
    with pytest.raises(NotFoundError):
        await services.update_heartbeat(service.service_id)


async def test_a_connection_that_died_unnoticed_costs_what_may_be_repeated_nothing(
    server, keyspace
):
    cache, services = repositories(keyspace)
    service = await services.register(a_service())
    await cache.set("key", 1)

    hang_up(server)
    assert await cache.get("key") == 1
    hang_up(server)
    assert await cache.set_many({"key": 2, "other": 2})
    hang_up(server)
    assert await services.update_heartbeat(service.service_id)
    assert keyspace.pool_use().open == 1


async def test_trips_that_are_late_are_told_as_timed_out_with_how_long_they_waited(
    server, watched, trips
):
    keyspace = watched(pool_size=1, pool_timeout=0.1, socket_timeout=0.5)
    cache, _ = repositories(keyspace)
    await answers(keyspace)
    trips.clear()
    server.freeze()

    await asyncio.gather(cache.set("a", 1), cache.set("b", 1), return_exceptions=True)

    server.thaw()
    first, second = sorted(trips, key=lambda trip: trip.took, reverse=True)
    assert (type(first.error), first.timed_out) == (OutcomeUnknownError, True)
    assert first.took > 0.4
    assert (type(second.error), second.timed_out) == (OverloadedError, True)
    assert (second.waited > 0.09, second.took) == (True, 0.0)


async def test_when_redis_last_answered_is_known(server, watched):
    keyspace = watched(socket_timeout=0.2)
    moments = [keyspace.answered_at, time.monotonic()]
    await keyspace.probe()
    moments += [keyspace.answered_at, time.monotonic()]
    server.freeze()
    with pytest.raises(UnavailableError):
        await keyspace.probe()
    server.thaw()

    assert moments == sorted(moments)
    assert keyspace.answered_at == moments[2]


async def test_calls_under_way_are_counted_and_told_as_abandoned_when_they_are_cancelled(
    server, watched, trips
):
    keyspace = watched(pool_size=2)
    await asyncio.gather(keyspace.probe(), keyspace.probe())
    free = keyspace.pool_use()
    trips.clear()
    server.freeze()
    calls = [asyncio.create_task(keyspace.probe()) for _ in range(5)]
    async with asyncio.timeout(60):
        while keyspace.pool_use().in_use < 2:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    busy = keyspace.pool_use()

    for call in calls:
        call.cancel()
    await asyncio.wait(calls)

    server.thaw()
    assert free == PoolUse(size=2, limit=2, open=2, in_use=0, waiting=0)
    assert busy == PoolUse(size=2, limit=2, open=2, in_use=2, waiting=3)
    assert [(trip.abandoned, trip.timed_out) for trip in trips] == [(True, False)] * 5


class Relay:
    """Passes everything on to a server, until told to lose the next answer."""

    def __init__(self, server: ThrowawayValkey) -> None:
        self._server = server
        self._streams: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[object]] = set()
        self.listens = asyncio.Event()
        self.listens.set()
        self.loses_the_next_answer: Callable[[], Awaitable[object]] | None = None
        """What happens before the connection breaks instead of answering."""

    async def open(self) -> None:
        self._listening = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._listening.sockets[0].getsockname()[1]

    def refuse(self) -> None:
        self._listening.close()

    async def close(self) -> None:
        self.refuse()
        self.listens.set()
        for stream in self._streams:
            stream.transport.abort()
        if self._serving:
            await asyncio.wait(self._serving)

    async def _serve(self, theirs: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._serving.add(task)
        self._streams.add(back)
        await self.listens.wait()
        answers, onward = await asyncio.open_connection(self._server.host, self._server.port)
        self._streams.add(onward)
        asking = asyncio.create_task(self._pass_on(theirs, onward))
        await self._pass_on(answers, back, answering=True)
        for stream in (back, onward):
            stream.transport.abort()
        await asking
        self._serving.discard(task)

    async def _pass_on(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        *,
        answering: bool = False,
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await source.read(65536):
                if answering and self.loses_the_next_answer is not None:
                    step, self.loses_the_next_answer = self.loses_the_next_answer, None
                    await step()
                    return
                target.write(data)
        target.transport.abort()


@pytest.fixture
async def relay(server):
    relay = Relay(server)
    await relay.open()
    yield relay
    await relay.close()


@pytest.fixture
async def through(server, relay):
    """A keyspace that reaches the server by the relay."""
    url = server.url().replace(str(server.port), str(relay.port))
    opened = Keyspace(settings_of(server, url=url))
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("then", ["nobody listens", "the server is a replica", "it is closed"])
async def test_a_write_whose_answer_was_lost_is_unknown_whatever_becomes_of_its_second_try(
    relay, through, keyspace, admin, then
):
    cache, services = repositories(through)
    there, registered = repositories(keyspace)

    async def step() -> None:
        if then == "nobody listens":
            relay.refuse()
        elif then == "it is closed":
            await through.aclose()
        else:
            await admin.execute_command("REPLICAOF", "127.0.0.1", "1")

    await through.probe()
    relay.loses_the_next_answer = step
    with pytest.raises(OutcomeUnknownError):
        await cache.set("key", 1)
    assert await there.get("key") == 1

    if then == "the server is a replica":
        await admin.execute_command("REPLICAOF", "NO", "ONE")
        await through.probe()
        relay.loses_the_next_answer = step
        with pytest.raises(OutcomeUnknownError):
            await services.register(a_service(service_id="s"))
        assert await registered.get_service_by_id("s") is not None


async def test_a_read_whose_answer_was_lost_says_what_kept_it_from_a_second_try(relay, through):
    cache, _ = repositories(through)
    await through.probe()

    async def step() -> None:
        relay.refuse()

    relay.loses_the_next_answer = step
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await cache.get("key")


async def test_closing_ends_a_write_that_is_still_connecting_and_nothing_is_applied(
    server, relay, keyspace, outcome
):
    relay.listens.clear()
    # To be let in takes an answer, so that the write has to wait for it.
    url = f"redis://default:any@127.0.0.1:{relay.port}"
    through = Keyspace(settings_of(server, url=url))
    writing = asyncio.create_task(outcome(repositories(through)[0].set("key", 1)))
    await asyncio.sleep(0.05)

    await through.aclose()
    answer, _ = await asyncio.wait_for(writing, 60)

    assert type(answer) is UnavailableError
    assert "closed" in str(answer)
    relay.listens.set()
    await asyncio.sleep(0.1)
    assert await repositories(keyspace)[0].get("key") is None


async def test_a_request_that_was_sent_again_is_told_as_such(relay, server, trips):
    url = server.url().replace(str(server.port), str(relay.port))
    through = Keyspace(settings_of(server, url=url), hooks_at=lambda _: Hooks(trips.append))
    cache, _ = repositories(through)
    await cache.set("key", 1)

    async def step() -> None:
        pass

    relay.loses_the_next_answer = step
    await cache.set("key", 2)

    assert [(trip.command, trip.retries, trip.error) for trip in trips] == [
        ("SET", 0, None),
        ("SET", 1, None),
    ]
    await through.aclose()


def hang_up(server: ThrowawayValkey) -> None:
    """Cut all connections while the loop has no turn to notice."""
    with redis.Redis(host=server.host, port=server.port) as blocking:
        blocking.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


class IdleConnections:
    """Idle connections that die: no call may pay for it, or one at the most."""

    async def test_what_must_not_be_repeated_is_certain_after_a_connection_died_unnoticed(
        self, server, keyspace
    ):
        cache, services = repositories(keyspace)
        await services.register(a_service(service_id="s"))

        for number in range(1, 21):
            await keyspace.probe()
            hang_up(server)
            assert await cache.increment("counter") == number
        await cache.set("key", 1)
        hang_up(server)
        assert await cache.delete("key")
        hang_up(server)
        assert await services.deregister("s")
        assert await cache.get("counter") == 20

    async def test_connections_that_a_firewall_dropped_while_they_were_idle_cost_no_call(
        self, server, proxy_to, outcome
    ):
        proxy = await proxy_to(server.url())
        keyspace = Keyspace(
            settings_of(server, url=f"redis://127.0.0.1:{proxy.port}", pool_size=10)
        )
        cache, _ = repositories(keyspace)
        await connected(keyspace, 10)
        proxy.drop()
        await asyncio.sleep(1.1)

        ended = await asyncio.gather(
            *(outcome(cache.increment("counter")) for _ in range(10)),
            *(outcome(cache.set(f"key-{number}", number)) for number in range(10)),
        )

        assert sorted(answer for answer, _ in ended[:10]) == list(range(1, 11))
        assert {answer for answer, _ in ended[10:]} == {True}
        await keyspace.aclose()

    async def test_after_one_idle_connection_proved_dead_the_others_are_verified_before_use(
        self, server, proxy_to
    ):
        proxy = await proxy_to(server.url())
        keyspace = Keyspace(
            settings_of(
                server, url=f"redis://127.0.0.1:{proxy.port}", pool_size=10, socket_timeout=0.5
            )
        )
        cache, _ = repositories(keyspace)
        await connected(keyspace, 10)
        proxy.drop()

        failures: list[AdapterError] = []
        for _ in range(10):
            try:
                await cache.increment("counter")
            except OutcomeUnknownError as failure:
                failures.append(failure)

        assert len(failures) <= 1
        assert await cache.get("counter") == 10 - len(failures)
        await keyspace.aclose()

    async def test_connections_that_are_fine_are_kept_however_long_they_were_idle(
        self, server, proxy_to
    ):
        proxy = await proxy_to(server.url())
        keyspace = Keyspace(settings_of(server, url=f"redis://127.0.0.1:{proxy.port}"))
        await connected(keyspace, 4)
        await asyncio.sleep(1.1)

        await asyncio.gather(*(keyspace.probe() for _ in range(4)))

        assert proxy.connections == 4
        await keyspace.aclose()

    async def test_a_server_with_as_many_clients_as_it_may_have_is_named_as_the_cause(
        self, server, keyspace, admin
    ):
        cache, _ = repositories(keyspace)
        settings = settings_of(server)
        await admin.execute_command("CONFIG", "SET", "maxclients", "1")

        for _ in range(5):
            for call in (
                keyspace.probe,
                lambda: cache.increment("counter"),
                lambda: cache.set("key", 1),
                RedisBackend(settings).open,
            ):
                with pytest.raises(OverloadedError, match="maxclients") as refused:
                    await call()
                assert refused.value.outcome == "not_applied"

        await admin.execute_command("CONFIG", "SET", "maxclients", "100")
        assert await cache.get("counter") is None


class TestIdleConnections(IdleConnections):
    pass


class TestIdleConnectionsOnRedis7(IdleConnections):
    @pytest.fixture
    def server(self, server_folder):
        program = system_redis_program()
        if program is None:
            pytest.skip("no redis-server is installed on this machine")
        with ThrowawayValkey(server_folder, program=program) as server:
            yield server


async def test_a_count_is_never_repeated(server, keyspace, admin):
    cache, _ = repositories(keyspace)
    counted = unknown = refused = 0
    for _ in range(100):
        killing = asyncio.create_task(
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        )
        try:
            await cache.increment("counter")
            counted += 1
        except OutcomeUnknownError:
            unknown += 1
        except UnavailableError:  # cut while it was connecting
            refused += 1
        await killing

    assert counted <= await cache.get("counter") <= counted + unknown
    assert counted + unknown + refused == 100


async def test_a_replica_refuses_writes_and_nothing_was_applied(server, keyspace, admin, outcomes):
    cache, services = repositories(keyspace)
    await cache.set("key", 1)
    await services.register(a_service(service_id="id", last_seen=datetime(2000, 1, 1, tzinfo=UTC)))
    await admin.execute_command("REPLICAOF", "127.0.0.1", "1")

    ended = await outcomes(writes(cache, services))

    assert set(ended.values()) == {UnavailableError}
    await admin.execute_command("REPLICAOF", "NO", "ONE")
    assert await cache.get("key") == 1
    assert await cache.set("key", 2)


async def test_a_server_without_memory_refuses_what_needs_more(server, keyspace, admin):
    cache, services = repositories(keyspace)
    await cache.set("key", 1)
    await admin.execute_command("CONFIG", "SET", "maxmemory", "1")

    with pytest.raises(UnavailableError, match="OOM"):
        await cache.set("other", 1)
    with pytest.raises(UnavailableError, match="OOM"):
        await services.register(a_service())
    assert await cache.get("key") == 1
    assert await cache.delete("key")


async def test_writes_that_were_carried_out_in_part_are_unknown(server, admin):
    keyspace = Keyspace(settings_of(server))
    cache = RedisCacheRepository(keyspace)
    await admin.execute_command("CONFIG", "SET", "maxmemory", "25mb")
    megabyte = "x" * 1_000_000

    with pytest.raises(OutcomeUnknownError, match="a part"):
        await cache.set_many({f"key-{number}": megabyte for number in range(30)})

    assert 0 < len(await cache.keys()) < 30
    await keyspace.aclose()


async def test_writes_of_which_some_are_forbidden_are_unknown_where_others_were_applied(
    server, admin, keyspace
):
    await admin.execute_command(*("ACL", "SETUSER", "some", "on", "nopass", "+@all", "~*allowed"))
    url = server.url().replace("redis://", "redis://some:x@")
    limited = Keyspace(settings_of(server, url=url))

    with pytest.raises(OutcomeUnknownError, match="a part"):
        await RedisCacheRepository(limited).set_many({"allowed": 1, "forbidden": 1})

    assert await repositories(keyspace)[0].get("allowed") == 1
    await limited.aclose()


async def test_a_read_of_which_a_part_is_forbidden_has_changed_nothing(server, admin, keyspace):
    await repositories(keyspace)[1].register(a_service())
    rules = ("on", "nopass", "+@all", "-zmscore", "~*")
    await admin.execute_command("ACL", "SETUSER", "reader", *rules)
    url = server.url().replace("redis://", "redis://reader:x@")
    limited = Keyspace(settings_of(server, url=url))

    with pytest.raises(ConfigurationError) as refused:
        await repositories(limited)[1].list_all_services()

    assert refused.value.outcome == "not_applied"
    await limited.aclose()


async def test_a_server_that_is_loading_is_unavailable(server, keyspace, admin, outcomes):
    cache, services = repositories(keyspace)
    await admin.execute_command("CONFIG", "SET", "key-load-delay", "2000")
    await admin.execute_command("CONFIG", "SET", "loading-process-events-interval-bytes", "1024")
    await admin.execute_command("DEBUG", "POPULATE", "20000", "bulk", "100")
    loading = asyncio.create_task(admin.execute_command("DEBUG", "RELOAD"))
    while not await is_loading(server):  # noqa: ASYNC110 - the server has no event
        await asyncio.sleep(0.01)

    ended = await outcomes({**reads(cache, services), **writes(cache, services)})

    assert set(ended.values()) == {UnavailableError}
    await admin_after(server, loading)


async def is_loading(server: ThrowawayValkey) -> bool:
    async with Redis.from_url(server.url()) as other:
        return bool((await other.info("persistence"))["loading"])


async def admin_after(server: ThrowawayValkey, loading: asyncio.Task[object]) -> None:
    async with Redis.from_url(server.url()) as other:
        await other.execute_command("CONFIG", "SET", "key-load-delay", "0")
    await loading


async def test_of_400_cancelled_calls_none_leaks_or_mixes_up_replies(keyspace):
    cache, _ = repositories(keyspace)
    await cache.set_many({f"key-{number}": number for number in range(100)})
    wrong: list[object] = []

    async def read(number: int) -> None:
        for turn in range(5):
            value = await cache.get(f"key-{number}")
            many = await cache.get_many([f"key-{number}", f"key-{(number + turn) % 100}"])
            if value != number or many[f"key-{number}"] != number:
                wrong.append((number, value, many))

    cancelled = 0
    for turn in range(20):
        tasks = [asyncio.create_task(read(number)) for number in range(20)]
        for _ in range(turn % 7):
            await asyncio.sleep(0)
        for task in tasks:
            cancelled += task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert await cache.get("key-7") == 7

    assert cancelled == 400
    assert wrong == []
    assert keyspace.pool_use().in_use == 0
    assert keyspace.pool_use().open <= 4
    assert await cache.get_many(["key-1"]) == {"key-1": 1}
    await cache.aclose()


async def test_a_cancelled_wait_for_a_connection_frees_its_place(server):
    keyspace = Keyspace(settings_of(server, pool_size=1))
    cache = RedisCacheRepository(keyspace)
    await keyspace.probe()
    server.freeze()
    stuck = asyncio.create_task(cache.set("a", 1))
    waiting = [asyncio.create_task(cache.set("b", number)) for number in range(5)]
    await asyncio.sleep(0)

    for task in [*waiting, stuck]:
        task.cancel()
    await asyncio.gather(*waiting, stuck, return_exceptions=True)

    server.thaw()
    assert await cache.set("c", 1)
    assert keyspace.pool_use().open == 1
    await keyspace.aclose()


def test_a_keyspace_belongs_to_one_event_loop(server):
    keyspace = Keyspace(settings_of(server))
    with asyncio.Runner() as first, asyncio.Runner() as second:
        first.run(keyspace.probe())

        with pytest.raises(ConfigurationError, match="event loop"):
            second.run(keyspace.probe())

        first.run(keyspace.probe())
        first.run(keyspace.aclose())


async def test_another_threads_event_loop_is_refused_though_all_connections_are_in_use(server):
    keyspace = Keyspace(settings_of(server, pool_size=1))
    await keyspace.probe()
    server.freeze()
    busy = asyncio.create_task(keyspace.probe())
    await asyncio.sleep(0)

    with pytest.raises(ConfigurationError, match="another event loop"):
        await asyncio.to_thread(lambda: asyncio.run(keyspace.probe()))

    waiting = asyncio.create_task(keyspace.probe())
    await asyncio.sleep(0)
    server.thaw()
    await asyncio.gather(busy, waiting)
    await keyspace.aclose()


async def test_a_closed_keyspace_says_so(keyspace):
    await keyspace.aclose()

    with pytest.raises(UnavailableError, match="closed"):
        await keyspace.probe()
