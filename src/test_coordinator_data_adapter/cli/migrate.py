"""`migrate`: bring the schema in PostgreSQL to the revision this library works with."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from test_coordinator_data_adapter.backends import postgres_tls
from test_coordinator_data_adapter.cli.program import ExitCode, add_command, run
from test_coordinator_data_adapter.cli.screen import say
from test_coordinator_data_adapter.cli.store import administrators_url
from test_coordinator_data_adapter.config import AdapterConfig

if TYPE_CHECKING:
    from test_coordinator_data_adapter.adapters.postgres.migration import SchemaState

__all__ = ["application_role", "register"]


def register(app: typer.Typer) -> None:
    """Adds the command `migrate`."""
    add_command(app, "migrate", migrate_schema)


def migrate_schema(
    *,
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; say whether there is anything to do.")
    ] = False,
    sql: Annotated[
        bool, typer.Option("--sql", help="Print the statements instead of running them.")
    ] = False,
    url: Annotated[
        str | None,
        typer.Option(
            "--url",
            metavar="URL",
            help="The owner's connection; migration_url of the configuration unless given,"
            " or else postgres_url.",
        ),
    ] = None,
    revision: Annotated[
        str,
        typer.Option(
            "--to", metavar="REVISION", help="Go there, up or down: a revision, head or base."
        ),
    ] = "head",
    start: Annotated[
        str,
        typer.Option(
            "--from", metavar="REVISION", help="With --sql, the revision that the schema has."
        ),
    ] = "base",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object and nothing else.")
    ] = False,
) -> None:
    """Bring the schema to the newest revision, or to another one.

    Any number of processes may do so at once. What was done, or is to be done, is told
    on standard error, with --json on standard output.

    Exit code 0 when it is done; with --check 0 when the schema is up to date, and 1 when
    it is missing or at another revision. 2 when an option or a setting is wrong, 3 when
    PostgreSQL cannot be used.
    """
    if check and revision != "head":
        raise typer.BadParameter("cannot be combined with --check", param_hint="--to")
    if check and sql:
        raise typer.BadParameter("cannot be combined with --check", param_hint="--sql")
    if url is not None and sql:
        raise typer.BadParameter("cannot be combined with --sql", param_hint="--url")
    if as_json and sql:
        raise typer.BadParameter("cannot be combined with --sql", param_hint="--json")
    if start != "base" and not sql:
        raise typer.BadParameter(
            "is for --sql alone: otherwise the schema is asked", param_hint="--from"
        )

    async def command() -> tuple[SchemaState, SchemaState]:
        from test_coordinator_data_adapter.adapters.postgres.migration import (
            migrate,
            schema_state_at,
        )

        config = AdapterConfig()
        owner = administrators_url(config, url)
        tls = postgres_tls(config, owner)
        schema = config.postgres_schema
        if check:
            state = await schema_state_at(owner, schema, tls=tls)
            return state, state
        before = await migrate(
            owner, schema, revision=revision, role=application_role(config), tls=tls
        )
        return before, await schema_state_at(owner, schema, tls=tls)

    async def script() -> str:
        from test_coordinator_data_adapter.adapters.postgres.migration import migration_sql

        config = AdapterConfig()
        return migration_sql(
            config.postgres_schema, start=start, revision=revision, role=application_role(config)
        )

    if sql:
        sys.stdout.write(run(script, offline=True))
        return
    before, after = run(command)
    if as_json:
        typer.echo(json.dumps(_as_json(before, after)))
    else:
        say(_checked(after) if check else _moved(before, after))
    if check and not after.is_current:
        raise typer.Exit(ExitCode.NEGATIVE)


def application_role(config: AdapterConfig) -> str:
    """The role the service runs as: the one of its own URL.

    Raises:
        ConfigurationError: that URL cannot be read.
    """
    from test_coordinator_data_adapter.adapters.postgres.endpoint import user_and_database

    return user_and_database(config.postgres_url)[0]


def _moved(before: SchemaState, after: SchemaState) -> str:
    there = after.found or "nothing"
    if before.found != after.found:
        return f"Schema {after.schema}: {before.found or 'nothing'} -> {there}."
    # Where it was sent, perhaps down on purpose: nothing is wrong with that.
    return _checked(after) if after.is_current else f"Schema {after.schema}: {there} already."


def _checked(state: SchemaState) -> str:
    if state.is_current:
        return f"Schema {state.schema}: up to date at revision {state.found}."
    return f"{state.problem[:1].upper()}{state.problem[1:]}."


def _as_json(before: SchemaState, after: SchemaState) -> dict[str, object]:
    return {
        "schema": after.schema,
        "before": before.found,
        "found": after.found,
        "wanted": after.wanted,
        "problem": None if after.is_current else after.problem,
    }
