"""The percentiles of the package are those that PostgreSQL computes."""

from __future__ import annotations

from random import Random

import asyncpg
import pytest

from test_coordinator_data_adapter.analysis import percentile
from test_coordinator_data_adapter.testing.servers import DatabaseServer

SAMPLES = 500
PERCENTS = (50, 90, 95)


async def test_percentiles_equal_percentile_cont_in_random_samples(
    postgres_server: DatabaseServer,
) -> None:
    random = Random(1)
    samples = [
        sorted(random.randrange(10_000) for _ in range(random.randrange(1, 60)))
        for _ in range(SAMPLES)
    ]
    connection = await asyncpg.connect(postgres_server.url.replace("+asyncpg", ""))
    try:
        rows = await connection.fetch(
            "SELECT percentile_cont($3::float8[]) WITHIN GROUP (ORDER BY value)"
            " FROM unnest($1::int[], $2::int[]) AS samples (sample, value)"
            " GROUP BY sample ORDER BY sample",
            [number for number, sample in enumerate(samples) for _ in sample],
            [value for sample in samples for value in sample],
            [percent / 100 for percent in PERCENTS],
        )
    finally:
        await connection.close()

    computed = [[percentile(sample, percent) for percent in PERCENTS] for sample in samples]

    assert len(rows) == SAMPLES
    assert computed == [pytest.approx(row[0], rel=1e-12) for row in rows]
