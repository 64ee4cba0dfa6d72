"""Stores that are broken in one way each, and the sentence of a suite that must notice."""

from __future__ import annotations

import asyncio
import fnmatch
import inspect
import json
import math
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from test_coordinator_data_adapter.adapters.stub import (
    MemoryStore,
    StubCacheRepository,
    StubChaosEventsRepository,
    StubScenariosRepository,
    StubServiceDiscoveryRepository,
    StubTestResultsRepository,
    StubTestRunsRepository,
)
from test_coordinator_data_adapter.errors import (
    AdapterError,
    ConflictError,
    DuplicateError,
    InvalidValueError,
    NotFoundError,
)
from test_coordinator_data_adapter.interfaces.queries import Page, Position, Query
from test_coordinator_data_adapter.models import ResultStatus, RunStatus
from test_coordinator_data_adapter.testing.conformance import (
    CacheSuite,
    ChaosEventsSuite,
    ScenariosSuite,
    ServiceDiscoverySuite,
    TestResultsSuite,
    TestRunsSuite,
)

MICROSECOND = timedelta(microseconds=1)

BROKEN = []


def must_be_noticed(suite, sentence):
    def register(broken):
        BROKEN.append(pytest.param(suite, sentence, broken, id=broken.__name__))
        return broken

    return register


# Order and pages


@must_be_noticed(
    ScenariosSuite,
    "test_what_was_created_in_the_same_microsecond_is_ordered_by_the_code_points_of_its_id",
)
class TiesInOrderOfCreation(StubScenariosRepository):
    async def list_matching(self, query):
        found = await super().list_matching(query)
        created = list(self._table._held)
        return sorted(found, key=lambda one: (one.created_at, created.index(one.scenario_id)))


@must_be_noticed(
    ScenariosSuite,
    "test_what_was_created_in_the_same_microsecond_is_ordered_by_the_code_points_of_its_id",
)
class IdsOrderedAsInUtf16(StubScenariosRepository):
    async def list_matching(self, query):
        found = await super().list_matching(query)
        return sorted(found, key=lambda one: (one.created_at, one.scenario_id.encode("utf-16-be")))


@must_be_noticed(
    ChaosEventsSuite,
    "test_what_was_created_in_the_same_microsecond_is_ordered_by_the_code_points_of_its_id",
)
class IdsOrderedAsInADictionary(StubChaosEventsRepository):
    async def list_matching(self, query):
        found = await super().list_matching(query)
        return sorted(found, key=lambda one: (one.created_at, one.event_id.casefold()))


@must_be_noticed(ScenariosSuite, "test_lists_are_ordered_by_creation_to_the_microsecond")
class OrderedToTheMillisecond(StubScenariosRepository):
    async def list_matching(self, query):
        found = await super().list_matching(query)
        return sorted(found, key=lambda one: (int(one.created_at.timestamp() * 1000), one.identity))


@must_be_noticed(TestRunsSuite, "test_pages_neither_lose_nor_repeat_ties")
class ACursorThatSkipsTies(StubTestRunsRepository):
    async def find(self, query, *, limit=100, cursor=None, newest_first=False):
        if cursor is not None:
            created_at = Position.from_cursor(cursor).created_at
            cursor = Position(created_at, "\U0010ffff" * 255).to_cursor()
        return await super().find(query, limit=limit, cursor=cursor)


@must_be_noticed(TestRunsSuite, "test_pages_neither_lose_nor_repeat_ties")
class APageThatBeginsWithTheLastOfTheOneBefore(StubTestRunsRepository):
    async def find(self, query, *, limit=100, cursor=None, newest_first=False):
        found = await self.list_matching(query)
        first = 0 if cursor is None else [run.run_id for run in found].index(cursor)
        page, more = found[first : first + limit], found[first + limit :]
        return Page(page, page[-1].run_id if more else None)


@must_be_noticed(
    TestRunsSuite,
    "test_entities_created_between_two_pages_neither_repeat_nor_displace_others",
)
class PagesByOffset(StubTestRunsRepository):
    async def find(self, query, *, limit=100, cursor=None, newest_first=False):
        offset = int(cursor or 0)
        found = (await self.list_matching(query))[offset:]
        more = len(found) > limit
        return Page(found[:limit], str(offset + limit) if more else None)


