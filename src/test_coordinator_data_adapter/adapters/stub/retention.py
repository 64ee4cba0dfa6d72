"""Retention in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from itertools import groupby
from operator import attrgetter
from typing import get_args

from test_coordinator_data_adapter.adapters.stub.store import MemoryStore
from test_coordinator_data_adapter.interfaces.retention import (
    KINDS,
    Kept,
    Kind,
    KindReport,
    OnProgress,
    RetentionPolicy,
    RetentionReport,
    RetentionRepository,
)
from test_coordinator_data_adapter.models.chaos_event import ChaosEvent
from test_coordinator_data_adapter.models.test_result import TestResult
from test_coordinator_data_adapter.models.test_run import TestRun

__all__ = ["StubRetentionRepository"]


class _Sorting:
    """One kind sorted into what goes and what stays."""

    def __init__(self) -> None:
        self.going: list[str] = []
        self.kept: dict[Kept, int] = {}

    def keep(self, reason: Kept) -> None:
        self.kept[reason] = self.kept.get(reason, 0) + 1

    def report(self) -> KindReport:
        pruned = len(self.going)
        order: tuple[Kept, ...] = get_args(Kept)
        kept: dict[Kept, int] = {
            reason: self.kept[reason] for reason in order if reason in self.kept
        }
        return KindReport(pruned + sum(kept.values()), pruned, kept)


class StubRetentionRepository(RetentionRepository):
    """Retention in memory."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        """Use ``store``, or one of its own."""
        self._store = store or MemoryStore()

    async def survey(self, policy: RetentionPolicy) -> RetentionReport:
        sorted_ = self._sort(policy)
        return RetentionReport(dry_run=True, kinds={kind: sorted_[kind].report() for kind in KINDS})

    async def sweep(
        self, policy: RetentionPolicy, *, on_progress: OnProgress | None = None
    ) -> RetentionReport:
        sorted_ = self._sort(policy)
        deletes: dict[Kind, Callable[[list[str]], None]] = {
            "chaos_events": self._store.chaos_events.delete_many,
            "test_results": self._store.test_results.delete_many,
            "test_runs": self._store.test_runs.delete_many,
            "scenarios": self._store.scenarios.delete_many,
        }
        for kind in KINDS:
            going = sorted_[kind].going
            deletes[kind](going)
            if on_progress is not None and going:
                on_progress(kind, len(going), len(going))
        return RetentionReport(
            dry_run=False, kinds={kind: sorted_[kind].report() for kind in KINDS}
        )

    def _sort(self, policy: RetentionPolicy) -> dict[Kind, _Sorting]:
        runs, protected = self._sort_runs(policy)
        doomed = set(runs.going)
        scenarios = _Sorting()
        for scenario in self._store.scenarios.select():
            if _is_old(scenario.updated_at, policy.scenarios):
                if scenario.status.is_retired:
                    scenarios.going.append(scenario.scenario_id)
                else:
                    scenarios.keep("in_use")
        return {
            "chaos_events": _sort_children(
                self._store.chaos_events.select(), policy.chaos_events, doomed, protected
            ),
            "test_results": _sort_children(
                self._store.test_results.select(), policy.test_results, doomed, protected
            ),
            "test_runs": runs,
            "scenarios": scenarios,
        }

    def _sort_runs(self, policy: RetentionPolicy) -> tuple[_Sorting, set[str]]:
        runs, protected = _Sorting(), set[str]()
        newest_first = sorted(
            self._store.test_runs.select(),
            key=attrgetter("scenario_id", "created_at", "run_id"),
            reverse=True,
        )
        for _, of_scenario in groupby(newest_first, key=attrgetter("scenario_id")):
            for place, run in enumerate(of_scenario):
                reason = _reason_to_stay(run, place, policy.keep_last_runs)
                if reason is not None:
                    protected.add(run.run_id)
                if _is_old(run.created_at, policy.test_runs):
                    if reason is None:
                        runs.going.append(run.run_id)
                    else:
                        runs.keep(reason)
        return runs, protected


def _reason_to_stay(run: TestRun, place: int, keep_last: int) -> Kept | None:
    if not run.status.is_finished:
        return "unfinished"
    return "last_runs" if place < keep_last else None


def _sort_children(
    children: Iterable[ChaosEvent | TestResult],
    before: datetime | None,
    doomed: set[str],
    protected: set[str],
) -> _Sorting:
    sorting = _Sorting()
    for child in children:
        if child.run_id in doomed:
            sorting.going.append(child.identity)
        elif _is_old(child.created_at, before):
            if child.run_id in protected:
                sorting.keep("run_is_kept")
            else:
                sorting.going.append(child.identity)
    return sorting


def _is_old(moment: datetime, before: datetime | None) -> bool:
    return before is not None and moment < before
