"""The suite of the port of scenarios."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

from test_coordinator_data_adapter.interfaces import ScenarioQuery, ScenariosRepository
from test_coordinator_data_adapter.models import Scenario, ScenarioStatus, ScenarioType
from test_coordinator_data_adapter.models.entity import Entity
from test_coordinator_data_adapter.models.values import MAX_INTEGER
from test_coordinator_data_adapter.testing.builders import a_scenario
from test_coordinator_data_adapter.testing.conformance.hostile import (
    GOOD_IDS,
    GOOD_TEXTS,
    REFUSED_LIMITS,
    REFUSED_OFFSETS,
)
from test_coordinator_data_adapter.testing.conformance.stored import (
    MICROSECOND,
    NOON,
    VersionedSuite,
    always,
    keep,
    never,
)
from test_coordinator_data_adapter.testing.conformance.suite import (
    altered,
    assert_same,
    assert_same_list,
    refused,
    smuggled,
)

__all__ = ["ScenariosSuite"]


class ScenariosSuite(VersionedSuite[Scenario, ScenarioQuery, ScenarioStatus]):
    """Everything `ScenariosRepository` promises.

    Supply the fixture ``repository``: an empty `ScenariosRepository` nobody else uses.
    """

    __test__: ClassVar[bool] = False

    kind: ClassVar[type[Entity]] = Scenario
    texts: ClassVar[tuple[str, ...]] = ("name", "description", "created_by")
    references: ClassVar[tuple[str, ...]] = ()
    moments: ClassVar[tuple[str, ...]] = ("created_at", "updated_at")
    json: ClassVar[str | None] = "configuration"

    def sample(self) -> Scenario:
        return a_scenario(description="What it is for", created_by="somebody")

    def everything(self) -> ScenarioQuery:
        return ScenarioQuery()

    def nothing(self) -> Sequence[ScenarioQuery]:
        return [
            ScenarioQuery(scenario_type=()),
            ScenarioQuery(status=[]),
            ScenarioQuery(created_by=set[str]()),
            ScenarioQuery(status=(), scenario_type=ScenarioType.SERVICE_RESTART),
        ]

    def statuses(self) -> Sequence[ScenarioStatus]:
        return list(ScenarioStatus)

    def with_status(self, *status: ScenarioStatus) -> ScenarioQuery:
        return ScenarioQuery(status=status)

    def naming(self, value: str) -> tuple[Scenario, ScenarioQuery]:
        scenario = self.made(services_under_test=["before", value], tags=["other", value])
        return scenario, ScenarioQuery(service=value, tag=value)

    def other(self, entity: Scenario) -> Scenario:
        return Scenario(
            scenario_id=entity.scenario_id,
            name=f"not {entity.name}",
            description=None,
            scenario_type=ScenarioType.COMBINED,
            status=ScenarioStatus.DEPRECATED,
            configuration={"other": [None]},
            services_under_test=["other"],
            expected_outcomes=[],
            created_by="somebody else",
            created_at=NOON,
            updated_at=NOON,
            tags=["other", "tags"],
        )

    def questions(
        self,
    ) -> tuple[list[Scenario], list[tuple[ScenarioQuery, Callable[[Scenario], bool]]]]:
        types = list(ScenarioType)
        statuses = [ScenarioStatus.DRAFT, ScenarioStatus.ACTIVE, ScenarioStatus.ARCHIVED]
        people = ["ann", "Ann", "", None]
        tags = [["red"], ["red", "blue"], ["blue", "blue"], [], ["Red", "re", "red%"]]
        services = [["broker"], ["broker", "ledger"], [], ["ledger"]]
        scenarios = [
            self.made(
                created_at=NOON + number // 2 * MICROSECOND,
                scenario_type=types[number % len(types)],
                status=statuses[number % len(statuses)],
                created_by=people[number % len(people)],
                tags=tags[number % len(tags)],
                services_under_test=services[number % len(services)],
            )
            for number in range(20)
        ]
        draft, active = ScenarioStatus.DRAFT, ScenarioStatus.ACTIVE
        restart, combined = ScenarioType.SERVICE_RESTART, ScenarioType.COMBINED
        since, until = NOON + 3 * MICROSECOND, NOON + 6 * MICROSECOND
        return scenarios, [
            (ScenarioQuery(), always),
            (ScenarioQuery(scenario_type=restart), lambda one: one.scenario_type == restart),
            (
                ScenarioQuery(scenario_type=[restart, combined]),
                lambda one: one.scenario_type in (restart, combined),
            ),
            (ScenarioQuery(status=draft), lambda one: one.status == draft),
            (
                ScenarioQuery(status={draft, active}),
                lambda one: one.status in (draft, active),
            ),
            (ScenarioQuery(tag="red"), lambda one: "red" in one.tags),
            (ScenarioQuery(tag="blue"), lambda one: "blue" in one.tags),
            (ScenarioQuery(tag="re_"), never),
            (ScenarioQuery(tag="unknown"), never),
            (ScenarioQuery(created_by="ann"), lambda one: one.created_by == "ann"),
            (ScenarioQuery(created_by=""), lambda one: one.created_by == ""),
            (
                ScenarioQuery(created_by=["ann", "Ann", "nobody"]),
                lambda one: one.created_by in ("ann", "Ann"),
            ),
            (ScenarioQuery(service="ledger"), lambda one: "ledger" in one.services_under_test),
            (ScenarioQuery(created_since=since), lambda one: one.created_at >= since),
            (ScenarioQuery(created_until=until), lambda one: one.created_at <= until),
            (
                ScenarioQuery(created_since=since, created_until=until),
                lambda one: since <= one.created_at <= until,
            ),
            (ScenarioQuery(created_since=until, created_until=since), never),
            (
                ScenarioQuery(created_since=since, created_until=since),
                lambda one: one.created_at == since,
            ),
            (
                ScenarioQuery(status=(draft, active), tag="red", created_since=since),
                lambda one: (
                    one.status in (draft, active) and "red" in one.tags and one.created_at >= since
                ),
            ),
            (
                ScenarioQuery(scenario_type=restart, service="broker", created_by=("ann", "")),
                lambda one: (
                    one.scenario_type == restart
                    and "broker" in one.services_under_test
                    and one.created_by in ("ann", "")
                ),
            ),
        ]

    # Lists

    async def test_list_all_gives_the_first_hundred_unless_said_otherwise(
        self, repository: ScenariosRepository
    ) -> None:
        scenarios = await keep(repository, *self.series(101))

        assert_same_list(await repository.list_all(), scenarios[:100])
        assert_same_list(await repository.list_all(offset=100), scenarios[100:])

    async def test_list_all_gives_so_many_after_so_many_others(
        self, repository: ScenariosRepository
    ) -> None:
        tied = [self.made(created_at=NOON) for _ in range(5)]
        scenarios = await keep(repository, *tied)

        for limit, offset in ((1, 0), (2, 1), (2, 3), (2, 4), (5, 0), (1000, 0), (1000, 2)):
            found = await repository.list_all(limit, offset)
            assert_same_list(found, scenarios[offset : offset + limit])
        for offset in (5, 6, 1000, MAX_INTEGER):
            assert await repository.list_all(10, offset) == []

    async def test_list_all_refuses_a_limit_and_an_offset_out_of_range(
        self, repository: ScenariosRepository
    ) -> None:
        for limit in REFUSED_LIMITS:
            with refused(limit, "limit"):
                await repository.list_all(limit)
        for offset in REFUSED_OFFSETS:
            with refused(offset, "offset"):
                await repository.list_all(1, offset)

    async def test_lists_of_texts_come_back_as_they_were(
        self, repository: ScenariosRepository
    ) -> None:
        scenario = self.made(
            services_under_test=[*GOOD_IDS, *GOOD_IDS],
            tags=list(GOOD_IDS),
            expected_outcomes=list(GOOD_TEXTS),
        )
        bare = self.made(services_under_test=[], tags=[], expected_outcomes=[])

        await repository.create(scenario)
        await repository.create(bare)

        assert_same(await repository.get_by_id(scenario.scenario_id), scenario)
        assert_same(await repository.get_by_id(bare.scenario_id), bare)

    async def test_lists_of_anything_else_are_refused_however_they_got_in(
        self, repository: ScenariosRepository
    ) -> None:
        for name, value in (
            ("tags", "a\0b"),
            ("tags", ""),
            ("tags", "x" * 256),
            ("tags", None),
            ("services_under_test", "\ud800"),
            ("services_under_test", 1),
            ("expected_outcomes", "\0"),
            ("expected_outcomes", ["nested"]),
        ):
            scenario = self.sample()
            scenario.__dict__[name].append(value)
            with refused((name, value), name):
                await repository.create(scenario)
            with refused((name, value), name):
                await repository.create(smuggled(self.sample(), **{name: {"a": "dict"}}))
        assert await repository.count(ScenarioQuery()) == 0

    # Named questions

    async def test_scenarios_are_found_by_type(self, repository: ScenariosRepository) -> None:
        scenarios = await keep(repository, *self.questions()[0])

        for scenario_type in ScenarioType:
            assert_same_list(
                await repository.get_by_type(scenario_type),
                [one for one in scenarios if one.scenario_type is scenario_type],
            )

    async def test_scenarios_are_found_by_status(self, repository: ScenariosRepository) -> None:
        scenarios = await keep(repository, *self.questions()[0])

        for status in ScenarioStatus:
            assert_same_list(
                await repository.get_by_status(status),
                [one for one in scenarios if one.status is status],
            )

    async def test_the_active_scenarios_are_those_with_status_active(
        self, repository: ScenariosRepository
    ) -> None:
        scenarios = await keep(repository, *self.questions()[0])

        assert_same_list(
            await repository.get_active_scenarios(),
            [one for one in scenarios if one.status is ScenarioStatus.ACTIVE],
        )

    async def test_scenarios_are_found_by_a_whole_tag(
        self, repository: ScenariosRepository
    ) -> None:
        scenarios = await keep(repository, *self.questions()[0])

        for tag in ("red", "blue", "re", "Red", "red%", "%", "unknown"):
            assert_same_list(
                await repository.search_by_tag(tag), [one for one in scenarios if tag in one.tags]
            )
        with refused("", "tag"):
            await repository.search_by_tag("")

    async def test_a_scenario_is_found_by_the_tags_and_services_it_has_now(
        self, repository: ScenariosRepository
    ) -> None:
        scenario = await repository.create(self.made(tags=["old"], services_under_test=["old"]))

        await repository.update(altered(scenario, tags=["new"], services_under_test=["new"]))

        assert await repository.search_by_tag("old") == []
        assert await repository.count(ScenarioQuery(service="old")) == 0
        assert len(await repository.search_by_tag("new")) == 1
        assert await repository.count(ScenarioQuery(service="new")) == 1

    async def test_a_named_question_refuses_what_is_no_member(
        self, repository: ScenariosRepository
    ) -> None:
        stranger: Any = "nonsense"

        with refused(stranger, "scenario_type"):
            await repository.get_by_type(stranger)
        with refused(stranger, "status"):
            await repository.get_by_status(stranger)

    async def test_a_scenario_far_from_today_is_kept(self, repository: ScenariosRepository) -> None:
        scenario = self.made(created_at=datetime(1999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC))

        await repository.create(scenario)

        assert_same_list(
            await repository.list_matching(ScenarioQuery(created_until=scenario.created_at)),
            [scenario],
        )
