"""Whether a backend can be used, and the way back when it could not."""

from __future__ import annotations

import asyncio
import random as randomness
import time
from collections.abc import Awaitable, Callable
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
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.resilience.observation import (
    OnSupervision,
    Probed,
    StateChanged,
)

__all__ = ["Backend", "BackendState", "Supervisor"]

_PROBES: Final = Backoff(attempts=2**62, base=0.5, cap=30.0)


class BackendState(StrEnum):
    """What a factory knows of a backend."""

    CLOSED = "closed"
    LIVE = "live"
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
    """Opens a backend, tries again in the background while it cannot, and knows how it is.

    Once live it stays live for whoever asks: what was written to a real backend is never
    answered from memory afterwards; a backend that dies later, or refuses later, shows in
    `health`.
    """

    def __init__(
        self,
        backend: Backend,
        events: EventLog,
        *,
        without: str,
        deadline: float,
        on_supervision: OnSupervision | None = None,
        clock: Callable[[], datetime] = utc_now,
        random: Callable[[], float] = randomness.random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Supervise ``backend``.

        Args:
            backend: what to open, ask and close.
            events: where changes of state are told.
            without: what works while it is missing, for the WARNING.
            deadline: seconds one attempt to open it may take.
            on_supervision: is told of every probe and every change of state.
            clock: the time, aware.
            random: draws a number from 0 to 1, for the back-off.
            sleep: waits so many seconds.
        """
        self.state = BackendState.CLOSED
        self._backend = backend
        self._events = events
        self._without = without
        self._deadline = deadline
        self._on_supervision = on_supervision
        self._told: str = self.state.value
        self._clock = clock
        self._random = random
        self._sleep = sleep
        self._since: datetime | None = None
        self._error: AdapterError | None = None
        self._probing: asyncio.Task[None] | None = None
        self.probes = 0

    @property
    def is_live(self) -> bool:
        """Whether its repositories may be handed out."""
        return self.state is BackendState.LIVE

    async def start(self, *, strict: bool) -> None:
        """Open the backend; while that fails, keep trying in the background.

        Raises:
            ConfigurationError: it is misconfigured and ``strict`` holds.
        """
        failure = await self._attempt()
        if failure is None:
            return
        if strict and isinstance(failure, ConfigurationError):
            raise failure
        self._probing = asyncio.create_task(
            self._probe(), name=f"{self._backend.name} probe of test-coordinator-data-adapter"
        )

    async def stop(self) -> None:
        """Stop trying and close the backend; raises nothing but cancellation."""
        probing, self._probing = self._probing, None
        try:
            if probing is not None:
                probing.cancel()
                await asyncio.wait([probing])
        finally:
            self.state = BackendState.CLOSED
            self._tell_state()
            try:
                await self._backend.aclose()
            except AdapterError as failure:
                self._events.warning(
                    "backend_not_closed_in_order", backend=self._backend.name, error=str(failure)
                )

    async def health(self, timeout: float) -> dict[str, JsonValue]:  # noqa: ASYNC109 - contract
        """How the backend is now, within ``timeout`` seconds; never raises an AdapterError."""
        facts: dict[str, JsonValue] = {}
        busy: AdapterError | None = None
        if self.is_live:
            began = time.monotonic()
            try:
                async with asyncio.timeout(timeout):
                    facts |= await self._backend.facts()
                facts["latency_ms"] = round((time.monotonic() - began) * 1000, 3)
                self._note_recovered()
            except (TimeoutError, OverloadedError) as failure:
                late = f"{self._backend.name} did not answer within {timeout:g} s"
                missed = failure if isinstance(failure, OverloadedError) else UnavailableError(late)
                if self._backend.answered_at >= began:
                    busy = missed  # with the factory's other calls: it is not lost
                else:
                    self._note_failed(missed)
            except AdapterError as failure:
                self._note_failed(failure)
            self._tell_probe(began)
        facts |= self._backend.known()
        error = self._error or busy
        told = _Health(
            connected=self.is_live and self._error is None,
            error=None if error is None else str(error),
            state=(BackendState.MISCONFIGURED if self._is_refused else self.state).value,
            degraded_since=None if self._since is None else self._since.isoformat(),
            warnings=[],  # a backend that has some reports them among its facts
        )
        return {**told, **facts}

    async def _attempt(self) -> AdapterError | None:
        began = time.monotonic()
        failure = await self._open()
        self._tell_probe(began)
        return failure

    async def _open(self) -> AdapterError | None:
        self.probes += 1
        try:
            async with asyncio.timeout(self._deadline):
                await self._backend.open()
        except TimeoutError:
            failure: AdapterError = UnavailableError(
                f"{self._backend.name} could not be opened within {self._deadline:g} s:"
                " check that it runs and can be reached"
            )
        except AdapterError as refused:
            # Kept, and perhaps raised, without the frames it came through: they hold the URL, and
            # error trackers collect local variables.
            failure = refused.with_traceback(None)
        except Exception as defect:  # noqa: BLE001 - whatever it is, probing goes on
            failure = UnavailableError(
                f"{self._backend.name} could not be opened: {type(defect).__name__}, which this"
                " library did not expect"
            )
        else:
            if self._since is None:
                self._events.info("backend_opened", backend=self._backend.name)
            self.state = BackendState.LIVE
            self._note_recovered()
            return None
        broken = isinstance(failure, ConfigurationError)
        state = BackendState.MISCONFIGURED if broken else BackendState.UNAVAILABLE
        changed = state is not self.state
        self.state = state
        self._error = failure
        self._since = self._since or self._clock()
        if changed:
            tell = self._events.error if broken else self._events.warning
            tell(
                "backend_misconfigured" if broken else "backend_unavailable",
                backend=self._backend.name,
                error=str(failure),
                still_works=self._without,
            )
        return failure

    async def _probe(self) -> None:
        failures = 1
        while True:
            await self._sleep(_PROBES.pause(failures, self._random) or 0.0)
            if await self._attempt() is None:
                return
            failures += 1

    @property
    def _is_refused(self) -> bool:
        return isinstance(self._error, ConfigurationError)

    def _note_failed(self, failure: AdapterError) -> None:
        was_lost, was_refused = self._error is not None, self._is_refused
        self._since = self._since or self._clock()
        self._error = failure
        if was_lost and was_refused is self._is_refused:
            return
        tell = self._events.error if self._is_refused else self._events.warning
        tell(
            "backend_misconfigured" if self._is_refused else "backend_lost",
            backend=self._backend.name,
            error=str(failure),
            still_works="calls raise until it is back",
        )

    def _note_recovered(self) -> None:
        if self._since is not None:
            self._events.info("backend_recovered", backend=self._backend.name)
        self._since = None
        self._error = None

    def _tell_probe(self, began: float) -> None:
        if self._on_supervision is not None:
            took = time.monotonic() - began
            self._on_supervision(Probed(self._backend.name, took, self._error))
            self._tell_state()

    def _tell_state(self) -> None:
        state = self.state.value
        if self.is_live and self._error is not None:
            state = BackendState.MISCONFIGURED.value if self._is_refused else "lost"
        if self._on_supervision is not None and state != self._told:
            self._on_supervision(StateChanged(self._backend.name, state, self._told))
        self._told = state
