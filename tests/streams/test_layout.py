"""Where the log's files lie: read, or refused in a sentence; none is passed over in silence."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

import polars as pl
import pytest

from exfm.state import State
from pipeline.streams.layout import find_files
from pipeline.streams.reader import read_log
from pipeline.tables import DataError
from pipeline.verify.tables_sound import rows_kept
from pipeline.workspace import Workspace
from projects.simulated import STREAM
from tests.streams.test_reader import DAY, START, impressions
from tests.tiny import tiny_project


def put(log: Path, where: str, frame: pl.DataFrame | None = None) -> Path:
    path = log / "impressions" / where
    path.parent.mkdir(parents=True, exist_ok=True)
    (impressions() if frame is None else frame).write_parquet(path)
    return path


def read(log: Path) -> pl.DataFrame:
    return read_log(log, STREAM, "impressions", START, START + DAY).frame


@pytest.mark.parametrize(
    "where", ["day=2026-01-01/a", "day=2026-1-1/a", "day=2026-01-01/hour=07/a", "day=2026-1-1/x/y/a"]
)
def test_a_days_files_are_read_at_any_depth_and_without_zeros(tmp_path: Path, where: str) -> None:
    put(tmp_path, f"{where}.parquet")
    assert read(tmp_path).height == 3


@pytest.mark.parametrize(
    "where",
    [
        "dt=2026-01-01/a", "a", "2026-01-01/a", "day=2026-13-01/a", "day=20260101/a", "hour=07/day=2026-01-01/a",
        "day=2026-01-01%2000%3A00/a", "year=2026/month=01/day=01/a", "day=__HIVE_DEFAULT_PARTITION__/a",
    ],
)  # fmt: skip
def test_a_file_in_no_days_folder_is_named(tmp_path: Path, where: str) -> None:
    put(tmp_path, "day=2026-01-01/a.parquet")
    put(tmp_path, f"{where}.parquet")
    put(tmp_path, f"{where}b.parquet")
    with pytest.raises(DataError) as refused:
        read(tmp_path)
    assert f"impressions: {where}.parquet (and 1 more) is in no day's folder" in str(refused.value)
    assert "day=YYYY-MM-DD" in str(refused.value) and "\n" not in str(refused.value)


def test_two_folders_of_one_day_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "day=2026-01-01/a.parquet")
    put(tmp_path, "day=2026-1-1/b.parquet")
    with pytest.raises(DataError, match="day=2026-01-01 and day=2026-1-1 are the same day: move their files into one"):
        read(tmp_path)


@pytest.mark.parametrize(
    "where", ["_temporary/a", ".staging/a", "day=2026-01-01/_tmp/a", "day=2026-01-01/_a", "dt=1/.a"]
)
def test_hidden_names_and_all_below_them_are_no_part_of_the_log(tmp_path: Path, where: str) -> None:
    put(tmp_path, "day=2026-01-01/a.parquet")
    path = put(tmp_path, f"{where}.parquet")
    path.write_bytes(b"half")
    assert read(tmp_path).height == 3


def test_files_of_other_kinds_are_listed(tmp_path: Path) -> None:
    put(tmp_path, "day=2026-01-01/a.parquet")
    for name in ("README.md", "day=2026-01-01/a.csv", "day=2026-01-01/_SUCCESS", "day=2026-01-01/.a.parquet.crc"):
        (tmp_path / "impressions" / name).write_text("x")
    assert find_files(tmp_path, "impressions").unread == ("README.md", "day=2026-01-01/a.csv")


def test_a_day_may_be_a_link(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere", "day=2026-01-01/a.parquet")
    (tmp_path / "impressions").mkdir()
    target = tmp_path / "elsewhere/impressions/day=2026-01-01"
    (tmp_path / "impressions/day=2026-01-01").symlink_to(target, target_is_directory=True)
    assert read(tmp_path).height == 3


@pytest.mark.parametrize("name", ["a[b]c", "a*c", "a?c"])
def test_the_logs_own_path_is_no_pattern(tmp_path: Path, name: str) -> None:
    put(tmp_path / name, "day=2026-01-01/a.parquet")
    put(tmp_path / "abc", "day=2026-01-01/a.parquet", impressions().with_columns(pl.col("impression_id") + 10))
    assert read(tmp_path / name)["impression_id"].to_list() == [1, 2, 3]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_rows_are_counted_as_they_are_read(tmp_path: Path, unit: Literal["ms", "us", "ns"]) -> None:
    """Several types, hidden files, local days, a stream that begins inside a day: stored + refused = counted."""
    first, end = START + timedelta(hours=2), START + 2 * DAY + timedelta(hours=2)
    tiny = tiny_project(simulation=None)
    stream = replace(tiny.stream, slice_length=timedelta(hours=2), first_slice=first, until=end)
    bare = replace(tiny, stream=stream, feature_views=(), prediction_views=(), teachers=(), students=())
    work = Workspace(bare, State(folder=tmp_path / "s", log=tmp_path))
    rows = pl.concat([impressions().with_columns(pl.col("impression_id") + 10 * n) for n in range(9)]).with_columns(
        pl.col("event_timestamp") + pl.duration(hours=pl.int_range(pl.len()) * 2)
    )
    timeless = rows.head(1).with_columns(event_timestamp=pl.lit(None, pl.Datetime("us", "UTC")))
    held = 0
    for hours in (0, 8):
        local = (pl.col("event_timestamp").fill_null(START) + timedelta(hours=hours)).dt.date().alias("day")
        cast = pl.col("event_timestamp").dt.cast_time_unit(unit if hours else "us")
        for (day,), part in pl.concat([rows, timeless]).with_columns(local).group_by("day"):
            moved = part.drop("day").with_columns(cast, pl.col("impression_id") + 1000 * hours)
            put(tmp_path, f"day={day}/{hours}.parquet", moved)
            put(tmp_path, f"day={day}/_half.parquet").write_bytes(b"half")
            filed = pl.col("event_timestamp").dt.date() == day
            within = pl.col("event_timestamp").is_between(first, end, closed="left")
            held += part.filter((filed & within) | ~filed.fill_null(False)).height if day < date(2026, 1, 4) else 0
    counted = refused = 0
    for slice_ in stream.slices(first, end):
        got = read_log(tmp_path, stream, "impressions", slice_.start, slice_.end)
        work.table("impressions").write(slice_, got.frame)
        work.quarantine("impressions").write(slice_, got.quarantine)
        result = rows_kept("impressions")(work, [slice_])
        assert result.passed and result.numbers["rows"] == got.rows_read, result.message
        work.table("impressions").write(slice_, got.frame.tail(-1))
        assert rows_kept("impressions")(work, [slice_]).passed == got.frame.is_empty()
        counted, refused = counted + got.rows_read, refused + got.quarantine.height
    assert counted == held and refused > 5
