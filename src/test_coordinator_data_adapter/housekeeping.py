"""Housekeeping of a running service: health, stale services and expired data, at intervals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeAlias

from test_coordinator_data_adapter.errors import AdapterError, InvalidValueError
from test_coordinator_data_adapter.resilience.cancellation import to_its_end
from test_coordinator_data_adapter.resilience.events import EventLog

if TYPE_CHECKING:
    from test_coordinator_data_adapter.factory import AdapterFactory

__all__ = ["housekeeping"]

_Job: TypeAlias = "Callable[[], Awaitable[object]]"

_INTERVAL: Final = 30.0
_PRUNE_INTERVAL: Final = 3600.0


@asynccontextmanager
async def housekeeping(
    factory: AdapterFactory,
    *,
    interval: float = _INTERVAL,
    prune_interval: float = _PRUNE_INTERVAL,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = monotonic,
) -> AsyncGenerator[None]:
    """Run the housekeeping of a service while an ``async with`` lasts.

    At every interval the backends' health is checked, so that a loss is noticed without traffic,
    and services that were silent for longer than ``stale_service_threshold`` are removed. Expired
    data are deleted by the retention settings once at the start and then at every
    ``prune_interval``. A job that fails is logged once as a WARNING (``housekeeping_failed``) and
    once when it succeeds again; it never stops the others. Several instances may run it at the
    same time.

    One task does the work; it has ended when the block has been left.

    Args:
        factory: an initialised factory; it stays the caller's to close.
        interval: seconds between two rounds, more than 0.
        prune_interval: seconds between two deletions of expired data, more than 0.
        sleep: waits for a number of seconds.
        clock: a monotonic clock, in seconds.

    Raises:
        InvalidValueError: an interval is not a positive number of seconds.
    """
    for name, value in (("interval", interval), ("prune_interval", prune_interval)):
        if not value > 0:
            rule = "must be a positive number of seconds"
            raise InvalidValueError(f"{name} {rule}", field=name, rule=rule)
    rounds = _Rounds(factory, prune_interval, clock)

    async def loop() -> None:
        while True:
            await rounds.run()
            await sleep(interval)

    task = asyncio.create_task(loop(), name="housekeeping")
    try:
        yield
    finally:
        task.cancel()
        await to_its_end(asyncio.ensure_future(asyncio.wait([task])))
        if not task.cancelled():
            task.result()


class _Rounds:
    """The jobs of one round, and which of them failed in the round before."""

    def __init__(
        self, factory: AdapterFactory, prune_interval: float, clock: Callable[[], float]
    ) -> None:
        self._factory = factory
        self._prune_interval = prune_interval
        self._clock = clock
        self._next_prune = clock()
        self._failing: set[str] = set()
        self._events = EventLog(factory.config.log_level)

    async def run(self) -> None:
        await self._run("health_check", self._factory.health_check)
        await self._run("remove_stale_services", self._factory.remove_stale_services)
        if self._clock() >= self._next_prune:
            self._next_prune = self._clock() + self._prune_interval
            await self._run("prune_expired", self._factory.prune_expired)

    async def _run(self, name: str, job: _Job) -> None:
        try:
            await job()
        except AdapterError as error:
            if name not in self._failing:
                self._events.warning(
                    "housekeeping_failed",
                    job=name,
                    error=str(error),
                    still_works="everything else; the job is retried at the next interval",
                )
            self._failing.add(name)
        else:
            if name in self._failing:
                self._events.info("housekeeping_recovered", job=name)
            self._failing.discard(name)