@must_be_noticed(TestResultsSuite, "test_a_page_has_a_next_cursor_exactly_when_something_follows")
class ACursorAfterAFullLastPage(StubTestResultsRepository):
    async def find(self, query, *, limit=100, cursor=None, newest_first=False):
        page = await super().find(query, limit=limit, cursor=cursor)
        if len(page.items) < limit:
            return page
        last = page.items[-1]
        return Page(page.items, Position(last.created_at, last.identity).to_cursor())


@must_be_noticed(ScenariosSuite, "test_a_limit_outside_1_to_1000_is_refused")
class AnyLimit(StubScenariosRepository):
    async def find(self, query, *, limit=100, cursor=None, newest_first=False):
        return await super().find(query, limit=min(max(limit or 1, 1), 1000), cursor=cursor)


@must_be_noticed(TestRunsSuite, "test_pages_newest_first_neither_lose_nor_repeat_ties")
class NewestFirstWithTiesAsTheyWere(StubTestRunsRepository):
    async def find(self, query, *, limit=100, cursor=None, newest_first=False):
        page = await super().find(query, limit=limit, cursor=cursor, newest_first=newest_first)
        page.items.sort(key=lambda run: run.run_id)
        page.items.sort(key=lambda run: run.created_at, reverse=newest_first)
        return page


@must_be_noticed(TestRunsSuite, "test_a_cursor_of_pages_in_the_other_order_is_refused")
class ACursorForBothOrders(StubTestRunsRepository):
    async def find(self, query, *, limit=100, cursor=None, newest_first=False):
        if cursor is not None:
            for order in (False, True):
                with suppress(InvalidValueError):
                    position = Position.from_cursor(cursor, newest_first=order)
                    cursor = position.to_cursor(newest_first=newest_first)
                    break
        return await super().find(query, limit=limit, cursor=cursor, newest_first=newest_first)


@must_be_noticed(ScenariosSuite, "test_get_or_create_returns_what_is_there_as_it_is")
class GetOrCreateThatReplaces(StubScenariosRepository):
    async def get_or_create(self, entity):
        _, created = await super().get_or_create(entity)
        return self._table.put(entity), created


@must_be_noticed(
    ChaosEventsSuite, "test_of_many_that_get_or_create_one_id_at_once_exactly_one_creates_it"
)
class GetsAndThenCreates(StubChaosEventsRepository):
    async def get_or_create(self, entity):
        stored = await self.get_by_id(entity.identity)
        await asyncio.sleep(0)
        return (self._table.put(entity), True) if stored is None else (stored, False)


@must_be_noticed(TestRunsSuite, "test_a_stream_yields_everything_in_order_whatever_its_batches")
class AStreamThatLosesTiesBetweenBatches(StubTestRunsRepository):
    async def stream(self, query, *, batch_size=None, newest_first=False):
        last = None
        for number, run in enumerate(await self.list_matching(query)):
            new_batch = number % (batch_size or 100) == 0
            if not (new_batch and last is not None and run.created_at == last):
                yield run
                last = run.created_at


@must_be_noticed(TestRunsSuite, "test_recent_runs_come_newest_start_first_and_those_without_last")
class NeverStartedFirst(StubTestRunsRepository):
    async def list_newest(self, query, *, by, limit):
        found = await super().list_newest(query, by=by, limit=1000)
        return sorted(found, key=lambda run: getattr(run, by) is not None)[:limit]


@must_be_noticed(TestRunsSuite, "test_what_is_no_time_to_order_by_is_refused")
class AnyTimeToOrderBy(StubTestRunsRepository):
    async def list_newest(self, query, *, by, limit):
        known = by if by in {"started_at", "completed_at"} else "started_at"
        return await super().list_newest(query, by=known, limit=limit)


# Copies


@must_be_noticed(ScenariosSuite, "test_changing_what_was_given_changes_nothing_stored")
class KeepsWhatItWasGiven(StubScenariosRepository):
    async def create(self, scenario):
        stored = await super().create(scenario)
        self._table._held[scenario.scenario_id] = scenario
        return stored


