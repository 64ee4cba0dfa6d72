"""The dashboard and the queries of the documentation ask for metrics that there are."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from test_coordinator_data_adapter.observability.prometheus import PrometheusObserver

HOW_TO = Path(__file__).parents[3] / "docs" / "how-to"
METRIC = re.compile(r"test_coordinator_adapter_[a-z_]+")


def exported() -> set[str]:
    """The name of every sample that can be scraped."""
    registry = CollectorRegistry()
    PrometheusObserver(registry)
    names: set[str] = set()
    for family in registry.collect():
        suffixes = {
            "counter": ("_total",),
            "gauge": ("",),
            "histogram": ("_bucket", "_count", "_sum"),
        }[family.type]
        names |= {family.name + suffix for suffix in suffixes}
    return names


def asked_by_the_dashboard() -> list[str]:
    dashboard = json.loads((HOW_TO / "grafana-dashboard.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def asked_by_the_page() -> list[str]:
    page = (HOW_TO / "observability.md").read_text()
    return re.findall(r"```promql\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize("asked", [asked_by_the_dashboard, asked_by_the_page])
def test_every_metric_that_is_asked_for_is_exported(asked):
    names = {name for query in asked() for name in METRIC.findall(query)}

    assert names
    assert names <= exported()


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
    dashboard = json.loads((HOW_TO / "grafana-dashboard.json").read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }

        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells
