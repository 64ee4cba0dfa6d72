"""Journals from files into the store, each wholly or not at all, and each only once."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConflictError,
    DuplicateError,
    InvalidValueError,
    NotFoundError,
    OverloadedError,
)
from test_coordinator_data_adapter.interfaces import (
    ChaosEventQuery,
    ChaosEventsRepository,
    ScenariosRepository,
    TestResultQuery,
    TestResultsRepository,
    TestRunsRepository,
)
from test_coordinator_data_adapter.journals.files import read_file
from test_coordinator_data_adapter.journals.mapping import Mapping
from test_coordinator_data_adapter.journals.records import (
    JournalRecords,
    defined_by,
    read_journal,
)
from test_coordinator_data_adapter.models import RunStatus, Scenario

__all__ = ["MAX_FILE_BYTES", "Import", "JournalImporter", "Outcome", "find_journals"]

MAX_FILE_BYTES: Final = 64 * 1024 * 1024
"""A larger file is refused unread."""

_ATTEMPTS: Final = 10


class Outcome(StrEnum):
    """What became of one journal."""

    IMPORTED = "imported"
    ALREADY_THERE = "already there"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Import:
    """What became of one file.

    Attributes:
        path: the file, as it was named or found.
        outcome: imported, already there or refused.
        reason: why it was refused, else None.
        scenario_id: the scenario its run belongs to, None when refused.
        run_id: its run, None when refused.
        run_status: the verdict, None when refused.
        events: how many chaos events it holds; 0 when refused.
        results: how many test results it holds; 0 when refused.
    """

    path: str
    outcome: Outcome
    reason: str | None = None
    scenario_id: str | None = None
    run_id: str | None = None
    run_status: RunStatus | None = None
    events: int = 0
    results: int = 0


def find_journals(paths: Iterable[str | os.PathLike[str]]) -> Iterator[Path | Import]:
    """The files that these paths stand for.

    A folder stands for every ``*.json`` below it, in the order of their names; links to
    folders inside it are not followed. A path that leads to no file comes out refused.
    """
    for named in paths:
        path = Path(named)
        try:
            if not stat.S_ISDIR(path.stat().st_mode):
                yield path
                continue
        except (OSError, ValueError) as broken:
            yield _refused(path, _system_reason(broken))
            continue
        found, unreadable = _files_below(path)
        yield from (_refused(Path(name), reason) for name, reason in unreadable)
        yield from found
        if not found and not unreadable:
            yield _refused(path, "holds no *.json file")


def _files_below(folder: Path) -> tuple[list[Path], list[tuple[str, str]]]:
    unreadable: list[tuple[str, str]] = []

    def note(broken: OSError) -> None:
        unreadable.append((os.fsdecode(broken.filename), _system_reason(broken)))

    found = [
        Path(held, name)
        for held, _, names in os.walk(folder, onerror=note)
        for name in names
        if name.endswith(".json")
    ]
    return sorted(found), unreadable


class JournalImporter:
    """Writes journals through the ports.

    The run is written last and is the commit mark: a run that is there has everything else
    too, and repeating an import that was interrupted completes it. Importing the same
    journal from several processes at once is safe.
    """

    def __init__(
        self,
        scenarios: ScenariosRepository,
        test_runs: TestRunsRepository,
        chaos_events: ChaosEventsRepository,
        test_results: TestResultsRepository,
        mapping: Mapping,
    ) -> None:
        self._scenarios = scenarios
        self._test_runs = test_runs
        self._chaos_events = chaos_events
        self._test_results = test_results
        self._mapping = mapping

    async def import_files(self, files: Iterable[Path | Import]) -> AsyncIterator[Import]:
        """Imports file after file; what `find_journals` refused already passes through.

        Yields:
            What became of each, in order. When the store fails, that file and all later
            ones are refused with its reason, without asking it again and again.
        """
        failed: str | None = None
        for file in files:
            if isinstance(file, Import):
                yield file
            elif failed is not None:
                yield _refused(file, failed)
            else:
                try:
                    yield await self.import_file(file)
                except AdapterError as broken:
                    failed = f"not stored: {broken} (repeating the import is safe)"
                    yield _refused(file, failed)

    async def import_file(self, path: Path) -> Import:
        """Imports one file.

        Raises:
            AdapterError: the store failed; the run is not there, unless it is
                `OutcomeUnknownError`. A bad file raises nothing: it comes back refused.
        """
        try:
            content = await asyncio.to_thread(read_file, path, max_bytes=MAX_FILE_BYTES)
            records = read_journal(content, self._mapping)
        except (OSError, ValueError) as broken:
            reason = str(broken) if isinstance(broken, InvalidValueError) else ""
            return _refused(path, reason or _system_reason(broken))
        return await self._store(str(path), records)

    async def _store(self, path: str, records: JournalRecords) -> Import:
        run = await self._test_runs.get_by_id(records.run.run_id)
        outcome = Outcome.ALREADY_THERE
        if run is None:
            await self._store_scenario(records.scenario)
            await self._store_results(records)
            await self._store_events(records)
            try:
                run = await self._test_runs.create(records.run)
                outcome = Outcome.IMPORTED
            except DuplicateError:
                run = records.run  # another process was importing the same journal
        return Import(
            path=path,
            outcome=outcome,
            scenario_id=run.scenario_id,
            run_id=run.run_id,
            run_status=run.status,
            events=len(records.events),
            results=len(records.results),
        )

    async def _store_scenario(self, wanted: Scenario) -> None:
        """Of all definitions under one id, the one of the newest journal ends up there."""
        mine = defined_by(wanted)
        for _ in range(_ATTEMPTS):
            held = await self._scenarios.get_by_id(wanted.scenario_id)
            try:
                if held is None:
                    await self._scenarios.create(wanted)
                elif mine and (theirs := defined_by(held)) and theirs < mine:
                    # whether it is in use is for people to decide, not for a journal
                    await self._scenarios.update(
                        wanted.model_copy(update={"status": held.status}),
                        if_unchanged_since=held.updated_at,
                    )
            except (ConflictError, DuplicateError, NotFoundError):
                continue  # it changed under our hands: look again
            return
        raise OverloadedError(
            "the scenario keeps changing; import again when nobody else is writing it",
            entity=wanted.entity_name,
            id=wanted.scenario_id,
        )

    async def _store_results(self, records: JournalRecords) -> None:
        query = TestResultQuery(run_id=records.run.run_id)
        for _ in range(_ATTEMPTS):
            held = {result.result_id for result in await self._test_results.list_matching(query)}
            missing = [result for result in records.results if result.result_id not in held]
            try:
                await self._test_results.bulk_create(missing)
            except DuplicateError:
                continue  # another process is importing the same journal
            return
        raise OverloadedError(
            "several imports of one journal keep meeting; import it again",
            entity="test_run",
            id=records.run.run_id,
        )

    async def _store_events(self, records: JournalRecords) -> None:
        query = ChaosEventQuery(run_id=records.run.run_id)
        held = {event.event_id for event in await self._chaos_events.list_matching(query)}
        for event in records.events:
            if event.event_id not in held:
                try:
                    await self._chaos_events.create(event)
                except DuplicateError:
                    continue  # the same event, from another import of this journal


def _refused(path: Path, reason: str) -> Import:
    return Import(path=str(path), outcome=Outcome.REFUSED, reason=reason)


def _system_reason(broken: Exception) -> str:
    if isinstance(broken, FileNotFoundError):
        return "there is no such file or folder"
    if isinstance(broken, OSError) and broken.strerror:
        return f"cannot be read: {broken.strerror}"
    return "cannot be read"
