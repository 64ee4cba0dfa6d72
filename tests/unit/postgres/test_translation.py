"""Every class of failure, in every phase, becomes the error that says what the caller can do."""

from __future__ import annotations

import asyncio
import pickle
import socket
import ssl
from itertools import product

import asyncpg
import orjson
import pytest
from sqlalchemy import exc

from test_coordinator_data_adapter.adapters.postgres.translation import (
    DRIVER_ERRORS,
    Failure,
    Phase,
    TlsRefusedError,
    classify,
    is_full,
    normalize_error,
    translate,
)
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    DataIntegrityError,
    DuplicateError,
    InvalidValueError,
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)

SECRET = "hunter2"


def said(sqlstate: str, **fields: str) -> asyncpg.PostgresError:
    """What asyncpg raises for an answer of the server."""
    return asyncpg.PostgresError.new(
        {
            "S": "ERROR",
            "V": "ERROR",
            "C": sqlstate,
            "M": f"value {SECRET} is no good",
            "D": f"Key (id)=({SECRET}) already exists.",
            **fields,
        }
    )


def wrapped(error: Exception, *, invalidated: bool = False) -> exc.DBAPIError:
    """What SQLAlchemy makes of it."""
    emulated = Exception(str(error))
    emulated.__cause__ = error
    return exc.DBAPIError(
        f"INSERT {SECRET}", {"id": SECRET}, emulated, connection_invalidated=invalidated
    )


TRANSIENT = (OverloadedError, OverloadedError, OverloadedError)
REFUSED = (UnavailableError, UnavailableError, UnavailableError)
LOST = (UnavailableError, UnavailableError, OutcomeUnknownError)
MISCONFIGURED = (ConfigurationError, ConfigurationError, ConfigurationError)
# What ends a connection says why it cannot be opened, and afterwards that it is lost.
REFUSED_WHEN_CONNECTING = (ConfigurationError, UnavailableError, OutcomeUnknownError)
INVALID = (ConfigurationError, InvalidValueError, InvalidValueError)
DUPLICATE = (ConfigurationError, DuplicateError, DuplicateError)

# SQLSTATE -> what a caller sees while connecting, for a read that was sent, for a write.
ANSWERS = {
    "40001": TRANSIENT,
    "40P01": TRANSIENT,
    "55P03": TRANSIENT,
    "57014": TRANSIENT,
    "40003": LOST,
    "08000": LOST,
    "08001": LOST,
    "08003": LOST,
    "08006": LOST,
    "08004": REFUSED_WHEN_CONNECTING,
    "08P01": REFUSED_WHEN_CONNECTING,
    "57P01": LOST,
    "57P02": LOST,
    "57P03": REFUSED,
    "57P04": LOST,
    "57P05": LOST,
    "53300": REFUSED,
    "25006": REFUSED,
    "25P03": REFUSED,
    "53000": REFUSED,
    "53100": REFUSED,
    "53200": REFUSED,
    "53400": REFUSED,
    "58030": REFUSED,
    "58P01": REFUSED,
    "XX000": REFUSED,
    "XX001": REFUSED,
    "XX002": REFUSED,
    "28000": MISCONFIGURED,
    "28P01": MISCONFIGURED,
    "3D000": MISCONFIGURED,
    "3F000": MISCONFIGURED,
    "42501": MISCONFIGURED,
    "42601": MISCONFIGURED,
    "42703": MISCONFIGURED,
    "42883": MISCONFIGURED,
    "42P01": MISCONFIGURED,
    "0A000": MISCONFIGURED,
    "P0001": MISCONFIGURED,
    "23505": DUPLICATE,
    "23502": INVALID,
    "23503": INVALID,
    "23514": INVALID,
    "23P01": INVALID,
    "44000": INVALID,
    "22000": INVALID,
    "22003": INVALID,
    "22021": INVALID,
    "22P02": INVALID,
    "22P05": INVALID,
    "54000": INVALID,
    "54001": INVALID,
}

