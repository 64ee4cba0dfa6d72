"""The one place where what PostgreSQL and its drivers raise becomes this library's errors."""

from __future__ import annotations

import ssl
from enum import Enum, auto
from typing import Final

import asyncpg
from sqlalchemy import exc

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

__all__ = [
    "DRIVER_ERRORS",
    "FORBIDDEN",
    "FORGOTTEN",
    "READ_ONLY",
    "USELESS",
    "Failure",
    "Phase",
    "ReadOnlyServerError",
    "TlsRefusedError",
    "UnsuitableServerError",
    "classify",
    "is_full",
    "is_refusal",
    "normalize_error",
    "translate",
]

# Everything a trip can fail with that is not a fault in the calling code. A timeout, a refused
# connection, an unknown host and a bad certificate are all OSError.
_DRIVER_S_OWN: Final = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    EOFError,
    OverflowError,
)
DRIVER_ERRORS: Final = (*_DRIVER_S_OWN, exc.SQLAlchemyError)


class TlsRefusedError(ConnectionError):
    """The server speaks no TLS, and a connection without it is not wanted."""


class UnsuitableServerError(ConnectionError):
    """The server answers, but cannot be used as it is; the text says why, without any secret."""


class ReadOnlyServerError(ConnectionError):
    """Every server that answers is a standby, or read-only; the text names it."""

    sqlstate: Final = "25006"


class Phase(Enum):
    """How far a trip had come when it failed."""

    CONNECTING = auto()
    """No connection yet, or one found closed before anything was sent."""
    WAITING = auto()
    """All connections were in use."""
    SENT = auto()
    """The statement was sent, or may have been."""
    UNDECIDED = auto()
    """It was sent in a transaction whose end was not: nothing is applied, whatever gets lost."""


class Failure(Enum):
    """What kind of failure it is; decides what is tried again and what the caller is told."""

    DUPLICATE = auto()
    CONSTRAINT = auto()
    INVALID = auto()
    TRANSIENT = auto()
    TIMEOUT = auto()
    OVERLOAD = auto()
    LOST = auto()
    REFUSED = auto()
    CONFIG = auto()
    SCHEMA = auto()
    CORRUPT_ROW = auto()


_BY_SQLSTATE: Final = {
    "23505": Failure.DUPLICATE,
    "40001": Failure.TRANSIENT,
    "40003": Failure.LOST,  # statement completion unknown
    "40P01": Failure.TRANSIENT,
    "55P03": Failure.TRANSIENT,
    "57014": Failure.TIMEOUT,
    "3D000": Failure.CONFIG,
    # The server answered that it did not apply it: REFUSED. LOST is when nobody can know.
    "25006": Failure.REFUSED,  # READ_ONLY: a standby, or a disk about to be full
    "25P03": Failure.REFUSED,  # idle in a transaction for too long: rolled back
    "53300": Failure.REFUSED,  # too many connections
    "57P03": Failure.REFUSED,  # starting up or shutting down
}
_BY_CLASS: Final = {
    "08": Failure.LOST,
    "57": Failure.LOST,
    "53": Failure.REFUSED,
    "58": Failure.REFUSED,
    "XX": Failure.REFUSED,
    "23": Failure.CONSTRAINT,
    "44": Failure.CONSTRAINT,
    "22": Failure.INVALID,
    "54": Failure.INVALID,
    "40": Failure.TRANSIENT,
    "28": Failure.CONFIG,
}
_BY_TYPE: Final = (
    (Failure.SCHEMA, asyncpg.OutdatedSchemaCacheError),
    (
        Failure.CONFIG,
        (
            TlsRefusedError,
            UnsuitableServerError,
            asyncpg.ClientConfigurationError,
            asyncpg.UnsupportedClientFeatureError,
            asyncpg.UnsupportedServerFeatureError,
        ),
    ),
    (Failure.CORRUPT_ROW, OverflowError),
    (Failure.LOST, (asyncpg.InterfaceError, OSError)),
    (Failure.INVALID, ValueError),
)
# PgBouncer reports everything as 08P01. These are its fixed texts, and the one exception to the
# rule that no message decides: those of clients that wait, those of an outage, and advice.
_POOLER_SQLSTATE: Final = "08P01"
_POOLER_FULL: Final = "no more connections allowed"
_POOLER_OUTAGES: Final = ("query_wait_timeout", "server login", "client_login_timeout")
_POOLER_ADVICE: Final = {
    "unsupported startup parameter": (
        "{server} is a pooler that refuses the session settings of this library: add them to its"
        " ignore_startup_parameters"
    ),
    "no such database": "{server}: the pooler knows no such database; correct the URL",
    "no such user": "{server}: the pooler knows no such user; correct the URL",
    "password authentication failed": "{server}: the pooler refuses user or password",
    "SASL authentication failed": "{server}: the pooler refuses user or password",
}
_NOT_THE_CERTIFICATE: Final = (
    ssl.SSLEOFError,
    ssl.SSLSyscallError,
    ssl.SSLWantReadError,
    ssl.SSLWantWriteError,
    ssl.SSLZeroReturnError,
)


