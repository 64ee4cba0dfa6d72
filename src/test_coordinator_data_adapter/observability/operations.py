"""Calls of repositories, known by port and method without a line in any repository."""

from __future__ import annotations

import inspect
import time
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sized,
)
from contextlib import aclosing
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from types import FunctionType
from typing import Any, Final, TypeVar, cast, get_origin, get_type_hints

from test_coordinator_data_adapter import interfaces
from test_coordinator_data_adapter.interfaces.queries import Page
from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.service import ServiceInfo
from test_coordinator_data_adapter.observability.facts import (
    CacheUsed,
    Fact,
    Observer,
    Operation,
    OperationEnded,
    OperationStarted,
)
from test_coordinator_data_adapter.resilience.coalescing import Coalescer

__all__ = [
    "current_operation",
    "instrument",
    "name_of",
    "operation_name",
    "operations_of",
    "port_of",
]

_RUNNING: Final[ContextVar[Operation | None]] = ContextVar("running operation", default=None)
_PORTS: Final = f"{interfaces.__name__}."

# Reads of the cache whose answer tells which keys were there.
_LOOKUPS: Final = frozenset({"get", "get_json", "get_many"})
_OBSERVED: Final[dict[type, type]] = {}
_MANY: Final = frozenset({Iterable, Mapping})

_RepositoryT = TypeVar("_RepositoryT")
_Method = Callable[..., Awaitable[Any]]
_Stream = Callable[..., AsyncGenerator[Any]]


def current_operation() -> Operation | None:
    """The operation that the running code is part of, where repositories are observed."""
    return _RUNNING.get()


def operation_name() -> str | None:
    """Port and method of the operation that the running code is part of.

    Where nobody observes, nothing was noted: then whoever waits for the running code is asked,
    frame by frame, which takes microseconds and is meant for the rare thing worth a log line.

    Returns:
        "test_results.bulk_create" ...; None outside any operation.
    """
    operation = _RUNNING.get()
    if operation is not None:
        return operation.name
    found: str | None = None
    frame = inspect.currentframe()
    while frame is not None:
        found = _named_by(frame.f_code.co_name, frame.f_locals.get("self")) or found
        frame = frame.f_back
    return found


def _named_by(function: str, owner: object) -> str | None:
    if isinstance(owner, Coalescer):
        return cast("Coalescer[object, object]", owner).operation
    port = port_of(type(owner))
    if port is None or function.startswith("_") or not hasattr(port, function):
        return None
    return f"{name_of(port)}.{function}"


def port_of(kind: type) -> type | None:
    """The port that a class of repositories implements, or None."""
    return next((one for one in kind.__mro__ if one.__module__.startswith(_PORTS)), None)


def operations_of(port: type) -> frozenset[str]:
    """The names of the methods that a port promises."""
    return frozenset(
        name
        for name, member in inspect.getmembers(port)
        if isinstance(member, FunctionType) and not name.startswith("_")
    )


def name_of(port: type) -> str:
    """What a port is called: "test_results" ..."""
    return port.__module__.removeprefix(_PORTS)


@dataclass(frozen=True, slots=True)
class _Watched:
    """What an instrumented repository carries with it."""

    backend: str
    notice: Callable[[Fact], None]
    wants_starts: bool


def instrument(repository: _RepositoryT, *, backend: str, observer: Observer) -> _RepositoryT:
    """Let an observer know of every call of a repository's methods.

    The methods are those of its port. A call within a call, such as a named question's of the
    core, is part of the outermost one and not told. The repository stays an instance of its class
    and of its port.

    Args:
        repository: any implementation of one of the ports; nobody else may be using it yet.
        backend: what answers: "stub", "postgres", "redis".
        observer: is told when an operation starts and ends.

    Returns:
        The same repository.

    Raises:
        TypeError: it implements no port.
    """
    if "_watched" not in vars(repository):
        kind = type(repository)
        if kind not in _OBSERVED:
            _OBSERVED[kind] = _observed(kind)
        repository.__class__ = _OBSERVED[kind]
    vars(repository)["_watched"] = _Watched(
        backend, observer.notice, getattr(observer, "wants_starts", True)
    )
    return repository