@must_be_noticed(ScenariosSuite, "test_changing_what_came_back_changes_nothing_stored")
class HandsOutWhatItKeeps(StubScenariosRepository):
    async def get_by_id(self, scenario_id):
        await super().get_by_id(scenario_id)
        return self._table._held.get(scenario_id)


@must_be_noticed(TestRunsSuite, "test_changing_what_came_back_changes_nothing_stored")
class CopiesTheSurfaceOnly(StubTestRunsRepository):
    async def list_matching(self, query):
        found = await super().list_matching(query)
        return [self._table._held[run.run_id].model_copy() for run in found]


@must_be_noticed(ChaosEventsSuite, "test_what_update_is_given_and_returns_is_a_copy")
class UpdateKeepsWhatItWasGiven(StubChaosEventsRepository):
    async def update(self, event):
        stored = await super().update(event)
        self._table._held[event.event_id].parameters = event.parameters
        self._table._held[event.event_id].__dict__["parameters"] = event.parameters
        return stored


@must_be_noticed(TestRunsSuite, "test_readers_at_once_each_get_their_own_answer")
class ReadersOfOneRun(StubTestRunsRepository):
    async def get_by_id(self, run_id):
        shared = self.__dict__.setdefault("shared", {})
        return shared.setdefault(run_id, await super().get_by_id(run_id))


@must_be_noticed(ChaosEventsSuite, "test_a_caller_reads_its_own_writes_whoever_else_reads")
class RemembersThatNothingWasThere(StubChaosEventsRepository):
    async def get_by_id(self, event_id):
        missing = self.__dict__.setdefault("missing", set())
        if await super().get_by_id(event_id) is None:
            missing.add(event_id)
        return None if event_id in missing else await super().get_by_id(event_id)


@must_be_noticed(ScenariosSuite, "test_a_cancelled_reader_takes_nobody_with_it")
class ReadersOfOneLoad(StubScenariosRepository):
    async def get_by_id(self, scenario_id):
        loads = self.__dict__.setdefault("loads", {})
        if scenario_id not in loads:
            loads[scenario_id] = asyncio.ensure_future(self._load(scenario_id))
            loads[scenario_id].add_done_callback(lambda _: loads.pop(scenario_id))
        return await loads[scenario_id]

    async def _load(self, scenario_id):
        await asyncio.sleep(0)
        return await super().get_by_id(scenario_id)


# Changes


@must_be_noticed(
    ScenariosSuite, "test_a_status_that_is_not_expected_is_a_conflict_and_nothing_is_applied"
)
class IgnoresWhatIsExpected(StubScenariosRepository):
    async def transition(self, scenario_id, changes, expected=None):
        return await super().transition(scenario_id, changes)


@must_be_noticed(TestRunsSuite, "test_of_many_that_expect_the_same_status_exactly_one_wins")
class ChecksAndThenActs(StubTestRunsRepository):
    async def transition(self, run_id, changes, expected=None):
        run = await self.get_by_id(run_id)
        await asyncio.sleep(0)
        if run is not None and expected is not None and run.status not in expected:
            raise ConflictError.of("test_run", run_id)
        return await super().transition(run_id, changes)


@must_be_noticed(
    ScenariosSuite, "test_the_status_of_an_unknown_id_is_not_found_whatever_is_expected"
)
class ConflictBeforeNotFound(StubScenariosRepository):
    async def transition(self, scenario_id, changes, expected=None):
        try:
            return await super().transition(scenario_id, changes, expected)
        except NotFoundError:
            if expected is None:
                raise
            raise ConflictError.of("scenario", scenario_id) from None


@must_be_noticed(
    ScenariosSuite, "test_an_update_of_what_changed_since_is_a_conflict_and_not_applied"
)
class IgnoresChangesSince(StubScenariosRepository):
    async def update(self, scenario, *, if_unchanged_since=None):
        return await super().update(scenario)


@must_be_noticed(ChaosEventsSuite, "test_update_of_an_unknown_id_is_not_found_and_stores_nothing")
class UpdateThatCreates(StubChaosEventsRepository):
    async def update(self, event):
        return self._table.put(event)


