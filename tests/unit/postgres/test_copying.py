from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, tzinfo

import asyncpg
import pytest

from test_coordinator_data_adapter.adapters.postgres.copying import CopyText, RecordsFailedError


class Nowhere(tzinfo):
    def utcoffset(self, _moment):
        return None


class Unhashable(tzinfo):
    __hash__ = None

    def utcoffset(self, _moment):
        return timedelta(hours=2)

    def dst(self, _moment):
        return timedelta()


async def parts(kinds, records):
    async with asyncio.timeout(60) as patience:
        return [part async for part in CopyText(kinds, records, patience, 60)]


async def test_many_short_records_make_parts_of_some_hundreds():
    written = await parts([int], ((number,) for number in range(1000)))

    assert len(written) >= 4
    assert b"".join(written) == b"".join(b"%d\n" % number for number in range(1000))


async def test_few_long_records_make_a_part():
    texts = ["x" * 100_000, "y" * 100_000, "z" * 1_000_000, "\n" * 200_000, "", None, "end"]

    written = await parts([int, str], enumerate(texts))

    assert [part.count(b"\t") for part in written] == [2, 1, 4]
    assert max(len(part) for part in written) < 1_100_000
    assert b"".join(written).replace(rb"\n", b"").endswith(b"3\t\n4\t\n5\t\\N\n6\tend\n")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (str, 1),
        (str, b"bytes"),
        (str, "\ud800"),
        (int, "1"),
        (int, 1.5),
        (datetime, "2026-01-01"),
        (datetime, datetime(2026, 1, 1)),  # noqa: DTZ001 - what is refused
        (datetime, datetime(2026, 1, 1, tzinfo=Nowhere())),
    ],
)
async def test_what_is_no_value_of_its_column_is_refused(kind, value):
    with pytest.raises(asyncpg.DataError):
        await parts([kind], [(value,)])


async def test_a_time_of_any_zone_is_written():
    zones = [UTC, Unhashable()]

    written = await parts([datetime], [(datetime(2026, 1, 1, 12, tzinfo=zone),) for zone in zones])

    assert written == [b"2026-01-01T12:00:00+00:00\n2026-01-01T10:00:00+00:00\n"]


async def test_a_truth_value_is_a_number_of_its_column():
    assert await parts([int], [(True,), (False,)]) == [b"1\n0\n"]


async def test_what_the_records_raise_is_told_apart():
    def records():
        yield (1,)
        raise TimeoutError

    with pytest.raises(RecordsFailedError) as failed:
        await parts([int], records())

    assert isinstance(failed.value.fault, TimeoutError)
