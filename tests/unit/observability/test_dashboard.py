"""The dashboard and the queries of the documentation ask for metrics and labels that there are."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from test_coordinator_data_adapter.errors import (
    OutcomeUnknownError,
    OverloadedError,
    UnavailableError,
)
from test_coordinator_data_adapter.observability import (
    BatchSent,
    CacheUsed,
    Operation,
    OperationEnded,
    Place,
    PoolOpened,
    PoolUse,
    Probed,
    StateChanged,
    Trip,
    TripEnded,
)
from test_coordinator_data_adapter.observability.prometheus import PrometheusObserver

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to"
METRIC = re.compile(r"test_coordinator_adapter_[a-z_]+")
SELECTOR = re.compile(rf"({METRIC.pattern})(?:{{([^}}]*)}})?")
MATCHER = re.compile(r'(\w+)(=~|!~|!=|=)"([^"]*)"')
GROUPING = re.compile(rf"\bby \(([\w, ]+)\) \((?:\w+\()?({METRIC.pattern})")
OPERATION = Operation("test_results", "find", "postgres")
LATE = Trip("SELECT 1", None, 0.1, 0.1, 1, OverloadedError("late"), retries=1, timed_out=True)
EVERYTHING = (
    OperationEnded(OPERATION, 0.1, None, 1, 1),
    OperationEnded(OPERATION, 0.1, OverloadedError("late"), 1, 1),
    OperationEnded(OPERATION, 0.1, UnavailableError("gone"), 1, 1),
    OperationEnded(OPERATION, 0.1, OutcomeUnknownError("lost"), 1, 1),
    TripEnded(LATE, Place("postgres"), OPERATION),
    TripEnded(replace(LATE, error=None, abandoned=True), Place("postgres"), OPERATION),
    BatchSent("postgres", "test_results.get_by_id", 2),
    CacheUsed("reads", "test_run", hits=1, misses=1, loads=1, stale_drops=1),
    Probed("postgres", 0.1, None),
    StateChanged("postgres", "live", "closed"),
    PoolOpened("postgres", lambda: PoolUse(size=1, limit=1, open=1, in_use=1, waiting=0)),
)


def exported() -> dict[str, dict[str, set[str]]]:
    """The name of every sample that can be scraped, with its labels and values they take."""
    registry = CollectorRegistry()
    observer = PrometheusObserver(registry)
    for fact in EVERYTHING:
        observer.notice(fact)
    names: dict[str, dict[str, set[str]]] = {}
    for family in registry.collect():
        for sample in family.samples:
            labels = names.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return names


def panels() -> list[dict[str, Any]]:
    return json.loads((HOW_TO / "grafana-dashboard.json").read_text())["panels"]


def asked_by_the_dashboard() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def asked_by_the_page() -> list[str]:
    page = (HOW_TO / "observability.md").read_text()
    return re.findall(r"```promql\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize("asked", [asked_by_the_dashboard, asked_by_the_page])
def test_every_metric_that_is_asked_for_is_exported(asked):
    names = {name for query in asked() for name in METRIC.findall(query)}

    assert names
    assert names <= exported().keys()


@pytest.mark.parametrize("asked", [asked_by_the_dashboard, asked_by_the_page])
def test_every_label_that_is_asked_for_is_one_of_the_metric_and_takes_that_value(asked):
    labels = exported()
    selected = [
        (name, *matcher)
        for query in asked()
        for name, matchers in SELECTOR.findall(query)
        for matcher in MATCHER.findall(matchers)
    ]

    assert selected
    for name, label, how, value in selected:
        assert label in labels[name]
        if how in {"=", "=~"}:
            assert set(value.split("|")) <= labels[name][label]


@pytest.mark.parametrize("asked", [asked_by_the_dashboard, asked_by_the_page])
def test_every_label_that_is_grouped_by_is_one_of_the_metric(asked):
    labels = exported()
    for query in asked():
        groupings = GROUPING.findall(query)

        assert len(groupings) == len(re.findall(r"\bby\b", query))
        for grouping, name in groupings:
            assert set(grouping.split(", ")) <= labels[name].keys()


def test_every_label_that_a_panel_shows_is_one_of_what_it_asks_for():
    targets = [target for panel in panels() for target in panel["targets"]]
    for target in targets:
        shown = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        groupings = [set(grouping.split(", ")) for grouping, _ in GROUPING.findall(target["expr"])]

        assert shown
        assert all(shown <= grouping for grouping in groupings)


def test_the_dashboard_shows_every_metric():
    shown = {name for query in asked_by_the_dashboard() for name in METRIC.findall(query)}
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown}

    every = {re.sub(r"_(bucket|count|sum)$", "", name) for name in exported()}

    assert families == every


def test_the_page_names_every_metric():
    page = (HOW_TO / "observability.md").read_text()

    for name in exported():
        family = re.sub(r"_(bucket|count|sum)$", "", name)
        assert f"`{family.removeprefix('test_coordinator_adapter_')}`" in page


def test_the_panels_of_the_dashboard_do_not_overlap():
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }

        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
