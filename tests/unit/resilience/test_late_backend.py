import asyncio
import threading
from typing import Any

import pytest

from test_coordinator_data_adapter.errors import UnavailableError
from test_coordinator_data_adapter.resilience.late_backend import LateBackend

SERVER = "PostgreSQL at db:1/x"


class Made:
    name = "postgres"
    answered_at = 1.0

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.opened = 0
        self.closed = 0

    async def open(self) -> None:
        self.opened += 1

    def known(self) -> dict[str, Any]:
        return {"pool": 1}

    async def facts(self) -> dict[str, Any]:
        return {"version": "18"}

    async def aclose(self) -> None:
        self.closed += 1


async def test_nothing_is_made_while_nobody_answers(refusing_port: int) -> None:
    late = LateBackend(
        "postgres",
        ("127.0.0.1", refusing_port),
        Made,
        patience=60.0,
        description=SERVER,
    )

    with pytest.raises(UnavailableError, match=r"^PostgreSQL at db:1/x does not answer"):
        await late.open()
    assert late.known() == {"server": SERVER}

    await late.aclose()


async def test_it_is_made_once_in_a_thread_when_somebody_answers() -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    late = LateBackend(
        "postgres",
        server.sockets[0].getsockname()[:2],
        Made,
        patience=60.0,
        description=SERVER,
    )

    await late.open()
    await late.open()
    made = late.inner
    await late.aclose()
    server.close()

    assert made.thread is not threading.current_thread()
    assert (made.opened, made.closed) == (2, 1)
    assert late.known() == {"server": SERVER, "pool": 1}
    assert await late.facts() == {"version": "18"}
    assert late.answered_at == 1.0


async def test_without_a_place_to_knock_it_is_made_at_once() -> None:
    late = LateBackend("redis", None, Made, patience=60.0, description=SERVER)

    assert await late.load()
