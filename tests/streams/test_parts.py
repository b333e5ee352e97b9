"""A window of the log that is read in parts: the same rows, refused for the same reasons, whatever a part's size."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest

from pipeline.streams import repeats
from pipeline.streams.reader import LogRead, read_log, read_log_in_parts
from pipeline.streams.windows import cut_by_time
from pipeline.tables import DataError
from projects.simulated import STREAM

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
CLOCK = pl.Datetime("us", "UTC")


def log_of(folder: Path, seed: int, rows: int = 600) -> pl.DataFrame:
    """Three days of a log with everything that is wrong in one: ids twice, no ids, no times, other days' rows."""
    rng = np.random.default_rng(seed)
    moments = rng.integers(0, 3 * 86_400, rows)
    moments[: rows // 6] = 86_400 + 3_600  # many in one moment
    frame = pl.DataFrame({
        "impression_id": rng.integers(0, rows, rows),  # a third of them repeated, within a day and over days
        "event_timestamp": [START + timedelta(seconds=int(second)) for second in moments],
        "user_id": rng.integers(0, 30, rows), "item_id": rng.integers(0, 30, rows),
        "surface": rng.choice(["feed", "search", "video", "elsewhere"], rows, p=[0.4, 0.3, 0.2, 0.1]),
        "device": rng.choice(["a", "b"], rows), "country": rng.choice(["x", "y"], rows),
    }, schema_overrides={"event_timestamp": CLOCK})  # fmt: skip
    some = pl.int_range(pl.len())
    day = pl.when(some % 37 == 5).then(pl.lit(date(2026, 1, 2))).otherwise(pl.col("event_timestamp").dt.date())
    frame = frame.with_columns(day.alias("day")).with_columns(
        pl.when(some % 41 == 7).then(None).otherwise(pl.col("event_timestamp")).alias("event_timestamp"),
        pl.when(some % 43 == 3).then(None).otherwise(pl.col("impression_id")).alias("impression_id"),
    )
    for (day_, number), part in frame.group_by("day", some % 3):
        path = folder / "impressions" / f"day={day_}" / f"{number}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        part.drop("day").write_parquet(path, row_group_size=20)
    return frame


def refused(read: LogRead) -> list[tuple[object, ...]]:
    return sorted(map(repr, read.quarantine.iter_rows()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("part_rows", "seed", "rows"),
    [(1, 0, 200), *((most, seed, 600) for most in (7, 50, 199) for seed in range(2))],
)
def test_parts_are_the_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_rows: int, seed: int, rows: int
) -> None:
    monkeypatch.setattr(repeats, "IDS_AT_ONCE", 100)
    log_of(tmp_path, seed, rows)
    small = replace(STREAM, part_rows=part_rows)
    for first in range(3):
        window = (START + first * DAY, START + (first + 1) * DAY)
        whole = read_log(tmp_path, STREAM, "impressions", *window)
        aside = tmp_path / f"aside {first}"
        parts = list(read_log_in_parts(tmp_path, small, "impressions", *window, aside=aside))
        assert pl.concat([part.frame for part in parts]).equals(whole.frame)
        together = pl.concat([part.quarantine for part in parts])
        assert refused(LogRead(whole.frame, together, 0)) == refused(whole)
        assert sum(part.rows_read for part in parts) == whole.rows_read
        assert aside.exists() == (rows == 600), "ids are put aside where they are many"
        assert not list(aside.glob("*"))  # and gone
        # Rows of one moment are together; of others there are at most so many.
        assert len(parts) >= whole.rows_read // (2 * max(part_rows, 100))
        for part in parts:
            moments = part.frame["event_timestamp"].n_unique()
            assert part.rows_read <= part_rows or moments <= 1 or first == 1


def test_a_repeated_id_is_one_that_a_sound_row_before_it_has(tmp_path: Path) -> None:
    """Against a loop over the rows in the contract's order."""
    frame = log_of(tmp_path, 9)
    small = replace(STREAM, part_rows=11)
    order = ["event_timestamp", "impression_id", "user_id", "item_id", "surface"]
    seen: set[int] = set()
    kept = []
    for row in frame.sort(order, maintain_order=True, nulls_last=True).iter_rows(named=True):
        at = row["event_timestamp"]
        whole = at is not None and row["impression_id"] is not None and row["surface"] in STREAM.surfaces
        if whole and at.date() == row["day"] and row["impression_id"] not in seen:
            seen.add(row["impression_id"])
            kept.append((row["impression_id"], at))
    read = [
        pair
        for day in range(3)
        for part in read_log_in_parts(tmp_path, small, "impressions", START + day * DAY, START + (day + 1) * DAY)
        for pair in part.frame.select("impression_id", "event_timestamp").iter_rows()
    ]
    assert sorted(read) == sorted(kept)


def test_a_file_whose_ids_are_damaged_is_named_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its times are whole, by which windows are cut: it shows while ids are put aside."""
    monkeypatch.setattr(repeats, "IDS_AT_ONCE", 100)
    log_of(tmp_path, 0)
    path = next((tmp_path / "impressions" / "day=2026-01-01").iterdir())
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    assert column.path_in_schema == "impression_id"
    whole = bytearray(path.read_bytes())
    begin = column.dictionary_page_offset or column.data_page_offset
    whole[begin : begin + column.total_compressed_size] = b"x" * column.total_compressed_size
    path.write_bytes(whole)
    small, aside = replace(STREAM, part_rows=50), tmp_path / "aside"
    with pytest.raises(DataError, match=rf"^impressions: .*{path.name} is not a whole parquet file") as error:
        list(read_log_in_parts(tmp_path, small, "impressions", START, START + DAY, aside=aside))
    assert error.value.__traceback__ is not None and not list(aside.glob(".*"))


@pytest.mark.parametrize("most", [1, 3, 10, 1000])
def test_windows_are_cut_where_rows_are(most: int) -> None:
    rng = np.random.default_rng(most)
    seconds = np.concatenate([rng.integers(0, 86_400, 200), np.full(20, 777), 40_000 + rng.integers(0, 2, 50)])
    moments = pl.Series([START + timedelta(seconds=int(second)) for second in seconds], dtype=CLOCK)

    def count(start: datetime, end: datetime, step: timedelta) -> pl.DataFrame:
        within = moments.filter((moments >= start) & (moments < end))
        number = (within - start).dt.total_microseconds() // int(step / timedelta(microseconds=1))
        return number.alias("step").value_counts().rename({"count": "len"})

    windows = cut_by_time(START, START + DAY, most, count)
    assert [windows[0][0], windows[-1][1]] == [START, START + DAY]
    assert all(before[1] == after[0] for before, after in zip(windows, windows[1:], strict=False))
    for first, last in windows:
        inside = moments.filter((moments >= first) & (moments < last))
        assert len(inside) <= most or inside.n_unique() == 1
    assert len(windows) <= 1 + 3 * (len(seconds) // most + 1)
