"""A scenario: what is broken on purpose, in which services, and what should come of it."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import Id, JsonObject, Moment, Text, utc_now

__all__ = ["Scenario", "ScenarioStatus", "ScenarioType"]


class ScenarioType(StrEnum):
    """Which kind of fault a scenario is about."""

    SERVICE_RESTART = "service_restart"
    NETWORK_PARTITION = "network_partition"
    NETWORK_LATENCY = "network_latency"
    RESOURCE_EXHAUSTION = "resource_exhaustion"
    DATA_CORRUPTION = "data_corruption"
    COMBINED = "combined"


class ScenarioStatus(StrEnum):
    """Where a scenario stands in its life."""

    DRAFT = "draft"
    ACTIVE = "active"
    ARCHIVED = "archived"
    DEPRECATED = "deprecated"

    @property
    def is_retired(self) -> bool:
        """Whether a scenario with this status is no longer used; retention may remove it."""
        return self in {ScenarioStatus.ARCHIVED, ScenarioStatus.DEPRECATED}


class Scenario(Entity):
    """The definition that runs are made from.

    Attributes:
        scenario_id: the id, 1 to 255 characters.
        name: what people call it.
        description: what it is for, or None.
        scenario_type: the kind of fault.
        status: where it stands in its life.
        configuration: how it is carried out; any JSON object.
        services_under_test: names of the services it breaks.
        expected_outcomes: what should be true afterwards, in words.
        created_by: who defined it, or None.
        created_at: when it was defined, UTC; never changes once stored.
        updated_at: when it last changed, UTC; the store keeps it strictly increasing.
        tags: names to find it by.
    """

    entity_name: ClassVar[str] = "scenario"
    id_field: ClassVar[str] = "scenario_id"
    containers: ClassVar[tuple[str, ...]] = (
        "configuration",
        "services_under_test",
        "expected_outcomes",
        "tags",
    )

    scenario_id: Id
    name: Text
    description: Text | None = None
    scenario_type: ScenarioType
    status: ScenarioStatus = ScenarioStatus.DRAFT
    configuration: JsonObject
    services_under_test: list[Id] = Field(default_factory=list[str])
    expected_outcomes: list[Text] = Field(default_factory=list[str])
    created_by: Text | None = None
    created_at: Moment = Field(default_factory=utc_now)
    updated_at: Moment = Field(default_factory=utc_now)
    tags: list[Id] = Field(default_factory=list[str])
