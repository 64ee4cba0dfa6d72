"""How much of everything is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much.

    Attributes:
        rounds: how often everyone has its turn.
        calls: how many calls make one turn, of those that take well below a millisecond.
        rows: results stored in the small schema.
        many_rows: results stored in the large one.
        streamed: how many of those are streamed.
        big_run: results of the largest run.
        bulk: how many results are created at once.
        keys: keys stored in Redis; a tenth of them is deleted by a pattern.
        services: services in the registry.
        long_rounds: how often everyone has its turn at what takes long.
        alone: seconds for which the rate of inserts is measured while nothing else happens.
    """

    rounds: int = 100
    calls: int = 10
    rows: int = 100_000
    many_rows: int = 5_000_000
    streamed: int = 1_000_000
    big_run: int = 10_000
    bulk: tuple[int, ...] = (1_000, 10_000)
    keys: int = 100_000
    services: int = 10_000
    long_rounds: int = 2
    alone: float = 5.0


QUICK = Scale(
    rounds=2,
    calls=10,
    rows=10_000,
    many_rows=20_000,
    streamed=10_000,
    bulk=(1_000,),
    keys=1_000,
    services=100,
)

SMOKE = Scale(
    rounds=1,
    calls=2,
    rows=100,
    many_rows=200,
    streamed=100,
    big_run=20,
    bulk=(10,),
    keys=100,
    services=20,
    long_rounds=1,
    alone=0.2,
)
