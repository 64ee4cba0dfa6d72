"""What the calls to a backend, and its probes, report of its health."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    OutcomeUnknownError,
    UnavailableError,
)
from test_coordinator_data_adapter.resilience.event_loop import WrongEventLoopError

__all__ = ["CallHealth"]

# How long a refusal counts while no call repeats it, in seconds. Where health decides who gets
# calls, a backend that gets none could otherwise never prove that it works again.
_REFUSAL_LIFETIME: Final = 30.0
_PROBE: Final = "probe"
_REPORTED: Final = (ConfigurationError, OutcomeUnknownError, UnavailableError)


class CallHealth:
    """Collects the evidence that a backend cannot be used.

    A gateway reports every failure, and successes only while `failing` is true: a healthy backend
    costs a call one look at an attribute. There are two kinds of evidence. That the backend does
    not answer is disproved by any answer. That it refuses something (it is read-only, a privilege
    is missing) is disproved by the success of the same kind of call, or expires.

    Attributes:
        failing: whether there is any evidence.
    """

    __slots__ = ("_clock", "_on_change", "_refusals", "_unanswered", "failing")

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.failing = False
        self._clock = clock
        self._on_change: Callable[[], object] | None = None
        self._unanswered: AdapterError | None = None
        self._refusals: dict[str, tuple[AdapterError, float]] = {}

    def subscribe(self, on_change: Callable[[], object]) -> None:
        """Have a function called after every report."""
        self._on_change = on_change

    @property
    def error(self) -> AdapterError | None:
        """The most important error among the evidence; None if there is none."""
        if self._unanswered is not None:
            return self._unanswered
        if _PROBE in self._refusals:
            return self._refusals[_PROBE][0]
        errors = [error for error, _ in self._refusals.values()]
        wrong = (error for error in errors if isinstance(error, ConfigurationError))
        return next(wrong, errors[-1] if errors else None)

    def report_failure(self, error: AdapterError, kind: str, *, answered: bool) -> None:
        """Note that a call failed.

        Args:
            error: what it raised; an error that says nothing about the backend is ignored.
            kind: which calls it stands for, such as "write test_run".
            answered: whether the backend answered, and refused.
        """
        if not isinstance(error, _REPORTED) or isinstance(error, WrongEventLoopError):
            return
        if answered:
            self._unanswered = None
            self._refusals[kind] = (error, self._clock())
        else:
            self._unanswered = error
        self._changed()

    def report_success(self, kind: str, *, writes: bool) -> None:
        """Note that a call of that kind succeeded; to be called only while `failing` is true."""
        self._unanswered = None
        self._refusals.pop(kind, None)
        probe = self._refusals.get(_PROBE)
        if writes and probe is not None and isinstance(probe[0], UnavailableError):
            del self._refusals[_PROBE]
        self._changed()

    def report_answer(self) -> None:
        """Note that the backend answers, whatever that proves."""
        self._unanswered = None
        self._changed()

    def report_probe(self, error: AdapterError | None, *, answered: bool = True) -> None:
        """Note how a probe ended.

        Args:
            error: what it failed with; None: the backend answered as it should.
            answered: whether the backend answered at all.
        """
        self._refusals.pop(_PROBE, None)
        if error is None:
            self._unanswered = None
            oldest = self._clock() - _REFUSAL_LIFETIME
            for kind, (_, timestamp) in tuple(self._refusals.items()):
                if timestamp <= oldest:
                    del self._refusals[kind]
        elif answered or isinstance(error, ConfigurationError):
            self._unanswered = None
            self._refusals[_PROBE] = (error, self._clock())
        else:
            self._unanswered = error
        self._changed()

    def reset(self) -> None:
        """Forget all evidence."""
        self._unanswered = None
        self._refusals.clear()
        self._changed()

    def _changed(self) -> None:
        self.failing = self._unanswered is not None or bool(self._refusals)
        if self._on_change is not None:
            self._on_change()
