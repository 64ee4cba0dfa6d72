"""The promises of the audit trail, each a test."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

from test_coordinator_data_adapter.errors import ConflictError, DuplicateError, NotFoundError
from test_coordinator_data_adapter.interfaces.audit import AuditRepository, audit_context
from test_coordinator_data_adapter.interfaces.chaos_events import ChaosEventsRepository
from test_coordinator_data_adapter.interfaces.queries import AuditQuery, ScenarioQuery
from test_coordinator_data_adapter.interfaces.scenarios import ScenariosRepository
from test_coordinator_data_adapter.interfaces.test_results import TestResultsRepository
from test_coordinator_data_adapter.interfaces.test_runs import TestRunsRepository
from test_coordinator_data_adapter.models.audit import (
    AuditKind,
    AuditOperation,
    AuditRecord,
    TimelineEntry,
)
from test_coordinator_data_adapter.models.chaos_event import EventStatus
from test_coordinator_data_adapter.models.scenario import ScenarioStatus
from test_coordinator_data_adapter.models.test_run import RunStatus
from test_coordinator_data_adapter.models.values import MAX_MOMENT, JsonValue
from test_coordinator_data_adapter.testing.builders import (
    a_chaos_event,
    a_scenario,
    a_test_result,
    a_test_run,
)
from test_coordinator_data_adapter.testing.conformance.suite import Suite, refused

__all__ = ["AuditStores", "AuditSuite"]

EVERYTHING = AuditQuery()


@dataclass(frozen=True)
class AuditStores:
    """The trail, and the repositories of what it records; all empty, all on one store."""

    audit: AuditRepository
    scenarios: ScenariosRepository
    test_runs: TestRunsRepository
    chaos_events: ChaosEventsRepository
    test_results: TestResultsRepository


def operations(records: list[AuditRecord]) -> list[str]:
    """What was done, in order."""
    return [record.operation.value for record in records]


def told(timeline: list[TimelineEntry]) -> list[tuple[str, str, str]]:
    """What happened to what, in order."""
    return [(entry.record.kind, entry.record.operation, entry.entity_id) for entry in timeline]


class AuditSuite(Suite):
    """Tests of the audit trail; the fixture is ``stores``, an `AuditStores` of the backend."""

    __test__: ClassVar[bool] = False

    async def test_an_entity_nothing_was_done_to_has_no_history(self, stores: AuditStores) -> None:
        """An empty list, no error."""
        assert await stores.audit.history(AuditKind.TEST_RUN, "unknown") == []

    async def test_a_life_is_recorded_from_creation_to_deletion(self, stores: AuditStores) -> None:
        """One record for each mutation, in order, and nothing for reads."""
        run = await stores.test_runs.create(a_test_run(status=RunStatus.PENDING))
        await stores.test_runs.start_run(run.run_id)
        started = await stores.test_runs.get_by_id(run.run_id)
        assert started is not None
        await stores.test_runs.update(started.model_copy(update={"error_message": "hm"}))
        await stores.test_runs.complete_run(run.run_id, RunStatus.FAILED, exit_code=1)
        await stores.test_runs.delete(run.run_id)

        records = await stores.audit.history(AuditKind.TEST_RUN, run.run_id)

        assert operations(records) == [
            "create",
            "status_change",
            "update",
            "status_change",
            "delete",
        ]
        assert {(record.kind, record.entity_id, record.count) for record in records} == {
            (AuditKind.TEST_RUN, run.run_id, 1)
        }
        assert [record.record_id for record in records] == sorted(
            {record.record_id for record in records}
        )
        assert {record.recorded_at.tzinfo for record in records} == {UTC}

    async def test_a_creation_holds_the_whole_entity_as_json(self, stores: AuditStores) -> None:
        """Every field, times in UTC with as many digits as they need."""
        scenario = a_scenario(
            configuration={"a": [1, 2.5, None, {"b": True}]},
            tags=["x", "y"],
            created_at=datetime(2026, 5, 6, 7, 8, 9, 120_000, tzinfo=UTC),
            updated_at=datetime(2026, 5, 6, 7, 8, 10, tzinfo=UTC),
        )
        await stores.scenarios.create(scenario)

        (record,) = await stores.audit.history(AuditKind.SCENARIO, scenario.scenario_id)

        assert record.before is None
        assert record.after == scenario.model_dump(mode="json") | {
            "created_at": "2026-05-06T07:08:09.12+00:00",
            "updated_at": "2026-05-06T07:08:10+00:00",
        }

    async def test_a_change_holds_the_changed_fields_before_and_after(
        self, stores: AuditStores
    ) -> None:
        """And none of the others."""
        scenario = await stores.scenarios.create(a_scenario(tags=["a"], name="one"))
        await stores.scenarios.update(
            scenario.model_copy(update={"tags": ["a", "b"], "name": "two"})
        )

        record = (await stores.audit.history(AuditKind.SCENARIO, scenario.scenario_id))[-1]

        def without_time(fields: dict[str, Any] | None) -> dict[str, Any]:
            return {name: value for name, value in (fields or {}).items() if name != "updated_at"}

        assert without_time(record.before) == {"tags": ["a"], "name": "one"}
        assert without_time(record.after) == {"tags": ["a", "b"], "name": "two"}

    async def test_a_truth_value_is_no_number_and_a_number_is_what_it_amounts_to(
        self, stores: AuditStores
    ) -> None:
        """Also deep within a document."""
        scenario = await stores.scenarios.create(
            a_scenario(configuration={"deep": [{"retry": 1}], "dry_run": True})
        )
        for document in (
            {"deep": [{"retry": 1.0}], "dry_run": True},
            {"deep": [{"retry": True}], "dry_run": True},
            {"deep": [{"retry": True}], "dry_run": 1},
        ):
            await stores.scenarios.update(scenario.model_copy(update={"configuration": document}))

        records = await stores.audit.history(AuditKind.SCENARIO, scenario.scenario_id)

        changed = ["configuration" in (record.after or {}) for record in records]
        assert changed == [True, False, True, True]

    async def test_a_deletion_holds_the_whole_entity_as_it_was(self, stores: AuditStores) -> None:
        """So that what is gone can still be known."""
        run = await stores.test_runs.create(a_test_run())
        await stores.test_runs.delete(run.run_id)

        created, deleted = await stores.audit.history(AuditKind.TEST_RUN, run.run_id)

        assert deleted.before == created.after
        assert deleted.after is None

    async def test_a_change_of_nothing_is_recorded_as_one(self, stores: AuditStores) -> None:
        """A mutation is a mutation, whatever it changes."""
        event = await stores.chaos_events.create(a_chaos_event())
        await stores.chaos_events.update(event)

        record = (await stores.audit.history(AuditKind.CHAOS_EVENT, event.event_id))[-1]

        assert (record.operation, record.before, record.after) == (AuditOperation.UPDATE, {}, {})

    async def test_a_run_that_is_deleted_with_its_children_leaves_a_record_of_each(
        self, stores: AuditStores
    ) -> None:
        """Events and results of other runs stay; those of the run are recorded as deleted."""
        run, other = a_test_run(), a_test_run()
        for one in (run, other):
            await stores.test_runs.create(one)
            await stores.chaos_events.create(a_chaos_event(run_id=one.run_id))
            await stores.test_results.bulk_create(
                [a_test_result(run_id=one.run_id) for _ in range(3)]
            )
        events = await stores.chaos_events.get_by_run(run.run_id)
        results = await stores.test_results.get_by_run(run.run_id)

        with audit_context(actor="ann", reason="a mistake"):
            assert await stores.test_runs.delete(run.run_id, with_children=True)

        assert await stores.test_runs.get_by_id(run.run_id) is None
        assert await stores.chaos_events.get_by_run(run.run_id) == []
        assert await stores.test_results.get_by_run(run.run_id) == []
        assert len(await stores.chaos_events.get_by_run(other.run_id)) == 1
        assert len(await stores.test_results.get_by_run(other.run_id)) == 3
        deleted = (await stores.audit.find(AuditQuery(operation=AuditOperation.DELETE))).items
        assert {record.entity_id for record in deleted} == {
            run.run_id,
            *(event.event_id for event in events),
            *(result.result_id for result in results),
        }
        assert {(record.actor, record.reason) for record in deleted} == {("ann", "a mistake")}

    async def test_the_children_of_a_run_that_is_not_there_are_deleted_too(
        self, stores: AuditStores
    ) -> None:
        """A run that was deleted alone can be cleaned up after; it is not there all the same."""
        event = await stores.chaos_events.create(a_chaos_event(run_id="gone"))
        result = await stores.test_results.create(a_test_result(run_id="gone"))

        with audit_context(actor="ann"):
            assert not await stores.test_runs.delete("gone", with_children=True)

        assert await stores.chaos_events.get_by_id(event.event_id) is None
        assert await stores.test_results.get_by_id(result.result_id) is None
        deleted = (await stores.audit.find(AuditQuery(operation=AuditOperation.DELETE))).items
        assert [record.actor for record in deleted] == ["ann", "ann"]

    async def test_a_recovery_is_told_from_other_changes_of_status(
        self, stores: AuditStores
    ) -> None:
        """It has an operation of its own."""
        event = await stores.chaos_events.create(
            a_chaos_event(status=EventStatus.PENDING, injected_at=datetime(2026, 5, 6, tzinfo=UTC))
        )
        await stores.chaos_events.update_status(event.event_id, EventStatus.INJECTED)
        await stores.chaos_events.record_recovery(event.event_id, 1500)

        records = await stores.audit.history(AuditKind.CHAOS_EVENT, event.event_id)

        assert operations(records) == ["create", "status_change", "recovery"]
        assert records[-1].before == {
            "status": "injected",
            "recovery_time_ms": None,
            "recovered_at": None,
        }
        assert records[-1].after == {
            "status": "recovered",
            "recovery_time_ms": 1500,
            "recovered_at": "2026-05-06T00:00:01.5+00:00",
        }

    async def test_another_time_to_recover_is_a_recovery_too(self, stores: AuditStores) -> None:
        """The first was wrong; what else changes of it is an update."""
        event = await stores.chaos_events.create(a_chaos_event(status=EventStatus.INJECTED))
        recovered = await stores.chaos_events.record_recovery(event.event_id, 1500)
        corrected = recovered.model_copy(update={"recovery_time_ms": 900})
        await stores.chaos_events.update(corrected)
        await stores.chaos_events.update(corrected.model_copy(update={"parameters": {"a": 1}}))

        records = await stores.audit.history(AuditKind.CHAOS_EVENT, event.event_id)

        assert operations(records) == ["create", "recovery", "recovery", "update"]
        assert records[2].after == {"recovery_time_ms": 900}

    async def test_what_was_refused_is_not_recorded(self, stores: AuditStores) -> None:
        """No duplicate, no conflict, no miss leaves a trace."""
        scenario = await stores.scenarios.create(a_scenario(status=ScenarioStatus.DRAFT))
        result = await stores.test_results.create(a_test_result())
        for attempt, error in (
            (stores.scenarios.create(scenario), DuplicateError),
            (stores.test_results.bulk_create([a_test_result(), result]), DuplicateError),
            (
                stores.scenarios.update_status(
                    scenario.scenario_id, ScenarioStatus.ACTIVE, expected=ScenarioStatus.ARCHIVED
                ),
                ConflictError,
            ),
            (stores.test_runs.start_run("unknown"), NotFoundError),
        ):
            try:
                await attempt
            except error:
                continue
            raise AssertionError("not refused")
        await stores.scenarios.delete("unknown")
        await stores.test_results.prune(datetime(1970, 1, 2, tzinfo=UTC))
        await stores.test_results.bulk_create([])

        page = await stores.audit.find(EVERYTHING)

        assert operations(page.items) == ["create", "create"]

    async def test_who_acts_and_why_is_what_the_context_says(self, stores: AuditStores) -> None:
        """Inner contexts add to outer ones; after the block all is as before."""
        run = await stores.test_runs.create(a_test_run(status=RunStatus.PENDING))
        with audit_context(actor='o\'brien \\ "é"', correlation_id="c'1"):
            await stores.test_runs.start_run(run.run_id)
            with audit_context(reason="it took\ntoo long"):
                await stores.test_runs.update_status(run.run_id, RunStatus.CANCELLED)
        await stores.test_runs.delete(run.run_id)

        first, started, cancelled, last = await stores.audit.history(AuditKind.TEST_RUN, run.run_id)

        assert (first.correlation_id, first.reason) == (None, None)
        assert (last.actor, last.correlation_id, last.reason) == (first.actor, None, None)
        assert (started.actor, started.correlation_id) == ('o\'brien \\ "é"', "c'1")
        assert started.reason is None
        assert (cancelled.actor, cancelled.correlation_id) == ('o\'brien \\ "é"', "c'1")
        assert cancelled.reason == "it took\ntoo long"

    async def test_a_reason_needs_no_actor_and_lasts_no_longer_than_its_block(
        self, stores: AuditStores
    ) -> None:
        """Who acts is then whoever acts otherwise."""
        run = await stores.test_runs.create(a_test_run(status=RunStatus.PENDING))
        with audit_context(correlation_id="c-1", reason="by hand"):
            await stores.test_runs.start_run(run.run_id)
        await stores.test_runs.delete(run.run_id)

        created, started, deleted = await stores.audit.history(AuditKind.TEST_RUN, run.run_id)

        assert (started.correlation_id, started.reason) == ("c-1", "by hand")
        assert created.actor == started.actor == deleted.actor
        assert (deleted.correlation_id, deleted.reason) == (None, None)

    async def test_tasks_at_the_same_time_speak_each_for_itself(self, stores: AuditStores) -> None:
        """A context belongs to its task."""

        async def work(name: str) -> None:
            with audit_context(actor=name):
                await stores.test_runs.create(a_test_run(run_id=name))
                await stores.test_runs.start_run(name)

        names = [f"worker-{number}" for number in range(8)]
        await asyncio.gather(*map(work, names))

        records = (await stores.audit.find(EVERYTHING)).items
        assert sorted((record.actor, record.entity_id) for record in records) == sorted(
            (name, name) for name in names for _ in range(2)
        )

    async def test_the_history_of_a_bulk_created_result_is_complete(
        self, stores: AuditStores
    ) -> None:
        """One record for all of them, found from each, also when it is gone."""
        results = [a_test_result() for _ in range(3)]
        await stores.test_results.bulk_create(results)
        await stores.test_results.bulk_create([a_test_result(), a_test_result()])
        with audit_context(actor="the caretaker", reason="old"):
            await stores.test_results.prune(MAX_MOMENT)

        for result in results:
            created, gone = await stores.audit.history(AuditKind.TEST_RESULT, result.result_id)

            assert (created.operation, created.count) == (AuditOperation.BULK_CREATE, 3)
            assert (created.entity_id, created.before, created.after) == (None, None, None)
            assert gone.operation is AuditOperation.PRUNE
            assert (gone.actor, gone.reason) == ("the caretaker", "old")
            assert result.result_id in gone.entity_ids
            assert gone.count == len(gone.entity_ids)

    async def test_a_bulk_creation_of_one_is_a_creation(self, stores: AuditStores) -> None:
        """It holds the entity."""
        (result,) = await stores.test_results.bulk_create([a_test_result()])

        (record,) = await stores.audit.history(AuditKind.TEST_RESULT, result.result_id)

        assert record.operation is AuditOperation.CREATE
        assert (record.after or {})["result_id"] == result.result_id

    async def test_a_prune_of_one_is_a_prune(self, stores: AuditStores) -> None:
        """It is told from a deletion by what was asked, not by how many went."""
        run = await stores.test_runs.create(a_test_run(status=RunStatus.PASSED))
        await stores.test_runs.prune(MAX_MOMENT)

        records = await stores.audit.history(AuditKind.TEST_RUN, run.run_id)

        assert operations(records) == ["create", "prune"]
        assert records[-1].entity_ids == (run.run_id,)
        assert records[-1].entity_id is None

    async def test_kinds_that_share_an_id_have_histories_of_their_own(
        self, stores: AuditStores
    ) -> None:
        """An id belongs to a kind."""
        await stores.scenarios.create(a_scenario(scenario_id="same"))
        await stores.test_runs.create(a_test_run(run_id="same"))

        (record,) = await stores.audit.history(AuditKind.SCENARIO, "same")

        assert record.kind is AuditKind.SCENARIO

    async def test_every_field_of_a_query_narrows_the_answer(self, stores: AuditStores) -> None:
        """And all of them together more so."""
        with audit_context(actor="ann", correlation_id="c1"):
            run = await stores.test_runs.create(a_test_run(status=RunStatus.PENDING))
            await stores.test_runs.start_run(run.run_id)
        with audit_context(actor="bob"):
            await stores.scenarios.create(a_scenario())
        every = (await stores.audit.find(EVERYTHING)).items

        for query, places in (
            (AuditQuery(actor="ann"), [0, 1]),
            (AuditQuery(actor=("ann", "bob")), [0, 1, 2]),
            (AuditQuery(actor=()), []),
            (AuditQuery(correlation_id="c1"), [0, 1]),
            (AuditQuery(kind=AuditKind.SCENARIO), [2]),
            (AuditQuery(operation=AuditOperation.CREATE), [0, 2]),
            (AuditQuery(entity_id=run.run_id), [0, 1]),
            (AuditQuery(entity_id=run.run_id, operation=AuditOperation.STATUS_CHANGE), [1]),
            (AuditQuery(recorded_since=every[0].recorded_at), [0, 1, 2]),
            (AuditQuery(recorded_until=every[-1].recorded_at), [0, 1, 2]),
            (AuditQuery(recorded_until=every[0].recorded_at - timedelta(microseconds=1)), []),
            (AuditQuery(recorded_since=every[-1].recorded_at + timedelta(microseconds=1)), []),
        ):
            assert (await stores.audit.find(query)).items == [every[place] for place in places]

    async def test_pages_and_streams_meet_every_record_once(self, stores: AuditStores) -> None:
        """In the same order."""
        for _ in range(5):
            await stores.scenarios.create(a_scenario())

        paged: list[AuditRecord] = []
        cursor: str | None = None
        for _ in range(3):
            page = await stores.audit.find(EVERYTHING, limit=2, cursor=cursor)
            paged += page.items
            cursor = page.next_cursor
        streamed = [record async for record in stores.audit.stream(EVERYTHING, batch_size=2)]

        assert cursor is None
        assert len(paged) == 5
        assert streamed == paged
        assert [record.record_id for record in paged] == sorted(
            record.record_id for record in paged
        )

    async def test_bad_questions_are_refused(self, stores: AuditStores) -> None:
        """Each with the name of what is wrong."""
        unknown: Any = "lunch"
        with refused("kind"):
            await stores.audit.history(unknown, "id")
        with refused("entity_id"):
            await stores.audit.history(AuditKind.SCENARIO, "")
        other: Any
        for other in (ScenarioQuery(), None, {"kind": "scenario"}):
            with refused("query"):
                await stores.audit.find(other)
            with refused("query"):
                await anext(aiter(stores.audit.stream(other)))
        with refused("limit"):
            await stores.audit.find(EVERYTHING, limit=0)
        for cursor in ("x", "-1", "", "9" * 40, "²"):
            with refused("cursor"):
                await stores.audit.find(EVERYTHING, cursor=cursor)
        with refused("batch_size"):
            await anext(aiter(stores.audit.stream(EVERYTHING, batch_size=0)))
        with refused("run_id"):
            await stores.audit.run_timeline("\0")

    async def test_the_timeline_of_a_run_holds_all_that_happened_in_it(
        self, stores: AuditStores
    ) -> None:
        """Its transitions, its events and its results in order, and how long it was between."""
        run = await stores.test_runs.create(a_test_run(status=RunStatus.PENDING))
        other = await stores.test_runs.create(a_test_run())
        await stores.test_runs.start_run(run.run_id)
        event = a_chaos_event(run_id=run.run_id, status=EventStatus.INJECTED)
        await stores.chaos_events.create(event)
        await stores.chaos_events.create(a_chaos_event(run_id=other.run_id))
        await stores.chaos_events.record_recovery(event.event_id, 20)
        result = await stores.test_results.create(a_test_result(run_id=run.run_id))
        await stores.test_results.bulk_create(
            [a_test_result(result_id=name, run_id=run.run_id) for name in ("b", "a", "B")]
        )
        await stores.test_results.bulk_create(
            [a_test_result(run_id=other.run_id) for _ in range(2)]
        )
        await stores.test_runs.complete_run(run.run_id, RunStatus.PASSED)

        timeline = await stores.audit.run_timeline(run.run_id)

        assert told(timeline) == [
            ("test_run", "create", run.run_id),
            ("test_run", "status_change", run.run_id),
            ("chaos_event", "create", event.event_id),
            ("chaos_event", "recovery", event.event_id),
            ("test_result", "create", result.result_id),
            ("test_result", "bulk_create", "B"),
            ("test_result", "bulk_create", "a"),
            ("test_result", "bulk_create", "b"),
            ("test_run", "status_change", run.run_id),
        ]
        assert timeline[5].record == timeline[7].record
        assert timeline[7].since_previous == timedelta()
        assert timeline[0].since_previous == timeline[0].since_first == timedelta()
        assert all(entry.since_previous >= timedelta() for entry in timeline)
        assert timeline[-1].since_first == sum(
            (entry.since_previous for entry in timeline), timedelta()
        )

    async def test_the_timeline_tells_transitions_in_the_order_they_happened_in(
        self, stores: AuditStores
    ) -> None:
        """Also those that many asked for at once: each begins where the one before it ended."""
        run = await stores.test_runs.create(a_test_run(status=RunStatus.PENDING))
        statuses = [status for status in RunStatus if status is not RunStatus.PENDING] * 3

        await asyncio.gather(
            *(stores.test_runs.update_status(run.run_id, status) for status in statuses)
        )

        timeline = await stores.audit.run_timeline(run.run_id)
        held: dict[str, JsonValue] = {}
        for entry in timeline:
            before = entry.record.before or {}
            assert before == {name: held[name] for name in before}
            held |= entry.record.after or {}
        assert len(timeline) == 1 + len(statuses)
        stored = await stores.test_runs.get_by_id(run.run_id)
        assert stored is not None
        assert held["status"] == stored.status
        assert all(entry.since_previous >= timedelta() for entry in timeline)

    async def test_a_bulk_creation_shows_in_every_run_with_the_results_of_that_run(
        self, stores: AuditStores
    ) -> None:
        """And with the number of all."""
        await stores.test_results.bulk_create(
            [
                a_test_result(result_id="of-a-1", run_id="a"),
                a_test_result(result_id="of-b", run_id="b"),
                a_test_result(result_id="of-a-2", run_id="a"),
            ]
        )

        of_a = await stores.audit.run_timeline("a")
        of_b = await stores.audit.run_timeline("b")

        assert [entry.entity_id for entry in of_a] == ["of-a-1", "of-a-2"]
        assert [entry.entity_id for entry in of_b] == ["of-b"]
        assert of_a[0].record == of_b[0].record
        assert of_a[0].record.count == 3

    async def test_what_was_pruned_or_deleted_is_still_in_the_timeline(
        self, stores: AuditStores
    ) -> None:
        """A timeline loses nothing; a prune is no entry, the deletion of a run is one."""
        run = await stores.test_runs.create(a_test_run(status=RunStatus.RUNNING))
        await stores.chaos_events.create(a_chaos_event(run_id=run.run_id))
        await stores.test_results.create(a_test_result(run_id=run.run_id))
        old, new = datetime(2026, 5, 6, tzinfo=UTC), datetime(2026, 5, 7, tzinfo=UTC)
        await stores.test_results.bulk_create(
            [a_test_result(run_id=run.run_id, created_at=at) for at in (old, new, old, new)]
            + [a_test_result(run_id="another", created_at=at) for at in (old, new)]
        )
        before = await stores.audit.run_timeline(run.run_id)

        await stores.test_results.prune(new)
        half_gone = await stores.audit.run_timeline(run.run_id)
        await stores.test_results.prune(MAX_MOMENT, batch_size=2)
        await stores.chaos_events.prune(MAX_MOMENT)
        await stores.test_runs.delete(run.run_id)
        all_gone = await stores.audit.run_timeline(run.run_id)

        assert len(before) == 7
        assert half_gone == before
        assert all_gone[:-1] == before
        assert told(all_gone[-1:]) == [("test_run", "delete", run.run_id)]

    async def test_a_result_that_comes_again_after_a_prune_is_told_of_twice(
        self, stores: AuditStores
    ) -> None:
        """Once for each time it was created."""
        results = [a_test_result(result_id=name, run_id="run") for name in ("a", "b")]
        await stores.test_results.bulk_create(results)
        await stores.test_results.prune(MAX_MOMENT)
        await stores.test_results.bulk_create(results[:1])
        await stores.test_results.prune(MAX_MOMENT)
        await stores.test_results.bulk_create(results)

        timeline = await stores.audit.run_timeline("run")

        assert told(timeline) == [
            ("test_result", "bulk_create", "a"),
            ("test_result", "bulk_create", "b"),
            ("test_result", "create", "a"),
            ("test_result", "bulk_create", "a"),
            ("test_result", "bulk_create", "b"),
        ]

    async def test_a_run_nothing_is_known_of_has_no_timeline(self, stores: AuditStores) -> None:
        """An empty list, no error."""
        assert await stores.audit.run_timeline("unknown") == []

    async def test_changing_a_record_changes_nothing_in_the_trail(
        self, stores: AuditStores
    ) -> None:
        """What comes out is a copy."""
        scenario = await stores.scenarios.create(a_scenario(configuration={"a": [1]}))
        (record,) = await stores.audit.history(AuditKind.SCENARIO, scenario.scenario_id)
        assert record.after is not None
        record.after["configuration"]["a"].append(2)

        (again,) = await stores.audit.history(AuditKind.SCENARIO, scenario.scenario_id)

        assert (again.after or {})["configuration"] == {"a": [1]}