CLIENT_SIDE = [
    (TimeoutError(), LOST),
    (ConnectionRefusedError(), LOST),
    (ConnectionResetError(), LOST),
    (BrokenPipeError(), LOST),
    (ConnectionError(SECRET), LOST),
    (EOFError(), LOST),
    (socket.gaierror(), LOST),
    (OSError(), LOST),
    (FileNotFoundError(), LOST),
    (asyncpg.InterfaceError("connection is closed"), LOST),
    (asyncpg.InternalClientError(), LOST),
    (asyncpg.ProtocolError(), LOST),
    (ssl.SSLEOFError(), LOST),
    (ssl.SSLZeroReturnError(), LOST),
    (ssl.SSLCertVerificationError(), REFUSED_WHEN_CONNECTING),
    (ssl.SSLError(), REFUSED_WHEN_CONNECTING),
    (TlsRefusedError(), MISCONFIGURED),
    (asyncpg.ClientConfigurationError(SECRET), MISCONFIGURED),
    (asyncpg.UnsupportedServerFeatureError(SECRET), MISCONFIGURED),
    (asyncpg.OutdatedSchemaCacheError(SECRET), MISCONFIGURED),
    (asyncpg.InvalidCachedStatementError(SECRET), MISCONFIGURED),
    (asyncpg.DataError(SECRET), INVALID),
    (OverflowError(), (DataIntegrityError, DataIntegrityError, OutcomeUnknownError)),
]


def in_every_phase(error: BaseException) -> tuple[type[AdapterError], ...]:
    return (
        type(translate(error, phase=Phase.CONNECTING, writes=True)),
        type(translate(error, phase=Phase.SENT, writes=False)),
        type(translate(error, phase=Phase.SENT, writes=True)),
    )


@pytest.mark.parametrize(("sqlstate", "expected"), ANSWERS.items())
def test_an_answer_is_told_by_its_sqlstate(sqlstate, expected):
    assert in_every_phase(said(sqlstate)) == expected


@pytest.mark.parametrize(("sqlstate", "expected"), ANSWERS.items())
def test_an_answer_that_sqlalchemy_wrapped_is_told_alike(sqlstate, expected):
    assert in_every_phase(wrapped(said(sqlstate))) == expected


@pytest.mark.parametrize(
    ("error", "expected"), CLIENT_SIDE, ids=[type(error).__name__ for error, _ in CLIENT_SIDE]
)
def test_what_never_was_an_answer_is_told_by_its_type(error, expected):
    assert in_every_phase(error) == expected


@pytest.mark.parametrize(
    "error", [TimeoutError(), ConnectionResetError(), asyncpg.InterfaceError("closed")]
)
def test_what_sqlalchemy_wrapped_of_these_is_told_alike(error):
    assert in_every_phase(wrapped(error)) == LOST


def test_a_connection_that_sqlalchemy_invalidated_is_lost():
    error = wrapped(said("0A000"), invalidated=True)

    assert in_every_phase(error) == LOST


def test_who_cannot_connect_is_told_what_to_look_at():
    told = translate(ConnectionRefusedError(), phase=Phase.CONNECTING, writes=True)
    lost = translate(ConnectionResetError(), phase=Phase.SENT, writes=False)

    assert "check that it runs and can be reached; not applied, retry later" in str(told)
    assert "check" not in str(lost)


def test_a_pool_without_a_free_connection_is_overloaded_and_nothing_was_applied():
    error = translate(exc.TimeoutError(SECRET), phase=Phase.WAITING, writes=True)

    assert type(error) is OverloadedError
    assert error.outcome == "not_applied"
    assert error.transient


@pytest.mark.parametrize("error", [TimeoutError(), exc.TimeoutError()])
def test_whatever_ends_the_waiting_for_a_connection_nothing_was_applied(error):
    assert isinstance(translate(error, phase=Phase.WAITING, writes=True), OverloadedError)


@pytest.mark.parametrize(
    "error",
    [*map(said, ANSWERS), *map(wrapped, map(said, ANSWERS)), *(error for error, _ in CLIENT_SIDE)],
    ids=lambda error: type(error).__name__,
)
def test_no_message_holds_a_value_or_what_the_driver_said(error):
    for phase, writes in product(Phase, (False, True)):
        told = translate(error, phase=phase, writes=writes, entity="test_run", id="run-1")

        assert SECRET not in str(told) + repr(vars(told))
        assert told.__cause__ is None


