"""The stub and PostgreSQL side by side: the same calls, the same answers, errors and order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from test_coordinator_data_adapter.adapters.postgres import (
    PostgresChaosEventsRepository,
    PostgresScenariosRepository,
    PostgresTestResultsRepository,
    PostgresTestRunsRepository,
)
from test_coordinator_data_adapter.adapters.postgres.database import Database, Statement
from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
from test_coordinator_data_adapter.adapters.stub import (
    MemoryStore,
    StubChaosEventsRepository,
    StubScenariosRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.errors import AdapterError
from test_coordinator_data_adapter.interfaces.queries import (
    ChaosEventQuery,
    ScenarioQuery,
    TestResultQuery,
    TestRunQuery,
)
from test_coordinator_data_adapter.models import (
    AssertionType,
    ChaosEvent,
    EventStatus,
    EventType,
    ResultStatus,
    RunStatus,
    Scenario,
    ScenarioStatus,
    ScenarioType,
    TestResult,
    TestRun,
)

SCHEMA = "test_coordinator"
NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)

# Few of each, so that calls meet what other calls left.
ids = st.sampled_from(["a", "B", "b", "ä", "z z", "\U0001f600", "%_", "'; --"])
no_ids = st.sampled_from(["", "a\x00", "x" * 256, "\ud800", None, 7])
texts = st.sampled_from(["", "one", "two", "Zwei", "zwei", "x" * 1500])
moments = st.sampled_from(
    [
        NOON,
        NOON + timedelta(microseconds=1),
        NOON - timedelta(days=1),
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 30, tzinfo=UTC),
    ]
)
milliseconds = st.sampled_from([0, 1, 1500, 2**63 - 1])
numbers = st.sampled_from([0.0, 0.1, -1.5, 1e16, 5e-324, 1.7976931348623157e308])
units = st.sampled_from(["ms", "%", "requests/s"])
labels = st.dictionaries(
    st.sampled_from(["version", "branch", "a/b"]), st.sampled_from(["1", "2", "%"]), max_size=3
)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner),
    max_leaves=5,
)
json_objects = st.dictionaries(st.sampled_from(["", "a", "ü"]), json_values, max_size=3)


def maybe(values):
    return st.none() | values


def one_or_more(values):
    return st.none() | values | st.lists(values, max_size=3).map(tuple)


KINDS = {
    "scenarios": SimpleNamespace(
        entities=st.builds(
            Scenario,
            scenario_id=ids,
            name=texts,
            description=maybe(texts),
            scenario_type=st.sampled_from(ScenarioType),
            status=st.sampled_from(ScenarioStatus),
            configuration=json_objects,
            services_under_test=st.lists(ids, max_size=3),
            expected_outcomes=st.lists(texts, max_size=2),
            created_by=maybe(texts),
            created_at=moments,
            updated_at=moments,
            tags=st.lists(ids, max_size=3),
        ),
        queries=st.builds(
            ScenarioQuery,
            scenario_type=one_or_more(st.sampled_from(ScenarioType)),
            status=one_or_more(st.sampled_from(ScenarioStatus)),
            tag=maybe(ids),
            created_by=one_or_more(texts),
            service=maybe(ids),
            created_since=maybe(moments),
            created_until=maybe(moments),
        ),
        statuses=st.sampled_from(ScenarioStatus),
    ),
    "test_runs": SimpleNamespace(
        entities=st.builds(
            TestRun,
            run_id=ids,
            scenario_id=ids,
            status=st.sampled_from(RunStatus),
            started_at=maybe(moments),
            completed_at=maybe(moments),
            duration_ms=maybe(milliseconds),
            configuration_snapshot=json_objects,
            test_environment=maybe(texts),
            exit_code=maybe(st.sampled_from([0, 1, -(2**63)])),
            error_message=maybe(texts),
            created_at=moments,
            updated_at=moments,
            labels=labels,
        ),
        queries=st.builds(
            TestRunQuery,
            scenario_id=one_or_more(ids),
            status=one_or_more(st.sampled_from(RunStatus)),
            test_environment=one_or_more(texts),
            labels=maybe(labels),
            started_since=maybe(moments),
            started_until=maybe(moments),
            created_since=maybe(moments),
            created_until=maybe(moments),
        ),
        statuses=st.sampled_from(RunStatus),
    ),
    "chaos_events": SimpleNamespace(
        entities=st.builds(
            ChaosEvent,
            event_id=ids,
            run_id=ids,
            event_type=st.sampled_from(EventType),
            target_service=ids,
            parameters=json_objects,
            injected_at=moments,
            duration_ms=maybe(milliseconds),
            status=st.sampled_from(EventStatus),
            recovery_time_ms=maybe(milliseconds),
            created_at=moments,
            detected_at=maybe(moments),
            recovered_at=maybe(moments),
            recovery_resolution_ms=maybe(milliseconds),
            output=json_values,
        ),
        queries=st.builds(
            ChaosEventQuery,
            run_id=one_or_more(ids),
            event_type=one_or_more(st.sampled_from(EventType)),
            target_service=one_or_more(ids),
            status=one_or_more(st.sampled_from(EventStatus)),
            injected_since=maybe(moments),
            injected_until=maybe(moments),
        ),
        statuses=st.sampled_from(EventStatus),
    ),
    "test_results": SimpleNamespace(
        entities=st.builds(
            TestResult,
            result_id=ids,
            run_id=ids,
            assertion_type=st.sampled_from(AssertionType),
            expected_value=texts,
            actual_value=texts,
            status=st.sampled_from(ResultStatus),
            verification_time=moments,
            error_details=maybe(texts),
            correlation_id=maybe(ids),
            created_at=moments,
            name=maybe(texts),
            phase=maybe(texts),
            duration_ms=maybe(milliseconds),
            attempts=maybe(st.sampled_from([1, 2, 2**63 - 1])),
            measured_value=maybe(numbers),
            unit=maybe(units),
        ),
        queries=st.builds(
            TestResultQuery,
            run_id=one_or_more(ids),
            assertion_type=one_or_more(st.sampled_from(AssertionType)),
            status=one_or_more(st.sampled_from(ResultStatus)),
            correlation_id=one_or_more(ids),
            name=one_or_more(texts),
            created_since=maybe(moments),
            created_until=maybe(moments),
        ),
        statuses=st.sampled_from(ResultStatus),
    ),
}
EVERYTHING = {
    "scenarios": ScenarioQuery(),
    "test_runs": TestRunQuery(),
    "chaos_events": ChaosEventQuery(),
    "test_results": TestResultQuery(),
}
names = st.sampled_from(sorted(KINDS))
changing = st.sampled_from(["scenarios", "test_runs", "chaos_events"])


def of(name, part):
    return getattr(KINDS[name], part)


def on(part, which=names):
    """A kind and something drawn for it."""
    return which.flatmap(lambda name: st.tuples(st.just(name), of(name, part)))


async def outcome(call):
    try:
        return await call()
    except AdapterError as error:
        return (
            type(error),
            str(error),
            error.entity,
            error.id,
            getattr(error, "ids", None),
            getattr(error, "field", None),
            getattr(error, "rule", None),
        )


class SideBySide(RuleBasedStateMachine):
    runner: asyncio.Runner
    database: Database

    @initialize()
    def start_empty(self):
        self.now = NOON
        store = MemoryStore(clock=lambda: self.now)
        self.stub = {
            "scenarios": StubScenariosRepository(store),
            "test_runs": StubTestRunsRepository(store),
            "chaos_events": StubChaosEventsRepository(store),
            "test_results": StubTestResultsRepository(store),
        }
        self.live = {
            "scenarios": PostgresScenariosRepository(self.database),
            "test_runs": PostgresTestRunsRepository(self.database),
            "chaos_events": PostgresChaosEventsRepository(self.database),
            "test_results": PostgresTestResultsRepository(self.database),
        }
        for name in KINDS:
            delete = Statement(f"DELETE FROM {SCHEMA}.{name}", None, writes=True)
            self.runner.run(self.database.execute(delete))

    def both(self, name, call, *, clock=None):
        """Call both; the stub's clock shows what PostgreSQL's did, where that can be told."""
        live = self.runner.run(outcome(lambda: call(self.live[name])))
        if clock is not None and not isinstance(live, tuple):
            self.now = getattr(live, clock)
        stub = self.runner.run(outcome(lambda: call(self.stub[name])))
        assert live == stub
        return live

    @rule(drawn=on("entities"))
    def create(self, drawn):
        name, entity = drawn
        self.both(name, lambda held: held.create(entity))

    @rule(results=st.lists(of("test_results", "entities"), max_size=4))
    def bulk_create(self, results):
        self.both("test_results", lambda held: held.bulk_create(results))

    @rule(name=names, id_=ids | no_ids)
    def get_by_id(self, name, id_):
        self.both(name, lambda held: held.get_by_id(id_))

    @rule(drawn=on("entities", changing))
    def update(self, drawn):
        name, entity = drawn
        clock = None if name == "chaos_events" else "updated_at"
        self.both(name, lambda held: held.update(entity), clock=clock)

    @rule(
        drawn=on("entities", st.sampled_from(["scenarios", "test_runs"])),
        is_fresh=st.booleans(),
        moment=moments,
    )
    def update_if_unchanged(self, drawn, is_fresh, moment):
        name, entity = drawn
        stored = self.runner.run(self.stub[name].get_by_id(entity.identity))
        since = stored.updated_at if is_fresh and stored is not None else moment
        self.both(
            name, lambda held: held.update(entity, if_unchanged_since=since), clock="updated_at"
        )

    @rule(
        drawn=changing.flatmap(
            lambda name: st.tuples(
                st.just(name), of(name, "statuses"), one_or_more(of(name, "statuses"))
            )
        ),
        id_=ids | no_ids,
    )
    def update_status(self, drawn, id_):
        name, status, expected = drawn
        clock = None if name == "chaos_events" else "updated_at"
        self.both(
            name, lambda held: held.update_status(id_, status, expected=expected), clock=clock
        )

    @rule(id_=ids)
    def start_run(self, id_):
        self.both("test_runs", lambda held: held.start_run(id_), clock="started_at")

    @rule(
        id_=ids,
        status=st.sampled_from(RunStatus),
        exit_code=maybe(st.sampled_from([0, 3, 2**63, -(2**63) - 1, True])),
    )
    def complete_run(self, id_, status, exit_code):
        self.both(
            "test_runs",
            lambda held: held.complete_run(id_, status, exit_code),
            clock="completed_at",
        )

    @rule(
        id_=ids,
        exit_code=st.sampled_from([0, 1, 2**63]),
        duration=milliseconds | st.sampled_from([-1, 2**63, 1.5]),
    )
    def record_completion(self, id_, exit_code, duration):
        self.both(
            "test_runs",
            lambda held: held.record_completion(id_, exit_code, duration),
            clock="completed_at",
        )

    @rule(
        id_=ids,
        recovery=milliseconds | st.sampled_from([86_400_001, 2**48, -1, 2**63]),
        detected_at=maybe(moments) | st.just("noon"),
    )
    def record_recovery(self, id_, recovery, detected_at):
        self.both(
            "chaos_events",
            lambda held: held.record_recovery(id_, recovery, detected_at=detected_at),
        )

    @rule(drawn=on("entities"))
    def get_or_create(self, drawn):
        name, entity = drawn
        self.both(name, lambda held: held.get_or_create(entity))

    @rule(id_=ids | no_ids)
    def delete_run_with_children(self, id_):
        self.both("test_runs", lambda held: held.delete(id_, with_children=True))

    @rule(name=st.sampled_from(["scenarios", "test_runs"]), id_=ids | no_ids)
    def delete(self, name, id_):
        self.both(name, lambda held: held.delete(id_))

    @rule(drawn=on("queries"), limit=st.sampled_from([1, 2, 3, 1000]), newest_first=st.booleans())
    def find_all_pages(self, drawn, limit, newest_first):
        name, query = drawn

        async def pages(held):
            cursor, found = None, []
            while not found or cursor is not None:
                page = await held.find(query, limit=limit, cursor=cursor, newest_first=newest_first)
                found.append(page)
                cursor = page.next_cursor
            return found

        self.both(name, pages)

    @rule(
        name=names,
        limit=st.sampled_from([0, 1001, -1, True, "1"]) | st.just(5),
        cursor=maybe(st.sampled_from(["", "x", "W10", "bnVsbA", "é"])),
    )
    def find_with_bad_arguments(self, name, limit, cursor):
        self.both(name, lambda held: held.find(EVERYTHING[name], limit=limit, cursor=cursor))

    @rule(drawn=on("queries"))
    def list_matching_and_count(self, drawn):
        name, query = drawn
        found = self.both(name, lambda held: held.list_matching(query))
        assert self.both(name, lambda held: held.count(query)) == len(found)

    @rule(
        drawn=on("queries"),
        batch_size=maybe(st.sampled_from([1, 2, 10_000, 0, 10_001])),
        newest_first=st.booleans(),
    )
    def stream(self, drawn, batch_size, newest_first):
        name, query = drawn

        async def read(held):
            items = held.stream(query, batch_size=batch_size, newest_first=newest_first)
            return [entity async for entity in items]

        self.both(name, read)

    @rule(
        name=names,
        older_than=moments | st.sampled_from([datetime(2026, 5, 6), None]),  # noqa: DTZ001 - what is refused
        batch_size=maybe(st.sampled_from([1, 2, 0])),
    )
    def prune(self, name, older_than, batch_size):
        self.both(name, lambda held: held.prune(older_than, batch_size=batch_size))

    @rule(
        limit=st.sampled_from([1, 3, 1000, 0]), offset=st.sampled_from([0, 1, 2**63 - 1, -1, 2**63])
    )
    def list_all(self, limit, offset):
        self.both("scenarios", lambda held: held.list_all(limit, offset))

    @rule(
        query=of("test_runs", "queries"),
        by=st.sampled_from(["created_at", "started_at", "completed_at"]),
        limit=st.sampled_from([1, 3, 1000, 0]),
    )
    def list_newest(self, query, by, limit):
        self.both("test_runs", lambda held: held.list_newest(query, by=by, limit=limit))

    @rule(query=of("test_runs", "queries"))
    def totals_of_runs(self, query):
        self.both("test_runs", lambda held: held.total_duration(query))
        self.both("test_runs", lambda held: held.count_by_status_matching(query))

    @rule(query=of("chaos_events", "queries"))
    def totals_of_events(self, query):
        self.both("chaos_events", lambda held: held.total_recovery_time(query))

    @rule(query=of("test_results", "queries"), id_=ids, assertion=st.sampled_from(AssertionType))
    def totals_of_results(self, query, id_, assertion):
        self.both("test_results", lambda held: held.count_by_status_matching(query))
        self.both("test_results", lambda held: held.calculate_pass_rate(id_))
        self.both("test_results", lambda held: held.get_assertion_statistics(assertion))

    @rule(start=moments, end=moments, id_=ids)
    def named_questions(self, start, end, id_):
        self.both("test_runs", lambda held: held.get_runs_by_date_range(start, end))
        self.both("test_runs", lambda held: held.calculate_pass_rate(id_))
        self.both("test_runs", lambda held: held.get_average_duration(id_))
        self.both("scenarios", lambda held: held.search_by_tag(id_))


@pytest.fixture
def machine(shared_place) -> Iterator[type[SideBySide]]:
    with asyncio.Runner() as runner:
        database = Database(DatabaseSettings(url=shared_place.application, schema=SCHEMA))
        yield type("Machine", (SideBySide,), {"runner": runner, "database": database})
        assert database.pool_use().in_use == 0
        runner.run(database.aclose())


def test_the_stub_and_postgresql_answer_alike(machine):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max(1, settings.default.max_examples // 3),
            stateful_step_count=40,
            suppress_health_check=list(HealthCheck),
        ),
    )
