from __future__ import annotations

import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PLUGIN = "test_coordinator_data_adapter.testing.plugin"
# Installed, the package brings the plugin by its entry point; a bare checkout has to name it.
BY_NAME = () if any(ep.value == PLUGIN for ep in entry_points(group="pytest11")) else ("-p", PLUGIN)
QUIET = ("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest")
AS_A_USER = ("-W", "error", *QUIET, *BY_NAME)
WITH_ASYNCIO = ("-o", "asyncio_default_fixture_loop_scope=function")


@pytest.fixture
def project(pytester, monkeypatch):
    """A downstream project of its own, without the configuration of this one."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makeini("[pytest]")
    return pytester


def run(project, *arguments):
    if "no:asyncio" not in arguments:
        arguments = (*WITH_ASYNCIO, *arguments)
    return project.runpytest_subprocess(*AS_A_USER, *arguments, timeout=600)


def test_the_package_declares_the_plugin():
    declared = tomllib.loads(Path(__file__).parents[3].joinpath("pyproject.toml").read_text())

    assert PLUGIN in declared["project"]["entry-points"]["pytest11"].values()


TWO_TESTS = """
    import pytest
    from test_coordinator_data_adapter.errors import UnavailableError
    from test_coordinator_data_adapter.testing.builders import a_scenario, a_test_run

    {mark}
    async def test_one(scenarios_repository, test_runs_repository, adapter_factory):
        await scenarios_repository.create(a_scenario(scenario_id="same"))
        run = await test_runs_repository.create(a_test_run())
        assert await adapter_factory.get_test_runs_repository().get_by_id(run.run_id) == run
        assert await scenarios_repository.list_all()

    {mark}
    async def test_two(scenarios_repository, adapter_factory, fault_injector):
        assert await scenarios_repository.list_all() == []
        await scenarios_repository.create(a_scenario(scenario_id="same"))
        failing = fault_injector.wrap(scenarios_repository)
        fault_injector.unavailable()
        with pytest.raises(UnavailableError):
            await failing.list_all()
        async with adapter_factory:
            assert (await adapter_factory.health_check())["factory_initialized"]
