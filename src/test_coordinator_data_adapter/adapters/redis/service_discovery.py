"""The service registry in Redis."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast

import orjson

from test_coordinator_data_adapter.adapters.redis.keyspace import READ, REMOVED, WRITTEN, Keyspace
from test_coordinator_data_adapter.adapters.redis.route import Command
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConflictError,
    DataIntegrityError,
    NotFoundError,
)
from test_coordinator_data_adapter.interfaces.arguments import fraction, identifier, seconds
from test_coordinator_data_adapter.interfaces.service_discovery import ServiceDiscoveryRepository
from test_coordinator_data_adapter.models.service import ServiceInfo
from test_coordinator_data_adapter.models.values import MAX_MOMENT, JsonValue, utc_now

__all__ = ["RedisServiceDiscoveryRepository"]

_SERVICE: Final = "service"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_KEPT: Final = timedelta(hours=25)
_LISTED: Final = timedelta(hours=50)
_RELISTED_AFTER: Final = 3600.0
_TOGETHER: Final = 1000


@dataclass(frozen=True, slots=True)
class _Record:
    """What is stored about one registration.

    Attributes:
        registration: sets this registration apart from earlier and later ones of the same id.
        service: the service as it was registered.
    """

    registration: str
    service: ServiceInfo

    @property
    def entry(self) -> str:
        """How the index of the service's name knows it."""
        return f"{self.registration}:{self.service.service_id}"


