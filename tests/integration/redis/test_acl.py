"""What the library asks for is enough, and all it uses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from test_coordinator_data_adapter.adapters.redis import (
    Keyspace,
    KeyspaceSettings,
    RedisCacheRepository,
    RedisServiceDiscoveryRepository,
)
from test_coordinator_data_adapter.adapters.redis.acl import COMMANDS, acl_rules
from test_coordinator_data_adapter.adapters.redis.read_cache import RedisReadCache
from test_coordinator_data_adapter.errors import ConfigurationError, NotFoundError
from test_coordinator_data_adapter.testing.builders import a_service
from test_coordinator_data_adapter.testing.servers import ThrowawayValkey, system_redis_program

FORBIDDEN = [
    ("PING",),
    ("INFO",),
    ("TIME",),
    ("KEYS", "*"),
    ("FLUSHDB",),
    ("FLUSHALL",),
    ("MULTI",),
    ("EVAL", "return 1", "0"),
    ("SELECT", "1"),
    ("CONFIG", "GET", "maxmemory"),
    ("CLIENT", "LIST"),
    ("PUBLISH", "channel", "message"),
    ("CLUSTER", "SLOTS"),
    ("COMMAND",),
    ("ACL", "LIST"),
    ("GET", "tset:somebody-elses"),
    ("SET", "tset:somebody-elses", "1"),
    ("UNLINK", "tset:somebody-elses"),
]


class EveryGrant:
    @pytest.fixture(params=["least", "platform"])
    def grants(self, request):
        return request.param


class ForbiddenSuite(EveryGrant):
    @pytest.fixture
    async def user(self, settings_for):
        async with Redis.from_url(settings_for().url, protocol=2, driver_info=None) as client:
            yield client

    @pytest.mark.parametrize("command", FORBIDDEN, ids=" ".join)
    async def test_what_is_not_granted_is_denied(self, user, command):
        with pytest.raises(NoPermissionError):
            await user.execute_command(*command)


class TestForbidden(ForbiddenSuite):
    @pytest.fixture
    def deployment(self, redis_server, deployment_of, grants):
        return deployment_of((redis_server.url,), grants)


class TestForbiddenOnRedis7(ForbiddenSuite):
    @pytest.fixture
    def deployment(self, redis_7, deployment_of, grants):
        return deployment_of((redis_7,), grants)


async def test_the_least_grant_reaches_no_other_instance(settings_for):
    async with Redis.from_url(settings_for().url, protocol=2, driver_info=None) as client:
        with pytest.raises(NoPermissionError):
            await client.get("test:another-instance:key")


async def test_the_least_grant_is_enough_for_cached_reads(keyspace):
    now = 0.0
    cache = RedisReadCache(keyspace, monotonic=lambda: now)
    await cache.announce("test_run")
    now = 60.0

    look = await cache.look("test_run", "a")
    await cache.offer("test_run", "a", b"{}", look.token, ttl=60)
    kept = (await cache.look("test_run", "a")).entry
    await cache.drop("test_run", ["a"])
    await cache.drop_all("test_run")

    assert kept == b"{}"
    assert (await cache.look("test_run", "a")).entry is None


@pytest.mark.parametrize("program", [None, system_redis_program()], ids=["valkey", "redis"])
async def test_the_line_for_a_second_instance_takes_nothing_from_the_first(server_folder, program):
    with ThrowawayValkey(server_folder, program=program) as server:
        url = server.url().replace("//", "//test-coordinator-adapter:pw@")
        async with Redis.from_url(server.url()) as admin:
            opened = []
            for instance in ("one", "two", "one"):
                rules = acl_rules(f"test:{instance}", "test:services:", whole_family=True)
                user = ("test-coordinator-adapter", "on", ">pw")
                await admin.execute_command("ACL", "SETUSER", *user, *rules)
                opened.append(Keyspace(KeyspaceSettings(url=url, namespace=f"test:{instance}")))
                for keyspace in opened:
                    await RedisCacheRepository(keyspace).set("key", 1)
            granted = await admin.acl_getuser("test-coordinator-adapter")
            for keyspace in opened:
                await keyspace.aclose()

    assert granted["keys"] in ("~test:*", ["~test:*"])
    assert len(granted["passwords"]) == 1


async def test_another_namespace_is_a_matter_of_configuration(settings_for):
    settings = settings_for()
    stranger = Keyspace(KeyspaceSettings(url=settings.url, namespace="test:of-somebody-else"))
    cache = RedisCacheRepository(stranger)

    with pytest.raises(ConfigurationError):
        await cache.get("key")
    with pytest.raises(ConfigurationError):
        await cache.set_many({"a": 1, "b": 2})

    await stranger.aclose()


async def test_a_database_without_the_right_to_select_it_is_a_matter_of_configuration(
    settings_for,
):
    settings = settings_for()
    keyspace = Keyspace(
        KeyspaceSettings(url=f"{settings.url.rpartition('/')[0]}/1", namespace=settings.namespace)
    )

    with pytest.raises(ConfigurationError, match="select"):
        await keyspace.probe()

    await keyspace.aclose()


async def test_a_wrong_password_is_a_matter_of_configuration(settings_for):
    settings = settings_for()
    head, _, tail = settings.url.partition("@")
    keyspace = Keyspace(KeyspaceSettings(url=f"{head}-wrong@{tail}", namespace=settings.namespace))

    with pytest.raises(ConfigurationError) as denied:
        await keyspace.probe()

    assert head not in str(denied.value)
    await keyspace.aclose()


async def test_a_password_that_changed_is_noticed_at_the_next_connection(settings_for, admin):
    settings = settings_for()
    keyspace = Keyspace(settings)
    await keyspace.probe()
    user = settings.url.partition("//")[2].partition(":")[0]

    await admin.execute_command("ACL", "SETUSER", user, "resetpass", ">another")
    await admin.execute_command("CLIENT", "KILL", "USER", user)

    with pytest.raises(ConfigurationError):
        await keyspace.probe()
    await keyspace.aclose()


async def test_no_command_is_sent_that_the_grant_does_not_name(server_folder):
    with ThrowawayValkey(server_folder) as server:
        async with Redis.from_url(server.url()) as admin:
            rules = ("on", ">pw", "allkeys", "+@all")
            await admin.execute_command("ACL", "SETUSER", "free", *rules)
            await admin.execute_command("CONFIG", "RESETSTAT")
            await do_everything(server.url().replace("//", "//free:pw@"))

            sent = await commands_of(admin)

    assert sent == {*COMMANDS, "auth", "hello"}


async def commands_of(admin: Redis) -> set[str]:
    """The commands that were called, but for those of the administrator."""
    stats = await admin.info("commandstats")
    names = {name.removeprefix("cmdstat_") for name in stats}
    return {name for name in names if not name.startswith(("config|", "client|", "info"))}


async def do_everything(url: str) -> None:
    keyspace = Keyspace(KeyspaceSettings(url=url, namespace="test:everything"))
    cache = RedisCacheRepository(keyspace)
    services = RedisServiceDiscoveryRepository(keyspace)
    await keyspace.probe()
    await cache.set("key", 1, ttl=10)
    await cache.get("key")
    await cache.exists("key")
    await cache.expire("key", 5)
    await cache.get_ttl("key")
    await cache.increment("key")
    await cache.decrement("key")
    await cache.set_many({"a": 1, "b": 2})
    await cache.get_many(["a", "b"])
    await cache.keys()
    await cache.delete("a")
    await cache.delete_many(["b"])
    await cache.delete_pattern("k*")
    await cache.flush_all()
    service = a_service()
    await services.register(service)
    await services.get_service_by_id(service.service_id)
    await services.list_services_by_name(service.service_name)
    await services.list_all_services()
    await services.update_heartbeat(service.service_id)
    await services.is_service_healthy(service.service_id, 10)
    await services.get_service_count()
    await services.remove_stale_services(1000, max_fraction=0.5)
    await services.register(
        a_service(service_id="stale", last_seen=datetime(2000, 1, 1, tzinfo=UTC))
    )
    assert await services.remove_stale_services(1000) == 1
    await services.deregister(service.service_id)
    await RedisReadCache(keyspace).drop("test_run", ["a"])
    await services.list_services_by_name(service.service_name)
    with pytest.raises(NotFoundError):
        await services.update_heartbeat(service.service_id)
    await cache.aclose()
    await keyspace.aclose()
