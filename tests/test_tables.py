"""Sliced tables: whole or not there, the same bytes, and a sentence for each thing that is wrong."""

import os
from pathlib import Path

import polars as pl
import pytest

from exfm_assets.tables import DataError, SliceTable, write_parquet
from projects.aside import aside_of
from projects.simulated import STREAM
from tests.streams.test_reader import overwritten

PIECE, NEXT = STREAM.slice_at(0), STREAM.slice_at(1)
FRAME = pl.DataFrame({"impression_id": [1, 2], "click": [0, None]}, schema_overrides={"click": pl.Int8})


@pytest.fixture
def table(tmp_path: Path) -> SliceTable:
    return SliceTable(tmp_path / "labels", "labels")


def test_what_was_written_is_read_in_the_order_of_slices(table: SliceTable) -> None:
    table.write(NEXT, FRAME.with_columns(pl.col("impression_id") + 10))
    table.write(PIECE, FRAME)
    assert table.stored(STREAM) == [PIECE, NEXT]
    assert table.read([PIECE, NEXT])["impression_id"].to_list() == [1, 2, 11, 12]
    assert table.read([PIECE], columns=["click"]).columns == ["click"]
    assert table.rows(PIECE) == 2


def test_the_same_rows_are_the_same_bytes(table: SliceTable) -> None:
    table.write(PIECE, FRAME)
    first = table.digest(PIECE)
    table.write(PIECE, FRAME)
    assert table.digest(PIECE) == first
    table.write(PIECE, FRAME.with_columns(pl.col("impression_id") + 1))
    assert table.digest(PIECE) != first


def test_a_missing_slice_says_what_to_materialise(table: SliceTable) -> None:
    with pytest.raises(DataError, match="labels has no slice 2026-01-01: materialise labels for it first"):
        table.read([PIECE])


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b[:40], lambda b: b"", lambda b: b"not a table at all"])
def test_a_damaged_file_says_what_to_materialise_again(table: SliceTable, damage) -> None:  # type: ignore[no-untyped-def]
    table.write(PIECE, FRAME)
    path = table.path(PIECE)
    path.write_bytes(damage(path.read_bytes()))
    for look in (lambda: table.read([PIECE]), lambda: table.rows(PIECE), lambda: table.digest(PIECE)):
        with pytest.raises(
            DataError, match=r"not a whole parquet file .*: materialise labels for slice 2026-01-01 again"
        ):
            look()


@pytest.mark.parametrize("where", ["pages", "footer"])
def test_a_file_overwritten_inside_says_what_to_materialise_again(table: SliceTable, where: str) -> None:
    for piece in (PIECE, NEXT):
        table.write(piece, FRAME)
    path = table.path(NEXT)
    path.write_bytes(overwritten(path.read_bytes(), where))
    with pytest.raises(DataError, match=r"not a whole parquet file .*: materialise labels for slice 2026-01-02 again"):
        table.read([PIECE, NEXT])


def test_slices_of_other_columns_say_what_to_materialise_again(table: SliceTable) -> None:
    differ = "slice 2026-01-02 has other columns than slice 2026-01-01 .click.: materialise labels for both again"
    table.write(PIECE, FRAME)
    table.write(NEXT, FRAME.drop("click"))
    with pytest.raises(DataError, match=differ):
        table.read([PIECE, NEXT])
    table.write(NEXT, FRAME.with_columns(pl.col("click").cast(pl.Int64)))
    with pytest.raises(DataError, match=differ):
        table.read([PIECE, NEXT])


def test_a_column_that_a_slice_lacks_is_named(table: SliceTable) -> None:
    table.write(PIECE, FRAME)
    with pytest.raises(DataError, match="labels.convert: no such column in slice 2026-01-01: materialise labels for"):
        table.read([PIECE], columns=["click", "convert"])


def test_a_write_that_fails_leaves_what_was_there(table: SliceTable, monkeypatch: pytest.MonkeyPatch) -> None:
    table.write(PIECE, FRAME)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        table.write(PIECE, FRAME.with_columns(pl.col("impression_id") + 1))
    assert table.read([PIECE]).equals(FRAME)


def test_an_unfinished_file_is_not_found_by_a_reader(tmp_path: Path) -> None:
    write_parquet(FRAME, tmp_path / "a" / "part.parquet")
    left = aside_of(tmp_path / "a" / "part.parquet")
    left.write_bytes(b"half")
    assert pl.read_parquet(tmp_path / "**" / "*.parquet").height == 2


def test_what_killed_writers_left_is_swept_up_when_it_is_old(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    young, old, folder = (tmp_path / f".part.parquet.{pid}.aside" for pid in (1, 2, 3))
    young.write_bytes(b"half")
    old.write_bytes(b"half")
    (folder / "inner").mkdir(parents=True)
    for left in (old, folder):
        os.utime(left, (0, 0))
    write_parquet(FRAME, path)
    assert sorted(tmp_path.iterdir()) == [young, path]
