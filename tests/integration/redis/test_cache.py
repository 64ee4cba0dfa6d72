"""What the cache promises beyond its port: its trips, its neighbours, its costs."""

from __future__ import annotations

import asyncio

import pytest

from test_coordinator_data_adapter.adapters.redis import Keyspace, RedisCacheRepository
from test_coordinator_data_adapter.errors import DataIntegrityError, InvalidValueError


@pytest.fixture
def commands(trips):
    """What each trip since the test began carried."""

    def told():
        return [(trip.command, trip.rows) for trip in trips]

    return told


async def test_reads_of_the_same_moment_share_a_trip(cache, commands):
    await cache.set_many({f"key-{number}": number for number in range(50)})

    values = await asyncio.gather(*(cache.get(f"key-{number}") for number in range(50)))

    assert values == list(range(50))
    assert commands()[1:] == [("MGET", 1), ("MGET", 1)]


async def test_a_reader_that_is_cancelled_takes_nobody_along(cache):
    await cache.set("key", 1)
    tasks = [asyncio.create_task(cache.get("key")) for _ in range(10)]
    await asyncio.sleep(0)

    for task in tasks[::2]:
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert answers[1::2] == [1] * 5
    assert all(isinstance(answer, asyncio.CancelledError) for answer in answers[::2])


async def test_readers_that_share_a_trip_share_no_value(cache):
    await cache.set("key", {"nested": []})

    first, second, third = await asyncio.gather(*(cache.get("key") for _ in range(3)))
    first["nested"].append("changed")

    assert second == third == {"nested": []}


async def test_one_key_is_one_command(cache, commands):
    await cache.set("key", 1, ttl=60)
    await cache.get("key")
    await cache.exists("key")
    await cache.increment("key")
    await cache.delete("key")

    assert [command for command, _ in commands()] == ["SET", "MGET", "EXISTS", "INCRBY", "UNLINK"]


async def test_many_keys_travel_a_thousand_at_a_time(cache, commands):
    items = {f"key-{number}": number for number in range(2500)}

    await cache.set_many(items, ttl=60)
    assert await cache.get_many(items) == items
    assert await cache.delete_many(items) == 2500

    assert [command for command, _ in commands()] == ["SET"] * 3 + ["MGET"] * 3 + ["UNLINK"] * 3
    assert [rows for command, rows in commands() if command == "SET"] == [1000, 1000, 500]


async def test_nothing_to_do_is_no_trip(cache, commands):
    assert await cache.get_many([]) == {}
    assert await cache.set_many({})
    assert await cache.delete_many([]) == 0

    assert commands() == []


@pytest.mark.parametrize("namespace", ["test:a[bc]*?-", "test:x\\", "test:*", "test:{tag}"])
async def test_a_namespace_with_glob_characters_is_only_its_own(settings_for, admin, namespace):
    settings = settings_for(namespace=namespace)
    others = ["test:ab-:key", "test:acxx-:key", "test:anything:key", "test:x:key", "test:tag:key"]
    await admin.mset(dict.fromkeys(others, "1"))
    keyspace = Keyspace(settings)
    cache = RedisCacheRepository(keyspace)
    await cache.set_many({"key": 1, "*": 2, "[x]": 3})

    assert await cache.keys("*") == ["*", "[x]", "key"]
    assert await cache.delete_pattern("k*") == 1
    await cache.flush_all()

    assert await cache.keys() == []
    assert await admin.exists(*others) == len(others)
    await admin.unlink(*others)
    await keyspace.aclose()


async def test_a_value_that_somebody_else_wrote_is_told_by_its_key(cache, keyspace, admin):
    await admin.set(f"{keyspace.prefix}key", "gibberish")

    with pytest.raises(DataIntegrityError) as refused:
        await cache.get("key")

    assert refused.value.id == "key"
    assert "gibberish" not in str(refused.value)


async def test_a_key_that_holds_no_value_has_none(cache, keyspace, admin):
    await admin.rpush(f"{keyspace.prefix}list", "1")

    assert await cache.get("list") is None
    assert await cache.get_many(["list"]) == {}
    with pytest.raises(InvalidValueError):
        await cache.increment("list")


async def test_a_key_that_is_no_text_is_nobodys(cache, keyspace, admin):
    await admin.set(f"{keyspace.prefix}".encode() + b"\xff", "1")

    assert await cache.keys() == []
    assert await cache.flush_all()
    assert await admin.exists(f"{keyspace.prefix}".encode() + b"\xff") == 0


async def test_integers_are_integers_of_redis(cache, keyspace, admin):
    await cache.set_many({"low": -(2**63), "high": 2**63 - 1, "text": "5", "float": 5.0})

    raw = await admin.mget(f"{keyspace.prefix}{key}" for key in ("low", "high", "text", "float"))

    assert raw == [b"-9223372036854775808", b"9223372036854775807", b'"5"', b"5.0"]


async def test_deleting_by_pattern_is_one_trip_for_each_portion(cache, commands):
    await cache.set_many({f"{kind}-{number}": 1 for kind in "ab" for number in range(3000)})
    before = len(commands())

    assert await cache.delete_pattern("a-*") == 3000

    sent = [command for command, _ in commands()[before:]]
    assert len(sent) <= 1 + -(-6000 // 2000) + 200
    assert set(sent) <= {"SCAN", "UNLINK SCAN", "UNLINK"}
    assert "UNLINK SCAN" in sent
    assert len(await cache.keys("b-*")) == 3000
