from __future__ import annotations

import asyncio
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
from test_coordinator_data_adapter.resilience.call_health import CallHealth
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
        self.answers_others = False
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

    async def answers(self) -> bool:
        return self.answers_others

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
        self.seconds = 0.0
        self.calls = CallHealth(clock=lambda: self.seconds)
        self.supervisor = Supervisor(
            backend,
            EventLog(),
            without="everything, in memory",
            deadline=deadline,
            calls=self.calls,
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
        for _ in range(12):
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
    at_first = supervisor.is_open
    for _ in range(3):
        await supervised.probe()

    assert not at_first
    assert supervisor.is_open
    assert supervised.pauses == [0.1, 0.2, 0.4]
    assert names(told) == [("warning", "backend_unavailable"), ("info", "backend_recovered")]
    assert told[0]["still_works"] == "everything, in memory"
    await supervisor.stop()


@pytest.mark.parametrize(("failure", "longest"), [(DOWN, 1.0), (WRONG, 10.0)])
async def test_pauses_between_probes_grow_to_a_second_and_where_a_person_must_act_to_ten(
    told: list[dict[str, Any]], failure: AdapterError, longest: float
) -> None:
    supervised = Supervised(ScriptedBackend(*[failure] * 12))

    await supervised.supervisor.start(strict=False)
    for _ in range(10):
        await supervised.probe()

    assert max(supervised.pauses) == longest
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

    assert supervised.supervisor.is_open
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

    assert supervised.supervisor.is_open
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


@pytest.mark.parametrize("refusal", [OverloadedError("no connection became free"), None])
@pytest.mark.parametrize("answers_others", [True, False])
async def test_a_backend_that_answers_on_another_connection_is_busy_and_not_lost(
    told: list[dict[str, Any]], refusal: AdapterError | None, *, answers_others: bool
) -> None:
    supervised = Supervised(ScriptedBackend())
    await supervised.supervisor.start(strict=False)
    supervised.backend.asking, supervised.backend.hangs = refusal, refusal is None
    supervised.backend.answers_others = answers_others

    health = await supervised.supervisor.health(0.01)

    busy = "postgres is busy: it answers, but no connection of the pool became free within 0.01 s"
    if answers_others:
        assert (health["state"], health["connected"], health["error"]) == ("live", True, busy)
        assert supervised.states == ["live"]
    else:
        assert (health["state"], health["connected"]) == ("lost", False)
        assert health["error"] == "postgres did not answer within 0.01 s"
        assert supervised.states == ["live", "lost"]
    assert len(told) == len(supervised.states)
    await supervised.supervisor.stop()


async def test_a_call_that_finds_the_backend_unavailable_changes_the_state_and_is_logged_once(
    told: list[dict[str, Any]],
) -> None:
    supervised = Supervised(ScriptedBackend())
    await supervised.supervisor.start(strict=False)
    supervised.backend.asking = DOWN

    for _ in range(3):
        supervised.calls.report_failure(DOWN, "read test_run", answered=False)
    state = supervised.supervisor.state
    health = await supervised.supervisor.health(60.0)

    assert state is BackendState.LOST
    assert (health["state"], health["connected"], health["error"]) == ("lost", False, str(DOWN))
    assert health["degraded_since"] == supervised.now.isoformat()
    assert supervised.states == ["live", "lost"]
    assert names(told)[1:] == [("warning", "backend_lost")]
    await supervised.supervisor.stop()


async def test_a_successful_call_recovers_the_backend_at_once(told: list[dict[str, Any]]) -> None:
    supervised = Supervised(ScriptedBackend())
    await supervised.supervisor.start(strict=False)
    supervised.backend.asking = DOWN
    supervised.calls.report_failure(DOWN, "read test_run", answered=False)
    await supervised.probe()

    supervised.calls.report_success("write scenario", writes=True)

    assert supervised.supervisor.state is BackendState.LIVE
    assert not supervised.calls.failing
    assert names(told)[1:] == [("warning", "backend_lost"), ("info", "backend_recovered")]
    await supervised.supervisor.stop()


async def test_a_probe_recovers_a_backend_that_no_call_asks(told: list[dict[str, Any]]) -> None:
    supervised = Supervised(ScriptedBackend())
    await supervised.supervisor.start(strict=False)
    supervised.backend.asking = DOWN
    supervised.calls.report_failure(DOWN, "read test_run", answered=False)
    await supervised.probe()
    lost = supervised.supervisor.state

    supervised.backend.asking = None
    await supervised.probe()

    assert lost is BackendState.LOST
    assert supervised.supervisor.state is BackendState.LIVE
    assert names(told)[1:] == [("warning", "backend_lost"), ("info", "backend_recovered")]
    await supervised.supervisor.stop()
    assert len(asyncio.all_tasks()) == 1


async def test_a_refusal_of_calls_counts_although_probes_succeed_until_it_expires(
    told: list[dict[str, Any]],
) -> None:
    supervised = Supervised(ScriptedBackend())
    await supervised.supervisor.start(strict=False)

    supervised.calls.report_failure(WRONG, "write test_run", answered=True)
    health = await supervised.supervisor.health(60.0)
    supervised.seconds += 31.0
    expired = await supervised.supervisor.health(60.0)

    assert (health["state"], health["connected"]) == ("misconfigured", False)
    assert health["error"] == str(WRONG)
    assert (expired["state"], expired["connected"], expired["error"]) == ("live", True, None)
    assert names(told)[1:] == [("error", "backend_misconfigured"), ("info", "backend_recovered")]
    await supervised.supervisor.stop()


async def test_a_backend_that_comes_and_goes_is_logged_a_few_times_a_minute_and_truthfully(
    told: list[dict[str, Any]],
) -> None:
    supervised = Supervised(ScriptedBackend())
    await supervised.supervisor.start(strict=False)

    for _ in range(100):
        supervised.calls.report_failure(DOWN, "read test_run", answered=False)
        supervised.calls.report_success("read test_run", writes=False)
    supervised.backend.asking = DOWN
    supervised.calls.report_failure(DOWN, "read test_run", answered=False)
    within_the_minute = names(told)[1:]
    supervised.supervisor._budget._updated_at -= 60.0
    for _ in range(3):
        await supervised.probe()

    assert within_the_minute == [("warning", "backend_lost"), ("info", "backend_recovered")] * 5
    assert names(told)[11:] == [("warning", "backend_lost")]
    assert told[-1]["suppressed"] >= 96
    assert supervised.states == ["live", *["lost", "live"] * 100, "lost"]
    await supervised.supervisor.stop()


async def test_health_answers_at_once_while_the_backend_is_known_to_hang() -> None:
    supervised = Supervised(ScriptedBackend())
    await supervised.supervisor.start(strict=False)
    supervised.backend.hangs = True
    await supervised.supervisor.health(0.01)

    async with asyncio.timeout(5.0):
        health = await supervised.supervisor.health(60.0)

    assert (health["state"], health["connected"]) == ("lost", False)
    await supervised.supervisor.stop()
    assert len(asyncio.all_tasks()) == 1


async def test_reports_of_calls_after_the_end_change_nothing(told: list[dict[str, Any]]) -> None:
    supervised = Supervised(ScriptedBackend())
    await supervised.supervisor.start(strict=False)
    await supervised.supervisor.stop()

    supervised.calls.report_failure(DOWN, "read test_run", answered=False)

    assert supervised.states == ["live", "closed"]
    assert len(told) == 1
    assert len(asyncio.all_tasks()) == 1


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
    assert supervised.supervisor.is_open
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
