"""What this library says of itself: one past-tense event for each fact."""

from __future__ import annotations

import contextlib
import logging
from typing import Final

import structlog

__all__ = ["EventLog"]

_NAME: Final = "test_coordinator_data_adapter"
# What the application may have bound under names that structlog keeps for itself.
_RENAMED: Final = {"event": "bound_event", "level": "bound_level"}


class EventLog:
    """Hands events to structlog where the application has configured it, else to `logging`.

    It configures neither: where nobody has, Python itself shows warnings and errors on standard
    error, so that a script whose data go nowhere says so. Context that the application bound with
    `structlog.contextvars` goes along in both. A sink that fails, such as a closed or a broken
    pipe, loses the event and nothing else: what was under way goes on.
    """

    __slots__ = ("_least",)

    def __init__(self, level: str = "INFO") -> None:
        """Pass on events of this level and above: DEBUG, INFO, WARNING, ERROR or CRITICAL."""
        self._least: int = logging.getLevelNamesMapping()[level]

    def debug(self, event: str, **facts: object) -> None:
        """One operation."""
        self._tell(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: object) -> None:
        """A step of the life cycle."""
        self._tell(logging.INFO, event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Something is worse than it should be; the facts say what still works."""
        self._tell(logging.WARNING, event, facts)

    def error(self, event: str, **facts: object) -> None:
        """A person has to act; the facts say what to do."""
        self._tell(logging.ERROR, event, facts)

    def wants(self, level: int) -> bool:
        """Whether an event of that level would be passed on."""
        return level >= self._least

    def _tell(self, level: int, event: str, facts: dict[str, object]) -> None:
        if level < self._least:
            return
        bound = structlog.contextvars.get_contextvars()
        facts = {_RENAMED.get(name, name): value for name, value in bound.items()} | facts
        if structlog.is_configured():
            with contextlib.suppress(Exception):  # `logging` survives its handlers by itself
                structlog.get_logger(_NAME).log(level, event, **facts)
            return
        logger = logging.getLogger(_NAME)
        if logger.isEnabledFor(level):
            told = " ".join([event, *(f"{name}={value!r}" for name, value in facts.items())])
            logger.log(level, "%s", told, extra={"event": event, "facts": facts})
