"""The service registry in Redis."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Self, TypeVar, cast

import orjson

from test_coordinator_data_adapter.adapters.redis.keyspace import READ, REMOVED, WRITTEN, Keyspace
from test_coordinator_data_adapter.adapters.redis.route import Command
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConflictError,
    DataIntegrityError,
    NotFoundError,
)
from test_coordinator_data_adapter.interfaces.arguments import (
    fraction,
    identifier,
    registration_token,
    seconds,
)
from test_coordinator_data_adapter.interfaces.service_discovery import ServiceDiscoveryRepository
from test_coordinator_data_adapter.models.service import ServiceInfo
from test_coordinator_data_adapter.models.values import MAX_MOMENT, JsonValue, utc_now

__all__ = ["RedisServiceDiscoveryRepository"]

_SERVICE: Final = "service"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LIFETIME: Final = 25 * 3600 * 1000  # milliseconds
_ENDED_FOR: Final = 3600 * 1_000_000  # microseconds
_BATCH: Final = 1000

_CURRENT: Final = b"current"
_RECORD: Final = b"record:"
_ENDED: Final = b"ended:"

_ItemT = TypeVar("_ItemT")


@dataclass(frozen=True, slots=True)
class _Member:
    """One registration of one service, as the sorted set and the indexes name it.

    Attributes:
        registration: unique to this registration; begins with the token it was made under.
        service_id: the service.
    """

    registration: str
    service_id: str

    @classmethod
    def new(cls, token: str, service_id: str) -> Self:
        """A registration under ``token`` that differs from all others under it."""
        return cls(f"{token}.{secrets.token_hex(4)}", service_id)

    @classmethod
    def parse(cls, raw: bytes) -> Self | None:
        """The registration a member names; None where somebody else has added the member."""
        with suppress(UnicodeDecodeError):
            registration, separator, service_id = raw.decode().partition(":")
            if separator:
                return cls(registration, service_id)
        return None

    @property
    def token(self) -> str:
        return self.registration.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.registration}:{self.service_id}"


@dataclass(slots=True)
class _Stored:
    """What is stored about the registrations of one service.

    Attributes:
        current: the registration that was made last.
        records: the service as it was registered, by registration; without those that have ended.
        ended: the same of those that have ended.
        ended_at: when the registrations under which token were ended, in microseconds.
    """

    current: _Member | None = None
    records: dict[_Member, bytes] = field(default_factory=dict[_Member, bytes])
    ended: dict[_Member, bytes] = field(default_factory=dict[_Member, bytes])
    ended_at: dict[str, int] = field(default_factory=dict[str, int])

    @classmethod
    def parse(cls, service_id: str, reply: object) -> Self:
        """Read the reply to HGETALL."""
        flat = cast("list[bytes]", reply)
        stored = cls()
        records: dict[_Member, bytes] = {}
        for name, value in zip(flat[::2], flat[1::2], strict=True):
            with suppress(ValueError):  # somebody else has added it
                if name == _CURRENT:
                    stored.current = _Member(value.decode(), service_id)
                elif name.startswith(_RECORD):
                    registration = name.removeprefix(_RECORD).decode()
                    records[_Member(registration, service_id)] = value
                elif name.startswith(_ENDED):
                    stored.ended_at[name.removeprefix(_ENDED).decode()] = int(value)
        for member, record in records.items():
            has_ended = member.token in stored.ended_at
            (stored.ended if has_ended else stored.records)[member] = record
        return stored

    @property
    def latest(self) -> _Member | None:
        """The registration that counts, provided that it is in the sorted set."""
        if self.current in self.records:
            return self.current
        return next(iter(self.records), None)

    @property
    def replaced(self) -> dict[_Member, bytes]:
        """What the current registration has replaced; none of these ever counts again."""
        if self.current not in self.records:
            return {}  # it has ended, so that another one may count
        return {member: raw for member, raw in self.records.items() if member != self.current}

    def registered(self, scores: Mapping[_Member, float]) -> _Member | None:
        """The registration that counts: the current one, or else one that it has yet to replace."""
        if self.current in self.records and self.current in scores:
            return self.current
        return max(self.records.keys() & scores.keys(), key=scores.__getitem__, default=None)


@dataclass(frozen=True, slots=True)
class _Found:
    """A service that is registered.

    Attributes:
        member: the registration that counts.
        score: when it was seen last, in microseconds.
        record: the service as it was registered.
    """

    member: _Member
    score: float
    record: bytes

    @property
    def service(self) -> ServiceInfo:
        """The service as it is registered now.

        Raises:
            DataIntegrityError: somebody else has written the record.
        """
        try:
            fields = cast("dict[str, JsonValue]", orjson.loads(self.record))
            fields["last_seen"] = _last_seen(self.score, str(fields["last_seen"]))
            return ServiceInfo.model_validate(fields)
        except (ValueError, KeyError, TypeError, OverflowError):
            raise DataIntegrityError(
                f"what is stored about service {self.member.service_id!r} cannot be read:"
                " register it again",
                entity=_SERVICE,
                id=self.member.service_id,
            ) from None


class RedisServiceDiscoveryRepository(ServiceDiscoveryRepository):
    """The service registry in Redis, laid out so that every command alone keeps it sound.

    Under the registry's prefix and one hash tag, so that a cluster keeps all of it in one place:

    * ``seen``, a sorted set of registrations by last_seen in microseconds. A service is registered
      while one of its registrations is in there: a heartbeat changes a score only where there is
      one, stale removal is one range removal.
    * ``service:<id>``, a hash: the service as JSON under each of its registrations, which of them
      is the current one, and the tokens whose registrations have ended, which never count again.
    * ``name:<service_name>``, a set of registrations. It only says where to look: entries that lead
      to nothing are passed over and removed, and every heartbeat restores its own.

    No two registrations share a name, so removing one by its name never hits another, however
    late the command arrives. The keys expire by themselves a day after the last heartbeat.
    """

    def __init__(self, keyspace: Keyspace, *, clock: Callable[[], datetime] = utc_now) -> None:
        """Use a keyspace, which stays its owner's to close.

        Args:
            keyspace: whose ``settings.registry`` the registry lives under.
            clock: now, aware; the same for all members of the family, as well as can be.
        """
        self._keyspace = keyspace
        self._clock = clock
        prefix = f"{keyspace.settings.registry}{{registry}}:"
        self._seen = f"{prefix}seen"
        self._services = f"{prefix}service:"
        self._names = f"{prefix}name:"

    async def register_with_token(self, service: ServiceInfo, token: str) -> ServiceInfo:
        stored = ServiceInfo.checked(service)
        member = _Member.new(registration_token(token), stored.service_id)
        key = self._services + stored.service_id
        # The record comes first: whoever finds the registration elsewhere finds its record, or
        # knows that the registration is over.
        *_, reply = await self._keyspace.call_all(
            [
                (
                    *("HSET", key, _CURRENT, member.registration),
                    *(_RECORD + member.registration.encode(), stored.model_dump_json().encode()),
                ),
                ("ZADD", self._seen, _microseconds(stored.last_seen), str(member)),
                *self._keep_alive(member, stored.service_name),
                ("HGETALL", key),
            ],
            WRITTEN,
            entity=_SERVICE,
            id=stored.service_id,
        )
        now_stored = _Stored.parse(stored.service_id, reply)
        if member.token in now_stored.ended_at:
            await self._clear_up(self._discarding(stored.service_id, now_stored.ended))
            raise ConflictError.registration_ended(stored.service_id)
        await self._clear_up(self._discarding(stored.service_id, now_stored.replaced))
        return stored

    async def deregister(self, service_id: str) -> bool:
        known = identifier(service_id, "service_id")
        tried: dict[_Member, bytes] = {}
        while (stored := await self._read(known)).records.keys() - tried.keys():
            tried = stored.records
            removed = await self._keyspace.call(
                ("ZREM", self._seen, *map(str, tried)), REMOVED, entity=_SERVICE, id=known
            )
            if removed == len(tried):  # else one is still arriving, and keeps its record
                await self._clear_up(self._discarding(known, tried))
            if removed:
                return True
            # None of these was registered any more; another one may have replaced them.
        return False

    async def deregister_with_token(self, service_id: str, token: str) -> bool:
        known, token = identifier(service_id, "service_id"), registration_token(token)
        key = self._services + known
        now = _microseconds(self._clock())
        _, _, reply = await self._keyspace.call_all(
            [
                ("HSET", key, _ENDED + token.encode(), now),
                ("PEXPIRE", key, _LIFETIME),
                ("HGETALL", key),
            ],
            WRITTEN,
            entity=_SERVICE,
            id=known,
        )
        # From here on its registrations do not count any more; the rest clears up.
        stored = _Stored.parse(known, reply)
        own = {member: raw for member, raw in stored.ended.items() if member.token == token}
        others = {member: raw for member, raw in stored.ended.items() if member not in own}
        if stored.current in own:
            others |= stored.records  # which it has replaced
        long_ended = [
            _ENDED + ended.encode()
            for ended, at in stored.ended_at.items()
            if abs(now - at) > _ENDED_FOR
        ]
        removed = await self._clear_up(
            [
                *self._discarding(known, own),
                *self._discarding(known, others),
                *([("HDEL", key, *long_ended)] if long_ended else ()),
            ]
        )
        was_registered = stored.current not in stored.records
        return bool(was_registered and own and removed and removed[0])

    async def get_service_by_id(self, service_id: str) -> ServiceInfo | None:
        known = identifier(service_id, "service_id")
        found = (await self._find([known])).get(known)
        return None if found is None else found.service

    async def list_services_by_name(self, service_name: str) -> list[ServiceInfo]:
        name = identifier(service_name, "service_name")
        index = self._names + name
        entries = _members(await self._keyspace.call(("SMEMBERS", index), READ, entity=_SERVICE))
        found = await self._find([entry.service_id for entry in entries], entries)
        services = {one.member: one.service for one in found.values()}
        all_entries = {*entries}
        listed = {
            known: one.member
            for known, one in found.items()
            if services[one.member].service_name == name
        }
        outdated = [
            str(entry)
            for entry in entries
            # Until the entry of a new registration has arrived, that of an older one leads to it.
            if (member := listed.get(entry.service_id)) is None
            or (member != entry and member in all_entries)
        ]
        await self._clear_up([("SREM", index, *some) for some in _chunks(outdated)])
        return _in_order(services[member] for member in listed.values())

    async def list_all_services(self) -> list[ServiceInfo]:
        return _in_order(found.service for found in (await self._find_all()).values())

    async def update_heartbeat(self, service_id: str) -> ServiceInfo:
        known = identifier(service_id, "service_id")
        now = _microseconds(self._clock())
        stored = await self._read(known)
        latest = stored.latest
        found = None if latest is None else _Found(latest, now, stored.records[latest])
        while found is not None:
            service = found.service
            _, score, *_ = await self._keyspace.call_all(
                [
                    ("ZADD", self._seen, "XX", now, str(found.member)),
                    ("ZSCORE", self._seen, str(found.member)),
                    *self._keep_alive(found.member, service.service_name),
                ],
                WRITTEN,
                entity=_SERVICE,
                id=known,
            )
            if score is not None:
                await self._clear_up(self._discarding(known, stored.replaced))
                return service.model_copy(update={"last_seen": _timestamp(now)})
            # It has ended; another one may have replaced it.
            found = (await self._find([known])).get(known)
        raise NotFoundError.of(_SERVICE, known)

    async def remove_stale_services(
        self, threshold_seconds: float, *, max_fraction: float | None = None
    ) -> int:
        threshold = timedelta(seconds=seconds(threshold_seconds, "threshold_seconds"))
        share = None if max_fraction is None else fraction(max_fraction, "max_fraction")
        # Exclusive: what was seen exactly then is not stale.
        limit = _microseconds(self._clock() - threshold)
        if share is None:
            stale = await self._find_all(("-inf", f"({limit}", "BYSCORE"))
        else:
            registered = await self._find_all()
            stale = {known: one for known, one in registered.items() if one.score < limit}
            if len(stale) > share * len(registered):
                raise ConflictError.too_many_stale(len(stale), len(registered))
        if not stale:
            return 0
        removed = cast(
            "int",
            await self._keyspace.call(
                ("ZREMRANGEBYSCORE", self._seen, "-inf", f"({limit}"), REMOVED, entity=_SERVICE
            ),
        )
        await self._clear_up_removed(stale.values())
        return removed

    async def get_service_count(self) -> int:
        return len(await self._find_all())

    async def is_service_healthy(self, service_id: str, threshold_seconds: float) -> bool:
        threshold = timedelta(seconds=seconds(threshold_seconds, "threshold_seconds"))
        service = await self.get_service_by_id(service_id)
        return service is not None and abs(self._clock() - service.last_seen) <= threshold

    def _keep_alive(self, member: _Member, service_name: str) -> list[Command]:
        """Restores the entry in the index, and lets both keys live for another day."""
        index = self._names + service_name
        return [
            ("PEXPIRE", self._services + member.service_id, _LIFETIME),
            ("SADD", index, str(member)),
            ("PEXPIRE", index, _LIFETIME),
        ]

    def _discarding(self, service_id: str, records: Mapping[_Member, bytes]) -> list[Command]:
        """What removes registrations everywhere; the first reply is how many were registered."""
        if not records:
            return []
        commands: list[Command] = [
            ("ZREM", self._seen, *map(str, records)),
            (
                *("HDEL", self._services + service_id),
                *(_RECORD + member.registration.encode() for member in records),
            ),
        ]
        for member, record in records.items():
            with suppress(ValueError, KeyError, TypeError):  # somebody else has written it
                name = orjson.loads(record)["service_name"]
                commands.append(("SREM", f"{self._names}{name}", str(member)))
        return commands

    async def _clear_up(self, commands: Sequence[Command]) -> list[object] | None:
        """Remove what does not count any more; whoever meets it next tries again."""
        if not commands:
            return None
        with suppress(AdapterError):
            return await self._keyspace.call_all(commands, REMOVED, entity=_SERVICE)
        return None

    async def _clear_up_removed(self, stale: Iterable[_Found]) -> None:
        for some in _chunks(list(stale)):
            with suppress(AdapterError):
                scores = await self._scores([one.member for one in some])
                commands = [
                    command
                    for one in some
                    if one.member not in scores
                    for command in self._discarding(one.member.service_id, {one.member: one.record})
                ]
                await self._clear_up(commands)

    async def _read(self, service_id: str) -> _Stored:
        reply = await self._keyspace.call(
            ("HGETALL", self._services + service_id), READ, entity=_SERVICE, id=service_id
        )
        return _Stored.parse(service_id, reply)

    async def _scores(self, members: Sequence[_Member]) -> dict[_Member, float]:
        reply = await self._keyspace.call(
            ("ZMSCORE", self._seen, *map(str, members)), READ, entity=_SERVICE
        )
        return _scores_of(members, reply)

    async def _find_all(self, limits: Sequence[str | int] = (0, -1)) -> dict[str, _Found]:
        """All services that are registered, or those within limits of their last_seen."""
        reply = await self._keyspace.call(("ZRANGE", self._seen, *limits), READ, entity=_SERVICE)
        members = _members(reply)
        return await self._find([member.service_id for member in members], members)

    async def _find(
        self, service_ids: Iterable[str], members: Sequence[_Member] = ()
    ) -> dict[str, _Found]:
        """The services with these ids that are registered, in two round trips a thousand.

        Args:
            service_ids: which ones.
            members: registrations of these services, as far as they are known; then, as a rule,
                one round trip is enough. Those that do not count any more are removed.
        """
        known_members: dict[str, list[_Member]] = {known: [] for known in service_ids}
        for member in members:
            known_members[member.service_id].append(member)
        found: dict[str, _Found] = {}
        for some in _chunks(list(known_members)):
            asked = some
            tried: dict[str, set[_Member]] = {known: set() for known in some}
            while asked:
                stored, scores = await self._look_up(
                    asked, [member for known in asked for member in known_members[known]]
                )
                outdated: list[str] = []
                missing: list[str] = []
                for known, one in stored.items():
                    registered = one.registered(scores)
                    if registered is not None:
                        record = one.records[registered]
                        found[known] = _Found(registered, scores[registered], record)
                    elif one.records.keys() - tried[known]:
                        # Replaced between the two round trips, or not registered: ask once more.
                        missing.append(known)
                        tried[known].update(one.records)
                    outdated.extend(
                        str(member)
                        for member in known_members[known]
                        if member in scores
                        and member != registered
                        and (member not in one.records or registered == one.current)
                    )
                if outdated:
                    await self._clear_up([("ZREM", self._seen, *outdated)])
                asked = missing
        return found

    async def _look_up(
        self, service_ids: Sequence[str], members: Sequence[_Member]
    ) -> tuple[dict[str, _Stored], dict[_Member, float]]:
        """What is stored about these services, and the scores of all their registrations."""
        commands: list[Command] = [("HGETALL", self._services + known) for known in service_ids]
        if members:
            commands.append(("ZMSCORE", self._seen, *map(str, members)))
        replies = await self._keyspace.call_all(commands, READ, entity=_SERVICE)
        stored = {
            known: _Stored.parse(known, reply)
            for known, reply in zip(service_ids, replies, strict=False)
        }
        scores = _scores_of(members, replies[-1]) if members else {}
        others = [member for one in stored.values() for member in one.records.keys() - {*members}]
        if others:
            scores |= await self._scores(others)
        return stored, scores


def _members(reply: object) -> list[_Member]:
    return [member for raw in cast("list[bytes]", reply) if (member := _Member.parse(raw))]


def _scores_of(members: Sequence[_Member], reply: object) -> dict[_Member, float]:
    scores = cast("list[bytes | None]", reply)
    return {
        member: float(score)
        for member, score in zip(members, scores, strict=True)
        if score is not None
    }


def _chunks(items: Sequence[_ItemT]) -> Iterator[Sequence[_ItemT]]:
    for start in range(0, len(items), _BATCH):
        yield items[start : start + _BATCH]


def _in_order(services: Iterable[ServiceInfo]) -> list[ServiceInfo]:
    return sorted(services, key=lambda service: (service.registered_at, service.service_id))


def _last_seen(score: float, registered: str) -> datetime:
    """The time of a score, to the microsecond.

    Doubles are exact up to the year 2255, and no heartbeat comes later than that: a later time was
    given with the registration, which has it exactly.
    """
    given = datetime.fromisoformat(registered)
    return given if float(_microseconds(given)) == score else _timestamp(score)


def _timestamp(microseconds: float) -> datetime:
    return min(_EPOCH + int(microseconds) * _MICROSECOND, MAX_MOMENT)


def _microseconds(timestamp: datetime) -> int:
    return (timestamp - _EPOCH) // _MICROSECOND
