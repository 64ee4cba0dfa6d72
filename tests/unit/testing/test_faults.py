from __future__ import annotations

import asyncio
import inspect
import math

import pytest

from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
from test_coordinator_data_adapter.adapters.stub import (
    StubCacheRepository,
    StubChaosEventsRepository,
    StubScenariosRepository,
    StubServiceDiscoveryRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.errors import (
    DuplicateError,
    OutcomeUnknownError,
    UnavailableError,
)
from test_coordinator_data_adapter.interfaces import (
    AuditQuery,
    AuditRepository,
    CacheRepository,
    ChaosEventsRepository,
    ScenarioQuery,
    ScenariosRepository,
    ServiceDiscoveryRepository,
    TestResultsRepository,
    TestRunQuery,
    TestRunsRepository,
)
from test_coordinator_data_adapter.models.audit import AuditKind
from test_coordinator_data_adapter.testing.builders import a_scenario, a_test_run
from test_coordinator_data_adapter.testing.faults import FaultInjector, FaultKind, Injected

STUBS = {
    ScenariosRepository: StubScenariosRepository,
    TestRunsRepository: StubTestRunsRepository,
    ChaosEventsRepository: StubChaosEventsRepository,
    TestResultsRepository: StubTestResultsRepository,
    ServiceDiscoveryRepository: StubServiceDiscoveryRepository,
    CacheRepository: StubCacheRepository,
}
READS = ("get", "find", "stream", "count", "list_", "search_", "calculate_", "total_", "is_")


def methods_of(port):
    found = inspect.getmembers(port, inspect.isfunction)
    return {name: method for name, method in found if not name.startswith("_")}


@pytest.mark.parametrize("port", STUBS)
def test_a_wrapped_repository_is_still_of_its_port(port):
    wrapped = FaultInjector().wrap(STUBS[port]())

    assert isinstance(wrapped, port)
    assert [other for other in STUBS if isinstance(wrapped, other)] == [port]


@pytest.mark.parametrize("port", STUBS)
def test_every_method_of_a_wrapped_repository_has_the_signature_of_the_port(port):
    wrapped = FaultInjector().wrap(STUBS[port]())

    for name, method in methods_of(port).items():
        with_self = inspect.signature(getattr(type(wrapped), name))
        assert with_self == inspect.signature(method)


@pytest.mark.parametrize("port", STUBS)
async def test_every_method_of_a_wrapped_repository_can_be_made_to_fail(port):
    faults = FaultInjector()
    wrapped = faults.wrap(STUBS[port]())
    faults.unavailable()

    for name, method in methods_of(port).items():
        needed = [
            parameter
            for parameter in inspect.signature(method).parameters.values()
            if parameter.default is parameter.empty
        ]
        called = getattr(wrapped, name)(*[None] * (len(needed) - 1))
        with pytest.raises(UnavailableError) as caught:
            await (called if inspect.isawaitable(called) else anext(called))
        assert caught.value.entity
        assert faults.injected[-1] == Injected(
            port.__name__, name, FaultKind.UNAVAILABLE, applied=False
        )


@pytest.mark.parametrize("port", STUBS)
def test_every_method_is_known_to_write_or_to_read(port):
    faults = FaultInjector()

    for name in methods_of(port):
        reads = name.startswith(READS) and name != "get_or_create"
        if reads or name in {"exists", "keys"}:
            with pytest.raises(ValueError, match="only reads"):
                faults.outcome_unknown(method=name)
        else:
            faults.outcome_unknown(method=name)


async def test_without_a_fault_calls_go_through():
    faults = FaultInjector()
    runs = faults.wrap(StubTestRunsRepository())
    run = a_test_run()

    stored = await runs.create(run)

    assert stored == run
    assert await runs.get_by_scenario(run.scenario_id) == [run]
    assert [found async for found in runs.stream(TestRunQuery())] == [run]
    assert faults.injected == []


async def test_an_unavailable_call_is_not_applied():
    faults = FaultInjector()
    kept = StubScenariosRepository()
    scenarios = faults.wrap(kept)
    faults.unavailable(method="create")

    with pytest.raises(UnavailableError, match="create"):
        await scenarios.create(a_scenario())

    assert await kept.count(ScenarioQuery()) == 0
    assert await scenarios.count(ScenarioQuery()) == 0


async def test_an_unknown_outcome_was_applied_or_not_as_the_record_says():
    faults = FaultInjector(seed=3)
    kept = StubScenariosRepository()
    scenarios = faults.wrap(kept)
    faults.outcome_unknown()

    applied = []
    for _ in range(40):
        scenario = a_scenario()
        with pytest.raises(OutcomeUnknownError):
            await scenarios.create(scenario)
        applied.append(await kept.get_by_id(scenario.scenario_id) is not None)

    assert [injected.applied for injected in faults.injected] == applied
    assert 5 < sum(applied) < 35


async def test_the_answer_of_a_call_that_is_refused_can_get_lost_too():
    faults = FaultInjector()
    kept = StubScenariosRepository()
    scenarios = faults.wrap(kept)
    scenario = await kept.create(a_scenario())
    faults.outcome_unknown()

    for _ in range(20):
        with pytest.raises(OutcomeUnknownError):
            await scenarios.create(scenario)

    assert {injected.applied for injected in faults.injected} == {False}


async def test_reads_have_no_unknown_outcome():
    faults = FaultInjector()
    scenarios = faults.wrap(StubScenariosRepository())
    faults.outcome_unknown()

    assert await scenarios.list_all() == []
    assert faults.injected == []


async def test_latency_delays_a_call_and_then_makes_it():
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    faults = FaultInjector(sleep=sleep)
    runs = faults.wrap(StubTestRunsRepository())
    faults.latency(2.5, method="create")

    run = await runs.create(a_test_run())

    assert waited == [2.5]
    assert await runs.get_by_id(run.run_id) == run
    assert faults.injected == [
        Injected("TestRunsRepository", "create", FaultKind.LATENCY, applied=None)
    ]


async def test_a_call_that_hangs_waits_until_it_is_cancelled():
    faults = FaultInjector()
    kept = StubTestRunsRepository()
    runs = faults.wrap(kept)
    faults.hang()

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await runs.create(a_test_run())

    assert await kept.count(TestRunQuery()) == 0


async def test_a_hang_asks_the_injected_sleep_for_ever():
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    faults = FaultInjector(sleep=sleep)
    runs = faults.wrap(StubTestRunsRepository())
    faults.hang()

    await runs.count(TestRunQuery())

    assert waited == [math.inf]


async def test_a_delayed_call_can_fail_too_and_a_failed_one_goes_no_further():
    waited = []

    async def sleep(seconds):
        waited.append(seconds)

    faults = FaultInjector(sleep=sleep)
    runs = faults.wrap(StubTestRunsRepository())
    faults.latency(1)
    faults.unavailable()
    faults.latency(2)

    with pytest.raises(UnavailableError):
        await runs.count(TestRunQuery())

    assert waited == [1]


async def test_every_nth_call_is_hit():
    faults = FaultInjector()
    runs = faults.wrap(StubTestRunsRepository())
    faults.unavailable(method="count", every=3)

    failed = []
    for _ in range(9):
        try:
            await runs.count(TestRunQuery())
            await runs.get_recent_runs()
        except UnavailableError:
            failed.append(True)
        else:
            failed.append(False)

    assert failed == [False, False, True] * 3


async def test_a_fault_hits_no_more_often_than_it_may():
    faults = FaultInjector()
    runs = faults.wrap(StubTestRunsRepository())
    faults.unavailable(times=2)

    for _ in range(2):
        with pytest.raises(UnavailableError):
            await runs.count(TestRunQuery())

    assert await runs.count(TestRunQuery()) == 0


async def hits(seed, *, other_fault=False):
    faults = FaultInjector(seed)
    runs = faults.wrap(StubTestRunsRepository())
    faults.unavailable(probability=0.3)
    if other_fault:
        faults.outcome_unknown(probability=0.5, method="delete")
    found = []
    for _ in range(200):
        try:
            await runs.count(TestRunQuery())
        except UnavailableError:
            found.append(True)
        else:
            found.append(False)
    return found


async def test_the_same_seed_hits_the_same_calls():
    assert await hits(1) == await hits(1)
    assert await hits(1) != await hits(2)
    assert 30 < sum(await hits(1)) < 90


async def test_another_fault_does_not_change_which_calls_one_hits():
    assert await hits(1) == await hits(1, other_fault=True)


async def test_a_fault_of_one_port_spares_the_others():
    faults = FaultInjector()
    runs = faults.wrap(StubTestRunsRepository())
    scenarios = faults.wrap(StubScenariosRepository())
    faults.unavailable(port=TestRunsRepository)

    await scenarios.create(a_scenario())
    with pytest.raises(UnavailableError):
        await runs.create(a_test_run())

    assert [injected.port for injected in faults.injected] == ["TestRunsRepository"]


async def test_a_named_question_is_one_call():
    faults = FaultInjector()
    runs = faults.wrap(StubTestRunsRepository())
    faults.unavailable(method="list_matching")

    assert await runs.get_by_scenario("one") == []
    with pytest.raises(UnavailableError):
        await runs.list_matching(TestRunQuery())


async def test_a_stream_fails_at_its_first_item():
    faults = FaultInjector()
    runs = faults.wrap(StubTestRunsRepository())
    faults.unavailable(method="stream")

    stream = runs.stream(TestRunQuery())

    with pytest.raises(UnavailableError):
        await anext(stream)


async def test_a_fault_is_over_at_the_end_of_its_block():
    faults = FaultInjector()
    runs = faults.wrap(StubTestRunsRepository())

    with faults.unavailable(), pytest.raises(UnavailableError):
        await runs.count(TestRunQuery())

    assert await runs.count(TestRunQuery()) == 0


async def test_faults_can_be_withdrawn_one_by_one_or_all_at_once():
    faults = FaultInjector()
    runs = faults.wrap(StubTestRunsRepository())
    first = faults.unavailable(method="count")
    faults.unavailable(method="create")
    faults.hang(method="delete")

    first.withdraw()
    first.withdraw()
    assert await runs.count(TestRunQuery()) == 0
    with pytest.raises(UnavailableError):
        await runs.create(a_test_run())
    faults.clear()

    await runs.create(a_test_run())
    assert await runs.delete("unknown") is False
    assert len(faults.injected) == 1


async def test_errors_of_the_repository_come_through():
    runs = FaultInjector().wrap(StubTestRunsRepository())
    run = await runs.create(a_test_run())

    with pytest.raises(DuplicateError):
        await runs.create(run)


async def test_every_repository_that_a_factory_hands_out_can_be_wrapped():
    faults = FaultInjector()
    async with AdapterFactory(AdapterConfig(in_memory=True)) as factory:
        faults.attach(factory)
        getters = [name for name in dir(factory) if name.endswith("_repository")]

        assert len(getters) == 8
        for getter in getters:
            assert "faults in the way" in repr(getattr(factory, getter)())


async def test_a_sweep_and_the_trail_can_fail_as_other_calls_do():
    faults = FaultInjector()
    async with AdapterFactory(AdapterConfig(in_memory=True)) as factory:
        faults.attach(factory)
        with faults.outcome_unknown(method="sweep"), pytest.raises(OutcomeUnknownError):
            await factory.prune_expired()
        with faults.unavailable(port=AuditRepository):
            with pytest.raises(UnavailableError):
                await factory.get_audit_repository().history(AuditKind.SCENARIO, "s")
            with pytest.raises(UnavailableError):
                async for _ in factory.get_audit_repository().stream(AuditQuery()):
                    pass

        assert [one.method for one in faults.injected] == ["sweep", "history", "stream"]
        assert (await factory.prune_expired()).kinds


async def test_what_a_factory_hands_out_can_be_wrapped():
    faults = FaultInjector()
    async with AdapterFactory(AdapterConfig(in_memory=True)) as factory:
        before = factory.get_test_runs_repository()
        faults.attach(factory)
        faults.unavailable(method="create")
        runs = factory.get_test_runs_repository()

        with pytest.raises(UnavailableError):
            await runs.create(a_test_run())
        run = await before.create(a_test_run())

        assert await runs.get_by_id(run.run_id) == run
        assert isinstance(factory.get_cache_repository(use_stub=True), CacheRepository)


@pytest.mark.parametrize(
    ("calls", "told"),
    [
        ({"method": "craete"}, "no such method"),
        ({"method": "start_run", "port": CacheRepository}, "no such method"),
        ({"method": "_private"}, "no such method"),
        ({"every": 0}, "every"),
        ({"probability": 1.1}, "probability"),
        ({"probability": math.nan}, "probability"),
    ],
)
def test_a_fault_that_could_never_hit_is_refused(calls, told):
    with pytest.raises(ValueError, match=told):
        FaultInjector().unavailable(**calls)


@pytest.mark.parametrize("seconds", [-1, math.inf, math.nan])
def test_a_latency_that_is_no_time_is_refused(seconds):
    with pytest.raises(ValueError, match="seconds"):
        FaultInjector().latency(seconds)


def test_only_a_repository_can_be_wrapped():
    with pytest.raises(TypeError, match="str"):
        FaultInjector().wrap("repository")


def test_a_wrapped_repository_tells_that_it_is_and_lets_the_rest_through():
    class WithMore(StubCacheRepository):
        more = "more"

    wrapped = FaultInjector().wrap(WithMore())

    assert "faults in the way of" in repr(wrapped)
    assert wrapped.more == "more"
    with pytest.raises(AttributeError):
        wrapped.less  # noqa: B018 - reading it is what is tested
