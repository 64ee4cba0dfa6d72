"""`import`: what other tools recorded."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from test_coordinator_data_adapter.cli.program import (
    CommandError,
    ExitCode,
    add_command,
    new_group,
    run,
)
from test_coordinator_data_adapter.cli.screen import colored, errors, plain, say, show, table
from test_coordinator_data_adapter.cli.store import AllowDegraded, Store, opened
from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.journals import (
    Import,
    JournalImporter,
    Mapping,
    Outcome,
    find_journals,
    load_mapping,
    shipped_mapping,
)

__all__ = ["exit_if_refused", "import_journals", "register", "summary"]

_MANY = 2


def register(app: typer.Typer) -> None:
    """Adds the group `import`."""
    group = new_group("Import what other tools recorded.")
    add_command(group, "chaostoolkit", chaostoolkit)
    app.add_typer(group, name="import")


def chaostoolkit(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="PATH...",
            help="Journals, or folders: every *.json below them.",
            show_default=False,
        ),
    ],
    *,
    mapping_file: Annotated[
        Path | None,
        typer.Option(
            "--map",
            metavar="FILE",
            help="TOML that says which fault and which assertion an activity is.",
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
    allow_degraded: AllowDegraded = False,
) -> None:
    """Import Chaos Toolkit journals.

    The import of a journal is atomic, and happens once: importing it again changes nothing.
    Exit code 0 only when no journal was refused; 1 when one was, 2 when an option, a setting
    or the mapping file is wrong, 3 when the database cannot be used.
    """

    async def command() -> tuple[list[Import], Store]:
        mapping = _mapping(mapping_file)
        async with opened(allow_degraded=allow_degraded) as store:
            return await import_journals(store, paths, mapping), store

    imports, store = run(command)
    told = [f"Held in {store.backend}.", *([store.advice] if store.advice else [])]
    if as_json:
        answer = {"backend": store.name, "journals": [_as_json(one) for one in imports]}
        typer.echo(json.dumps(answer))
        say("\n".join(told))
    else:
        show(_journals(imports), "\n".join([f"{summary(imports)}.", *told]))
    exit_if_refused(imports, say_why=not as_json)


async def import_journals(store: Store, paths: Sequence[Path], mapping: Mapping) -> list[Import]:
    """Imports what these paths stand for, with a progress bar when there is much to watch.

    Raises:
        CommandError: Ctrl-C or SIGTERM ended the import; says how far it got.
    """
    factory = store.factory
    importer = JournalImporter(
        factory.get_scenarios_repository(),
        factory.get_test_runs_repository(),
        factory.get_chaos_events_repository(),
        factory.get_test_results_repository(),
        mapping,
    )
    files = list(find_journals(paths))
    console = errors()
    bar = Progress(
        TextColumn("importing"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    task = bar.add_task("importing", total=len(files))
    watched = console.is_terminal and len(files) >= _MANY
    imports: list[Import] = []
    try:
        with bar if watched else nullcontext():
            async for one in importer.import_files(files):
                imports.append(one)
                bar.advance(task)
    except asyncio.CancelledError:
        raise _interrupted(imports, len(files)) from None
    return imports


def _mapping(file: Path | None) -> Mapping:
    try:
        return shipped_mapping() if file is None else load_mapping(file)
    except ConfigurationError as error:
        raise CommandError(str(error)) from None


def _interrupted(imports: Sequence[Import], total: int) -> CommandError:
    so_far = f" ({summary(imports)})" if imports else ""
    return CommandError(
        f"Interrupted after {len(imports)} of {total} journals{so_far}. Run the command again to"
        " import the rest.",
        ExitCode.INTERRUPTED,
        total=total,
        journals=[_as_json(one) for one in imports],
    )


def _as_json(one: Import) -> dict[str, object]:
    return {
        "path": one.path,
        "outcome": one.outcome,
        "reason": one.reason,
        "scenario_id": one.scenario_id,
        "run_id": one.run_id,
        "run_status": one.run_status,
        "events": one.events,
        "results": one.results,
    }


def summary(imports: Sequence[Import]) -> str:
    """How many had which outcome, in words."""
    counts = Counter(one.outcome for one in imports)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome if counts[outcome])


def exit_if_refused(imports: Sequence[Import], *, say_why: bool = True) -> None:
    """Tells each refusal with its path on standard error, and ends the command if there is one.

    Raises:
        typer.Exit: at least one was refused.
    """
    refused = [one for one in imports if one.outcome is Outcome.REFUSED]
    if say_why:
        for one in refused:
            say(f"\n{plain(one.path)}: {one.reason}")
    if refused:
        raise typer.Exit(ExitCode.NEGATIVE)


def _journals(imports: Sequence[Import]) -> Table:
    shown = table(
        "Journals",
        ("Journal", "Outcome", "Verdict", "Scenario", "Events", "Results"),
        right=("Events", "Results"),
    )
    for one in imports:
        held = one.outcome is not Outcome.REFUSED
        shown.add_row(
            plain(Path(one.path).name or one.path),  # "." has no name
            colored(one.outcome),
            colored(one.run_status or "-"),
            plain(one.scenario_id or "-"),
            str(one.events) if held else "-",
            str(one.results) if held else "-",
        )
    return shown