class RedisServiceDiscoveryRepository(ServiceDiscoveryRepository):
    """The service registry in Redis, laid out so that every command alone keeps it sound.

    Under the registry's prefix and one hash tag, so that a cluster keeps all of it in one place:

    * ``seen``, a sorted set: id by last_seen in microseconds. It alone decides who is registered:
      a heartbeat raises a score only where there is one, stale removal is one range removal.
    * ``record:<id>``: the registration as JSON. It expires by itself a day after the last
      heartbeat; one without a score is a ghost that no call shows.
    * ``name:<service_name>``, a sorted set: registration and id by the time until which the entry
      is good. It only says where to look: entries that lead to nothing are passed over and
      removed. As no two registrations share an entry, removing one never hits another.
    """

    def __init__(
        self,
        keyspace: Keyspace,
        *,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Use a keyspace, which stays its owner's to close.

        Args:
            keyspace: whose ``settings.registry`` the registry lives under.
            clock: now, aware; the same for all members of the family, as well as can be.
            monotonic: seconds that never step back.
        """
        self._keyspace = keyspace
        self._clock = clock
        self._monotonic = monotonic
        prefix = f"{keyspace.settings.registry}{{registry}}:"
        self._seen = f"{prefix}seen"
        self._records = f"{prefix}record:"
        self._names = f"{prefix}name:"
        self._listed: dict[str, float] = {}

    async def register(self, service: ServiceInfo) -> ServiceInfo:
        stored = ServiceInfo.checked(service)
        record = _Record(secrets.token_hex(8), stored)
        # The entry comes last: whoever finds it finds the rest, or knows that it is outdated.
        commands: list[Command] = [
            (
                "SET",
                self._records + stored.service_id,
                _written(record),
                "PX",
                self._lifetime(stored.last_seen),
            ),
            ("ZADD", self._seen, _microseconds(stored.last_seen), stored.service_id),
            (
                "ZREMRANGEBYSCORE",
                self._names + stored.service_name,
                "-inf",
                _microseconds(self._clock()),
            ),
            *self._listing(record),
        ]
        await self._keyspace.call_all(commands, WRITTEN, entity=_SERVICE, id=stored.service_id)
        self._note(record)
        return stored

    async def deregister(self, service_id: str) -> bool:
        known = identifier(service_id, "service_id")
        self._listed.pop(known, None)
        existed, removed = await self._keyspace.call_all(
            [("EXISTS", self._records + known), ("ZREM", self._seen, known)],
            REMOVED,
            entity=_SERVICE,
            id=known,
        )
        return existed == 1 and removed == 1

    async def get_service_by_id(self, service_id: str) -> ServiceInfo | None:
        known = identifier(service_id, "service_id")
        score, raw = await self._keyspace.call_all(
            [("ZSCORE", self._seen, known), ("GET", self._records + known)],
            READ,
            entity=_SERVICE,
            id=known,
        )
        record = _read(known, score, raw)
        return None if record is None else record.service

    async def list_services_by_name(self, service_name: str) -> list[ServiceInfo]:
        name = identifier(service_name, "service_name")
        index = self._names + name
        entries = cast(
            "list[bytes]",
            await self._keyspace.call(("ZRANGE", index, 0, -1), READ, entity=_SERVICE),
        )
        if not entries:
            return []
        listed = {entry: entry.partition(":")[2] for entry in _texts(entries)}
        records = await self._records_of(list(dict.fromkeys(listed.values())))
        await self._forget(index, _outdated(name, listed, records))
        return _in_order(
            record for record in records.values() if record.service.service_name == name
        )

    async def list_all_services(self) -> list[ServiceInfo]:
        found = cast(
            "list[bytes]",
            await self._keyspace.call(("ZRANGE", self._seen, 0, -1), READ, entity=_SERVICE),
        )
        return _in_order((await self._records_of(_texts(found))).values())

    async def update_heartbeat(self, service_id: str) -> ServiceInfo:
        known = identifier(service_id, "service_id")
        now = self._clock()
        replies = await self._keyspace.call_all(
            [
                ("ZADD", self._seen, "XX", "GT", _microseconds(now), known),
                ("PEXPIRE", self._records + known, _milliseconds(_KEPT), "GT"),
                ("ZSCORE", self._seen, known),
                ("GET", self._records + known),
            ],
            WRITTEN,
            entity=_SERVICE,
            id=known,
        )
        record = _read(known, replies[2], replies[3])
        if record is None:
            self._listed.pop(known, None)
            raise NotFoundError.of(_SERVICE, known)
        await self._keep_listed(record)
        return record.service

    async def remove_stale_services(
        self, threshold_seconds: float, *, max_fraction: float | None = None
    ) -> int:
        threshold = timedelta(seconds=seconds(threshold_seconds, "threshold_seconds"))
        # Exclusive: what was seen exactly then is healthy.
        stale = ("-inf", f"({_microseconds(self._clock() - threshold)}")
        if max_fraction is not None:
            share = fraction(max_fraction, "max_fraction")
            going, registered = cast(
                "list[int]",
                await self._keyspace.call_all(
                    [("ZCOUNT", self._seen, *stale), ("ZCARD", self._seen)], READ, entity=_SERVICE
                ),
            )
            if going > share * registered:
                raise ConflictError.too_many_stale(going, registered)
        return cast(
            "int",
            await self._keyspace.call(
                ("ZREMRANGEBYSCORE", self._seen, *stale), REMOVED, entity=_SERVICE
            ),
        )

    async def get_service_count(self) -> int:
        # Only who was not seen for so long can have been forgotten: see `_lifetime`.
        silent_since = _microseconds(self._clock() - (_KEPT - timedelta(hours=1)))
        registered, silent = await self._keyspace.call_all(
            [
                ("ZCARD", self._seen),
                ("ZRANGE", self._seen, "-inf", f"({silent_since}", "BYSCORE", "WITHSCORES"),
            ],
            READ,
            entity=_SERVICE,
        )
        suspects = cast("list[bytes]", silent)
        forgotten = await self._sweep(suspects[::2], suspects[1::2]) if suspects else 0
        return cast("int", registered) - forgotten

    async def is_service_healthy(self, service_id: str, threshold_seconds: float) -> bool:
        threshold = timedelta(seconds=seconds(threshold_seconds, "threshold_seconds"))
        service = await self.get_service_by_id(service_id)
        return service is not None and self._clock() - service.last_seen <= threshold

    def _lifetime(self, last_seen: datetime) -> int:
        return _milliseconds(_KEPT + max(last_seen - self._clock(), timedelta()))

    def _listing(self, record: _Record) -> list[Command]:
        """What enters a registration into the index of its name, or makes the entry last."""
        service = record.service
        index = self._names + service.service_name
        now = self._clock()
        good_for = _LISTED + max(service.last_seen - now, timedelta())
        lasting = _milliseconds(good_for)
        return [
            ("ZADD", index, "GT", _microseconds(now) + good_for // _MICROSECOND, record.entry),
            ("PEXPIRE", index, lasting, "NX"),
            ("PEXPIRE", index, lasting, "GT"),
        ]

    def _note(self, record: _Record) -> None:
        now, known = self._monotonic(), record.service.service_id
        self._listed.pop(known, None)
        self._listed[known] = now
        # The oldest come first. What has not beaten for so long is listed anew when it does.
        while now - self._listed[oldest := next(iter(self._listed))] >= _RELISTED_AFTER:
            del self._listed[oldest]

    async def _keep_listed(self, record: _Record) -> None:
        """Once an hour, make the entry of a service that beats last, or come back if it is lost."""
        listed = self._listed.get(record.service.service_id)
        if listed is not None and self._monotonic() - listed < _RELISTED_AFTER:
            return
        try:
            await self._keyspace.call_all(self._listing(record), WRITTEN, entity=_SERVICE)
        except AdapterError:
            return  # the heartbeat itself has arrived, and the next one tries this again
        self._note(record)

    async def _records_of(self, ids: Sequence[str]) -> dict[str, _Record]:
        records: dict[str, _Record] = {}
        for start in range(0, len(ids), _TOGETHER):
            some = ids[start : start + _TOGETHER]
            scores, raws = cast(
                "list[list[object]]",
                await self._keyspace.call_all(
                    [
                        ("ZMSCORE", self._seen, *some),
                        ("MGET", *(self._records + known for known in some)),
                    ],
                    READ,
                    entity=_SERVICE,
                ),
            )
            for known, score, raw in zip(some, scores, raws, strict=True):
                record = _read(known, score, raw)
                if record is not None:
                    records[known] = record
        return records

    async def _forget(self, index: str, outdated: Sequence[str]) -> None:
        """Remove index entries that lead to nothing any more."""
        for start in range(0, len(outdated), _TOGETHER):
            some = outdated[start : start + _TOGETHER]
            try:
                await self._keyspace.call(("ZREM", index, *some), WRITTEN, entity=_SERVICE)
            except AdapterError:
                return  # housekeeping: whoever lists this name next tries again

    async def _sweep(self, ids: Sequence[bytes], scores: Sequence[bytes]) -> int:
        """Remove from ``seen`` whose record has expired. Returns how many have none."""
        present: list[object] = []
        for start in range(0, len(ids), _TOGETHER):
            asked: list[Command] = [
                ("EXISTS", self._records.encode() + known)
                for known in ids[start : start + _TOGETHER]
            ]
            present.extend(await self._keyspace.call_all(asked, READ, entity=_SERVICE))
        alive = {score for score, there in zip(scores, present, strict=True) if there}
        # By score, not by id: one that registers again meanwhile has another score and stays.
        dead = [("ZREMRANGEBYSCORE", self._seen, score, score) for score in {*scores} - alive]
        for start in range(0, len(dead), _TOGETHER):
            try:
                await self._keyspace.call_all(
                    dead[start : start + _TOGETHER], REMOVED, entity=_SERVICE
                )
            except AdapterError:
                break  # housekeeping: whoever counts next tries again
        return sum(1 for there in present if not there)


def _texts(raws: Iterable[bytes]) -> list[str]:
    """As text, without what is none: no service has an id like that, so somebody else put it in."""
    texts: list[str] = []
    for raw in raws:
        with suppress(UnicodeDecodeError):
            texts.append(raw.decode())
    return texts


def _outdated(name: str, listed: dict[str, str], records: dict[str, _Record]) -> list[str]:
    """The entries that will never lead to a registration under this name again."""
    outdated: list[str] = []
    for entry, known in listed.items():
        record = records.get(known)
        if (
            record is None
            or record.service.service_name != name
            # Replaced; until the new entry has arrived, this one leads to the service.
            or (record.entry != entry and record.entry in listed)
        ):
            outdated.append(entry)
    return outdated


def _in_order(records: Iterable[_Record]) -> list[ServiceInfo]:
    return sorted(
        (record.service for record in records),
        key=lambda service: (service.registered_at, service.service_id),
    )


def _written(record: _Record) -> bytes:
    return orjson.dumps(
        {
            "registration": record.registration,
            "service": record.service.model_dump(mode="json"),
        }
    )


def _read(known: str, score: object, raw: object) -> _Record | None:
    """The registration as it stands; None unless both the score and the record are there."""
    if not isinstance(score, bytes) or not isinstance(raw, bytes):
        return None
    try:
        stored = cast("dict[str, JsonValue]", orjson.loads(raw))
        fields = stored["service"]
        fields["last_seen"] = _last_seen(float(score), fields["last_seen"])
        service = ServiceInfo.model_validate(fields)
        registration = str(stored["registration"])
    except (ValueError, KeyError, TypeError, OverflowError):
        raise DataIntegrityError(
            f"what is stored about service {known!r} cannot be read: register it again",
            entity=_SERVICE,
            id=known,
        ) from None
    return _Record(registration, service)


def _last_seen(score: float, registered: str) -> datetime:
    """The time of a score, to the microsecond.

    Doubles are exact up to the year 2255, and no heartbeat comes later than that: a later time was
    given with the registration, which has it exactly.
    """
    given = datetime.fromisoformat(registered)
    if float(_microseconds(given)) == score:
        return given
    return min(_EPOCH + int(score) * _MICROSECOND, MAX_MOMENT)


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _milliseconds(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)
