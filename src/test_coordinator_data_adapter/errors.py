"""Every error this library raises, named by what the caller can do about it.

::

    AdapterError
    ├── NotFoundError (also ValueError)  there is nothing with that id
    ├── DuplicateError          something with that id is there already
    ├── ConflictError           it is there, but not in the state you expected
    ├── InvalidValueError (also ValueError)  the input breaks a rule; nothing was applied
    ├── UnavailableError        the backend does not answer; not applied, retry later
    ├── OutcomeUnknownError     the answer got lost; it may or may not have been applied
    ├── OverloadedError         too much at once; not applied, retry later
    ├── ConfigurationError      a setting, a password, a schema is wrong; a person must act
    └── DataIntegrityError      what is stored cannot be read back
"""

from __future__ import annotations

from typing import ClassVar, Literal, Self

__all__ = [
    "AdapterError",
    "ConfigurationError",
    "ConflictError",
    "DataIntegrityError",
    "DuplicateError",
    "InvalidValueError",
    "NotFoundError",
    "Outcome",
    "OutcomeUnknownError",
    "OverloadedError",
    "UnavailableError",
]

Outcome = Literal["not_applied", "unknown"]


class AdapterError(Exception):
    """The root: catch it to catch everything this library raises on purpose.

    A message holds what happened and what to do next; never a password, a connection
    URL, a stored value or a driver's text. Every error can be pickled.

    Attributes:
        entity: what it is about: "scenario", "test_run", "chaos_event", "test_result",
            "service", "cache_key", or None.
        id: the id of that entity, or None.
        sqlstate: the five-character code of PostgreSQL, where there is one.
        constraint: the name of the violated constraint, where there is one.
        outcome: whether the operation can have been applied.
        transient: whether the same call can succeed later without a person's help.
    """

    outcome: ClassVar[Outcome] = "not_applied"
    transient: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        entity: str | None = None,
        id: str | None = None,  # noqa: A002 - the word the contract uses for it
        sqlstate: str | None = None,
        constraint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.entity = entity
        self.id = id
        self.sqlstate = sqlstate
        self.constraint = constraint


class NotFoundError(AdapterError, ValueError):
    """There is nothing with that id."""

    @classmethod
    def of(cls, entity: str, id: str) -> Self:  # noqa: A002 - the word the contract uses for it
        """The error every backend raises for that entity."""
        return cls(f"{entity} {id!r} does not exist: create it first", entity=entity, id=id)


class DuplicateError(AdapterError):
    """Something with that id is stored already; nothing was applied.

    Attributes:
        ids: every id of a bulk creation that was there already or stood twice in it, in
            the order of the input, at most the first 100; one id otherwise.
    """

    def __init__(
        self,
        message: str,
        *,
        entity: str | None = None,
        id: str | None = None,  # noqa: A002 - the word the contract uses for it
        ids: tuple[str, ...] = (),
        sqlstate: str | None = None,
        constraint: str | None = None,
    ) -> None:
        super().__init__(message, entity=entity, id=id, sqlstate=sqlstate, constraint=constraint)
        self.ids = ids or ((id,) if id is not None else ())

    @classmethod
    def of(cls, entity: str, first: str, *more: str, constraint: str | None = None) -> Self:
        """The error every backend raises for those ids."""
        others = f" (and {len(more)} more of this call)" if more else ""
        return cls(
            f"{entity} {first!r}{others} exists already: nothing was stored",
            entity=entity,
            id=first,
            ids=(first, *more)[:100],
            constraint=constraint,
        )


class ConflictError(AdapterError):
    """It is stored, but not in the state the caller expected; nothing was applied."""

    @classmethod
    def of(cls, entity: str, id: str) -> Self:  # noqa: A002 - the word the contract uses for it
        """The error every backend raises for that entity."""
        return cls(
            f"{entity} {id!r} is not in the state you expected: read it again and decide anew",
            entity=entity,
            id=id,
        )

    @classmethod
    def registration_ended(cls, service_id: str) -> Self:
        """The error every backend raises when a registration comes after its own end."""
        return cls(
            f"service {service_id!r}: the registrations under this token have been ended:"
            " register under another token",
            entity="service",
            id=service_id,
        )

    @classmethod
    def too_many_stale(cls, stale: int, registered: int) -> Self:
        """The error every backend raises when a removal would take more than it may."""
        return cls(
            f"{stale} of {registered} services look stale, more than max_fraction allows:"
            " nothing was removed. Check the network first; raise max_fraction if they are gone",
            entity="service",
        )


class InvalidValueError(AdapterError, ValueError):
    """The input breaks a rule; nothing was sent and nothing was applied.

    Attributes:
        field: the argument or field that breaks it, nested ones as ``configuration.a[3]``.
        rule: the rule, in words.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        rule: str | None = None,
        entity: str | None = None,
        id: str | None = None,  # noqa: A002 - the word the contract uses for it
        sqlstate: str | None = None,
        constraint: str | None = None,
    ) -> None:
        super().__init__(message, entity=entity, id=id, sqlstate=sqlstate, constraint=constraint)
        self.field = field
        self.rule = rule


class UnavailableError(AdapterError):
    """The backend does not answer; the operation was not applied and can be repeated."""

    transient: ClassVar[bool] = True


class OutcomeUnknownError(AdapterError):
    """The operation was sent and its answer got lost: read before repeating it."""

    outcome: ClassVar[Outcome] = "unknown"
    transient: ClassVar[bool] = True


class OverloadedError(AdapterError):
    """More was asked at once than the backend or its pool bears; it was not applied."""

    transient: ClassVar[bool] = True


class ConfigurationError(AdapterError):
    """A setting, credential, privilege or schema is wrong and a person has to fix it.

    Attributes:
        setting: the setting that is wrong, when that was detected in this process, before a
            server was asked; None when a server refused, for instance a password.
    """

    def __init__(
        self,
        message: str,
        *,
        setting: str | None = None,
        entity: str | None = None,
        id: str | None = None,  # noqa: A002 - the word the contract uses for it
        sqlstate: str | None = None,
        constraint: str | None = None,
    ) -> None:
        super().__init__(message, entity=entity, id=id, sqlstate=sqlstate, constraint=constraint)
        self.setting = setting


class DataIntegrityError(AdapterError):
    """What is stored cannot be read back as what it should be."""
