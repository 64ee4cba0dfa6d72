"""Faults on request: makes chosen calls of a repository fail the way a live backend fails."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import math
import random
import types
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Self, TypedDict, TypeVar, Unpack, cast

from test_coordinator_data_adapter.errors import (
    AdapterError,
    OutcomeUnknownError,
    UnavailableError,
)
from test_coordinator_data_adapter.factory import AdapterFactory
from test_coordinator_data_adapter.interfaces import (
    AuditRepository,
    CacheRepository,
    ChaosEventsRepository,
    ScenariosRepository,
    ServiceDiscoveryRepository,
    TestResultsRepository,
    TestRunsRepository,
)
from test_coordinator_data_adapter.interfaces.retention import RetentionRepository

__all__ = ["Calls", "Fault", "FaultInjector", "FaultKind", "Injected"]

Port = (
    type[ScenariosRepository]
    | type[TestRunsRepository]
    | type[ChaosEventsRepository]
    | type[TestResultsRepository]
    | type[ServiceDiscoveryRepository]
    | type[CacheRepository]
    | type[AuditRepository]
    | type[RetentionRepository]
)
PortT = TypeVar(
    "PortT",
    ScenariosRepository,
    TestRunsRepository,
    ChaosEventsRepository,
    TestResultsRepository,
    ServiceDiscoveryRepository,
    CacheRepository,
    AuditRepository,
    RetentionRepository,
)

# What their errors name; retention is about no kind alone.
_ENTITIES: Final[dict[Port, str | None]] = {
    ScenariosRepository: "scenario",
    TestRunsRepository: "test_run",
    ChaosEventsRepository: "chaos_event",
    TestResultsRepository: "test_result",
    ServiceDiscoveryRepository: "service",
    CacheRepository: "cache_key",
    AuditRepository: "audit_record",
    RetentionRepository: None,
}

_WRITES: Final = frozenset(
    {
        *("create", "bulk_create", "get_or_create", "update", "transition", "delete", "prune"),
        *("update_status", "start_run", "complete_run", "record_completion", "record_recovery"),
        *("register", "deregister", "update_heartbeat", "remove_stale_services"),
        *("register_with_token", "deregister_with_token"),
        *("set", "set_json", "set_many", "expire", "increment", "decrement"),
        *("delete_many", "delete_pattern", "flush_all"),
        "sweep",
    }
)


class FaultKind(StrEnum):
    """What can go wrong."""

    UNAVAILABLE = "unavailable"
    OUTCOME_UNKNOWN = "outcome_unknown"
    LATENCY = "latency"
    HANG = "hang"


class Calls(TypedDict, total=False):
    """Which calls a fault hits; of everything left out, all.

    Attributes:
        method: the method's name, as the caller calls it.
        port: the port, one of the classes of `interfaces`.
        every: each so-manieth of these calls; the first to be hit is that one.
        probability: the chance of each of those, 0 to 1, drawn from the injector's seed.
        times: how often at the most.
    """

    method: str
    port: Port
    every: int
    probability: float
    times: int


@dataclass(frozen=True, slots=True)
class Injected:
    """One fault that hit one call.

    Attributes:
        port: the port's name, such as ``TestRunsRepository``.
        method: the method that was called.
        fault: what went wrong.
        applied: whether the call took effect all the same; None when it was only late.
    """

    port: str
    method: str
    fault: FaultKind
    applied: bool | None


class Fault:
    """A fault in force, until it is withdrawn; as a context manager, for the block."""

    def __init__(
        self,
        kind: FaultKind,
        chance: random.Random,
        withdraw: Callable[[Fault], None],
        *,
        seconds: float = 0.0,
        **calls: Unpack[Calls],
    ) -> None:
        """Use the methods of `FaultInjector` instead."""
        self.kind: Final = kind
        self.seconds: Final = seconds
        self._chance = chance
        self._withdraw = withdraw
        self._method = calls.get("method")
        self._port = calls.get("port")
        self._every = calls.get("every", 1)
        self._probability = calls.get("probability", 1.0)
        self._left: float = calls.get("times", math.inf)
        self._met = 0
        self._check()

    def _check(self) -> None:
        ports = _ENTITIES if self._port is None else (self._port,)
        if self._method is not None and not any(self._method in _methods(port) for port in ports):
            raise ValueError(f"no such method of a repository: {self._method!r}")
        if self.kind is FaultKind.OUTCOME_UNKNOWN and self._method not in {None, *_WRITES}:
            raise ValueError(f"{self._method} only reads: its outcome is never unknown")
        if self._every < 1:
            raise ValueError("every must be at least 1")
        if not 0 <= self._probability <= 1:
            raise ValueError("probability must be from 0 to 1")
        if not 0 <= self.seconds < math.inf:
            raise ValueError("seconds must be finite and not negative")

    def hits(self, port: Port, method: str) -> bool:
        """Whether it hits this call; to be asked once for every call."""
        if (
            self._port not in {None, port}
            or self._method not in {None, method}
            or (self.kind is FaultKind.OUTCOME_UNKNOWN and method not in _WRITES)
        ):
            return False
        self._met += 1
        if self._met % self._every or self._left <= 0:
            return False
        if self._chance.random() >= self._probability:
            return False
        self._left -= 1
        return True

    def applies(self) -> bool:
        """Whether a call of unknown outcome takes effect: the seed decides."""
        return self._chance.random() < 0.5  # noqa: PLR2004 - a coin

    def withdraw(self) -> None:
        """Hit no further call; again does nothing."""
        self._withdraw(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.withdraw()


class FaultInjector:
    """Makes calls of the repositories it wraps fail, the same ones for the same seed.

    A fault hits the call that the caller makes: a named question is one call. Faults see a
    call in the order in which they were put in force: one that delays it hands it on, one
    that fails it does not.

    Attributes:
        injected: every fault that hit a call, in order.
    """

    def __init__(
        self, seed: int = 0, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    ) -> None:
        """Put no fault in force yet.

        Args:
            seed: decides what `Calls.probability` and unknown outcomes leave open.
            sleep: waits so many seconds; for ever when asked for `math.inf`.
        """
        self.injected: list[Injected] = []
        self._seed = seed
        self._sleep = sleep
        self._faults: list[Fault] = []
        self._made = 0

    def wrap(self, repository: PortT) -> PortT:
        """The repository, with faults in its way.

        Args:
            repository: any implementation of one of the ports; it stays as it is.

        Returns:
            An instance of the same port, whose every method goes through this injector.
        """
        port = next((port for port in _ENTITIES if isinstance(repository, port)), None)
        if port is None:
            raise TypeError(f"not a repository: {type(repository).__name__}")
        return cast("PortT", _faulty(port)(repository, functools.partial(self._decide, port)))

    def attach(self, factory: AdapterFactory) -> None:
        """Let every repository that the factory hands out from now on be wrapped."""
        for name in dir(factory):
            if name.startswith("get_") and name.endswith("_repository"):
                setattr(factory, name, self._wrapping(getattr(factory, name)))

    def unavailable(self, **calls: Unpack[Calls]) -> Fault:
        """Let calls raise `UnavailableError`; they are not applied."""
        return self._put_in_force(FaultKind.UNAVAILABLE, **calls)

    def outcome_unknown(self, **calls: Unpack[Calls]) -> Fault:
        """Let writes raise `OutcomeUnknownError`; the seed decides which are applied."""
        return self._put_in_force(FaultKind.OUTCOME_UNKNOWN, **calls)

    def latency(self, seconds: float, **calls: Unpack[Calls]) -> Fault:
        """Let calls wait so many seconds before they are made."""
        return self._put_in_force(FaultKind.LATENCY, seconds=seconds, **calls)

    def hang(self, **calls: Unpack[Calls]) -> Fault:
        """Let calls wait until they are cancelled; they are not applied."""
        return self._put_in_force(FaultKind.HANG, **calls)

    def clear(self) -> None:
        """Withdraw every fault; what was injected stays on record."""
        self._faults.clear()

    def _put_in_force(
        self, kind: FaultKind, *, seconds: float = 0.0, **calls: Unpack[Calls]
    ) -> Fault:
        self._made += 1
        # Each fault draws from its own chances: adding one changes nothing for the others.
        chance = random.Random(f"{self._seed}/{self._made}")  # noqa: S311 - no secret is drawn
        fault = Fault(kind, chance, self._withdraw, seconds=seconds, **calls)
        self._faults.append(fault)
        return fault

    def _withdraw(self, fault: Fault) -> None:
        self._faults = [other for other in self._faults if other is not fault]

    def _wrapping(self, getter: Callable[..., Any]) -> Callable[..., object]:
        @functools.wraps(getter)
        def get(*args: Any, **options: Any) -> object:
            return self.wrap(getter(*args, **options))

        return get

    async def _decide(self, port: Port, method: str, call: Callable[[], Awaitable[object]]) -> None:
        """Return when the call is to be made as usual; else raise what the caller gets."""
        for fault in tuple(self._faults):
            if fault not in self._faults or not fault.hits(port, method):
                continue
            match fault.kind:
                case FaultKind.LATENCY:
                    self._record(port, method, fault.kind, applied=None)
                    await self._sleep(fault.seconds)
                case FaultKind.HANG:
                    self._record(port, method, fault.kind, applied=False)
                    await self._sleep(math.inf)
                case FaultKind.UNAVAILABLE:
                    self._record(port, method, fault.kind, applied=False)
                    raise UnavailableError(
                        f"{method}: injected: the backend does not answer; repeat the call later",
                        entity=_ENTITIES[port],
                    )
                case FaultKind.OUTCOME_UNKNOWN:
                    applied = fault.applies() and await _succeeds(call)
                    self._record(port, method, fault.kind, applied=applied)
                    raise OutcomeUnknownError(
                        f"{method}: injected: the answer was lost; read before repeating the call",
                        entity=_ENTITIES[port],
                    )

    def _record(self, port: Port, method: str, kind: FaultKind, *, applied: bool | None) -> None:
        self.injected.append(Injected(port.__name__, method, kind, applied))


async def _succeeds(call: Callable[[], Awaitable[object]]) -> bool:
    try:
        await call()
    except AdapterError:  # its answer is lost like any other
        return False
    return True


_Decide = Callable[[str, Callable[[], Awaitable[object]]], Awaitable[None]]


@functools.cache
def _methods(port: Port) -> dict[str, Callable[..., Any]]:
    functions = inspect.getmembers(port, inspect.isfunction)
    return {name: method for name, method in functions if not name.startswith("_")}


@functools.cache
def _faulty(port: Port) -> Callable[[object, _Decide], object]:
    """A class of that port, every method of which asks before it calls the repository's."""

    def remember(self: Any, repository: object, decide: _Decide) -> None:
        self._repository = repository
        self._decide = decide

    def describe(self: Any) -> str:
        return f"<faults in the way of {self._repository!r}>"

    def look_up(self: Any, name: str) -> object:
        return getattr(self._repository, name)

    def fill(namespace: dict[str, Any]) -> None:
        namespace["__init__"] = remember
        namespace["__repr__"] = describe
        namespace["__getattr__"] = look_up
        for name, method in _methods(port).items():
            awaited = inspect.iscoroutinefunction(method)
            wrapper = _asking(name) if awaited else _asking_at_the_first_item(name)
            functools.update_wrapper(wrapper, method, updated=())
            namespace[name] = wrapper

    return types.new_class(f"Faulty{port.__name__}", (port,), exec_body=fill)


def _asking(name: str) -> Callable[..., Any]:
    async def ask_and_call(self: Any, *args: Any, **options: Any) -> object:
        call = functools.partial(getattr(self._repository, name), *args, **options)
        await self._decide(name, call)
        return await call()

    return ask_and_call


def _asking_at_the_first_item(name: str) -> Callable[..., Any]:
    async def ask_and_iterate(self: Any, *args: Any, **options: Any) -> AsyncIterator[object]:
        items = getattr(self._repository, name)(*args, **options)
        await self._decide(name, _nothing)
        async with contextlib.aclosing(items):
            async for item in items:
                yield item

    return ask_and_iterate


async def _nothing() -> None:
    """What is called when a stream is to take effect: streams only read."""
