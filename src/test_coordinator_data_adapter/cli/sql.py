"""`sql`: statements that an administrator reads before running them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from test_coordinator_data_adapter.cli.program import CommandError, add_command, new_group, run
from test_coordinator_data_adapter.config import AdapterConfig

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Adds the group `sql`."""
    group = new_group("Print SQL for an administrator.")
    group.callback()(_sql)
    add_command(group, "roles", roles)
    app.add_typer(group, name="sql")


def _sql() -> None:
    # Without it, a group of one command is that command.
    pass


def roles(
    *,
    owner: Annotated[
        str, typer.Option("--owner", metavar="ROLE", help="The role that migrates.")
    ] = "test_coordinator_owner",
    auditor: Annotated[
        str,
        typer.Option(
            "--auditor",
            metavar="ROLE",
            help="The role that looks after the audit trail. Under another name than the usual one"
            " it needs these statements once more after the first migration.",
        ),
    ] = "test_coordinator_auditor",
) -> None:
    """Print what creates the three roles and the schema; running it again is harmless.

    The names of the database, the schema and the service's role are those of the
    configuration. Run it as a superuser, in that database, before the first migration:

        test-coordinator-adapter sql roles | psql --set ON_ERROR_STOP=1 "$ADMIN_URL"

    Exit code 0 when it is printed, 2 when a setting is wrong.
    """

    async def command() -> list[str]:
        from test_coordinator_data_adapter.adapters.postgres.endpoint import user_and_database
        from test_coordinator_data_adapter.adapters.postgres.roles import role_statements

        config = AdapterConfig()
        role, database = user_and_database(config.postgres_url)
        if not role or not database:
            raise CommandError(
                "postgres_url has to name the service's role and the database:"
                " postgresql://role:password@host/database"
            )
        return role_statements(
            database=database,
            schema=config.postgres_schema,
            owner=owner,
            role=role,
            auditor=auditor,
        )

    statements = run(command, offline=True)
    sys.stdout.write("".join(f"{statement};\n" for statement in statements))
