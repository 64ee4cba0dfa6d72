"""What this library says of itself: one past-tense event for each fact."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Generator
from typing import Final

import structlog

__all__ = ["EventLog", "contained_logging"]

_NAME: Final = "test_coordinator_data_adapter"
# What the application may have bound under names that structlog keeps for itself.
_RENAMED: Final = {"event": "bound_event", "level": "bound_level"}


class EventLog:
    """Passes events to structlog where the application has configured it, else to `logging`.

    It configures neither: where nobody has, Python itself shows warnings and errors on standard
    error, so that a script whose data is volatile says so. Context that the application bound with
    `structlog.contextvars` is added in both. Nothing that the application's logging raises (a
    filter, a handler, a processor, a broken pipe) reaches the caller: the event is lost, and the
    call that caused it goes on.
    """

    __slots__ = ("_min_level",)

    def __init__(self, level: str = "INFO") -> None:
        """Pass on events of this level and above: DEBUG, INFO, WARNING, ERROR or CRITICAL."""
        self._min_level: int = logging.getLevelNamesMapping()[level]

    def debug(self, event: str, **facts: object) -> None:
        """One operation."""
        self._log(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: object) -> None:
        """A step of the life cycle."""
        self._log(logging.INFO, event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Something is worse than it should be; the facts say what still works."""
        self._log(logging.WARNING, event, facts)

    def error(self, event: str, **facts: object) -> None:
        """A person has to act; the facts say what to do."""
        self._log(logging.ERROR, event, facts)

    def wants(self, level: int) -> bool:
        """Whether an event of that level would be passed on."""
        return level >= self._min_level

    def _log(self, level: int, event: str, facts: dict[str, object]) -> None:
        # `logging` catches what a handler's `emit` raises, and nothing that a filter does.
        if level >= self._min_level:
            with contextlib.suppress(Exception):
                _pass_on(level, event, facts)


def _pass_on(level: int, event: str, facts: dict[str, object]) -> None:
    bound = structlog.contextvars.get_contextvars()
    facts = {_RENAMED.get(name, name): value for name, value in bound.items()} | facts
    if structlog.is_configured():
        structlog.get_logger(_NAME).log(level, event, **facts)
        return
    logger = logging.getLogger(_NAME)
    if logger.isEnabledFor(level):
        message = " ".join([event, *(f"{name}={value!r}" for name, value in facts.items())])
        logger.log(level, "%s", message, extra={"event": event, "facts": facts})


class _Forwarder(logging.Handler):
    """Takes the place of a logger's handlers: it calls them, and swallows what they raise."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__()
        self.users = 0
        self._logger = logger
        self._handlers, self._propagate = list(logger.handlers), logger.propagate
        logger.handlers, logger.propagate = [self], False

    def handle(self, record: logging.LogRecord) -> bool:
        with contextlib.suppress(Exception):
            for handler in self._handlers:
                if record.levelno >= handler.level:
                    handler.handle(record)
            if self._propagate and self._logger.parent is not None:
                self._logger.parent.callHandlers(record)
        return True

    def restore(self) -> None:
        self._logger.handlers, self._logger.propagate = self._handlers, self._propagate


@contextlib.contextmanager
def contained_logging(name: str) -> Generator[None]:
    """Let a library that this one calls log, and nothing that the application's logging raises.

    Records go where they went before. It may be entered by several calls at once.

    Args:
        name: the library's root logger.
    """
    with _LOCK:
        forwarder = _FORWARDERS.get(name)
        if forwarder is None:
            forwarder = _FORWARDERS[name] = _Forwarder(logging.getLogger(name))
        forwarder.users += 1
    try:
        yield
    finally:
        with _LOCK:
            forwarder.users -= 1
            if not forwarder.users:
                _FORWARDERS.pop(name).restore()


_LOCK: Final = threading.Lock()
_FORWARDERS: Final[dict[str, _Forwarder]] = {}
