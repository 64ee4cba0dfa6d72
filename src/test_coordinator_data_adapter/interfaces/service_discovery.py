"""The port of the service registry."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod

from test_coordinator_data_adapter.models.service import ServiceInfo

__all__ = ["ServiceDiscoveryRepository", "ServiceInfo"]


class ServiceDiscoveryRepository(ABC):
    """Which services are alive: a registry that a family of instances shares.

    * What goes in and what comes out is a copy.
    * Lists are ordered by (registered_at, service_id), ids by code point.
    * "Now" is the clock of the client that calls: keep the clocks of the family together.
      Where they differ, the next heartbeat corrects what an earlier one has set.
    * A registration that was neither renewed nor confirmed by a heartbeat for 24 hours may
      be forgotten by the backend; it is never forgotten earlier, unless the backend evicts
      keys. What a registration consists of is complete again after its next heartbeat.
    * Bad input is an `InvalidValueError`; nothing was sent. A live backend also raises
      `UnavailableError`, `OutcomeUnknownError`, `OverloadedError`, `ConfigurationError`
      or `DataIntegrityError`, each within its deadline.
    """

    @abstractmethod
    async def register_with_token(self, service: ServiceInfo, token: str) -> ServiceInfo:
        """Register an instance as `register` does, under a token that names this registration.

        A process that keeps one token for its lifetime can end its own registration without
        touching that of a successor: see `deregister_with_token`.

        Args:
            service: the instance.
            token: 1 to 64 letters, digits, hyphens and underscores, unique to the caller.

        Returns:
            What is now registered.

        Raises:
            ConflictError: `deregister_with_token` has ended this token's registrations of the
                instance; nothing was registered.
        """

    @abstractmethod
    async def deregister(self, service_id: str) -> bool:
        """Remove an instance, whoever has registered it. True when it was registered."""

    @abstractmethod
    async def deregister_with_token(self, service_id: str, token: str) -> bool:
        """End the registrations of an instance that were made under a token, and no others.

        For an hour, none can be made under it: a registration that was sent before, and that
        reaches the backend after this call, has no effect.

        Args:
            service_id: the instance.
            token: the one that was given to `register_with_token`.

        Returns:
            True when the instance was registered under that token.
        """

    @abstractmethod
    async def get_service_by_id(self, service_id: str) -> ServiceInfo | None:
        """The instance with that id, or None."""

    @abstractmethod
    async def list_services_by_name(self, service_name: str) -> list[ServiceInfo]:
        """All instances of that service. Costs what it returns, not what is registered."""

    @abstractmethod
    async def list_all_services(self) -> list[ServiceInfo]:
        """All instances of all services."""

    @abstractmethod
    async def update_heartbeat(self, service_id: str) -> ServiceInfo:
        """A sign of life: ``last_seen`` becomes now, also where it was ahead of now.

        Atomic: it never brings back an instance that was deregistered meanwhile.

        Returns:
            The instance as it is now registered.

        Raises:
            NotFoundError: it is not registered; register it again.
        """

    @abstractmethod
    async def remove_stale_services(
        self, threshold_seconds: float, *, max_fraction: float | None = None
    ) -> int:
        """Forget every instance that was last seen more than so many seconds ago.

        An instance that sends a heartbeat meanwhile stays, and so does one whose
        ``last_seen`` is ahead of now.

        Args:
            threshold_seconds: 0 or more.
            max_fraction: the greatest share of the registry, 0 to 1, that may go at once;
                None: all of it. Checked before acting, so a registry that changes in
                between can lose slightly more.

        Returns:
            How many were removed.

        Raises:
            ConflictError: more than ``max_fraction`` would go; nothing was removed. So
                many silent at once means a broken network rather than broken services.
        """

    @abstractmethod
    async def get_service_count(self) -> int:
        """How many instances are registered."""

    @abstractmethod
    async def is_service_healthy(self, service_id: str, threshold_seconds: float) -> bool:
        """Whether it is registered and its ``last_seen`` is close to now.

        Args:
            service_id: the instance.
            threshold_seconds: how many seconds ``last_seen`` may differ from now, bounds
                included, in either direction: a timestamp that is far ahead comes from a
                clock that was wrong, and proves nothing about the service.
        """

    async def register(self, service: ServiceInfo) -> ServiceInfo:
        """Register an instance exactly as given, ``last_seen`` included.

        Registering the same id again replaces what was registered.

        Returns:
            What is now registered.
        """
        return await self.register_with_token(service, secrets.token_hex(8))

    async def get_service_by_name(self, service_name: str) -> ServiceInfo | None:
        """The instance of that service seen last (of equals, the one listed first), or None."""
        services = await self.list_services_by_name(service_name)
        return max(services, key=lambda service: service.last_seen, default=None)
