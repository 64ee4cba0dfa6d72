"""What the ports of the four stored kinds have in common: asking by query."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from typing import ClassVar, Final, Generic, TypeVar, cast

from test_coordinator_data_adapter.errors import DuplicateError
from test_coordinator_data_adapter.interfaces.queries import Condition, Page, Query, conditions_of
from test_coordinator_data_adapter.models.entity import Entity

__all__ = ["StoredRepository"]

EntityT = TypeVar("EntityT", bound=Entity)
QueryT = TypeVar("QueryT", bound=Query)

# What others create and delete in turns is looked up so many times.
_ATTEMPTS: Final = 10


class StoredRepository(ABC, Generic[EntityT, QueryT]):
    """A store of one kind of entity.

    Rules of every method of every stored kind:

    * What goes in and what comes out is a copy: changing an object you hold never changes
      the store.
    * Lists are ordered by (created_at, id), ids by code point, unless said otherwise; ties
      never reorder between calls.
    * Bad input is an `InvalidValueError` that names the field and the rule; nothing was
      sent and nothing was applied.
    * Mutations of one id are atomic; a mutating method returns what is now stored.
    * A caller reads its own writes.
    * Kinds refer to each other softly: a named run or scenario need not exist.
    * Beside the errors a method names, a live backend raises `UnavailableError` (not
      applied), `OutcomeUnknownError` (a write whose answer was lost), `OverloadedError`
      (not applied), `ConfigurationError` or `DataIntegrityError`, each within its deadline.

    Attributes:
        entity_kind: what it keeps.
        query_kind: the queries it answers; one of another kind is bad input.
    """

    entity_kind: ClassVar[type[Entity]]
    query_kind: ClassVar[type[Query]]

    @abstractmethod
    async def create(self, entity: EntityT, /) -> EntityT:
        """Store a new entity exactly as given, its times included.

        Raises:
            DuplicateError: there is one with that id already; it stays as it is.
        """

    @abstractmethod
    async def get_by_id(self, id_: str, /) -> EntityT | None:
        """The entity with that id, or None."""

    async def get_or_create(self, entity: EntityT) -> tuple[EntityT, bool]:
        """The stored entity with that id, or this one, stored now.

        Of N concurrent calls with the same new id exactly one creates the entity. A stored
        entity stays as it is, however it differs from the one given.

        Args:
            entity: what to store if there is none with its id; it is validated in any case.

        Returns:
            What is stored, and whether this call created it.

        Raises:
            DuplicateError: others kept creating and deleting one with that id.
        """
        fresh = cast("EntityT", self.entity_kind.checked(entity))
        for _ in range(_ATTEMPTS):
            stored = await self.get_by_id(fresh.identity)
            if stored is not None:
                return stored, False
            with suppress(DuplicateError):
                return await self.create(fresh), True
        return await self.create(fresh), True

    @abstractmethod
    async def find(
        self,
        query: QueryT,
        *,
        limit: int = 100,
        cursor: str | None = None,
        newest_first: bool = False,
    ) -> Page[EntityT]:
        """One page of what matches, ordered by (created_at, id), or newest first.

        Pages are stable: entities created or deleted between two pages neither repeat nor
        displace others; one created behind the cursor's position is not met any more.

        Args:
            query: what to look for; one without any field matches everything.
            limit: how many items at the most, 1 to 1000.
            cursor: ``next_cursor`` of the page before; None for the first page.
            newest_first: descending instead of ascending order, of ids too. A cursor belongs
                to the order of its page.

        Returns:
            The page; its ``next_cursor`` is None exactly when nothing followed.

        Raises:
            InvalidValueError: ``limit`` out of range, a text that is no cursor or one of pages
                in the other order, or ``newest_first`` is no bool.
        """

    @abstractmethod
    async def list_matching(self, query: QueryT) -> list[EntityT]:
        """Everything that matches, in one trip, ordered by (created_at, id).

        Prefer `find` or `stream` where the answer may be large.
        """

    @abstractmethod
    def stream(
        self, query: QueryT, *, batch_size: int | None = None, newest_first: bool = False
    ) -> AsyncIterator[EntityT]:
        """Everything that matches, one by one, in constant memory.

        The order is (created_at, id), ascending or newest first.

        Each entity comes at most once, and every one that matches throughout comes; one
        that is created, changed or deleted meanwhile may or may not. No connection is held
        while the consumer thinks, and an abandoned stream leaves nothing behind.

        Args:
            query: what to look for.
            batch_size: how many rows travel at once, 1 to 10,000; None for the default.
            newest_first: descending instead of ascending order, of ids too.

        Raises:
            InvalidValueError: ``batch_size`` out of range or ``newest_first`` no bool; raised
                at the first item.
        """

    @abstractmethod
    async def count(self, query: QueryT) -> int:
        """How many match."""

    @abstractmethod
    async def prune(self, older_than: datetime, *, batch_size: int | None = None) -> int:
        """Delete what was created before a time, in bounded batches.

        Pending and running test runs stay, whatever their age. A prune that fails or is
        cancelled half way has removed whole batches; repeating it goes on.

        Args:
            older_than: aware; what was created exactly then stays.
            batch_size: how many go at once, 1 to 10,000; None for the default.

        Returns:
            How many were deleted.
        """

    def _conditions(self, query: QueryT) -> tuple[Condition, ...]:
        """What must all be true of what is asked for.

        Raises:
            InvalidValueError: it is no query of this kind.
        """
        return conditions_of(query, self.query_kind)
