"""What the suites of the four stored kinds ask alike."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from functools import partial
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

import pytest

from test_coordinator_data_adapter.errors import (
    ConflictError,
    DuplicateError,
    InvalidValueError,
    NotFoundError,
)
from test_coordinator_data_adapter.interfaces.queries import (
    AuditQuery,
    ChaosEventQuery,
    Page,
    Query,
    ScenarioQuery,
    TestResultQuery,
    TestRunQuery,
)
from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import (
    MAX_DEPTH,
    MAX_MOMENT,
    MAX_RECORD_BYTES,
    MIN_MOMENT,
)
from test_coordinator_data_adapter.testing.conformance.hostile import (
    GOOD_IDS,
    GOOD_JSON,
    GOOD_TEXTS,
    REFUSED_BATCH_SIZES,
    REFUSED_CURSORS,
    REFUSED_ID_ARGUMENTS,
    REFUSED_IDS,
    REFUSED_JSON,
    REFUSED_LIMITS,
    REFUSED_MOMENT_ARGUMENTS,
    REFUSED_MOMENTS,
    REFUSED_TEXTS,
    nested,
)
from test_coordinator_data_adapter.testing.conformance.suite import (
    Suite,
    altered,
    assert_same,
    assert_same_list,
    cancelled_after,
    in_turns,
    refused,
    shuffled,
    smuggled,
    spoil,
)

__all__ = [
    "DAY",
    "MICROSECOND",
    "NOON",
    "ChangingSuite",
    "StoredSuite",
    "VersionedSuite",
    "always",
    "keep",
    "never",
    "read",
]

EntityT = TypeVar("EntityT", bound=Entity)
QueryT = TypeVar("QueryT", bound=Query)
QueryT_contra = TypeVar("QueryT_contra", bound=Query, contravariant=True)
StatusT = TypeVar("StatusT", bound=StrEnum)
StatusT_contra = TypeVar("StatusT_contra", bound=StrEnum, contravariant=True)

NOON: Final = datetime(2026, 3, 4, 12, 0, 0, 123_456, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
DAY: Final = timedelta(days=1)

_QUERIES: Final = (
    Query(),
    ScenarioQuery(),
    TestRunQuery(),
    ChaosEventQuery(),
    TestResultQuery(),
    AuditQuery(),
)
_ELSEWHERE: Final = timezone(timedelta(hours=5, minutes=30))
_STREAMS_AT_ONCE: Final = 40
# More than any of these queries has items.
_MOST_PAGES: Final = 200


class _Store(Protocol[EntityT, QueryT_contra]):
    """What the repositories of all stored kinds have."""

    async def create(self, entity: EntityT, /) -> EntityT: ...

    async def get_by_id(self, id_: str, /) -> EntityT | None: ...

    async def get_or_create(self, entity: EntityT) -> tuple[EntityT, bool]: ...

    async def find(
        self,
        query: QueryT_contra,
        *,
        limit: int = 100,
        cursor: str | None = None,
        newest_first: bool = False,
    ) -> Page[EntityT]: ...

    async def list_matching(self, query: QueryT_contra) -> list[EntityT]: ...

    def stream(
        self,
        query: QueryT_contra,
        *,
        batch_size: int | None = None,
        newest_first: bool = False,
    ) -> AsyncIterator[EntityT]: ...

    async def count(self, query: QueryT_contra) -> int: ...

    async def prune(self, older_than: datetime, *, batch_size: int | None = None) -> int: ...


class _ChangingStore(
    _Store[EntityT, QueryT_contra], Protocol[EntityT, QueryT_contra, StatusT_contra]
):
    """What the repositories have whose entities change."""

    async def update(self, entity: EntityT, /) -> EntityT: ...

    async def update_status(
        self,
        id_: str,
        /,
        status: StatusT_contra,
        *,
        expected: StatusT_contra | Collection[StatusT_contra] | None = None,
    ) -> EntityT: ...


class _VersionedStore(
    _ChangingStore[EntityT, QueryT_contra, StatusT_contra],
    Protocol[EntityT, QueryT_contra, StatusT_contra],
):
    """What the repositories have whose entities know when they last changed."""

    async def update(
        self, entity: EntityT, /, *, if_unchanged_since: datetime | None = None
    ) -> EntityT: ...

    async def delete(self, id_: str, /) -> bool: ...


async def read(stream: AsyncIterator[EntityT]) -> list[EntityT]:
    """Everything a stream yields."""
    return [entity async for entity in stream]


async def paged(
    store: _Store[EntityT, Any], query: object, *, limit: int, newest_first: bool = False
) -> list[EntityT]:
    """Everything a query finds, a page at a time."""
    found: list[EntityT] = []
    cursor: str | None = None
    for _ in range(_MOST_PAGES):
        page = await store.find(query, limit=limit, cursor=cursor, newest_first=newest_first)
        found += page.items
        if page.next_cursor is None:
            return found
        cursor = page.next_cursor
    pytest.fail("the pages never end")


async def keep(store: _Store[EntityT, Any], *entities: EntityT) -> list[EntityT]:
    """Store the entities, in an order that tells nothing, and return them in theirs."""
    await in_turns(store.create(entity) for entity in shuffled(entities))
    return sorted(entities, key=lambda entity: (_created(entity), entity.identity))


def always(_: Entity) -> bool:
    """What a query without any field says of every entity."""
    return True


def never(_: Entity) -> bool:
    """What a query that nothing meets says of every entity."""
    return False


def _created(entity: Entity) -> datetime:
    moment = entity.__dict__["created_at"]
    assert isinstance(moment, datetime)
    return moment


class StoredSuite(Suite, Generic[EntityT, QueryT]):
    """Tests that every stored kind passes."""

    __test__: ClassVar[bool] = False

    kind: ClassVar[type[Entity]]
    texts: ClassVar[tuple[str, ...]]
    """The fields that hold free text."""
    references: ClassVar[tuple[str, ...]]
    """The fields that hold one id of something else."""
    moments: ClassVar[tuple[str, ...]]
    """The fields that hold a time."""
    json: ClassVar[str | None]
    """The field that holds a JSON object, if there is one."""

    @abstractmethod
    def sample(self) -> EntityT:
        """A valid entity with a fresh id that a prune removes when it is old."""

    @abstractmethod
    def everything(self) -> QueryT:
        """The query without any field."""

    @abstractmethod
    def nothing(self) -> Sequence[QueryT]:
        """Every query with an empty collection in one of its fields."""

    @abstractmethod
    def questions(self) -> tuple[list[EntityT], list[tuple[QueryT, Callable[[EntityT], bool]]]]:
        """Entities, and queries about them with the truth about each entity."""

    @abstractmethod
    def naming(self, value: str) -> tuple[EntityT, QueryT]:
        """An entity that refers to that id, and the query for what refers to it."""

    def made(self, id_: str | None = None, /, **fields: Any) -> EntityT:
        """A valid entity with these fields."""
        if id_ is not None:
            fields[self.kind.id_field] = id_
        return altered(self.sample(), **fields)

    def series(self, count: int, *, first: datetime = NOON) -> list[EntityT]:
        """Entities created one microsecond after the other, in order."""
        return [self.made(created_at=first + number * MICROSECOND) for number in range(count)]

    # Creating and reading one

    async def test_create_returns_exactly_what_it_was_given(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        given = self.made(created_at=NOON)

        stored = await repository.create(given)

        assert stored is not given
        assert_same(stored, given)

    async def test_what_was_created_is_found_by_its_id(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        given, other = self.sample(), self.sample()

        await repository.create(given)
        await repository.create(other)

        assert_same(await repository.get_by_id(given.identity), given)
        assert_same(await repository.get_by_id(other.identity), other)

    async def test_an_unknown_id_is_none(self, repository: _Store[EntityT, QueryT]) -> None:
        await repository.create(self.made("known"))

        assert await repository.get_by_id("unknown") is None
        assert await repository.get_by_id("KNOWN") is None
        assert await repository.get_by_id("know_") is None
        assert await repository.get_by_id("%") is None

    async def test_what_is_no_id_is_refused(self, repository: _Store[EntityT, QueryT]) -> None:
        for value in REFUSED_ID_ARGUMENTS:
            with refused(value, self.kind.id_field):
                await repository.get_by_id(value)

    async def test_an_id_that_is_there_already_is_a_duplicate_and_stays_as_it_is(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        first = await repository.create(self.made("taken", created_at=NOON))

        with pytest.raises(DuplicateError) as caught:
            await repository.create(self.made("taken", created_at=NOON + DAY))

        assert (caught.value.entity, caught.value.id) == (self.kind.entity_name, "taken")
        assert caught.value.ids == ("taken",)
        assert_same(await repository.get_by_id("taken"), first)
        assert await repository.count(self.everything()) == 1

    async def test_of_many_that_create_one_id_at_once_exactly_one_wins(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        rivals = [self.made("wanted", created_at=NOON + number * DAY) for number in range(8)]

        ends = await asyncio.gather(
            *(repository.create(rival) for rival in rivals), return_exceptions=True
        )

        winners = [end for end in ends if not isinstance(end, BaseException)]
        assert len(winners) == 1
        assert sum(isinstance(end, DuplicateError) for end in ends) == len(rivals) - 1
        assert_same(await repository.get_by_id("wanted"), winners[0])

    async def test_many_that_are_created_at_once_are_all_there(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entities = self.series(24)

        await asyncio.gather(*(repository.create(entity) for entity in entities))

        assert_same_list(await repository.list_matching(self.everything()), entities)

    async def test_a_cancelled_create_leaves_all_of_it_or_nothing(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        for steps in range(10):
            entity = self.sample()

            await cancelled_after(steps, partial(repository.create, entity))

            found = await repository.get_by_id(entity.identity)
            if found is not None:
                assert_same(found, entity)
            try:
                await repository.create(entity)
            except DuplicateError:
                assert_same(await repository.get_by_id(entity.identity), entity)
        assert await repository.count(self.everything()) == 10

    async def test_creations_at_once_each_have_an_end_of_their_own(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        taken = await repository.create(self.made("taken"))
        bad = smuggled(self.sample(), created_at="yesterday")
        fresh = [self.sample() for _ in range(6)]

        ends = await asyncio.gather(
            *(repository.create(entity) for entity in (*fresh[:3], taken, bad, *fresh[3:], taken)),
            return_exceptions=True,
        )

        created = [end for end in ends if isinstance(end, Entity)]
        assert [entity.identity for entity in created] == [entity.identity for entity in fresh]
        for end in (ends[3], ends[8]):
            assert isinstance(end, DuplicateError)
            assert end.ids == ("taken",)
        assert isinstance(ends[4], InvalidValueError)
        assert await repository.count(self.everything()) == 7

    # Many readers at once

    async def test_readers_at_once_each_get_their_own_answer(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        one, other = await keep(repository, *self.series(2))

        ends = await asyncio.gather(
            *(
                repository.get_by_id(id_)
                for id_ in (one.identity, "unknown", other.identity, "", one.identity) * 4
            ),
            return_exceptions=True,
        )

        for first, unknown, second, refusal, again in zip(*[iter(ends)] * 5, strict=True):
            assert isinstance(first, Entity)
            assert isinstance(second, Entity)
            assert isinstance(again, Entity)
            assert_same(first, one)
            assert_same(second, other)
            assert_same(again, one)
            assert unknown is None
            assert isinstance(refusal, InvalidValueError)
            spoil(first)

    async def test_a_cancelled_reader_takes_nobody_with_it(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entity = await repository.create(self.sample())

        for steps in range(6):
            readers = [
                asyncio.ensure_future(repository.get_by_id(entity.identity)) for _ in range(5)
            ]
            for _ in range(steps):
                await asyncio.sleep(0)
            readers[0].cancel()
            readers[3].cancel()
            ends = await asyncio.gather(*readers, return_exceptions=True)
            for end in (ends[1], ends[2], ends[4]):
                assert isinstance(end, Entity)
                assert_same(end, entity)

    async def test_a_caller_reads_its_own_writes_whoever_else_reads(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        async def write_and_read() -> None:
            entity = self.sample()
            assert await repository.get_by_id(entity.identity) is None
            await repository.create(entity)
            assert_same(await repository.get_by_id(entity.identity), entity)

        await asyncio.gather(*(write_and_read() for _ in range(16)))

    # Copies

    async def test_changing_what_was_given_changes_nothing_stored(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        given = self.sample()
        before = altered(given)

        await repository.create(given)
        spoil(given)

        assert_same(await repository.get_by_id(before.identity), before)

    async def test_changing_what_came_back_changes_nothing_stored(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        before = self.sample()

        spoil(await repository.create(altered(before)))
        for _ in range(2):
            found = await repository.get_by_id(before.identity)
            assert_same(found, before)
            spoil(found or before)
            (listed,) = await repository.list_matching(self.everything())
            assert_same(listed, before)
            spoil(listed)
            (paged,) = (await repository.find(self.everything())).items
            assert_same(paged, before)
            spoil(paged)
            (streamed,) = await read(repository.stream(self.everything()))
            assert_same(streamed, before)
            spoil(streamed)

    # Order

    async def test_lists_are_ordered_by_creation_to_the_microsecond(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        early = self.made(created_at=MIN_MOMENT)
        late = self.made(created_at=MAX_MOMENT)
        between = self.series(6)

        await keep(repository, early, late, *between)

        for _ in range(2):
            found = await repository.list_matching(self.everything())
            assert_same_list(found, [early, *between, late])

    async def test_what_was_created_in_the_same_microsecond_is_ordered_by_the_code_points_of_its_id(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        tied = [self.made(id_, created_at=NOON) for id_ in GOOD_IDS]

        await keep(repository, *tied)

        expected = sorted(GOOD_IDS)
        for _ in range(2):
            found = await repository.list_matching(self.everything())
            assert [entity.identity for entity in found] == expected
        page = await repository.find(self.everything(), limit=1000)
        assert [entity.identity for entity in page.items] == expected
        streamed = await read(repository.stream(self.everything(), batch_size=7))
        assert [entity.identity for entity in streamed] == expected

    # Queries

    async def test_a_query_finds_what_meets_all_of_it_and_nothing_else(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entities, questions = self.questions()
        entities = await keep(repository, *entities)

        for query, meets in questions:
            expected = [entity for entity in entities if meets(entity)]
            assert_same_list(await repository.list_matching(query), expected)
            assert await repository.count(query) == len(expected), query
            pages = await paged(repository, query, limit=3)
            assert_same_list(pages, expected)
            assert_same_list(await read(repository.stream(query, batch_size=3)), expected)
            pages = await paged(repository, query, limit=3, newest_first=True)
            assert_same_list(pages, expected[::-1])
            streamed = await read(repository.stream(query, batch_size=3, newest_first=True))
            assert_same_list(streamed, expected[::-1])

    async def test_an_empty_collection_in_a_query_matches_nothing(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        await repository.create(self.sample())

        for query in self.nothing():
            assert await repository.list_matching(query) == []
            assert await repository.find(query) == Page([], None)
            assert await repository.count(query) == 0
            assert await read(repository.stream(query)) == []

    async def test_what_is_no_query_of_this_kind_is_refused(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        await repository.create(self.sample())
        others = [query for query in _QUERIES if type(query) is not type(self.everything())]
        wrong: list[Any] = [*others, None, {}, "status"]

        for query in wrong:
            with refused(query, "query"):
                await repository.list_matching(query)
            with refused(query, "query"):
                await repository.find(query)
            with refused(query, "query"):
                await repository.count(query)
            with refused(query, "query"):
                await read(repository.stream(query))

    async def test_of_an_empty_store_every_answer_is_empty(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        query = self.everything()

        assert await repository.list_matching(query) == []
        assert await repository.find(query) == Page([], None)
        assert await repository.count(query) == 0
        assert await read(repository.stream(query)) == []
        assert await repository.prune(MAX_MOMENT) == 0

    async def test_a_query_takes_every_id_literally(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        pairs = [self.naming(id_) for id_ in GOOD_IDS]
        await keep(repository, *(entity for entity, _ in pairs))

        for entity, query in pairs:
            assert_same_list(await repository.list_matching(query), [entity])

    # Pages

    async def test_a_page_holds_a_hundred_unless_said_otherwise(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entities = await keep(repository, *self.series(101))

        first = await repository.find(self.everything())
        second = await repository.find(self.everything(), cursor=first.next_cursor)

        assert_same_list(first.items, entities[:100])
        assert_same_list(second.items, entities[100:])
        assert second.next_cursor is None

    async def test_a_page_has_a_next_cursor_exactly_when_something_follows(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        await keep(repository, *self.series(3))

        for limit, follows in ((1, True), (2, True), (3, False), (4, False), (1000, False)):
            page = await repository.find(self.everything(), limit=limit)
            assert len(page.items) == min(limit, 3)
            assert (page.next_cursor is not None) is follows, limit

    async def test_a_limit_outside_1_to_1000_is_refused(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        for limit in REFUSED_LIMITS:
            with refused(limit, "limit"):
                await repository.find(self.everything(), limit=limit)

    async def test_what_is_no_cursor_is_refused(self, repository: _Store[EntityT, QueryT]) -> None:
        await repository.create(self.sample())

        for cursor in REFUSED_CURSORS:
            with refused(cursor, "cursor"):
                await repository.find(self.everything(), cursor=cursor)

    async def test_pages_neither_lose_nor_repeat_ties(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        tied = [self.made(created_at=NOON) for _ in range(7)]
        entities = await keep(repository, *tied, *self.series(2, first=NOON - MICROSECOND))

        for limit in (1, 2, 3, 5):
            pages = await paged(repository, self.everything(), limit=limit)
            assert_same_list(pages, entities)

    async def test_entities_created_between_two_pages_neither_repeat_nor_displace_others(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entities = await keep(repository, *self.series(6))
        page = await repository.find(self.everything(), limit=3)

        behind = self.made(created_at=NOON - DAY)
        tied_behind = self.made(" behind", created_at=_created(entities[2]))
        tied_ahead = self.made("\U0010ffff ahead", created_at=_created(entities[2]))
        ahead = self.made(created_at=NOON + DAY)
        await keep(repository, behind, tied_behind, tied_ahead, ahead)
        rest = await repository.find(self.everything(), cursor=page.next_cursor)

        assert_same_list(page.items, entities[:3])
        assert_same_list(rest.items, [tied_ahead, *entities[3:], ahead])
        assert rest.next_cursor is None

    async def test_entities_deleted_between_two_pages_displace_no_others(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entities = await keep(repository, *self.series(8))
        page = await repository.find(self.everything(), limit=3)

        await repository.prune(_created(entities[4]))
        rest = await repository.find(self.everything(), cursor=page.next_cursor)

        assert_same_list(rest.items, entities[4:])

    async def test_the_cursor_of_a_page_can_be_used_again(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        await keep(repository, *self.series(5))
        first = await repository.find(self.everything(), limit=2)

        second = await repository.find(self.everything(), limit=2, cursor=first.next_cursor)
        again = await repository.find(self.everything(), limit=2, cursor=first.next_cursor)

        assert_same_list(again.items, second.items)
        assert again.next_cursor == second.next_cursor

    async def test_pages_newest_first_neither_lose_nor_repeat_ties(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        tied = [self.made(created_at=NOON) for _ in range(7)]
        entities = await keep(repository, *tied, *self.series(2, first=NOON - MICROSECOND))

        for limit in (1, 2, 3, 5, 1000):
            pages = await paged(repository, self.everything(), limit=limit, newest_first=True)
            assert_same_list(pages, entities[::-1])

    async def test_entities_created_between_two_pages_newest_first_displace_no_others(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entities = await keep(repository, *self.series(6))
        page = await repository.find(self.everything(), limit=3, newest_first=True)

        newer = self.made(created_at=NOON + DAY)
        tied_newer = self.made("\U0010ffff newer", created_at=_created(entities[3]))
        tied_older = self.made(" older", created_at=_created(entities[3]))
        older = self.made(created_at=NOON - DAY)
        await keep(repository, newer, tied_newer, tied_older, older)
        rest = await repository.find(self.everything(), cursor=page.next_cursor, newest_first=True)

        assert_same_list(page.items, entities[:2:-1])
        assert_same_list(rest.items, [tied_older, *entities[2::-1], older])
        assert rest.next_cursor is None

    async def test_a_cursor_of_pages_in_the_other_order_is_refused(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        await keep(repository, *self.series(3))

        for newest_first in (False, True):
            page = await repository.find(self.everything(), limit=1, newest_first=newest_first)
            assert page.next_cursor is not None
            with refused(page.next_cursor, "cursor"):
                await repository.find(
                    self.everything(), cursor=page.next_cursor, newest_first=not newest_first
                )

    async def test_what_is_neither_true_nor_false_is_no_order(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        strangers: tuple[Any, ...] = (None, 0, 1, "yes", "created_at DESC")
        for stranger in strangers:
            with refused(stranger, "newest_first"):
                await repository.find(self.everything(), newest_first=stranger)
            with refused(stranger, "newest_first"):
                await read(repository.stream(self.everything(), newest_first=stranger))

    # Get or create

    async def test_get_or_create_creates_what_is_not_there(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entity = self.sample()

        stored, created = await repository.get_or_create(entity)

        assert created is True
        assert_same(stored, entity)
        assert_same(await repository.get_by_id(entity.identity), entity)

    async def test_get_or_create_returns_what_is_there_as_it_is(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entity = await repository.create(self.sample())
        other = self.made(entity.identity, created_at=NOON + DAY)

        stored, created = await repository.get_or_create(other)

        assert created is False
        assert_same(stored, entity)
        assert_same_list(await repository.list_matching(self.everything()), [entity])

    async def test_of_many_that_get_or_create_one_id_at_once_exactly_one_creates_it(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        id_ = self.sample().identity
        rivals = [self.made(id_, created_at=NOON + number * DAY) for number in range(8)]

        answers = await asyncio.gather(*(repository.get_or_create(rival) for rival in rivals))

        assert sum(created for _, created in answers) == 1
        (stored,) = await repository.list_matching(self.everything())
        for answer, _ in answers:
            assert_same(answer, stored)

    async def test_get_or_create_refuses_what_create_refuses(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entity = await repository.create(self.sample())
        hostile = smuggled(altered(entity), created_at="yesterday")

        strangers: tuple[Any, ...] = (None, entity.identity, entity.model_dump())
        for stranger in strangers:
            with refused(stranger):
                await repository.get_or_create(stranger)
        with refused(hostile, "created_at"):
            await repository.get_or_create(hostile)

    # Streams

    async def test_a_stream_yields_everything_in_order_whatever_its_batches(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        tied = [self.made(created_at=NOON) for _ in range(5)]
        entities = await keep(repository, *tied, *self.series(4))

        for batch_size in (None, 1, 2, 3, 9, 10_000):
            streamed = await read(repository.stream(self.everything(), batch_size=batch_size))
            assert_same_list(streamed, entities)

    async def test_a_batch_size_outside_1_to_10000_is_refused_at_the_first_item(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        for batch_size in REFUSED_BATCH_SIZES:
            stream = repository.stream(self.everything(), batch_size=batch_size)
            with refused(batch_size, "batch_size"):
                await anext(stream)

    async def test_a_stream_meets_once_everything_that_is_there_throughout(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entities = await keep(repository, *self.series(9))
        stream = repository.stream(self.everything(), batch_size=2)
        streamed = [(await anext(stream)).identity for _ in range(3)]

        await keep(repository, self.made(created_at=NOON - DAY), self.made(created_at=NOON + DAY))
        await repository.prune(_created(entities[2]))
        streamed += [entity.identity async for entity in stream]

        there = [entity.identity for entity in entities]
        assert [id_ for id_ in streamed if id_ in there] == there
        assert len(set(streamed)) == len(streamed)

    async def test_streams_that_wait_for_their_consumer_hold_nothing_up(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entities = await keep(repository, *self.series(3))
        streams = [
            repository.stream(self.everything(), batch_size=1) for _ in range(_STREAMS_AT_ONCE)
        ]

        for stream in streams:
            assert (await anext(stream)).identity == entities[0].identity
        assert await repository.count(self.everything()) == 3
        assert_same_list(await read(streams[0]), entities[1:])

    async def test_an_abandoned_stream_leaves_nothing_behind(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        await keep(repository, *self.series(3))
        tasks = asyncio.all_tasks()

        for _ in range(3):
            async for _entity in repository.stream(self.everything(), batch_size=1):
                break
        never_begun = repository.stream(self.everything())
        del never_begun
        async with asyncio.timeout(60):
            # The event loop closes them in tasks of its own.
            await asyncio.gather(*(asyncio.all_tasks() - tasks), return_exceptions=True)

        assert await repository.count(self.everything()) == 3

    async def test_a_stream_whose_consumer_is_cancelled_leaves_the_repository_working(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        await keep(repository, *self.series(4))

        for steps in range(8):
            await cancelled_after(
                steps, lambda: read(repository.stream(self.everything(), batch_size=1))
            )

        assert await repository.count(self.everything()) == 4

    # Pruning

    async def test_prune_removes_what_is_older_and_keeps_what_was_created_exactly_then(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entities = await keep(repository, *self.series(5))

        pruned = await repository.prune(_created(entities[2]))

        assert pruned == 2
        assert await repository.prune(MIN_MOMENT) == 0
        assert_same_list(await repository.list_matching(self.everything()), entities[2:])
        assert await repository.get_by_id(entities[1].identity) is None
        assert await repository.prune(_created(entities[2])) == 0

    async def test_prune_takes_a_moment_of_any_time_zone(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entities = await keep(repository, *self.series(2))

        pruned = await repository.prune(_created(entities[1]).astimezone(_ELSEWHERE))

        assert pruned == 1

    async def test_prune_removes_everything_old_whatever_its_batches(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        for batch_size in (None, 1, 2, 3, 10_000):
            await keep(repository, *self.series(5))

            assert await repository.prune(MAX_MOMENT, batch_size=batch_size) == 5
            assert await repository.count(self.everything()) == 0

    async def test_what_was_pruned_can_be_created_again(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entity = self.made(created_at=NOON)
        await repository.create(entity)

        await repository.prune(MAX_MOMENT)
        await repository.create(entity)

        assert_same_list(await repository.list_matching(self.everything()), [entity])

    async def test_prune_refuses_what_is_no_moment_and_what_is_no_batch(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        await repository.create(self.made(created_at=NOON))

        for moment in REFUSED_MOMENT_ARGUMENTS:
            with refused(moment, "older_than"):
                await repository.prune(moment)
        for batch_size in REFUSED_BATCH_SIZES:
            with refused(batch_size, "batch_size"):
                await repository.prune(MAX_MOMENT, batch_size=batch_size)
        assert await repository.count(self.everything()) == 1

    async def test_prunes_at_once_remove_each_entity_once(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        await keep(repository, *self.series(10))

        pruned = await asyncio.gather(
            *(repository.prune(MAX_MOMENT, batch_size=3) for _ in range(4))
        )

        assert sum(pruned) == 10
        assert await repository.count(self.everything()) == 0

    async def test_a_cancelled_prune_can_be_repeated(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entities = await keep(repository, *self.series(10))

        for steps in range(6):
            await cancelled_after(steps, partial(repository.prune, MAX_MOMENT, batch_size=1))
        left = await repository.list_matching(self.everything())
        pruned = await repository.prune(MAX_MOMENT)

        assert pruned <= len(left)
        assert {entity.identity for entity in left} <= {entity.identity for entity in entities}
        assert await repository.count(self.everything()) == 0

    # Hostile values that come back

    async def test_every_text_comes_back_as_it_was(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entities = [
            self.made(created_at=NOON + number * MICROSECOND, **dict.fromkeys(self.texts, text))
            for number, text in enumerate(GOOD_TEXTS)
        ]

        await keep(repository, *entities)

        assert_same_list(await repository.list_matching(self.everything()), entities)

    async def test_every_id_comes_back_as_it_was(self, repository: _Store[EntityT, QueryT]) -> None:
        entities = [
            self.made(id_, created_at=NOON, **dict.fromkeys(self.references, id_))
            for id_ in GOOD_IDS
        ]

        await keep(repository, *entities)

        for entity in entities:
            assert_same(await repository.get_by_id(entity.identity), entity)

    async def test_every_json_value_comes_back_equal(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        if self.json is None:
            assert not self.kind.containers
            return
        entities = [
            self.made(created_at=NOON, **{self.json: GOOD_JSON}),
            self.made(created_at=NOON, **{self.json: {}}),
            self.made(created_at=NOON, **{self.json: nested(MAX_DEPTH)}),
        ]

        await keep(repository, *entities)

        for entity in entities:
            assert_same(await repository.get_by_id(entity.identity), entity)

    async def test_a_record_of_exactly_one_mebibyte_comes_back(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entity = self._filled(MAX_RECORD_BYTES)

        await repository.create(entity)

        assert_same(await repository.get_by_id(entity.identity), entity)

    async def test_every_moment_comes_back_in_utc_to_the_microsecond(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        moments = (
            MIN_MOMENT,
            MIN_MOMENT + MICROSECOND,
            NOON.astimezone(_ELSEWHERE),
            datetime(2038, 1, 19, 3, 14, 8, 999_999, tzinfo=UTC),
            MAX_MOMENT - MICROSECOND,
            MAX_MOMENT,
        )
        entities = [self.made(**dict.fromkeys(self.moments, moment)) for moment in moments]

        await in_turns(repository.create(entity) for entity in entities)

        for entity, moment in zip(entities, moments, strict=True):
            found = await repository.get_by_id(entity.identity)
            assert_same(found, entity)
            for name in self.moments:
                assert found is not None
                assert found.__dict__[name] == moment
                assert found.__dict__[name].utcoffset() == timedelta(0)

    # Hostile values that are refused, however they got into the object

    async def test_what_is_no_entity_of_this_kind_is_refused(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        strangers: tuple[Any, ...] = (
            None,
            "text",
            self.sample().model_dump(),
            [self.sample()],
            type(self.sample()),
            object(),
        )

        for stranger in strangers:
            with refused(stranger):
                await repository.create(stranger)
        assert await repository.count(self.everything()) == 0

    async def test_an_entity_that_lacks_fields_is_refused(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        bare, halved = self.sample(), self.sample()
        vars(bare).clear()
        required = (name for name, field in self.kind.model_fields.items() if field.is_required())
        for name in required:
            if name != self.kind.id_field:
                del vars(halved)[name]

        for entity in (bare, halved):
            with refused(entity):
                await repository.create(entity)
        assert await repository.count(self.everything()) == 0

    async def test_what_is_no_id_is_refused_however_it_got_in(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        for name in (self.kind.id_field, *self.references):
            for value in REFUSED_IDS:
                await self._refuses(repository, name, value)

    async def test_what_is_no_text_is_refused_however_it_got_in(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        for name in self.texts:
            for value in REFUSED_TEXTS:
                await self._refuses(repository, name, value)

    async def test_what_is_no_moment_is_refused_however_it_got_in(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        for name in self.moments:
            for value in REFUSED_MOMENTS:
                await self._refuses(repository, name, value)

    async def test_what_is_no_json_is_refused_however_it_got_in(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        if self.json is None:
            assert not self.kind.containers
            return
        for what, value in REFUSED_JSON.items():
            entity = self.sample()
            entity.__dict__[self.json]["changed in place"] = value
            with refused(what, self.json):
                await repository.create(entity)
        strangers: tuple[object, ...] = ([], None, "text", nested(MAX_DEPTH + 1))
        for value in strangers:
            await self._refuses(repository, self.json, value)
        assert await repository.count(self.everything()) == 0

    async def test_a_record_of_more_than_one_mebibyte_is_refused(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entity = self._filled(MAX_RECORD_BYTES)
        fuller = self._fill(entity)
        smuggled(entity, **{fuller: self._more(entity.__dict__[fuller])})

        with refused("one byte more"):
            await repository.create(entity)

        assert await repository.get_by_id(entity.identity) is None

    async def test_what_is_no_member_is_refused_and_what_names_one_becomes_it(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entity = self.sample()
        members = {name: held for name, held in vars(entity).items() if isinstance(held, StrEnum)}
        assert "status" in members

        for name, member in members.items():
            for stranger in ("nonsense", member.name, None, 1):
                await self._refuses(repository, name, stranger)
        as_texts = {name: str(member.value) for name, member in members.items()}
        await repository.create(smuggled(entity, **as_texts))

        found = await repository.get_by_id(entity.identity)
        assert found is not None
        for name, member in members.items():
            assert vars(found)[name] is member

    async def test_an_error_never_quotes_the_value_it_refuses(
        self, repository: _Store[EntityT, QueryT]
    ) -> None:
        entity = smuggled(self.sample(), created_at="hunter2")

        with pytest.raises(InvalidValueError) as caught:
            await repository.create(entity)

        assert caught.value.entity == self.kind.entity_name
        assert caught.value.id == entity.identity
        assert caught.value.field == "created_at"
        assert "hunter2" not in repr(caught.value)

    async def _refuses(self, repository: _Store[EntityT, QueryT], name: str, value: object) -> None:
        with refused((name, value), name):
            await repository.create(smuggled(self.sample(), **{name: value}))

    def _fill(self, entity: Entity) -> str:
        """The field that can make a record large."""
        return self.json or entity.long_texts[0]

    def _filled(self, size: int) -> EntityT:
        name = self.json or self.kind.long_texts[0]
        empty = self.made(**{name: {"filling": ""} if self.json else ""})
        filling = "x" * (size - len(empty.model_dump_json()))
        return altered(empty, **{name: {"filling": filling} if self.json else filling})

    def _more(self, value: Any) -> object:
        return {"filling": value["filling"] + "x"} if self.json else value + "x"


class ChangingSuite(StoredSuite[EntityT, QueryT], Generic[EntityT, QueryT, StatusT]):
    """Tests that every stored kind passes whose entities change."""

    __test__: ClassVar[bool] = False

    kept: ClassVar[tuple[str, ...]] = ("created_at",)
    """What an update leaves or sets itself, whatever it is given."""

    @abstractmethod
    def other(self, entity: EntityT) -> EntityT:
        """A valid entity with that one's id that differs from it in every other field."""

    @abstractmethod
    def statuses(self) -> Sequence[StatusT]:
        """Every status there is."""

    @abstractmethod
    def with_status(self, *status: StatusT) -> QueryT:
        """The query for what has one of these."""

    # Updates

    async def test_update_replaces_everything_but_the_time_of_creation(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        first = await repository.create(self.made(created_at=NOON))
        wanted = altered(self.other(first), created_at=NOON + DAY)

        stored = await repository.update(wanted)

        assert_same(stored, wanted, but=self.kept)
        assert _created(stored) == NOON
        assert_same(await repository.get_by_id(first.identity), stored)
        assert await repository.count(self.everything()) == 1

    async def test_update_leaves_every_other_entity(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        first, other = await keep(repository, *self.series(2))

        await repository.update(self.other(first))

        assert_same(await repository.get_by_id(other.identity), other)

    async def test_an_updated_entity_is_found_by_what_it_is_now(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        entities, questions = self.questions()
        entities = await keep(repository, *entities)

        changed = [
            await repository.update(altered(self.other(entity), created_at=MIN_MOMENT))
            for entity in entities
        ]

        for query, meets in questions:
            expected = [entity for entity in changed if meets(entity)]
            assert_same_list(await repository.list_matching(query), expected)
            assert await repository.count(query) == len(expected)

    async def test_update_of_an_unknown_id_is_not_found_and_stores_nothing(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        with pytest.raises(NotFoundError) as caught:
            await repository.update(self.made("unknown"))

        assert (caught.value.entity, caught.value.id) == (self.kind.entity_name, "unknown")
        assert isinstance(caught.value, ValueError)
        assert await repository.count(self.everything()) == 0

    async def test_what_update_is_given_and_returns_is_a_copy(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        given = self.other(await repository.create(self.sample()))

        returned = await repository.update(given)
        before = altered(returned)
        spoil(given)
        spoil(returned)

        assert_same(await repository.get_by_id(before.identity), before)

    async def test_update_refuses_what_create_refuses_and_changes_nothing(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        before = await repository.create(self.sample())

        for name in (*self.texts, *self.references):
            with refused("NUL", name):
                await repository.update(smuggled(self.other(before), **{name: "a\0b"}))
        with refused("a naive time", "created_at"):
            naive = datetime(2026, 1, 1)  # noqa: DTZ001 - being naive is what is wrong with it
            await repository.update(smuggled(self.other(before), created_at=naive))
        if self.json is not None:
            for what, value in REFUSED_JSON.items():
                changed = self.other(before)
                changed.__dict__[self.json]["changed in place"] = [value]
                with refused(what, self.json):
                    await repository.update(changed)
        stranger: Any = before.model_dump()
        with refused("a dict"):
            await repository.update(stranger)
        assert_same(await repository.get_by_id(before.identity), before)

    async def test_of_updates_at_once_one_is_stored_whole(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        first = await repository.create(self.sample())
        rivals = [
            altered(self.other(first), **dict.fromkeys(self.texts, f"rival {number}"))
            for number in range(8)
        ]

        await asyncio.gather(*(repository.update(rival) for rival in rivals))

        found = await repository.get_by_id(first.identity)
        assert found is not None
        assert found.__dict__[self.texts[0] if self.texts else self.references[0]]
        assert any(
            all(found.__dict__[name] == rival.__dict__[name] for name in self.texts)
            for rival in rivals
        )

    async def test_a_cancelled_update_is_applied_wholly_or_not_at_all(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        for steps in range(10):
            before = await repository.create(self.sample())
            wanted = self.other(before)

            await cancelled_after(steps, partial(repository.update, wanted))

            found = await repository.get_by_id(before.identity)
            assert found is not None
            applied = found.__dict__["status"] == wanted.__dict__["status"]
            assert_same(found, wanted if applied else before, but=self.kept if applied else ())

    # Status

    async def test_every_status_may_follow_every_other(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        entity = await repository.create(self.sample())

        for one in self.statuses():
            for other in self.statuses():
                for status in (one, other):
                    stored = await repository.update_status(entity.identity, status)
                    assert stored.__dict__["status"] is status

        found = await repository.get_by_id(entity.identity)
        assert_same(found, entity, but=("status", "updated_at"))

    async def test_a_status_given_as_its_text_is_the_same_status(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        entity = await repository.create(self.sample())
        as_text: Any = self.statuses()[0].value

        stored = await repository.update_status(entity.identity, as_text)

        assert stored.__dict__["status"] is self.statuses()[0]

    async def test_an_entity_is_found_by_the_status_it_has_now(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        one, other = self.statuses()[:2]
        entity = await repository.create(self.made(status=one))

        stored = await repository.update_status(entity.identity, other)

        assert await repository.list_matching(self.with_status(one)) == []
        assert_same_list(await repository.list_matching(self.with_status(other)), [stored])
        assert_same_list(await repository.list_matching(self.with_status(one, other)), [stored])

    async def test_a_status_is_set_only_when_the_stored_one_is_expected(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        one, other, third = self.statuses()[:3]
        entity = await repository.create(self.made(status=one))

        first = await repository.update_status(entity.identity, other, expected=one)
        second = await repository.update_status(entity.identity, third, expected=(one, other))
        third_time = await repository.update_status(entity.identity, third, expected=[third])

        assert first.__dict__["status"] is other
        assert second.__dict__["status"] is third
        assert third_time.__dict__["status"] is third

    async def test_a_status_that_is_not_expected_is_a_conflict_and_nothing_is_applied(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        one, other, third = self.statuses()[:3]
        before = await repository.create(self.made(status=one))

        for expected in (other, (other, third), {third}, ()):
            with pytest.raises(ConflictError) as caught:
                await repository.update_status(before.identity, other, expected=expected)
            assert (caught.value.entity, caught.value.id) == (
                self.kind.entity_name,
                before.identity,
            )
        assert_same(await repository.get_by_id(before.identity), before)

    async def test_the_status_of_an_unknown_id_is_not_found_whatever_is_expected(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        for expected in (None, self.statuses()[0], ()):
            with pytest.raises(NotFoundError) as caught:
                await repository.update_status("unknown", self.statuses()[0], expected=expected)
            assert (caught.value.entity, caught.value.id) == (self.kind.entity_name, "unknown")
        assert await repository.count(self.everything()) == 0

    async def test_what_is_no_status_is_refused_and_nothing_is_applied(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        before = await repository.create(self.sample())
        strangers: tuple[Any, ...] = ("", "nonsense", self.statuses()[0].name, None, 1, ())

        for stranger in strangers:
            with refused(stranger, "status"):
                await repository.update_status(before.identity, stranger)
        for stranger in ("nonsense", ["nonsense"], 1):
            with refused(stranger, "expected"):
                wrong: Any = stranger
                await repository.update_status(before.identity, self.statuses()[0], expected=wrong)
        for id_ in REFUSED_ID_ARGUMENTS:
            with refused(id_, self.kind.id_field):
                await repository.update_status(id_, self.statuses()[0])
        assert_same(await repository.get_by_id(before.identity), before)

    async def test_of_many_that_expect_the_same_status_exactly_one_wins(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        one, *others = self.statuses()
        entity = await repository.create(self.made(status=one))

        ends = await asyncio.gather(
            *(
                repository.update_status(
                    entity.identity, others[number % len(others)], expected=one
                )
                for number in range(10)
            ),
            return_exceptions=True,
        )

        winners = [end for end in ends if not isinstance(end, BaseException)]
        assert len(winners) == 1
        assert sum(isinstance(end, ConflictError) for end in ends) == 9
        assert_same(await repository.get_by_id(entity.identity), winners[0])

    async def test_a_cancelled_change_of_status_is_applied_wholly_or_not_at_all(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        one, other = self.statuses()[:2]
        for steps in range(10):
            before = await repository.create(self.made(status=one))
            id_ = before.identity

            await cancelled_after(
                steps, partial(repository.update_status, id_, other, expected=one)
            )

            found = await repository.get_by_id(id_)
            assert found is not None
            if found.__dict__["status"] is one:
                assert_same(found, before)
            else:
                assert_same(found, before, but=("status", "updated_at"))
                assert found.__dict__["status"] is other

    async def test_what_a_change_of_status_returns_is_a_copy(
        self, repository: _ChangingStore[EntityT, QueryT, StatusT]
    ) -> None:
        entity = await repository.create(self.sample())

        stored = await repository.update_status(entity.identity, self.statuses()[0])
        before = altered(stored)
        spoil(stored)

        assert_same(await repository.get_by_id(entity.identity), before)


class VersionedSuite(ChangingSuite[EntityT, QueryT, StatusT]):
    """Tests that every stored kind passes whose entities know when they last changed."""

    __test__: ClassVar[bool] = False

    kept: ClassVar[tuple[str, ...]] = ("created_at", "updated_at")

    async def test_update_ignores_the_times_it_is_given(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        first = await repository.create(self.made(created_at=NOON, updated_at=NOON))

        stored = await repository.update(
            altered(self.other(first), created_at=MAX_MOMENT, updated_at=MAX_MOMENT)
        )

        assert _created(stored) == NOON
        assert NOON < _updated(stored) < MAX_MOMENT

    async def test_the_time_of_the_last_change_comes_from_the_clock_of_the_store(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        old = await repository.create(self.made(created_at=NOON, updated_at=MIN_MOMENT))
        later = await repository.create(self.made(created_at=NOON, updated_at=MIN_MOMENT))

        one = await repository.update(self.other(old))
        other = await repository.update_status(later.identity, self.statuses()[0])

        assert MIN_MOMENT + DAY < _updated(one) <= _updated(other) < _updated(one) + DAY

    async def test_every_change_is_later_than_the_one_before(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        entity = await repository.create(self.sample())
        times = [_updated(entity)]

        for _ in range(5):
            times.append(_updated(await repository.update(entity)))
            times.append(
                _updated(await repository.update_status(entity.identity, self.statuses()[1]))
            )

        assert times == sorted(set(times))

    async def test_a_change_is_later_even_when_the_stored_time_lies_ahead(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        ahead = datetime(2999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)
        entity = await repository.create(self.made(updated_at=ahead))

        first = await repository.update(self.other(entity))
        second = await repository.update_status(entity.identity, self.statuses()[0])

        assert ahead < _updated(first) < _updated(second) < ahead + DAY

    async def test_changes_at_once_all_have_their_own_time(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        entity = await repository.create(self.sample())

        stored = await asyncio.gather(
            *(repository.update(self.other(entity)) for _ in range(5)),
            *(repository.update_status(entity.identity, status) for status in self.statuses()),
        )

        times = {_updated(one) for one in stored}
        assert len(times) == len(stored)
        found = await repository.get_by_id(entity.identity)
        assert found is not None
        assert _updated(found) == max(times)

    async def test_an_update_of_what_did_not_change_since_is_applied(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        first = await repository.create(self.sample())

        second = await repository.update(
            self.other(first), if_unchanged_since=_updated(first).astimezone(_ELSEWHERE)
        )
        third = await repository.update(first, if_unchanged_since=_updated(second))

        assert_same(third, first, but=self.kept)

    async def test_an_update_of_what_changed_since_is_a_conflict_and_not_applied(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        first = await repository.create(self.sample())
        changed = await repository.update_status(first.identity, self.statuses()[1])

        for moment in (
            _updated(first),
            _updated(changed) - MICROSECOND,
            _updated(changed) + MICROSECOND,
            MAX_MOMENT,
        ):
            with pytest.raises(ConflictError) as caught:
                await repository.update(self.other(first), if_unchanged_since=moment)
            assert (caught.value.entity, caught.value.id) == (
                self.kind.entity_name,
                first.identity,
            )
        assert_same(await repository.get_by_id(first.identity), changed)

    async def test_a_conditional_update_of_an_unknown_id_is_not_found(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        with pytest.raises(NotFoundError):
            await repository.update(self.made("unknown"), if_unchanged_since=NOON)

        assert await repository.count(self.everything()) == 0

    async def test_what_is_no_moment_is_refused_as_a_condition(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        before = await repository.create(self.sample())

        for moment in REFUSED_MOMENT_ARGUMENTS:
            if moment is not None:
                with refused(moment, "if_unchanged_since"):
                    await repository.update(self.other(before), if_unchanged_since=moment)
        assert_same(await repository.get_by_id(before.identity), before)

    async def test_of_many_updates_on_the_same_condition_exactly_one_wins(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        first = await repository.create(self.sample())

        ends = await asyncio.gather(
            *(
                repository.update(self.other(first), if_unchanged_since=_updated(first))
                for _ in range(8)
            ),
            return_exceptions=True,
        )

        winners = [end for end in ends if not isinstance(end, BaseException)]
        assert len(winners) == 1
        assert sum(isinstance(end, ConflictError) for end in ends) == 7
        assert_same(await repository.get_by_id(first.identity), winners[0])

    # Deleting

    async def test_what_was_deleted_is_gone(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        gone, left = await keep(repository, *self.series(2))

        assert await repository.delete(gone.identity) is True

        assert await repository.get_by_id(gone.identity) is None
        assert_same_list(await repository.list_matching(self.everything()), [left])
        assert await repository.count(self.everything()) == 1

    async def test_deleting_what_is_not_there_is_false(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        entity = await repository.create(self.made("known"))

        assert await repository.delete("unknown") is False
        assert await repository.delete("%") is False
        assert await repository.delete(entity.identity) is True
        assert await repository.delete(entity.identity) is False

    async def test_what_was_deleted_can_be_created_again_but_not_changed(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        entity = await repository.create(self.sample())
        await repository.delete(entity.identity)

        with pytest.raises(NotFoundError):
            await repository.update(entity)
        with pytest.raises(NotFoundError):
            await repository.update_status(entity.identity, self.statuses()[0])
        await repository.create(entity)

        assert_same_list(await repository.list_matching(self.everything()), [entity])

    async def test_of_many_that_delete_one_id_at_once_exactly_one_did_it(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        entity = await repository.create(self.sample())

        ends = await asyncio.gather(*(repository.delete(entity.identity) for _ in range(6)))

        assert sorted(ends) == [False] * 5 + [True]

    async def test_deleting_refuses_what_is_no_id(
        self, repository: _VersionedStore[EntityT, QueryT, StatusT]
    ) -> None:
        await repository.create(self.sample())

        for id_ in REFUSED_ID_ARGUMENTS:
            with refused(id_, self.kind.id_field):
                await repository.delete(id_)
        assert await repository.count(self.everything()) == 1


def _updated(entity: Entity) -> datetime:
    moment = entity.__dict__["updated_at"]
    assert isinstance(moment, datetime)
    return moment
