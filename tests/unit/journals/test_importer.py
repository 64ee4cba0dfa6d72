from __future__ import annotations

import asyncio
import itertools
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path

import pytest

from test_coordinator_data_adapter.adapters.stub import (
    StubChaosEventsRepository,
    StubScenariosRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.errors import OutcomeUnknownError, UnavailableError
from test_coordinator_data_adapter.interfaces import (
    ChaosEventQuery,
    ScenarioQuery,
    TestResultQuery,
    TestRunQuery,
)
from test_coordinator_data_adapter.journals import (
    Import,
    JournalImporter,
    Outcome,
    find_journals,
    shipped_mapping,
)
from test_coordinator_data_adapter.journals.importer import MAX_FILE_BYTES
from test_coordinator_data_adapter.models import ScenarioStatus


@dataclass
class Fuse:
    """Lets so many writes through and then fails, before or after the write took place."""

    writes: int | None = None
    error: type[Exception] = UnavailableError
    asked: int = field(default=0)

    def check(self, moment: str) -> None:
        if self.writes is None:
            return
        if moment == "before":
            self.asked += 1
        after = self.error is OutcomeUnknownError
        if self.asked > self.writes and after == (moment == "after"):
            raise self.error("the store is gone")


class Writing:
    """A store behind a network: others get their turn between a question and what follows."""

    fuse: Fuse

    async def get_by_id(self, entity_id):
        found = await super().get_by_id(entity_id)
        await asyncio.sleep(0)
        return found

    async def list_matching(self, query):
        found = await super().list_matching(query)
        await asyncio.sleep(0)
        return found

    async def create(self, entity):
        self.fuse.check("before")
        stored = await super().create(entity)
        self.fuse.check("after")
        return stored

    async def update(self, entity, **options):
        self.fuse.check("before")
        stored = await super().update(entity, **options)
        self.fuse.check("after")
        return stored


class Scenarios(Writing, StubScenariosRepository):
    pass


class Runs(Writing, StubTestRunsRepository):
    pass


class Events(Writing, StubChaosEventsRepository):
    pass


class Results(Writing, StubTestResultsRepository):
    async def bulk_create(self, results):
        self.fuse.check("before")
        stored = await super().bulk_create(results)
        self.fuse.check("after")
        return stored


class Store:
    def __init__(self) -> None:
        self.fuse = Fuse()
        self.scenarios, self.runs = Scenarios(), Runs()
        self.events, self.results = Events(), Results()
        for repository in (self.scenarios, self.runs, self.events, self.results):
            repository.fuse = self.fuse
        self.importer = JournalImporter(
            self.scenarios, self.runs, self.events, self.results, shipped_mapping()
        )

    async def imported(self, *paths: Path) -> list[Import]:
        return [one async for one in self.importer.import_files(find_journals(paths))]

    async def held(self) -> dict[str, list[object]]:
        scenarios = await self.scenarios.list_matching(ScenarioQuery())
        runs = await self.runs.list_matching(TestRunQuery())
        return {
            # what the clock of the store wrote differs from import to import
            "scenarios": [
                one.model_dump(exclude={"created_at", "updated_at"}) for one in scenarios
            ],
            "runs": [one.model_dump() for one in runs],
            "events": await self.events.list_matching(ChaosEventQuery()),
            "results": await self.results.list_matching(TestResultQuery()),
        }


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def write(tmp_path, build):
    def write(name: str, journal) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(journal if isinstance(journal, bytes) else build.content(journal))
        return path

    return write


@pytest.fixture(scope="session")
def samples():
    with as_file(files("test_coordinator_data_adapter.journals") / "samples") as folder:
        yield folder


async def test_every_recorded_journal_is_imported(store, samples):
    imports = await store.imported(samples)

    held = await store.held()
    assert len(imports) == 10
    assert {one.outcome for one in imports} == {Outcome.IMPORTED}
    assert len(held["runs"]) == 10
    assert len(held["events"]) == sum(one.events for one in imports) == 10
    assert len(held["results"]) == sum(one.results for one in imports)


async def test_importing_twice_changes_nothing_and_says_already_there(store, samples):
    first = await store.imported(samples)
    before = await store.held(), await store.scenarios.list_matching(ScenarioQuery())

    second = await store.imported(samples)

    after = await store.held(), await store.scenarios.list_matching(ScenarioQuery())
    assert before == after
    assert {one.outcome for one in second} == {Outcome.ALREADY_THERE}
    assert [(one.run_id, one.run_status, one.events, one.results) for one in second] == [
        (one.run_id, one.run_status, one.events, one.results) for one in first
    ]


async def test_a_journal_named_twice_is_imported_once(store, write, build):
    path = write("a.json", build.journal())

    imports = await store.imported(path, path, path.parent)

    assert [one.outcome for one in imports] == ["imported", "already there", "already there"]


async def test_a_bad_file_is_one_refusal_with_its_path_and_the_others_are_imported(
    store, write, build
):
    first = write("a.json", build.journal())
    bad = write("b.json", b"{")
    last = write("c.json", build.journal(node="elsewhere"))

    imports = await store.imported(first.parent)

    assert [(one.path, one.outcome) for one in imports] == [
        (str(first), "imported"),
        (str(bad), "refused"),
        (str(last), "imported"),
    ]
    assert "is not JSON" in (imports[1].reason or "")
    assert imports[1].run_id is None


async def test_a_refused_journal_leaves_nothing_behind(store, write, build):
    unmapped = build.action("boom", provider={"type": "python", "module": "m", "func": "f"})
    journal = build.journal(run=[build.ran(build.action()), build.ran(unmapped)])

    (refused,) = await store.imported(write("a.json", journal))

    assert refused.outcome is Outcome.REFUSED
    assert "boom" in (refused.reason or "")
    assert not any((await store.held()).values())


@pytest.mark.parametrize("error", [UnavailableError, OutcomeUnknownError])
@pytest.mark.parametrize("writes", range(6))
async def test_an_import_that_broke_off_anywhere_is_completed_by_repeating_it(
    write, build, error, writes
):
    run = [build.ran(build.action(f"restart-{n}"), n, n + 0.5) for n in range(3)]
    path = write("a.json", build.journal(run=run))
    whole, broken = Store(), Store()
    await whole.imported(path)
    assert len((await whole.held())["events"]) == 3

    broken.fuse.writes, broken.fuse.error = writes, error
    (failed,) = await broken.imported(path)
    committed = bool((await broken.held())["runs"])
    broken.fuse.writes = None
    (repeated,) = await broken.imported(path)

    assert failed.outcome is Outcome.REFUSED
    assert "repeating the import is safe" in (failed.reason or "")
    assert committed == (error is OutcomeUnknownError and writes == 5), "the run comes last"
    assert repeated.outcome is (Outcome.ALREADY_THERE if committed else Outcome.IMPORTED)
    assert await broken.held() == await whole.held()


async def test_results_that_are_partly_there_are_completed(store, write, build):
    path = write("a.json", build.journal())
    records = build.records(build.journal())
    await store.results.create(records.results[1])

    (imported,) = await store.imported(path)

    assert imported.outcome is Outcome.IMPORTED
    assert await store.results.get_by_run(records.run.run_id) == list(records.results)


async def test_a_store_that_fails_is_not_asked_again_for_every_file(store, samples):
    store.fuse.writes = 0

    imports = await store.imported(samples)

    assert {one.outcome for one in imports} == {Outcome.REFUSED}
    assert len({one.reason for one in imports}) == 1
    assert store.fuse.asked == 1


async def test_several_imports_at_once_store_everything_once(samples):
    store, alone = Store(), Store()
    await alone.imported(samples)

    imports = await asyncio.gather(*(store.imported(samples) for _ in range(5)))

    outcomes = [one.outcome for some in imports for one in some]
    assert outcomes.count(Outcome.IMPORTED) == 10
    assert outcomes.count(Outcome.ALREADY_THERE) == 40
    assert await store.held() == await alone.held()


async def test_a_cancelled_import_leaves_no_run_without_its_results(store, samples):
    for turns in range(0, 60, 3):
        importing = asyncio.create_task(store.imported(samples))
        for _ in range(turns):
            await asyncio.sleep(0)
        importing.cancel()
        with suppress(asyncio.CancelledError):
            await importing
        for run in await store.runs.list_matching(TestRunQuery()):
            assert await store.results.get_by_run(run.run_id)

    await store.imported(samples)

    alone = Store()
    await alone.imported(samples)
    assert await store.held() == await alone.held()


def versions(build):
    extensions = [{"name": "tse", "scenario_id": "scen_1"}]
    return [
        build.journal(
            start=build.at(age),
            experiment=build.experiment(title=f"version {age}", extensions=extensions),
        )
        for age in (0, 60, 3600)
    ]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
async def test_of_definitions_that_arrive_at_once_the_newest_stays(store, write, build, order):
    paths = [write(f"{n}.json", journal) for n, journal in enumerate(versions(build))]

    await asyncio.gather(*(store.imported(paths[position]) for position in order))

    scenario = await store.scenarios.get_by_id("scen_1")
    assert scenario is not None
    assert scenario.name == "version 3600"


@pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=str)
async def test_of_two_definitions_that_meet_at_an_older_one_the_newest_stays(
    store, write, build, order
):
    paths = [write(f"{n}.json", journal) for n, journal in enumerate(versions(build))]
    await store.imported(paths[0])

    await asyncio.gather(*(store.imported(paths[position]) for position in order))

    scenario = await store.scenarios.get_by_id("scen_1")
    assert scenario is not None
    assert scenario.name == "version 3600"