@pytest.mark.parametrize("error", [TimeoutError(), said("08006"), ConnectionResetError()])
def test_what_is_lost_before_a_transaction_ends_was_not_applied(error):
    told = translate(error, phase=Phase.UNDECIDED, writes=True)

    assert type(told) is UnavailableError
    assert "not applied" in str(told)


@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("error", [TimeoutError(), said("57014"), said("40001"), said("53300")])
def test_only_of_a_write_is_it_said_whether_it_was_applied(error, phase):
    read = translate(error, phase=phase, writes=False)
    write = translate(error, phase=phase, writes=True)

    assert "applied" not in str(read)
    assert "applied" in str(write)


def test_an_error_names_entity_id_sqlstate_and_constraint():
    error = said("23505", n="pk_test_runs")

    told = translate(error, phase=Phase.SENT, writes=True, entity="test_run", id="run-1")

    assert isinstance(told, DuplicateError)
    assert (told.entity, told.id, told.sqlstate, told.constraint) == (
        "test_run",
        "run-1",
        "23505",
        "pk_test_runs",
    )
    assert told.ids == ("run-1",)
    assert str(told) == "a test run with that id is stored already (SQLSTATE 23505)"


@pytest.mark.parametrize("sqlstate", ANSWERS)
def test_every_error_survives_pickling(sqlstate):
    told = translate(said(sqlstate), phase=Phase.SENT, writes=True, entity="scenario", id="s")

    again = pickle.loads(pickle.dumps(told))  # noqa: S301 - our own

    assert (type(again), str(again), vars(again)) == (type(told), str(told), vars(told))


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "55P03"])
def test_what_another_transaction_caused_is_worth_another_try(sqlstate):
    assert classify(wrapped(said(sqlstate))) is Failure.TRANSIENT


