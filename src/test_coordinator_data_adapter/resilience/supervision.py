"""Whether a backend can be used, and the way back when it could not."""

from __future__ import annotations

import asyncio
import random as randomness
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from contextvars import Context
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol, TypedDict

from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    OverloadedError,
    UnavailableError,
)
from test_coordinator_data_adapter.models.values import JsonValue, utc_now
from test_coordinator_data_adapter.resilience.backoff import Backoff
from test_coordinator_data_adapter.resilience.call_health import CallHealth
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.resilience.log_budget import LogBudget
from test_coordinator_data_adapter.resilience.observation import (
    OnSupervision,
    Probed,
    StateChanged,
)

__all__ = ["Backend", "BackendState", "Supervisor"]

# A backend is live within two seconds of its server being up: a pause and an attempt.
_PROBES: Final = Backoff(attempts=2**62, base=0.1, cap=1.0)
# A wrong password or a missing schema is not corrected within a second, and each probe is a login.
_PROBES_OF_MISCONFIGURED: Final = Backoff(attempts=2**62, base=0.5, cap=10.0)
# The share of its time after which a check that got no answer asks another way.
_FIRST_PART: Final = 0.6
# How long health waits for a backend that is known not to answer, in seconds.
_KNOWN_TO_HANG: Final = 0.03
# How long a check may take to end after its time, in seconds.
_CLEANUP: Final = 0.5
_RAISES: Final = "calls raise until it is back"


class BackendState(StrEnum):
    """What a factory knows of a backend."""

    CLOSED = "closed"
    LIVE = "live"
    LOST = "lost"
    UNAVAILABLE = "unavailable"
    MISCONFIGURED = "misconfigured"


class Backend(Protocol):
    """What a factory needs of a backend to supervise it."""

    @property
    def name(self) -> str:
        """What health and events call it."""
        ...

    async def open(self) -> None:
        """Connect and see that everything needed is there; may be called again after a failure.

        Raises:
            AdapterError: it cannot be used; nothing stays open.
        """

    def known(self) -> dict[str, JsonValue]:
        """What `health_check` can tell of it without asking it, open or not; no secrets."""
        ...

    @property
    def answered_at(self) -> float:
        """When it last answered anything, on the clock of `time.monotonic`; 0.0 while not open."""
        ...

    async def facts(self) -> dict[str, JsonValue]:
        """Ask the backend how it is: facts for `health_check` without secrets.

        Raises:
            AdapterError: it does not answer as it should.
        """
        ...

    async def answers(self) -> bool:
        """Whether the server answers on another connection while those of the pool are in use."""
        ...

    async def aclose(self) -> None:
        """Close everything, in bounded time.

        Raises:
            AdapterError: something would not close in order; nothing is left to be done.
        """


class _Health(TypedDict):
    connected: bool
    error: str | None
    state: str
    degraded_since: str | None
    warnings: list[JsonValue]


