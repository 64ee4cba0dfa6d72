from __future__ import annotations

from typing import TypeVar

import pytest
import structlog
from structlog.testing import capture_logs

from test_coordinator_data_adapter.observability import Fact

FactT = TypeVar("FactT", bound=Fact)


class Recorder:
    """An observer that keeps what it was told."""

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def notice(self, fact: Fact, /) -> None:
        self.facts.append(fact)

    def of(self, kind: type[FactT]) -> list[FactT]:
        return [fact for fact in self.facts if isinstance(fact, kind)]


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def logs():
    structlog.configure()
    with capture_logs() as entries:
        yield entries
