from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog

from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConfigurationError,
    OverloadedError,
    UnavailableError,
)
from test_coordinator_data_adapter.resilience.events import EventLog
from test_coordinator_data_adapter.resilience.observation import Probed, StateChanged
from test_coordinator_data_adapter.resilience.supervision import BackendState, Supervisor

DOWN = UnavailableError("postgres does not answer: start it")
WRONG = ConfigurationError("the password is wrong: mend it")


class ScriptedBackend:
    """A backend whose every attempt ends as told."""

    name = "postgres"

    def __init__(self, *attempts: Exception | None, hangs: bool = False) -> None:
        self.attempts = list(attempts)
        self.hangs = hangs
        self.answered_at = 0.0
        self.asking: AdapterError | None = None
        self.closed = 0

    async def open(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        failure = self.attempts.pop(0) if self.attempts else None
        if failure is not None:
            raise failure

    def known(self) -> dict[str, Any]:
        return {"pool": "of ten"}

    async def facts(self) -> dict[str, Any]:
        if self.hangs:
            await asyncio.Event().wait()
        if self.asking is not None:
            raise self.asking
        return {"server_version": "18"}

    async def aclose(self) -> None:
        self.closed += 1


class Supervised:
    """A supervisor whose pauses last until the test lets them end."""

    def __init__(self, backend: ScriptedBackend, *, deadline: float = 60.0) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.pauses: list[float] = []
        self.go_on = asyncio.Semaphore(0)
        self.backend = backend
        self.observed: list[StateChanged | Probed] = []
        self.supervisor = Supervisor(
            backend,
            EventLog(),
            without="everything, in memory",
            deadline=deadline,
            on_supervision=self.observed.append,
            clock=lambda: self.now,
            random=lambda: 1.0,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        await self.go_on.acquire()

    @property
    def states(self) -> list[str]:
        """What observers were told of."""
        return [fact.state for fact in self.observed if isinstance(fact, StateChanged)]

    async def probe(self) -> None:
        self.go_on.release()
        # The scripted backend never waits: a few turns of the loop are one whole attempt.
        for _ in range(8):
            await asyncio.sleep(0)


@pytest.fixture
def told() -> Any:
    with structlog.testing.capture_logs() as entries:
        yield entries


def names(told: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(entry["log_level"], entry["event"]) for entry in told]


async def test_a_backend_that_answers_is_live(told: list[dict[str, Any]]) -> None:
    supervised = Supervised(ScriptedBackend())

    await supervised.supervisor.start(strict=False)
    health = await supervised.supervisor.health(60.0)
    await supervised.supervisor.stop()

    assert health.pop("latency_ms") >= 0
    assert health == {
        "connected": True,
        "error": None,
        "state": "live",
        "degraded_since": None,
        "warnings": [],
        "server_version": "18",
        "pool": "of ten",
    }
    assert names(told) == [("info", "backend_opened")]
    assert supervised.backend.closed == 1


async def test_a_backend_that_comes_later_is_found_in_the_background(
    told: list[dict[str, Any]],
) -> None:
    supervised = Supervised(ScriptedBackend(DOWN, DOWN, DOWN))
    supervisor = supervised.supervisor

    await supervisor.start(strict=True)
    at_first = supervisor.is_live
    for _ in range(3):
        await supervised.probe()

    assert not at_first
    assert supervisor.is_live
    assert supervised.pauses == [0.5, 1.0, 2.0]
    assert names(told) == [("warning", "backend_unavailable"), ("info", "backend_recovered")]
    assert told[0]["still_works"] == "everything, in memory"
    await supervisor.stop()


async def test_pauses_between_probes_grow_to_half_a_minute(told: list[dict[str, Any]]) -> None:
    supervised = Supervised(ScriptedBackend(*[DOWN] * 12))

    await supervised.supervisor.start(strict=False)
    for _ in range(10):
        await supervised.probe()

    assert max(supervised.pauses) == 30.0
    assert len(told) == 1
    await supervised.supervisor.stop()


async def test_a_misconfigured_backend_is_an_error_once_and_is_probed_all_the_same(
    told: list[dict[str, Any]],
) -> None:
    supervised = Supervised(ScriptedBackend(WRONG, WRONG, DOWN))

    await supervised.supervisor.start(strict=False)
    health = await supervised.supervisor.health(60.0)
    await supervised.probe()
    await supervised.probe()

    assert health["state"] == "misconfigured"
    assert health["error"] == str(WRONG)
    assert health["degraded_since"] == supervised.now.isoformat()
    assert names(told) == [("error", "backend_misconfigured"), ("warning", "backend_unavailable")]
    await supervised.supervisor.stop()


async def test_strict_start_up_raises_for_a_misconfigured_backend_and_leaves_no_task() -> None:
    supervised = Supervised(ScriptedBackend(WRONG))

    with pytest.raises(ConfigurationError):
        await supervised.supervisor.start(strict=True)

    assert len(asyncio.all_tasks()) == 1


async def test_an_attempt_that_hangs_ends_at_its_deadline() -> None:
    supervised = Supervised(ScriptedBackend(hangs=True), deadline=0.01)

    await supervised.supervisor.start(strict=True)
    health = await supervised.supervisor.health(60.0)

    assert health["state"] == "unavailable"
    assert "0.01 s" in health["error"]
    (probed,) = [fact for fact in supervised.observed if isinstance(fact, Probed)]
    assert probed.took >= 0.009
    await supervised.supervisor.stop()


async def test_a_live_backend_that_dies_stays_live_for_callers_and_says_so_in_health(
    told: list[dict[str, Any]],
) -> None:
    supervised = Supervised(ScriptedBackend())
    await supervised.supervisor.start(strict=False)

    supervised.backend.asking = DOWN
    first = await supervised.supervisor.health(60.0)
    supervised.now += timedelta(minutes=5)
    second = await supervised.supervisor.health(60.0)
    supervised.backend.asking = None
    third = await supervised.supervisor.health(60.0)

    assert supervised.supervisor.is_live
    assert (first["connected"], second["connected"], third["connected"]) == (False, False, True)
    assert first["degraded_since"] == second["degraded_since"]
    assert first["pool"] == "of ten"
    assert third["degraded_since"] is None
    assert names(told)[1:] == [("warning", "backend_lost"), ("info", "backend_recovered")]
    await supervised.supervisor.stop()


async def test_a_live_backend_that_refuses_later_is_misconfigured_and_stays_live_for_callers(
    told: list[dict[str, Any]],
) -> None:
    supervised = Supervised(ScriptedBackend())
    await supervised.supervisor.start(strict=False)

    supervised.backend.asking = DOWN
    await supervised.supervisor.health(1.0)
    supervised.backend.asking = WRONG
    first = await supervised.supervisor.health(1.0)
    await supervised.supervisor.health(1.0)
    supervised.backend.asking = None
    second = await supervised.supervisor.health(1.0)

    assert supervised.supervisor.is_live
    assert (first["state"], first["connected"]) == ("misconfigured", False)
    assert first["error"] == str(WRONG)
    assert (second["state"], second["connected"]) == ("live", True)
    assert names(told)[1:] == [
        ("warning", "backend_lost"),
        ("error", "backend_misconfigured"),
        ("info", "backend_recovered"),
    ]
    supervised.backend.asking = WRONG
    await supervised.supervisor.health(1.0)
    await supervised.supervisor.stop()
    assert supervised.states == [
        *("live", "lost", "misconfigured", "live"),
        *("misconfigured", "closed"),
    ]


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (OverloadedError("no connection became free"), "no connection became free"),
        (None, "postgres did not answer within 0.01 s"),
    ],
)
@pytest.mark.parametrize("answers_others", [True, False])
async def test_a_backend_that_answers_only_other_calls_is_busy_and_not_lost(
    told: list[dict[str, Any]], refusal: AdapterError | None, error: str, *, answers_others: bool
) -> None:
    supervised = Supervised(ScriptedBackend())
    await supervised.supervisor.start(strict=False)
    supervised.backend.asking, supervised.backend.hangs = refusal, refusal is None
    supervised.backend.answered_at = math.inf if answers_others else 0.0

    health = await supervised.supervisor.health(0.01)

    assert (health["state"], health["connected"]) == ("live", answers_others)
    assert health["error"] == error
    assert supervised.states == (["live"] if answers_others else ["live", "lost"])
    assert len(told) == len(supervised.states)
    await supervised.supervisor.stop()


