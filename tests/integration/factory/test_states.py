"""The state of a backend follows what calls report: in health, the log and the metrics alike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import asyncpg
import pytest
import structlog
from redis.asyncio import Redis

from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
from test_coordinator_data_adapter.adapters.postgres.roles import grants
from test_coordinator_data_adapter.errors import AdapterError, ConfigurationError, UnavailableError
from test_coordinator_data_adapter.observability import Fact, StateChanged
from test_coordinator_data_adapter.testing.builders import a_chaos_event, a_test_run
from test_coordinator_data_adapter.testing.servers import ThrowawayPostgres, ThrowawayValkey

Configure = Callable[..., AdapterConfig]
ROLE, PASSWORD, SCHEMA = "service", "opens-nothing", "test_coordinator"


class States:
    """Records every change of state."""

    def __init__(self) -> None:
        self.by_backend: dict[str, list[str]] = {"postgres": [], "redis": []}

    def notice(self, fact: Fact, /) -> None:
        if isinstance(fact, StateChanged):
            self.by_backend[fact.backend].append(fact.state)

    async def reach(self, backend: str, *states: str) -> None:
        async with asyncio.timeout(60):
            while self.by_backend[backend] != [*states]:  # noqa: ASYNC110 - another process decides
                await asyncio.sleep(0.02)


@pytest.fixture
def states() -> States:
    return States()


@pytest.fixture
async def started(
    postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Both servers run; the connection of an administrator who gave the service its role."""
    await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(valkey.start))
    connection = await asyncpg.connect(postgres.url().replace("+asyncpg", ""))
    await connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
    await connection.execute(grants(SCHEMA, ROLE))
    yield connection
    await connection.close()


@pytest.fixture
def as_service(config: Configure, postgres: ThrowawayPostgres) -> AdapterConfig:
    return config(postgres_url=postgres.url(user=ROLE, password=PASSWORD))


async def until_healthy(factory: AdapterFactory) -> None:
    async with asyncio.timeout(60):
        while (await factory.health_check())["status"] != "healthy":  # noqa: ASYNC110 - other processes decide
            await asyncio.sleep(0.02)


def logged(entries: list[dict[str, object]], backend: str) -> list[object]:
    return [entry["event"] for entry in entries if entry.get("backend") == backend]


@pytest.mark.parametrize("backend", ["postgres", "redis"])
async def test_calls_that_find_the_server_dead_report_it_once_and_a_probe_finds_it_again(
    config: Configure,
    postgres: ThrowawayPostgres,
    valkey: ThrowawayValkey,
    states: States,
    backend: str,
) -> None:
    await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(valkey.start))
    server = postgres if backend == "postgres" else valkey

    with structlog.testing.capture_logs() as entries:
        async with AdapterFactory(config(), observers=[states]) as factory:
            runs, cache = factory.get_test_runs_repository(), factory.get_cache_repository()
            await runs.create(a_test_run())
            await cache.set("k", 1)

            server.kill()
            for _ in range(5):
                call = runs.get_by_id("x") if backend == "postgres" else cache.get("k")
                with pytest.raises(UnavailableError):
                    await call
            lost = [*states.by_backend[backend]]
            health = await factory.health_check()
            await asyncio.to_thread(server.start)
            await states.reach(backend, "live", "lost", "live")

    assert lost == ["live", "lost"]
    assert (health[backend]["state"], health[backend]["connected"]) == ("lost", False)
    assert logged(entries, backend) == ["backend_opened", "backend_lost", "backend_recovered"]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_servers_that_come_up_late_are_live_within_two_seconds(
    config: Configure,
    postgres: ThrowawayPostgres,
    valkey: ThrowawayValkey,
    states: States,
    stopwatch: Callable[[], float],
) -> None:
    async with AdapterFactory(config(), observers=[states]) as factory:
        supervised = [one for one in (factory._postgres, factory._redis) if one is not None]
        async with asyncio.timeout(120):
            while min(one.supervisor.probes for one in supervised) < 8:  # noqa: ASYNC110 - time is what matters
                await asyncio.sleep(0.05)

        await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(valkey.start))
        began = stopwatch()
        await until_healthy(factory)
        took = stopwatch() - began

    # Two seconds, and two for a machine that runs other tests meanwhile.
    assert took < 4.0


async def test_health_tells_which_privilege_is_missing_until_it_is_granted_again(
    as_service: AdapterConfig, started: asyncpg.Connection[asyncpg.Record], states: States
) -> None:
    async with AdapterFactory(as_service, observers=[states]) as factory:
        runs = factory.get_test_runs_repository()
        await started.execute(f"REVOKE INSERT, DELETE ON {SCHEMA}.test_runs FROM {ROLE}")
        with pytest.raises(ConfigurationError):
            await runs.create(a_test_run())
        by_a_call = [*states.by_backend["postgres"]]
        health = await factory.health_check()
        await runs.get_by_id("x")
        after_a_read = await factory.health_check()

        await started.execute(grants(SCHEMA, ROLE))
        await runs.create(a_test_run())
        granted = await factory.health_check()

    assert by_a_call == ["live", "misconfigured"]
    for told in (health, after_a_read):
        assert told["status"] == "misconfigured"
        assert told["postgres"]["connected"] is False
        assert "the role lacks INSERT/DELETE on test_runs" in told["postgres"]["error"]
        assert "migrate" in told["postgres"]["error"]
    assert granted["status"] == "healthy"


