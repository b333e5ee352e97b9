"""Files that are passed over by their footers hold no row that counts: against reading all of them."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from exfm.stream import Slice
from pipeline.streams import reader
from pipeline.streams.footers import may_hold_ids
from pipeline.streams.layout import Listing, find_files, listed_once
from pipeline.streams.reader import read_log
from pipeline.streams.seen import seen_of
from projects.simulated import STREAM
from tests.streams.test_reader import DAY, HOUR, START


def many_files(log: Path, seed: int) -> None:
    """Twenty files of three days: without times, in a wrong day, of another zone, with repeated ids."""
    rng = np.random.default_rng(seed)
    for number in range(20):
        day, rows = int(rng.integers(0, 3)), int(rng.integers(0, 30))
        first = rng.uniform(0, 23)
        times = [START + day * DAY + timedelta(hours=float(min(first + at, 23.99))) for at in rng.exponential(1, rows)]
        kind = number % 5
        if kind == 1 and rows:
            times[0] = None  # type: ignore[call-overload]
        if kind == 2 and rows:
            times[-1] += DAY
        frame = pl.DataFrame(
            {
                "impression_id": rng.integers(number * 20, number * 20 + 40, rows),
                "event_timestamp": times,
                "user_id": rng.integers(0, 9, rows),
                "item_id": rng.integers(0, 9, rows),
                "surface": rng.choice(["feed", "search", "attic"], rows),
                "device": ["a"] * rows,
                "country": ["x"] * rows,
            },
            schema_overrides={"event_timestamp": pl.Datetime("us", "UTC"), "surface": pl.String, "device": pl.String,
                              "country": pl.String, "impression_id": pl.Int64},
        )  # fmt: skip
        if kind == 3:
            frame = frame.with_columns(
                pl.col("event_timestamp").dt.convert_time_zone("Asia/Shanghai").dt.cast_time_unit("ns")
            )
        path = log / "impressions" / f"day={START + day * DAY:%Y-%m-%d}" / f"{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path, row_group_size=7)


@pytest.mark.parametrize("seed", range(3))
def test_passing_files_over_changes_nothing_that_is_read(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    many_files(tmp_path, seed)
    windows = [(START + at * HOUR, START + (at + 3) * HOUR) for at in range(0, 72, 3)]
    with_footers = [read_log(tmp_path, STREAM, "impressions", *window) for window in windows]
    monkeypatch.setattr(reader, "may_hold", lambda *_: True)
    monkeypatch.setattr(reader, "may_hold_ids", lambda *_: True)
    for window, read in zip(windows, with_footers, strict=True):
        whole = read_log(tmp_path, STREAM, "impressions", *window)
        assert read.frame.equals(whole.frame) and read.quarantine.equals(whole.quarantine), window
        assert read.rows_read == whole.rows_read
    assert sum(read.rows_read for read in with_footers) > 100
    assert {reason.partition(":")[0] for read in with_footers for reason in read.quarantine["reason"]} >= {
        "repeated impression_id",
    }


def test_a_window_opens_only_files_that_may_hold_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for hour in range(24):
        frame = pl.DataFrame(
            {"impression_id": [hour], "event_timestamp": [START + hour * HOUR], "user_id": [1], "item_id": [1],
             "surface": ["feed"], "device": ["a"], "country": ["x"]},
            schema_overrides={"event_timestamp": pl.Datetime("us", "UTC")},
        )  # fmt: skip
        path = tmp_path / "impressions" / "day=2026-01-01" / f"{hour:02}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.write_parquet(path)
    opened: list[str] = []
    monkeypatch.setattr(reader, "is_whole", lambda path: opened.append(path.name) or True)  # type: ignore[func-returns-value]
    read = read_log(tmp_path, STREAM, "impressions", START + 7 * HOUR, START + 9 * HOUR)
    assert read.frame["impression_id"].to_list() == [7, 8] and opened == ["07.parquet", "08.parquet"]
    assert may_hold_ids(path, "impression_id", 23, 30) and not may_hold_ids(path, "impression_id", 24, 30)
    assert may_hold_ids(path, "device", 24, 30) and may_hold_ids(path, "nothing", 24, 30)


def test_columns_are_found_behind_nested_ones(tmp_path: Path) -> None:
    """A footer lists leaves: a struct before a column has several of them."""
    path = tmp_path / "nested.parquet"
    pl.DataFrame({"device": [{"a": 1, "b": 2}, {"a": 3, "b": 4}], "tags": [[1], [2]], "impression_id": [100, 102]},
                 schema_overrides={"impression_id": pl.Int64}).write_parquet(path)  # fmt: skip
    assert may_hold_ids(path, "impression_id", 100, 102) and not may_hold_ids(path, "impression_id", 1, 4)


def test_a_look_at_one_moment_lists_each_table_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_files(tmp_path, 0)
    slices = [Slice(key="", start=START + at * HOUR, end=START + (at + 1) * HOUR, index=at) for at in range(72)]
    apart = [seen_of(find_files(tmp_path, "impressions"), slice_.start, slice_.end) for slice_ in slices]
    walked: list[Path] = []
    from pipeline.streams import layout

    below = layout._below
    monkeypatch.setattr(layout, "_below", lambda folder, table: walked.append(folder) or below(folder, table))  # type: ignore[func-returns-value]
    listing: Listing = {}
    with listed_once(listing):
        together = [seen_of(find_files(tmp_path, "impressions"), slice_.start, slice_.end) for slice_ in slices]
    assert together == apart and len(walked) == 1
    (tmp_path / "impressions" / "day=2026-01-01" / "late.parquet").write_bytes(b"")
    with listed_once(listing):
        assert find_files(tmp_path, "impressions") is listing[tmp_path, "impressions"]  # the moment lasts
    late = seen_of(find_files(tmp_path, "impressions"), START, START + HOUR)
    assert late.digest != apart[0].digest  # and outside of it each look is a new one
