"""Calls of the same moment that travel to a backend together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from copy import copy
from functools import partial
from typing import Final, Generic, TypeAlias, TypeVar

from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConflictError,
    DataIntegrityError,
    DuplicateError,
    InvalidValueError,
    NotFoundError,
    OutcomeUnknownError,
    UnavailableError,
)
from test_coordinator_data_adapter.resilience.event_loop import only_loop
from test_coordinator_data_adapter.resilience.observation import OnBatch

__all__ = ["Coalescer", "SendTogether"]

_AskedT = TypeVar("_AskedT")
_AnswerT = TypeVar("_AnswerT")

SendTogether: TypeAlias = Callable[
    [Sequence[_AskedT]], Awaitable[Sequence[_AnswerT | AdapterError]]
]
"""Takes what is asked to the backend; comes back with one answer or error each, in that order."""

# These blame one of those that travel together: sent alone, the others succeed.
_OF_ONE: Final = (
    ConflictError,
    DataIntegrityError,
    DuplicateError,
    InvalidValueError,
    NotFoundError,
)


_CUT_OFF: Final = "closed before the answer came: open the factory again"
_IN_DOUBT: Final = f"{_CUT_OFF}, read, then repeat: it may have been applied"


class _Trip:
    """One that several calls share, for as long as one of them waits for it."""

    __slots__ = ("began", "task", "waiting")

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.began = False
        self.task: asyncio.Task[None] | None = None

    def leave(self) -> None:
        """One caller has been cancelled: the others keep their trip, the last takes it along."""
        self.waiting -= 1
        if self.waiting == 0 and self.task is not None:
            self.task.cancel()


class _Call(Generic[_AskedT, _AnswerT]):
    """What one caller asked, and waits for."""

    __slots__ = ("asked", "future", "trip")

    def __init__(self, asked: _AskedT, future: asyncio.Future[_AnswerT]) -> None:
        self.asked = asked
        self.future = future
        self.trip: _Trip | None = None


class Coalescer(Generic[_AskedT, _AnswerT]):
    """Lets concurrent calls share trips, and each keep its own answer, error and cancellation.

    A call that finds nothing under way is sent at once, in its own task. Calls that arrive while
    something is under way gather until the event loop's next turn or, once ``trips`` are under
    way, until one of these is back (but never longer than ``patience``), and are sent together. A
    call never joins what was already sent, so a caller always reads its own writes. When every
    caller of a trip has been cancelled, the trip is.
    """

    __slots__ = (
        "_closed",
        "_context",
        "_gathered",
        "_loop",
        "_most",
        "_on_batch",
        "_patience",
        "_send",
        "_tasks",
        "_timer",
        "_trips",
        "_under_way",
        "_writes",
        "operation",
    )

    def __init__(
        self,
        send: SendTogether[_AskedT, _AnswerT],
        *,
        most: int = 500,
        trips: int = 2,
        patience: float = 0.1,
        writes: bool = False,
        operation: str | None = None,
        on_batch: OnBatch | None = None,
    ) -> None:
        """Start with nothing under way.

        Args:
            send: takes what is asked to the backend.
            most: how many calls one trip carries at most.
            trips: how many trips are under way at once before calls wait for one to come back.
            patience: how many seconds they wait for that at most: a trip that hangs delays no
                other.
            writes: whether a trip that is cut off may have changed anything.
            operation: what every call asks for, such as "cache.get", for logs and observers.
            on_batch: is told of every trip that several calls share.
        """
        self.operation = operation
        self._on_batch = on_batch
        self._send = send
        self._writes = writes
        self._most = most
        self._trips = trips
        self._patience = patience
        self._gathered: list[_Call[_AskedT, _AnswerT]] = []
        self._context: Context | None = None
        self._under_way = 0
        self._timer: asyncio.Handle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, asked: _AskedT) -> _AnswerT:
        """Ask one thing.

        Returns:
            The answer to what was asked.

        Raises:
            AdapterError: what the backend made of it; a copy of its own for every caller.
            ConfigurationError: calls of another event loop are under way.
        """
        if self._closed:
            raise UnavailableError(_CUT_OFF)
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None and self._under_way == 0 and not self._gathered:
                return await self._apart(asked, loop)
            self._loop = only_loop(self._loop, loop)
        if self._under_way == 0 and not self._gathered:
            self._under_way += 1
            try:
                (answer,) = await self._send((asked,))
            except AdapterError as error:
                raise _addressed(error, asked) from None
            finally:
                self._came_back()
            if isinstance(answer, AdapterError):
                raise answer
            return answer
        call: _Call[_AskedT, _AnswerT] = _Call(asked, loop.create_future())
        if not self._gathered:
            # Whatever is logged or traced of a shared trip belongs to the first that waits for it.
            self._context = copy_context()
        self._gathered.append(call)
        if self._timer is None:
            self._timer = (
                loop.call_soon(self._dispatch)
                if self._under_way < self._trips
                else loop.call_later(self._patience, self._dispatch)
            )
        try:
            return await call.future
        except asyncio.CancelledError:
            if call.trip is not None and call.future.cancelled():
                call.trip.leave()
            raise

    async def aclose(self) -> None:
        """Cut off what is under way; what had been sent together may have been applied."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _fail(self._gathered, UnavailableError(_CUT_OFF))
        self._gathered.clear()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _apart(self, asked: _AskedT, loop: asyncio.AbstractEventLoop) -> _AnswerT:
        """Ask from another loop than ever before, which what is behind may refuse.

        Until it answers nothing is noted: calls of the right loop, in its own thread, must not
        take this one for theirs.
        """
        try:
            (answer,) = await self._send((asked,))
        except AdapterError as error:
            raise _addressed(error, asked) from None
        if not (self._under_way or self._gathered):
            self._loop = loop
        if isinstance(answer, AdapterError):
            raise answer
        return answer

    def _came_back(self) -> None:
        self._under_way -= 1
        if self._gathered and not self._closed:
            self._dispatch()

    def _dispatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting = [call for call in self._gathered if not call.future.done()]
        self._gathered.clear()
        for start in range(0, len(waiting), self._most):
            together = waiting[start : start + self._most]
            self._under_way += 1
            if self._on_batch is not None and len(together) > 1:
                self._on_batch(self.operation, len(together))
            trip = _Trip(len(together))
            for call in together:
                call.trip = trip
            task = asyncio.create_task(self._travel(together, trip), context=self._context)
            trip.task = task
            self._tasks.add(task)
            task.add_done_callback(partial(self._ended, together, trip))

    def _ended(
        self, calls: Sequence[_Call[_AskedT, _AnswerT]], trip: _Trip, task: asyncio.Task[None]
    ) -> None:
        self._tasks.discard(task)
        if not trip.began:
            # Cancelled before its first step: nothing of it ran.
            _fail(calls, UnavailableError(_CUT_OFF))
            self._came_back()

    async def _travel(self, calls: Sequence[_Call[_AskedT, _AnswerT]], trip: _Trip) -> None:
        trip.began = True
        try:
            await self._ask_for(calls, trip)
        except asyncio.CancelledError:
            in_doubt = self._writes
            _fail(calls, OutcomeUnknownError(_IN_DOUBT) if in_doubt else UnavailableError(_CUT_OFF))
            raise
        finally:
            self._came_back()

    async def _ask_for(self, calls: Sequence[_Call[_AskedT, _AnswerT]], trip: _Trip) -> None:
        try:
            answers = await self._send([call.asked for call in calls])
        except _OF_ONE as error:
            if len(calls) == 1:
                _fail(calls, error)
                return
            for call in calls:
                if not call.future.done():
                    await self._ask_for((call,), trip)
                    trip.waiting -= not call.future.cancelled()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the callers' to see
            _fail(calls, error)
        else:
            for call, answer in zip(calls, answers, strict=True):
                if isinstance(answer, AdapterError):
                    _fail((call,), answer)
                elif not call.future.done():
                    call.future.set_result(answer)


def _fail(calls: Sequence[_Call[_AskedT, _AnswerT]], error: Exception) -> None:
    for call in calls:
        if not call.future.done():
            call.future.set_exception(_addressed(error, call.asked))
            # A caller cancelled in this very turn never looks at it: that is no fault to report.
            call.future.exception()


def _addressed(error: Exception, asked: object) -> Exception:
    """The error as this caller is to see it: a copy that names what was asked, if that is an id."""
    own = copy(error)
    if isinstance(own, AdapterError) and own.id is None and isinstance(asked, str):
        own.id = asked
    return own
