"""The port of retention: what has been kept long enough goes, together with what hangs on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal, TypeAlias

from test_coordinator_data_adapter.interfaces.arguments import integer, moment

__all__ = [
    "KINDS",
    "Kept",
    "Kind",
    "KindReport",
    "OnProgress",
    "RetentionPolicy",
    "RetentionReport",
    "RetentionRepository",
]

Kind: TypeAlias = Literal["chaos_events", "test_results", "test_runs", "scenarios"]
KINDS: Final[tuple[Kind, ...]] = ("chaos_events", "test_results", "test_runs", "scenarios")
"""In the order in which they go: what hangs on a run goes no later than the run."""

Kept: TypeAlias = Literal["unfinished", "last_runs", "run_is_kept", "in_use"]
"""Why something old stays: its run is pending or running; its run is among the last of its
scenario; it hangs on such a run; the scenario is neither archived nor deprecated. Reports tell
them in this order."""

OnProgress: TypeAlias = Callable[[Kind, int, int], None]
"""Told after every batch: the kind, how many of it are gone, how many will go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionPolicy:
    """What is old enough to go; None keeps that kind for ever.

    Attributes:
        scenarios: archived and deprecated scenarios that last changed before this time.
        test_runs: finished runs that were created before this time.
        chaos_events: events that were created before this time.
        test_results: results that were created before this time.
        keep_last_runs: how many runs of each scenario, the ones created last, stay whatever
            their age, with all their events and results.

    Raises:
        InvalidValueError: a time without a time zone, or a number below 0.
    """

    scenarios: datetime | None = None
    test_runs: datetime | None = None
    chaos_events: datetime | None = None
    test_results: datetime | None = None
    keep_last_runs: int = 0

    def __post_init__(self) -> None:
        for kind in KINDS:
            if (before := getattr(self, kind)) is not None:
                moment(before, kind)
        integer(self.keep_last_runs, "keep_last_runs", least=0)


@dataclass(frozen=True, slots=True)
class KindReport:
    """What became of one kind.

    Attributes:
        examined: how many were old enough, or hang on a run that goes.
        pruned: how many of these went, or would go.
        kept: how many of these stayed, by reason.
    """

    examined: int = 0
    pruned: int = 0
    kept: Mapping[Kept, int] = field(default_factory=dict[Kept, int])


@dataclass(frozen=True, slots=True)
class RetentionReport:
    """What a policy did, or would do.

    Attributes:
        dry_run: whether nothing was deleted.
        kinds: one report for each kind.
    """

    dry_run: bool
    kinds: Mapping[Kind, KindReport]


class RetentionRepository(ABC):
    """Applies a policy to the four stored kinds.

    * Pending and running runs are never deleted, nor what hangs on them.
    * Events and results go no later than their run; of a run that is gone or was never
      stored, by their own age. A run and what hangs on it go at once or stay: who takes it up
      again in the middle of a sweep finds it whole, or gone.
    * A sweep works batch by batch and can be broken off at any time: what is gone is
      gone, and another sweep goes on. Of two at once one waits for the other's batch.
    * What a survey reports is what a sweep then does, unless somebody writes in between.
    """

    @abstractmethod
    async def survey(self, policy: RetentionPolicy) -> RetentionReport:
        """What the policy would do; deletes nothing."""

    @abstractmethod
    async def sweep(
        self, policy: RetentionPolicy, *, on_progress: OnProgress | None = None
    ) -> RetentionReport:
        """Delete what the policy says, and report it.

        Args:
            policy: what is old enough.
            on_progress: told after every batch.
        """
