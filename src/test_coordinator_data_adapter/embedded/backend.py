"""A backend on a private server: started before the backend opens, left after it closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from test_coordinator_data_adapter.embedded.shared import SharedServer
from test_coordinator_data_adapter.errors import UnavailableError
from test_coordinator_data_adapter.models.values import JsonValue
from test_coordinator_data_adapter.resilience.supervision import Backend

__all__ = ["EmbeddedBackend"]

EndpointT = TypeVar("EndpointT")
BackendT = TypeVar("BackendT", bound=Backend)


class EmbeddedBackend(Generic[EndpointT, BackendT]):
    """A backend that brings its own server along."""

    def __init__(
        self,
        name: str,
        server: SharedServer[EndpointT],
        make: Callable[[EndpointT], BackendT],
        *,
        prepare: Callable[[EndpointT], Awaitable[object]] | None = None,
    ) -> None:
        """Know how to start it; nothing is started yet.

        Args:
            name: what health and events call the backend.
            server: the private server.
            make: makes the backend from where the server is.
            prepare: what has to be done on the server before the backend can open.
        """
        self.name = name
        self._server = server
        self._make = make
        self._prepare = prepare
        self._backend: BackendT | None = None

    @property
    def inner(self) -> BackendT:
        """The backend on the server.

        Raises:
            UnavailableError: the server is not started.
        """
        if self._backend is None:
            raise UnavailableError(f"{self.name} is not open: initialise the factory first")
        return self._backend

    async def open(self) -> None:
        """Start or join the server, prepare it and open the backend.

        Raises:
            AdapterError: it cannot be used; nothing stays open.
        """
        endpoint = await self._server.start()
        try:
            if self._prepare is not None:
                await self._prepare(endpoint)
            backend = self._make(endpoint)
            await backend.open()
        except BaseException:
            await self._server.stop()
            raise
        self._backend = backend

    def known(self) -> dict[str, JsonValue]:
        """What is known of the backend, and that its server is private."""
        known = {} if self._backend is None else self._backend.known()
        return known | {"embedded": True}

    @property
    def answered_at(self) -> float:
        """When it last answered anything; 0.0 while it is not open."""
        return 0.0 if self._backend is None else self._backend.answered_at

    async def facts(self) -> dict[str, JsonValue]:
        """The facts of the backend.

        Raises:
            AdapterError: it does not answer as it should.
        """
        return await self.inner.facts()

    async def answers(self) -> bool:
        """Whether the server answers on another connection."""
        return await self.inner.answers()

    async def aclose(self) -> None:
        """Close the backend and leave the server; the last one to leave stops it."""
        backend, self._backend = self._backend, None
        if backend is None:
            return
        try:
            await backend.aclose()
        finally:
            await self._server.stop()
