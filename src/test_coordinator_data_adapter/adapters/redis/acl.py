"""The least rights with which everything here works, as Redis writes them."""

from __future__ import annotations

from typing import Final

from test_coordinator_data_adapter.adapters.redis.address import Topology
from test_coordinator_data_adapter.adapters.redis.pattern import escaped

__all__ = ["COMMANDS", "USER", "acl_rules", "sentinel_acl_rules"]

USER: Final = "test-coordinator-adapter"
"""The user that the rights are meant for."""

COMMANDS: Final = (
    "exists",
    "expire",
    "get",
    "hdel",
    "hgetall",
    "hset",
    "incrby",
    "mget",
    "pexpire",
    "pttl",
    "sadd",
    "scan",
    "set",
    "smembers",
    "srem",
    "unlink",
    "zadd",
    "zmscore",
    "zrange",
    "zrem",
    "zremrangebyscore",
    "zscore",
)
"""Every command that is ever sent to the servers that hold the keys.

AUTH and HELLO come before there is a user: nobody needs a right for them.
"""

# redis-py's own client, which callers may ask for, sends COMMAND.
_CLUSTER: Final = ("asking", "cluster|slots", "command")


def acl_rules(
    namespace: str, registry: str, *, topology: Topology = "standalone", database: int = 0
) -> tuple[str, ...]:
    """What a user may do on the servers that hold the keys.

    Args:
        namespace: what every key of the cache starts with, without the colon that follows it;
            cached reads keep theirs beside these.
        registry: what every key of the service registry starts with, colon included.
        topology: a cluster wants to tell its clients where the keys are.
        database: one other than 0 has to be selected.

    Returns:
        Rules of ``ACL SETUSER`` that grant this and nothing else, but for the password.
    """
    return (
        "resetkeys",
        f"~{escaped(namespace)}:*",
        f"~{escaped(namespace)}/reads:*",
        f"~{escaped(registry)}*",
        "resetchannels",
        "-@all",
        *(f"+{command}" for command in COMMANDS),
        *(f"+{command}" for command in (_CLUSTER if topology == "cluster" else ())),
        *(("+select",) if database else ()),
    )


def sentinel_acl_rules() -> tuple[str, ...]:
    """What a user may do on the Sentinels, which hold no keys: ask where the primary is."""
    return ("resetkeys", "resetchannels", "-@all", "+sentinel|masters")