async def test_health_tells_which_table_is_missing(
    as_service: AdapterConfig, started: asyncpg.Connection[asyncpg.Record], states: States
) -> None:
    async with AdapterFactory(as_service, observers=[states]) as factory:
        events = factory.get_chaos_events_repository()
        await started.execute(f"ALTER TABLE {SCHEMA}.chaos_events RENAME TO elsewhere")
        with pytest.raises(ConfigurationError):
            await events.create(a_chaos_event())
        by_a_call = [*states.by_backend["postgres"]]
        health = await factory.health_check()

        await started.execute(f"ALTER TABLE {SCHEMA}.elsewhere RENAME TO chaos_events")
        await events.create(a_chaos_event())
        restored = await factory.health_check()

    assert by_a_call == ["live", "misconfigured"]
    assert (health["postgres"]["state"], health["postgres"]["connected"]) == (
        "misconfigured",
        False,
    )
    assert "has no table chaos_events" in health["postgres"]["error"]
    assert restored["status"] == "healthy"


async def test_a_role_without_a_privilege_is_refused_at_the_start(
    as_service: AdapterConfig, started: asyncpg.Connection[asyncpg.Record]
) -> None:
    await started.execute(f"REVOKE UPDATE ON {SCHEMA}.test_results FROM {ROLE}")
    strict = as_service.model_copy(update={"startup_strict": True})

    with pytest.raises(ConfigurationError, match="lacks UPDATE on test_results"):
        await AdapterFactory(strict).initialize()


@dataclass(frozen=True)
class Trouble:
    """Why a Redis refuses writes, and what becomes of its state."""

    breaks: str
    repairs: str
    state: str
    reason: str


@pytest.mark.parametrize(
    "trouble",
    [
        Trouble("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0", "lost", "memory is full"),
        Trouble(
            "CONFIG SET min-replicas-to-write 1",
            "CONFIG SET min-replicas-to-write 0",
            "lost",
            "too few replicas",
        ),
        Trouble("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "lost", "replica"),
        Trouble(
            "ACL SETUSER default -set", "ACL SETUSER default +set", "misconfigured", "denied access"
        ),
    ],
    ids=["OOM", "NOREPLICAS", "READONLY", "NOPERM"],
)
async def test_a_redis_that_refuses_writes_is_not_connected(
    config: Configure,
    postgres: ThrowawayPostgres,
    valkey: ThrowawayValkey,
    states: States,
    trouble: Trouble,
) -> None:
    await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(valkey.start))

    async with (
        AdapterFactory(config(), observers=[states]) as factory,
        Redis.from_url(valkey.url()) as admin,
    ):
        cache = factory.get_cache_repository()
        await cache.set("k", 1)
        await admin.execute_command(*trouble.breaks.split())
        with pytest.raises(AdapterError):
            await cache.set("k", 2)
        by_a_call = [*states.by_backend["redis"]]
        await cache.get("k")
        told = [await factory.health_check() for _ in range(2)]

        await admin.execute_command(*trouble.repairs.split())
        await cache.set("k", 3)
        repaired = await factory.health_check()

    assert by_a_call == ["live", trouble.state]
    for health in told:
        assert (health["redis"]["state"], health["redis"]["connected"]) == (trouble.state, False)
        assert trouble.reason in health["redis"]["error"]
    assert repaired["redis"]["connected"] is True
    assert repaired["redis"]["error"] is None


async def test_a_redis_that_refuses_writes_is_not_connected_although_no_call_was_made(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    valkey.config.append("replicaof 127.0.0.1 1")
    await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(valkey.start))

    async with AdapterFactory(config()) as factory:
        health = await factory.health_check()

    assert health["redis"]["connected"] is False
    assert "replica" in health["redis"]["error"]


async def test_health_of_a_server_that_is_known_to_be_frozen_takes_no_time(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey, outcome
) -> None:
    await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(valkey.start))

    async with AdapterFactory(config(health_check_timeout=1)) as factory:
        postgres.freeze()
        valkey.freeze()
        first = await factory.health_check()
        times = [await outcome(factory.health_check()) for _ in range(10)]
        postgres.thaw()
        valkey.thaw()
        await until_healthy(factory)

    assert (first["postgres"]["state"], first["redis"]["state"]) == ("lost", "lost")
    assert [health["status"] for health, _ in times] == ["degraded"] * 10
    assert sorted(took for _, took in times)[5] < 0.25
