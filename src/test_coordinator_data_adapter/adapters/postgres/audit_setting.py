"""The JSON that a mutation hands to the triggers of the audit trail, within its own statement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import orjson

from test_coordinator_data_adapter.interfaces.audit import AuditContext, current_audit_context

__all__ = ["AUDIT_SETTING", "LATE", "Call", "Teller", "with_not_after"]

AUDIT_SETTING: Final = "test_coordinator_adapter.audit"
"""The setting that the triggers read; it lasts as long as the transaction."""
LATE: Final = "TCA01"
"""The SQLSTATE of a statement or `fence` that was executed after its latest permitted time."""
_NOTHING: Final = AuditContext()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """The identity of one mutation, as the audit trail records it.

    Attributes:
        id: identifies the request that the mutation is part of.
        step: numbers the mutations of one request, from 1.
        digest: of the operation and its arguments, hexadecimal; None leaves it out.
        occurred_at: when the mutation was requested; None: when it is recorded.
    """

    id: UUID
    step: int = 1
    digest: str | None = None
    occurred_at: datetime | None = None


class Teller:
    """Says who acts and why, as the triggers read it."""

    __slots__ = ("_actor", "_usual")

    def __init__(self, actor: str | None) -> None:
        """Name ``actor`` where nothing else is said; None leaves it to the database's role."""
        self._actor = actor
        self._usual = self._as_text(_NOTHING)

    def __call__(
        self,
        *,
        operation: str | None = None,
        call: Call | None = None,
        calls: Mapping[str, Call] | None = None,
        parts: bool = False,
    ) -> str:
        """Returns the setting for a mutation made now, in this task.

        Args:
            operation: what it is, where the rows it touches do not show that.
            call: the identity of the mutation.
            calls: the identity of each mutation of a batched statement, by the id of its entity.
            parts: one call may write several records, by several statements or rows.
        """
        context = current_audit_context()
        if context == _NOTHING and operation is None and call is None and calls is None:
            return self._usual
        said: dict[str, object] = {}
        if operation is not None:
            said["operation"] = operation
        if call is not None:
            said["call"] = _as_json(call)
        if calls is not None:
            said["calls"] = {id_: _as_json(one) for id_, one in calls.items()}
        if parts:
            said["parts"] = True
        return self._as_text(context, said)

    def _as_text(self, context: AuditContext, more: Mapping[str, object] | None = None) -> str:
        said = {name: value for name, value in asdict(context).items() if value is not None}
        if self._actor is not None:
            said.setdefault("actor", self._actor)
        return orjson.dumps({**said, **(more or {})}).decode()


def with_not_after(setting: str, not_after: datetime) -> str:
    """Returns ``setting`` with the latest time at which a statement that carries it may execute.

    Args:
        setting: what `Teller` returned.
        not_after: in the clock of the database.
    """
    separator = "" if setting == "{}" else ","
    return f'{setting[:-1]}{separator}"not_after":"{not_after.isoformat()}"}}'


def _as_json(call: Call) -> dict[str, object]:
    said: dict[str, object] = {"id": call.id, "step": call.step}
    if call.digest is not None:
        said["digest"] = call.digest
    if call.occurred_at is not None:
        said["occurred_at"] = call.occurred_at
    return said
