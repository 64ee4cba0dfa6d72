"""Who did what, how long it took and how it ended, told to whoever wants to know."""

from test_coordinator_data_adapter.observability.facts import (
    BatchSent,
    CacheUsed,
    Fact,
    Observer,
    Operation,
    OperationEnded,
    OperationStarted,
    Place,
    PoolClosed,
    PoolOpened,
    PoolUse,
    Probed,
    StateChanged,
    TallyingObserver,
    Trip,
    TripEnded,
    outcome_of,
)
from test_coordinator_data_adapter.observability.operations import current_operation, instrument
from test_coordinator_data_adapter.observability.tally import Tally

__all__ = [
    "BatchSent",
    "CacheUsed",
    "Fact",
    "Observer",
    "Operation",
    "OperationEnded",
    "OperationStarted",
    "Place",
    "PoolClosed",
    "PoolOpened",
    "PoolUse",
    "Probed",
    "StateChanged",
    "Tally",
    "TallyingObserver",
    "Trip",
    "TripEnded",
    "current_operation",
    "instrument",
    "outcome_of",
]
