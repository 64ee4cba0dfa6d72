"""A backend whose driver is imported only once somebody listens where the backend should be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Final, Generic, TypeVar

from test_coordinator_data_adapter.errors import UnavailableError
from test_coordinator_data_adapter.models.values import JsonValue
from test_coordinator_data_adapter.resilience.supervision import Backend

__all__ = ["LateBackend"]

BackendT = TypeVar("BackendT", bound=Backend)

# Seconds without a server after which the backend is made all the same.
_PRELOAD_AFTER: Final = 3.0
# Seconds that a repeated attempt to connect may take.
_REPEATED: Final = 1.5


class LateBackend(Generic[BackendT]):
    """Knocks before it imports: with no server anywhere, a factory is ready at once.

    Drivers take most of a second to import; that happens in a thread, off the event loop.
    """

    def __init__(
        self,
        name: str,
        server: tuple[str, int] | None,
        make: Callable[[], BackendT],
        *,
        patience: float,
        description: str,
    ) -> None:
        """Know how to make it; nothing is imported yet.

        Args:
            name: what health and events call the backend.
            server: the host and port that must accept a connection first; None: it is made
                without.
            make: imports the driver and makes the backend; called in a thread, once.
            patience: seconds to wait for an answer to the knock.
            description: what messages call the server, such as its host, port and user.
        """
        self.name = name
        self._server = server
        self._make = make
        self._patience = patience
        self._description = description
        self._made: BackendT | None = None
        self._missing_since: float | None = None

    @property
    def inner(self) -> BackendT:
        """The backend itself.

        Raises:
            UnavailableError: it was not made yet.
        """
        if self._made is None:
            raise UnavailableError(f"{self.name} is not open: initialise the factory first")
        return self._made

    async def load(self) -> bool:
        """Make the backend if a server listens; returns whether one does.

        A process that has waited for some seconds is a service, not a script that is about to
        end: it makes the backend without a server, to be live as soon as there is one.
        """
        listens = await self._is_listening()
        now = monotonic()
        if listens:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = now
        waited = self._missing_since is not None and now - self._missing_since >= _PRELOAD_AFTER
        if self._made is None and (listens or waited):
            self._made = await asyncio.to_thread(self._make)
        return listens

    async def open(self) -> None:
        """Make it and open it.

        Raises:
            AdapterError: it cannot be used; nothing stays open.
        """
        if not await self.load():
            raise UnavailableError(
                f"{self._description} does not answer: check that it runs and can be reached"
            )
        await self.inner.open()

    def known(self) -> dict[str, JsonValue]:
        """What is known of the backend without asking it; only its server before it is made."""
        known = {} if self._made is None else self._made.known()
        return {"server": self._description, **known}

    @property
    def answered_at(self) -> float:
        """When it last answered anything; 0.0 while it is not open."""
        return 0.0 if self._made is None else self._made.answered_at

    async def facts(self) -> dict[str, JsonValue]:
        """What the backend tells of itself.

        Raises:
            AdapterError: it does not answer as it should.
        """
        return await self.inner.facts()

    async def answers(self) -> bool:
        """Whether the server answers on another connection."""
        return await self.inner.answers()

    async def aclose(self) -> None:
        """Close the backend, if it was ever made."""
        if self._made is not None:
            await self._made.aclose()

    async def _is_listening(self) -> bool:
        if self._server is None:
            return True
        host, port = self._server
        # The first attempt may be slow. Later ones are many, and each starts with a fresh SYN: a
        # host that comes back is met soon.
        limit = self._patience if self._missing_since is None else min(self._patience, _REPEATED)
        try:
            async with asyncio.timeout(limit):
                _, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError, UnicodeError):
            return False
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return True
