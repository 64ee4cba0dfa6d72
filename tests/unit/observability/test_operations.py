import asyncio
import inspect
from collections.abc import AsyncIterator

import pytest

from test_coordinator_data_adapter import interfaces
from test_coordinator_data_adapter.adapters.stub import (
    StubCacheRepository,
    StubChaosEventsRepository,
    StubScenariosRepository,
    StubServiceDiscoveryRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.errors import AdapterError, DuplicateError, InvalidValueError
from test_coordinator_data_adapter.interfaces import TestResultQuery, TestResultsRepository
from test_coordinator_data_adapter.models import ResultStatus, TestResult
from test_coordinator_data_adapter.observability import (
    CacheUsed,
    Operation,
    OperationEnded,
    OperationStarted,
    current_operation,
    instrument,
)
from test_coordinator_data_adapter.observability.operations import operation_name, operations_of
from test_coordinator_data_adapter.resilience.coalescing import Coalescer
from test_coordinator_data_adapter.testing.builders import a_scenario, a_service, a_test_result

STUBS = (
    StubCacheRepository,
    StubChaosEventsRepository,
    StubScenariosRepository,
    StubServiceDiscoveryRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)


@pytest.fixture
def results(recorder) -> StubTestResultsRepository:
    return instrument(StubTestResultsRepository(), backend="stub", observer=recorder)


@pytest.fixture
def cache(recorder) -> StubCacheRepository:
    return instrument(StubCacheRepository(), backend="stub", observer=recorder)


def _names(recorder) -> list[str]:
    return [ended.operation.name for ended in recorder.of(OperationEnded)]


async def test_a_call_is_known_by_port_method_and_backend(results, recorder):
    await results.get_by_id("r")

    (started,), (ended,) = recorder.of(OperationStarted), recorder.of(OperationEnded)
    assert started.operation is ended.operation
    assert ended.operation.name == "test_results.get_by_id"
    assert ended.operation.backend == "stub"
    assert ended.operation.id == "r"
    assert ended.outcome == "ok"
    assert ended.took > 0


async def test_a_named_question_that_asks_the_core_is_one_operation(results, recorder):
    await results.calculate_pass_rate("r")

    assert _names(recorder) == ["test_results.calculate_pass_rate"]


@pytest.mark.parametrize("kind", STUBS)
def test_every_promised_method_is_watched_and_is_what_it_was(kind, recorder):
    port = next(base for base in kind.__mro__ if base.__name__ in interfaces.__all__)

    watched = instrument(kind(), backend="stub", observer=recorder)

    assert isinstance(watched, kind)
    assert isinstance(watched, port)
    assert type(watched).__name__ == kind.__name__
    for name in operations_of(port):
        method, before = getattr(type(watched), name), getattr(kind, name)
        assert method is not before
        assert inspect.signature(method) == inspect.signature(before)
        assert inspect.iscoroutinefunction(method) == inspect.iscoroutinefunction(before)
        assert inspect.isasyncgenfunction(method) == inspect.isasyncgenfunction(before)


@pytest.mark.parametrize("kind", STUBS)
def test_what_a_port_promises_is_a_coroutine_or_a_stream(kind):
    port = next(base for base in kind.__mro__ if base.__name__ in interfaces.__all__)

    for name in operations_of(port):
        promised = getattr(port, name)

        assert inspect.iscoroutinefunction(promised) or name == "stream"


async def test_other_instances_of_the_class_stay_as_they_are(results, recorder):
    await StubTestResultsRepository().get_by_id("r")

    assert recorder.facts == []


async def test_a_repository_handed_out_again_is_told_once(results, recorder):
    again = instrument(results, backend="stub", observer=recorder)

    await again.get_by_id("r")

    assert again is results
    assert _names(recorder) == ["test_results.get_by_id"]


def test_what_implements_no_port_is_refused(recorder):
    class Nothing:
        pass

    with pytest.raises(TypeError, match="none of the ports"):
        instrument(Nothing(), backend="stub", observer=recorder)


async def test_an_error_is_the_outcome_and_still_raised(results, recorder):
    await results.create(a_test_result(result_id="r"))

    with pytest.raises(DuplicateError):
        await results.create(a_test_result(result_id="r"))

    assert [ended.outcome for ended in recorder.of(OperationEnded)] == ["ok", "DuplicateError"]
    assert [ended.operation.id for ended in recorder.of(OperationEnded)] == ["r", "r"]


async def test_errors_of_others_count_as_their_nearest_kin_of_this_library(recorder):
    class OverQuotaError(AdapterError):
        pass

    class Refusing(StubTestResultsRepository):
        async def get_by_id(self, result_id):
            raise OverQuotaError("too much")

        async def count(self, query):
            raise RuntimeError("a bug")

    refusing = instrument(Refusing(), backend="stub", observer=recorder)

    with pytest.raises(OverQuotaError):
        await refusing.get_by_id("r")
    with pytest.raises(RuntimeError):
        await refusing.count(TestResultQuery())

    assert [ended.outcome for ended in recorder.of(OperationEnded)] == ["AdapterError", "other"]


async def test_a_cancelled_call_is_told(recorder):
    class Hanging(StubTestResultsRepository):
        async def get_by_id(self, result_id):
            await asyncio.Event().wait()

    hanging = instrument(Hanging(), backend="stub", observer=recorder)
    call = asyncio.create_task(hanging.get_by_id("r"))
    await asyncio.sleep(0)

    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call

    assert [ended.outcome for ended in recorder.of(OperationEnded)] == ["CancelledError"]
    assert current_operation() is None


@pytest.mark.parametrize("given", [list, tuple, iter, lambda items: (item for item in items)])
async def test_rows_are_counted_in_and_out_whatever_they_come_as(results, recorder, given):
    stored = await results.bulk_create(given([a_test_result(run_id="run") for _ in range(3)]))
    await results.get_by_run("run")
    await results.find(TestResultQuery(run_id="run"), limit=2)
    await results.get_by_id("r")

    assert len(stored) == 3
    assert [(ended.rows_in, ended.rows_out) for ended in recorder.of(OperationEnded)] == [
        (3, 3),
        (None, 3),
        (None, 2),
        (None, None),
    ]


async def test_rows_given_by_keyword_are_counted(results, recorder):
    await results.bulk_create(results=iter([a_test_result()]))

    assert [ended.rows_in for ended in recorder.of(OperationEnded)] == [1]


async def test_bad_arguments_raise_what_they_raised_before(results, cache):
    with pytest.raises(InvalidValueError):
        await cache.get_many("one text")
    with pytest.raises(TypeError):
        await results.bulk_create(3)
    with pytest.raises(TypeError):
        await results.bulk_create()
    with pytest.raises(InvalidValueError):
        await results.create(TestResult.model_construct())
    with pytest.raises(InvalidValueError):
        await results.get_by_id(7)


async def test_ids_are_known_of_entities_services_and_keys(recorder, cache):
    scenarios = instrument(StubScenariosRepository(), backend="stub", observer=recorder)
    services = instrument(StubServiceDiscoveryRepository(), backend="stub", observer=recorder)

    await scenarios.create(a_scenario(scenario_id="s"))
    await services.register(a_service(service_id="i"))
    await services.is_service_healthy(service_id="i", threshold_seconds=1)
    await cache.set("k", 1)
    await services.list_all_services()

    assert [ended.operation.id for ended in recorder.of(OperationEnded)] == [
        "s",
        "i",
        "i",
        "k",
        None,
    ]


async def test_a_stream_is_one_operation_that_counts_its_items(results, recorder):
    await results.bulk_create([a_test_result() for _ in range(5)])
    recorder.facts.clear()

    seen = [item async for item in results.stream(TestResultQuery(), batch_size=2)]

    (ended,) = recorder.of(OperationEnded)
    assert len(seen) == 5
    assert ended.operation.name == "test_results.stream"
    assert (ended.outcome, ended.rows_out) == ("ok", 5)


async def test_a_consumer_of_a_stream_is_no_part_of_it(results, recorder):
    await results.bulk_create([a_test_result() for _ in range(2)])
    recorder.facts.clear()

    async for item in results.stream(TestResultQuery()):
        assert current_operation() is None
        await results.get_by_id(item.result_id)

    assert _names(recorder) == [
        "test_results.get_by_id",
        "test_results.get_by_id",
        "test_results.stream",
    ]


async def test_an_abandoned_stream_ends_well_and_closes_what_is_below(recorder):
    closed = []

    class Endless(StubTestResultsRepository):
        async def stream(self, query, *, batch_size=None) -> AsyncIterator[TestResult]:
            try:
                while True:
                    yield a_test_result()
            finally:
                closed.append(True)

    endless = instrument(Endless(), backend="stub", observer=recorder)
    stream = endless.stream(TestResultQuery())
    await anext(stream)

    await stream.aclose()

    (ended,) = recorder.of(OperationEnded)
    assert (ended.outcome, ended.rows_out) == ("ok", 1)
    assert closed == [True]


async def test_a_stream_that_fails_says_so(results, recorder):
    with pytest.raises(InvalidValueError):
        _ = [item async for item in results.stream(TestResultQuery(), batch_size=0)]

    (ended,) = recorder.of(OperationEnded)
    assert ended.outcome == "InvalidValueError"


async def test_hits_and_misses_of_the_cache_are_counted(cache, recorder):
    await cache.set_many({"a": 1, "b": [2]})

    await cache.get("a")
    await cache.get("c")
    await cache.get_json("b")
    await cache.get_many(iter(["a", "b", "c"]))

    assert [(use.hits, use.misses) for use in recorder.of(CacheUsed)] == [
        (1, 0),
        (0, 1),
        (1, 0),
        (2, 1),
    ]


async def test_concurrent_calls_keep_their_own_names(recorder):
    names: dict[str, str | None] = {}

    class Naming(StubTestResultsRepository):
        async def get_by_id(self, result_id):
            await asyncio.sleep(0)
            operation = current_operation()
            names[result_id] = operation and operation.id

    naming = instrument(Naming(), backend="stub", observer=recorder)

    await asyncio.gather(*(naming.get_by_id(name) for name in "abc"))

    assert names == {"a": "a", "b": "b", "c": "c"}


async def test_a_shared_trip_belongs_to_the_first_call_that_waited_for_it(recorder):
    seen: list[Operation | None] = []

    class Sharing(StubTestResultsRepository):
        def __init__(self) -> None:
            super().__init__()
            self.reads: Coalescer[str, None] = Coalescer(self._read, trips=1)

        async def _read(self, asked):
            seen.append(current_operation())
            await asyncio.sleep(0)
            return [None for _ in asked]

        async def get_by_id(self, result_id):
            return await self.reads(result_id)

    sharing = instrument(Sharing(), backend="stub", observer=recorder)

    await asyncio.gather(*(sharing.get_by_id(name) for name in "abc"))

    assert [operation and operation.id for operation in seen] == ["a", "b"]


async def test_where_nobody_observes_the_running_operation_is_found_all_the_same():
    names: list[str | None] = []

    class Asking(StubTestResultsRepository):
        async def list_matching(self, query):
            names.append(operation_name())
            return []

    asking: TestResultsRepository = Asking()

    await asking.get_failed_results("run")
    await asyncio.create_task(asking.get_by_status(ResultStatus.FAILED))

    assert names == ["test_results.get_failed_results", "test_results.get_by_status"]
    assert operation_name() is None


async def test_where_nobody_observes_a_shared_trip_is_named_by_what_shares_it():
    names: list[str | None] = []

    async def send(asked):
        names.append(operation_name())
        return asked

    share: Coalescer[str, str] = Coalescer(send, operation="test_results.get_by_id")

    await asyncio.gather(*(share(name) for name in "abc"))

    assert set(names) == {"test_results.get_by_id"}