async def test_completing_an_import_does_not_touch_a_scenario_that_is_right(store, write, build):
    path = write("a.json", build.journal())
    store.fuse.writes = 1
    await store.imported(path)
    store.fuse.writes = None
    (before,) = await store.scenarios.list_matching(ScenarioQuery())

    await store.imported(path)

    assert await store.scenarios.list_matching(ScenarioQuery()) == [before]


async def test_a_newer_journal_of_the_same_definition_guards_it_against_one_in_between(
    store, write, build
):
    old, middle, new = versions(build)
    old["experiment"]["title"] = new["experiment"]["title"]
    paths = [write(f"{n}.json", journal) for n, journal in enumerate((old, new, middle))]

    await store.imported(*paths)

    scenario = await store.scenarios.get_by_id("scen_1")
    assert scenario is not None
    assert scenario.name == "version 3600"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
async def test_the_definition_with_the_newest_start_becomes_the_scenario_in_any_order(
    store, write, build, order
):
    paths = [write(f"{n}.json", journal) for n, journal in enumerate(versions(build))]

    await store.imported(*(paths[position] for position in order))

    scenario = await store.scenarios.get_by_id("scen_1")
    runs = await store.runs.get_by_scenario("scen_1")
    assert scenario is not None
    assert scenario.name == scenario.configuration["experiment"]["title"] == "version 3600"
    assert [run.configuration_snapshot["experiment"]["title"] for run in runs] == [
        "version 0",
        "version 60",
        "version 3600",
    ]


