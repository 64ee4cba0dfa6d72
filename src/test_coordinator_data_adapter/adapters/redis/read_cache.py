"""Entities kept in Redis for cached reads, beside the cache and out of its sight."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Final, cast

from test_coordinator_data_adapter.adapters.redis.keyspace import READ, WRITTEN, Keyspace
from test_coordinator_data_adapter.resilience.cached_reads import Look

__all__ = ["RedisReadCache"]

_DROPPED: Final = b""
_ABOUT: Final = "cached_read"
_TOGETHER: Final = 500
_READERS_LAST: Final = 90_000  # milliseconds
_EPOCH_LASTS: Final = 86_400_000  # milliseconds
# A writer may rely for so long on having found no epoch, and a reader lets more than that pass
# after one began: what it loads from then on, no such writer can still be about to change.
_UNREAD_FOR: Final = 0.25
_OFFERS_AFTER: Final = 0.5


class RedisReadCache:
    """Keeps entities under ``<namespace>/reads:``.

    Each kind has an epoch, a random text that is part of the keys of its entities: a new
    epoch forgets them all at once, and looks come with the epoch they were made in. A drop
    leaves a mark that outlives every offer that can still be on its way.

    The first look at a kind begins its epoch, which ends a day later if nothing ends it
    before. While a kind has none nobody reads it from here, and drops have nothing to do: who
    only writes learns so in one trip every quarter of a second of writing.
    """

    def __init__(
        self,
        keyspace: Keyspace,
        *,
        remember: float = 10.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            keyspace: how to speak to Redis.
            remember: seconds a drop refuses offers.
            monotonic: seconds that never step back.
        """
        self._keyspace = keyspace
        self._remember = round(remember * 1000)
        self._monotonic = monotonic
        self._epochs: dict[str, str] = {}
        self._offers_from: dict[str, float] = {}
        self._unread_at: dict[str, float] = {}

    async def announce(self, kind: str) -> None:
        """Begin the epoch of a kind, unless there is one: whoever writes is to drop from now on."""
        await self._follow(kind, None)

    async def renew_readers(self) -> None:
        """Let processes that start with it off know, for a while, that others use it."""
        command = ("SET", self._epoch_key("readers"), "1", "PX", _READERS_LAST)
        await self._keyspace.call(command, WRITTEN, entity=_ABOUT)

    async def has_readers(self) -> bool:
        """Whether any process has renewed its use of cached reads lately."""
        command = ("EXISTS", self._epoch_key("readers"))
        return await self._keyspace.call(command, READ, entity=_ABOUT) == 1

    async def look(self, kind: str, id_: str) -> Look:
        """Look for one entity, in one trip."""
        epoch = self._epochs.get(kind, "")
        offers_from = self._offers_from.get(kind)
        current, raw = await self._keyspace.values(
            [self._epoch_key(kind), self._key(kind, epoch, id_)], entity=_ABOUT
        )
        if current is None or current.decode() != epoch or offers_from is None:
            await self._follow(kind, current)
            return Look(None, None)
        if raw is None:
            return Look(None, epoch if self._monotonic() >= offers_from else None)
        return Look(None, None) if raw == _DROPPED else Look(raw, None)

    async def offer(self, kind: str, id_: str, entry: bytes, token: str, ttl: int) -> None:
        """Put an entity there, unless it is there or was dropped."""
        await self._keyspace.call(
            ("SET", self._key(kind, token, id_), entry, "EX", ttl, "NX"),
            WRITTEN,
            entity=_ABOUT,
        )

    async def drop(self, kind: str, ids: Sequence[str]) -> None:
        """Leave a mark in the place of each entity, in the epoch that holds by then, if any."""
        for start in range(0, len(ids), _TOGETHER):
            if not self.is_unread(kind):
                await self._drop_some(kind, ids[start : start + _TOGETHER])

    async def drop_all(self, kind: str) -> None:
        """Begin a new epoch, if there is one."""
        if self.is_unread(kind):
            return
        asked_at = self._monotonic()
        done = await self._keyspace.call(
            ("SET", self._epoch_key(kind), _new_epoch(), "XX", "PX", _EPOCH_LASTS),
            WRITTEN,
            entity=_ABOUT,
        )
        if done is None:
            self._unread_at[kind] = asked_at

    def is_unread(self, kind: str) -> bool:
        """Whether there was no epoch of a kind a moment ago."""
        asked_at = self._unread_at.get(kind)
        return asked_at is not None and self._monotonic() - asked_at < _UNREAD_FOR

    async def _drop_some(self, kind: str, ids: Sequence[str]) -> None:
        while True:
            epoch, asked_at = self._epochs.get(kind, ""), self._monotonic()
            marks = [
                ("SET", self._key(kind, epoch, id_), _DROPPED, "PX", self._remember)
                for id_ in (ids if epoch else ())
            ]
            replies = await self._keyspace.call_all(
                [*marks, ("GET", self._epoch_key(kind))], WRITTEN, entity=_ABOUT
            )
            current = cast("bytes | None", replies[-1])
            if current is None:
                self._unread_at[kind] = asked_at
                return
            if current.decode() == epoch:
                return
            self._epochs[kind] = current.decode()
            self._offers_from.pop(kind, None)  # how old that one is, the next look has to ask

    async def _follow(self, kind: str, current: bytes | None) -> None:
        """Adopt the epoch that holds, or begin the first one."""
        key = self._epoch_key(kind)
        if current is None:
            await self._keyspace.call(
                ("SET", key, _new_epoch(), "NX", "PX", _EPOCH_LASTS), WRITTEN, entity=_ABOUT
            )
        current, left = cast(
            "tuple[bytes | None, int]",
            await self._keyspace.call_all([("GET", key), ("PTTL", key)], READ, entity=_ABOUT),
        )
        if current is None:
            return
        age = (_EPOCH_LASTS - left) / 1000
        self._unread_at.pop(kind, None)
        self._epochs[kind] = current.decode()
        self._offers_from[kind] = self._monotonic() + _OFFERS_AFTER - age

    def _epoch_key(self, kind: str) -> str:
        # The slash keeps these keys out of the cache's own "<namespace>:", its patterns and flush.
        return f"{self._keyspace.settings.namespace}/reads:{kind}"

    def _key(self, kind: str, epoch: str, id_: str) -> str:
        return f"{self._epoch_key(kind)}:{epoch}:{id_}"


def _new_epoch() -> str:
    return secrets.token_hex(8)