@must_be_noticed(ScenariosSuite, "test_update_replaces_everything_but_the_time_of_creation")
class UpdateThatReplacesTheTimeOfCreation(StubScenariosRepository):
    async def update(self, scenario, *, if_unchanged_since=None):
        await super().update(scenario, if_unchanged_since=if_unchanged_since)
        return self._table.put(scenario)


class CoarseStore(MemoryStore):
    def later_than(self, moment):
        return self.clock().replace(microsecond=0)


@must_be_noticed(TestRunsSuite, "test_every_change_is_later_than_the_one_before")
class TimesThatStandStill(StubTestRunsRepository):
    def __init__(self):
        super().__init__(CoarseStore())


@must_be_noticed(TestRunsSuite, "test_a_change_is_later_even_when_the_stored_time_lies_ahead")
class TimesThatStepBack(StubTestRunsRepository):
    def __init__(self):
        store = MemoryStore()
        store.later_than = lambda moment: store.clock()
        super().__init__(store)


@must_be_noticed(ScenariosSuite, "test_deleting_what_is_not_there_is_false")
class DeleteIsAlwaysTrue(StubScenariosRepository):
    async def delete(self, scenario_id):
        await super().delete(scenario_id)
        return True


@must_be_noticed(
    TestRunsSuite, "test_a_run_that_completes_took_the_whole_milliseconds_since_its_start"
)
class RoundedDurations(StubTestRunsRepository):
    async def transition(self, run_id, changes, expected=None):
        stored = await super().transition(run_id, changes, expected)
        if stored.duration_ms is None:
            return stored
        return stored.model_copy(update={"duration_ms": stored.duration_ms + 1})


@must_be_noticed(
    ScenariosSuite, "test_an_id_that_is_there_already_is_a_duplicate_and_stays_as_it_is"
)
class CreateThatReplaces(StubScenariosRepository):
    async def create(self, scenario):
        return self._table.put(scenario)


@must_be_noticed(ScenariosSuite, "test_what_is_no_json_is_refused_however_it_got_in")
class TrustsWhatItIsGiven(StubScenariosRepository):
    async def create(self, scenario):
        self._table._add(scenario.clone())
        return scenario


# Pruning


@must_be_noticed(
    ScenariosSuite,
    "test_prune_removes_what_is_older_and_keeps_what_was_created_exactly_then",
)
class PrunesWhatWasCreatedExactlyThen(StubScenariosRepository):
    async def prune(self, older_than, *, batch_size=None):
        return await super().prune(older_than + MICROSECOND, batch_size=batch_size)


@must_be_noticed(
    TestRunsSuite, "test_a_run_that_starts_again_keeps_nothing_that_its_earlier_end_has_set"
)
class KeepsTheExitCodeOfAnEarlierRun(StubTestRunsRepository):
    async def start_run(self, run_id):
        before = await self.get_by_id(run_id)
        started = await super().start_run(run_id)
        if before is None or before.exit_code is None:
            return started
        return await self.update(started.model_copy(update={"exit_code": before.exit_code}))


@must_be_noticed(TestRunsSuite, "test_a_run_completes_only_with_a_status_that_ends_a_run")
class CompletesWithAnyStatus(StubTestRunsRepository):
    async def complete_run(self, run_id, status, exit_code=None):
        return await self.update_status(run_id, status)


@must_be_noticed(TestRunsSuite, "test_prune_leaves_pending_and_running_runs_whatever_their_age")
class PrunesRunningRuns(StubTestRunsRepository):
    _prunable = ()


@must_be_noticed(TestResultsSuite, "test_prune_removes_everything_old_whatever_its_batches")
class PrunesOneBatch(StubTestResultsRepository):
    async def prune(self, older_than, *, batch_size=None):
        old = [result for result in self._table.select(()) if result.created_at < older_than][
            : batch_size or 100
        ]
        for result in old:
            self._table.delete(result.result_id)
        return len(old)


# Answers


