"""Calls of the same moment that share trips and nothing else."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable, Sequence

import pytest

from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    DuplicateError,
    InvalidValueError,
    OutcomeUnknownError,
    UnavailableError,
)
from test_coordinator_data_adapter.resilience.coalescing import Coalescer


class Backend:
    """Records every trip; holds those back that a test wants to see under way."""

    def __init__(self) -> None:
        self.trips: list[list[str]] = []
        self.cancelled: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.answer: Callable[[str], object] = str.upper
        self.fails: Callable[[Sequence[str]], AdapterError | None] = lambda _: None

    async def send(self, asked: Sequence[str]) -> list[object]:
        self.trips.append(list(asked))
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.append(list(asked))
            raise
        await asyncio.sleep(0)
        error = self.fails(asked)
        if error is not None:
            raise error
        return [self.answer(one) for one in asked]


@pytest.fixture
async def backend():
    return Backend()


@pytest.fixture
async def ask(backend):
    return Coalescer(backend.send, patience=60)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_lone_call_is_sent_at_once_and_in_its_own_task(backend, ask):
    tasks = len(asyncio.all_tasks())
    coroutine = ask("a")
    coroutine.send(None)

    assert backend.trips == [["a"]]
    assert len(asyncio.all_tasks()) == tasks
    coroutine.close()


async def test_calls_one_after_another_travel_alone(backend, ask):
    assert [await ask(one) for one in "abc"] == ["A", "B", "C"]
    assert backend.trips == [["a"], ["b"], ["c"]]


async def test_calls_of_the_same_moment_travel_in_two_trips(backend, ask):
    answers = await asyncio.gather(*map(ask, "abcdefgh"))

    assert answers == list("ABCDEFGH")
    assert backend.trips == [["a"], list("bcdefgh")]


async def test_the_second_trip_does_not_wait_for_the_first(backend, ask):
    backend.open.clear()
    calls = [asyncio.create_task(ask(one)) for one in "abc"]
    await turns()

    assert backend.trips == [["a"], ["b", "c"]]
    backend.open.set()
    await asyncio.gather(*calls)


async def test_calls_beyond_two_trips_gather_until_one_is_back(backend, ask):
    backend.open.clear()
    calls = [asyncio.create_task(ask("a"))]
    await turns()
    calls.append(asyncio.create_task(ask("b")))
    await turns()
    calls += [asyncio.create_task(ask(one)) for one in "cde"]
    await turns()
    under_way = list(backend.trips)
    backend.open.set()
    await asyncio.gather(*calls)

    assert under_way == [["a"], ["b"]]
    assert backend.trips == [["a"], ["b"], ["c", "d", "e"]]


async def test_a_trip_that_hangs_delays_nobody_for_long(backend):
    ask = Coalescer(backend.send, patience=0.01)
    backend.open.clear()
    calls = [asyncio.create_task(ask("a"))]
    await turns()
    calls.append(asyncio.create_task(ask("b")))
    await turns()
    calls.append(asyncio.create_task(ask("c")))
    async with asyncio.timeout(60):
        while len(backend.trips) < 3:  # noqa: ASYNC110 - the coalescer's own timer is what is awaited
            await asyncio.sleep(0.001)

    assert backend.trips == [["a"], ["b"], ["c"]]
    backend.open.set()
    await asyncio.gather(*calls)


async def test_a_trip_carries_no_more_than_its_most(backend):
    ask = Coalescer(backend.send, most=3)

    assert await asyncio.gather(*map(ask, "abcdefgh")) == list("ABCDEFGH")
    assert backend.trips == [["a"], ["b", "c", "d"], ["e", "f", "g"], ["h"]]


async def test_a_call_never_joins_what_was_already_sent(backend, ask):
    stored = {"a": 1}
    backend.answer = lambda one: stored[one]
    backend.open.clear()
    first = asyncio.create_task(ask("a"))
    await turns()
    stored["a"] = 2
    backend.open.set()

    assert await ask("a") == 2
    await first
    assert backend.trips == [["a"], ["a"]]


async def test_each_has_its_own_answer_and_its_own_error(backend, ask):
    backend.answer = lambda one: DuplicateError("there", id=one) if one in "bd" else one.upper()

    answers = await asyncio.gather(*map(ask, "abcd"), return_exceptions=True)

    assert (answers[0], answers[2]) == ("A", "C")
    assert [answers[1].id, answers[3].id] == ["b", "d"]


async def test_an_error_of_all_is_a_copy_for_each(backend, ask):
    backend.fails = lambda _: UnavailableError("away", entity="test_run")

    errors = await asyncio.gather(*map(ask, "abc"), return_exceptions=True)

    assert [type(error) for error in errors] == [UnavailableError] * 3
    assert [(str(error), error.entity, error.id) for error in errors] == [
        ("away", "test_run", "a"),
        ("away", "test_run", "b"),
        ("away", "test_run", "c"),
    ]
    assert len({id(error) for error in errors}) == 3


async def test_one_that_is_refused_does_not_take_the_others_along(backend, ask):
    backend.fails = lambda asked: InvalidValueError("no", field="id") if "c" in asked else None

    answers = await asyncio.gather(*map(ask, "abcd"), return_exceptions=True)

    assert (answers[0], answers[1], answers[3]) == ("A", "B", "D")
    assert isinstance(answers[2], InvalidValueError)
    assert (answers[2].field, answers[2].id) == ("id", "c")


async def test_what_is_nobodys_error_reaches_everybody(backend, ask):
    backend.answer = {"a": 1}.__getitem__

    answers = await asyncio.gather(*map(ask, "abc"), return_exceptions=True)

    assert answers[0] == 1
    assert [type(error) for error in answers[1:]] == [KeyError, KeyError]


async def test_a_cancelled_call_leaves_the_others_their_answers(backend, ask):
    backend.open.clear()
    calls = [asyncio.create_task(ask(one)) for one in "abc"]
    await turns()
    calls[1].cancel()
    await turns()
    backend.open.set()
    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert answers[0] == "A"
    assert isinstance(answers[1], asyncio.CancelledError)
    assert answers[2] == "C"
    assert backend.cancelled == []


async def test_one_cancelled_with_its_answer_at_hand_does_not_cut_off_the_others():
    async def send(asked: Sequence[str]) -> list[str]:
        if len(asked) > 1:
            raise DuplicateError("one of them is there")
        if "a" in asked:
            await turns()
        if "d" in asked:  # b and c have their answers, but did not run since
            calls["b"].cancel()
            await turns()
        return [one.upper() for one in asked]

    ask = Coalescer(send)
    calls = {one: asyncio.create_task(ask(one)) for one in "abcd"}
    await asyncio.wait(calls.values())

    assert calls["b"].cancelled()
    assert [calls[one].result() for one in "acd"] == ["A", "C", "D"]


async def test_a_trip_nobody_waits_for_any_more_is_cancelled(backend, ask):
    backend.open.clear()
    calls = [asyncio.create_task(ask(one)) for one in "abc"]
    await turns()
    for call in calls[1:]:
        call.cancel()
    await turns()
    backend.open.set()

    assert await calls[0] == "A"
    assert backend.cancelled == [["b", "c"]]
    assert await ask("d") == "D"


async def test_a_lone_call_takes_its_trip_along_when_it_is_cancelled(backend, ask):
    backend.open.clear()
    call = asyncio.create_task(ask("a"))
    await turns()
    call.cancel()
    await asyncio.wait([call])
    backend.open.set()

    assert backend.cancelled == [["a"]]
    assert await ask("b") == "B"


async def test_a_call_that_is_cancelled_while_it_gathers_is_not_sent(backend, ask):
    backend.open.clear()
    calls = [asyncio.create_task(ask("a"))]
    await turns()
    calls.append(asyncio.create_task(ask("b")))
    await turns()
    calls += [asyncio.create_task(ask(one)) for one in "cd"]
    await turns()
    calls[2].cancel()
    await turns()
    backend.open.set()
    await asyncio.gather(*calls, return_exceptions=True)

    assert backend.trips == [["a"], ["b"], ["d"]]


@pytest.mark.parametrize(
    ("writes", "cut_off"), [(True, OutcomeUnknownError), (False, UnavailableError)]
)
async def test_closing_ends_what_gathers_and_what_is_under_way(backend, writes, cut_off):
    ask = Coalescer(backend.send, writes=writes, patience=60)
    backend.open.clear()
    calls = [asyncio.create_task(ask("a"))]
    await turns()
    calls += [asyncio.create_task(ask(one)) for one in "bc"]
    await turns()
    calls.append(asyncio.create_task(ask("d")))
    await turns()

    await ask.aclose()
    gathered = await asyncio.gather(*calls[1:], return_exceptions=True)
    with pytest.raises(UnavailableError):
        await ask("e")
    backend.open.set()

    assert [type(error) for error in gathered] == [cut_off, cut_off, UnavailableError]
    assert await calls[0] == "A", "whoever travels in the own task is not ours to cut"


@pytest.mark.parametrize("number", range(8))
async def test_closing_at_any_moment_leaves_nobody_waiting(backend, number):
    ask = Coalescer(backend.send, writes=True, patience=60)
    backend.open.clear()
    calls = [asyncio.create_task(ask(one)) for one in "abcd"]
    for _ in range(number):
        await asyncio.sleep(0)

    await ask.aclose()
    backend.open.set()
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*calls, return_exceptions=True)

    assert {type(answer) for answer in answers} <= {str, OutcomeUnknownError, UnavailableError}


async def test_thousands_of_calls_cancelled_at_random_leave_nothing_behind(backend, ask):
    draw = random.Random(7)
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    calls = []
    for number in range(2000):
        call = asyncio.create_task(ask(f"n{number}"))
        if draw.random() < 0.5:
            loop.call_later(draw.random() / 100, call.cancel)
        calls.append(call)
        if draw.random() < 0.1:
            await asyncio.sleep(0)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    await turns()

    for number, answer in enumerate(answers):
        assert isinstance(answer, asyncio.CancelledError) or answer == f"N{number}"
    assert asyncio.all_tasks() == before
    assert await ask("last") == "LAST"
    assert backend.trips[-1] == ["last"]


async def test_while_what_is_behind_refuses_another_threads_event_loop_nobody_else_is_refused(
    backend,
):
    own = asyncio.get_running_loop()
    asked, refuse = threading.Event(), threading.Event()

    async def send(together: Sequence[str]) -> list[object]:
        if asyncio.get_running_loop() is own:
            return await backend.send(together)
        asked.set()
        refuse.wait(10)
        raise ConfigurationError("another event loop")

    coalescer = Coalescer(send)
    assert await coalescer("first") == "FIRST"
    other = asyncio.create_task(asyncio.to_thread(asyncio.run, coalescer("stray")))
    await asyncio.to_thread(asked.wait, 10)

    answers = await asyncio.gather(*(coalescer(name) for name in "abc"), return_exceptions=True)
    refuse.set()

    with pytest.raises(ConfigurationError, match="another event loop"):
        await other
    assert answers == ["A", "B", "C"]
    assert await coalescer("last") == "LAST"


async def test_an_event_loop_that_what_is_behind_answers_may_follow_another(backend):
    coalescer = Coalescer(backend.send)
    await asyncio.to_thread(asyncio.run, coalescer("earlier"))

    assert await coalescer("first") == "FIRST"
    assert await asyncio.gather(*(coalescer(name) for name in "abc")) == ["A", "B", "C"]
    assert backend.trips == [["earlier"], ["first"], ["a"], ["b", "c"]]


async def test_another_threads_event_loop_is_refused_and_disturbs_nobody(backend):
    coalescer = Coalescer(backend.send)
    backend.open.clear()
    calls = [asyncio.create_task(coalescer(name)) for name in "abc"]
    await asyncio.sleep(0)

    def from_another_loop():
        return asyncio.run(coalescer("d"))

    with pytest.raises(ConfigurationError, match="another event loop"):
        await asyncio.to_thread(from_another_loop)
    backend.open.set()

    assert await asyncio.gather(*calls) == ["A", "B", "C"]
