"""A service as the registry knows it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import Id, JsonObject, Moment, Port, Text

__all__ = ["ServiceInfo"]


class ServiceInfo(Entity):
    """One running instance of a service.

    Attributes:
        service_id: the id of the instance, 1 to 255 characters.
        service_name: the name that all instances of the service share.
        version: the version it runs.
        host: where it can be reached.
        grpc_port: its gRPC port, 0 to 65535.
        http_port: its HTTP port, 0 to 65535.
        last_seen: its last sign of life, UTC.
        registered_at: when it registered, UTC.
        metadata: anything else about it; any JSON object.
    """

    entity_name: ClassVar[str] = "service"
    id_field: ClassVar[str] = "service_id"
    containers: ClassVar[tuple[str, ...]] = ("metadata",)

    service_id: Id
    service_name: Id
    version: Text
    host: Text
    grpc_port: Port
    http_port: Port
    last_seen: Moment
    registered_at: Moment
    metadata: JsonObject = Field(default_factory=dict[str, object])