def innermost(error: BaseException) -> BaseException:
    """What the driver raised, below all that SQLAlchemy wrapped it in."""
    wrapped: BaseException | None = error
    while wrapped is not None and not isinstance(wrapped, _DRIVER_S_OWN):
        wrapped = wrapped.orig if isinstance(wrapped, exc.StatementError) else wrapped.__cause__
    return wrapped or error


def sqlstate_of(error: BaseException) -> str | None:
    """The five characters PostgreSQL gave it, if it was PostgreSQL."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None


def is_full(error: BaseException) -> bool:
    """Whether the server, or a pooler, has no room for another connection, of this role or any."""
    error = innermost(error)
    return sqlstate_of(error) == "53300" or _pooler_says(error, _POOLER_FULL)


def is_refusal(error: AdapterError) -> bool:
    """Whether the server answered, and refused; False where it went away or never answered."""
    state = error.sqlstate
    return state is not None and state != "40003" and state[:2] not in {"08", "57"}


def _pooler_says(error: BaseException, *texts: str) -> bool:
    return sqlstate_of(error) == _POOLER_SQLSTATE and str(error).startswith(texts)


def _tls_alert(error: BaseException) -> str | None:
    """Why the other side ended TLS, by OpenSSL's name for it; None if it gave no reason."""
    following: BaseException | None = error
    while following is not None:
        reason = getattr(following, "reason", None) if isinstance(following, ssl.SSLError) else None
        if isinstance(reason, str) and "ALERT" in reason:
            return reason
        following = following.__cause__
    return None


def classify(error: BaseException, phase: Phase = Phase.SENT) -> Failure:
    """The kind of failure, by type and SQLSTATE; messages change, and contain values."""
    if isinstance(error, exc.TimeoutError):
        return Failure.OVERLOAD
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return Failure.LOST
    error = innermost(error)
    if phase is Phase.CONNECTING and _is_refused_when_connecting(error):
        return Failure.CONFIG
    failure = _failure_of(error)
    if phase is Phase.WAITING and failure is Failure.LOST:
        return Failure.OVERLOAD
    if phase is Phase.CONNECTING and failure in _MISCONFIGURED_WHEN_CONNECTING:
        return Failure.CONFIG
    return failure


def _failure_of(error: BaseException) -> Failure:
    if _pooler_says(error, _POOLER_FULL, *_POOLER_OUTAGES):
        return Failure.REFUSED
    state = sqlstate_of(error)
    if state is None:
        return next((each for each, kinds in _BY_TYPE if isinstance(error, kinds)), Failure.LOST)
    # What is left is a statement this server cannot run: another schema, another privilege.
    return _BY_SQLSTATE.get(state) or _BY_CLASS.get(state[:2], Failure.SCHEMA)


def _is_refused_when_connecting(error: BaseException) -> bool:
    """Whether the other side said why it accepts no connection; afterwards it would be lost."""
    if sqlstate_of(error) in _REFUSED_WHEN_CONNECTING:
        return not _pooler_says(error, _POOLER_FULL, *_POOLER_OUTAGES)
    if isinstance(error, ssl.SSLError) and not isinstance(error, _NOT_THE_CERTIFICATE):
        return True
    return _tls_alert(error) is not None


