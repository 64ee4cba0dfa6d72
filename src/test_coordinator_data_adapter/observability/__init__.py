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
    Trip,
    TripEnded,
    outcome_of,
)
from test_coordinator_data_adapter.observability.operations import current_operation, instrument

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
    "Trip",
    "TripEnded",
    "current_operation",
    "instrument",
    "outcome_of",
]