"""


@pytest.mark.parametrize(
    ("mark", "options", "conftest"),
    [
        pytest.param("", ["-o", "asyncio_mode=auto"], "", id="pytest-asyncio, auto"),
        pytest.param(
            "@pytest.mark.asyncio", ["-o", "asyncio_mode=strict"], "", id="pytest-asyncio, strict"
        ),
        pytest.param(
            "@pytest.mark.anyio",
            ["-p", "no:asyncio"],
            """
            import pytest

            @pytest.fixture
            def anyio_backend():
                return "asyncio"
            """,
            id="anyio",
        ),
    ],
)
def test_the_fixtures_work_under_whatever_runs_async_tests(project, mark, options, conftest):
    project.makeconftest(conftest)
    project.makepyfile(TWO_TESTS.format(mark=mark))

    result = run(project, *options)

    result.assert_outcomes(passed=2)
    result.stderr.no_fnmatch_line("*")


def test_every_fixture_is_there_for_a_test_without_an_event_loop(project):
    project.makepyfile(
        """
        import asyncio

        from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
        from test_coordinator_data_adapter.interfaces import (
            CacheRepository,
            ChaosEventsRepository,
            ScenariosRepository,
            ServiceDiscoveryRepository,
            TestResultsRepository,
            TestRunsRepository,
        )
        from test_coordinator_data_adapter.testing.faults import FaultInjector

        def test_it(
            adapter_config,
            adapter_factory,
            scenarios_repository,
            test_runs_repository,
            chaos_events_repository,
            test_results_repository,
            service_discovery_repository,
            cache_repository,
            fault_injector,
        ):
            assert isinstance(adapter_config, AdapterConfig)
            assert isinstance(adapter_factory, AdapterFactory)
            assert adapter_factory.config is adapter_config
            assert isinstance(scenarios_repository, ScenariosRepository)
            assert isinstance(test_runs_repository, TestRunsRepository)
            assert isinstance(chaos_events_repository, ChaosEventsRepository)
            assert isinstance(test_results_repository, TestResultsRepository)
            assert isinstance(service_discovery_repository, ServiceDiscoveryRepository)
            assert isinstance(cache_repository, CacheRepository)
            assert isinstance(fault_injector, FaultInjector)

            async def use():
                await cache_repository.set("key", 1)
                return await adapter_factory.get_cache_repository().get("key")

            assert asyncio.run(use()) == 1
        """
    )

    result = run(project, "-p", "no:asyncio", "-p", "no:anyio")

    result.assert_outcomes(passed=1)


def test_the_settings_come_from_neither_the_environment_nor_a_file(project, monkeypatch):
    monkeypatch.setenv("TEST_COORDINATOR_ADAPTER_POSTGRES_POOL_SIZE", "-1")
    monkeypatch.setenv("test_coordinator_adapter_service_name", "from the environment")
    project.path.joinpath(".env").write_text("TEST_COORDINATOR_ADAPTER_REDIS_POOL_SIZE=77\n")
    project.makepyfile(
        """
        import os

        def test_it(adapter_config, adapter_factory):
            assert adapter_config.in_memory
            assert adapter_config.postgres_pool_size == 10
            assert adapter_config.redis_pool_size == 10
            assert adapter_config.service_name == "test-coordinator"
            assert os.environ["TEST_COORDINATOR_ADAPTER_POSTGRES_POOL_SIZE"] == "-1"
        """
    )

    result = run(project)

    result.assert_outcomes(passed=1)


def test_a_project_can_give_settings_of_its_own_as_long_as_they_are_in_memory(project):
    project.makeconftest(
        """
        import pytest
        from test_coordinator_data_adapter import AdapterConfig

        @pytest.fixture
        def adapter_config(request):
            in_memory = "live" not in request.node.name
            return AdapterConfig(in_memory=in_memory, service_instance_name="test-coordinator-7")
        """
    )
    project.makepyfile(
        """
        def test_memory(adapter_factory):
            assert adapter_factory.config.postgres_schema == "test_coordinator_7"

        def test_live(adapter_factory):
            raise AssertionError("not reached")
        """
    )

    result = run(project)

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*UsageError: adapter_factory is in memory*"])


def test_a_fixture_can_be_replaced_by_one_that_fails_on_request(project):
    project.makeconftest(
        """
        import pytest

        @pytest.fixture
        def test_runs_repository(test_runs_repository, fault_injector):
            return fault_injector.wrap(test_runs_repository)
        """
    )
    project.makepyfile(
        """
        import pytest
        from test_coordinator_data_adapter.errors import OutcomeUnknownError
        from test_coordinator_data_adapter.testing.builders import a_test_run

        @pytest.mark.asyncio
        async def test_it(test_runs_repository, fault_injector):
            with fault_injector.outcome_unknown(method="create"):
                with pytest.raises(OutcomeUnknownError):
                    await test_runs_repository.create(a_test_run())
            assert len(fault_injector.injected) == 1
        """
    )

    result = run(project)

    result.assert_outcomes(passed=1)


def test_a_project_that_asks_for_nothing_gets_nothing_imported(project):
    project.makepyfile(
        """
        import sys

        def test_it():
            package = "test_coordinator_data_adapter"
            ours = {name for name in sys.modules if name.startswith(package)}
            assert ours == {
                "test_coordinator_data_adapter",
                "test_coordinator_data_adapter.testing",
                "test_coordinator_data_adapter.testing.plugin",
            }
            heavy = {"alembic", "asyncpg", "orjson", "pydantic", "redis", "sqlalchemy", "structlog"}
            assert not heavy & set(sys.modules)
        """
    )

    result = run(project)

    result.assert_outcomes(passed=1)


def test_the_fixtures_explain_themselves(project):
    result = run(project, "--fixtures")

    result.stdout.fnmatch_lines(["scenarios_repository*", "*scenarios*in memory*"])
    result.stdout.fnmatch_lines(["fault_injector*", "*fail on request*"])


def test_a_suite_that_is_only_imported_is_not_collected(project):
    project.makepyfile(
        """
        from test_coordinator_data_adapter.interfaces import TestRunsRepository, TestRunQuery
        from test_coordinator_data_adapter.models import TestRun, TestResult
        from test_coordinator_data_adapter.testing.conformance import (
            CacheSuite,
            ScenariosSuite,
            TestResultsSuite,
            TestRunsSuite,
        )
        """
    )

    result = run(project, "--collect-only", "-q")

    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    result.stdout.fnmatch_lines(["no tests collected*"])


A_BACKEND = """
    import pytest
    from test_coordinator_data_adapter.adapters.stub import StubTestRunsRepository
    from test_coordinator_data_adapter.testing.conformance import TestRunsSuite

    {mark}
    class TestMyRuns(TestRunsSuite):
        @pytest.fixture
        {kind} repository(self):
            return StubTestRunsRepository()
