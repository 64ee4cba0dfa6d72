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
    "USELESS",
    "Failure",
    "Phase",
    "TlsRefusedError",
    "by_meaning",
    "classify",
    "is_full",
    "is_refusal",
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
    "25006": Failure.REFUSED,  # read-only: a standby, or a disk about to be full
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
            asyncpg.ClientConfigurationError,
            asyncpg.UnsupportedClientFeatureError,
            asyncpg.UnsupportedServerFeatureError,
            exc.ArgumentError,
            exc.NoSuchModuleError,
            TypeError,
        ),
    ),
    (Failure.CORRUPT_ROW, OverflowError),
    (Failure.LOST, asyncpg.InterfaceError),
    (Failure.INVALID, ValueError),
)
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
    """Whether the server has no room for another connection, of this role or of any."""
    return sqlstate_of(innermost(error)) == "53300"


def is_refusal(error: AdapterError) -> bool:
    """Whether the server answered, and refused; False where it went away or never answered."""
    state = error.sqlstate
    return state is not None and state != "40003" and state[:2] not in {"08", "57"}


def classify(error: BaseException) -> Failure:
    """The kind of failure, by type and SQLSTATE alone; messages change, and hold values."""
    if isinstance(error, exc.TimeoutError):
        return Failure.OVERLOAD
    if isinstance(error, exc.DBAPIError) and error.connection_invalidated:
        return Failure.LOST
    error = innermost(error)
    state = sqlstate_of(error)
    if state is not None:
        # What is left is a statement this server cannot run: another schema, another privilege.
        return _BY_SQLSTATE.get(state) or _BY_CLASS.get(state[:2], Failure.SCHEMA)
    if isinstance(error, ssl.SSLError):
        return Failure.LOST if isinstance(error, _NOT_THE_CERTIFICATE) else Failure.CONFIG
    for failure, kinds in _BY_TYPE:
        if isinstance(error, kinds):
            return failure
    return Failure.LOST


def by_meaning(error: BaseException, *, expired: bool, closed: bool) -> BaseException:
    """What a trip failed with, where the exception that says so means many things.

    Args:
        error: what the driver raised.
        expired: whether our own deadline had cut the connection by then.
        closed: whether it was closed by then.
    """
    if closed and isinstance(error, AttributeError):
        # Cut between two steps of a trip, a connection of the driver's lacks what the next needs.
        error = ConnectionError()
    if expired and isinstance(error, Exception) and classify(error) is Failure.LOST:
        return TimeoutError()
    # A parameter is refused as a DataError: this was an answer, such as a time beyond Python's.
    if isinstance(error, ValueError) and not isinstance(error, DRIVER_ERRORS):
        return OverflowError()
    return error


def translate(
    error: BaseException,
    *,
    phase: Phase,
    writes: bool,
    entity: str | None = None,
    id: str | None = None,  # noqa: A002 - the word the contract uses for it
) -> AdapterError:
    """The error to tell the caller; raise it ``from None``: what it replaces quotes values.

    Args:
        error: what the driver or SQLAlchemy raised.
        phase: how far the trip had come.
        writes: whether what was sent can have changed anything.
        entity: what it was about, "test_run" ...
        id: which one.
    """
    failure = classify(error)
    inner = innermost(error)
    state = sqlstate_of(inner)
    constraint = getattr(inner, "constraint_name", None)
    kind, message = _told(failure, phase, inner, writes=writes, state=state, entity=entity)
    return kind(
        message if state is None else f"{message} (SQLSTATE {state})",
        entity=entity,
        id=id,
        sqlstate=state,
        constraint=constraint if isinstance(constraint, str) else None,
    )


def _told(
    failure: Failure,
    phase: Phase,
    inner: BaseException,
    *,
    writes: bool,
    state: str | None,
    entity: str | None,
) -> tuple[type[AdapterError], str]:
    if phase is Phase.WAITING and failure is Failure.LOST:
        failure = Failure.OVERLOAD
    if phase is Phase.CONNECTING and failure in _MISCONFIGURED_WHEN_CONNECTING:
        failure = Failure.CONFIG
    if failure is Failure.LOST and phase is Phase.SENT and writes:
        return OutcomeUnknownError, (
            "the connection to PostgreSQL was lost before the answer came;"
            " read before repeating: it may have been applied"
        )
    if failure is Failure.CONFIG:
        return ConfigurationError, _misconfigured(inner, state)
    if failure is Failure.SCHEMA and state == FORBIDDEN:
        return ConfigurationError, (
            "the role may not do that in this schema; `test-coordinator-adapter migrate`, run as"
            " its owner, grants the role of postgres_url what it needs"
        )
    kind, message = _TOLD[failure]
    if failure is Failure.LOST and phase is Phase.CONNECTING:
        message = _OUT_OF_REACH
    if not writes:
        message = message.replace(_OF_WRITES, "")
    return kind, message.format(thing=entity.replace("_", " ") if entity else "row")


def _misconfigured(inner: BaseException, state: str | None) -> str:
    if isinstance(inner, TlsRefusedError):
        return "the server speaks no TLS, and it is demanded: enable it there"
    if isinstance(inner, ssl.SSLCertVerificationError):
        if getattr(inner, "verify_code", None) in _OTHER_NAME:
            return "TLS: the server's certificate is for another host name: correct it in the URL"
        return (
            "TLS: the server's certificate is not signed by an authority that is trusted here;"
            " name its CA by postgres_tls_ca"
        )
    return _CONFIGURATION.get(
        state or "",
        "PostgreSQL cannot be connected to with these settings;"
        " check the URL, the credentials and the TLS settings",
    )


FORBIDDEN: Final = "42501"
"""The SQLSTATE of a right that the role does not have."""
FORGOTTEN: Final = "26000"
"""What was prepared in the session is forgotten, as behind a pooler; nothing was executed."""
USELESS: Final = frozenset({FORGOTTEN, "25006"})
"""Of no use any more is such a session, and one on a server that became a standby."""
# OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH.
_OTHER_NAME: Final = frozenset({62, 64})
# No statement of ours is sent while connecting: what is refused then are the settings.
_MISCONFIGURED_WHEN_CONNECTING: Final = frozenset(
    {Failure.INVALID, Failure.CONSTRAINT, Failure.DUPLICATE, Failure.SCHEMA}
)
_CONFIGURATION: Final = {
    "28P01": "PostgreSQL refuses the password; check the credentials in the URL",
    "28000": "PostgreSQL refuses this user from here; check the user, pg_hba.conf and TLS",
    "3D000": "the database does not exist on this server; create it or correct the URL",
    FORBIDDEN: "the role may not connect; grant it CONNECT on the database",
}
_OF_WRITES: Final = "not applied, "
_OUT_OF_REACH: Final = (
    "PostgreSQL does not answer: check that it runs and can be reached; not applied, retry later"
)
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
        "others kept the {thing} locked, however often it was tried; not applied, retry later",
    ),
    Failure.TIMEOUT: (
        OverloadedError,
        "PostgreSQL took too long and gave up; not applied, retry later or ask for less",
    ),
    Failure.OVERLOAD: (
        OverloadedError,
        "all connections were in use for too long; not applied, retry later or allow more",
    ),
    Failure.LOST: (UnavailableError, "PostgreSQL does not answer; not applied, retry later"),
    Failure.REFUSED: (
        UnavailableError,
        "PostgreSQL cannot serve this now; not applied, retry later",
    ),
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