async def test_two_definitions_that_began_at_the_same_moment_end_the_same_in_any_order(
    write, build
):
    extensions = [{"scenario_id": "scen_1"}]
    paths = [
        write(
            f"{node}.json",
            build.journal(
                node=node, experiment=build.experiment(title=node, extensions=extensions)
            ),
        )
        for node in ("a", "b")
    ]
    forward, backward = Store(), Store()

    await forward.imported(*paths)
    await backward.imported(*reversed(paths))

    assert (await forward.held())["scenarios"] == (await backward.held())["scenarios"]


async def test_an_older_definition_that_broke_off_after_a_newer_one_does_not_win(
    store, write, build
):
    old, _, new = (write(f"{n}.json", one) for n, one in enumerate(versions(build)))
    store.fuse.writes = 1
    await store.imported(new)
    store.fuse.writes = None
    await store.imported(old)

    await store.imported(new)

    scenario = await store.scenarios.get_by_id("scen_1")
    assert scenario is not None
    assert scenario.name == "version 3600"


async def test_what_people_decided_about_a_scenario_survives_a_newer_definition(
    store, write, build
):
    old, _, new = (write(f"{n}.json", one) for n, one in enumerate(versions(build)))
    await store.imported(old)
    await store.scenarios.update_status("scen_1", ScenarioStatus.ARCHIVED)
    before = await store.scenarios.get_by_id("scen_1")

    await store.imported(new)

    scenario = await store.scenarios.get_by_id("scen_1")
    assert scenario is not None
    assert before is not None
    assert scenario.name == "version 3600"
    assert scenario.status is ScenarioStatus.ARCHIVED
    assert scenario.created_at == before.created_at