@must_be_noticed(
    TestResultsSuite, "test_the_pass_rate_is_the_passed_results_over_all_skipped_ones_included"
)
class PassRateWithoutSkipped(StubTestResultsRepository):
    async def calculate_pass_rate(self, run_id):
        results = await self.get_by_run(run_id)
        judged = [result for result in results if result.status is not ResultStatus.SKIPPED]
        passed = sum(result.status is ResultStatus.PASSED for result in judged)
        return passed / max(1, len(judged))


@must_be_noticed(
    TestResultsSuite, "test_the_failed_results_of_a_run_are_its_failed_ones_and_no_errors"
)
class ErrorsAmongTheFailed(StubTestResultsRepository):
    async def get_failed_results(self, run_id):
        bad = (ResultStatus.FAILED, ResultStatus.ERROR)
        return [result for result in await self.get_by_run(run_id) if result.status in bad]


@must_be_noticed(TestRunsSuite, "test_a_date_range_takes_the_starts_at_both_its_ends")
class DateRangeWithoutItsEnd(StubTestRunsRepository):
    async def get_runs_by_date_range(self, start, end):
        found = await super().get_runs_by_date_range(start, end)
        return [run for run in found if run.started_at < end]


@must_be_noticed(TestRunsSuite, "test_the_total_duration_is_exact_however_large")
class TotalsInFloats(StubTestRunsRepository):
    async def total_duration(self, query):
        total, runs = await super().total_duration(query)
        return int(float(total)), runs


@must_be_noticed(ScenariosSuite, "test_scenarios_are_found_by_a_whole_tag")
class TagsByPattern(StubScenariosRepository):
    async def search_by_tag(self, tag):
        found = await self.list_all()
        return [one for one in found if any(tag.rstrip("%") in other for other in one.tags)]


@must_be_noticed(TestResultsSuite, "test_what_is_no_query_of_this_kind_is_refused")
class AnswersAnyQuery(StubTestResultsRepository):
    query_kind = Query


@must_be_noticed(TestResultsSuite, "test_an_empty_collection_in_a_query_matches_nothing")
class EmptyMeansUnfiltered(StubTestResultsRepository):
    async def count(self, query):
        return sum(1 for condition in query.conditions() if not condition.values) or 0


@must_be_noticed(
    TestRunsSuite,
    "test_runs_are_counted_by_status_and_a_status_without_any_is_left_out",
)
class CountsOfNone(StubTestRunsRepository):
    async def count_by_status_matching(self, query):
        return dict.fromkeys(RunStatus, 0) | dict(await super().count_by_status_matching(query))


# Many at once


@must_be_noticed(
    TestResultsSuite,
    "test_bulk_create_with_an_id_that_is_stored_already_stores_nothing_and_names_it",
)
class StoresUpToTheDuplicate(StubTestResultsRepository):
    async def bulk_create(self, results):
        return [await self.create(result) for result in results]


@must_be_noticed(TestResultsSuite, "test_a_cancelled_bulk_creation_leaves_all_of_it_or_nothing")
class StoresBitByBit(StubTestResultsRepository):
    async def bulk_create(self, results):
        stored = []
        for result in results:
            stored += await super().bulk_create([result])
            await asyncio.sleep(0)
        return stored


@must_be_noticed(TestResultsSuite, "test_bulk_create_with_an_id_twice_stores_nothing_and_names_it")
class NamesTheFirstIdGiven(StubTestResultsRepository):
    async def bulk_create(self, results):
        results = list(results)
        try:
            return await super().bulk_create(results)
        except DuplicateError:
            raise DuplicateError.of("test_result", results[0].result_id) from None


# The registry


@must_be_noticed(
    ServiceDiscoverySuite,
    "test_a_heartbeat_never_brings_back_a_service_that_was_deregistered",
)
class HeartbeatsThatRegister(StubServiceDiscoveryRepository):
    async def update_heartbeat(self, service_id):
        found = await self.get_service_by_id(service_id)
        if found is None:
            raise NotFoundError.of("service", service_id)
        await asyncio.sleep(0)
        return await self.register(found.model_copy(update={"last_seen": self._store.clock()}))


@must_be_noticed(ServiceDiscoverySuite, "test_a_heartbeat_corrects_a_time_last_seen_that_is_ahead")
class HeartbeatsThatNeverSetTimeBack(StubServiceDiscoveryRepository):
    async def update_heartbeat(self, service_id):
        now = self._store.clock()
        return self._services.change(
            service_id, lambda stored: {"last_seen": max(stored.last_seen, now)}
        )


