"""What one set of stubs shares: everything kept, and the clock it is kept by."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from test_coordinator_data_adapter.adapters.stub.entries import Entries
from test_coordinator_data_adapter.adapters.stub.table import Index, Order, Table
from test_coordinator_data_adapter.adapters.stub.trail import Trail
from test_coordinator_data_adapter.models.chaos_event import ChaosEvent
from test_coordinator_data_adapter.models.scenario import Scenario
from test_coordinator_data_adapter.models.service import ServiceInfo
from test_coordinator_data_adapter.models.test_result import TestResult
from test_coordinator_data_adapter.models.test_run import TestRun
from test_coordinator_data_adapter.models.values import utc_now

__all__ = ["COMPLETED_NEWEST", "CREATED_NEWEST", "LAST_SEEN", "STARTED_NEWEST", "MemoryStore"]

CREATED_NEWEST: Final = Order("created_at", newest_first=True)
STARTED_NEWEST: Final = Order("started_at", newest_first=True)
COMPLETED_NEWEST: Final = Order("completed_at", newest_first=True)
LAST_SEEN: Final = Order("last_seen")


class MemoryStore:
    """One in-memory store: stubs made with the same one see the same data.

    It belongs to one event loop; nothing of it survives the process.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime] = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
        audit_actor: str = "memory",
    ) -> None:
        """Make an empty store.

        Args:
            clock: the store's time, aware.
            monotonic: seconds that never step back; the cache expires by it.
            audit_actor: who acts, where `audit_context` does not say.
        """
        self.clock = clock
        self.trail = Trail(clock, audit_actor)
        self.scenarios = Table(
            Scenario,
            Index(("scenario_type",)),
            Index(("status",)),
            Index(("tags",)),
            Index(("services_under_test",)),
            Index(("created_by",)),
            trail=self.trail,
        )
        self.test_runs = Table(
            TestRun,
            Index(("scenario_id",)),
            Index(("scenario_id", "status")),
            Index(("status",)),
            Index(("labels",)),
            Index((), CREATED_NEWEST),
            Index((), STARTED_NEWEST),
            Index(("status",), COMPLETED_NEWEST),
            trail=self.trail,
        )
        self.chaos_events = Table(
            ChaosEvent,
            Index(("run_id",)),
            Index(("event_type",)),
            Index(("target_service",)),
            Index(("status",)),
            Index((), Order("injected_at")),
            trail=self.trail,
        )
        self.test_results = Table(
            TestResult,
            Index(("run_id",)),
            Index(("run_id", "status")),
            Index(("assertion_type",)),
            Index(("assertion_type", "status")),
            Index(("status",)),
            Index(("correlation_id",)),
            Index(("name",)),
            trail=self.trail,
        )
        self.services = Table(
            ServiceInfo,
            Index(("service_name",), Order("registered_at")),
            Index((), LAST_SEEN),
            order=Order("registered_at"),
        )
        self.registrations: dict[str, str] = {}
        """The token under which each service was registered last."""
        self.ended_registrations: dict[tuple[str, str], datetime] = {}
        """When which service's registrations under which token were ended."""
        self.cache = Entries(monotonic)

    def later_than(self, moment: datetime) -> datetime:
        """The store's time, but later than ``moment`` in any case."""
        return max(self.clock(), moment + timedelta(microseconds=1))
