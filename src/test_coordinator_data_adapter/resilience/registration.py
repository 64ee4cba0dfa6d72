"""A service that stays registered for as long as it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from types import TracebackType
from typing import Final, Protocol, Self

from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    InvalidValueError,
    NotFoundError,
)
from test_coordinator_data_adapter.models.service import ServiceInfo
from test_coordinator_data_adapter.models.values import utc_now
from test_coordinator_data_adapter.resilience.cancellation import to_its_end
from test_coordinator_data_adapter.resilience.events import EventLog

__all__ = ["Registration", "Registry"]

_FAREWELL: Final = 5.0


class Registry(Protocol):
    """What of the registry's port a registration needs."""

    async def register(self, service: ServiceInfo) -> ServiceInfo:
        """Make an instance known."""
        ...

    async def update_heartbeat(self, service_id: str) -> ServiceInfo:
        """A sign of life; `NotFoundError` when it is not registered."""
        ...

    async def deregister(self, service_id: str) -> bool:
        """Forget an instance."""
        ...


class Registration:
    """Keeps one service registered from entry to exit of an ``async with``.

    * On entry it is registered; from then on it beats at every interval.
    * A registry that has lost it (restarted empty, say) gets it again at the next beat.
    * A registry that does not answer, on entry or later, is asked again at the next beat; the log
      hears of it once, and once when it answers again.
    * On exit, and on cancellation at any time, it is deregistered, within ``farewell`` seconds;
      if that fails it is left to be removed as stale.

    One task beats, owned by this object; it is gone after the exit. Use it once.
    """

    def __init__(
        self,
        registry: Callable[[], Registry],
        service: ServiceInfo,
        *,
        heartbeat_interval: float,
        events: EventLog,
        farewell: float = _FAREWELL,
        clock: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Prepare; nothing is registered yet.

        Args:
            registry: gives the registry to use now; asked before every call, so that it may be
                in memory first and the shared one later.
            service: who to register; ``last_seen`` becomes now whenever it is registered.
            heartbeat_interval: seconds between two beats.
            events: where changes of state are told.
            farewell: seconds that deregistering may take.
            clock: the time, aware.
            sleep: waits so many seconds.

        Raises:
            InvalidValueError: the service breaks a rule.
        """
        self._registry = registry
        self._service = ServiceInfo.checked(service)
        self._interval = heartbeat_interval
        self._events = events
        self._farewell = farewell
        self._clock = clock
        self._sleep = sleep
        self._failing = False
        self._beating: asyncio.Task[None] | None = None

    @property
    def service(self) -> ServiceInfo:
        """The service as it was last known to be registered; a copy."""
        return self._service.clone()

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt to register or to beat failed."""
        return self._failing

    async def __aenter__(self) -> Self:
        try:
            await self._register()
        except (ConfigurationError, InvalidValueError):
            raise
        except AdapterError as failure:
            self._note_failed(failure)
        except asyncio.CancelledError:
            # It may have arrived, and nobody is going to exit.
            await self._say_farewell()
            raise
        self._beating = asyncio.create_task(
            self._beat_for_ever(), name=f"heartbeat of {self._service.service_id}"
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._say_farewell()

    async def _say_farewell(self) -> None:
        # A task of its own: a cancellation that arrives now must not leave the service registered.
        await to_its_end(
            asyncio.create_task(self._leave(), name=f"farewell of {self._service.service_id}")
        )

    async def _beat_for_ever(self) -> None:
        while True:
            await self._sleep(self._interval)
            try:
                await self._beat()
            except AdapterError as failure:
                self._note_failed(failure)
            else:
                self._note_recovered()

    async def _beat(self) -> None:
        try:
            self._service = await self._registry().update_heartbeat(self._service.service_id)
        except NotFoundError:
            await self._register()
            if not self._failing:
                self._events.warning(
                    "service_registered_again",
                    service_id=self._service.service_id,
                    reason="the registry had lost it",
                    still_works="everything; others may have missed it for one interval",
                )

    async def _register(self) -> None:
        service = self._service.model_copy(update={"last_seen": self._clock()})
        self._service = await self._registry().register(service)

    async def _leave(self) -> None:
        try:
            async with asyncio.timeout(self._farewell):
                if self._beating is not None:
                    self._beating.cancel()
                    await asyncio.wait([self._beating])
                await self._registry().deregister(self._service.service_id)
        except (AdapterError, TimeoutError) as failure:
            self._events.warning(
                "deregistration_failed",
                service_id=self._service.service_id,
                error=str(failure) or f"no answer within {self._farewell:g} s",
                still_works="the registry removes it as stale",
            )
        if self._beating is not None and not self._beating.cancelled():
            self._beating.result()

    def _note_failed(self, failure: AdapterError) -> None:
        if not self._failing:
            self._events.warning(
                "heartbeat_failed",
                service_id=self._service.service_id,
                error=str(failure),
                still_works="it is tried again at every interval",
            )
        self._failing = True

    def _note_recovered(self) -> None:
        if self._failing:
            self._events.info("heartbeat_recovered", service_id=self._service.service_id)
        self._failing = False
