"""A cache in front of ``get_by_id``: one piece for every stored kind."""

from __future__ import annotations

import asyncio
import functools
import inspect
import random as randomness
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context
from copy import copy
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast

from pydantic import ValidationError

from test_coordinator_data_adapter.errors import AdapterError
from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import MAX_ID_LENGTH
from test_coordinator_data_adapter.resilience.backoff import Backoff
from test_coordinator_data_adapter.resilience.event_loop import only_loop
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.resilience.observation import CacheUsed, OnCacheUsed

__all__ = ["CachedReads", "Look", "ReadCache", "with_cached_reads", "with_told_sweeps"]

EntityT = TypeVar("EntityT", bound=Entity)
RepositoryT = TypeVar("RepositoryT")
AnswerT = TypeVar("AnswerT")
_Key = tuple[str, str]

_PAUSES: Final = Backoff(attempts=2**62, base=0.5, cap=30.0)
_RENEWED_EVERY: Final = 30.0
_MOST_OWED: Final = 50_000


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the cache found.

    Attributes:
        entry: the JSON of the entity, None when it is not there.
        token: what an offer made after this look has to carry; None: offer nothing now.
    """

    entry: bytes | None
    token: str | None


class ReadCache(Protocol):
    """What cached reads need of a cache; every method raises `AdapterError` on failure."""

    async def announce(self, kind: str) -> None:
        """Let whoever writes entities of a kind know that they are read from here."""

    async def renew_readers(self) -> None:
        """Let processes that start with it off know, for a while, that others use it."""

    def is_unread(self, kind: str) -> bool:
        """Whether it is known, without asking, that nobody reads entities of a kind from here."""
        ...

    async def look(self, kind: str, id_: str) -> Look:
        """Look for one entity, in one trip."""
        ...

    async def offer(self, kind: str, id_: str, entry: bytes, token: str, ttl: int) -> None:
        """Put an entity there for ``ttl`` seconds, unless it was dropped since the look."""

    async def drop(self, kind: str, ids: Sequence[str]) -> None:
        """Forget entities, and refuse offers made from looks before this one for a while."""

    async def drop_all(self, kind: str) -> None:
        """Forget all entities of a kind, and refuse all offers made from earlier looks."""


class _Load:
    """One load under way, and what became of it for those who wait."""

    __slots__ = ("answer", "answered", "failure", "number", "over", "waiting")

    def __init__(self, number: int) -> None:
        self.number = number
        """Loads are counted; who asked before this one began may have its answer."""
        self.waiting = 0
        self.over = asyncio.Event()
        self.answered = False
        self.answer: Entity | None = None
        self.failure: AdapterError | None = None


class CachedReads:
    """Answers reads by id from a cache where it can, and never wrongly for longer than stated.

    * An entity is dropped from the cache after every write of its id, by every process that
      has cached reads on. Between the commit and the drop, and when a
      process dies in between, others may read the old value, for the time to live at most.
    * A reader that raced with a write cannot put the old value back: its offer is refused
      for as long as the cache remembers the drop, and it offers nothing that took longer
      to load than ``freshest`` seconds.
    * This process reads its own writes: an id that is being written, or whose drop is still
      owed, is read from behind the cache.
    * A sweep or a prune drops everything of its kinds, however it ends.
    * A cache that fails or is slow costs one bounded attempt, then pauses that grow to half
      a minute in which it is left alone; reads go to the store behind. What was written
      meanwhile is dropped before the first cached read after that. Processes that did not
      notice the outage may serve what they had for the time to live at most.
    * One id is loaded once at a time, also while it cannot be kept: who asks meanwhile waits,
      for the cache or for the next load, which they share. Nobody gets the answer of a
      statement that was sent before they asked.
    * It belongs to the event loop it is made in, as do the cache and the store behind.
    """

    def __init__(
        self,
        cache: Callable[[], ReadCache],
        time_to_live: Mapping[str, int],
        *,
        events: EventLog,
        patience: float = 0.5,
        freshest: float = 2.0,
        on_used: OnCacheUsed | None = None,
        answers: bool = True,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        random: Callable[[], float] = randomness.random,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            cache: where entities are kept now; it may raise `AdapterError`.
            time_to_live: seconds for each kind, by its entity name; up to a tenth less is
                drawn for each entity, so that they do not all expire at once.
            events: where an outage of the cache is told, once.
            patience: seconds one trip to the cache may take.
            freshest: seconds a load may take and still be offered to the cache.
            on_used: is told of every look.
            answers: whether reads are answered from it. Where they are not, writes are dropped
                from it for the sake of other processes, and an outage is told at DEBUG.
            monotonic: seconds that never step back.
            sleep: waits that many seconds.
            random: draws from 0 to 1, for the times to live and the pauses.
        """
        self._cache = cache
        self._time_to_live = time_to_live
        self._patience = patience
        self._freshest = freshest
        self.on_used = on_used
        self.answers = answers
        self._closed = False
        self._tell_outage = events.warning if answers else events.debug
        self._tell_return = events.info if answers else events.debug
        self._monotonic = monotonic
        self._sleep = sleep
        self._random = random
        self._writing: Counter[_Key] = Counter()
        self._owed: dict[_Key, object] = {}
        self._owed_kinds: dict[str, object] = {}
        self._loading: dict[_Key, _Load] = {}
        self._loads = 0
        self._failures = 0
        self._left_alone_until = 0.0
        self._settling: asyncio.Task[None] | None = None
        self._renewing: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    async def announce(self) -> None:
        """Let writers know before the first read; where that fails they learn of it then."""

        async def announce(cache: ReadCache) -> None:
            for kind in self._time_to_live:
                await cache.announce(kind)

        if self.answers:
            await self._attempt(announce)

    def keep_announcing(self) -> None:
        """Renew, until `aclose`, that reads are answered from the cache."""
        self._renewing = asyncio.create_task(self._renew(), context=Context())

    async def _renew(self) -> None:
        while True:
            with suppress(AdapterError, TimeoutError):  # reads notice an outage, and log it
                async with asyncio.timeout(self._patience):
                    await self._cache().renew_readers()
            await asyncio.sleep(_RENEWED_EVERY)

    async def aclose(self) -> None:
        """Drop what is still owed, in one bounded attempt, and stop."""
        self._closed = True
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        settling, self._settling = self._settling, None
        if settling is not None:
            settling.cancel()
            await asyncio.wait([settling])
            self._left_alone_until = 0.0
            await self._usable()

    async def get(
        self, kind: type[EntityT], id_: str, load: Callable[[], Awaitable[EntityT | None]]
    ) -> EntityT | None:
        """The entity with that id, from the cache or from ``load``.

        Raises:
            AdapterError: what ``load`` raises; the cache never makes a read fail.
            ConfigurationError: it belongs to another event loop.
        """
        self._require_its_loop()
        asked = self._loads
        if not _is_cacheable(id_) or not await self._usable():
            return await load()
        key = (kind.entity_name, id_)
        if self._writing[key]:
            return await load()
        look, found = await self._look(kind, id_)
        while found is None and (under_way := self._loading.get(key)) is not None:
            under_way.waiting += 1
            await under_way.over.wait()
            if under_way.number <= asked:
                look, found = await self._look(kind, id_)
            elif under_way.failure is not None:
                raise copy(under_way.failure)
            elif under_way.answered:
                shared = cast("EntityT | None", under_way.answer)
                return None if shared is None else shared.clone()
        if found is not None:
            return found
        self._loads += 1
        loading = self._loading[key] = _Load(self._loads)
        entity: EntityT | None = None
        try:
            began = self._monotonic()
            entity = await load()
            loading.answered = True
            if look is not None and look.token is not None and entity is not None:
                took = self._monotonic() - began
                await self._offer(key, entity, look.token, took)
            return entity
        except AdapterError as failure:
            loading.failure = failure
            raise
        finally:
            if loading.waiting and entity is not None:
                loading.answer = entity.clone()
            loading.over.set()
            del self._loading[key]

    async def write(
        self, kind: str, ids: Sequence[str] | None, apply: Callable[[], Awaitable[AnswerT]]
    ) -> AnswerT:
        """Apply a write and drop what it changed, ``ids`` or (None) everything of the kind.

        Raises:
            AdapterError: what ``apply`` raises.
            ConfigurationError: it belongs to another event loop; nothing was applied.
        """
        self._require_its_loop()
        keys = [(kind, id_) for id_ in ids or () if _is_cacheable(id_)]
        for key in keys:
            self._writing[key] += 1
        applied = True
        try:
            return await apply()
        except AdapterError as failure:
            # What fails half way says so of its last step only.
            applied = ids is None or failure.outcome != "not_applied"
            raise
        finally:
            try:
                if applied and not self._is_unread(kind):
                    self._owe(kind, None if ids is None else keys)
                    await self._usable()
            finally:
                self._settle_later()
                for key in keys:
                    self._writing[key] -= 1
                    if not self._writing[key]:
                        del self._writing[key]

    async def sweep(self, apply: Callable[[], Awaitable[AnswerT]]) -> AnswerT:
        """Apply a write of anything of any kind, and drop everything, however it ended.

        Raises:
            AdapterError: what ``apply`` raises.
            ConfigurationError: it belongs to another event loop; nothing was applied.
        """
        self._require_its_loop()
        try:
            return await apply()
        finally:
            for kind in self._time_to_live:
                self._owe(kind, None)
            try:
                await self._usable()
            finally:
                self._settle_later()

    def _require_its_loop(self) -> None:
        # Who waits in one loop for a load in another is never woken.
        if (loop := asyncio.get_running_loop()) is not self._loop:
            only_loop(self._loop, loop)

    def _is_unread(self, kind: str) -> bool:
        if self.answers:
            return False
        try:
            return self._cache().is_unread(kind)
        except AdapterError:
            return False

    def _settle_later(self) -> None:
        under_way = self._settling is not None and not self._settling.done()
        if (self._owed or self._owed_kinds) and not under_way and not self._closed:
            # Of whoever writes next it is no part, nor is its log of their context.
            self._settling = asyncio.create_task(self._settle(), context=Context())

    async def _settle(self) -> None:
        while self._owed or self._owed_kinds:
            await self._sleep(max(0.0, self._left_alone_until - self._monotonic()))
            await self._usable()

    async def _usable(self) -> bool:
        """Whether the cache may be asked: it answers, and nothing is owed to it."""
        if self._monotonic() < self._left_alone_until:
            return False
        if not self._owed and not self._owed_kinds:
            return True
        kinds, keys = dict(self._owed_kinds), dict(self._owed)
        by_kind: dict[str, list[str]] = {}
        for kind, id_ in keys:
            by_kind.setdefault(kind, []).append(id_)

        async def settle(cache: ReadCache) -> bool:
            for kind in kinds:
                await cache.drop_all(kind)
            for kind, ids in by_kind.items():
                await cache.drop(kind, ids)
            return True

        if not await self._attempt(settle):
            return False
        # What came to be owed again meanwhile bears another mark and stays.
        for kind, mark in kinds.items():
            if self._owed_kinds.get(kind) is mark:
                del self._owed_kinds[kind]
        for key, mark in keys.items():
            if self._owed.get(key) is mark:
                del self._owed[key]
        return not self._owed and not self._owed_kinds

    def _owe(self, kind: str, keys: Sequence[_Key] | None) -> None:
        if keys is None or len(self._owed) + len(keys) > _MOST_OWED:
            self._owed_kinds[kind] = object()
            return
        self._owed.update((key, object()) for key in keys)

    async def _look(self, kind: type[EntityT], id_: str) -> tuple[Look | None, EntityT | None]:
        look = await self._attempt(lambda cache: cache.look(kind.entity_name, id_))
        found: EntityT | None = None
        if look is not None and look.entry is not None:
            try:
                found = kind.model_validate_json(look.entry)
            except ValidationError:
                found = None
            if found is None or len(found.model_fields_set) < len(kind.model_fields):
                # Another version of the library wrote it, perhaps without a field that is stored
                # by now: it expires on its own.
                look = found = None
        hit = found is not None
        self._tell(kind.entity_name, hits=hit, misses=not hit)
        return look, found

    async def _offer(self, key: _Key, entity: Entity, token: str, took: float) -> None:
        kind, id_ = key
        if took > self._freshest or self._writing[key] or key in self._owed:
            self._tell(kind, stale_drops=True)
            return
        seconds = self._time_to_live[kind]
        ttl = max(1, round(seconds * (1.0 - 0.1 * self._random())))
        entry = entity.model_dump_json().encode()
        await self._attempt(lambda cache: cache.offer(kind, id_, entry, token, ttl))
        self._tell(kind, loads=True)

    async def _attempt(self, trip: Callable[[ReadCache], Awaitable[AnswerT]]) -> AnswerT | None:
        try:
            async with asyncio.timeout(self._patience):
                answer = await trip(self._cache())
        except (AdapterError, TimeoutError) as failure:
            self._failures += 1
            pause = _PAUSES.pause(self._failures, self._random) or 0.0
            self._left_alone_until = self._monotonic() + pause
            if self._failures == 1:
                self._tell_outage(
                    "cached_reads_suspended",
                    error=str(failure) or "the cache did not answer in time",
                    still_works="reads go to the store behind the cache",
                )
            return None
        if self._failures:
            self._failures = 0
            self._tell_return("cached_reads_resumed")
        return answer

    def _tell(
        self,
        kind: str,
        *,
        hits: bool = False,
        misses: bool = False,
        loads: bool = False,
        stale_drops: bool = False,
    ) -> None:
        if self.on_used is not None:
            self.on_used(
                CacheUsed("reads", kind, int(hits), int(misses), int(loads), int(stale_drops))
            )


