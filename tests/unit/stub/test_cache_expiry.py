from test_coordinator_data_adapter.adapters.stub import MemoryStore, StubCacheRepository


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_an_entry_is_gone_the_moment_its_time_is_over() -> None:
    clock = Clock()
    cache = StubCacheRepository(MemoryStore(monotonic=clock))
    await cache.set("a", 1, ttl=10)

    clock.now += 9.999999
    before = await cache.get("a"), await cache.get_ttl("a")
    clock.now = 1010.0

    assert before == (1, 1)
    assert await cache.get("a") is None
    assert not await cache.exists("a")
    assert await cache.keys("*") == []
    assert not await cache.expire("a", 5)


async def test_another_life_replaces_the_first() -> None:
    clock = Clock()
    cache = StubCacheRepository(MemoryStore(monotonic=clock))
    await cache.set("a", 1, ttl=1)
    await cache.set("b", 1, ttl=1)

    await cache.set("a", 2)
    await cache.expire("b", 100)
    clock.now += 50

    assert await cache.get_many(["a", "b"]) == {"a": 2, "b": 1}
    assert await cache.get_ttl("a") is None
    assert await cache.get_ttl("b") == 50


async def test_counting_keeps_the_expiry() -> None:
    clock = Clock()
    cache = StubCacheRepository(MemoryStore(monotonic=clock))
    await cache.set("a", 1, ttl=10)

    clock.now += 5
    await cache.increment("a")

    assert await cache.get_ttl("a") == 5


async def test_setting_the_same_key_over_and_over_keeps_the_marks_bounded() -> None:
    store = MemoryStore(monotonic=Clock())
    cache = StubCacheRepository(store)

    for _ in range(1000):
        await cache.set("a", 1, ttl=10)

    assert len(store.cache._expiring) < 100