@must_be_noticed(
    ServiceDiscoverySuite,
    "test_a_service_seen_ahead_of_now_by_more_than_the_threshold_is_not_healthy",
)
class TrustsTimestampsAheadOfNow(StubServiceDiscoveryRepository):
    async def is_service_healthy(self, service_id, threshold_seconds):
        service = await self.get_service_by_id(service_id)
        silent_for = self._store.clock() - service.last_seen
        return silent_for <= timedelta(seconds=threshold_seconds)


@must_be_noticed(ServiceDiscoverySuite, "test_a_token_leaves_the_registration_of_a_successor")
class DeregistersWhoeverIsRegistered(StubServiceDiscoveryRepository):
    async def deregister_with_token(self, service_id, token):
        return await self.deregister(service_id)


@must_be_noticed(
    ServiceDiscoverySuite,
    "test_a_registration_that_comes_after_its_own_end_leaves_nothing_behind",
)
class ForgetsWhatHasEnded(StubServiceDiscoveryRepository):
    async def register_with_token(self, service, token):
        self._store.ended_registrations.clear()
        return await super().register_with_token(service, token)


@must_be_noticed(
    ServiceDiscoverySuite, "test_services_last_seen_longer_ago_than_the_threshold_are_removed"
)
class StaleAtTheThreshold(StubServiceDiscoveryRepository):
    async def remove_stale_services(self, threshold_seconds, *, max_fraction=None):
        return await super().remove_stale_services(
            threshold_seconds - 1e-6, max_fraction=max_fraction
        )


@must_be_noticed(ServiceDiscoverySuite, "test_no_more_than_the_given_share_goes_at_once")
class AnyShareGoes(StubServiceDiscoveryRepository):
    async def remove_stale_services(self, threshold_seconds, *, max_fraction=None):
        return await super().remove_stale_services(threshold_seconds)


@must_be_noticed(
    ServiceDiscoverySuite,
    "test_the_service_of_a_name_is_the_one_seen_last_and_of_equals_the_one_listed_first",
)
class OfEqualsTheLast(StubServiceDiscoveryRepository):
    async def get_service_by_name(self, service_name):
        found = (await self.list_services_by_name(service_name))[::-1]
        return max(found, key=lambda service: service.last_seen, default=None)


@must_be_noticed(ServiceDiscoverySuite, "test_a_registration_is_not_forgotten_within_a_day")
class ForgetsAfterAnHour(StubServiceDiscoveryRepository):
    async def list_all_services(self):
        registered = self._store.clock() - timedelta(hours=1)
        return [one for one in await super().list_all_services() if one.last_seen > registered]


# The cache


@must_be_noticed(CacheSuite, "test_a_value_replaces_the_one_before_and_its_time_to_live")
class SetThatKeepsTheExpiry(StubCacheRepository):
    async def set(self, key, value, ttl=None):
        return await super().set(key, value, ttl or await self.get_ttl(key))


@must_be_noticed(CacheSuite, "test_counting_leaves_the_expiry")
class CountingThatDropsTheExpiry(StubCacheRepository):
    async def increment(self, key, amount=1):
        total = await super().increment(key, amount)
        await self.set(key, total)
        return total


@must_be_noticed(CacheSuite, "test_counts_at_once_are_all_counted")
class CountingInTwoSteps(StubCacheRepository):
    async def increment(self, key, amount=1):
        total = (await self.get(key) or 0) + amount
        await asyncio.sleep(0)
        await self.set(key, total)
        return total


@must_be_noticed(CacheSuite, "test_keys_that_match_are_found_as_redis_finds_them")
class GlobsOfAShell(StubCacheRepository):
    async def keys(self, pattern="*"):
        return sorted(fnmatch.filter(self._entries.names(), pattern))


@must_be_noticed(CacheSuite, "test_a_pattern_that_is_too_complex_is_refused_with_the_rule")
class CountsRunsOfStarsOnly(StubCacheRepository):
    async def keys(self, pattern="*"):
        while "**" in pattern:
            pattern = pattern.replace("**", "*")
        return await super().keys(pattern)