def _is_cacheable(id_: object) -> bool:
    # Anything else is refused by the store behind, with an error that says why.
    return isinstance(id_, str) and id_.isprintable() and 0 < len(id_) <= MAX_ID_LENGTH


def with_cached_reads(
    repository: RepositoryT, kind: type[Entity], reads: CachedReads
) -> RepositoryT:
    """The same repository, its writes told to a cache, its reads by id answered from there.

    Args:
        repository: of one of the stored kinds; itself stays as it was.
        kind: what it keeps.
        reads: the cache and its rules; where it answers nothing, reads stay as they were.

    Returns:
        A repository of the same class and on the same connections.
    """
    return _surrounded(repository, _class_of(type(repository), kind, reads.answers), reads)


def with_told_sweeps(retention: RepositoryT, reads: CachedReads) -> RepositoryT:
    """The same retention, its sweeps told to a cache.

    Args:
        retention: of all stored kinds; itself stays as it was.
        reads: the cache and its rules.

    Returns:
        A repository of the same class and on the same connections.
    """
    return _surrounded(retention, _sweeping(cast("Any", type(retention))), reads)


def _surrounded(repository: RepositoryT, made: type[object], reads: CachedReads) -> RepositoryT:
    surrounded = object.__new__(made)
    surrounded.__dict__.update(vars(repository), _cached_reads=reads)
    return cast("RepositoryT", surrounded)


