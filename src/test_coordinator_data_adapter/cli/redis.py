"""``redis``: what an administrator of Redis needs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from test_coordinator_data_adapter.cli.program import add_command, new_group, run
from test_coordinator_data_adapter.config import AdapterConfig

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = new_group("Prepare Redis.")
    add_command(group, "acl", _acl)
    app.add_typer(group, name="redis")


def _acl(
    *,
    file: Annotated[
        bool, typer.Option("--file", help="Print lines for an aclfile, not commands for redis-cli.")
    ] = False,
) -> None:
    """Print the user with the least rights this library needs for its keys.

    Put a password in the place of PASSWORD. Behind Sentinels a second line says what the same user
    needs on these. Exit code 0 when it is printed, 2 when a setting is wrong.
    """

    async def command() -> list[str]:
        return _lines("user {} on" if file else "ACL SETUSER {} reset on", AdapterConfig())

    for line in run(command, offline=True):
        sys.stdout.write(f"{line}\n")


def _lines(head: str, config: AdapterConfig) -> list[str]:
    from test_coordinator_data_adapter.adapters.redis.acl import USER, acl_rules, sentinel_acl_rules
    from test_coordinator_data_adapter.adapters.redis.address import KeyspaceSettings, parse_address

    registry = f"{config.redis_registry}:"
    address = parse_address(
        KeyspaceSettings(
            url=config.redis_url,
            namespace=config.redis_namespace,
            registry=registry,
            cluster=config.redis_cluster,
        )
    )
    users = [
        acl_rules(
            config.redis_namespace,
            registry,
            topology=address.topology,
            database=address.database,
        )
    ]
    if address.topology == "sentinel":
        users.append(sentinel_acl_rules())
    return [f"{head.format(USER)} >PASSWORD {' '.join(rules)}" for rules in users]