"""


@pytest.mark.parametrize(
    ("mark", "kind", "options"),
    [
        pytest.param("", "async def", ["-o", "asyncio_mode=auto"], id="pytest-asyncio, auto"),
        pytest.param("@pytest.mark.asyncio", "def", [], id="pytest-asyncio, strict"),
        pytest.param(
            '@pytest.mark.anyio\n    @pytest.mark.parametrize("anyio_backend", ["asyncio"])',
            "async def",
            ["-p", "no:asyncio"],
            id="anyio",
        ),
    ],
)
def test_a_backend_inherits_a_suite_and_supplies_one_fixture(project, mark, kind, options):
    project.makepyfile(A_BACKEND.format(mark=mark, kind=kind))

    result = run(project, *options, "-q")

    outcomes = result.parseoutcomes()
    assert set(outcomes) == {"passed"}
    assert outcomes["passed"] > 100


def test_a_suite_says_what_differs_when_it_fails(project):
    project.makepyfile(
        """
        import pytest
        from test_coordinator_data_adapter.adapters.stub import StubScenariosRepository
        from test_coordinator_data_adapter.testing.conformance import ScenariosSuite

        class Broken(StubScenariosRepository):
            async def delete(self, scenario_id):
                await super().delete(scenario_id)
                return "always"

        @pytest.mark.asyncio
        class TestBroken(ScenariosSuite):
            @pytest.fixture
            def repository(self):
                return Broken()
        """
    )

    result = run(project, "-k", "deleting_what_is_not_there_is_false")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*assert 'always' is False"])


def test_the_coverage_of_a_project_is_its_own(project, monkeypatch):
    for name in ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "COVERAGE_FILE"):
        monkeypatch.delenv(name, raising=False)
    project.makepyfile(
        shop="""
        from test_coordinator_data_adapter.errors import UnavailableError

        async def verdict(runs, run_id):
            try:
                run = await runs.get_by_id(run_id)
            except UnavailableError:
                return "later"
            return run.status if run else "unknown"
        """,
        test_shop="""
        import pytest
        import shop
        from test_coordinator_data_adapter.testing.builders import a_test_run

        @pytest.mark.asyncio
        async def test_verdict(test_runs_repository, fault_injector):
            run = await test_runs_repository.create(a_test_run())
            assert await shop.verdict(test_runs_repository, run.run_id) == "pending"
            assert await shop.verdict(test_runs_repository, "unknown") == "unknown"
            fault_injector.unavailable()
            assert await shop.verdict(fault_injector.wrap(test_runs_repository), "x") == "later"
        """,
    )
    command = [sys.executable, "-m", "coverage"]

    run_pytest = ["run", "--branch", "--source=shop", "-m", "pytest", *AS_A_USER, *WITH_ASYNCIO]
    measured = project.run(*command, *run_pytest, timeout=600)
    report = project.run(*command, "report", "--fail-under=100", "--show-missing")

    measured.assert_outcomes(passed=1)
    measured.stderr.no_fnmatch_line("*CoverageWarning*")
    report.stdout.fnmatch_lines(["shop.py*100%*", "TOTAL*100%*"])
    report.stdout.no_fnmatch_line("*test_coordinator_data_adapter*")
    assert report.ret == 0
