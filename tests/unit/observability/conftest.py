from __future__ import annotations

from typing import TypeVar

import pytest
import structlog
from structlog.testing import capture_logs

from test_coordinator_data_adapter.observability import Fact, Operation, Place, Tally

FactT = TypeVar("FactT", bound=Fact)


class Recorder:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def notice(self, fact: Fact, /) -> None:
        self.facts.append(fact)

    def of(self, kind: type[FactT]) -> list[FactT]:
        return [fact for fact in self.facts if isinstance(fact, kind)]


class TallyingRecorder(Recorder):
    """The same, with all its tallies."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[str, Tally] = {}
        self.trips: dict[tuple[str, str, str | None], Tally] = {}

    def operation_tally(self, operation: Operation, /) -> Tally:
        return self.calls.setdefault(operation.name, Tally([]))

    def trip_tally(self, place: Place, command: str, operation: Operation | None, /) -> Tally:
        key = (place.backend, command, None if operation is None else operation.name)
        return self.trips.setdefault(key, Tally([]))


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def tallier() -> TallyingRecorder:
    return TallyingRecorder()


@pytest.fixture
def logs():
    structlog.configure()
    with capture_logs() as entries:
        yield entries