async def test_health_ends_within_its_time_when_the_backend_hangs() -> None:
    supervised = Supervised(ScriptedBackend())
    await supervised.supervisor.start(strict=False)
    supervised.backend.hangs = True

    health = await supervised.supervisor.health(0.01)

    assert health["connected"] is False
    assert "0.01 s" in health["error"]
    await supervised.supervisor.stop()


async def test_stopping_ends_the_probe() -> None:
    supervised = Supervised(ScriptedBackend(DOWN))
    await supervised.supervisor.start(strict=False)

    await supervised.supervisor.stop()

    assert supervised.supervisor.state is BackendState.CLOSED
    assert len(asyncio.all_tasks()) == 1


async def test_a_backend_that_does_not_close_in_order_is_told_and_hinders_nobody(
    told: list[dict[str, Any]],
) -> None:
    class Stubborn(ScriptedBackend):
        async def aclose(self) -> None:
            raise UnavailableError("the server does not end")

    supervised = Supervised(Stubborn())
    await supervised.supervisor.start(strict=False)

    await supervised.supervisor.stop()

    assert names(told)[-1] == ("warning", "backend_not_closed_in_order")


async def test_what_nobody_expected_is_told_by_its_type_and_probed_on(
    told: list[dict[str, Any]],
) -> None:
    supervised = Supervised(ScriptedBackend(KeyError("secret"), KeyError("secret"), None))

    await supervised.supervisor.start(strict=False)
    health = await supervised.supervisor.health(60.0)
    await supervised.probe()
    await supervised.probe()

    assert health["state"] == "unavailable"
    assert "KeyError" in str(health["error"])
    assert "secret" not in f"{health}{told}"
    assert supervised.supervisor.is_live
    await supervised.supervisor.stop()


async def test_stopping_can_be_cancelled_and_closes_the_backend_all_the_same() -> None:
    supervised = Supervised(ScriptedBackend(DOWN))
    await supervised.supervisor.start(strict=False)
    stopping = asyncio.create_task(supervised.supervisor.stop())
    await asyncio.sleep(0)

    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping

    assert supervised.backend.closed == 1
    assert len(asyncio.all_tasks()) == 1
