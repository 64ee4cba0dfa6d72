"""The waist: everything that travels to Redis and back passes through here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, TypeVar, cast

from redis import exceptions

from test_coordinator_data_adapter.adapters.redis.address import (
    KeyspaceSettings,
    Topology,
    parse_address,
)
from test_coordinator_data_adapter.adapters.redis.opening import open_route
from test_coordinator_data_adapter.adapters.redis.pattern import escaped
from test_coordinator_data_adapter.adapters.redis.route import (
    Command,
    Greeting,
    Nature,
    Node,
    Reply,
    Stopwatch,
)
from test_coordinator_data_adapter.adapters.redis.translation import (
    DRIVER_ERRORS,
    SERVES_NOBODY,
    Phase,
    code_of,
    translate,
)
from test_coordinator_data_adapter.errors import (
    AdapterError,
    OutcomeUnknownError,
)
from test_coordinator_data_adapter.resilience.observation import (
    HooksAt,
    OnTrip,
    PoolUse,
    Trip,
    no_hooks,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.cluster import RedisCluster

__all__ = ["READ", "REMOVED", "WRITTEN", "Keyspace"]

READ: Final = Nature(writes=False, repeatable=True)
"""Changes nothing."""
WRITTEN: Final = Nature(writes=True, repeatable=True)
"""Leaves the same behind, and answers the same, however often it is done."""
REMOVED: Final = Nature(writes=True, repeatable=False)
"""Answers differently the second time."""
_COUNTED: Final = Nature(writes=True, repeatable=False)
_ASKING: Final = frozenset({"GET", "HGETALL", "SCAN", "ZSCORE"})
"""The commands that change nothing, of those that travel together with others that do."""
_NOTHING: Final = (0, None)
_UNCOUNTABLE: Final = frozenset({"ERR", "WRONGTYPE"})

_MOST_TOGETHER: Final = 1000
_MOST_BYTES: Final = 8 * 1024 * 1024
_SCANNED: Final = 2000
_SCANNED_AT_LEAST: Final = 100
# With so many characters after its first star, a pattern is matched about as fast as a key is read.
_CHEAP_TAIL: Final = 16

_ItemT = TypeVar("_ItemT")


class Keyspace:
    """The keys of one namespace, and the registry beside it, on one Redis.

    It belongs to one event loop and opens connections as they are needed. Every call ends within
    ``pool_timeout`` + ``connect_timeout`` + ``socket_timeout``, those over many keys within that
    for each thousand, and raises nothing but this library's errors.
    """

    def __init__(self, settings: KeyspaceSettings, *, hooks_at: HooksAt = no_hooks) -> None:
        """Make everything and connect nothing.

        Args:
            settings: where Redis is and how long to wait for it.
            hooks_at: hands out what is to be called, once it is known where Redis is.

        Raises:
            ConfigurationError: the settings contradict each other or cannot be understood.
        """
        address = parse_address(settings)
        self._opened = open_route(settings, address)
        self._route = self._opened.route
        self.hooks: Final = hooks_at(address.place)
        self.settings: Final = settings
        self.topology: Final[Topology] = address.topology
        self.encrypted: Final = address.tls is not None
        self.prefix: Final = f"{settings.namespace}:"
        self._prefix_bytes = self.prefix.encode()
        self._pattern_prefix = escaped(self.prefix)
        # XX: a write that Redis treats like any other, and that stores nothing, because no key of
        # a caller contains a control character.
        self._question: Final = ("SET", f"{self.prefix}\x1fprobe", "", "XX")

    @property
    def client(self) -> Redis | RedisCluster:
        """redis-py's own client with the same settings; none of the library's calls uses it."""
        return self._opened.client

    @property
    def answered_at(self) -> float:
        """When Redis last answered anything, on the clock of `time.monotonic`."""
        return self._route.answered_at

    @property
    def greeting(self) -> Greeting:
        """What the server said about itself when it was asked last; nothing on a cluster."""
        return self._route.greeting

    def pool_use(self) -> PoolUse:
        """How much of the limit is taken at the moment."""
        return self._route.pool_use()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._opened.aclose()

    async def probe(self) -> None:
        """Attempt the smallest write there is, in one round trip; it stores nothing.

        Raises:
            AdapterError: no answer came, or Redis accepts no writes, and why.
        """
        await self.call(self._question, READ)

    async def answers(self) -> bool:
        """Whether Redis answers redis-py's client, which has connections of its own."""
        try:
            await self.client.exists(str(self._question[1]))
        except exceptions.ResponseError:
            return True
        except DRIVER_ERRORS:
            return False
        return True

    async def call(
        self,
        command: Command,
        nature: Nature,
        *,
        entity: str | None = None,
        id: str | None = None,  # noqa: A002 - the word the contract uses for it
    ) -> Reply:
        """Send one command.

        Args:
            command: its keys complete with their prefix.
            nature: what may be done when it fails.
            entity: what it is about, for errors.
            id: the id of that, for errors.

        Returns:
            Its reply, as it came over the wire.

        Raises:
            AdapterError: there was none, or it was a refusal.
        """
        try:
            (reply,) = await self._trip((command,), nature, entity)
            if isinstance(reply, exceptions.ResponseError):
                raise self._refusal((command,), reply, nature)
        except AdapterError as error:
            error.entity, error.id = entity, id
            raise
        return reply

    async def call_all(
        self,
        commands: Sequence[Command],
        nature: Nature,
        *,
        entity: str | None = None,
        id: str | None = None,  # noqa: A002 - the word the contract uses for it
    ) -> list[Reply]:
        """Send several commands in one trip, carried out in order but not atomically.

        Raises:
            AdapterError: there were no replies, or one was a refusal; `OutcomeUnknownError`
                when others were carried out.
        """
        try:
            return self._accepted(commands, await self._trip(commands, nature, entity), nature)
        except AdapterError as error:
            error.entity, error.id = entity, id
            raise

    async def add(
        self,
        key: str,
        amount: int,
        *,
        entity: str,
        id: str,  # noqa: A002 - the word the contract uses for it
    ) -> int | None:
        """Add to an integer; it is never tried twice.

        Returns:
            The sum, or None when what is stored is no integer or the sum does not fit 64 bits;
            then nothing was changed.
        """
        commands = (("INCRBY", key, amount),)
        try:
            (reply,) = await self._trip(commands, _COUNTED, entity)
            if isinstance(reply, exceptions.ResponseError):
                if code_of(reply) in _UNCOUNTABLE:
                    return None
                raise self._refusal(commands, reply, _COUNTED)
        except AdapterError as error:
            error.entity, error.id = entity, id
            raise
        return cast("int", reply)

    async def values(self, keys: Sequence[str], *, entity: str) -> list[bytes | None]:
        """The raw values of complete keys, None where there is none; one trip a thousand."""
        found: list[bytes | None] = []
        for some in _chunks(keys, _MOST_TOGETHER):
            if self._route.spreads:
                asked: list[Command] = [("GET", key) for key in some]
                replies = await self._trip(asked, READ, entity)
                # MGET answers the same where something else than a value is stored.
                replies = [None if _is_no_value(reply) else reply for reply in replies]
                self._accepted(asked, replies, READ)
            else:
                replies = cast("list[Reply]", await self.call(("MGET", *some), READ, entity=entity))
            found.extend(cast("list[bytes | None]", replies))
        return found

    async def write_all(self, commands: Iterable[Command], *, entity: str) -> None:
        """Send any number of writes, at most a thousand or 8 MiB a trip.

        Raises:
            AdapterError: a trip failed; `OutcomeUnknownError` when some were carried out.
        """
        done = False
        for some in _portions(commands):
            try:
                await self.call_all(some, WRITTEN, entity=entity)
            except AdapterError as error:
                raise _partly(error) if done else error from None
            done = True

    async def remove(self, keys: Sequence[str], *, entity: str) -> int:
        """Remove complete keys, a thousand a trip. Returns how many were there."""
        removed = 0
        for done, some in enumerate(_chunks(keys, _MOST_TOGETHER)):
            try:
                replies = await self.call_all(self._unlinking(some), REMOVED, entity=entity)
            except AdapterError as error:
                raise _partly(error) if done else error from None
            removed += sum(cast("list[int]", replies))
        return removed

    async def matching(self, pattern: str, *, entity: str) -> AsyncIterator[list[bytes]]:
        """The complete keys of this namespace whose rest matches, in portions, perhaps repeated."""
        for node in await self._route.nodes():
            cursor = b"0"
            while True:
                (reply,) = await self._at(node, [self._scan(pattern, cursor)], READ, entity)
                cursor, keys = self._scanned(reply)
                if keys:
                    yield keys
                if cursor == b"0":
                    break

    async def remove_matching(self, pattern: str, *, entity: str) -> int:
        """Remove what `matching` finds. Returns how many were there."""
        removed = 0
        try:
            for node in await self._route.nodes():
                cursor: bytes | None = b"0"
                doomed: list[bytes] = []
                while cursor is not None or doomed:
                    gone, cursor, doomed = await self._sweep(node, pattern, cursor, doomed, entity)
                    removed += gone
        except AdapterError as error:
            raise _partly(error) if removed else error from None
        return removed

    async def _sweep(
        self, node: Node, pattern: str, cursor: bytes | None, doomed: list[bytes], entity: str
    ) -> tuple[int, bytes | None, list[bytes]]:
        """In one trip, remove what the last one found and look for more."""
        looking = [] if cursor is None else [self._scan(pattern, cursor)]
        if not doomed:
            (reply,) = await self._at(node, looking, READ, entity)
            return 0, *self._continued(reply)
        removing = self._unlinking(doomed)
        if self._route.spreads:
            replies = await self.call_all(removing, REMOVED, entity=entity)
            return sum(cast("list[int]", replies)), cursor, []
        replies = await self._at(node, [*removing, *looking], REMOVED, entity)
        gone = cast("int", replies[0])
        return (gone, *self._continued(replies[-1])) if looking else (gone, None, [])

    def name_of(self, key: bytes) -> str | None:
        """What the caller calls a complete key; None: no caller of this library has set it."""
        try:
            return key[len(self._prefix_bytes) :].decode() or None
        except UnicodeDecodeError:
            return None

    def _unlinking(self, keys: Sequence[str | bytes]) -> list[Command]:
        if self._route.spreads:
            return [("UNLINK", key) for key in keys]
        return [("UNLINK", *keys)]

    def _scan(self, pattern: str, cursor: bytes) -> Command:
        # The costlier the pattern, the fewer keys at once: the server serves nobody meanwhile.
        tail = len(pattern.partition("*")[2])
        count = max(_SCANNED_AT_LEAST, _SCANNED * _CHEAP_TAIL // max(_CHEAP_TAIL, tail))
        return ("SCAN", cursor, "MATCH", self._pattern_prefix + pattern, "COUNT", count)

    def _scanned(self, reply: Reply) -> tuple[bytes, list[bytes]]:
        cursor, keys = cast("tuple[bytes, list[bytes]]", reply)
        # Redis lets every user scan every key: what is not ours is none of our business.
        return cursor, [key for key in keys if key.startswith(self._prefix_bytes)]

    def _continued(self, reply: Reply) -> tuple[bytes | None, list[bytes]]:
        cursor, keys = self._scanned(reply)
        return (None if cursor == b"0" else cursor), keys

    async def _at(
        self, node: Node, commands: Sequence[Command], nature: Nature, entity: str | None
    ) -> list[Reply]:
        replies = await self._trip(commands, nature, entity, node=node)
        return self._accepted(commands, replies, nature)

    async def _trip(
        self,
        commands: Sequence[Command],
        nature: Nature,
        entity: str | None,
        *,
        node: Node | None = None,
    ) -> list[Reply]:
        calls = self.hooks.calls
        try:
            if self.hooks.on_trip is None:
                replies = await self._route.trip(commands, nature, node=node)
            else:
                replies = await self._observed(self.hooks.on_trip, commands, nature, entity, node)
        except AdapterError as error:
            calls.report_failure(error, _names(commands), answered=False)
            raise
        if calls.failing and not any(isinstance(one, exceptions.ResponseError) for one in replies):
            calls.report_success(_names(commands), writes=nature.writes)
        return replies

    def _accepted(
        self, commands: Sequence[Command], replies: list[Reply], nature: Nature
    ) -> list[Reply]:
        """The replies, none of them a refusal."""
        refusals = [reply for reply in replies if isinstance(reply, exceptions.ResponseError)]
        if not refusals:
            return replies
        refused = self._refusal(commands, refusals[0], nature)
        changed = nature.writes and any(
            reply not in _NOTHING and command[0] not in _ASKING
            for command, reply in zip(commands, replies, strict=True)
            if not isinstance(reply, exceptions.ResponseError)
        )
        raise _partly(refused) if changed else refused

    def _refusal(
        self, commands: Sequence[Command], reply: exceptions.ResponseError, nature: Nature
    ) -> AdapterError:
        """The error for a refusal, which is reported."""
        error = translate(reply, phase=Phase.SENT, writes=nature.writes)
        answered = code_of(reply) not in SERVES_NOBODY
        self.hooks.calls.report_failure(error, _names(commands), answered=answered)
        return error

    async def _observed(
        self,
        on_trip: OnTrip,
        commands: Sequence[Command],
        nature: Nature,
        entity: str | None,
        node: Node | None,
    ) -> list[Reply]:
        stopwatch = Stopwatch()
        failed: AdapterError | None = None
        abandoned = False
        try:
            return await self._route.trip(commands, nature, node=node, stopwatch=stopwatch)
        except AdapterError as error:
            failed = error
            raise
        except asyncio.CancelledError:
            abandoned = True
            raise
        finally:
            waited, took = stopwatch.read()
            if took >= self.hooks.trips_from:
                on_trip(
                    Trip(
                        command=_names(commands),
                        entity=entity,
                        waited=waited,
                        took=took,
                        rows=len(commands),
                        error=failed,
                        abandoned=abandoned,
                        retries=stopwatch.repeats,
                        timed_out=failed is not None and stopwatch.late,
                    )
                )


def _names(commands: Sequence[Command]) -> str:
    return " ".join(dict.fromkeys(str(command[0]) for command in commands))


def _is_no_value(reply: Reply) -> bool:
    return isinstance(reply, exceptions.ResponseError) and code_of(reply) == "WRONGTYPE"


def _partly(error: AdapterError) -> AdapterError:
    """The same failure after something has been applied already: then nothing is certain."""
    if isinstance(error, OutcomeUnknownError):
        return error
    return OutcomeUnknownError(
        f"a part of the keys was changed, then it failed: {error}",
        entity=error.entity,
        id=error.id,
    )


def _chunks(items: Sequence[_ItemT], size: int) -> Iterator[Sequence[_ItemT]]:
    if len(items) <= size:
        if items:
            yield items
        return
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _portions(commands: Iterable[Command]) -> Iterator[list[Command]]:
    portion: list[Command] = []
    weight = 0
    for command in commands:
        portion.append(command)
        weight += sum(len(part) for part in command if isinstance(part, bytes))
        if len(portion) == _MOST_TOGETHER or weight > _MOST_BYTES:
            yield portion
            portion, weight = [], 0
    if portion:
        yield portion
