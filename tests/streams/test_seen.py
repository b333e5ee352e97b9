"""What of the log counts as seen: bytes of files that may hold rows of the window, nothing else."""

import os
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from pipeline.streams.layout import find_files
from pipeline.streams.seen import seen_of
from tests.streams.test_reader import START, impressions, write

HOUR = timedelta(hours=1)


def file_of(log: Path, hour: int, name: str) -> Path:
    """A file with one impression, in an hour of the first day."""
    path = log / "impressions" / "day=2026-01-01" / f"{name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    stamped = pl.lit(START + hour * HOUR).cast(pl.Datetime("us", "UTC"))
    impressions().head(1).with_columns(event_timestamp=stamped).write_parquet(path)
    return path


def digest(log: Path, first: int = 0, last: int = 2) -> str:
    return seen_of(find_files(log, "impressions"), START + first * HOUR, START + last * HOUR).digest


def test_a_file_of_later_hours_changes_nothing_and_one_of_these_hours_does(tmp_path: Path) -> None:
    file_of(tmp_path, 1, "a")
    before = digest(tmp_path)
    file_of(tmp_path, 5, "b")
    assert digest(tmp_path) == before != digest(tmp_path, 4, 6)
    file_of(tmp_path, 0, "c")
    assert digest(tmp_path) != before


def test_bytes_count_and_times_of_files_do_not(tmp_path: Path) -> None:
    path = file_of(tmp_path, 1, "a")
    seen = seen_of(find_files(tmp_path, "impressions"), START, START + 2 * HOUR)
    os.utime(path, (1, 1))
    assert seen_of(find_files(tmp_path, "impressions"), START, START + 2 * HOUR, seen.files).digest == seen.digest
    pl.read_parquet(path).with_columns(user_id=pl.lit(99)).write_parquet(path)
    assert seen_of(find_files(tmp_path, "impressions"), START, START + 2 * HOUR, seen.files).digest != seen.digest


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_of_any_unit_are_understood(tmp_path: Path, unit: str) -> None:
    write(tmp_path, impressions().with_columns(pl.col("event_timestamp").dt.cast_time_unit(unit)))  # type: ignore[arg-type]
    assert digest(tmp_path, 10, 12) == digest(tmp_path, 13, 14) != digest(tmp_path, 1, 6)


@pytest.mark.parametrize("hours", [-30, 30, None])
def test_rows_without_a_time_or_of_another_day_may_count_anywhere(tmp_path: Path, hours: int | None) -> None:
    moment = None if hours is None else START + hours * HOUR
    stamped = pl.when(pl.col("impression_id") == 1).then(moment).otherwise(pl.col("event_timestamp"))
    frame = impressions().with_columns(event_timestamp=stamped.cast(pl.Datetime("us", "UTC")))
    (tmp_path / "impressions").mkdir()
    nothing = digest(tmp_path, 10, 12)
    write(tmp_path, frame)
    assert digest(tmp_path, 10, 12) != nothing