def normalize_error(
    error: BaseException, *, expired: bool, closed: bool, connecting: bool = False
) -> BaseException:
    """The failure of a round trip as one of the driver's own errors.

    A reply that is garbled makes the driver raise whatever its code stumbles over.

    Args:
        error: what the driver raised.
        expired: whether our own deadline had cut the connection by then.
        closed: whether it was closed by then.
        connecting: whether there was no connection yet.
    """
    if not isinstance(error, Exception):
        return error
    if not isinstance(error, DRIVER_ERRORS):
        if closed and isinstance(error, AttributeError):
            # Cut between two steps of a round trip, the driver lacks what the next one needs.
            error = ConnectionError()
        elif isinstance(error, ValueError) and not connecting:
            # A parameter is refused as a DataError: this was a value of the reply.
            error = OverflowError()
        else:
            error = asyncpg.ProtocolError()
    return TimeoutError() if expired and classify(error) is Failure.LOST else error


def translate(
    error: BaseException,
    *,
    phase: Phase,
    writes: bool,
    entity: str | None = None,
    id: str | None = None,  # noqa: A002 - the word the contract uses for it
    server: str = "PostgreSQL",
) -> AdapterError:
    """The error to raise ``from None``: what it replaces quotes values.

    Args:
        error: what the driver or SQLAlchemy raised.
        phase: how far the trip had come.
        writes: whether what was sent can have changed anything.
        entity: what it was about, "test_run" ...
        id: which one.
        server: how messages about the connection name the server.
    """
    inner = innermost(error)
    state = sqlstate_of(inner)
    failure = classify(error, phase)
    constraint = getattr(inner, "constraint_name", None)
    kind, template = _kind_and_message(failure, phase, inner, writes=writes, state=state)
    if not writes:
        template = template.replace(_OF_WRITES, "")
    thing = entity.replace("_", " ") if entity else "row"
    message = template.format(thing=thing, server=server)
    return kind(
        message if state is None else f"{message} (SQLSTATE {state})",
        entity=entity,
        id=id,
        sqlstate=state,
        constraint=constraint if isinstance(constraint, str) else None,
    )


def _kind_and_message(
    failure: Failure, phase: Phase, inner: BaseException, *, writes: bool, state: str | None
) -> tuple[type[AdapterError], str]:
    if isinstance(inner, UnsuitableServerError | ReadOnlyServerError):
        return _TOLD[failure][0], str(inner).replace("{", "{{").replace("}", "}}")
    if writes and phase is Phase.SENT and failure in _OUTCOME_UNKNOWN:
        return OutcomeUnknownError, _OUTCOME_UNKNOWN[failure]
    if failure is Failure.CONFIG:
        return _TOLD[failure][0], _misconfigured(inner, state)
    if failure is Failure.SCHEMA and state == FORBIDDEN:
        return ConfigurationError, (
            "the role may not do that in this schema; `test-coordinator-adapter migrate`, run as"
            " its owner, grants the role of postgres_url what it needs"
        )
    if failure is Failure.LOST and phase is Phase.CONNECTING:
        return UnavailableError, _OUT_OF_REACH
    return _TOLD[failure]


def _misconfigured(inner: BaseException, state: str | None) -> str:
    if isinstance(inner, TlsRefusedError):
        return "{server} does not support TLS, but TLS is required: enable it there"
    if isinstance(inner, ssl.SSLCertVerificationError):
        return _CERTIFICATES.get(
            getattr(inner, "verify_code", 0),
            "TLS: the certificate of {server} is not signed by an authority that is trusted here;"
            " name its CA by postgres_tls_ca",
        )
    if (alert := _tls_alert(inner)) is not None:
        if "EXPIRED" in alert:
            return "TLS: {server} refuses the client certificate because it has expired: renew it"
        return (
            "TLS: {server} refuses this client; check postgres_tls_cert and postgres_tls_key, and"
            " the authorities that are trusted there"
        )
    for text, advice in _POOLER_ADVICE.items():
        if _pooler_says(inner, text):
            return advice
    return _CONFIGURATION.get(
        state or "",
        "{server} cannot be connected to with these settings;"
        " check the URL, the credentials and the TLS settings",
    )


