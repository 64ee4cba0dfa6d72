from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from redis import exceptions
from redis._parsers.base import BaseParser

from test_coordinator_data_adapter.adapters.redis.translation import Phase, code_of, translate
from test_coordinator_data_adapter.errors import (
    ConfigurationError,
    DataIntegrityError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)

SECRET = "s3cret"


def replied(text: str) -> BaseException:
    """What redis-py makes of an error reply."""
    return BaseParser.parse_error(text)


def wrapped(outer: Exception, inner: BaseException) -> Exception:
    """The outer one as if it had been raised while the inner one was handled."""
    outer.__context__ = inner
    return outer


def caused(outer: Exception, inner: BaseException) -> Exception:
    outer.__cause__ = inner
    return outer


LOST = [
    exceptions.ConnectionError("Connection closed by server."),
    exceptions.TimeoutError("Timeout reading from socket"),
    exceptions.InvalidResponse("Protocol error"),
    TimeoutError(),
    ConnectionResetError(),
    BrokenPipeError(),
    ssl.SSLEOFError(),
    exceptions.ClusterError("TTL exhausted."),
]


@pytest.mark.parametrize("error", LOST, ids=repr)
def test_a_lost_connection_leaves_a_write_unknown_and_a_read_undone(error):
    write = translate(error, phase=Phase.SENT, writes=True)
    read = translate(error, phase=Phase.SENT, writes=False)
    connecting = translate(error, phase=Phase.CONNECTING, writes=True)

    assert type(write) is OutcomeUnknownError
    assert type(read) is UnavailableError
    assert type(connecting) is UnavailableError


@pytest.mark.parametrize(
    "error",
    [
        wrapped(exceptions.ConnectionError("Error 111"), ConnectionRefusedError()),
        wrapped(exceptions.ConnectionError("Error -2"), socket.gaierror()),
        wrapped(exceptions.ConnectionError("Error 2"), FileNotFoundError()),
    ],
    ids=str,
)
def test_what_was_never_sent_was_not_applied(error):
    assert type(translate(error, phase=Phase.SENT, writes=True)) is UnavailableError


@pytest.mark.parametrize(
    "text",
    [
        "READONLY You can't write against a read only replica.",
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "CLUSTERDOWN The cluster is down",
        "TRYAGAIN Multiple keys request during rehashing of slot",
        "NOREPLICAS Not enough good replicas to write.",
        "MISCONF Redis is configured to save RDB snapshots",
        "OOM command not allowed when used memory > 'maxmemory'.",
        "BUSY Redis is busy running a script.",
    ],
)
@pytest.mark.parametrize("phase", [Phase.CONNECTING, Phase.SENT])
def test_a_server_that_refuses_for_now_applied_nothing(text, phase):
    error = translate(replied(text), phase=phase, writes=True)

    assert type(error) is UnavailableError
    assert text.split()[0] in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "NOAUTH Authentication required.",
        "WRONGPASS invalid username-password pair or user is disabled.",
        f"NOPERM User {SECRET} has no permissions to run the 'ping' command",
        "ERR AUTH <password> called without any password configured for the default user.",
        "ERR wrong number of arguments for 'auth' command",
    ],
)
@pytest.mark.parametrize("phase", [Phase.CONNECTING, Phase.SENT])
def test_a_denied_user_is_a_matter_of_configuration(text, phase):
    error = translate(replied(text), phase=phase, writes=True)

    assert type(error) is ConfigurationError
    assert SECRET not in str(error)


@pytest.mark.parametrize(
    "error",
    [
        wrapped(exceptions.ConnectionError("Error 1 connecting"), ssl.SSLCertVerificationError()),
        wrapped(exceptions.ConnectionError("Error 1 connecting"), ssl.SSLError("WRONG_VERSION")),
        caused(exceptions.ConnectionError("x"), exceptions.AuthenticationError("x")),
        replied("ERR DB index is out of range"),
        replied("ERR unknown command 'UNLINK'"),
        replied("MOVED 12182 127.0.0.1:7002"),
        replied("CROSSSLOT Keys in request don't hash to the same slot"),
        caused(
            exceptions.RedisClusterException("cannot be connected"),
            wrapped(
                exceptions.RedisClusterException("Cluster mode is not enabled on this node"),
                replied("ERR This instance has cluster support disabled"),
            ),
        ),
    ],
    ids=str,
)
def test_what_a_person_has_to_mend_is_a_matter_of_configuration(error):
    assert type(translate(error, phase=Phase.CONNECTING, writes=False)) is ConfigurationError


@pytest.mark.parametrize(
    "error",
    [
        ssl.SSLError("DECRYPTION_FAILED_OR_BAD_RECORD_MAC"),
        wrapped(exceptions.ConnectionError("Error 1"), ssl.SSLCertVerificationError()),
    ],
    ids=repr,
)
def test_a_failure_of_tls_after_a_request_was_sent_leaves_its_outcome_unknown(error):
    assert type(translate(error, phase=Phase.SENT, writes=True)) is OutcomeUnknownError
    assert type(translate(error, phase=Phase.SENT, writes=False)) is UnavailableError


@pytest.mark.parametrize("phase", [Phase.CONNECTING, Phase.SENT])
@pytest.mark.parametrize(
    "text",
    [
        "ERR max number of clients reached",
        "ERR max number of clients + cluster connections reached",
    ],
)
def test_a_server_that_takes_no_more_clients_is_overload(text, phase):
    error = translate(replied(text), phase=phase, writes=True)

    assert type(error) is OverloadedError
    assert "maxclients" in str(error)


def test_a_value_of_another_kind_is_not_ours():
    error = replied("WRONGTYPE Operation against a key holding the wrong kind of value")

    assert type(translate(error, phase=Phase.SENT, writes=True)) is DataIntegrityError


@pytest.mark.parametrize(
    ("error", "phase"),
    [(TimeoutError(), Phase.WAITING), (exceptions.MaxConnectionsError("x"), Phase.SENT)],
)
def test_a_connection_that_did_not_become_free_is_overload(error, phase):
    assert type(translate(error, phase=phase, writes=True)) is OverloadedError


def test_what_the_caller_was_busy_handling_is_no_cause():
    ours = wrapped(TimeoutError(), exceptions.AuthenticationError("the caller's own"))

    translated = translate(ours, phase=Phase.SENT, writes=False)

    assert type(translated) is UnavailableError


def test_a_cancelled_cause_is_no_obstacle():
    error = caused(TimeoutError(), asyncio.CancelledError())

    assert type(translate(error, phase=Phase.SENT, writes=True)) is OutcomeUnknownError


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("OOM command not allowed", "OOM"),
        ("NOREPLICAS Not enough good replicas to write.", "NOREPLICAS"),
        ("WRONGTYPE Operation against a key", "WRONGTYPE"),
        ("ERR value is not an integer or out of range", "ERR"),
        ("READONLY You can't write", "READONLY"),
        ("MOVED 12182 127.0.0.1:7002", "MOVED"),
    ],
)
def test_the_code_of_a_refusal_is_its_first_word(text, code):
    assert code_of(replied(text)) == code