async def test_a_scenario_that_no_journal_made_is_left_alone(store, write, build):
    made = build.records(versions(build)[0]).scenario.model_copy(
        update={"created_by": "ada", "name": "by hand"}
    )
    await store.scenarios.create(made)

    (imported,) = await store.imported(write("a.json", versions(build)[2]))

    assert imported.outcome is Outcome.IMPORTED
    assert await store.scenarios.get_by_id("scen_1") == made


def found(*paths: Path) -> list[str]:
    return [
        str(one) if isinstance(one, Path) else f"{one.path}: {one.reason}"
        for one in find_journals(paths)
    ]


def test_a_folder_stands_for_every_json_file_below_it_in_order(tmp_path):
    for name in ("b.json", "a/z.json", "a/b/c.json", "notes.txt", "a.json.bak", "c.JSON"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    assert found(tmp_path) == [
        str(tmp_path / name) for name in ("a/b/c.json", "a/z.json", "b.json")
    ]


def test_a_file_is_taken_whatever_its_name(tmp_path):
    path = tmp_path / "journal.txt"
    path.touch()

    assert found(path) == [str(path)]


def test_a_path_that_leads_nowhere_is_refused(tmp_path):
    path = tmp_path / "none.json"

    assert found(path) == [f"{path}: there is no such file or folder"]


def test_a_folder_without_journals_is_refused(tmp_path):
    assert found(tmp_path) == [f"{tmp_path}: holds no *.json file"]


def test_a_name_that_no_file_can_have_is_refused():
    assert found(Path("a\0b")) == ["a\0b: cannot be read"]


def test_links_in_circles_are_no_trap(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "up").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "a.json").write_bytes(b"{}")
    (tmp_path / "b.json").symlink_to(tmp_path / "b.json")

    assert found(tmp_path) == [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    assert "cannot be read" in found(tmp_path / "b.json")[0]


def test_a_folder_that_cannot_be_listed_is_refused_beside_what_was_found(tmp_path, monkeypatch):
    (tmp_path / "a.json").touch()
    closed = tmp_path / "closed"
    closed.mkdir()
    listed = os.scandir

    def scandir(path):
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(closed))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)

    assert found(tmp_path) == [
        f"{closed}: cannot be read: Permission denied",
        str(tmp_path / "a.json"),
    ]


async def test_a_link_to_itself_is_one_refusal(store, tmp_path):
    loop = tmp_path / "b.json"
    loop.symlink_to(loop)

    (refused,) = await store.imported(tmp_path)

    assert refused.path == str(loop)
    assert "cannot be read" in (refused.reason or "")


async def test_a_file_that_vanishes_before_it_is_read_is_refused(store, write, build):
    path = write("a.json", build.journal())
    files = list(find_journals([path]))
    path.unlink()

    (refused,) = [one async for one in store.importer.import_files(files)]

    assert refused.reason == "there is no such file or folder"


async def test_a_file_above_the_limit_is_refused_unread(store, tmp_path):
    path = tmp_path / "huge.json"
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)

    (refused,) = await store.imported(path)

    assert refused.reason == "is larger than 64 MiB"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
async def test_a_pipe_is_refused_instead_of_waited_for(store, tmp_path):
    path = tmp_path / "pipe.json"
    os.mkfifo(path)

    (refused,) = await store.imported(tmp_path)

    assert refused.reason == "is not a regular file"


async def test_the_folder_of_a_file_that_is_no_journal_refuses_that_file_alone(store, write, build):
    write("a.json", build.journal())
    write("package.json", json.dumps({"name": "x", "version": "1"}).encode())

    imports = await store.imported(write("z.json", build.journal(node="z")).parent)

    assert [one.outcome for one in imports] == ["imported", "refused", "imported"]
