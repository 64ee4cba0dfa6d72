"""A factory and its backends: missing at first, found later, killed, frozen, misconfigured."""

import asyncio
import gc
import io
import json
import logging
import socket
import time
import traceback
import warnings
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import structlog
from sqlalchemy import text

from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
from test_coordinator_data_adapter.adapters.postgres import PostgresScenariosRepository
from test_coordinator_data_adapter.adapters.postgres.statement import Statement
from test_coordinator_data_adapter.adapters.redis import RedisCacheRepository
from test_coordinator_data_adapter.adapters.stub import (
    StubCacheRepository,
    StubScenariosRepository,
)
from test_coordinator_data_adapter.errors import AdapterError, ConfigurationError, UnavailableError
from test_coordinator_data_adapter.models import RunStatus
from test_coordinator_data_adapter.models.values import utc_now
from test_coordinator_data_adapter.observability import CacheUsed, Fact, StateChanged, TripEnded
from test_coordinator_data_adapter.testing.builders import a_scenario, a_service, a_test_run
from test_coordinator_data_adapter.testing.servers import ThrowawayPostgres, ThrowawayValkey

Configure = Callable[..., AdapterConfig]
SECRET = "s3cr3t-passw0rd"
_LIVE = ("postgres", "live")


async def eventually(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(120):
        while not check():  # noqa: ASYNC110 - what is awaited happens in another process
            await asyncio.sleep(0.05)


async def up(postgres: ThrowawayPostgres, valkey: ThrowawayValkey) -> None:
    await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(valkey.start))


async def ask(postgres: ThrowawayPostgres, *statements: str) -> object:
    """The answer to the last of these."""
    connection = await asyncpg.connect(postgres.url().replace("+asyncpg", ""))
    try:
        return [await connection.fetchval(statement) for statement in statements][-1]
    finally:
        await connection.close()


async def eventually_is(postgres: ThrowawayPostgres, question: str, answer: object) -> None:
    async with asyncio.timeout(60):
        while await ask(postgres, question) != answer:  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.05)


