"""The suite of the port of chaos events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta, timezone
from typing import Any, ClassVar, Final

import pytest

from test_coordinator_data_adapter.errors import (
    ConflictError,
    InvalidValueError,
    NotFoundError,
)
from test_coordinator_data_adapter.interfaces import ChaosEventQuery, ChaosEventsRepository
from test_coordinator_data_adapter.interfaces.chaos_events import EventChanges
from test_coordinator_data_adapter.models import ChaosEvent, EventStatus, EventType
from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import (
    MAX_INTEGER,
    MAX_MOMENT,
    MAX_OUTPUT_BYTES,
    JsonValue,
)
from test_coordinator_data_adapter.testing.builders import a_chaos_event
from test_coordinator_data_adapter.testing.conformance.hostile import (
    GOOD_JSON,
    GOOD_TEXTS,
    REFUSED_ID_ARGUMENTS,
    REFUSED_JSON,
    REFUSED_MILLISECONDS,
    REFUSED_MOMENT_ARGUMENTS,
)
from test_coordinator_data_adapter.testing.conformance.stored import (
    DAY,
    MICROSECOND,
    NOON,
    ChangingSuite,
    always,
    keep,
    never,
)
from test_coordinator_data_adapter.testing.conformance.suite import (
    assert_same,
    assert_same_list,
    in_turns,
    refused,
    same_json,
    smuggled,
)

__all__ = ["ChaosEventsSuite"]

_MILLISECOND: Final = timedelta(milliseconds=1)


class ChaosEventsSuite(ChangingSuite[ChaosEvent, ChaosEventQuery, EventStatus]):
    """Everything `ChaosEventsRepository` promises.

    Supply the fixture ``repository``: an empty `ChaosEventsRepository` nobody else uses.
    """

    __test__: ClassVar[bool] = False

    kind: ClassVar[type[Entity]] = ChaosEvent
    texts: ClassVar[tuple[str, ...]] = ()
    references: ClassVar[tuple[str, ...]] = ("run_id", "target_service")
    moments: ClassVar[tuple[str, ...]] = (
        "injected_at",
        "created_at",
        "detected_at",
        "recovered_at",
    )
    json: ClassVar[str | None] = "parameters"

    def sample(self) -> ChaosEvent:
        return a_chaos_event(
            injected_at=NOON,
            detected_at=NOON + MICROSECOND,
            recovered_at=NOON + DAY,
            recovery_resolution_ms=250,
            output=["broker-0"],
        )

    def everything(self) -> ChaosEventQuery:
        return ChaosEventQuery()

    def nothing(self) -> Sequence[ChaosEventQuery]:
        return [
            ChaosEventQuery(run_id=()),
            ChaosEventQuery(event_type=[]),
            ChaosEventQuery(target_service=set[str]()),
            ChaosEventQuery(status=()),
            ChaosEventQuery(status=EventStatus.INJECTED, run_id=()),
        ]

    def statuses(self) -> Sequence[EventStatus]:
        return list(EventStatus)

    def with_status(self, *status: EventStatus) -> ChaosEventQuery:
        return ChaosEventQuery(status=status)

    def naming(self, value: str) -> tuple[ChaosEvent, ChaosEventQuery]:
        event = self.made(run_id=value, target_service=value)
        return event, ChaosEventQuery(run_id=value, target_service=value)

    def other(self, entity: ChaosEvent) -> ChaosEvent:
        return ChaosEvent(
            event_id=entity.event_id,
            run_id="another",
            event_type=EventType.CLOCK_SKEW,
            target_service="another",
            parameters={"other": [None]},
            injected_at=NOON + DAY,
            duration_ms=0,
            status=EventStatus.FAILED,
            recovery_time_ms=MAX_INTEGER,
            created_at=NOON,
            detected_at=NOON + 2 * DAY,
            recovered_at=None,
            recovery_resolution_ms=0,
            output="the broker is gone",
        )

    def questions(
        self,
    ) -> tuple[list[ChaosEvent], list[tuple[ChaosEventQuery, Callable[[ChaosEvent], bool]]]]:
        runs = ["one", "two", "One"]
        types = list(EventType)
        services = ["broker", "ledger", "Broker", "brok%"]
        statuses = list(EventStatus)
        recoveries = [None, 0, 5, 7]
        events = [
            self.made(
                created_at=NOON + number // 2 * MICROSECOND,
                run_id=runs[number % len(runs)],
                event_type=types[number % len(types)],
                target_service=services[number % len(services)],
                status=statuses[number % len(statuses)],
                injected_at=NOON + (7 * number % 20) * MICROSECOND,
                recovery_time_ms=recoveries[number % len(recoveries)],
            )
            for number in range(24)
        ]
        restart, kill = EventType.SERVICE_RESTART, EventType.SERVICE_KILL
        injected, failed = EventStatus.INJECTED, EventStatus.FAILED
        since, until = NOON + 3 * MICROSECOND, NOON + 12 * MICROSECOND
        return events, [
            (ChaosEventQuery(), always),
            (ChaosEventQuery(run_id="one"), lambda event: event.run_id == "one"),
            (ChaosEventQuery(run_id=("one", "One")), lambda event: event.run_id in ("one", "One")),
            (ChaosEventQuery(run_id="on_"), never),
            (ChaosEventQuery(event_type=restart), lambda event: event.event_type == restart),
            (
                ChaosEventQuery(event_type={restart, kill}),
                lambda event: event.event_type in (restart, kill),
            ),
            (
                ChaosEventQuery(target_service="broker"),
                lambda event: event.target_service == "broker",
            ),
            (
                ChaosEventQuery(target_service=["broker", "brok%", "no such"]),
                lambda event: event.target_service in ("broker", "brok%"),
            ),
            (ChaosEventQuery(status=injected), lambda event: event.status == injected),
            (
                ChaosEventQuery(status=[injected, failed]),
                lambda event: event.status in (injected, failed),
            ),
            (ChaosEventQuery(injected_since=since), lambda event: event.injected_at >= since),
            (ChaosEventQuery(injected_until=until), lambda event: event.injected_at <= until),
            (
                ChaosEventQuery(injected_since=since, injected_until=until),
                lambda event: since <= event.injected_at <= until,
            ),
            (ChaosEventQuery(injected_since=until, injected_until=since), never),
            (
                ChaosEventQuery(run_id="one", status=(injected, failed), injected_until=until),
                lambda event: (
                    event.run_id == "one"
                    and event.status in (injected, failed)
                    and event.injected_at <= until
                ),
            ),
            (
                ChaosEventQuery(event_type=restart, target_service=("broker", "ledger")),
                lambda event: (
                    event.event_type == restart and event.target_service in ("broker", "ledger")
                ),
            ),
        ]

    # Numbers

    async def test_numbers_come_back_as_they_were(self, repository: ChaosEventsRepository) -> None:
        events = [
            self.made(
                duration_ms=duration, recovery_time_ms=recovery, recovery_resolution_ms=resolution
            )
            for duration, recovery, resolution in (
                (None, None, None),
                (0, 0, 0),
                (MAX_INTEGER, 1, 2),
                (1, MAX_INTEGER, MAX_INTEGER),
            )
        ]

        await in_turns(repository.create(event) for event in events)

        for event in events:
            assert_same(await repository.get_by_id(event.event_id), event)

    async def test_numbers_out_of_range_are_refused_however_they_got_in(
        self, repository: ChaosEventsRepository
    ) -> None:
        for number in REFUSED_MILLISECONDS:
            for name in ("duration_ms", "recovery_time_ms", "recovery_resolution_ms"):
                with refused(number, name):
                    await repository.create(smuggled(self.sample(), **{name: number}))
        assert await repository.count(ChaosEventQuery()) == 0

    # Output

    async def test_every_output_comes_back_equal(self, repository: ChaosEventsRepository) -> None:
        outputs: tuple[JsonValue, ...] = (
            *GOOD_JSON.values(),
            *(text for text in GOOD_TEXTS if len(text) < 1000),
            {"pods": ["broker-0"], "deleted": 1},
            [{}],
            "x" * (MAX_OUTPUT_BYTES - 2),
        )
        events = [self.made(output=output) for output in outputs]

        # One by one and many at once: a store may write these in different ways.
        for event in events[:5]:
            await repository.create(event)
        await asyncio.gather(*(repository.create(event) for event in events[5:]))

        for event in events:
            found = await repository.get_by_id(event.event_id)
            assert found is not None
            assert same_json(found.output, event.output)
            listed = await repository.update(event)
            assert same_json(listed.output, event.output)

    async def test_what_is_no_output_is_refused_however_it_got_in(
        self, repository: ChaosEventsRepository
    ) -> None:
        for what, value in {**REFUSED_JSON, "too long": "x" * (MAX_OUTPUT_BYTES - 1)}.items():
            with refused(what, "output"):
                await repository.create(smuggled(self.sample(), output=value))
            with refused(what, "output"):
                await repository.create(smuggled(self.sample(), output=[{"nested": value}]))
        assert await repository.count(ChaosEventQuery()) == 0

    # Recovery

    async def test_a_recorded_recovery_sets_the_status_the_time_it_took_and_when_it_ended(
        self, repository: ChaosEventsRepository
    ) -> None:
        largest = (MAX_MOMENT - NOON) // _MILLISECOND
        for milliseconds in (0, 1, 1234, 3_600_000, 86_400_000_123, largest):
            event = await repository.create(self.made(duration_ms=5))

            stored = await repository.record_recovery(event.event_id, milliseconds)

            assert stored.status is EventStatus.RECOVERED
            assert stored.recovery_time_ms == milliseconds
            assert stored.recovered_at == NOON + milliseconds * _MILLISECOND
            assert_same(stored, event, but=("status", "recovery_time_ms", "recovered_at"))
            assert_same(await repository.get_by_id(event.event_id), stored)

    async def test_a_recorded_recovery_takes_the_time_of_detection_or_leaves_the_stored_one(
        self, repository: ChaosEventsRepository
    ) -> None:
        detected = NOON + timedelta(seconds=2)
        event = await repository.create(self.made(detected_at=None))

        given = await repository.record_recovery(
            event.event_id, 5000, detected_at=detected.astimezone(timezone(timedelta(hours=2)))
        )
        left = await repository.record_recovery(event.event_id, 6000)

        assert given.detected_at == detected
        assert left.detected_at == detected
        assert left.recovered_at == NOON + timedelta(seconds=6)
        for moment in REFUSED_MOMENT_ARGUMENTS:
            if moment is not None:
                with refused(moment, "detected_at"):
                    await repository.record_recovery(event.event_id, 1, detected_at=moment)
        assert_same(await repository.get_by_id(event.event_id), left)

    async def test_a_recovery_after_the_last_timestamp_is_refused_and_nothing_is_applied(
        self, repository: ChaosEventsRepository
    ) -> None:
        event = await repository.create(self.made())
        largest = (MAX_MOMENT - NOON) // _MILLISECOND

        for milliseconds in (largest + 1, largest + 86_400_000, 2**53, MAX_INTEGER):
            with pytest.raises(InvalidValueError) as caught:
                await repository.record_recovery(event.event_id, milliseconds)
            assert (caught.value.field, caught.value.id) == ("recovery_time_ms", event.event_id)
        assert_same(await repository.get_by_id(event.event_id), event)

    async def test_a_recovery_of_an_unknown_event_is_not_found(
        self, repository: ChaosEventsRepository
    ) -> None:
        with pytest.raises(NotFoundError) as caught:
            await repository.record_recovery("unknown", 1)

        assert (caught.value.entity, caught.value.id) == ("chaos_event", "unknown")
        assert await repository.count(ChaosEventQuery()) == 0

    async def test_a_recovery_time_out_of_range_is_refused_and_nothing_is_applied(
        self, repository: ChaosEventsRepository
    ) -> None:
        event = await repository.create(self.sample())

        strangers: tuple[Any, ...] = (*REFUSED_MILLISECONDS, True, 1.0, "1")
        for milliseconds in strangers:
            with refused(milliseconds, "recovery_time_ms"):
                await repository.record_recovery(event.event_id, milliseconds)
        for id_ in REFUSED_ID_ARGUMENTS:
            with refused(id_, "event_id"):
                await repository.record_recovery(id_, 1)

        assert_same(await repository.get_by_id(event.event_id), event)

    async def test_a_transition_without_a_recovery_time_leaves_the_stored_one(
        self, repository: ChaosEventsRepository
    ) -> None:
        event = await repository.create(self.made(recovery_time_ms=7))

        stored = await repository.transition(
            event.event_id, EventChanges(status=EventStatus.FAILED), (EventStatus.INJECTED,)
        )

        assert_same(stored, event, but=("status",))

    async def test_a_transition_that_is_not_expected_changes_nothing_at_all(
        self, repository: ChaosEventsRepository
    ) -> None:
        event = await repository.create(self.made(status=EventStatus.FAILED))

        with pytest.raises(ConflictError) as caught:
            await repository.transition(
                event.event_id,
                EventChanges(status=EventStatus.RECOVERED, recovery_time_ms=1),
                (EventStatus.INJECTED, EventStatus.IN_PROGRESS),
            )

        assert (caught.value.entity, caught.value.id) == ("chaos_event", event.event_id)
        assert_same(await repository.get_by_id(event.event_id), event)

    # Named questions

    async def test_events_are_found_by_run(self, repository: ChaosEventsRepository) -> None:
        events = await keep(repository, *self.questions()[0])

        for run in ("one", "two", "One", "unknown"):
            assert_same_list(
                await repository.get_by_run(run), [event for event in events if event.run_id == run]
            )

    async def test_events_are_found_by_type(self, repository: ChaosEventsRepository) -> None:
        events = await keep(repository, *self.questions()[0])

        for event_type in EventType:
            assert_same_list(
                await repository.get_by_type(event_type),
                [event for event in events if event.event_type is event_type],
            )
        stranger: Any = "nonsense"
        with refused(stranger, "event_type"):
            await repository.get_by_type(stranger)

    async def test_events_are_found_by_the_service_they_hit(
        self, repository: ChaosEventsRepository
    ) -> None:
        events = await keep(repository, *self.questions()[0])

        for service in ("broker", "ledger", "Broker", "brok%", "unknown"):
            assert_same_list(
                await repository.get_by_service(service),
                [event for event in events if event.target_service == service],
            )

    async def test_the_active_events_are_those_injected_and_in_progress(
        self, repository: ChaosEventsRepository
    ) -> None:
        events = await keep(repository, *self.questions()[0])

        assert_same_list(
            await repository.get_active_events(),
            [
                event
                for event in events
                if event.status in (EventStatus.INJECTED, EventStatus.IN_PROGRESS)
            ],
        )

    async def test_the_average_recovery_time_is_that_of_the_events_that_have_one(
        self, repository: ChaosEventsRepository
    ) -> None:
        restart, kill, skew = (
            EventType.SERVICE_RESTART,
            EventType.SERVICE_KILL,
            EventType.CLOCK_SKEW,
        )
        await keep(
            repository,
            *(self.made(event_type=restart, recovery_time_ms=ms) for ms in (0, 1, None, 4)),
            self.made(event_type=kill, recovery_time_ms=None),
            self.made(event_type=skew, recovery_time_ms=9, status=EventStatus.FAILED),
        )

        averages = [
            await repository.calculate_average_recovery_time(event_type)
            for event_type in (restart, kill, skew, EventType.CPU_STRESS)
        ]

        assert averages == [5 / 3, 0.0, 9.0, 0.0]
        assert all(type(average) is float for average in averages)

    async def test_the_total_recovery_time_is_exact_however_large(
        self, repository: ChaosEventsRepository
    ) -> None:
        await keep(
            repository,
            *(
                self.made(recovery_time_ms=ms)
                for ms in (MAX_INTEGER, MAX_INTEGER, 2**53 + 1, None, 0)
            ),
        )

        total = await repository.total_recovery_time(ChaosEventQuery())
        none = await repository.total_recovery_time(ChaosEventQuery(run_id="unknown"))

        assert total == (2 * MAX_INTEGER + 2**53 + 1, 4)
        assert none == (0, 0)
        assert all(type(number) is int for number in (*total, *none))

    async def test_the_total_recovery_time_is_that_of_what_matches(
        self, repository: ChaosEventsRepository
    ) -> None:
        events, questions = self.questions()
        await keep(repository, *events)

        for query, meets in questions:
            times = [
                event.recovery_time_ms
                for event in events
                if meets(event) and event.recovery_time_ms is not None
            ]
            assert await repository.total_recovery_time(query) == (sum(times), len(times))

    async def test_prune_goes_by_creation_whenever_an_event_was_injected(
        self, repository: ChaosEventsRepository
    ) -> None:
        old = await repository.create(self.made(created_at=NOON, injected_at=MAX_MOMENT))
        new = await repository.create(self.made(created_at=NOON + DAY, injected_at=NOON))

        assert await repository.prune(NOON + DAY) == 1

        assert await repository.get_by_id(old.event_id) is None
        assert_same(await repository.get_by_id(new.event_id), new)
