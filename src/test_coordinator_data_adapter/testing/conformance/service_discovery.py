"""The suite of the port of the service registry."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, ClassVar, Final

import pytest

from test_coordinator_data_adapter.errors import ConflictError, NotFoundError
from test_coordinator_data_adapter.interfaces import ServiceDiscoveryRepository, ServiceInfo
from test_coordinator_data_adapter.models.values import (
    MAX_DEPTH,
    MAX_MOMENT,
    MAX_RECORD_BYTES,
    MIN_MOMENT,
    utc_now,
)
from test_coordinator_data_adapter.testing.builders import a_service
from test_coordinator_data_adapter.testing.conformance.hostile import (
    GOOD_IDS,
    GOOD_JSON,
    GOOD_TEXTS,
    REFUSED_ID_ARGUMENTS,
    REFUSED_IDS,
    REFUSED_JSON,
    REFUSED_MOMENTS,
    REFUSED_TEXTS,
    nested,
)
from test_coordinator_data_adapter.testing.conformance.stored import DAY, MICROSECOND, NOON
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

__all__ = ["ServiceDiscoverySuite"]

_SECOND: Final = timedelta(seconds=1)
_SLOW: Final = timedelta(seconds=60)
_REFUSED_SECONDS: Final[tuple[Any, ...]] = (
    -1,
    -0.001,
    math.nan,
    math.inf,
    2**31,
    10**400,
    True,
    "60",
    None,
)
_REFUSED_FRACTIONS: Final[tuple[Any, ...]] = (-0.1, 1.1, math.nan, math.inf, True, "0.5")


class ServiceDiscoverySuite(Suite):
    """Everything `ServiceDiscoveryRepository` promises.

    Supply the fixture ``repository``: a `ServiceDiscoveryRepository` over an empty registry
    nobody else uses. Where its clock can be set, supply ``clock`` and ``advance`` as well
    and say so in the class attributes: bounds are then tested to the microsecond.
    """

    __test__: ClassVar[bool] = False

    clock_stands_still: ClassVar[bool] = False
    """Whether ``clock`` moves by ``advance`` alone."""
    longest_wait: ClassVar[float] = 0.0
    """The most seconds that ``advance`` may be asked for."""

    @pytest.fixture
    def clock(self) -> Callable[[], datetime]:
        """The time as the repository sees it."""
        return utc_now

    @pytest.fixture
    def advance(self) -> Callable[[float], Awaitable[object]]:
        """Lets so many seconds pass."""
        return asyncio.sleep

    def made(self, id_: str | None = None, /, **fields: Any) -> ServiceInfo:
        """A valid service with these fields."""
        if id_ is not None:
            fields["service_id"] = id_
        return altered(a_service(), **fields)

    # Registering

    async def test_a_service_is_registered_exactly_as_given(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        for last_seen in (NOON, MIN_MOMENT, utc_now(), utc_now() + DAY, MAX_MOMENT):
            given = self.made(last_seen=last_seen, registered_at=NOON)

            stored = await repository.register(given)

            assert stored is not given
            assert_same(stored, given)
            assert_same(await repository.get_service_by_id(given.service_id), given)

    async def test_an_unknown_service_is_none(self, repository: ServiceDiscoveryRepository) -> None:
        await repository.register(self.made("known", service_name="known name"))

        for unknown in ("unknown", "KNOWN", "know_", "*", "%", "known name"):
            assert await repository.get_service_by_id(unknown) is None
        for unknown in ("unknown", "known", "known nam_", "*", "KNOWN NAME"):
            assert await repository.get_service_by_name(unknown) is None
            assert await repository.list_services_by_name(unknown) == []

    async def test_of_an_empty_registry_every_answer_is_empty(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        assert await repository.list_all_services() == []
        assert await repository.list_services_by_name("broker") == []
        assert await repository.get_service_by_name("broker") is None
        assert await repository.get_service_count() == 0
        assert await repository.remove_stale_services(0) == 0
        assert await repository.remove_stale_services(0, max_fraction=0) == 0
        assert await repository.deregister("unknown") is False
        assert await repository.is_service_healthy("unknown", 60) is False

    async def test_registering_again_replaces_what_was_registered(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        await repository.register(self.made("one", service_name="old", last_seen=MAX_MOMENT))
        again = ServiceInfo(
            service_id="one",
            service_name="new",
            version="2",
            host="elsewhere",
            grpc_port=1,
            http_port=2,
            last_seen=NOON,
            registered_at=NOON + DAY,
        )

        stored = await repository.register(again)

        assert_same(stored, again)
        assert_same_list(await repository.list_all_services(), [again])
        assert await repository.list_services_by_name("old") == []
        assert_same_list(await repository.list_services_by_name("new"), [again])
        assert await repository.get_service_count() == 1

    async def test_what_goes_in_and_comes_out_is_a_copy(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        given = self.made("one")
        before = altered(given)

        returned = await repository.register(given)
        spoil(given)
        spoil(returned)
        for _ in range(2):
            found = await repository.get_service_by_id("one")
            assert_same(found, before)
            (listed,) = await repository.list_all_services()
            assert_same(listed, before)
            (named,) = await repository.list_services_by_name(before.service_name)
            assert_same(named, before)
            newest = await repository.get_service_by_name(before.service_name)
            assert_same(newest, before)
            for copy in (found, listed, named, newest):
                spoil(copy or before)
        beaten = await repository.update_heartbeat("one")
        now = altered(beaten)
        spoil(beaten)
        assert_same(await repository.get_service_by_id("one"), now)

    async def test_of_many_that_register_one_id_at_once_one_is_stored_whole(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        rivals = [
            self.made("one", service_name=f"name {number}", version=f"{number}")
            for number in range(8)
        ]

        await asyncio.gather(*(repository.register(rival) for rival in rivals))

        (found,) = await repository.list_all_services()
        (rival,) = [rival for rival in rivals if rival.version == found.version]
        assert_same(found, rival)
        for rival in rivals:
            expected = [found] if rival.version == found.version else []
            assert_same_list(await repository.list_services_by_name(rival.service_name), expected)

    async def test_many_that_register_at_once_are_all_there(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        services = [self.made(registered_at=NOON + number * _SECOND) for number in range(24)]

        await asyncio.gather(*(repository.register(service) for service in services))

        assert_same_list(await repository.list_all_services(), services)
        assert await repository.get_service_count() == 24

    async def test_a_cancelled_registration_leaves_a_registry_that_agrees_with_itself(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        for steps in range(10):
            service = self.made(service_name=f"name {steps}")

            await cancelled_after(steps, partial(repository.register, service))
            await repository.register(service)

            assert_same(await repository.get_service_by_id(service.service_id), service)
            named = await repository.list_services_by_name(service.service_name)
            assert_same_list(named, [service])
        assert await repository.get_service_count() == 10

    # Order

    async def test_lists_are_ordered_by_registration_and_id(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        tied = [self.made(id_, registered_at=NOON, last_seen=NOON) for id_ in sorted(GOOD_IDS)]
        early = self.made(registered_at=NOON - MICROSECOND, last_seen=NOON + DAY)
        late = self.made(registered_at=NOON + MICROSECOND, last_seen=NOON - DAY)
        services = [early, *tied, late]

        await in_turns(repository.register(service) for service in shuffled(services))

        for _ in range(2):
            assert_same_list(await repository.list_all_services(), services)
            assert_same_list(await repository.list_services_by_name("broker"), services)

    async def test_services_are_listed_by_their_whole_name(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        services = [self.made(service_name=name) for name in GOOD_IDS]
        await in_turns(repository.register(service) for service in services)

        for service in services:
            assert_same_list(
                await repository.list_services_by_name(service.service_name), [service]
            )
            assert_same(await repository.get_service_by_name(service.service_name), service)

    async def test_the_service_of_a_name_is_the_one_seen_last_and_of_equals_the_one_listed_first(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        silent = self.made(registered_at=NOON, last_seen=NOON)
        second = self.made("b", registered_at=NOON + _SECOND, last_seen=NOON + DAY)
        first = self.made("a", registered_at=NOON + _SECOND, last_seen=NOON + DAY)
        other = self.made(service_name="other", last_seen=MAX_MOMENT)
        await in_turns(repository.register(one) for one in (silent, second, first, other))

        assert_same(await repository.get_service_by_name("broker"), first)

        await repository.update_heartbeat(silent.service_id)
        found = await repository.get_service_by_name("broker")
        assert found is not None
        assert found.service_id == silent.service_id

    # Deregistering

    async def test_a_service_that_was_deregistered_is_gone(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        gone, left = self.made("gone"), self.made("left")
        await repository.register(gone)
        await repository.register(left)

        assert await repository.deregister("gone") is True
        assert await repository.deregister("gone") is False

        assert await repository.get_service_by_id("gone") is None
        assert_same_list(await repository.list_services_by_name("broker"), [left])
        assert_same_list(await repository.list_all_services(), [left])
        assert await repository.get_service_count() == 1
        assert await repository.is_service_healthy("gone", 1e9) is False
        with pytest.raises(NotFoundError):
            await repository.update_heartbeat("gone")

    async def test_a_service_that_was_deregistered_can_register_again(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        service = self.made()
        await repository.register(service)
        await repository.deregister(service.service_id)

        await repository.register(service)

        assert_same_list(await repository.list_all_services(), [service])

    async def test_of_many_that_deregister_one_id_at_once_exactly_one_did_it(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        service = await repository.register(self.made())

        ends = await asyncio.gather(*(repository.deregister(service.service_id) for _ in range(6)))

        assert sorted(ends) == [False] * 5 + [True]

    # Registrations under a token

    async def test_a_token_ends_its_own_registration(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        own, other = self.made("own"), self.made("other")
        stored = await repository.register_with_token(own, "token")
        await repository.register_with_token(other, "token")
        assert_same(stored, own)
        assert_same(await repository.get_service_by_id("own"), own)

        assert await repository.deregister_with_token("own", "token") is True
        assert await repository.deregister_with_token("own", "token") is False

        assert_same_list(await repository.list_all_services(), [other])
        assert_same_list(await repository.list_services_by_name("broker"), [other])
        assert await repository.get_service_by_id("own") is None
        assert await repository.get_service_count() == 1
        assert await repository.deregister("own") is False
        with pytest.raises(NotFoundError):
            await repository.update_heartbeat("own")

    async def test_a_token_leaves_the_registration_of_a_successor(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        for id_, has_token in (("one", False), ("two", True)):
            await repository.register_with_token(self.made(id_, version="1"), "predecessor")
            successor = self.made(id_, version="2")
            if has_token:
                await repository.register_with_token(successor, "successor")
            else:
                await repository.register(successor)

            for token in ("predecessor-", "pre", "predecessor"):
                assert await repository.deregister_with_token(id_, token) is False

            assert_same(await repository.get_service_by_id(id_), successor)
            assert_same_list(await repository.list_all_services(), [successor])
            assert_same_list(await repository.list_services_by_name("broker"), [successor])
            await repository.update_heartbeat(id_)
            assert await repository.deregister(id_) is True
            assert await repository.get_service_count() == 0

    async def test_a_registration_that_comes_after_its_own_end_leaves_nothing_behind(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        late = self.made("one")
        assert await repository.deregister_with_token("one", "token") is False

        for _ in range(2):
            with pytest.raises(ConflictError) as caught:
                await repository.register_with_token(late, "token")

            assert (caught.value.entity, caught.value.id) == ("service", "one")
            assert await repository.get_service_by_id("one") is None
            assert await repository.list_all_services() == []
            assert await repository.list_services_by_name("broker") == []
            assert await repository.get_service_count() == 0
            assert await repository.remove_stale_services(0) == 0
            with pytest.raises(NotFoundError):
                await repository.update_heartbeat("one")

        await repository.register_with_token(late, "another")
        await repository.register_with_token(self.made("two"), "token")
        assert await repository.get_service_count() == 2

    async def test_a_registration_that_comes_after_its_own_end_does_not_replace_a_successor(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        await repository.deregister_with_token("one", "predecessor")
        successor = await repository.register_with_token(self.made("one"), "successor")

        with pytest.raises(ConflictError):
            await repository.register_with_token(self.made("one"), "predecessor")

        assert_same_list(await repository.list_all_services(), [successor])
        assert_same_list(await repository.list_services_by_name("broker"), [successor])
        await repository.update_heartbeat("one")
        assert await repository.deregister_with_token("one", "successor") is True
        assert await repository.get_service_count() == 0

    async def test_a_token_whose_registration_somebody_else_removed_can_register_again(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        service = await repository.register_with_token(self.made("one"), "token")
        await repository.deregister("one")
        await repository.register_with_token(service, "token")

        assert_same_list(await repository.list_all_services(), [service])
        assert await repository.deregister_with_token("one", "token") is True
        assert await repository.get_service_count() == 0

    async def test_a_predecessor_that_ends_while_its_successor_registers_never_removes_it(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        for number in range(10):
            predecessor, successor = f"{number}", f"{number + 1}"
            service = self.made("one", version=f"{number}")
            await asyncio.gather(
                repository.deregister_with_token("one", predecessor),
                repository.register_with_token(service, successor),
                repository.deregister_with_token("one", predecessor),
            )

            assert_same(await repository.get_service_by_id("one"), service)
            assert_same_list(await repository.list_services_by_name("broker"), [service])
            assert await repository.get_service_count() == 1

    async def test_what_is_no_token_is_refused(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        tokens: tuple[Any, ...] = (None, "", "a" * 65, "a.b", "a:b", "a b", "\n", "é", 1, b"a")
        for token in tokens:
            with refused(token, "token"):
                await repository.register_with_token(self.made("one"), token)
            with refused(token, "token"):
                await repository.deregister_with_token("one", token)
        assert await repository.get_service_count() == 0

    # Heartbeats

    async def test_a_heartbeat_sets_the_time_last_seen_to_now_and_nothing_else(
        self, repository: ServiceDiscoveryRepository, clock: Callable[[], datetime]
    ) -> None:
        service = await repository.register(self.made(last_seen=NOON, registered_at=NOON))

        before = clock()
        beaten = await repository.update_heartbeat(service.service_id)
        after = clock()

        assert before <= beaten.last_seen <= after
        assert_same(beaten, service, but=("last_seen",))
        assert_same(await repository.get_service_by_id(service.service_id), beaten)

    async def test_a_heartbeat_corrects_a_time_last_seen_that_is_ahead(
        self, repository: ServiceDiscoveryRepository, clock: Callable[[], datetime]
    ) -> None:
        for ahead in (clock() + _SECOND, clock() + DAY, MAX_MOMENT):
            service = await repository.register(self.made("one", last_seen=ahead))

            before = clock()
            beaten = await repository.update_heartbeat("one")
            after = clock()

            assert before <= beaten.last_seen <= after
            assert_same(beaten, service, but=("last_seen",))
            assert_same(await repository.get_service_by_id("one"), beaten)

    async def test_a_heartbeat_of_an_unknown_service_is_not_found_and_registers_nothing(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        with pytest.raises(NotFoundError) as caught:
            await repository.update_heartbeat("unknown")

        assert (caught.value.entity, caught.value.id) == ("service", "unknown")
        assert await repository.get_service_count() == 0
        assert await repository.list_all_services() == []

    async def test_a_heartbeat_never_brings_back_a_service_that_was_deregistered(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        for _ in range(5):
            service = await repository.register(self.made())
            id_ = service.service_id

            await asyncio.gather(
                *(repository.update_heartbeat(id_) for _ in range(3)),
                repository.deregister(id_),
                *(repository.update_heartbeat(id_) for _ in range(3)),
                return_exceptions=True,
            )

            assert await repository.get_service_by_id(id_) is None
            with pytest.raises(NotFoundError):
                await repository.update_heartbeat(id_)
        assert await repository.get_service_count() == 0
        assert await repository.list_services_by_name("broker") == []

    async def test_a_cancelled_heartbeat_leaves_the_service_whole(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        service = await repository.register(self.made(last_seen=NOON))

        for steps in range(8):
            await cancelled_after(steps, partial(repository.update_heartbeat, service.service_id))

        found = await repository.get_service_by_id(service.service_id)
        assert_same(found, service, but=("last_seen",))

    # Health

    async def test_a_service_is_healthy_when_it_was_seen_within_the_threshold_bounds_included(
        self, repository: ServiceDiscoveryRepository, clock: Callable[[], datetime]
    ) -> None:
        slack = timedelta(0) if self.clock_stands_still else _SLOW
        beyond = max(slack, MICROSECOND)
        for threshold in (100, 100.5, 86_400):
            span = timedelta(seconds=threshold)
            fresh = await repository.register(self.made(last_seen=clock() - span + slack))
            silent = await repository.register(self.made(last_seen=clock() - span - beyond))

            assert await repository.is_service_healthy(fresh.service_id, threshold) is True
            assert await repository.is_service_healthy(silent.service_id, threshold) is False

    async def test_a_service_seen_ahead_of_now_by_more_than_the_threshold_is_not_healthy(
        self, repository: ServiceDiscoveryRepository, clock: Callable[[], datetime]
    ) -> None:
        slack = timedelta(0) if self.clock_stands_still else _SLOW
        for threshold in (100, 100.5, 86_400):
            span = timedelta(seconds=threshold)
            near = await repository.register(self.made(last_seen=clock() + span))
            ahead = clock() + span + max(slack, MICROSECOND)
            far = await repository.register(self.made(last_seen=ahead))

            assert await repository.is_service_healthy(near.service_id, threshold) is True
            assert await repository.is_service_healthy(far.service_id, threshold) is False

            await repository.update_heartbeat(far.service_id)

            assert await repository.is_service_healthy(far.service_id, threshold) is True

    async def test_an_unknown_service_is_not_healthy(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        assert await repository.is_service_healthy("unknown", 1e9) is False

    # Stale services

    async def test_services_last_seen_longer_ago_than_the_threshold_are_removed(
        self, repository: ServiceDiscoveryRepository, clock: Callable[[], datetime]
    ) -> None:
        slack = timedelta(0) if self.clock_stands_still else _SLOW
        span = timedelta(seconds=100)
        kept = [
            self.made(last_seen=clock() - span + slack, registered_at=NOON),
            self.made(last_seen=clock() + DAY, registered_at=NOON + _SECOND),
        ]
        stale = [
            self.made(last_seen=clock() - span - max(slack, MICROSECOND)),
            self.made(last_seen=MIN_MOMENT),
            self.made(last_seen=NOON - 365 * DAY, service_name="other"),
        ]
        await in_turns(repository.register(service) for service in shuffled([*kept, *stale]))

        assert await repository.remove_stale_services(100) == 3
        assert await repository.remove_stale_services(100) == 0

        assert_same_list(await repository.list_all_services(), kept)
        assert await repository.get_service_count() == 2
        assert await repository.list_services_by_name("other") == []
        for service in stale:
            assert await repository.get_service_by_id(service.service_id) is None
            with pytest.raises(NotFoundError):
                await repository.update_heartbeat(service.service_id)

    async def test_a_service_that_beats_is_not_stale_any_more(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        service = await repository.register(self.made(last_seen=MIN_MOMENT))

        await repository.update_heartbeat(service.service_id)

        assert await repository.remove_stale_services(3600) == 0
        assert await repository.get_service_count() == 1

    async def test_a_service_that_beats_while_stale_ones_are_removed_stays_or_is_not_found(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        for _ in range(5):
            service = await repository.register(self.made(last_seen=MIN_MOMENT))
            id_ = service.service_id

            removed, *beats = await asyncio.gather(
                repository.remove_stale_services(3600),
                *(repository.update_heartbeat(id_) for _ in range(3)),
                return_exceptions=True,
            )

            found = await repository.get_service_by_id(id_)
            if any(isinstance(beat, ServiceInfo) for beat in beats):
                assert found is not None or removed == 1
            if found is None:
                assert removed == 1
                assert await repository.deregister(id_) is False
            else:
                assert removed == 0
                assert not any(isinstance(beat, BaseException) for beat in beats)
                assert await repository.deregister(id_) is True

    async def test_no_more_than_the_given_share_goes_at_once(
        self, repository: ServiceDiscoveryRepository, clock: Callable[[], datetime]
    ) -> None:
        alive = [self.made(last_seen=clock() + DAY) for _ in range(2)]
        stale = [self.made(last_seen=MIN_MOMENT) for _ in range(2)]
        await in_turns(repository.register(service) for service in (*alive, *stale))

        for share in (0, 0.0, 0.25, 0.499):
            with pytest.raises(ConflictError):
                await repository.remove_stale_services(60, max_fraction=share)
            assert await repository.get_service_count() == 4
        assert await repository.remove_stale_services(60, max_fraction=0.5) == 2

        assert await repository.get_service_count() == 2
        assert await repository.remove_stale_services(60, max_fraction=0) == 0

    async def test_a_share_of_1_lets_all_of_them_go(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        for share in (1, 1.0, None):
            await in_turns(repository.register(self.made(last_seen=MIN_MOMENT)) for _ in range(3))

            assert await repository.remove_stale_services(60, max_fraction=share) == 3

            assert await repository.list_all_services() == []

    async def test_a_registration_is_not_forgotten_within_a_day(
        self,
        repository: ServiceDiscoveryRepository,
        advance: Callable[[float], Awaitable[object]],
    ) -> None:
        old = await repository.register(self.made("old", last_seen=MIN_MOMENT, registered_at=NOON))
        beaten = await repository.register(self.made("beaten", registered_at=NOON + _SECOND))

        await advance(min(86_399, self.longest_wait))
        assert_same_list(await repository.list_all_services(), [old, beaten])
        await repository.update_heartbeat("beaten")
        await advance(min(86_399, self.longest_wait))

        assert await repository.get_service_by_id("beaten") is not None
        assert await repository.deregister("beaten") is True

    # Hostile values

    async def test_every_value_comes_back_as_it_was(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        services = [
            *(self.made(id_, service_name=id_) for id_ in GOOD_IDS),
            *(self.made(version=text, host=text) for text in GOOD_TEXTS),
            self.made(metadata=GOOD_JSON),
            self.made(metadata={}),
            self.made(metadata=nested(MAX_DEPTH)),
            self.made(grpc_port=0, http_port=65535),
            self.made(registered_at=MIN_MOMENT, last_seen=MIN_MOMENT),
            self.made(registered_at=MAX_MOMENT, last_seen=MAX_MOMENT - MICROSECOND),
        ]
        filling = "x" * (MAX_RECORD_BYTES - len(self.made(metadata={"x": ""}).model_dump_json()))
        services.append(self.made(metadata={"x": filling}))

        await in_turns(repository.register(service) for service in services)

        for service in services:
            assert_same(await repository.get_service_by_id(service.service_id), service)
        assert await repository.get_service_count() == len(services)

    async def test_what_may_not_be_stored_is_refused_however_it_got_in(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        smuggling: list[tuple[str, Any]] = [
            *((name, id_) for name in ("service_id", "service_name") for id_ in REFUSED_IDS),
            *((name, text) for name in ("version", "host") for text in REFUSED_TEXTS),
            *((name, at) for name in ("last_seen", "registered_at") for at in REFUSED_MOMENTS),
            *((name, port) for name in ("grpc_port", "http_port") for port in (-1, 65536, "x")),
            ("metadata", []),
            ("metadata", None),
            ("metadata", nested(MAX_DEPTH + 1)),
        ]
        strangers: tuple[Any, ...] = (None, "text", a_service().model_dump(), object())

        for name, value in smuggling:
            with refused((name, value), name):
                await repository.register(smuggled(self.made(), **{name: value}))
        for what, value in REFUSED_JSON.items():
            service = self.made()
            service.metadata["changed in place"] = value
            with refused(what, "metadata"):
                await repository.register(service)
        for stranger in strangers:
            with refused(stranger):
                await repository.register(stranger)
        assert await repository.get_service_count() == 0

    async def test_what_is_no_id_is_refused(self, repository: ServiceDiscoveryRepository) -> None:
        for value in REFUSED_ID_ARGUMENTS:
            with refused(value, "service_id"):
                await repository.get_service_by_id(value)
            with refused(value, "service_id"):
                await repository.deregister(value)
            with refused(value, "service_id"):
                await repository.deregister_with_token(value, "token")
            with refused(value, "service_id"):
                await repository.update_heartbeat(value)
            with refused(value, "service_id"):
                await repository.is_service_healthy(value, 60)
            with refused(value, "service_name"):
                await repository.list_services_by_name(value)
            with refused(value, "service_name"):
                await repository.get_service_by_name(value)

    async def test_a_threshold_and_a_share_out_of_range_are_refused(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        await repository.register(self.made("one", last_seen=MIN_MOMENT))

        for threshold in _REFUSED_SECONDS:
            with refused(threshold, "threshold_seconds"):
                await repository.remove_stale_services(threshold)
            with refused(threshold, "threshold_seconds"):
                await repository.is_service_healthy("one", threshold)
        for share in _REFUSED_FRACTIONS:
            with refused(share, "max_fraction"):
                await repository.remove_stale_services(60, max_fraction=share)
        assert await repository.get_service_count() == 1

    async def test_many_services_are_all_found(
        self, repository: ServiceDiscoveryRepository
    ) -> None:
        services = [
            self.made(service_name=f"name {number % 20}", registered_at=NOON + number * MICROSECOND)
            for number in range(300)
        ]
        await in_turns(repository.register(service) for service in shuffled(services))

        assert_same_list(await repository.list_all_services(), services)
        assert_same_list(await repository.list_services_by_name("name 7"), services[7::20])
        assert await repository.get_service_count() == 300
