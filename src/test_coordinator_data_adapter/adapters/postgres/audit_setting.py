"""What a mutation tells the audit trail, carried by its own statement."""

from __future__ import annotations

from dataclasses import asdict
from typing import Final

import orjson

from test_coordinator_data_adapter.interfaces.audit import AuditContext, current_audit_context

__all__ = ["AUDIT_SETTING", "Teller"]

AUDIT_SETTING: Final = "test_coordinator_adapter.audit"
"""The setting that the triggers read; it lasts as long as the transaction."""
_NOTHING: Final = AuditContext()


class Teller:
    """Says who acts and why, as the triggers read it."""

    __slots__ = ("_actor", "_usual")

    def __init__(self, actor: str | None) -> None:
        """Name ``actor`` where nothing else is said; None leaves it to the database's role."""
        self._actor = actor
        self._usual = self._as_text(_NOTHING)

    def __call__(self, *, operation: str | None = None) -> str:
        """What is to be said of a mutation made now, in this task.

        Args:
            operation: what it is, where the rows it touches do not show that.
        """
        context = current_audit_context()
        if context == _NOTHING and operation is None:
            return self._usual
        return self._as_text(context, operation)

    def _as_text(self, context: AuditContext, operation: str | None = None) -> str:
        said = {name: value for name, value in asdict(context).items() if value is not None}
        if self._actor is not None:
            said.setdefault("actor", self._actor)
        if operation is not None:
            said["operation"] = operation
        return orjson.dumps(said).decode()
