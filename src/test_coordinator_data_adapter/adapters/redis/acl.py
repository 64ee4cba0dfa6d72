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
    namespace: str,
    registry: str,
    *,
    whole_family: bool = False,
    topology: Topology = "standalone",
    database: int = 0,
) -> tuple[str, ...]:
    """What a user may do on the servers that hold the keys.

    Args:
        namespace: what every key of the cache starts with, without the colon that follows it;
            cached reads keep theirs beside these.
        registry: what every key of the service registry starts with, colon included.
        whole_family: whether the user serves all instances whose namespaces start with the same
            word, such as ``test:``, instead of this one.
        topology: a cluster wants to tell its clients where the keys are.
        database: one other than 0 has to be selected.

    Returns:
        Rules of ``ACL SETUSER`` that grant this, but for the password. They only add: a new user
        gets this and nothing else, and an existing one loses nothing.
    """
    own = (f"{namespace}:", f"{namespace}/reads:", registry)
    prefixes = dict.fromkeys(map(_family_of, own) if whole_family else own)
    return (
        *(f"~{escaped(prefix)}*" for prefix in prefixes),
        *(f"+{command}" for command in COMMANDS),
        *(f"+{command}" for command in (_CLUSTER if topology == "cluster" else ())),
        *(("+select",) if database else ()),
    )


def sentinel_acl_rules() -> tuple[str, ...]:
    """What a user may do on the Sentinels, which hold no keys: ask where the primary is."""
    return ("+sentinel|masters",)


def _family_of(prefix: str) -> str:
    word, _, _ = prefix.partition(":")
    return f"{word}:"
