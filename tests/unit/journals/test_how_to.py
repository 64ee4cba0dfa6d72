from __future__ import annotations

import re
from pathlib import Path

import pytest

from test_coordinator_data_adapter.errors import InvalidValueError
from test_coordinator_data_adapter.journals import parse_mapping, read_journal
from test_coordinator_data_adapter.journals.importer import MAX_FILE_BYTES
from test_coordinator_data_adapter.journals.records import MAX_TEXT

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "importing-journals.md"


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


def block(page: str, language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    return found


async def test_the_python_of_the_page_imports_journals(page, build, tmp_path, capsys):
    (tmp_path / "a.json").write_bytes(build.sample("ok"))
    (tmp_path / "b.json").write_bytes(b"{")
    names: dict[str, object] = {}

    exec(compile(block(page, "python"), str(PAGE), "exec"), names)  # noqa: S102 - our own page
    await names["import_all"](tmp_path)

    first, second = capsys.readouterr().out.splitlines()
    assert first == f"imported {tmp_path / 'a.json'} passed"
    assert second.startswith(f"refused {tmp_path / 'b.json'} is not JSON")


def test_the_mapping_of_the_page_maps_what_the_page_says(page, build):
    def provided(**provider):
        return {"provider": {"type": "python"} | provider}

    action = build.action(
        "x", **provided(module="shop.chaos", func="stop_pods", arguments={"deployment": "cart"})
    )
    probe = build.probe("lag", **provided(type="http", url="http://shop/orders/lag"))
    journal = build.journal(
        experiment=build.experiment(
            **{"steady-state-hypothesis": {"title": "h", "probes": [probe]}},
            title="Black Friday, again",
            method=[action],
        ),
        before=build.met(probe),
        after=build.met(probe),
        run=[build.ran(action)],
    )

    records = read_journal(build.content(journal), parse_mapping(block(page, "toml"), where="page"))

    assert records.scenario.scenario_type == "combined"
    assert [(one.event_type, one.target_service) for one in records.events] == [
        ("service_kill", "cart")
    ]
    assert {one.assertion_type for one in records.results} == {"data_consistency"}


def test_the_refusal_on_the_page_is_the_one_that_is_given(page, build):
    provider = {"type": "python", "module": "shop.chaos", "func": "empty_cart"}
    action = build.action("empty-cart", provider=provider)
    journal = build.journal(experiment=build.experiment(method=[action]), run=[build.ran(action)])

    with pytest.raises(InvalidValueError) as refused:
        build.records(journal)

    assert block(page, "text") == f"journal.json: {refused.value}\n"


def test_the_limits_on_the_page_are_the_ones_that_hold(page):
    assert f"files above {MAX_FILE_BYTES // 1024**2} MiB" in page
    assert f"cut at {MAX_TEXT} characters" in page
