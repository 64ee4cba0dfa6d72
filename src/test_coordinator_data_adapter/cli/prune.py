"""`prune`: delete what was kept long enough."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Table

from test_coordinator_data_adapter.cli.program import add_command, run
from test_coordinator_data_adapter.cli.screen import errors, say, show, table
from test_coordinator_data_adapter.cli.store import Store, opened
from test_coordinator_data_adapter.interfaces.retention import KINDS, Kind, RetentionReport

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the command `prune`."""
    add_command(app, "prune", prune)


def prune(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only report what would be deleted.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Delete what is older than the *_retention_days of the settings.

    Pending and running runs stay, and the last retention_keep_last_runs of each scenario,
    with all that hangs on them. It can be broken off and repeated at any time. Exit code 0
    when it is done, 2 when a setting is wrong, 3 when the database cannot be used.
    """

    async def command() -> tuple[RetentionReport, Store]:
        async with opened(needed=True) as store:
            console = errors()
            bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                console=console,
                transient=True,
            )
            tasks: dict[Kind, TaskID] = {}

            def advance(kind: Kind, gone: int, of: int) -> None:
                if kind not in tasks:
                    tasks[kind] = bar.add_task(_words(kind), total=of)
                bar.update(tasks[kind], completed=gone, total=of)

            with bar if console.is_terminal and not dry_run else nullcontext():
                report = await store.factory.prune_expired(dry_run=dry_run, on_progress=advance)
            return report, store

    report, store = run(command)
    if as_json:
        typer.echo(json.dumps({"backend": store.name, **_as_json(report)}))
        say(f"Held in {store.backend}.")
        return
    done = "Nothing was deleted: a dry run" if report.dry_run else "Done"
    show(_kinds(report), f"{done}.\nHeld in {store.backend}.")


def _kinds(report: RetentionReport) -> Table:
    going = "Would go" if report.dry_run else "Deleted"
    drawn = table("Retention", ["Kind", "Old", going, "Kept", "Why"], right=["Old", going, "Kept"])
    for kind in KINDS:
        one = report.kinds[kind]
        why = ", ".join(f"{number} {_words(reason)}" for reason, number in one.kept.items())
        drawn.add_row(
            _words(kind), str(one.examined), str(one.pruned), str(sum(one.kept.values())), why
        )
    return drawn


def _words(name: str) -> str:
    return name.replace("_", " ")


def _as_json(report: RetentionReport) -> dict[str, object]:
    return {
        "dry_run": report.dry_run,
        "kinds": {
            kind: {"examined": one.examined, "pruned": one.pruned, "kept": dict(one.kept)}
            for kind, one in report.kinds.items()
        },
    }
