"""Journals made by hand: small, valid, and any part of them replaceable."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import pytest

from test_coordinator_data_adapter.journals import JournalRecords, read_journal, shipped_mapping
from test_coordinator_data_adapter.journals.document import Journal, parse_journal

Json = dict[str, Any]
START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


class Build:
    """Builds the parts of a journal as the Chaos Toolkit writes them."""

    start = START

    @staticmethod
    def at(seconds: float) -> str:
        return (START + timedelta(seconds=seconds)).isoformat()

    @staticmethod
    def action(name: str = "restart-risk-monitor", **changes: Any) -> Json:
        return {
            "type": "action",
            "name": name,
            "provider": {
                "type": "python",
                "module": "tsefaults",
                "func": "restart",
                "arguments": {"service": "risk-monitor"},
            },
        } | changes

    @staticmethod
    def probe(name: str = "is-healthy", *, tolerance: Any = True, **changes: Any) -> Json:
        return {
            "type": "probe",
            "name": name,
            "tolerance": tolerance,
            "provider": {"type": "python", "module": "tsefaults", "func": "is_healthy"},
        } | changes

    def ran(
        self,
        activity: Json,
        begin: float = 1,
        end: float = 2,
        *,
        output: Any = None,
        **changes: Any,
    ) -> Json:
        return {
            "activity": activity,
            "output": output,
            "start": self.at(begin),
            "end": self.at(end),
            "duration": end - begin,
            "status": "succeeded",
        } | changes

    def raised(self, activity: Json, why: str = "ActivityFailed: no route", **changes: Any) -> Json:
        lines = ["Traceback (most recent call last):\n", f"{why}\n"]
        return self.ran(activity, status="failed", exception=lines, **changes)

    def met(self, *probes: Json, begin: float = 0.5, end: float = 0.6) -> Json:
        held = probes or (self.probe(),)
        executions = [
            self.ran(probe, begin, end, output=True, tolerance_met=True) for probe in held
        ]
        return {"steady_state_met": True, "probes": executions}

    def missed(self, *met: Json, last: Json | None = None, begin: float = 0.5, end: float = 0.6):
        executions = [self.ran(probe, begin, end, output=True, tolerance_met=True) for probe in met]
        decisive = self.ran(last or self.probe(), begin, end, output=False, tolerance_met=False)
        return {"steady_state_met": False, "probes": [*executions, decisive]}

    def broke(self, probe: Json | None = None, begin: float = 0.5, end: float = 0.6) -> Json:
        execution = self.raised(probe or self.probe(), begin=begin, end=end, tolerance_met=False)
        return {"steady_state_met": False, "probes": [execution]}

    def experiment(self, **changes: Any) -> Json:
        return {
            "version": "1.0.0",
            "title": "Risk monitor survives a restart",
            "description": "It comes back.",
            "tags": ["chaos"],
            "steady-state-hypothesis": {"title": "all is well", "probes": [self.probe()]},
            "method": [self.action()],
            "rollbacks": [],
        } | changes

    def journal(
        self,
        *,
        before: Any = ...,
        after: Any = ...,
        during: Any = (),
        experiment: Json | None = None,
        **changes: Any,
    ) -> Json:
        return {
            "chaoslib-version": "1.44.0",
            "platform": "Linux",
            "node": "chaos-node-1",
            "experiment": experiment if experiment is not None else self.experiment(),
            "start": self.at(0),
            "status": "completed",
            "deviated": False,
            "steady_states": {
                "before": self.met() if before is ... else before,
                "after": self.met(begin=8, end=9) if after is ... else after,
                "during": list(during),
            },
            "run": [self.ran(self.action())],
            "rollbacks": [],
            "end": self.at(10),
            "duration": 10.0,
        } | changes

    @staticmethod
    def content(journal: Any) -> bytes:
        return json.dumps(journal).encode()

    def parsed(self, journal: Any) -> Journal:
        return parse_journal(self.content(journal))

    def records(self, journal: Any) -> JournalRecords:
        return read_journal(self.content(journal), shipped_mapping())

    @staticmethod
    def sample(name: str) -> bytes:
        folder = files("test_coordinator_data_adapter.journals") / "samples"
        return (folder / f"{name}.journal.json").read_bytes()


@pytest.fixture(scope="session")
def build() -> Build:
    return Build()
