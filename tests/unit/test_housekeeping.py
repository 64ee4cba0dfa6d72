from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from test_coordinator_data_adapter import AdapterConfig, AdapterFactory
from test_coordinator_data_adapter.errors import InvalidValueError, UnavailableError
from test_coordinator_data_adapter.housekeeping import housekeeping


class Factory(AdapterFactory):
    """Counts the jobs it is asked to do; the registry can be made to fail."""

    def __init__(self) -> None:
        super().__init__(AdapterConfig(in_memory=True))
        self.done: list[str] = []
        self.registry_fails = False

    async def health_check(self):
        self.done.append("health")
        return await super().health_check()

    async def remove_stale_services(self, **options):
        self.done.append("stale")
        if self.registry_fails:
            raise UnavailableError("redis does not answer")
        return await super().remove_stale_services(**options)

    async def prune_expired(self, *arguments, **options):
        self.done.append("prune")
        return await super().prune_expired(*arguments, **options)


class Time:
    """A clock that stands still until a round ended and the test lets the next one begin."""

    def __init__(self) -> None:
        self.now = 0.0
        self.asleep = asyncio.Event()
        self._wake = asyncio.Event()

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.asleep.set()
        await self._wake.wait()
        self._wake.clear()
        self.now += seconds

    async def next_round(self) -> None:
        self.asleep.clear()
        self._wake.set()
        await asyncio.wait_for(self.asleep.wait(), 60)


async def test_given_intervals_then_health_and_services_are_seen_to_each_time_and_data_rarely():
    time = Time()
    async with (
        Factory() as factory,
        housekeeping(factory, interval=30, prune_interval=60, sleep=time.sleep, clock=time.clock),
    ):
        await asyncio.wait_for(time.asleep.wait(), 60)
        await time.next_round()
        await time.next_round()

        assert factory.done == [
            *("health", "stale", "prune"),
            *("health", "stale"),
            *("health", "stale", "prune"),
        ]


async def test_given_a_job_that_fails_then_the_others_go_on_and_the_log_says_so_once():
    time = Time()
    with capture_logs() as logs:
        async with (
            Factory() as factory,
            housekeeping(factory, interval=30, sleep=time.sleep, clock=time.clock),
        ):
            factory.registry_fails = True
            await asyncio.wait_for(time.asleep.wait(), 60)
            await time.next_round()
            factory.registry_fails = False
            await time.next_round()

            assert factory.done.count("health") == 3

    events = [(log["event"], log["job"]) for log in logs if log["event"].startswith("housek")]
    assert events == [
        ("housekeeping_failed", "remove_stale_services"),
        ("housekeeping_recovered", "remove_stale_services"),
    ]


async def test_given_the_block_was_left_then_no_task_is_left_running():
    before = asyncio.all_tasks()

    async with Factory() as factory, housekeeping(factory):
        assert len(asyncio.all_tasks()) == len(before) + 1

    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("name", ["interval", "prune_interval"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
async def test_given_an_interval_that_is_not_positive_then_it_is_refused_by_name(name, value):
    factory = Factory()

    with pytest.raises(InvalidValueError, match=f"{name} must be a positive number of seconds"):
        async with housekeeping(factory, **{name: value}):
            raise AssertionError