_classes: Final[dict[tuple[type[object], bool], type[object]]] = {}


def _class_of(plain: type[object], kind: type[Entity], answers: bool) -> type[object]:  # noqa: FBT001 - private
    if (plain, answers) not in _classes:
        methods: dict[str, object] = {
            name: _writing(plain, name, kind, ids_of)
            for name, ids_of in _WRITES.items()
            if hasattr(plain, name)
        }
        if answers:
            methods["get_by_id"] = _reading(plain, kind)
        _classes[plain, answers] = type(f"Cached{plain.__name__}", (plain,), methods)
    return _classes[plain, answers]


# What each write changes, by its first argument; None: no one knows which. New entities cannot
# be in the cache: `create` and `bulk_create` have nothing to drop.
_WRITES: Final[Mapping[str, Callable[[Any, type[Entity]], list[Any] | None]]] = {
    "update": lambda entity, kind: [getattr(entity, "__dict__", {}).get(kind.id_field)],
    "transition": lambda id_, _kind: [id_],
    "delete": lambda id_, _kind: [id_],
    "prune": lambda _older_than, _kind: None,
}


def _first_of(method: Callable[..., object]) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """The first argument of a call, however it was given."""
    name = list(inspect.signature(method).parameters)[1]

    def first(arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        return arguments[0] if arguments else named.get(name)

    return first


def _reading(plain: Any, kind: type[Entity]) -> object:
    first = _first_of(plain.get_by_id)

    @functools.wraps(plain.get_by_id)
    async def get_by_id(self: Any, *arguments: Any, **named: Any) -> object:
        return await self._cached_reads.get(
            kind,
            first(arguments, named),
            lambda: plain.get_by_id(self, *arguments, **named),
        )

    return get_by_id


@functools.cache
def _sweeping(plain: Any) -> type[object]:
    @functools.wraps(plain.sweep)
    async def sweep(self: Any, *arguments: Any, **named: Any) -> object:
        return await self._cached_reads.sweep(lambda: plain.sweep(self, *arguments, **named))

    return type(f"Cached{plain.__name__}", (plain,), {"sweep": sweep})


def _writing(
    plain: Any,
    name: str,
    kind: type[Entity],
    ids_of: Callable[[Any, type[Entity]], list[Any] | None],
) -> object:
    method = getattr(plain, name)
    first = _first_of(method)

    @functools.wraps(method)
    async def write(self: Any, *arguments: Any, **named: Any) -> object:
        if named.get("with_children"):
            # Nobody knows which entities of other kinds go, too.
            return await self._cached_reads.sweep(lambda: method(self, *arguments, **named))
        return await self._cached_reads.write(
            kind.entity_name,
            ids_of(first(arguments, named), kind),
            lambda: method(self, *arguments, **named),
        )

    return write
