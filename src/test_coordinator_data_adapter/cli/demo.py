"""`demo`: recorded chaos experiments, imported and looked at through the repositories."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from textwrap import fill, indent, shorten
from typing import cast

import typer
from rich.table import Table
from rich.text import Text

from test_coordinator_data_adapter import __version__
from test_coordinator_data_adapter.cli.import_ import (
    exit_if_refused,
    import_journals,
    summary,
)
from test_coordinator_data_adapter.cli.program import add_command, run
from test_coordinator_data_adapter.cli.screen import (
    colored,
    duration,
    plain,
    ratio,
    show,
    table,
)
from test_coordinator_data_adapter.cli.store import AllowDegraded, Store, opened
from test_coordinator_data_adapter.journals import Import, Outcome, shipped_mapping
from test_coordinator_data_adapter.models import (
    ChaosEvent,
    ResultStatus,
    RunStatus,
    Scenario,
    ServiceInfo,
    TestResult,
    TestRun,
)
from test_coordinator_data_adapter.models.values import utc_now
from test_coordinator_data_adapter.observability import CacheUsed, Fact, Observer

__all__ = ["register"]

_REASON_LENGTH = 150
_REASON_WIDTH = 76


def register(app: typer.Typer) -> None:
    """Adds the command `demo`."""
    add_command(app, "demo", demo)


def demo(*, allow_degraded: AllowDegraded = False) -> None:
    """Record real chaos experiments end to end and show what came of them.

    Imports the Chaos Toolkit journals that the package carries and prints scenarios, runs,
    injected chaos and assertions. Unless a database is configured, they are kept by a private
    server that the extra `embedded` brings, and else in memory.

    Exit code 0 when they are shown, 1 when one was refused, 2 when a setting is wrong, 3 when
    the database that was configured cannot be used.
    """
    reads = _CachedReads()

    async def command() -> _Recorded:
        async with (
            opened(allow_degraded=allow_degraded, private=True, observers=[reads]) as store,
            store.factory.registered(_this_demo(store)),
        ):
            with as_file(files("test_coordinator_data_adapter.journals") / "samples") as folder:
                imports = await import_journals(store, [folder], shipped_mapping())
            return await _recorded(store, imports)

    recorded = run(command)
    imports, runs, store = recorded.imports, recorded.runs, recorded.store
    told = [f"{len(imports)} recorded experiments: {summary(imports)}."]
    if all(one.outcome is Outcome.ALREADY_THERE for one in imports):
        told.append("An earlier run of the demo recorded them, and they were kept.")
    told.append(f"Answered by {store.backend}.")
    if reads.asked:
        told.append(
            f"Of {reads.asked} reads by id, {reads.hits} were answered from the cache"
            f" ({ratio(reads.hits / reads.asked)})."
        )
    if store.advice is not None:
        told.append(store.advice)
    show(
        _scenarios(recorded.scenarios),
        _runs(runs),
        _reasons(runs),
        _chaos(runs),
        _assertions(runs),
        _services(recorded.services),
        "\n".join(told),
    )
    exit_if_refused(imports)


@dataclass(frozen=True, slots=True)
class _RecordedScenario:
    scenario: Scenario
    runs: int
    pass_rate: float
    average_duration_ms: float


@dataclass(frozen=True, slots=True)
class _RecordedRun:
    run: TestRun
    events: list[ChaosEvent]
    results: list[TestResult]
    pass_rate: float

    @property
    def title(self) -> str:
        experiment = cast("dict[str, object]", self.run.configuration_snapshot["experiment"])
        return plain(str(experiment["title"]))


@dataclass(frozen=True, slots=True)
class _Recorded:
    store: Store
    imports: list[Import]
    scenarios: list[_RecordedScenario]
    runs: list[_RecordedRun]
    services: list[ServiceInfo]


class _CachedReads(Observer):
    """Counts how many reads by id the cache answered."""

    def __init__(self) -> None:
        self.asked = 0
        self.hits = 0

    def notice(self, fact: Fact, /) -> None:
        """Count a look at the cache; everything else is of no interest."""
        if isinstance(fact, CacheUsed) and fact.cache == "reads":
            self.asked += fact.hits + fact.misses
            self.hits += fact.hits


def _this_demo(store: Store) -> ServiceInfo:
    config = store.factory.config
    now = utc_now()
    return ServiceInfo(
        service_id=f"{config.service_instance_name}-demo",
        service_name=config.service_name,
        version=__version__,
        host="localhost",
        grpc_port=0,  # it serves nobody
        http_port=0,
        last_seen=now,
        registered_at=now,
    )


async def _recorded(store: Store, imports: list[Import]) -> _Recorded:
    """What the store now holds of these imports, asked as any user would ask."""
    scenarios = store.factory.get_scenarios_repository()
    test_runs = store.factory.get_test_runs_repository()
    chaos_events = store.factory.get_chaos_events_repository()
    test_results = store.factory.get_test_results_repository()

    seen_scenarios: list[_RecordedScenario] = []
    for scenario_id in dict.fromkeys(one.scenario_id for one in imports if one.scenario_id):
        scenario = await scenarios.get_by_id(scenario_id)
        if scenario is not None:
            seen_scenarios.append(
                _RecordedScenario(
                    scenario,
                    len(await test_runs.get_by_scenario(scenario_id)),
                    await test_runs.calculate_pass_rate(scenario_id),
                    await test_runs.get_average_duration(scenario_id),
                )
            )
    seen_runs: list[_RecordedRun] = []
    for run_id in dict.fromkeys(one.run_id for one in imports if one.run_id):
        test_run = await test_runs.get_by_id(run_id)
        if test_run is not None:
            seen_runs.append(
                _RecordedRun(
                    test_run,
                    await chaos_events.get_by_run(run_id),
                    await test_results.get_by_run(run_id),
                    await test_results.calculate_pass_rate(run_id),
                )
            )
    seen_runs.sort(key=lambda one: (one.run.created_at, one.run.run_id))
    services = await store.factory.get_service_discovery_repository().list_all_services()
    return _Recorded(store, imports, seen_scenarios, seen_runs, services)


def _scenarios(scenarios: Sequence[_RecordedScenario]) -> Table:
    shown = table(
        "Scenarios",
        ("Scenario", "Id", "Type", "Runs", "Passed", "Average"),
        right=("Runs", "Passed", "Average"),
    )
    for one in scenarios:
        shown.add_row(
            plain(one.scenario.name),
            plain(one.scenario.scenario_id),
            one.scenario.scenario_type.value,
            str(one.runs),
            ratio(one.pass_rate),
            duration(one.average_duration_ms),
        )
    return shown


def _runs(runs: Sequence[_RecordedRun]) -> Table:
    shown = table(
        "Runs",
        ("Run", "Verdict", "At (UTC)", "Took", "Passed", "Rate"),
        right=("At (UTC)", "Took", "Passed", "Rate"),
    )
    for one in runs:
        passed = sum(result.status is ResultStatus.PASSED for result in one.results)
        started = one.run.started_at
        shown.add_row(
            one.title,
            colored(one.run.status),
            f"{started:%H:%M:%S}" if started else "-",
            duration(one.run.duration_ms),
            f"{passed} of {len(one.results)}",
            ratio(one.pass_rate),
        )
    return shown


def _reasons(runs: Sequence[_RecordedRun]) -> Text:
    shown = Text()
    shown.append("Why they did not pass", style="bold")
    for one in runs:
        if one.run.status is not RunStatus.PASSED:
            shown.append(f"\n{one.title}: ").append_text(colored(one.run.status))
            reason = shorten(plain(one.run.error_message or ""), _REASON_LENGTH, placeholder=" ...")
            shown.append("\n").append(indent(fill(reason, _REASON_WIDTH), "  "), style="dim")
    return shown


def _chaos(runs: Sequence[_RecordedRun]) -> Table:
    shown = table(
        "Injected chaos",
        ("Fault", "Service", "Run", "Status", "Took"),
        right=("Took",),
    )
    for one in runs:
        for event in one.events:
            shown.add_row(
                event.event_type.value,
                plain(event.target_service),
                one.title,
                colored(event.status),
                duration(event.duration_ms),
            )
    return shown


def _assertions(runs: Sequence[_RecordedRun]) -> Table:
    counts: dict[tuple[str, str], Counter[ResultStatus]] = {}
    for one in runs:
        for result in one.results:
            key = (result.name or "-", result.assertion_type.value)
            counts.setdefault(key, Counter())[result.status] += 1
    statuses = (
        ResultStatus.PASSED,
        ResultStatus.FAILED,
        ResultStatus.ERROR,
        ResultStatus.SKIPPED,
    )
    numbers = (*(status.value.title() for status in statuses), "Rate")
    shown = table("Assertions", ("Assertion", "Type", *numbers), right=numbers)
    for (name, kind), count in counts.items():
        shown.add_row(
            plain(name),
            kind,
            *(str(count[status]) for status in statuses),
            ratio(count[ResultStatus.PASSED] / count.total()),
        )
    return shown


def _services(services: Sequence[ServiceInfo]) -> Table:
    shown = table("Registered services", ("Service", "Instance", "Version", "Host"))
    for service in services:
        shown.add_row(
            plain(service.service_name),
            plain(service.service_id),
            plain(service.version),
            plain(service.host),
        )
    return shown
