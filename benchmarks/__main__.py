"""One command for all of it: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import (
    audit_suite,
    observation_suite,
    postgres_suite,
    redis_suite,
    volume_suite,
)
from benchmarks.measuring import Outcome, progress
from benchmarks.peers import cache_peers, store_peers
from benchmarks.report import Figure, Report, record, summary
from benchmarks.scale import QUICK, SMOKE, Scale
from benchmarks.stage import (
    AUDITED,
    BARELY_AUDITED,
    LARGE,
    LEAST_AUDITED,
    SERVER_SETTINGS,
    SMALL,
    UNAUDITED,
    UNAUDITED_TOO,
    Stage,
)
from test_coordinator_data_adapter.testing.servers import ThrowawayPostgres, ThrowawayValkey

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
LOOPS = ("asyncio", "uvloop")
SUITES = ("postgres", "volume", "redis", "observation", "audit")
# What these measure is the server's work, and takes long.
ON_ONE_LOOP = ("volume", "audit")
DISTRIBUTIONS = {
    "postgres": (
        "asyncpg",
        "sqlalchemy",
        "advanced-alchemy",
        "tortoise-orm",
        "piccolo",
        "psycopg",
    ),
    "volume": ("asyncpg", "sqlalchemy"),
    "redis": ("redis", "hiredis", "aiocache", "cashews", "coredis", "valkey-glide"),
    "observation": ("asyncpg", "prometheus-client", "opentelemetry-sdk"),
    "audit": ("asyncpg",),
}
_SCHEMAS = {
    "postgres": (SMALL,),
    "volume": (SMALL, LARGE),
    "observation": (SMALL,),
    "audit": (AUDITED, UNAUDITED, UNAUDITED_TOO, BARELY_AUDITED, LEAST_AUDITED),
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of: {', '.join(SUITES)}")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument(
        "--loop", action="append", choices=LOOPS, help="on this event loop only; default: asyncio"
    )
    parser.add_argument("--uvloop", action="store_true", help="once more with uvloop")
    parser.add_argument("--no-peers", action="store_true", help="nobody but the drivers")
    parser.add_argument("--rounds", type=int, help="how often everyone has its turn")
    parser.add_argument("--rows", type=int, help="results in the large schema")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every time taken there")
    parser.add_argument("--record", action="store_true", help=f"put the tables into {PAGE.name}")
    options = parser.parse_args()
    if unknown := set(options.suites) - set(SUITES):
        parser.error(f"no such suite: {', '.join(unknown)}")
    return options


def _scale(options: argparse.Namespace) -> Scale:
    scale = SMOKE if options.smoke else QUICK if options.quick else Scale()
    if options.rounds:
        scale = dataclasses.replace(scale, rounds=options.rounds)
    if options.rows:
        scale = dataclasses.replace(
            scale, many_rows=options.rows, streamed=min(options.rows, scale.streamed)
        )
    return scale


def _loops(options: argparse.Namespace) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    wanted = [*(options.loop or ["asyncio"]), *(["uvloop"] if options.uvloop else [])]
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {}
    for name in dict.fromkeys(wanted):
        loops[name] = import_module(name).new_event_loop
    return loops


def _versions(suite: str) -> str:
    found: list[str] = []
    for name in DISTRIBUTIONS[suite]:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} is not installed")
    return ", ".join(found)


def _load() -> str:
    return " ".join(f"{load:.1f}" for load in os.getloadavg())


class _Run:
    """The servers, and what is measured on them."""

    def __init__(self, scale: Scale, postgres: ThrowawayPostgres, valkey: ThrowawayValkey) -> None:
        self.scale = scale
        self.postgres = postgres
        self.valkey = valkey
        self.prepared: set[str] = set()

    async def prepare(self, suite: str) -> None:
        """Fill the tables that the suite needs and no suite before it has filled."""
        for schema in _SCHEMAS.get(suite, ()):
            if schema not in self.prepared:
                progress(f"filling the {schema} schema")
                await self._stage().prepare(schema)
                self.prepared.add(schema)

    async def measure(self, suite: str, report: Report, *, peers: bool) -> None:
        report.facts.update(
            measured=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC,"
            f" Python {platform.python_version()}, {os.cpu_count()} processors",
            libraries=_versions(suite),
        )
        before = _load()
        found: AsyncGenerator[Outcome | Figure]
        if suite == "postgres":
            found = postgres_suite.measurements(
                self._stage(), store_peers() if peers else {}, report
            )
        elif suite == "volume":
            found = volume_suite.measurements(self._stage(), report)
        elif suite == "observation":
            found = observation_suite.measurements(self._stage(), report)
        elif suite == "audit":
            found = audit_suite.measurements(self._stage(), report)
        else:
            place = redis_suite.Place(self.valkey.host, self.valkey.port, self.postgres.url())
            found = redis_suite.measurements(
                place, self.scale, cache_peers() if peers else {}, report
            )
        async for one in found:
            if isinstance(one, Figure):
                report.figures.append(one)
            else:
                report.outcomes.append(one)
        report.facts["load of the machine (1, 5, 15 min) before and after"] = f"{before}; {_load()}"

    def _stage(self) -> Stage:
        url = self.postgres.url().replace("+asyncpg", "")
        redis = f"redis://{self.valkey.host}:{self.valkey.port}/0"
        return Stage(url, redis, self.scale)


def main() -> None:
    """Run what was asked for."""
    options = _arguments()
    scale = _scale(options)
    reports: list[Report] = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)  # as root, the servers run as somebody else
        progress("starting PostgreSQL and Valkey")
        run = _Run(
            scale,
            stack.enter_context(ThrowawayPostgres(folder / "postgres", settings=SERVER_SETTINGS)),
            stack.enter_context(ThrowawayValkey(folder / "valkey")),
        )
        for suite in options.suites or SUITES:
            asyncio.run(run.prepare(suite))
            loops = _loops(options)
            if suite in ON_ONE_LOOP:
                loops = {"asyncio": asyncio.new_event_loop}
            for name, make_loop in loops.items():
                progress(f"{suite}, {name}")
                report = Report(suite, name)
                reports.append(report)
                with asyncio.Runner(loop_factory=make_loop) as runner:
                    runner.run(run.measure(suite, report, peers=not options.no_peers))
                report.facts["command"] = f"`python -m benchmarks {shlex.join(sys.argv[1:])}`"
                print(f"## {suite}, {name}\n\n{report.to_markdown()}\n", flush=True)
                if options.record:
                    record(PAGE, report.mark, report.to_markdown())
                if options.json:
                    options.json.write_text(json.dumps([one.to_json() for one in reports]))
    progress(f"targets: {dict(summary(reports))}")


if __name__ == "__main__":
    main()
