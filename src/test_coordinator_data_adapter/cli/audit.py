"""`audit`: read the audit trail, seal it, and see whether it is as it was sealed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer
from rich.table import Table

from test_coordinator_data_adapter.backends import postgres_tls
from test_coordinator_data_adapter.cli.program import ExitCode, add_command, new_group, run
from test_coordinator_data_adapter.cli.screen import plain, say, show, table
from test_coordinator_data_adapter.cli.store import administrators_url, opened
from test_coordinator_data_adapter.config import AdapterConfig
from test_coordinator_data_adapter.errors import ConfigurationError
from test_coordinator_data_adapter.interfaces.audit import AuditRepository
from test_coordinator_data_adapter.interfaces.queries import AuditQuery
from test_coordinator_data_adapter.models.audit import AuditKind, AuditRecord
from test_coordinator_data_adapter.models.values import utc_now

if TYPE_CHECKING:
    from test_coordinator_data_adapter.adapters.postgres.database import Database
    from test_coordinator_data_adapter.adapters.postgres.seals import Seals

__all__ = ["register"]

_AT_ONCE: Final = 1000
_DIGEST: Final = re.compile("[0-9a-f]{64}")
# As far back as a time can be kept.
_LONGEST_DAYS: Final = 20_000

ResultT = TypeVar("ResultT")

_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]

_AuditorsUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="The auditor's connection; the service's own database unless given.",
    ),
]
_OwnersUrl = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="The owner's or the auditor's connection; migration_url of the configuration unless"
        " given, or else postgres_url.",
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the group `audit`."""
    group = new_group("Who changed what, when and why.")
    add_command(group, "history", history)
    add_command(group, "export", export)
    add_command(group, "seal", seal)
    add_command(group, "verify", verify)
    add_command(group, "prune", prune)
    app.add_typer(group, name="audit")


def history(
    kind: Annotated[
        AuditKind,
        typer.Argument(
            metavar="KIND", help=f"What it is: {', '.join(kind.value for kind in AuditKind)}."
        ),
    ],
    entity_id: Annotated[str, typer.Argument(metavar="ID", help="Which one; it may be gone.")],
    *,
    url: _AuditorsUrl = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line and nothing else.")
    ] = False,
) -> None:
    """Show everything that was done to one entity.

    Exit code 0 when it is shown, 2 when an option or a setting is wrong, 3 when the database
    cannot be used.
    """

    async def read(trail: AuditRepository) -> list[AuditRecord]:
        return await trail.history(kind, entity_id)

    records = _with_trail(url, read)
    if as_json:
        for record in records:
            _write(record)
    elif records:
        show(_drawn(f"{kind.value} {plain(entity_id)}", records))
    else:
        say("Nothing is recorded of it.")


def export(
    *,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Only what was recorded then or later: ISO 8601 with a time zone.",
        ),
    ] = None,
    url: _AuditorsUrl = None,
) -> None:
    """Print the trail as JSON Lines, oldest first, as it comes from the database.

    Exit code 0 when all of it is printed, 2 when an option or a setting is wrong, 3 when the
    database cannot be used.
    """
    moment = None if since is None else _moment(since)

    async def printed(trail: AuditRepository) -> None:
        query = AuditQuery(recorded_since=moment)
        async for record in trail.stream(query, batch_size=_AT_ONCE):
            _write(record)

    _with_trail(url, printed)


def seal(*, url: _OwnersUrl = None, as_json: _AsJson = False) -> None:
    """Seal every record so far, and print the digest to be kept elsewhere.

    Exit code 0 when it is done, 2 when an option or a setting is wrong, 3 when PostgreSQL
    cannot be used.
    """
    verdict = _with_seals(url, lambda seals: seals.seal())
    if as_json:
        sealed = {"seals": verdict.seals, "records": verdict.records, "digest": verdict.digest}
        typer.echo(json.dumps(sealed))
        return
    say(f"Records sealed: {verdict.records}.")
    if verdict.digest is not None:
        typer.echo(verdict.digest)


