"""The port of the service registry."""

from __future__ import annotations

from abc import ABC, abstractmethod

from test_coordinator_data_adapter.models.service import ServiceInfo

__all__ = ["ServiceDiscoveryRepository", "ServiceInfo"]


class ServiceDiscoveryRepository(ABC):
    """Which services are alive: a registry that a family of instances shares.

    * What goes in and what comes out is a copy.
    * Lists are ordered by (registered_at, service_id), ids by code point.
    * "Now" is the clock of the client that calls: keep the clocks of the family together.
    * A registration that neither was renewed nor beat for 24 hours may be forgotten by
      the backend; it is never forgotten earlier.
    * Bad input is an `InvalidValueError`; nothing was sent. A live backend also raises
      `UnavailableError`, `OutcomeUnknownError`, `OverloadedError`, `ConfigurationError`
      or `DataIntegrityError`, each within its deadline.
    """

    @abstractmethod
    async def register(self, service: ServiceInfo) -> ServiceInfo:
        """Make an instance known exactly as given, ``last_seen`` included.

        Again with the same id replaces what was registered.

        Returns:
            What is now registered.
        """

    @abstractmethod
    async def deregister(self, service_id: str) -> bool:
        """Forget an instance. True when it was known."""

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
        """A sign of life: ``last_seen`` becomes now, unless it lies ahead already.

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

        An instance that beats meanwhile stays.

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
        """Whether it is registered and was seen within so many seconds, bounds included."""

    async def get_service_by_name(self, service_name: str) -> ServiceInfo | None:
        """The instance of that service seen last (of equals, the one listed first), or None."""
        services = await self.list_services_by_name(service_name)
        return max(services, key=lambda service: service.last_seen, default=None)
