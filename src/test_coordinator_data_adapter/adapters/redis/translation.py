"""What redis-py and the sockets beneath it raise, in this library's terms."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final

from redis import exceptions

from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    DataIntegrityError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)

__all__ = ["DRIVER_ERRORS", "SERVES_NOBODY", "Phase", "code_of", "translate"]

DRIVER_ERRORS: Final = (exceptions.RedisError, exceptions.RedisClusterException, OSError)
"""All that a trip can fail with; `TimeoutError` is an `OSError`."""


class Phase(Enum):
    """How far a trip had come when it failed."""

    WAITING = auto()
    """for a free connection"""
    CONNECTING = auto()
    """nothing of it has been sent"""
    SENT = auto()
    """some of it may have been sent"""


_DENIED: Final = frozenset({"NOAUTH", "NOPERM", "WRONGPASS"})
_NOT_NOW: Final = {
    "BUSY": "it is busy with a script",
    "CLUSTERDOWN": "its cluster is down",
    "LOADING": "it is still loading its data",
    "MASTERDOWN": "its link to the primary is down",
    "MISCONF": "it cannot write its own disk",
    "NOREPLICAS": "too few replicas are connected",
    "OOM": "its memory is full",
    "READONLY": "it is a replica, or has become one",
    "TRYAGAIN": "its cluster is moving the keys",
    "UNBLOCKED": "it has become a replica",
}
SERVES_NOBODY: Final = frozenset({"BUSY", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "TRYAGAIN"})
"""Refusals of whatever is asked; the others refuse one kind of command, such as writes."""
_MOVED: Final = frozenset({"ASK", "CROSSSLOT", "MOVED"})
_BEFORE_SENDING: Final = (ConnectionRefusedError, FileNotFoundError, socket.gaierror)
_CUT: Final = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


def code_of(error: exceptions.ResponseError) -> str:
    """The first word of an error reply: what Redis promises not to change."""
    if error.status_code:
        return error.status_code
    text = str(error.args[0]) if error.args else ""
    return text.partition(" ")[0]


def translate(error: BaseException, *, phase: Phase, writes: bool) -> AdapterError:
    """The error the caller is to see.

    Args:
        error: what was raised, or an error reply; what caused it is looked at too.
        phase: how far the trip had come.
        writes: whether the trip changes anything.
    """
    if phase is Phase.WAITING or _any(error, exceptions.MaxConnectionsError):
        return OverloadedError(
            "no connection to Redis became free in time: call less at once, or raise"
            " redis_pool_size or redis_pool_timeout"
        )
    if any(map(_is_max_clients, _chain(error))):
        return OverloadedError(
            "Redis accepts no more connections, its maxclients limit is reached: close unused"
            " connections, raise maxclients, or lower redis_pool_size or the number of processes"
        )
    for cause in _chain(error):
        refused = _refused(cause, phase)
        if refused is not None:
            return refused
    if phase is Phase.CONNECTING or _any(error, _BEFORE_SENDING):
        return UnavailableError("Redis cannot be reached: check that it runs, and try again")
    if writes:
        return OutcomeUnknownError(
            "Redis did not answer: the change may or may not have been applied;"
            " read before repeating it"
        )
    return UnavailableError("Redis did not answer: try again")


def _refused(error: BaseException, phase: Phase) -> AdapterError | None:
    """What a refusal means; a refused command was not applied, however far it had come."""
    if isinstance(error, exceptions.AuthenticationError | exceptions.AuthorizationError):
        return _denied()
    if isinstance(error, exceptions.BusyLoadingError):
        return _not_now("LOADING")
    if isinstance(error, exceptions.ResponseError):
        return _replied(code_of(error), phase)
    # Once a request was sent, a record that cannot be decrypted says nothing about its outcome.
    is_tls_failure = isinstance(error, ssl.SSLError) and not isinstance(error, _CUT)
    if is_tls_failure and phase is Phase.CONNECTING:
        return ConfigurationError(
            "no encrypted connection to Redis came about: check redis_tls_ca, the host name in"
            " the server's certificate, redis_tls_cert, and that the port speaks TLS"
        )
    return None


def _is_max_clients(error: BaseException) -> bool:
    """Whether a server has refused a connection because it has as many as it may have.

    Redis has no code of its own for this, so that its text is looked at; redis-py has a class of
    its own for one of the two texts, which is that of all connection errors.
    """
    is_reply = isinstance(error, exceptions.ConnectionError | exceptions.ResponseError)
    return is_reply and "max number of clients" in str(error)


def _replied(code: str, phase: Phase) -> AdapterError:
    if code in _DENIED:
        return _denied()
    if code in _NOT_NOW:
        return _not_now(code)
    if code in _MOVED:
        return ConfigurationError(
            "Redis answered as a node of a cluster does: set redis_cluster to true"
        )
    if code == "WRONGTYPE":
        return DataIntegrityError(
            "a key of this library holds something else: find out who else writes there"
        )
    if phase is Phase.CONNECTING:
        return ConfigurationError(
            "Redis refused the connection's settings: check the database number in redis_url,"
            " redis_cluster, and the user's rights (`test-coordinator-adapter redis acl`)"
        )
    return ConfigurationError(
        "Redis does not know a command or one of its options: version 7.0 or newer is needed"
    )


def _denied() -> ConfigurationError:
    return ConfigurationError(
        "Redis denied access: check user and password in redis_url, and the user's rights"
        " (`test-coordinator-adapter redis acl` prints those it needs; databases other than 0"
        " need +select)"
    )


def _not_now(code: str) -> UnavailableError:
    return UnavailableError(f"Redis refused for now: {_NOT_NOW[code]}; try again ({code})")


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it came from: redis-py wraps refusals in plain connection errors."""
    following: BaseException | None = error
    while following is not None:
        yield following
        ours = isinstance(following, exceptions.RedisError | exceptions.RedisClusterException)
        # Beyond redis-py's own errors, the context is whatever the caller was busy handling.
        implied = following.__context__ if ours and not following.__suppress_context__ else None
        following = following.__cause__ or implied


def _any(
    error: BaseException, kinds: type[BaseException] | tuple[type[BaseException], ...]
) -> bool:
    return any(isinstance(cause, kinds) for cause in _chain(error))