def verify(
    *,
    url: _OwnersUrl = None,
    anchor: Annotated[
        str | None,
        typer.Option("--anchor", metavar="DIGEST", help="What `audit seal` printed once."),
    ] = None,
    first: Annotated[
        int, typer.Option("--from", min=1, metavar="SEAL", help="The seal to begin with.")
    ] = 1,
    as_json: _AsJson = False,
) -> None:
    """Compare every sealed record with what it was, and name the first that differs.

    Exit code 0 when nothing differs, 1 when something does, 2 when an option or a setting is
    wrong, 3 when PostgreSQL cannot be used.
    """
    kept = None if anchor is None else anchor.strip().lower()
    if kept is not None and not _DIGEST.fullmatch(kept):
        raise typer.BadParameter("must be the 64 hexadecimal digits", param_hint="--anchor")
    verdict = _with_seals(url, lambda seals: seals.verify(anchor=kept, first=first))
    if as_json:
        typer.echo(json.dumps(asdict(verdict)))
    else:
        counted = (
            f"Seals: {verdict.seals}. Records: {verdict.records}. Not sealed: {verdict.unsealed}."
        )
        say(counted)
        typer.echo(verdict.problem or "nothing differs")
    if verdict.problem is not None:
        raise typer.Exit(ExitCode.NEGATIVE)


def prune(*, url: _OwnersUrl = None, as_json: _AsJson = False) -> None:
    """Delete sealed records older than audit_retention_days, whole seals at a time.

    What is not sealed stays. Exit code 0 when it is done, 2 when an option or a setting is
    wrong, 3 when PostgreSQL cannot be used.
    """
    days = run(_retention_days)
    if days == 0:
        if as_json:
            typer.echo(json.dumps({"records": 0, "first_seal": None}))
            return
        say("audit_retention_days is 0: everything is kept.")
        return
    before = utc_now() - timedelta(days=days)
    pruned = _with_seals(url, lambda seals: seals.prune(before))
    if as_json:
        typer.echo(json.dumps(asdict(pruned)))
        return
    say(f"Records deleted: {pruned.records}. Verify with --from {pruned.first_seal}.")


async def _retention_days() -> int:
    config = AdapterConfig()
    return min(config.audit_retention_days, _LONGEST_DAYS)


def _with_trail(url: str | None, read: Callable[[AuditRepository], Awaitable[ResultT]]) -> ResultT:
    """What a function reads from the trail: in the database of a URL, or in the service's own."""

    async def in_store() -> ResultT:
        async with opened(needed=True) as store:
            return await read(store.factory.get_audit_repository())

    async def in_database(database: Database) -> ResultT:
        from test_coordinator_data_adapter.adapters.postgres.audit import PostgresAuditRepository

        return await read(PostgresAuditRepository(database))

    return run(in_store) if url is None else _with_database(url, in_database)


def _with_seals(url: str | None, work: Callable[[Seals], Awaitable[ResultT]]) -> ResultT:
    async def in_database(database: Database) -> ResultT:
        from test_coordinator_data_adapter.adapters.postgres.seals import Seals

        return await work(Seals(database))

    return _with_database(url, in_database)


def _with_database(url: str | None, work: Callable[[Database], Awaitable[ResultT]]) -> ResultT:
    async def command() -> ResultT:
        from test_coordinator_data_adapter.adapters.postgres.database import Database
        from test_coordinator_data_adapter.adapters.postgres.settings import DatabaseSettings
        from test_coordinator_data_adapter.adapters.postgres.translation import FORBIDDEN

        config = AdapterConfig()
        auditor = administrators_url(config, url)
        settings = DatabaseSettings(
            url=auditor,
            schema=config.postgres_schema,
            query_timeout=config.query_timeout,
            tls=postgres_tls(config, auditor),
        )
        database = Database(settings)
        try:
            return await work(database)
        except ConfigurationError as refused:
            if refused.sqlstate != FORBIDDEN:
                raise
            raise ConfigurationError(
                "the role of this URL may not do that: give the owner's or the auditor's, as"
                " migration_url or with --url",
                sqlstate=FORBIDDEN,
            ) from None
        finally:
            await database.aclose()

    return run(command)


def _moment(written: str) -> datetime:
    moment: datetime | None = None
    with suppress(ValueError):
        moment = datetime.fromisoformat(written)
    if moment is None or moment.tzinfo is None:
        raise typer.BadParameter(
            "must be a time with a time zone, such as 2026-05-06T07:08:09Z", param_hint="--since"
        )
    return moment


def _write(record: AuditRecord) -> None:
    sys.stdout.write(f"{record.model_dump_json()}\n")


def _drawn(title: str, records: list[AuditRecord]) -> Table:
    drawn = table(title, ["When", "What", "Who", "Changed", "Why"])
    for record in records:
        changed = sorted(record.before or {}) if record.before and record.after else []
        drawn.add_row(
            record.recorded_at.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00"),
            record.operation.value if record.count == 1 else f"{record.operation} ({record.count})",
            plain(record.actor),
            ", ".join(changed),
            plain(record.reason or ""),
        )
    return drawn