class Supervisor:
    """Opens a backend, probes it while it cannot be used, and knows its state.

    The state follows from what calls report and from probes. A call that finds the backend
    unavailable, a health check and a probe in the background all change it, and each change is
    logged and emitted once. Once open, a backend stays the one that is handed out: what was
    written to a real backend is never answered from memory afterwards.
    """

    def __init__(
        self,
        backend: Backend,
        events: EventLog,
        *,
        without: str,
        deadline: float,
        calls: CallHealth | None = None,
        on_supervision: OnSupervision | None = None,
        clock: Callable[[], datetime] = utc_now,
        random: Callable[[], float] = randomness.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Supervise ``backend``.

        Args:
            backend: what to open, check and close.
            events: where changes of state are logged.
            without: what works while the backend is missing, for the WARNING.
            deadline: seconds that an attempt to open it, or a probe, may take.
            calls: where the gateway of the backend reports how calls end.
            on_supervision: receives every probe and every change of state.
            clock: the time, aware.
            random: draws a number from 0 to 1, for the back-off.
            sleep: waits so many seconds.
        """
        self.is_open = False
        self.probes = 0
        self._backend = backend
        self._events = events
        self._without = without
        self._deadline = deadline
        self._calls = calls or CallHealth()
        self._on_supervision = on_supervision
        self._clock = clock
        self._random = random
        self._sleep = sleep
        self._reported = BackendState.CLOSED
        self._since: datetime | None = None
        self._budget = LogBudget()
        self._logged = BackendState.CLOSED
        self._busy: str | None = None
        self._hangs = False
        self._checking: asyncio.Task[dict[str, JsonValue]] | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._is_stopped = True
        self._calls.subscribe(self._report)

    @property
    def state(self) -> BackendState:
        """The state that follows from everything known now."""
        error = self._calls.error
        if self._is_stopped:
            return BackendState.CLOSED
        if error is None:
            return BackendState.LIVE if self.is_open else BackendState.CLOSED
        if isinstance(error, ConfigurationError):
            return BackendState.MISCONFIGURED
        return BackendState.LOST if self.is_open else BackendState.UNAVAILABLE

    async def start(self, *, strict: bool) -> None:
        """Open the backend; while that fails, keep trying in the background.

        Raises:
            ConfigurationError: it is misconfigured and ``strict`` holds.
        """
        self._is_stopped = False
        await self._open()
        error = self._calls.error
        if strict and isinstance(error, ConfigurationError):
            raise error
        if error is not None:
            self._ensure_recovery(failures=1)

    async def stop(self) -> None:
        """Stop probing and close the backend; raises nothing but cancellation."""
        self._is_stopped = True
        tasks = [task for task in (self._recovery, self._checking) if task is not None]
        try:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
        finally:
            self.is_open = False
            self._calls.reset()
            try:
                await self._backend.aclose()
            except AdapterError as failure:
                self._events.warning(
                    "backend_not_closed_in_order", backend=self._backend.name, error=str(failure)
                )

    async def health(self, timeout: float) -> dict[str, JsonValue]:  # noqa: ASYNC109 - contract
        """The state of the backend now, within ``timeout`` seconds; never raises an AdapterError.

        Answers at once while the backend is known to hang: a probe waits for its answer anyway.
        """
        facts: dict[str, JsonValue] = {}
        if self.is_open and not self._is_stopped:
            limit = _KNOWN_TO_HANG if self._hangs and self._calls.failing else timeout + _CLEANUP
            checking = self._ensure_check(timeout)
            await asyncio.wait([checking], timeout=limit)
            if checking.done() and not checking.cancelled():
                facts |= checking.result()
        facts |= self._backend.known()
        state, error = self.state, self._calls.error
        health = _Health(
            connected=state is BackendState.LIVE,
            error=self._busy if error is None else str(error),
            state=state.value,
            degraded_since=None if self._since is None else self._since.isoformat(),
            warnings=[],  # a backend that has some reports them among its facts
        )
        return {**health, **facts}

    async def _open(self) -> None:
        self.probes += 1
        began = time.monotonic()
        error: AdapterError | None = None
        try:
            async with asyncio.timeout(self._deadline):
                await self._backend.open()
        except TimeoutError:
            error = UnavailableError(
                f"{self._backend.name} could not be opened within {self._deadline:g} s:"
                " check that it runs and can be reached"
            )
        except AdapterError as refusal:
            # Kept, and perhaps raised, without the frames it came through: they hold the URL, and
            # error trackers collect local variables.
            error = refusal.with_traceback(None)
        except Exception as defect:  # noqa: BLE001 - whatever it is, probing goes on
            error = self._unexpected(defect)
        self.is_open = error is None
        self._emit_probe(began, error)
        if error is None:
            self._calls.reset()
        else:
            self._calls.report_probe(error, answered=False)

    def _ensure_check(self, timeout: float) -> asyncio.Task[dict[str, JsonValue]]:
        """The check under way, or a new one."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(
                self._check(timeout),
                name=f"{self._backend.name} check of test-coordinator-data-adapter",
                context=Context(),
            )
        return self._checking

    async def _check(self, timeout: float) -> dict[str, JsonValue]:  # noqa: ASYNC109 - see health
        """Ask the open backend how it is, and report that; empty when it did not tell."""
        self.probes += 1
        began = time.monotonic()
        facts: dict[str, JsonValue] = {}
        error: AdapterError | None = None
        is_late = is_busy = False
        asking = asyncio.create_task(self._backend.facts())
        try:
            is_busy = await self._answers_only_others(asking, timeout)
            facts |= asking.result()
        except (asyncio.InvalidStateError, OverloadedError):
            is_late = not is_busy
            if is_late:
                error = UnavailableError(
                    f"{self._backend.name} did not answer within {timeout:g} s"
                )
        except AdapterError as refusal:
            error = refusal.with_traceback(None)
        except Exception as defect:  # noqa: BLE001 - whatever it is, probing goes on
            error = self._unexpected(defect)
        finally:
            asking.cancel()
            await asyncio.wait([asking])
        self._hangs = is_late
        self._busy = (
            f"{self._backend.name} is busy: it answers, but no connection of the pool became free"
            f" within {timeout:g} s"
            if is_busy
            else None
        )
        self._emit_probe(began, error)
        if is_busy:
            self._calls.report_answer()
            return {}
        answered = not is_late and self._backend.answered_at >= began
        self._calls.report_probe(error, answered=answered)
        if facts:
            facts["latency_ms"] = round((time.monotonic() - began) * 1000, 3)
        return facts

    async def _answers_only_others(
        self,
        asking: asyncio.Task[dict[str, JsonValue]],
        timeout: float,  # noqa: ASYNC109 - see health
    ) -> bool:
        """Wait for the answer; True when only another connection gets one within the time."""
        ends = asyncio.get_running_loop().time() + timeout
        await asyncio.wait([asking], timeout=timeout * _FIRST_PART)
        if asking.done() and not isinstance(asking.exception(), OverloadedError):
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout_at(ends):
                if await self._backend.answers():
                    return not asking.done() or asking.exception() is not None
                await asyncio.wait([asking])
        return False

    def _ensure_recovery(self, *, failures: int = 0) -> None:
        if self._recovery is None or self._recovery.done():
            self._recovery = asyncio.create_task(
                self._recover(failures),
                name=f"{self._backend.name} probe of test-coordinator-data-adapter",
                context=Context(),
            )

    async def _recover(self, failures: int) -> None:
        """Probe until the backend is live; at once, unless that has just failed."""
        while self.state is not BackendState.LIVE:
            if failures:
                wrong = self.state is BackendState.MISCONFIGURED
                backoff = _PROBES_OF_MISCONFIGURED if wrong else _PROBES
                await self._sleep(backoff.pause(failures, self._random) or 0.0)
            if self.is_open:
                await asyncio.wait([self._ensure_check(self._deadline)])
            else:
                await self._open()
            failures += 1
            self._log_state()

    def _report(self) -> None:
        """Log and emit the state, if it has changed."""
        state, previous = self.state, self._reported
        if state is previous:
            return
        self._reported = state
        is_degraded = state not in {BackendState.LIVE, BackendState.CLOSED}
        self._since = (self._since or self._clock()) if is_degraded else None
        self._log_state()
        if self._on_supervision is not None:
            self._on_supervision(StateChanged(self._backend.name, state.value, previous.value))
        if is_degraded and self.is_open:
            self._ensure_recovery()

    def _log_state(self) -> None:
        """Log the state unless that was done, or there were too many changes within a minute."""
        state, error = self._reported, self._calls.error
        if state in {self._logged, BackendState.CLOSED}:
            return
        if error is None:
            recovered = self._logged is not BackendState.CLOSED
            event = "backend_recovered" if recovered else "backend_opened"
            self._events.info(event, backend=self._backend.name)
        elif (suppressed := self._budget.take()) is not None:
            wrong = state is BackendState.MISCONFIGURED
            log = self._events.error if wrong else self._events.warning
            log(
                f"backend_{state.value}",
                backend=self._backend.name,
                error=str(error),
                still_works=_RAISES if self.is_open else self._without,
                **({"suppressed": suppressed} if suppressed else {}),
            )
        else:
            return
        self._logged = state

    def _unexpected(self, defect: Exception) -> UnavailableError:
        return UnavailableError(
            f"{self._backend.name} could not be used: {type(defect).__name__}, which this"
            " library did not expect"
        )

    def _emit_probe(self, began: float, error: AdapterError | None) -> None:
        if self._on_supervision is not None:
            took = time.monotonic() - began
            self._on_supervision(Probed(self._backend.name, took, error))
