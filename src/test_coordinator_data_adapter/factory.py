"""The composition root: opens the backends, hands out repositories, reports, closes."""

from __future__ import annotations

import asyncio
import math
import warnings
from contextlib import AsyncExitStack, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Self, TypeVar

from test_coordinator_data_adapter import __version__
from test_coordinator_data_adapter.adapters.stub import (
    MemoryStore,
    StubAuditRepository,
    StubCacheRepository,
    StubChaosEventsRepository,
    StubRetentionRepository,
    StubScenariosRepository,
    StubServiceDiscoveryRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.backends import Supervised, postgres_backend, redis_backend
from test_coordinator_data_adapter.config import (
    AdapterConfig,
    closest_variable,
    mask_password,
    unknown_variables,
)
from test_coordinator_data_adapter.errors import AdapterError, ConfigurationError
from test_coordinator_data_adapter.interfaces.arguments import moment
from test_coordinator_data_adapter.interfaces.retention import RetentionPolicy
from test_coordinator_data_adapter.models.chaos_event import ChaosEvent
from test_coordinator_data_adapter.models.scenario import Scenario
from test_coordinator_data_adapter.models.test_result import TestResult
from test_coordinator_data_adapter.models.test_run import TestRun
from test_coordinator_data_adapter.models.values import MIN_MOMENT, utc_now
from test_coordinator_data_adapter.observability.watch import Watch
from test_coordinator_data_adapter.resilience.cached_reads import (
    CachedReads,
    with_cached_reads,
    with_told_sweeps,
)
from test_coordinator_data_adapter.resilience.cancellation import to_its_end
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.resilience.registration import Registration
from test_coordinator_data_adapter.resilience.supervision import BackendState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from test_coordinator_data_adapter.adapters.postgres.backend import (
        OpenPostgres,
        SessionMaker,
    )
    from test_coordinator_data_adapter.adapters.redis.backend import Client, OpenRedis
    from test_coordinator_data_adapter.interfaces.audit import AuditRepository
    from test_coordinator_data_adapter.interfaces.cache import CacheRepository
    from test_coordinator_data_adapter.interfaces.chaos_events import ChaosEventsRepository
    from test_coordinator_data_adapter.interfaces.retention import (
        OnProgress,
        RetentionReport,
        RetentionRepository,
    )
    from test_coordinator_data_adapter.interfaces.scenarios import ScenariosRepository
    from test_coordinator_data_adapter.interfaces.service_discovery import (
        ServiceDiscoveryRepository,
    )
    from test_coordinator_data_adapter.interfaces.test_results import TestResultsRepository
    from test_coordinator_data_adapter.interfaces.test_runs import TestRunsRepository
    from test_coordinator_data_adapter.models.entity import Entity
    from test_coordinator_data_adapter.models.service import ServiceInfo
    from test_coordinator_data_adapter.models.values import JsonValue
    from test_coordinator_data_adapter.observability.facts import Observer

__all__ = ["AdapterFactory"]

OpenT = TypeVar("OpenT")
RepositoryT = TypeVar("RepositoryT")

_REPORTED: Final[set[str]] = set()
_READERS_TIMEOUT: Final = 0.5
_ELSEWHERE: Final = "this factory is open in another event loop"
_IN_MEMORY: Final = "nothing was opened: everything is kept in memory and gone with the process"


class AdapterFactory:
    """Opens what is configured, hands out repositories, and closes what it opened.

    Use it as an async context manager, or call `initialize` and `cleanup`. Where a backend
    cannot be used, the repositories it would serve are in memory: one store for each
    factory, so that every handle sees the same data; volatile, as health and a WARNING say.
    Which one a caller gets is decided when it asks for a repository and never changes in
    the middle of a call. A backend that was live and dies stays the one handed out: its
    repositories raise until it is back, and never answer from memory.

    A factory belongs to one event loop at a time and can be initialised again after
    `cleanup`, then with an empty memory. Where an event loop ended without `cleanup`, what was
    open there is discarded, with a WARNING, when another one initialises the factory.

    Attributes:
        config: the settings it was made with.
    """

    def __init__(
        self, config: AdapterConfig | None = None, *, observers: Sequence[Observer] = ()
    ) -> None:
        """Make a factory; nothing is opened yet.

        Args:
            config: the settings; None reads them from the environment.
            observers: who is told of every operation, trip and change of state.

        Raises:
            pydantic.ValidationError: the environment holds a bad value.
        """
        self.config = config or AdapterConfig()
        self._is_initialized = False
        self._changing = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opened = AsyncExitStack()
        self._events = EventLog(self.config.log_level)
        _warn_of_unknown_variables(self._events)
        self._watch = Watch(
            observers,
            self._events,
            slow_after=self.config.slow_query_threshold_ms / 1000 or math.inf,
            statements=self.config.log_sql_queries,
        )
        self._memory = MemoryStore(audit_actor=self.config.audit_actor)
        self._warned = False
        self._postgres: Supervised[OpenPostgres] | None = None
        self._redis: Supervised[OpenRedis] | None = None
        self._cached_reads: CachedReads | None = None

    async def initialize(self) -> None:
        """Open the backends; again does nothing.

        A backend that does not answer is tried again in the background; until it answers,
        its repositories are in memory.

        Raises:
            ConfigurationError: a backend is misconfigured and ``startup_strict`` holds;
                nothing stays open. Or the factory is open in another event loop, and stays so.
        """
        async with self._one_at_a_time():
            if self._is_initialized:
                return
            async with AsyncExitStack() as opening:
                if not self.config.in_memory:
                    await self._open_backends(opening)
                self._opened = opening.pop_all()
            self._is_initialized = True
            self._events.info("factory_initialized", instance=self.config.service_instance_name)

    async def cleanup(self) -> None:
        """Close everything `initialize` opened; again does nothing.

        Who is cancelled while it closes comes back when it has.

        Raises:
            ConfigurationError: it was opened in another event loop, and stays open: sockets can
                only be closed where they were opened.
        """
        async with self._one_at_a_time():
            if not self._is_initialized:
                return
            opened = self._forget()
            # Half closed, it could not be closed again: what is begun is done.
            await to_its_end(asyncio.create_task(opened.aclose(), name="closing the factory"))
            self._events.info("factory_closed", instance=self.config.service_instance_name)

    async def __aenter__(self) -> Self:
        """Initialise; comes back with the factory."""
        await self.initialize()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Clean up, whatever happened."""
        await self.cleanup()

    def __del__(self) -> None:
        """Say that it was never closed."""
        if getattr(self, "_is_initialized", False):
            warnings.warn(
                f"unclosed {type(self).__name__}: use `async with`, or await cleanup()",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )

    async def health_check(self) -> dict[str, JsonValue]:
        """How the factory and its backends are; never raises, holds no secret.

        Returns:
            ``factory_initialized``, ``status`` ("healthy", "degraded" or "misconfigured"),
            ``version``, and under ``postgres`` and ``redis`` at least ``connected``,
            ``error``, ``state`` and ``warnings``; within ``health_check_timeout`` seconds.
        """
        postgres, redis = await asyncio.gather(
            self._health_of(self._postgres), self._health_of(self._redis)
        )
        states = {postgres["state"], redis["state"]}
        if BackendState.MISCONFIGURED in states:
            status = "misconfigured"
        else:
            status = "healthy" if postgres["connected"] and redis["connected"] else "degraded"
        return {
            "factory_initialized": self._is_initialized,
            "status": status,
            "version": __version__,
            "postgres": postgres,
            "redis": redis,
        }

    def get_scenarios_repository(self, use_stub: bool = False) -> ScenariosRepository:
        """Where scenarios are kept; ``use_stub`` asks for the one in memory."""
        live = self._live(self._postgres, use_stub)
        if live:
            return self._watch.repository(self._cached(live.scenarios, Scenario), "postgres")
        return self._watch.repository(StubScenariosRepository(self._memory), "stub")

    def get_test_runs_repository(self, use_stub: bool = False) -> TestRunsRepository:
        """Where test runs are kept; ``use_stub`` asks for the one in memory."""
        live = self._live(self._postgres, use_stub)
        if live:
            return self._watch.repository(self._cached(live.test_runs, TestRun), "postgres")
        return self._watch.repository(StubTestRunsRepository(self._memory), "stub")

    def get_chaos_events_repository(self, use_stub: bool = False) -> ChaosEventsRepository:
        """Where chaos events are kept; ``use_stub`` asks for the one in memory."""
        live = self._live(self._postgres, use_stub)
        if live:
            return self._watch.repository(self._cached(live.chaos_events, ChaosEvent), "postgres")
        return self._watch.repository(StubChaosEventsRepository(self._memory), "stub")

    def get_test_results_repository(self, use_stub: bool = False) -> TestResultsRepository:
        """Where test results are kept; ``use_stub`` asks for the one in memory."""
        live = self._live(self._postgres, use_stub)
        if live:
            return self._watch.repository(self._cached(live.test_results, TestResult), "postgres")
        return self._watch.repository(StubTestResultsRepository(self._memory), "stub")

    def get_service_discovery_repository(
        self, use_stub: bool = False
    ) -> ServiceDiscoveryRepository:
        """The registry of services; ``use_stub`` asks for the one in memory."""
        live = self._live(self._redis, use_stub)
        if live:
            return self._watch.repository(live.services, "redis")
        return self._watch.repository(StubServiceDiscoveryRepository(self._memory), "stub")

    def get_cache_repository(self, use_stub: bool = False) -> CacheRepository:
        """The cache; ``use_stub`` asks for the one in memory."""
        live = self._live(self._redis, use_stub)
        if live:
            return self._watch.repository(live.cache, "redis")
        return self._watch.repository(StubCacheRepository(self._memory), "stub")

    def get_audit_repository(self, use_stub: bool = False) -> AuditRepository:
        """The trail of every mutation; ``use_stub`` asks for the one in memory."""
        live = self._live(self._postgres, use_stub)
        if live:
            return self._watch.repository(live.audit, "postgres")
        return self._watch.repository(StubAuditRepository(self._memory), "stub")

    def get_retention_repository(self, use_stub: bool = False) -> RetentionRepository:
        """What deletes what was kept long enough; ``use_stub`` asks for the one in memory."""
        live = self._live(self._postgres, use_stub)
        if live:
            reads = self._cached_reads
            retention = live.retention if reads is None else with_told_sweeps(live.retention, reads)
            return self._watch.repository(retention, "postgres")
        return self._watch.repository(StubRetentionRepository(self._memory), "stub")

    async def prune_expired(
        self,
        now: datetime | None = None,
        dry_run: bool = False,
        *,
        on_progress: OnProgress | None = None,
    ) -> RetentionReport:
        """Delete what is older than the ``*_retention_days`` of the settings.

        Archived and deprecated scenarios go by the time they last changed; finished runs,
        events and results by the time they were created. The last
        ``retention_keep_last_runs`` runs of each scenario stay, and nothing goes that hangs
        on a run that stays for that reason, or that is pending or running.

        Args:
            now: what ages are counted from; None: this machine's time.
            dry_run: only report what would go.
            on_progress: told after every batch.

        Raises:
            InvalidValueError: ``now`` has no time zone.
        """
        config, repository = self.config, self.get_retention_repository()
        moment_now = utc_now() if now is None else moment(now, "now")

        def before(days: int) -> datetime | None:
            # Nothing is older than the oldest moment that can be stored.
            reaches_back = 0 < days <= (moment_now - MIN_MOMENT).days
            return moment_now - timedelta(days=days) if reaches_back else None

        policy = RetentionPolicy(
            scenarios=before(config.scenarios_retention_days),
            test_runs=before(config.test_runs_retention_days),
            chaos_events=before(config.chaos_events_retention_days),
            test_results=before(config.test_results_retention_days),
            keep_last_runs=config.retention_keep_last_runs,
        )
        if dry_run:
            return await repository.survey(policy)
        report = await repository.sweep(policy, on_progress=on_progress)
        pruned = {kind: one.pruned for kind, one in report.kinds.items()}
        self._events.info("expired_pruned", **pruned)
        return report

    def registered(self, service: ServiceInfo) -> Registration:
        """Keep a service registered for as long as an ``async with`` lasts.

        It beats every ``heartbeat_interval`` seconds, registers again when the registry lost
        it, outlives outages of the registry, and is deregistered on exit.

        Args:
            service: who to register.

        Raises:
            InvalidValueError: the service breaks a rule.
        """
        return Registration(
            self.get_service_discovery_repository,
            service,
            heartbeat_interval=self.config.heartbeat_interval,
            events=self._events,
        )

    async def remove_stale_services(self, *, max_fraction: float | None = 0.5) -> int:
        """Forget every service that was silent for longer than ``stale_service_threshold``.

        Args:
            max_fraction: the greatest share of the registry that may go at once; None: all.

        Returns:
            How many were removed.

        Raises:
            ConflictError: more than that would go; nothing was removed.
        """
        registry = self.get_service_discovery_repository()
        return await registry.remove_stale_services(
            self.config.stale_service_threshold, max_fraction=max_fraction
        )

    def get_session_maker(self) -> SessionMaker | None:
        """SQLAlchemy's session maker on the open engine; None while PostgreSQL is not open."""
        live = self._live(self._postgres, use_stub=False, quietly=True)
        return live.database.session_maker() if live else None

    def get_redis_client(self) -> Client | None:
        """redis-py's client with the same settings; None while Redis is not open."""
        live = self._live(self._redis, use_stub=False, quietly=True)
        return live.keyspace.client if live else None

    def _forget(self) -> AsyncExitStack:
        """Be as before `initialize`; returns what closes what was open."""
        self._is_initialized = False
        self._warned = False
        self._memory = MemoryStore(audit_actor=self.config.audit_actor)
        self._postgres = None
        self._redis = None
        self._cached_reads = None
        opened, self._opened = self._opened, AsyncExitStack()
        return opened

    def _is_open_elsewhere(self) -> bool:
        # Half open counts as open: of two that open at once one would stay open for ever.
        is_open = self._is_initialized and not self.config.in_memory
        is_busy = is_open or self._changing.locked()
        return is_busy and self._loop is not asyncio.get_running_loop()

    def _one_at_a_time(self) -> asyncio.Lock:
        if self._loop is not None and self._loop.is_closed() and self._is_open_elsewhere():
            # Nothing can be closed there any more: its sockets go with the garbage.
            self._forget()
            self._changing = asyncio.Lock()
            self._events.warning(
                "factory_discarded",
                reason="its event loop ended without cleanup()",
                still_works="everything, once it is initialised again",
            )
        if self._is_open_elsewhere():
            raise ConfigurationError(
                f"{_ELSEWHERE}: await its cleanup() there, or open a factory of its own in this one"
            )
        # A lock stays with the event loop that first waited for it; the next life may have another.
        if self._loop is not (loop := asyncio.get_running_loop()):
            self._loop, self._changing = loop, asyncio.Lock()
        return self._changing

    def _live(
        self,
        supervised: Supervised[OpenT] | None,
        use_stub: bool,
        *,
        quietly: bool = False,
    ) -> OpenT | None:
        if use_stub:
            return None
        if not self._is_initialized:
            if not quietly and not self._warned:
                self._warned = True
                self._events.warning(
                    "repository_handed_out_in_memory",
                    reason="the factory is not initialised",
                    still_works="everything, until the process ends",
                )
            return None
        return supervised.opened() if supervised and supervised.supervisor.is_open else None

    def _cached(self, repository: RepositoryT, kind: type[Entity]) -> RepositoryT:
        reads = self._cached_reads
        return repository if reads is None else with_cached_reads(repository, kind, reads)

    def _cache_reads_in(self, redis: Callable[[], OpenRedis]) -> CachedReads:
        config = self.config
        return CachedReads(
            lambda: redis().read_cache,
            {
                Scenario.entity_name: config.cache_ttl_scenarios,
                TestRun.entity_name: config.cache_ttl_test_runs,
                TestResult.entity_name: config.cache_ttl_results,
                ChaosEvent.entity_name: config.cache_ttl_default,
            },
            events=self._events,
            on_used=self._watch.on_cache_used(),
        )

    async def _health_of(self, supervised: Supervised[OpenT] | None) -> dict[str, JsonValue]:
        if supervised is None:
            return {"connected": False, "error": _IN_MEMORY, "state": "in_memory", "warnings": []}
        if self._is_open_elsewhere():
            state = supervised.supervisor.state.value
            return {
                "connected": False,
                "error": f"{_ELSEWHERE}: ask there",
                "state": state,
                "warnings": [],
            }
        try:
            return await supervised.supervisor.health(self.config.health_check_timeout)
        except Exception as defect:  # noqa: BLE001 - whoever asks how things are gets an answer
            return {
                "connected": False,
                "error": f"the check itself failed with {type(defect).__name__}",
                "state": supervised.supervisor.state.value,
                "warnings": [],
            }

    async def _open_backends(self, opening: AsyncExitStack) -> None:
        self._postgres = postgres_backend(self.config, self._watch, self._events)
        self._redis = redis_backend(self.config, self._watch, self._events)
        reads = self._cache_reads_in(self._redis.opened) if self.config.cache_reads else None
        self._cached_reads = reads
        both = (self._postgres, self._redis)
        for supervised in both:
            opening.push_async_callback(supervised.supervisor.stop)
        if reads is not None:
            opening.push_async_callback(reads.aclose)
        try:
            async with asyncio.TaskGroup() as starting:
                for supervised in both:
                    starting.create_task(supervised.start(strict=self.config.startup_strict))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        if reads is not None:
            if self._redis.supervisor.is_open:
                await reads.announce()
            reads.keep_announcing()
        elif self._redis.supervisor.is_open:
            await self._warn_of_readers(self._redis.opened())

    async def _warn_of_readers(self, redis: OpenRedis) -> None:
        """Log that other processes of this instance use the read cache, which this one does not."""
        with suppress(AdapterError, TimeoutError):
            async with asyncio.timeout(_READERS_TIMEOUT):
                if await redis.read_cache.has_readers():
                    self._events.warning(
                        "cache_reads_disagree",
                        reason="cache_reads is off here and on in another process of this instance,"
                        " which does not notice what this one writes",
                        still_works="everything; that process may return what this one has changed,"
                        " until the entry expires: set cache_reads alike in all processes",
                    )

    @staticmethod
    def _mask_password(url: str) -> str:
        return mask_password(url)


def _warn_of_unknown_variables(events: EventLog) -> None:
    """Log once in a process which variables have our prefix and are no setting."""
    names = [name for name in unknown_variables() if name not in _REPORTED]
    if names:
        _REPORTED.update(names)
        events.warning(
            "unknown_variables",
            variables=names,
            did_you_mean={name: near for name in names if (near := closest_variable(name))},
            still_works="everything; these variables have no effect",
        )