@must_be_noticed(
    CacheSuite,
    "test_many_values_come_in_the_order_asked_for_without_those_that_are_missing",
)
class AnswersInItsOwnOrder(StubCacheRepository):
    async def get_many(self, keys):
        return dict(sorted((await super().get_many(keys)).items()))


@must_be_noticed(CacheSuite, "test_an_entry_is_gone_the_moment_its_time_is_over")
class ExpiresALittleLate(StubCacheRepository):
    async def set(self, key, value, ttl=None):
        await super().set(key, value, ttl)
        if ttl is not None:
            self._entries.put(key, value, ttl + 0.0001)
        return True


@must_be_noticed(CacheSuite, "test_what_is_no_json_is_refused_and_changes_nothing")
class WhateverJsonTakes(StubCacheRepository):
    async def set(self, key, value, ttl=None):
        return await super().set(key, json.loads(json.dumps(value, default=str)), ttl)


@must_be_noticed(CacheSuite, "test_what_goes_in_and_comes_out_is_a_copy")
class HandsOutTheCachedValue(StubCacheRepository):
    async def get(self, key):
        await super().get(key)
        return self._entries._held.get(key, (None, None))[0]


@must_be_noticed(CacheSuite, "test_every_value_comes_back_equal_and_of_the_same_type")
class IntegersForWholeFloats(StubCacheRepository):
    async def get(self, key):
        value = await super().get(key)
        return int(value) if type(value) is float and value.is_integer() else value


@must_be_noticed(CacheSuite, "test_many_values_with_a_bad_one_among_them_store_nothing")
class ChecksOneAfterTheOther(StubCacheRepository):
    async def set_many(self, items, ttl=None):
        for key, value in items.items():
            await self.set(key, value, ttl)
        return True


@must_be_noticed(CacheSuite, "test_readers_at_once_each_get_a_copy_of_their_own")
class ReadersThatShareAValue(StubCacheRepository):
    async def get(self, key):
        shared = self.__dict__.setdefault("shared", {})
        return shared.setdefault(key, await super().get(key))


@must_be_noticed(CacheSuite, "test_no_other_namespace_is_read_or_touched")
class FlushesTheWholeServer(StubCacheRepository):
    async def flush_all(self):
        await THE_NEIGHBOUR.delete_pattern("*")
        return await super().flush_all()


THE_NEIGHBOUR = StubCacheRepository()

WHOLE = {
    ScenariosSuite: StubScenariosRepository,
    TestRunsSuite: StubTestRunsRepository,
    ChaosEventsSuite: StubChaosEventsRepository,
    TestResultsSuite: StubTestResultsRepository,
    ServiceDiscoverySuite: StubServiceDiscoveryRepository,
    CacheSuite: StubCacheRepository,
}


async def judge(suite, sentence, repository_of):
    """Run one test of a suite on a clock that stands still."""
    passed = SimpleNamespace(seconds=0.0)
    start = datetime(2026, 5, 6, 7, 8, 9, 123_456, tzinfo=UTC)

    async def advance(seconds):
        passed.seconds += seconds

    def clock():
        return start + timedelta(seconds=passed.seconds)

    class Judged(suite):
        __test__ = False
        clock_stands_still = True
        longest_wait = math.inf

    if suite in (ServiceDiscoverySuite, CacheSuite):
        repository = repository_of(MemoryStore(clock=clock, monotonic=lambda: passed.seconds))
    else:
        repository = repository_of()
    fixtures = {
        "repository": repository,
        "advance": advance,
        "clock": clock,
        "neighbour": THE_NEIGHBOUR,
    }
    test = getattr(Judged(), sentence)
    await test(**{name: fixtures[name] for name in inspect.signature(test).parameters})


@pytest.mark.parametrize(("suite", "sentence", "broken"), BROKEN)
async def test_a_suite_notices(suite, sentence, broken):
    await judge(suite, sentence, WHOLE[suite])

    with pytest.raises((AssertionError, pytest.fail.Exception, AdapterError)):
        await judge(suite, sentence, broken)
