"""Calls of repositories, known by port and method without a line in any repository."""

from __future__ import annotations

import inspect
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
from functools import cache, wraps
from time import perf_counter
from types import FunctionType
from typing import Any, Final, TypeVar, cast, get_origin, get_type_hints

from test_coordinator_data_adapter import interfaces
from test_coordinator_data_adapter.interfaces.queries import Page
from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.service import ServiceInfo
from test_coordinator_data_adapter.observability.facts import (
    CacheUsed,
    Observer,
    Operation,
    OperationEnded,
    OperationStarted,
    TallyingObserver,
)
from test_coordinator_data_adapter.resilience.coalescing import Coalescer

__all__ = [
    "RUNNING",
    "Instrument",
    "class_of",
    "current_operation",
    "instrument",
    "name_of",
    "operation_name",
    "operations_of",
    "port_of",
]

RUNNING: Final[ContextVar[Operation | None]] = ContextVar("running operation", default=None)
"""The operation that the running code is part of; `current_operation`, without a call."""
_PORTS: Final = f"{interfaces.__name__}."

# Reads of the cache whose answer tells which keys were there.
_LOOKUPS: Final = frozenset({"get", "get_json", "get_many"})
_WRITTEN: Final = "_as_it_was_written"
_MANY: Final = frozenset({Iterable, Mapping})

_RepositoryT = TypeVar("_RepositoryT")
_Method = Callable[..., Awaitable[Any]]
_Stream = Callable[..., AsyncGenerator[Any]]


def current_operation() -> Operation | None:
    """The operation that the running code is part of, where repositories are observed."""
    return RUNNING.get()


def operation_name() -> str | None:
    """Port and method of the operation that the running code is part of.

    Where nobody observes, nothing was noted: then whoever waits for the running code is asked,
    frame by frame, which takes microseconds and is meant for the rare thing worth a log line.

    Returns:
        "test_results.bulk_create" ...; None outside any operation.
    """
    operation = RUNNING.get()
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
class _Watch:
    """Who is told of the calls of one class of repositories, and how."""

    backend: str
    observer: Observer
    tallying: TallyingObserver | None
    wants_starts: bool

    @classmethod
    def of(cls, backend: str, observer: Observer) -> _Watch:
        tallying = observer if isinstance(observer, TallyingObserver) else None
        passed_over = getattr(observer, "passes_over", ())
        return cls(
            backend=backend,
            observer=observer,
            tallying=tallying,
            wants_starts=tallying is None and OperationStarted not in passed_over,
        )

    def shared_operation(self, shape: _Shape) -> Operation | None:
        """The one that all calls of a method are, where nobody tells them apart."""
        return None if self.tallying is None else self.operation(shape)

    def operation(self, shape: _Shape) -> Operation:
        return Operation(shape.port, shape.method, self.backend)


class Instrument:
    """Lets an observer know of every call of the repositories of one class."""

    __slots__ = ("_kind",)

    def __init__(self, kind: type, *, backend: str, observer: Observer) -> None:
        """Prepare what all repositories of that class have in common; see `instrument`."""
        self._kind = _observed(kind, _port_of_any(kind), _Watch.of(backend, observer))

    def __call__(self, repository: _RepositoryT) -> _RepositoryT:
        """The same repository, watched from now on; again changes nothing."""
        repository.__class__ = self._kind
        return repository


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
    return Instrument(class_of(type(repository)), backend=backend, observer=observer)(repository)


def class_of(kind: type) -> type:
    """The class as it was written, also of one that is instrumented."""
    return cast("type", vars(kind).get(_WRITTEN, kind))


def _port_of_any(kind: type) -> type:
    port = port_of(kind)
    if port is None:
        raise TypeError(f"{kind.__name__} implements none of the ports")
    return port


def _observed(kind: type, port: type, watch: _Watch) -> type:
    """The same class with every method of its port watched."""
    members: dict[str, object] = {
        _WRITTEN: kind,
        "__doc__": kind.__doc__,
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
    }
    for shape in _shapes_of(port):
        method = getattr(kind, shape.method)
        if shape.is_stream:
            members[shape.method] = _stream(method, shape, watch)
        elif watch.tallying is not None and shape.is_plain:
            members[shape.method] = _tallied(method, watch.operation(shape), watch.tallying)
        else:
            members[shape.method] = _call(method, shape, watch)
    # The metaclass is that of abstract classes.
    made: type = type(kind)(kind.__name__, (kind,), members)
    return made