async def test_a_factory_with_everything_there_is_healthy_and_live(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    await up(postgres, valkey)

    async with AdapterFactory(config()) as factory:
        health = await factory.health_check()
        scenario = await factory.get_scenarios_repository().create(a_scenario())
        stub = factory.get_scenarios_repository(use_stub=True)
        sessions = factory.get_session_maker()
        assert sessions is not None
        async with sessions() as session:
            counted = (await session.execute(text("SELECT count(*) FROM scenarios"))).scalar_one()
        client = factory.get_redis_client()
        assert client is not None
        await factory.get_cache_repository().set("k", 1)
        raw = await client.get("test:test-coordinator:k")

    assert health["status"] == "healthy"
    revision = health["postgres"]["schema_revision"]
    assert revision["found"] == revision["wanted"] is not None
    assert health["postgres"]["pool"].keys() == {"size", "limit", "open", "in_use", "waiting"}
    assert health["postgres"]["pool"]["in_use"] == 0
    assert health["postgres"]["server_version"][:2].isdigit()
    assert health["postgres"]["latency_ms"] > 0
    assert (health["postgres"]["tls_asked"], health["postgres"]["tls"]) == ("disable", None)
    assert health["postgres"]["degraded_since"] is None
    assert health["redis"]["topology"] == "standalone"
    assert counted == 1
    assert raw == b"1"
    assert await stub.get_by_id(scenario.scenario_id) is None
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert json.dumps(health)


@pytest.mark.parametrize("durable", [False, True])
async def test_health_warns_of_a_server_that_can_lose_what_it_has_acknowledged(
    config: Configure, postgres: ThrowawayPostgres, *, durable: bool
) -> None:
    postgres.settings["fsync"] = "on" if durable else "off"
    await asyncio.to_thread(postgres.start)
    if not durable:
        await ask(postgres, "ALTER ROLE ALL SET synchronous_commit = off")

    async with AdapterFactory(config()) as factory:
        health = await factory.health_check()

    warnings = [warning.partition(" is off")[0] for warning in health["postgres"]["warnings"]]
    assert warnings == ([] if durable else ["fsync", "synchronous_commit"])
    assert health["postgres"]["connected"] is True
    assert health["redis"]["warnings"] == []


def test_an_open_factory_refuses_another_event_loop_and_goes_on_in_its_own(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    asyncio.run(up(postgres, valkey))
    factory = AdapterFactory(config())
    scenario = a_scenario()

    async def stored() -> object:
        return await factory.get_scenarios_repository().get_by_id(scenario.scenario_id)

    async def kept() -> object:
        return await factory.get_cache_repository().get("k")

    with asyncio.Runner() as own, asyncio.Runner() as other:
        own.run(factory.initialize())
        own.run(factory.get_scenarios_repository().create(scenario))
        for ask in (factory.initialize, factory.cleanup, stored, kept):
            with pytest.raises(ConfigurationError, match="another event loop"):
                other.run(ask())
        asked_from_there = other.run(factory.health_check())

        assert "another event loop" in asked_from_there["postgres"]["error"]
        assert asked_from_there["status"] == "degraded"
        assert own.run(factory.health_check())["status"] == "healthy"
        assert own.run(stored()) == scenario
        own.run(factory.cleanup())
        other.run(factory.initialize())

        assert other.run(stored()) == scenario
        other.run(factory.cleanup())


def test_a_factory_whose_event_loop_ended_can_be_initialised_in_another(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    asyncio.run(up(postgres, valkey))
    factory = AdapterFactory(config())
    scenario = a_scenario()

    async def create_and_forget_to_clean_up() -> None:
        await factory.initialize()
        await factory.get_scenarios_repository().create(scenario)
        await factory.get_cache_repository().set("k", 1)

    async def read() -> tuple[object, object, str]:
        async with factory:
            return (
                await factory.get_scenarios_repository().get_by_id(scenario.scenario_id),
                await factory.get_cache_repository().get("k"),
                str((await factory.health_check())["status"]),
            )

    with warnings.catch_warnings(), structlog.testing.capture_logs() as entries:
        warnings.simplefilter("ignore", ResourceWarning)  # the sockets of the loop that ended
        asyncio.run(create_and_forget_to_clean_up())
        answers = asyncio.run(read())
        gc.collect()

    assert answers == (scenario, 1, "healthy")
    logged = [entry["event"] for entry in entries if entry["log_level"] == "warning"]
    assert logged == ["factory_discarded"]


async def test_a_factory_that_is_being_opened_refuses_another_event_loop_too(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    await up(postgres, valkey)
    factory = AdapterFactory(config())
    valkey.freeze()
    opening = asyncio.create_task(factory.initialize())
    await asyncio.sleep(0)

    with pytest.raises(ConfigurationError, match="another event loop"):
        await asyncio.to_thread(lambda: asyncio.run(factory.initialize()))

    valkey.thaw()
    await opening
    await factory.cleanup()


async def test_backends_that_come_later_are_found_without_a_restart(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    with structlog.testing.capture_logs() as told:
        async with AdapterFactory(config()) as factory:
            early = factory.get_scenarios_repository()
            degraded = await factory.health_check()

            await up(postgres, valkey)
            await eventually(
                lambda: (
                    isinstance(factory.get_scenarios_repository(), PostgresScenariosRepository)
                    and isinstance(factory.get_cache_repository(), RedisCacheRepository)
                )
            )
            healthy = await factory.health_check()

    assert isinstance(early, StubScenariosRepository)
    assert degraded["status"] == "degraded"
    assert degraded["postgres"]["degraded_since"] is not None
    assert healthy["status"] == "healthy"
    assert healthy["postgres"]["degraded_since"] is None
    events = [entry["event"] for entry in told]
    assert events.count("backend_recovered") == 2
    # A server that is just starting up may be met without its schema, once.
    assert events.count("backend_unavailable") == 2
    assert events.count("backend_misconfigured") <= 1


async def test_one_backend_is_live_while_the_other_is_missing(
    config: Configure, valkey: ThrowawayValkey
) -> None:
    await asyncio.to_thread(valkey.start)

    async with AdapterFactory(config()) as factory:
        health = await factory.health_check()

        assert isinstance(factory.get_cache_repository(), RedisCacheRepository)
        assert isinstance(factory.get_scenarios_repository(), StubScenariosRepository)
    assert (health["postgres"]["connected"], health["redis"]["connected"]) == (False, True)
    assert health["status"] == "degraded"


async def test_a_live_handle_raises_while_its_backend_is_dead_and_works_when_it_is_back(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    await up(postgres, valkey)

    async with AdapterFactory(config()) as factory:
        scenarios = factory.get_scenarios_repository()
        cache = factory.get_cache_repository()
        scenario = await scenarios.create(a_scenario())

        postgres.kill()
        valkey.kill()
        for call in (scenarios.get_by_id(scenario.scenario_id), cache.get("k")):
            with pytest.raises(AdapterError) as caught:
                await call
            assert caught.value.transient
        dead = await factory.health_check()
        handed_out = factory.get_scenarios_repository()

        await asyncio.gather(asyncio.to_thread(postgres.start), asyncio.to_thread(valkey.start))
        found = await scenarios.get_by_id(scenario.scenario_id)
        await cache.set("k", 1)
        alive = await factory.health_check()

    assert dead["postgres"]["connected"] is False
    assert dead["redis"]["connected"] is False
    assert isinstance(handed_out, PostgresScenariosRepository)
    assert found == scenario
    assert alive["status"] == "healthy"


async def test_health_is_bounded_while_the_servers_are_frozen(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey, outcome
) -> None:
    await up(postgres, valkey)

    async with AdapterFactory(config(health_check_timeout=1)) as factory:
        postgres.freeze()
        valkey.freeze()
        health, took = await outcome(factory.health_check())
        postgres.thaw()
        valkey.thaw()

    assert took < 2.0
    assert (health["postgres"]["connected"], health["redis"]["connected"]) == (False, False)


async def test_closing_is_bounded_while_the_servers_are_frozen(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey, outcome
) -> None:
    await up(postgres, valkey)
    factory = AdapterFactory(config())
    await factory.initialize()
    await factory.get_scenarios_repository().list_all()

    postgres.freeze()
    valkey.freeze()
    _, took = await outcome(factory.cleanup())
    postgres.thaw()
    valkey.thaw()

    assert took < 5.0


async def test_a_missing_schema_is_a_misconfiguration_that_names_the_command(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    await up(postgres, valkey)
    newcomer = {"service_instance_name": "newcomer"}

    with structlog.testing.capture_logs() as told:
        async with AdapterFactory(config(**newcomer)) as factory:
            health = await factory.health_check()
    with pytest.raises(ConfigurationError, match="test-coordinator-adapter migrate"):
        await AdapterFactory(config(**newcomer, startup_strict=True)).initialize()

    assert health["status"] == "misconfigured"
    assert "test-coordinator-adapter migrate" in health["postgres"]["error"]
    assert health["postgres"]["schema_revision"]["found"] is None
    assert health["postgres"]["schema_revision"]["wanted"] is not None
    assert health["postgres"]["schema"] == "newcomer"
    assert "server_version" in health["postgres"]
    assert [entry["event"] for entry in told if entry["log_level"] == "error"] == [
        "backend_misconfigured"
    ]
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def all_that_is_said(
    wrong: AdapterConfig, caplog: pytest.LogCaptureFixture
) -> tuple[dict[str, Any], str]:
    """The health of a configuration that fails, and every log line, error, repr and answer."""
    said = io.StringIO()
    with caplog.at_level(logging.DEBUG), structlog.testing.capture_logs() as told:
        async with AdapterFactory(wrong) as factory:
            health = await factory.health_check()
            said.write(f"{health} {factory!r} {vars(factory)} {wrong!r} {wrong.model_dump_json()}")
        try:
            async with AdapterFactory(wrong.model_copy(update={"startup_strict": True})) as strict:
                said.write(f"{await strict.health_check()}")
        except AdapterError as error:
            # With the local variables of every frame, as error trackers collect them.
            captured = traceback.TracebackException.from_exception(error, capture_locals=True)
            said.write(f"{error!r} {vars(error)} " + "".join(captured.format()))
    return health, said.getvalue() + str(told) + caplog.text


async def test_a_wrong_password_is_a_misconfiguration_and_shows_nowhere(
    config: Configure,
    postgres: ThrowawayPostgres,
    valkey: ThrowawayValkey,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await up(postgres, valkey)
    wrong = config(
        postgres_url=postgres.url(password=SECRET),
        redis_url=valkey.url(password=SECRET),
        migration_url=postgres.url(password=SECRET),
        log_level="DEBUG",
        log_sql_queries=True,
    )

    health, said = await all_that_is_said(wrong, caplog)

    assert health["postgres"]["state"] == "misconfigured"
    assert health["redis"]["state"] == "misconfigured"
    assert "ConfigurationError" in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("place", "settings"),
    [
        ("127.0.0.1:1/none", {}),
        ("nowhere.invalid/none", {}),
        ("{live}/none", {"postgres_tls": "verify-full"}),
        ("{live}/none?sslmode=strange", {}),
    ],
)
async def test_a_password_shows_nowhere_however_the_configuration_fails(
    config: Configure,
    postgres: ThrowawayPostgres,
    caplog: pytest.LogCaptureFixture,
    place: str,
    settings: dict[str, object],
) -> None:
    await asyncio.to_thread(postgres.start)
    url = f"me:{SECRET}@{place.format(live=f'127.0.0.1:{postgres.port}')}"
    wrong = config(
        postgres_url=f"postgresql+asyncpg://{url}",
        migration_url=f"postgresql+asyncpg://{url}",
        redis_url=f"redis://me:{SECRET}@127.0.0.1:1/0",
        log_level="DEBUG",
        log_sql_queries=True,
        **settings,
    )

    health, said = await all_that_is_said(wrong, caplog)

    assert health["postgres"]["connected"] is False
    assert SECRET not in said


async def test_initialising_can_be_cancelled_at_any_await_and_leaves_nothing(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    await up(postgres, valkey)
    factory = AdapterFactory(config())

    for turns in range(0, 60, 3):
        starting = asyncio.create_task(factory.initialize())
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        await factory.cleanup()

        assert asyncio.all_tasks() == {asyncio.current_task()}
    async with factory:
        assert (await factory.health_check())["status"] == "healthy"


async def test_a_full_pool_is_a_loss_only_where_nobody_else_is_answered_either(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    await up(postgres, valkey)
    sleep = Statement("SELECT pg_sleep(0.5)", None, writes=False)
    settings = config(postgres_pool_size=1, postgres_max_overflow=0, health_check_timeout=2)

    async with AdapterFactory(settings) as factory:
        assert factory._postgres is not None
        database = factory._postgres.opened().database
        calls = [asyncio.create_task(database.fetch(sleep)) for _ in range(12)]
        await asyncio.sleep(0)
        busy = await factory.health_check()
        postgres.freeze()
        frozen = await factory.health_check()
        postgres.thaw()
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)

    assert busy["status"] == "healthy"
    assert busy["postgres"]["connected"] is True
    assert busy["postgres"]["error"].startswith("postgres is busy: it answers")
    assert (busy["postgres"]["pool"]["in_use"], busy["postgres"]["pool"]["limit"]) == (1, 1)
    assert frozen["status"] == "degraded"
    assert frozen["postgres"]["connected"] is False


async def test_every_backend_knows_when_it_last_answered_while_it_is_open(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    await up(postgres, valkey)
    factory = AdapterFactory(config())
    began = time.monotonic()

    async with factory:
        both = [factory._postgres, factory._redis]
        backends = [supervised.supervisor._backend for supervised in both if supervised]
        answered = [backend.answered_at for backend in backends]
    ended = time.monotonic()

    assert len(backends) == 2
    assert all(began <= moment <= ended for moment in answered)
    assert [backend.answered_at for backend in backends] == [0.0, 0.0]


async def test_nothing_live_is_handed_out_before_initialising_is_over(
    config: Configure, postgres: ThrowawayPostgres
) -> None:
    await asyncio.to_thread(postgres.start)
    postgres_is_live = asyncio.Event()

    class Watching:
        def notice(self, fact: Fact, /) -> None:
            if isinstance(fact, StateChanged) and (fact.backend, fact.state) == _LIVE:
                postgres_is_live.set()

    deaf = socket.create_server(("127.0.0.1", 0))
    redis_url = f"redis://127.0.0.1:{deaf.getsockname()[1]}"
    settings = config(redis_url=redis_url, redis_socket_connect_timeout=60)
    factory = AdapterFactory(settings, observers=[Watching()])

    opening = asyncio.create_task(factory.initialize())
    await postgres_is_live.wait()
    scenarios, sessions = factory.get_scenarios_repository(), factory.get_session_maker()
    opening.cancel()
    await asyncio.wait([opening])
    await factory.cleanup()
    deaf.close()

    assert isinstance(scenarios, StubScenariosRepository)
    assert sessions is None


async def test_closing_that_is_cancelled_closes_all_the_same(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    await up(postgres, valkey)

    held: list[AdapterFactory] = []  # garbage would close its connections, too
    for turns in range(12):
        factory = AdapterFactory(config())
        held.append(factory)
        await factory.initialize()
        runs = factory.get_test_runs_repository()
        calls: list[asyncio.Task[object]] = [
            *(asyncio.create_task(runs.create(a_test_run())) for _ in range(8)),
            *(asyncio.create_task(runs.get_by_id(f"run-{number}")) for number in range(20)),
        ]
        for _ in range(4):  # then some of them travel together
            await asyncio.sleep(0)
        closing = asyncio.create_task(factory.cleanup())
        for _ in range(turns):
            await asyncio.sleep(0)
        begun = not factory._is_initialized
        closing.cancel()
        await asyncio.wait([closing, *calls])

        if begun:
            assert asyncio.all_tasks() == {asyncio.current_task()}
        await factory.cleanup()
    await eventually_is(
        postgres,
        "SELECT count(*) FROM pg_stat_activity WHERE usename = current_user"
        " AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        0,
    )


async def test_a_primary_that_became_a_standby_is_told_and_left_for_the_new_one(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    await up(postgres, valkey)
    async with AdapterFactory(config()) as factory:
        runs = factory.get_test_runs_repository()
        await runs.create(a_test_run())
        await ask(postgres, "ALTER SYSTEM SET default_transaction_read_only = on")
        await ask(postgres, "SELECT pg_reload_conf()")
        await eventually_is(postgres, "SHOW default_transaction_read_only", "on")

        health = await factory.health_check()
        with pytest.raises(UnavailableError):
            await runs.create(a_test_run())
        await ask(postgres, "SET default_transaction_read_only = off", "ALTER SYSTEM RESET ALL")
        await ask(postgres, "SELECT pg_reload_conf()")
        await eventually_is(postgres, "SHOW default_transaction_read_only", "off")
        await runs.create(a_test_run())

        assert health["postgres"]["connected"] is False
        assert "accepts no writes" in str(health["postgres"]["error"])
        assert (await factory.health_check())["postgres"]["connected"] is True


async def test_a_registered_service_survives_the_registrys_death_and_is_gone_afterwards(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    await up(postgres, valkey)
    settings = config(heartbeat_interval=0.1, stale_service_threshold=60)

    async with AdapterFactory(settings) as factory:
        registry = factory.get_service_discovery_repository()
        async with factory.registered(a_service(service_id="me")):
            before = await registry.get_service_by_id("me")
            valkey.kill()
            await asyncio.to_thread(valkey.start)
            async with asyncio.timeout(60):
                while await registry.get_service_by_id("me") is None:  # noqa: ASYNC110 - see above
                    await asyncio.sleep(0.05)
        after = await registry.get_service_by_id("me")

    assert before is not None
    assert after is None


async def test_cached_reads_go_through_redis_and_survive_its_death(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    await up(postgres, valkey)

    async with AdapterFactory(config(cache_reads=True)) as factory:
        scenarios = factory.get_scenarios_repository()
        scenario = await scenarios.create(a_scenario())
        client = factory.get_redis_client()
        assert client is not None
        kept: list[object] = []
        async with asyncio.timeout(30):
            while not kept:  # nothing is, until every writer must have heard of it
                await scenarios.get_by_id(scenario.scenario_id)
                keys = client.scan_iter("test:test-coordinator/reads:scenario:*")
                kept = [key async for key in keys]

        valkey.kill()
        changed = await scenarios.update(scenario.model_copy(update={"name": "new"}))
        found = await scenarios.get_by_id(scenario.scenario_id)

    assert len(kept) == 1
    assert found == changed


class Looks:
    """Waits until a read was answered from the cache."""

    def __init__(self) -> None:
        self.hit = False

    def notice(self, fact: Fact, /) -> None:
        self.hit = self.hit or (isinstance(fact, CacheUsed) and fact.hits > 0)

    async def after_reading(self, read: Callable[[], Awaitable[object]]) -> None:
        async with asyncio.timeout(30):
            while not self.hit:
                await read()


async def test_with_cached_reads_off_redis_has_no_part_in_what_postgresql_does(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    await up(postgres, valkey)
    seen: list[Fact] = []

    class Watching:
        def notice(self, fact: Fact, /) -> None:
            seen.append(fact)

    async with AdapterFactory(config(), observers=[Watching()]) as factory:
        runs = factory.get_test_runs_repository()
        run = await runs.create(a_test_run())
        seen.clear()
        await runs.start_run(run.run_id)
        await runs.get_by_id(run.run_id)
        await runs.delete(run.run_id)
        await factory.prune_expired()

    backends = {fact.place.backend for fact in seen if isinstance(fact, TripEnded)}
    assert backends == {"postgres"}


async def test_a_process_with_cached_reads_off_warns_while_another_one_uses_them(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    await up(postgres, valkey)
    async with AdapterFactory(config(cache_reads=True)):
        async with asyncio.timeout(30):
            disagreement: list[Any] = []
            while not disagreement:
                with structlog.testing.capture_logs() as logged:
                    async with AdapterFactory(config()):
                        pass
                disagreement = [one for one in logged if one["event"] == "cache_reads_disagree"]

    assert [one["log_level"] for one in disagreement] == ["warning"]


async def test_what_a_sweep_removed_is_gone_from_the_cached_reads_of_others_too(
    config: Configure, postgres: ThrowawayPostgres, valkey: ThrowawayValkey
) -> None:
    await up(postgres, valkey)
    looks = Looks()
    old = a_test_run(status=RunStatus.PASSED, created_at=utc_now() - timedelta(days=1000))

    async with (
        AdapterFactory(config(cache_reads=True), observers=[looks]) as reading,
        AdapterFactory(config(cache_reads=True, retention_keep_last_runs=0)) as sweeping,
    ):
        reader = reading.get_test_runs_repository()
        run = await reader.create(old)
        await looks.after_reading(lambda: reader.get_by_id(run.run_id))

        await sweeping.prune_expired()

        assert await reader.get_by_id(run.run_id) is None


async def test_memory_is_used_without_any_driver_being_asked(config: Configure) -> None:
    async with AdapterFactory(config(in_memory=True)) as factory:
        cache: Any = factory.get_cache_repository()

    assert isinstance(cache, StubCacheRepository)
