"""Slices before and after a slice, counted: as Dagster finds them when it walks there."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from exfm.stream import Stream
from exfm_assets import partitions
from exfm_assets.partitions import earlier, slice_partitions
from projects.simulated import STREAM

FIRST = datetime(2026, 3, 28, tzinfo=UTC)


def stream(length: timedelta, zone: str = "UTC") -> Stream:
    return replace(STREAM, first_slice=FIRST, slice_length=length, until=None, time_zone=zone, calendar=())


LENGTHS = [timedelta(minutes=1), timedelta(minutes=15), timedelta(hours=1), timedelta(hours=6), timedelta(days=1)]


@pytest.mark.parametrize("length", LENGTHS, ids=str)
@pytest.mark.parametrize("offset", [-61, -3, -1, 0, 1, 7])
def test_counted_is_as_walked(length: timedelta, offset: int) -> None:
    of = slice_partitions(stream(length))
    for at in (FIRST, FIRST + 5 * length, FIRST + 100 * length):
        assert partitions._offsetted(of, at, offset) == partitions._walked(of, at, offset)
        between = at + length / 3 if length < timedelta(days=1) else at  # Dagster refuses moments within a day
        assert partitions._offsetted(of, between, offset) == partitions._walked(of, between, offset)


def test_a_window_of_many_minutes_is_not_walked(monkeypatch: pytest.MonkeyPatch) -> None:
    """By Dagster's own question, so that it is seen if Dagster asks another function one day."""

    def walked(*_: object) -> datetime:
        raise AssertionError("slice by slice")

    monkeypatch.setattr(partitions, "_walked", walked)
    of, mapping = slice_partitions(stream(timedelta(minutes=1))), earlier(60)
    keys = of.subset_with_partition_keys(["2026-03-28-02:00"])
    found = mapping.get_upstream_mapped_partitions_result_for_partitions(
        keys, of, of, current_time=FIRST + timedelta(days=1)
    )
    named = sorted(found.partitions_subset.get_partition_keys())
    assert (named[0], named[-1], len(named)) == ("2026-03-28-01:00", "2026-03-28-01:59", 60)
    assert isinstance(mapping, dg.TimeWindowPartitionMapping)
