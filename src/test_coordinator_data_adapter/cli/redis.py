"""``redis``: what an administrator of Redis needs."""

from __future__ import annotations

import sys
from hashlib import sha256
from typing import Annotated

import typer

from test_coordinator_data_adapter.cli.program import add_command, new_group, run
from test_coordinator_data_adapter.config import AdapterConfig
from test_coordinator_data_adapter.errors import ConfigurationError

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
    instance: Annotated[
        bool,
        typer.Option(
            "--instance",
            help="Print a user of the configured instance's own, who cannot reach other instances.",
        ),
    ] = False,
    password_stdin: Annotated[
        bool,
        typer.Option(
            "--password-stdin", help="Read the password from stdin and print its SHA-256 hash."
        ),
    ] = False,
) -> None:
    """Print the user with the least rights this library needs, for all instances of the family.

    The commands only add rights: they can be repeated, and take nothing from a user that exists.
    Without --password-stdin, put a password in the place of PASSWORD. Behind Sentinels, a second
    line is for these. Exit code 0 when it is printed, 2 when a setting or the password is wrong.
    """

    async def command() -> list[str]:
        password = _hashed(sys.stdin.read()) if password_stdin else ">PASSWORD"
        return _lines("user" if file else "ACL SETUSER", password, AdapterConfig(), instance)

    for line in run(command, offline=True):
        sys.stdout.write(f"{line}\n")


def _hashed(password: str) -> str:
    # `echo` ends it with a line break, `printf` does not: no password contains one.
    password = password.removesuffix("\n").removesuffix("\r")
    if not password:
        raise ConfigurationError("--password-stdin: the password is empty")
    return f"#{sha256(password.encode()).hexdigest()}"


def _lines(command: str, password: str, config: AdapterConfig, instance: bool) -> list[str]:  # noqa: FBT001 - private
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
    rules = [
        acl_rules(
            config.redis_namespace,
            registry,
            whole_family=not instance,
            topology=address.topology,
            database=address.database,
        )
    ]
    if address.topology == "sentinel":
        rules.append(sentinel_acl_rules())
    user = config.service_instance_name if instance else USER
    return [f"{command} {user} on {password} {' '.join(some)}" for some in rules]
