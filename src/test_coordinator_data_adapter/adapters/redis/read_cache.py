"""Entities kept in Redis for cached reads, beside the cache and out of its sight."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Final, cast

from test_coordinator_data_adapter.adapters.redis.keyspace import WRITTEN, Keyspace
from test_coordinator_data_adapter.resilience.cached_reads import Look

__all__ = ["RedisReadCache"]

_DROPPED: Final = b""
_ABOUT: Final = "cached_read"
_TOGETHER: Final = 500


class RedisReadCache:
    """Keeps entities under ``<namespace>/reads:``.

    Each kind has an epoch, a random text that is part of the keys of its entities: a new
    epoch forgets them all at once, and looks come with the epoch they were made in. A drop
    leaves a mark that outlives every offer that can still be on its way.
    """

    def __init__(self, keyspace: Callable[[], Keyspace], *, remember: float = 10.0) -> None:
        """Prepare; nothing is asked yet.

        Args:
            keyspace: how to speak to Redis now; it may raise `UnavailableError`.
            remember: seconds a drop refuses offers.
        """
        self._keyspace = keyspace
        self._remember = round(remember * 1000)
        self._epochs: dict[str, str] = {}

    async def look(self, kind: str, id_: str) -> Look:
        """Look for one entity, in one trip."""
        keyspace = self._keyspace()
        epoch = self._epochs.get(kind, "")
        current, raw = await keyspace.values(
            [_epoch_key(keyspace, kind), _key(keyspace, kind, epoch, id_)], entity=_ABOUT
        )
        if current is None or current.decode() != epoch:
            await self._follow(keyspace, kind, current)
            return Look(None, None)
        if raw is None:
            return Look(None, epoch)
        return Look(None, None) if raw == _DROPPED else Look(raw, None)

    async def offer(self, kind: str, id_: str, entry: bytes, token: str, ttl: int) -> None:
        """Put an entity there, unless it is there or was dropped."""
        keyspace = self._keyspace()
        await keyspace.call(
            ("SET", _key(keyspace, kind, token, id_), entry, "EX", ttl, "NX"),
            WRITTEN,
            entity=_ABOUT,
        )

    async def drop(self, kind: str, ids: Sequence[str]) -> None:
        """Leave a mark in the place of each entity, in the epoch that holds by then."""
        for start in range(0, len(ids), _TOGETHER):
            await self._drop_some(kind, ids[start : start + _TOGETHER])

    async def drop_all(self, kind: str) -> None:
        """Begin a new epoch."""
        keyspace = self._keyspace()
        epoch = secrets.token_hex(8)
        await keyspace.call(("SET", _epoch_key(keyspace, kind), epoch), WRITTEN, entity=_ABOUT)
        self._epochs[kind] = epoch

    async def _drop_some(self, kind: str, ids: Sequence[str]) -> None:
        keyspace = self._keyspace()
        while True:
            epoch = self._epochs.get(kind, "")
            marks = [
                ("SET", _key(keyspace, kind, epoch, id_), _DROPPED, "PX", self._remember)
                for id_ in ids
            ]
            replies = await keyspace.call_all(
                [*marks, ("GET", _epoch_key(keyspace, kind))], WRITTEN, entity=_ABOUT
            )
            current = cast("bytes | None", replies[-1])
            if current is None or current.decode() == epoch:
                return  # without an epoch nothing is kept, and the next one will be a new one
            self._epochs[kind] = current.decode()

    async def _follow(self, keyspace: Keyspace, kind: str, current: bytes | None) -> None:
        """Adopt the epoch that holds, or begin the first one."""
        if current is None:
            await keyspace.call(
                ("SET", _epoch_key(keyspace, kind), secrets.token_hex(8), "NX"),
                WRITTEN,
                entity=_ABOUT,
            )
            (current,) = await keyspace.values([_epoch_key(keyspace, kind)], entity=_ABOUT)
        if current is not None:
            self._epochs[kind] = current.decode()


def _epoch_key(keyspace: Keyspace, kind: str) -> str:
    # The slash keeps these keys out of the cache's own "<namespace>:", its patterns and its flush.
    return f"{keyspace.settings.namespace}/reads:{kind}"


def _key(keyspace: Keyspace, kind: str, epoch: str, id_: str) -> str:
    return f"{_epoch_key(keyspace, kind)}:{epoch}:{id_}"
