"""Time several ways to do the same thing in turn, and compare them round by round."""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

LIBRARY = "this library"


class Clock:
    """How long something took, by the clock on the wall and of this process's processor."""

    def __init__(self) -> None:
        """Begin."""
        self._began = time.perf_counter()
        self._used = time.process_time()

    def read(self, times: int = 1) -> Taken:
        """What one of so many times took since it began."""
        used = time.process_time() - self._used
        return Taken((time.perf_counter() - self._began) / times, used / times)


class Taken(NamedTuple):
    """Seconds that one time took.

    Attributes:
        seconds: on the wall.
        processor: that this process was computing.
    """

    seconds: float
    processor: float


Sample: TypeAlias = Callable[[], Awaitable[Taken]]
"""Does it some times, and tells what one time took."""


@dataclass(frozen=True)
class Target:
    """How long one may take, as a share of what another takes in the same round."""

    at_most: float
    against: str
    whom: str = LIBRARY

    def __str__(self) -> str:
        faster = self.at_most < 1 and self.whom == LIBRARY
        wanted = f"≥ {1 / self.at_most:.3g} times faster" if faster else f"≤ {self.at_most:.3g}"
        return f"{'' if self.whom == LIBRARY else f'{self.whom}: '}{wanted}, against {self.against}"


@dataclass(frozen=True)
class Operation:
    """One thing to do, and everyone who does it.

    Attributes:
        name: what it is.
        baseline: who counts as 1.
        samples: who does it, and how.
        targets: what is wanted of it.
        after_round: puts things back where they were; not timed.
    """

    name: str
    baseline: str
    samples: Mapping[str, Sample]
    targets: Sequence[Target] = ()
    after_round: Callable[[], Awaitable[object]] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of an operation.

    Attributes:
        name: what it was.
        baseline: who counts as 1.
        seconds: of one time, for everyone, a value for each round.
        targets: what was wanted.
        failures: who could not do it, and what they failed with.
        processor: seconds of this process's processor; empty where it was not measured.
    """

    name: str
    baseline: str
    seconds: Mapping[str, list[float]]
    targets: Sequence[Target]
    failures: Mapping[str, str] = field(default_factory=dict[str, str])
    processor: Mapping[str, list[float]] = field(default_factory=dict[str, list[float]])

    def median(self, name: str) -> float:
        """Seconds of one time."""
        return statistics.median(self.seconds[name])

    def ratios(self, name: str, against: str) -> list[float]:
        """How many times as long as the other one it took, in each round."""
        pairs = zip(self.seconds[name], self.seconds[against], strict=True)
        return [one / other for one, other in pairs]

    def ratio(self, target: Target) -> float | None:
        """What was reached of a target; None when one of the two could not do it."""
        if target.whom in self.seconds and target.against in self.seconds:
            return statistics.median(self.ratios(target.whom, target.against))
        return None


def progress(message: str) -> None:
    """Tell whoever waits where it is."""
    print(message, file=sys.stderr, flush=True)


def repeated(call: Callable[[], Awaitable[object]], times: int) -> Sample:
    """Call it one time after the other."""

    async def sample() -> Taken:
        clock = Clock()
        for _ in range(times):
            await call()
        return clock.read(times)

    return sample


def at_once(call: Callable[[], Awaitable[object]], callers: int, times: int) -> Sample:
    """Let many callers each call it one time after the other; the time of one call of all."""

    async def caller() -> None:
        for _ in range(times):
            await call()

    async def sample() -> Taken:
        clock = Clock()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return clock.read(times * callers)

    return sample


async def measure(operation: Operation, rounds: int) -> Outcome:
    """Let everyone do it once to warm up, then in every round once, in an order by lot."""
    progress(f"  {operation.name}: {', '.join(operation.samples)}")
    failures: dict[str, str] = {}
    able: dict[str, Sample] = {}
    for name, sample in operation.samples.items():
        try:
            await sample()
        except Exception as error:  # noqa: BLE001 - one who cannot is reported, the others go on
            failures[name] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            progress(f"    {name} failed: {failures[name]}")
        else:
            able[name] = sample
    if operation.after_round is not None:
        await operation.after_round()
    taken: dict[str, list[Taken]] = {name: [] for name in able}
    # What is there already is nobody's garbage: looking through it would take longer than a turn.
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for name in random.sample(list(able), len(able)):
            gc.collect()
            taken[name].append(await able[name]())
        if operation.after_round is not None:
            await operation.after_round()
    gc.unfreeze()
    return Outcome(
        operation.name,
        operation.baseline,
        {name: [one.seconds for one in turns] for name, turns in taken.items()},
        operation.targets,
        failures,
        {name: [one.processor for one in turns] for name, turns in taken.items()},
    )
