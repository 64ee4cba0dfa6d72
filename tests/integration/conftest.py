"""The servers that the live tests of one session share, however many processes it has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from test_coordinator_data_adapter.testing.servers import (
    DatabaseServer,
    KeyspaceServer,
    session_postgres,
    session_redis,
)


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def postgres_server(session_folder: Path) -> Iterator[DatabaseServer]:
    with session_postgres(session_folder / "shared-postgres") as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(session_folder: Path) -> Iterator[KeyspaceServer]:
    with session_redis(session_folder / "shared-redis") as server:
        yield server
