import pytest
import structlog

from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
from test_coordinator_data_adapter.adapters.stub import StubTestResultsRepository
from test_coordinator_data_adapter.observability import OperationEnded
from test_coordinator_data_adapter.testing.builders import a_test_result


@pytest.fixture
def config(tmp_path, monkeypatch) -> AdapterConfig:
    monkeypatch.chdir(tmp_path)
    return AdapterConfig(in_memory=True)


async def test_every_observer_of_a_factory_is_told_of_every_operation(config, recorder):
    first, second = type(recorder)(), type(recorder)()

    async with AdapterFactory(config, observers=[first, second]) as factory:
        await factory.get_test_results_repository().create(a_test_result())
        await factory.get_cache_repository().get("k")

    for observer in (first, second):
        assert [ended.operation.name for ended in observer.of(OperationEnded)] == [
            "test_results.create",
            "cache.get",
        ]


async def test_where_nobody_looks_a_repository_is_left_as_it_is(config):
    async with AdapterFactory(config) as factory:
        repository = factory.get_test_results_repository()

    assert type(repository) is StubTestResultsRepository


async def test_an_observer_that_raises_breaks_nothing_and_is_logged_once(config, recorder, logs):
    class Broken:
        def notice(self, fact, /):
            raise RuntimeError("secret")

    async with AdapterFactory(config, observers=[Broken(), recorder]) as factory:
        results = factory.get_test_results_repository()
        stored = await results.create(a_test_result())
        found = await results.get_by_id(stored.result_id)

    assert found == stored
    assert len(recorder.of(OperationEnded)) == 2
    (entry,) = [entry for entry in logs if entry["event"] == "observer_failed"]
    assert entry["log_level"] == "error"
    assert entry["observer"] == "Broken"
    assert "secret" not in str(entry)


async def test_operations_are_logged_at_debug_with_what_the_service_bound(logs, tmp_path):
    async with AdapterFactory(AdapterConfig(in_memory=True, log_level="DEBUG")) as factory:
        results = factory.get_test_results_repository()
        with structlog.contextvars.bound_contextvars(correlation_id="c-1"):
            await results.create(a_test_result(result_id="r"))
            with pytest.raises(ValueError, match="result_id"):
                await results.get_by_id("")

    succeeded, failed = [entry for entry in logs if entry["event"].startswith("operation_")]
    assert succeeded["event"] == "operation_succeeded"
    assert succeeded["log_level"] == "debug"
    assert succeeded["port"] == "test_results"
    assert succeeded["method"] == "create"
    assert succeeded["backend"] == "stub"
    assert succeeded["id"] == "r"
    assert succeeded["duration_ms"] > 0
    assert succeeded["correlation_id"] == "c-1"
    assert failed["event"] == "operation_failed"
    assert failed["outcome"] == "InvalidValueError"


async def test_operations_are_not_logged_below_debug(config, recorder, logs):
    async with AdapterFactory(config, observers=[recorder]) as factory:
        await factory.get_test_results_repository().get_by_id("r")

    assert not [entry for entry in logs if entry["event"].startswith("operation_")]
