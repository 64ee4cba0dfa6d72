"""Every page is written, and leads where it says."""

import re
import tomllib
from importlib import import_module
from itertools import chain
from pathlib import Path

import pytest

import test_coordinator_data_adapter

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page.relative_to(ROOT)
    for page in [
        ROOT / "README.md",
        ROOT / ".github" / "CONTRIBUTING.md",
        *(ROOT / "docs").rglob("*.md"),
    ]
    if "_build" not in page.parts
)
CODE = re.compile(r"^ *```.*?^ *```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
HEADING = re.compile(r"^#+ +(?P<words>.+)$", re.MULTILINE)
ELSEWHERE = ("https://", "http://", "mailto:")


def links_of(page: Path) -> list[str]:
    """Where a page leads inside the repository, as it is written there."""
    targets = [found["target"] for found in LINK.finditer(CODE.sub("", page.read_text()))]
    return [target for target in targets if not target.startswith(ELSEWHERE)]


def anchors_of(page: Path) -> set[str]:
    """What can be named behind the # of a link to that page."""
    prose = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = (found["words"].lower() for found in HEADING.finditer(prose))
    return {re.sub(r"[^\w -]", "", words).replace(" ", "-") for words in headings}


def leads_nowhere(page: Path, link: str) -> bool:
    place, _, anchor = link.partition("#")
    target = page.parent / place if place else page
    return not target.exists() or bool(anchor and anchor not in anchors_of(target))


def test_every_page_is_written() -> None:
    unwritten = [page for page in PAGES if "not written yet" in (ROOT / page).read_text()]

    assert unwritten == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    broken = [link for link in links_of(ROOT / page) if leads_nowhere(ROOT / page, link)]

    assert broken == []


def test_the_links_of_the_readme_are_seen() -> None:
    assert "docs/quickstart.md" in links_of(ROOT / "README.md")


def test_a_link_to_what_is_not_there_leads_nowhere() -> None:
    page = ROOT / "docs" / "index.md"

    assert leads_nowhere(page, "no-such-page.md")
    assert leads_nowhere(page, "quickstart.md#no-such-heading")
    assert not leads_nowhere(page, "quickstart.md#with-a-postgresql-of-your-own")


def test_every_dependency_has_its_reason() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    requirements = chain(
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *pyproject["dependency-groups"].values(),
    )
    page = (ROOT / "docs" / "dependencies.md").read_text()

    names = {re.match(r"[\w.-]+", requirement)[0] for requirement in requirements}
    untold = {name for name in names if not re.search(rf"(?<![\w-]){name}(?![\w-])", page)}

    assert untold == {project["name"]}


@pytest.mark.parametrize(
    "room",
    [
        "",
        ".adapters.postgres",
        ".adapters.redis",
        ".adapters.stub",
        ".embedded",
        ".errors",
        ".interfaces",
        ".interfaces.retention",
        ".journals",
        ".models",
        ".observability",
        ".observability.otel",
        ".observability.prometheus",
        ".testing.builders",
        ".testing.conformance",
        ".testing.faults",
        ".testing.servers",
    ],
)
def test_every_public_name_is_in_the_reference(room: str) -> None:
    module = f"{test_coordinator_data_adapter.__name__}{room}"
    reference = "".join(page.read_text() for page in (ROOT / "docs" / "reference").glob("*.md"))

    as_a_whole = f"automodule:: {module}\n" in reference
    named = set(re.findall(rf"autoclass:: {re.escape(module)}\.(\w+)\n", reference))
    public = {name for name in import_module(module).__all__ if not name.startswith("__")}

    assert as_a_whole or public == named