FORBIDDEN: Final = "42501"
"""The SQLSTATE of a right that the role does not have."""
FORGOTTEN: Final = "26000"
"""What was prepared in the session is forgotten, as behind a pooler; nothing was executed."""
READ_ONLY: Final = "25006"
"""The server accepts no writes, as a standby; nothing was executed."""
USELESS: Final = frozenset({FORGOTTEN, READ_ONLY})
"""Of no use any more is such a session, and one on a server that became a standby."""
_OTHER_HOST: Final = (
    "TLS: the certificate of {server} is for another host name: correct it in the URL"
)
# By OpenSSL's X509_V_ERR_...: CERT_NOT_YET_VALID, CERT_HAS_EXPIRED, HOSTNAME_MISMATCH and
# IP_ADDRESS_MISMATCH.
_CERTIFICATES: Final = {
    9: "TLS: the certificate of {server} is not valid yet; check the clocks",
    10: "TLS: the certificate of {server} has expired: renew it there",
    62: _OTHER_HOST,
    64: _OTHER_HOST,
}
# An answer of the server, or of a pooler, that says why it accepts no connection.
_REFUSED_WHEN_CONNECTING: Final = frozenset({_POOLER_SQLSTATE, "08004"})
# No statement of ours is sent while connecting: what is refused then are the settings.
_MISCONFIGURED_WHEN_CONNECTING: Final = frozenset(
    {Failure.INVALID, Failure.CONSTRAINT, Failure.DUPLICATE, Failure.SCHEMA}
)
_CONFIGURATION: Final = {
    "28P01": "{server} refuses the password; check the credentials in the URL",
    "28000": "{server} refuses this user from here; check the user, pg_hba.conf and TLS",
    "3D000": "{server}: the database does not exist; create it or correct the URL",
    FORBIDDEN: "{server}: the role may not connect; grant it CONNECT on the database",
}
_OF_WRITES: Final = "not applied, "
_OUT_OF_REACH: Final = (
    "{server} does not answer: check that it runs and can be reached; not applied, retry later"
)
_OUTCOME_UNKNOWN: Final = {
    Failure.LOST: (
        "the connection to {server} was lost before the answer came;"
        " read before repeating: it may have been applied"
    ),
    Failure.CORRUPT_ROW: (
        "the reply of {server} cannot be read: a value is outside what this library stores;"
        " read before repeating: it may have been applied"
    ),
}
_TOLD: Final[dict[Failure, tuple[type[AdapterError], str]]] = {
    Failure.DUPLICATE: (DuplicateError, "a {thing} with that id is stored already"),
    Failure.CONSTRAINT: (
        InvalidValueError,
        "PostgreSQL refuses the {thing}: a value breaks a constraint; nothing was applied",
    ),
    Failure.INVALID: (
        InvalidValueError,
        "PostgreSQL refuses the {thing}: a value is out of bounds; nothing was applied",
    ),
    Failure.TRANSIENT: (
        OverloadedError,
        "the {thing} stayed locked by other transactions; not applied, retry later",
    ),
    Failure.TIMEOUT: (
        OverloadedError,
        "{server} cancelled the statement at its timeout; not applied, retry later or ask for less",
    ),
    Failure.OVERLOAD: (
        OverloadedError,
        "the connections to {server} were in use for too long; not applied, retry or allow more",
    ),
    Failure.LOST: (UnavailableError, "{server} does not answer; not applied, retry later"),
    Failure.REFUSED: (
        UnavailableError,
        "{server} cannot serve this now; not applied, retry later",
    ),
    Failure.CONFIG: (ConfigurationError, "{server} cannot be used with these settings"),
    Failure.SCHEMA: (
        ConfigurationError,
        (
            "the schema in PostgreSQL is not the one expected;"
            " `test-coordinator-adapter migrate --check` says which one it is"
        ),
    ),
    Failure.CORRUPT_ROW: (
        DataIntegrityError,
        "a stored {thing} cannot be read back: a value is outside what this library stores",
    ),
}
