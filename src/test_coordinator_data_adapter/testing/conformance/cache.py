"""The suite of the port of the cache."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from enum import IntEnum
from functools import partial
from time import monotonic
from typing import Any, ClassVar, Final

import pytest

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.interfaces import CacheRepository
from test_coordinator_data_adapter.models.values import (
    MAX_DEPTH,
    MAX_INTEGER,
    MAX_RECORD_BYTES,
    JsonValue,
)
from test_coordinator_data_adapter.testing.conformance.hostile import (
    GOOD_IDS,
    GOOD_JSON,
    MIN_INTEGER,
    REFUSED_IDS,
    REFUSED_JSON,
    nested,
)
from test_coordinator_data_adapter.testing.conformance.suite import (
    Suite,
    cancelled_after,
    in_turns,
    refused,
    same_json,
)

__all__ = ["CacheSuite"]

_LONGEST_KEY: Final = 1024
_LONGEST_TTL: Final = 2**31 - 1
_MANY: Final = 2_500
_REFUSED_KEYS: Final[tuple[Any, ...]] = (
    *(text for text in REFUSED_IDS if not text.startswith("x")),
    "x" * (_LONGEST_KEY + 1),
    None,
    1,
    b"bytes",
    ("tuple",),
)
_REFUSED_TTLS: Final[tuple[Any, ...]] = (0, -1, _LONGEST_TTL + 1, 2**63, 1.0, True, "10", math.inf)
_REFUSED_AMOUNTS: Final[tuple[Any, ...]] = (2**63, MIN_INTEGER - 1, 1.0, True, "1", None)
_NO_INTEGERS: Final[tuple[JsonValue, ...]] = (
    "text",
    "5",
    "",
    1.0,
    1e16,
    True,
    False,
    None,
    [],
    [1],
    {},
)

_E: Final = "\N{LATIN SMALL LETTER E WITH ACUTE}"
_GLOB_KEYS: Final = (
    *("A", "a", "b", "c", "ab", "abc", "a*c", "a?c", "a[b]c", "a-c", "a\\c", "^a", "]", "-", "["),
    *("!", "alpha", "alpine", "news.1", "news.12", "a b", "{x}", _E, f"{_E}a", "\u65e5", "100%"),
    "x:y:z",
)
# What Redis 7.0.15 answered, pattern by pattern.
_GLOBS: Final[dict[str, tuple[str, ...]]] = {
    "*": _GLOB_KEYS,
    "**": _GLOB_KEYS,
    "": (),
    "a": ("a",),
    "a*": (*("a", "a b", "a*c", "a-c", "a?c", "a[b]c", "a\\c", "ab", "abc", "alpha", "alpine"),),
    "*a": ("^a", "a", "alpha", f"{_E}a"),
    "al*e": ("alpine",),
    "*b*": ("a b", "a[b]c", "ab", "abc", "b"),
    "?": ("!", "-", "A", "[", "]", "a", "b", "c"),
    "??": ("^a", "ab", _E),
    "???": ("a b", "a*c", "a-c", "a?c", "a\\c", "abc", "{x}", f"{_E}a", "\u65e5"),
    "[ab]": ("a", "b"),
    "[^ab]": ("!", "-", "A", "[", "]", "c"),
    "[a-c]": ("a", "b", "c"),
    "[c-a]": ("a", "b", "c"),
    "[A-Z]": ("A",),
    "[a-]": ("]", "a"),
    "[-a]": ("-", "a"),
    "[^a-c]*": (
        *("!", "-", "100%", "A", "[", "]", "^a", "news.1", "news.12", "x:y:z", "{x}"),
        *(_E, f"{_E}a", "\u65e5"),
    ),
    "a[*]c": ("a*c",),
    "a[?]c": ("a?c",),
    "a[!b]c": ("abc",),
    "a\\*c": ("a*c",),
    "a\\?c": ("a?c",),
    "a\\[b\\]c": ("a[b]c",),
    "a\\\\c": ("a\\c",),
    "a\\": (),
    "\\a": ("a",),
    "[\\]]": ("]",),
    "[]]": (),
    "[]": (),
    "[^]": ("!", "-", "A", "[", "]", "a", "b", "c"),
    "[a": ("a",),
    "[": (),
    "[^a": ("!", "-", "A", "[", "]", "b", "c"),
    "[a-": ("-", "a"),
    "a[b": ("ab",),
    "news.*": ("news.1", "news.12"),
    "news.?": ("news.1",),
    "NEWS.*": (),
    "{x}": ("{x}",),
    "{x,y}": (),
    "(a|b)": (),
    ".*": (),
    "a.c": (),
    "%": (),
    "100%": ("100%",),
    _E: (_E,),
    "?a": ("^a",),
    "??a": (f"{_E}a",),
    f"[{_E}]": (),
    f"[{_E}][{_E}]": (_E,),
    "x:*": ("x:y:z",),
    "*:*:*:*": (),
    "\\^a": ("^a",),
    "[\\^]a": ("^a",),
}


class _Few(IntEnum):
    TWO = 2


class CacheSuite(Suite):
    """Everything `CacheRepository` promises.

    Supply the fixture ``repository``: a `CacheRepository` over an empty namespace nobody
    else uses. Supply ``neighbour`` as well where the backend has namespaces: a repository
    on the same server with another one, which the tests then see untouched. Where the
    clock can be set, supply ``advance``, which otherwise sleeps.
    """

    __test__: ClassVar[bool] = False

    clock_stands_still: ClassVar[bool] = False
    """Whether entries grow older by ``advance`` alone."""

    @pytest.fixture
    def advance(self) -> Callable[[float], Awaitable[object]]:
        """Lets so many seconds pass."""
        return asyncio.sleep

    @pytest.fixture
    def neighbour(self) -> CacheRepository | None:
        """A repository of another namespace, or None without namespaces."""
        return None

    # One key

    async def test_a_value_that_was_set_is_there(self, repository: CacheRepository) -> None:
        assert await repository.set("key", {"a": [1]}) is True

        assert await repository.get("key") == {"a": [1]}
        assert await repository.exists("key") is True
        assert await repository.keys() == ["key"]

    async def test_a_key_that_was_never_set_is_not_there(self, repository: CacheRepository) -> None:
        await repository.set("key", 1)

        for key in ("unknown", "KEY", "ke", "key ", "*", "k?y"):
            assert await repository.get(key) is None
            assert await repository.get_json(key) is None
            assert await repository.exists(key) is False
            assert await repository.get_ttl(key) is None
            assert await repository.expire(key, 10) is False
            assert await repository.delete(key) is False

    async def test_null_is_a_value(self, repository: CacheRepository) -> None:
        await repository.set("key", None)

        assert await repository.get("key") is None
        assert await repository.exists("key") is True
        assert await repository.get_many(["key"]) == {"key": None}
        assert await repository.delete("key") is True

    async def test_a_value_replaces_the_one_before_and_its_time_to_live(
        self, repository: CacheRepository
    ) -> None:
        await repository.set("key", "old", ttl=100)

        await repository.set("key", ["new"])

        assert await repository.get("key") == ["new"]
        assert await repository.get_ttl("key") is None

    async def test_every_value_comes_back_equal_and_of_the_same_type(
        self, repository: CacheRepository
    ) -> None:
        values = {
            **GOOD_JSON,
            "all of them": GOOD_JSON,
            "deepest": nested(MAX_DEPTH),
            "largest": "x" * (MAX_RECORD_BYTES - 2),
        }

        await in_turns(repository.set(name, value) for name, value in values.items())

        for name, value in values.items():
            assert same_json(await repository.get(name), value, exact=True), name
        found = await repository.get_many(values)
        assert same_json(found, values, exact=True)

    async def test_every_key_is_kept_apart_and_comes_back_as_it_was(
        self, repository: CacheRepository
    ) -> None:
        keys = [*GOOD_IDS, "x" * _LONGEST_KEY, "\N{GRINNING FACE}" * _LONGEST_KEY]

        await repository.set_many({key: [key] for key in keys})

        assert await repository.keys() == sorted(keys)
        assert await repository.get_many(keys) == {key: [key] for key in keys}
        for number, key in enumerate(keys, start=1):
            assert await repository.get(key) == [key]
            assert await repository.delete(key) is True
            assert len(await repository.keys()) == len(keys) - number

    async def test_a_deleted_key_is_gone(self, repository: CacheRepository) -> None:
        await repository.set_many({"gone": 1, "left": 2})

        assert await repository.delete("gone") is True
        assert await repository.delete("gone") is False

        assert await repository.get("gone") is None
        assert await repository.exists("gone") is False
        assert await repository.keys() == ["left"]

    async def test_the_json_methods_are_the_others_by_another_name(
        self, repository: CacheRepository
    ) -> None:
        assert await repository.set_json("key", {"a": [1, None]}, 100) is True

        assert await repository.get_json("key") == {"a": [1, None]}
        assert await repository.get("key") == {"a": [1, None]}
        assert await repository.get_ttl("key") is not None
        with refused((), "value"):
            await repository.set_json("key", ())

    # Copies

    async def test_what_goes_in_and_comes_out_is_a_copy(self, repository: CacheRepository) -> None:
        given: dict[str, list[dict[str, int]]] = {"nested": [{"a": 1}]}
        expected = {"nested": [{"a": 1}]}

        await repository.set("one", given)
        await repository.set_many({"two": given})
        given["nested"][0]["a"] = 2

        for _ in range(2):
            found = [
                await repository.get("one"),
                await repository.get("two"),
                await repository.get_json("one"),
                *(await repository.get_many(["one", "two"])).values(),
            ]
            assert found == [expected] * 5
            for value in found:
                value["nested"][0]["a"] = 3
                value["nested"].append(4)

    async def test_readers_at_once_each_get_a_copy_of_their_own(
        self, repository: CacheRepository
    ) -> None:
        await repository.set_many({"one": {"nested": [1]}, "two": [2]})

        keys = ["one", "two", "unknown"] * 8
        values = await asyncio.gather(*(repository.get(key) for key in keys))
        values[0]["nested"].append("changed")

        assert values[3::3] == [{"nested": [1]}] * 7
        assert values[1::3] == [[2]] * 8
        assert values[2::3] == [None] * 8

    async def test_a_cancelled_reader_takes_nobody_with_it(
        self, repository: CacheRepository
    ) -> None:
        await repository.set("key", [1])

        for steps in range(6):
            readers = [asyncio.ensure_future(repository.get("key")) for _ in range(5)]
            for _ in range(steps):
                await asyncio.sleep(0)
            readers[0].cancel()
            readers[3].cancel()
            ends = await asyncio.gather(*readers, return_exceptions=True)
            assert [ends[1], ends[2], ends[4]] == [[1]] * 3

    async def test_a_reader_that_is_refused_takes_nobody_with_it(
        self, repository: CacheRepository
    ) -> None:
        await repository.set("key", 1)

        ends = await asyncio.gather(
            repository.get("key"),
            repository.get(""),
            repository.get("key"),
            return_exceptions=True,
        )

        assert (ends[0], ends[2]) == (1, 1)
        assert isinstance(ends[1], InvalidValueError)

    async def test_a_caller_reads_its_own_writes_whoever_else_reads(
        self, repository: CacheRepository
    ) -> None:
        async def write_and_read(number: int) -> bool:
            await repository.set(f"key {number % 4} {number}", number)
            return bool(await repository.get(f"key {number % 4} {number}") == number)

        assert all(await asyncio.gather(*(write_and_read(number) for number in range(32))))

    # Time to live

    async def test_the_time_to_live_is_whole_seconds_rounded_up(
        self, repository: CacheRepository, advance: Callable[[float], Awaitable[object]]
    ) -> None:
        await repository.set("key", 1, ttl=100)
        await repository.set("long", 1, ttl=_LONGEST_TTL)

        left = await repository.get_ttl("key")
        long = await repository.get_ttl("long")

        slow = 0 if self.clock_stands_still else 60
        assert type(left) is int
        assert 100 - slow <= left <= 100
        assert type(long) is int
        assert _LONGEST_TTL - slow <= long <= _LONGEST_TTL
        if self.clock_stands_still:
            await advance(0.5)
            assert await repository.get_ttl("key") == 100
            await advance(98.5)
            assert await repository.get_ttl("key") == 1
            await advance(0.75)
            assert await repository.get_ttl("key") == 1

    async def test_a_key_without_expiry_has_no_time_to_live(
        self, repository: CacheRepository
    ) -> None:
        await repository.set("key", 1)
        await repository.set_many({"other": 2}, ttl=None)

        assert await repository.get_ttl("key") is None
        assert await repository.get_ttl("other") is None
        assert await repository.get_ttl("unknown") is None

    async def test_a_key_can_be_given_another_time_to_live(
        self, repository: CacheRepository
    ) -> None:
        await repository.set("key", 1)
        await repository.set("other", 1, ttl=10)

        assert await repository.expire("key", 1000) is True
        assert await repository.expire("other", 5000) is True

        left, other = await repository.get_ttl("key"), await repository.get_ttl("other")
        assert left is not None
        assert other is not None
        assert 900 < left <= 1000
        assert 4900 < other <= 5000
        assert await repository.get("key") == 1

    async def test_an_entry_is_gone_the_moment_its_time_is_over(
        self, repository: CacheRepository, advance: Callable[[float], Awaitable[object]]
    ) -> None:
        async def fill() -> int:
            await repository.set("set", 1, ttl=1)
            await repository.set_many({"many": 1, "counter": 5}, ttl=1)
            await repository.set_many({"shortened": 1, "for good": 1})
            await repository.expire("shortened", 1)
            await repository.set("prolonged", 1, ttl=1)
            await repository.expire("prolonged", 1000)
            await repository.set("set again", 1, ttl=1)
            await repository.set("set again", 2)
            await repository.set("deleted and set", 1, ttl=1)
            await repository.delete("deleted and set")
            await repository.set("deleted and set", 2)
            return await repository.increment("counter")

        while True:
            began = monotonic()
            counter = await fill()
            # Where time goes on by itself, a busy machine may have been too slow for it.
            if self.clock_stands_still or monotonic() - began < 1:
                break
        assert counter == 6
        gone = ["set", "many", "counter", "shortened"]
        left = ["deleted and set", "for good", "prolonged", "set again"]
        if self.clock_stands_still:
            await advance(0.999)
            assert await repository.keys() == sorted(gone + left)
            await advance(0.001)
        else:
            await advance(1.05)

        assert await repository.keys() == left
        assert list(await repository.get_many(gone + left)) == left
        for key in gone:
            assert await repository.get(key) is None
            assert await repository.exists(key) is False
            assert await repository.get_ttl(key) is None
            assert await repository.expire(key, 10) is False
            assert await repository.delete(key) is False
        assert await repository.delete_many(gone) == 0
        assert await repository.delete_pattern("set") == 0
        assert await repository.increment("counter") == 1
        assert await repository.get_ttl("counter") is None

    async def test_a_time_to_live_out_of_range_is_refused_and_changes_nothing(
        self, repository: CacheRepository
    ) -> None:
        await repository.set("key", "old")

        for ttl in _REFUSED_TTLS:
            with refused(ttl, "ttl"):
                await repository.set("key", "new", ttl)
            with refused(ttl, "ttl"):
                await repository.set_json("key", "new", ttl)
            with refused(ttl, "ttl"):
                await repository.set_many({"key": "new"}, ttl)
        ttls: tuple[Any, ...] = (*_REFUSED_TTLS, None)
        for ttl in ttls:
            with refused(ttl, "ttl"):
                await repository.expire("key", ttl)
        assert await repository.get("key") == "old"
        assert await repository.get_ttl("key") is None

    # Counting

    async def test_a_missing_key_counts_from_0(self, repository: CacheRepository) -> None:
        assert await repository.increment("up") == 1
        assert await repository.increment("up", 41) == 42
        assert await repository.decrement("down") == -1
        assert await repository.decrement("down", 41) == -42
        assert await repository.increment("none", 0) == 0

        assert await repository.get_many(["up", "down", "none"]) == {
            "up": 42,
            "down": -42,
            "none": 0,
        }
        assert type(await repository.get("up")) is int
        assert await repository.get_ttl("up") is None

    async def test_an_integer_that_was_set_can_be_counted_on(
        self, repository: CacheRepository
    ) -> None:
        await repository.set_many({"key": 7, "negative": -7, "zero": 0})

        assert await repository.increment("key", -3) == 4
        assert await repository.decrement("negative", -3) == -4
        assert await repository.decrement("zero", 0) == 0

    async def test_counting_leaves_the_expiry(self, repository: CacheRepository) -> None:
        await repository.set("key", 1, ttl=1000)

        await repository.increment("key")
        await repository.decrement("key", 5)

        left = await repository.get_ttl("key")
        assert left is not None
        assert 900 < left <= 1000

    async def test_counting_reaches_the_ends_of_64_bits_and_not_beyond(
        self, repository: CacheRepository
    ) -> None:
        assert await repository.increment("up", MAX_INTEGER) == MAX_INTEGER
        assert await repository.increment("down", MIN_INTEGER) == MIN_INTEGER
        assert await repository.increment("both", MIN_INTEGER) == MIN_INTEGER
        assert await repository.increment("both", MAX_INTEGER) == -1

        for key, amount in (("up", 1), ("up", MAX_INTEGER), ("down", -1), ("down", MIN_INTEGER)):
            with pytest.raises(InvalidValueError):
                await repository.increment(key, amount)
        for key, amount in (("up", -1), ("down", 1), ("up", -MAX_INTEGER)):
            with pytest.raises(InvalidValueError):
                await repository.decrement(key, amount)
        assert await repository.get_many(["up", "down"]) == {
            "up": MAX_INTEGER,
            "down": MIN_INTEGER,
        }

    async def test_what_is_no_integer_cannot_be_counted_and_stays(
        self, repository: CacheRepository
    ) -> None:
        for value in _NO_INTEGERS:
            await repository.set("key", value)

            for count in (repository.increment, repository.decrement):
                with pytest.raises(ValueError, match=r".") as caught:
                    await count("key")
                assert isinstance(caught.value, InvalidValueError), value
            assert same_json(await repository.get("key"), value, exact=True)

    async def test_what_is_no_amount_is_refused(self, repository: CacheRepository) -> None:
        await repository.set("key", 1)

        for amount in _REFUSED_AMOUNTS:
            with refused(amount, "amount"):
                await repository.increment("key", amount)
            with refused(amount, "amount"):
                await repository.decrement("key", amount)
        with refused(MIN_INTEGER, "amount"):
            await repository.decrement("key", MIN_INTEGER)
        assert await repository.get("key") == 1

    async def test_a_number_of_another_class_is_the_number_it_is(
        self, repository: CacheRepository
    ) -> None:
        """A member of an IntEnum, for instance."""
        await repository.set("key", 1, ttl=_Few.TWO)

        assert await repository.increment("key", _Few.TWO) == 3
        assert await repository.expire("key", _Few.TWO) is True

    async def test_counts_at_once_are_all_counted(self, repository: CacheRepository) -> None:
        counts = await asyncio.gather(*(repository.increment("key") for _ in range(40)))
        await asyncio.gather(
            *(repository.increment("key", 10) for _ in range(10)),
            *(repository.decrement("key", 3) for _ in range(10)),
        )

        assert sorted(counts) == list(range(1, 41))
        assert await repository.get("key") == 40 + 100 - 30

    # Many keys

    async def test_many_values_come_in_the_order_asked_for_without_those_that_are_missing(
        self, repository: CacheRepository
    ) -> None:
        assert await repository.set_many({"b": 1, "a": [2], "c": None}) is True

        found = await repository.get_many(["c", "unknown", "a", "c", "b"])

        assert list(found.items()) == [("c", None), ("a", [2]), ("b", 1)]
        assert await repository.get_many(key for key in "ab") == {"a": [2], "b": 1}

    async def test_of_no_keys_every_answer_is_empty(self, repository: CacheRepository) -> None:
        await repository.set("key", 1)

        assert await repository.get_many([]) == {}
        assert await repository.set_many({}) is True
        assert await repository.delete_many([]) == 0
        assert await repository.keys() == ["key"]

    async def test_many_values_share_one_time_to_live(self, repository: CacheRepository) -> None:
        await repository.set("b", 0, ttl=10)

        await repository.set_many({"a": 1, "b": 2}, ttl=1000)

        for key in ("a", "b"):
            left = await repository.get_ttl(key)
            assert left is not None
            assert 900 < left <= 1000

    async def test_many_values_with_a_bad_one_among_them_store_nothing(
        self, repository: CacheRepository
    ) -> None:
        await repository.set("a", "old")
        key: Any
        items: Any

        for what, value in REFUSED_JSON.items():
            with refused(what):
                await repository.set_many({"a": 1, "b": value, "c": 2})
        for key in _REFUSED_KEYS:
            with refused(key, "items"):
                await repository.set_many({"a": 1, key: 2})
        for items in (None, [("a", 1)], "a", {"a"}):
            with refused(items):
                await repository.set_many(items)
        assert await repository.keys() == ["a"]
        assert await repository.get("a") == "old"

    async def test_many_keys_are_deleted_and_counted_once_each(
        self, repository: CacheRepository
    ) -> None:
        await repository.set_many(dict.fromkeys("abcd", 1))

        assert await repository.delete_many(["a", "unknown", "b", "a"]) == 2
        assert await repository.delete_many(key for key in "ac") == 1

        assert await repository.keys() == ["d"]

    async def test_one_text_is_no_collection_of_keys(self, repository: CacheRepository) -> None:
        await repository.set_many(dict.fromkeys("key", 1))
        keys: Any

        for keys in ("key", b"key"):
            with refused(keys, "keys"):
                await repository.get_many(keys)
            with refused(keys, "keys"):
                await repository.delete_many(keys)
        assert await repository.keys() == ["e", "k", "y"]

    async def test_thousands_of_keys_are_all_there(self, repository: CacheRepository) -> None:
        items = {f"key {number:05}": number for number in range(_MANY)}

        await repository.set_many({**items, "other": 1})

        assert await repository.keys("key *") == list(items)
        assert await repository.get_many(items) == items
        assert await repository.delete_many(list(items)[:1100]) == 1100
        assert await repository.delete_pattern("key *") == _MANY - 1100
        assert await repository.keys() == ["other"]

    async def test_a_cancelled_call_leaves_the_repository_working(
        self, repository: CacheRepository
    ) -> None:
        for steps in range(8):
            await cancelled_after(steps, partial(repository.set, "key", ["new"]))
            await cancelled_after(steps, partial(repository.get, "key"))
            await cancelled_after(steps, repository.keys)
            await cancelled_after(steps, partial(repository.get_many, ["key", "other"]))
            assert await repository.get("key") in (None, ["new"])
            assert await repository.set(f"mark {steps}", steps) is True
            assert await repository.get(f"mark {steps}") == steps

    # Patterns

    async def test_keys_that_match_are_found_as_redis_finds_them(
        self, repository: CacheRepository
    ) -> None:
        await repository.set_many(dict.fromkeys(_GLOB_KEYS, 1))

        for pattern, expected in _GLOBS.items():
            assert await repository.keys(pattern) == sorted(expected), pattern

    async def test_keys_that_match_are_deleted_and_no_others(
        self, repository: CacheRepository
    ) -> None:
        for pattern, expected in _GLOBS.items():
            await repository.set_many(dict.fromkeys(_GLOB_KEYS, 1))

            assert await repository.delete_pattern(pattern) == len(expected), pattern

            assert await repository.keys() == sorted(set(_GLOB_KEYS) - set(expected)), pattern

    async def test_keys_are_ordered_by_their_code_points(self, repository: CacheRepository) -> None:
        assert await repository.keys() == []
        await repository.set_many(dict.fromkeys(GOOD_IDS, 1))

        assert await repository.keys() == sorted(GOOD_IDS)
        assert await repository.keys("*") == sorted(GOOD_IDS)

    async def test_a_pattern_full_of_stars_is_answered_in_time(
        self, repository: CacheRepository
    ) -> None:
        await repository.set("a" * 60, 1)

        async with asyncio.timeout(60):
            assert await repository.keys("*a" * 20 + "b") == []
            assert await repository.delete_pattern("*a" * 20 + "b") == 0

    async def test_a_pattern_as_complex_as_is_allowed_is_answered(
        self, repository: CacheRepository
    ) -> None:
        await repository.set_many(dict.fromkeys(("*" * 33, "a" * 128, "z" * 1000 + "y"), 1))

        assert await repository.keys("*" * 32 + "a" * 128) == ["a" * 128]
        assert await repository.keys("z" * 1000 + "?") == ["z" * 1000 + "y"]
        assert await repository.keys(r"\*" * 33) == ["*" * 33]
        assert await repository.keys("[*]" * 33) == ["*" * 33]
        assert await repository.keys("[^*]" * 1023) == []
        assert await repository.delete_pattern("*" * 32 + "a" * 128) == 1

    async def test_a_pattern_that_is_too_complex_is_refused_with_the_rule(
        self, repository: CacheRepository
    ) -> None:
        await repository.set("a" * 1000, 1)

        for pattern in ("*a" * 500, "*" * 33, "*" + "?" * 129, "*[" + "a" * 128 + "]", "a" * 4097):
            for call in (repository.keys, repository.delete_pattern):
                with pytest.raises(InvalidValueError, match="at most 32 of them") as caught:
                    await call(pattern)
                assert caught.value.field == "pattern"
        assert await repository.keys() == ["a" * 1000]

    async def test_what_is_no_pattern_is_refused(self, repository: CacheRepository) -> None:
        await repository.set("key", 1)
        pattern: Any

        for pattern in (None, 1, b"*", "\0", "\ud800", ["*"]):
            with refused(pattern, "pattern"):
                await repository.keys(pattern)
            with refused(pattern, "pattern"):
                await repository.delete_pattern(pattern)
        assert await repository.keys() == ["key"]

    async def test_flushing_removes_every_key(self, repository: CacheRepository) -> None:
        await repository.set_many(dict.fromkeys(GOOD_IDS, 1), ttl=1000)

        assert await repository.flush_all() is True
        assert await repository.flush_all() is True

        assert await repository.keys() == []
        assert await repository.get("plain") is None

    async def test_no_other_namespace_is_read_or_touched(
        self, repository: CacheRepository, neighbour: CacheRepository | None
    ) -> None:
        if neighbour is None:
            pytest.skip("no fixture `neighbour`: this backend has no second namespace to watch")
        await neighbour.set_many({"key": "theirs", "other": "theirs"})
        await repository.set("key", "ours")

        assert await repository.get("other") is None
        assert await repository.keys("*") == ["key"]
        assert await repository.delete_pattern("*") == 1
        assert await repository.delete_many(["key", "other"]) == 0
        assert await repository.flush_all() is True

        assert await neighbour.get_many(["key", "other"]) == {"key": "theirs", "other": "theirs"}
        await neighbour.flush_all()

    # What is refused

    async def test_what_is_no_key_is_refused(self, repository: CacheRepository) -> None:
        await repository.set("key", 1)

        for key in _REFUSED_KEYS:
            for call in (
                lambda key=key: repository.get(key),
                lambda key=key: repository.get_json(key),
                lambda key=key: repository.set(key, 1),
                lambda key=key: repository.set_json(key, 1),
                lambda key=key: repository.delete(key),
                lambda key=key: repository.exists(key),
                lambda key=key: repository.expire(key, 10),
                lambda key=key: repository.get_ttl(key),
                lambda key=key: repository.increment(key),
                lambda key=key: repository.decrement(key),
            ):
                with refused(key, "key"):
                    await call()
            with refused(key, "keys"):
                await repository.get_many(["key", key])
            with refused(key, "keys"):
                await repository.delete_many(["key", key])
        assert await repository.keys() == ["key"]

    async def test_what_is_no_json_is_refused_and_changes_nothing(
        self, repository: CacheRepository
    ) -> None:
        await repository.set("key", "old", ttl=1000)
        values: dict[str, Any] = {
            **REFUSED_JSON,
            "one level too deep": nested(MAX_DEPTH + 1),
            "one byte too large": "x" * (MAX_RECORD_BYTES - 1),
        }

        for what, value in values.items():
            with refused(what, "value"):
                await repository.set("key", value)
        assert await repository.get("key") == "old"
        assert await repository.get_ttl("key") is not None

    async def test_an_error_never_quotes_the_value_it_refuses(
        self, repository: CacheRepository
    ) -> None:
        with pytest.raises(InvalidValueError) as caught:
            await repository.set("key", {"password": ("hunter2",)})

        assert caught.value.field == "value.password"
        assert "hunter2" not in repr(caught.value)