def _observed(kind: type) -> type:
    """The same class with every method of its port watched."""
    port = port_of(kind)
    if port is None:
        raise TypeError(f"{kind.__name__} implements none of the ports")
    members: dict[str, object] = {
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
    }
    for name in operations_of(port):
        method, promised = getattr(kind, name), getattr(port, name)
        shape = _Shape.of(port, name, promised)
        watched = _call if inspect.iscoroutinefunction(promised) else _stream
        members[name] = watched(method, shape)
    # The metaclass is that of abstract classes.
    made: type = type(kind)(kind.__name__, (kind,), members)
    return made


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a method's signature promises of its arguments and its answer."""

    port: str
    method: str
    first: str
    """The name of the first parameter; empty without any."""
    names_entity: bool
    """Whether that is an id or a key."""
    takes_many: bool
    """Whether that is a number of items."""
    answers_many: bool
    """Whether the answer is a number of items."""
    looks_up: bool
    """Whether the answer tells which keys of the cache were there."""

    @classmethod
    def of(cls, port: type, name: str, promised: FunctionType) -> _Shape:
        parameters = list(inspect.signature(promised).parameters)[1:]
        hints = get_type_hints(promised)
        first = parameters[0] if parameters else ""
        hint = hints.get(first)
        entity = isinstance(hint, type) and issubclass(hint, Entity | ServiceInfo)
        return cls(
            port=name_of(port),
            method=name,
            first=first,
            names_entity=entity or first == "key" or first.endswith("_id"),
            takes_many=get_origin(hint) in _MANY,
            answers_many=get_origin(hints["return"]) in {list, dict, Page},
            looks_up=name_of(port) == "cache" and name in _LOOKUPS,
        )

    def given(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> object:
        """The first argument, however it was given."""
        return arguments[0] if arguments else named.get(self.first)

    def with_given(
        self, given: _Given, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same arguments, the first one counted as it is taken."""
        if arguments:
            return (given.items, *arguments[1:]), named
        return arguments, named | {self.first: given.items} if self.first in named else named


def _call(method: _Method, shape: _Shape) -> _Method:
    @wraps(method)
    async def observed(self: Any, *arguments: Any, **named: Any) -> Any:
        if _RUNNING.get() is not None:
            return await method(self, *arguments, **named)
        watched: _Watched = self._watched
        notice = watched.notice
        operation = Operation(shape.port, shape.method, watched.backend)
        given: _Given | None = None
        if shape.names_entity:
            operation.id = _id_of(shape.given(arguments, named))
        elif shape.takes_many:
            given = _Given(shape.given(arguments, named))
            arguments, named = shape.with_given(given, arguments, named)
        token = _RUNNING.set(operation)
        if watched.wants_starts:
            notice(OperationStarted(operation))
        error: BaseException | None = None
        answer: Any = None
        began = time.perf_counter()
        try:
            answer = await method(self, *arguments, **named)
            return answer
        except BaseException as raised:
            error = raised
            raise
        finally:
            took = time.perf_counter() - began
            rows_in = None if given is None else given.rows
            rows_out = _length(answer) if shape.answers_many and error is None else None
            if shape.looks_up and error is None:
                notice(_looked_up(answer, rows_in, rows_out))
            _RUNNING.reset(token)
            notice(OperationEnded(operation, took, error, rows_in, rows_out))

    return observed


def _stream(method: _Stream, shape: _Shape) -> _Stream:
    @wraps(method)
    async def observed(self: Any, *arguments: Any, **named: Any) -> AsyncGenerator[Any]:
        if _RUNNING.get() is not None:
            async with aclosing(method(self, *arguments, **named)) as items:
                async for item in items:
                    yield item
            return
        watched: _Watched = self._watched
        notice = watched.notice
        operation = Operation(shape.port, shape.method, watched.backend)
        error: BaseException | None = None
        rows = 0
        took = 0.0
        if watched.wants_starts:
            notice(OperationStarted(operation))
        try:
            async with aclosing(method(self, *arguments, **named)) as items:
                while True:
                    # Only while the library works on it: what the consumer does is none of it.
                    token = _RUNNING.set(operation)
                    began = time.perf_counter()
                    try:
                        item = await anext(items)
                    except StopAsyncIteration:
                        return
                    except BaseException as raised:
                        error = raised
                        raise
                    finally:
                        took += time.perf_counter() - began
                        _RUNNING.reset(token)
                    rows += 1
                    yield item
        finally:
            notice(OperationEnded(operation, took, error, None, rows if error is None else None))

    return observed


class _Given:
    """The items a call was given, counted: at once where they can be, else as they are taken."""

    __slots__ = ("items", "rows")

    def __init__(self, items: object) -> None:
        self.rows: int | None = len(items) if isinstance(items, Sized) else None
        self.items = items
        if self.rows is None and isinstance(items, Iterable):
            self.rows = 0
            self.items = self._taken(cast("Iterable[object]", items))

    def _taken(self, items: Iterable[object]) -> Iterator[object]:
        for self.rows, item in enumerate(items, start=1):
            yield item


def _id_of(given: object) -> str | None:
    if isinstance(given, str):
        return given
    # Nothing was checked yet: an entity may have come about without its id.
    if isinstance(given, Entity):
        given = getattr(given, given.id_field, None)
    elif isinstance(given, ServiceInfo):
        given = getattr(given, "service_id", None)
    return given if isinstance(given, str) else None


def _length(answer: object) -> int:
    if isinstance(answer, Page):
        return len(cast("Page[object]", answer).items)
    return len(cast("Sized", answer))


def _looked_up(answer: object, asked: int | None, found: int | None) -> CacheUsed:
    # Of a single key a stored null and a missing one look alike: the port answers None to both.
    hits = int(answer is not None) if found is None else found
    return CacheUsed("cache", hits=hits, misses=max(0, (1 if asked is None else asked) - hits))
