"""The service registry in memory."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from test_coordinator_data_adapter.adapters.stub.store import MemoryStore
from test_coordinator_data_adapter.errors import ConflictError
from test_coordinator_data_adapter.interfaces.arguments import (
    fraction,
    identifier,
    registration_token,
    seconds,
)
from test_coordinator_data_adapter.interfaces.queries import NotAfter, OneOf
from test_coordinator_data_adapter.interfaces.service_discovery import ServiceDiscoveryRepository
from test_coordinator_data_adapter.models.service import ServiceInfo

__all__ = ["StubServiceDiscoveryRepository"]

_ENDED_FOR: Final = timedelta(hours=1)


class StubServiceDiscoveryRepository(ServiceDiscoveryRepository):
    """The service registry in memory."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        """Use ``store``, or one of its own."""
        self._store = store or MemoryStore()
        self._services = self._store.services

    async def register_with_token(self, service: ServiceInfo, token: str) -> ServiceInfo:
        stored, token = ServiceInfo.checked(service), registration_token(token)
        self._forget_ended()
        if (stored.service_id, token) in self._store.ended_registrations:
            raise ConflictError.registration_ended(stored.service_id)
        self._store.registrations[stored.service_id] = token
        return self._services.put(stored)

    async def deregister(self, service_id: str) -> bool:
        self._store.registrations.pop(identifier(service_id, "service_id"), None)
        return self._services.delete(service_id)

    async def deregister_with_token(self, service_id: str, token: str) -> bool:
        ended = identifier(service_id, "service_id"), registration_token(token)
        self._forget_ended()
        self._store.ended_registrations[ended] = self._store.clock()
        if self._store.registrations.get(service_id) != token:
            return False
        return await self.deregister(service_id)

    async def get_service_by_id(self, service_id: str) -> ServiceInfo | None:
        return self._services.get(identifier(service_id, "service_id"))

    async def list_services_by_name(self, service_name: str) -> list[ServiceInfo]:
        name = identifier(service_name, "service_name")
        return self._services.select((OneOf("service_name", (name,)),))

    async def list_all_services(self) -> list[ServiceInfo]:
        return self._services.select()

    async def update_heartbeat(self, service_id: str) -> ServiceInfo:
        now = self._store.clock()
        return self._services.change(
            identifier(service_id, "service_id"), lambda _: {"last_seen": now}
        )

    async def remove_stale_services(
        self, threshold_seconds: float, *, max_fraction: float | None = None
    ) -> int:
        threshold = timedelta(seconds=seconds(threshold_seconds, "threshold_seconds"))
        last_healthy = self._store.clock() - threshold
        stale = (NotAfter("last_seen", last_healthy - timedelta(microseconds=1)),)
        if max_fraction is not None:
            share = fraction(max_fraction, "max_fraction")
            going = self._services.count(stale)
            if going > share * len(self._services):
                raise ConflictError.too_many_stale(going, len(self._services))
        return self._services.delete_matching(stale)

    async def get_service_count(self) -> int:
        return len(self._services)

    async def is_service_healthy(self, service_id: str, threshold_seconds: float) -> bool:
        threshold = timedelta(seconds=seconds(threshold_seconds, "threshold_seconds"))
        service = self._services.get(identifier(service_id, "service_id"))
        return service is not None and abs(self._store.clock() - service.last_seen) <= threshold

    def _forget_ended(self) -> None:
        now, ended = self._store.clock(), self._store.ended_registrations
        # The oldest come first.
        while ended and now - next(iter(ended.values())) > _ENDED_FOR:
            del ended[next(iter(ended))]
