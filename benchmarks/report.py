"""What was measured, as JSON and as the tables of the page on performance."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks.measuring import LIBRARY, Outcome

_SHORT = 1e-5
_LONG = 0.01
_VERY_LONG = 10.0
_MET = {True: "**met**", False: "missed", None: ""}


@dataclass
class Report:
    """One suite on one event loop.

    Attributes:
        suite: "postgres" or "redis".
        loop: "asyncio" or "uvloop".
        facts: how it was measured.
        outcomes: of every operation, in order.
        figures: of what is no operation: its name, what was measured, the target, whether met.
        failures: who could not be opened at all.
    """

    suite: str
    loop: str
    facts: dict[str, str] = field(default_factory=dict[str, str])
    outcomes: list[Outcome] = field(default_factory=list[Outcome])
    figures: list[Figure] = field(default_factory=list["Figure"])
    failures: dict[str, str] = field(default_factory=dict[str, str])

    @property
    def mark(self) -> str:
        """What its place on the page is called."""
        return f"{self.suite}-{self.loop}"

    def to_json(self) -> dict[str, object]:
        """Everything, in seconds."""
        return {
            "suite": self.suite,
            "loop": self.loop,
            "facts": self.facts,
            "failures": self.failures,
            "operations": [
                {
                    "name": outcome.name,
                    "baseline": outcome.baseline,
                    "seconds": outcome.seconds,
                    "processor": outcome.processor,
                    "targets": [str(target) for target in outcome.targets],
                    "failures": outcome.failures,
                }
                for outcome in self.outcomes
            ],
            "figures": [vars(figure) for figure in self.figures],
        }

    def to_markdown(self) -> str:
        """The tables."""
        parts = ["\n".join(f"* {name}: {value}" for name, value in self.facts.items())]
        if self.failures:
            parts.append(
                "Could not be measured: "
                + "; ".join(f"{name} (`{why}`)" for name, why in self.failures.items())
                + "."
            )
        parts.append(self._targets())
        parts += [_operation(outcome) for outcome in self.outcomes]
        return "\n\n".join(part for part in parts if part)

    def _targets(self) -> str:
        rows: list[Sequence[str]] = []
        for outcome in self.outcomes:
            for target in outcome.targets:
                ratio = outcome.ratio(target)
                if ratio is None:
                    rows.append((outcome.name, str(target), "not measured", ""))
                    continue
                spread = _spread(outcome.ratios(target.whom, target.against))
                reached = f"{ratio:.2f} ({spread})"
                if target.at_most < 1 and target.whom == LIBRARY:
                    reached = f"{1 / ratio:.2f} times faster; {reached}"
                rows.append((outcome.name, str(target), reached, _MET[ratio <= target.at_most]))
        rows += [
            (figure.name, figure.target, figure.measured, _MET[figure.met])
            for figure in self.figures
        ]
        if not rows:
            return ""
        return _table(("operation", "target", "measured", ""), rows)


@dataclass(frozen=True)
class Figure:
    """One number that is no comparison of turns."""

    name: str
    target: str
    measured: str
    met: bool | None


def record(page: Path, mark: str, text: str) -> None:
    """Put text between the marks that are there for it."""
    before, after = f"<!-- begin {mark} -->", f"<!-- end {mark} -->"
    content = page.read_text()
    if before not in content or after not in content:
        raise SystemExit(f"{page} has no place for {mark}: {before} ... {after}")
    pattern = re.compile(f"{re.escape(before)}.*{re.escape(after)}", re.DOTALL)
    page.write_text(pattern.sub(lambda _: f"{before}\n{text}\n{after}", content))


def _operation(outcome: Outcome) -> str:
    order = sorted(outcome.seconds, key=outcome.median)
    rows: list[Sequence[str]] = []
    for name in order:
        taken = outcome.seconds[name]
        ratio = spread = ""
        if outcome.baseline in outcome.seconds:
            ratios = sorted(outcome.ratios(name, outcome.baseline))
            ratio, spread = f"{median(ratios):.2f}", _spread(ratios)
        processor = ""
        if name in outcome.processor and outcome.baseline in outcome.processor:
            least = median(outcome.processor[outcome.baseline])
            processor = f"{median(outcome.processor[name]) / least:.2f}" if least else ""
        label = f"**{name}**" if name.startswith(LIBRARY) else name
        rows.append((label, ratio, spread, processor, _time(outcome.median(name)), _range(taken)))
    rows += [(name, "failed", "", "", f"`{why}`", "") for name, why in outcome.failures.items()]
    heads = ("", "ratio", "least to most", "client's processor", "median", "least to most")
    rounds = max(map(len, outcome.seconds.values()), default=0)
    return f"**{outcome.name}** ({rounds} rounds)\n\n{_table(heads, rows)}"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)


def _spread(ratios: Sequence[float]) -> str:
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


def _range(taken: Sequence[float]) -> str:
    return f"{_time(min(taken))} to {_time(max(taken))}"


def _time(seconds: float) -> str:
    if seconds < _SHORT:
        return f"{seconds * 1e6:.2f} µs"
    if seconds < _LONG:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < _VERY_LONG else f"{seconds:.1f} s"


def summary(reports: Sequence[Report]) -> Mapping[str, int]:
    """How many targets were met and missed."""
    counts = {"met": 0, "missed": 0, "not measured": 0}
    for report in reports:
        for outcome in report.outcomes:
            for target in outcome.targets:
                ratio = outcome.ratio(target)
                kind = "not measured"
                if ratio is not None:
                    kind = "met" if ratio <= target.at_most else "missed"
                counts[kind] += 1
        for figure in report.figures:
            if figure.met is not None:
                counts["met" if figure.met else "missed"] += 1
    return counts