@pytest.mark.parametrize(
    "error",
    [
        said("23505"),
        wrapped(said("23505")),
        *(error for error, _ in CLIENT_SIDE),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_the_drivers_raise_is_translated(error):
    assert isinstance(error, DRIVER_ERRORS)


@pytest.mark.parametrize("error", [ValueError(), orjson.JSONDecodeError("", "", 0)])
def test_an_answer_that_cannot_be_decoded_is_a_corrupt_row(error):
    assert classify(normalize_error(error, expired=False, closed=False)) is Failure.CORRUPT_ROW


@pytest.mark.parametrize("error", [said("23505"), asyncpg.DataError(SECRET), OSError()])
def test_what_has_one_meaning_keeps_it(error):
    assert normalize_error(error, expired=False, closed=False) is error


def test_a_connection_that_was_cut_under_the_driver_is_lost():
    error = AttributeError("'NoneType' object has no attribute 'bind_execute'")

    assert classify(normalize_error(error, expired=False, closed=True)) is Failure.LOST
    assert isinstance(normalize_error(error, expired=True, closed=True), TimeoutError)
    assert isinstance(normalize_error(error, expired=False, closed=False), asyncpg.ProtocolError)


def test_what_our_deadline_cut_off_is_a_time_out_unless_it_was_cancelled():
    lost, cancelled = asyncpg.InterfaceError("closed"), asyncio.CancelledError()

    assert isinstance(normalize_error(lost, expired=True, closed=True), TimeoutError)
    assert normalize_error(cancelled, expired=True, closed=True) is cancelled


@pytest.mark.parametrize(
    "error", [AssertionError(), SystemError(), BufferError(), IndexError(), KeyError(), TypeError()]
)
@pytest.mark.parametrize("connecting", [False, True])
def test_whatever_the_driver_stumbles_over_in_a_garbled_reply_is_a_lost_connection(
    error, connecting
):
    normalized = normalize_error(error, expired=False, closed=False, connecting=connecting)

    assert isinstance(normalized, DRIVER_ERRORS)
    assert classify(normalized) is Failure.LOST


def test_a_garbled_login_is_no_corrupt_row():
    error = UnicodeDecodeError("utf-8", b"x", 0, 1, SECRET)

    normalized = normalize_error(error, expired=False, closed=False, connecting=True)

    assert classify(normalized, Phase.CONNECTING) is Failure.LOST


def test_a_cancellation_stays_one():
    error = asyncio.CancelledError()

    assert normalize_error(error, expired=False, closed=True) is error


POOLER = {
    "no more connections allowed (max_client_conn)": UnavailableError,
    "query_wait_timeout": UnavailableError,
    "server login failed: FATAL hunter2": UnavailableError,
    "server login has been failing, try again later (server_login_retry)": UnavailableError,
    "client_login_timeout (server down)": UnavailableError,
    "no such database: hunter2": ConfigurationError,
    "no such user: hunter2": ConfigurationError,
    "password authentication failed": ConfigurationError,
    "SASL authentication failed": ConfigurationError,
    "unsupported startup parameter: hunter2": ConfigurationError,
    "hunter2": ConfigurationError,
}


@pytest.mark.parametrize(("text", "kind"), POOLER.items())
def test_a_pooler_that_refuses_a_connection_is_understood_by_its_fixed_texts(text, kind):
    error = translate(said("08P01", M=text), phase=Phase.CONNECTING, writes=True)

    assert type(error) is kind
    assert error.sqlstate == "08P01"
    assert SECRET not in str(error)


def test_a_pooler_that_refuses_session_settings_is_told_what_to_ignore():
    error = said("08P01", M="unsupported startup parameter: search_path")

    told = translate(error, phase=Phase.CONNECTING, writes=False)

    assert "ignore_startup_parameters" in str(told)


def test_a_pooler_without_room_is_full():
    assert is_full(said("08P01", M="no more connections allowed (max_client_conn)"))
    assert not is_full(said("08P01", M="query_wait_timeout"))


def test_a_statement_that_waited_in_the_pooler_was_not_applied():
    error = translate(said("08P01", M="query_wait_timeout"), phase=Phase.SENT, writes=True)

    assert type(error) is UnavailableError


def test_only_a_pooler_is_understood_by_its_texts():
    error = translate(said("28000", M="query_wait_timeout"), phase=Phase.CONNECTING, writes=True)

    assert type(error) is ConfigurationError


def lost_by_alert(reason: str) -> asyncpg.PostgresError:
    """What the driver raises when the server ends TLS after the handshake."""
    alert = ssl.SSLError(1, SECRET)
    alert.reason = reason
    error = asyncpg.ConnectionDoesNotExistError(SECRET)
    error.__cause__ = alert
    return error


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "client certificate because it has expired"),
        ("TLSV1_ALERT_UNKNOWN_CA", "postgres_tls_cert"),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "postgres_tls_cert"),
    ],
)
def test_an_alert_while_connecting_is_a_refused_client_certificate(reason, words):
    error = translate(lost_by_alert(reason), phase=Phase.CONNECTING, writes=True)

    assert type(error) is ConfigurationError
    assert words in str(error)


def test_an_alert_after_a_write_was_sent_leaves_its_outcome_unknown():
    error = lost_by_alert("SSLV3_ALERT_BAD_RECORD_MAC")

    assert type(translate(error, phase=Phase.SENT, writes=True)) is OutcomeUnknownError


@pytest.mark.parametrize(
    ("code", "words"),
    [(9, "not valid yet"), (10, "has expired"), (62, "host name"), (64, "host name"), (18, "CA")],
)
def test_a_certificate_of_the_server_is_refused_with_its_reason(code, words):
    error = ssl.SSLCertVerificationError()
    error.verify_code = code

    assert words in str(translate(error, phase=Phase.CONNECTING, writes=False))


@pytest.mark.parametrize(
    "error",
    [OSError(), said("28P01"), said("28000"), said("3D000"), said("08P01"), said("53300")],
    ids=lambda error: str(getattr(error, "sqlstate", "lost")),
)
def test_a_failure_to_connect_names_the_server(error):
    server = "PostgreSQL at db.example:5432/stored (user service)"

    assert server in str(translate(error, phase=Phase.CONNECTING, writes=True, server=server))


def test_a_lost_answer_names_the_server():
    server = "PostgreSQL at db.example:5432/stored (user service)"

    assert server in str(translate(OSError(), phase=Phase.SENT, writes=True, server=server))
