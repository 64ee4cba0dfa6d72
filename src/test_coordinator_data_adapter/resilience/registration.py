"""A service that stays registered for as long as it runs."""

from __future__ import annotations

import asyncio
import secrets
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

_DEREGISTER_TIMEOUT: Final = 5.0


class Registry(Protocol):
    """What of the registry's port a registration needs."""

    async def register_with_token(self, service: ServiceInfo, token: str) -> ServiceInfo:
        """Register an instance, under a token that names this registration."""
        ...

    async def update_heartbeat(self, service_id: str) -> ServiceInfo:
        """A sign of life; `NotFoundError` when it is not registered."""
        ...

    async def deregister_with_token(self, service_id: str, token: str) -> bool:
        """End what was registered under a token, and nothing else."""
        ...


class Registration:
    """Keeps one service registered from entry to exit of an ``async with``.

    * On entry the service is registered; from then on a heartbeat is sent at every interval.
    * When the registry has lost the service (it was restarted empty, or evicted keys), the next
      heartbeat registers it again.
    * When the registry does not answer, on entry or later, the next heartbeat tries again; a
      WARNING is logged once, and an INFO once it answers again.
    * On exit, and on cancellation at any time, its own registration ends, within
      ``deregister_timeout`` seconds. A successor that has registered under the same id stays
      registered, and a registration of its own that is still on its way has no effect. If the
      registry cannot be reached, the registration is left to be removed as stale.

    One task sends the heartbeats, owned by this object; it is gone after the exit. Use it once.
    """

    def __init__(
        self,
        registry: Callable[[], Registry],
        service: ServiceInfo,
        *,
        heartbeat_interval: float,
        events: EventLog,
        deregister_timeout: float = _DEREGISTER_TIMEOUT,
        clock: Callable[[], datetime] = utc_now,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Prepare; nothing is registered yet.

        Args:
            registry: gives the registry to use now; asked before every call, so that it may be
                in memory first and the shared one later.
            service: who to register; ``last_seen`` becomes now whenever it is registered.
            heartbeat_interval: seconds between two heartbeats.
            events: where changes of state are logged.
            deregister_timeout: seconds that deregistering may take.
            clock: the time, aware.
            sleep: waits for that many seconds.

        Raises:
            InvalidValueError: the service breaks a rule.
        """
        self._registry = registry
        self._service = ServiceInfo.checked(service)
        self._interval = heartbeat_interval
        self._events = events
        self._deregister_timeout = deregister_timeout
        self._clock = clock
        self._sleep = sleep
        self._token = secrets.token_hex(8)
        self._failing = False
        self._heartbeats: asyncio.Task[None] | None = None

    @property
    def service(self) -> ServiceInfo:
        """The service as it was last known to be registered; a copy."""
        return self._service.clone()

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt to register or to send a heartbeat failed."""
        return self._failing

    async def __aenter__(self) -> Self:
        try:
            await self._register()
        except (ConfigurationError, InvalidValueError):
            raise
        except AdapterError as failure:
            self._note_failed(failure)
        except asyncio.CancelledError:
            # The request may have arrived, and `__aexit__` will not be called.
            await self._deregister_shielded()
            raise
        self._heartbeats = asyncio.create_task(
            self._heartbeat_loop(), name=f"heartbeat of {self._service.service_id}"
        )
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._deregister_shielded()

    async def _deregister_shielded(self) -> None:
        # A task of its own: a cancellation that arrives now must not leave the service registered.
        await to_its_end(
            asyncio.create_task(
                self._deregister(), name=f"deregistration of {self._service.service_id}"
            )
        )

    async def _heartbeat_loop(self) -> None:
        while True:
            await self._sleep(self._interval)
            try:
                await self._heartbeat()
            except AdapterError as failure:
                self._note_failed(failure)
            else:
                self._note_recovered()

    async def _heartbeat(self) -> None:
        try:
            registered = await self._registry().update_heartbeat(self._service.service_id)
            # The rest of it may be a successor's, which is not ours to register again.
            self._service = self._service.model_copy(update={"last_seen": registered.last_seen})
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
        self._service = await self._registry().register_with_token(service, self._token)

    async def _deregister(self) -> None:
        try:
            async with asyncio.timeout(self._deregister_timeout):
                if self._heartbeats is not None:
                    self._heartbeats.cancel()
                    await asyncio.wait([self._heartbeats])
                await self._registry().deregister_with_token(self._service.service_id, self._token)
        except (AdapterError, TimeoutError) as failure:
            self._events.warning(
                "deregistration_failed",
                service_id=self._service.service_id,
                error=str(failure) or f"no answer within {self._deregister_timeout:g} s",
                still_works="the registry removes it as stale",
            )
        if self._heartbeats is not None and not self._heartbeats.cancelled():
            self._heartbeats.result()

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