@cache
def _shapes_of(port: type) -> tuple[_Shape, ...]:
    """What a port promises of each of its methods."""
    return tuple(_Shape.of(port, name, getattr(port, name)) for name in operations_of(port))


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
    is_stream: bool
    """Whether it answers item by item."""

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to tell of a call that returns but its time."""
        return not (self.takes_many or self.answers_many or self.looks_up or self.is_stream)

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
            is_stream=not inspect.iscoroutinefunction(promised),
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


# What a watched method needs is bound to it beforehand: between two trips nothing is in the
# processor's caches, and every look-up there takes several times as long as in a loop.


def _call(method: _Method, shape: _Shape, watch: _Watch) -> _Method:
    notice, wants_starts = watch.observer.notice, watch.wants_starts
    shared = watch.shared_operation(shape)

    @wraps(method)
    async def observed(self: Any, *arguments: Any, **named: Any) -> Any:
        if RUNNING.get() is not None:
            return await method(self, *arguments, **named)
        operation = shared
        if operation is None:
            operation = watch.operation(shape)
            if shape.names_entity:
                operation.id = _id_of(shape.given(arguments, named))
        given: _Given | None = None
        if shape.takes_many:
            given = _Given(shape.given(arguments, named))
            arguments, named = shape.with_given(given, arguments, named)
        token = RUNNING.set(operation)
        if wants_starts:
            notice(OperationStarted(operation))
        error: BaseException | None = None
        answer: Any = None
        began = perf_counter()
        try:
            answer = await method(self, *arguments, **named)
            return answer
        except BaseException as raised:
            error = raised
            raise
        finally:
            took = perf_counter() - began
            rows_in = None if given is None else given.rows
            rows_out = _length(answer) if shape.answers_many and error is None else None
            if shape.looks_up and error is None:
                notice(_looked_up(answer, rows_in, rows_out))
            RUNNING.reset(token)
            notice(OperationEnded(operation, took, error, rows_in, rows_out))

    return observed


def _tallied(method: _Method, operation: Operation, observer: TallyingObserver) -> _Method:
    """As `_call`, where there is nothing to tell of a call that returns but its time."""
    notice, add = observer.notice, observer.operation_tally(operation).add
    running, begin, end = RUNNING.get, RUNNING.set, RUNNING.reset

    @wraps(method)
    async def observed(self: Any, *arguments: Any, **named: Any) -> Any:
        if running() is not None:
            return await method(self, *arguments, **named)
        token = begin(operation)
        began = perf_counter()
        try:
            answer = await method(self, *arguments, **named)
        except BaseException as error:
            took = perf_counter() - began
            end(token)
            notice(OperationEnded(operation, took, error, None, None))
            raise
        took = perf_counter() - began
        end(token)
        add(took)
        return answer

    return observed


def _stream(method: _Stream, shape: _Shape, watch: _Watch) -> _Stream:
    notice, wants_starts = watch.observer.notice, watch.wants_starts
    shared = watch.shared_operation(shape)

    @wraps(method)
    async def observed(self: Any, *arguments: Any, **named: Any) -> AsyncGenerator[Any]:
        if RUNNING.get() is not None:
            async with aclosing(method(self, *arguments, **named)) as items:
                async for item in items:
                    yield item
            return
        operation = shared or watch.operation(shape)
        error: BaseException | None = None
        rows = 0
        took = 0.0
        if wants_starts:
            notice(OperationStarted(operation))
        try:
            async with aclosing(method(self, *arguments, **named)) as items:
                while True:
                    # Only while the library works on it: what the consumer does is none of it.
                    token = RUNNING.set(operation)
                    began = perf_counter()
                    try:
                        item = await anext(items)
                    except StopAsyncIteration:
                        return
                    except BaseException as raised:
                        error = raised
                        raise
                    finally:
                        took += perf_counter() - began
                        RUNNING.reset(token)
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
