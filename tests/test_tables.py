"""Sliced tables: whole or not there, the same bytes, and a sentence for each thing that is wrong."""

import errno
import os
import subprocess
import sys
import weakref
from pathlib import Path

import polars as pl
import pytest

from exfm.atomic_write import unfinished_path
from exfm.state import ROOT
from feast_asof.locations import place_of
from pipeline.tables import DataError, SliceTable, write_parquet
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


@pytest.mark.parametrize("at_once", [1, 2, 9])
def test_parts_that_were_given_are_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    table, read = SliceTable(tmp_path / "labels", "labels", part_rows=10), list[weakref.ref[pl.DataFrame]]()
    table.write(PIECE, pl.DataFrame({"impression_id": range(65)}))
    collect = SliceTable._collect

    def collected(*given: object) -> pl.DataFrame:
        assert all(frame() is None for frame in read)
        read.append(weakref.ref(frame := collect(*given)))  # type: ignore[arg-type]
        return frame

    monkeypatch.setattr(SliceTable, "_collect", collected)
    parts = list(map(pl.DataFrame.to_dicts, table.parts(PIECE, at_once=at_once)))
    assert [len(part) for part in parts] == [10] * 6 + [5] and len(read) == -(-7 // at_once)
    assert sum(parts, []) == [{"impression_id": number} for number in range(65)]


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
    for slice_ in (PIECE, NEXT):
        table.write(slice_, FRAME)
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


REFUSALS = {
    errno.ENOSPC: "make room on its disk",
    errno.EROFS: "read-only file system, so set EXFM_STATE",
    errno.EACCES: "make it writable for this user",
    errno.EIO: "mend that, or set EXFM_STATE",
}


@pytest.mark.parametrize("number", REFUSALS)
def test_a_write_that_fails_leaves_what_was_there(
    table: SliceTable, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    table.write(PIECE, FRAME)

    def refused(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refused)
    with pytest.raises(DataError) as raised:
        table.write(PIECE, FRAME.with_columns(pl.col("impression_id") + 1))
    assert f"part.parquet can't be written ({os.strerror(number)}): " in str(raised.value)
    assert REFUSALS[number] in str(raised.value)
    assert table.read([PIECE]).equals(FRAME)
    assert os.listdir(table.path(PIECE).parent) == ["part.parquet"]


def test_a_folder_that_is_a_file_is_said(table: SliceTable) -> None:
    table.folder.write_text("in the way")
    with pytest.raises(DataError, match="can't be written .*: a file lies where a folder should be"):
        table.write(PIECE, FRAME)


LIMITED = """
import resource, sys
from pathlib import Path
import polars as pl
import torch
from pipeline.tables import DataError, write_parquet
from exfm.atomic_write import write_text
from exfm.writing import StateError, refusal
from safetensors import SafetensorError
from safetensors.torch import save_file

resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
folder = Path(sys.argv[1])
large = pl.DataFrame({"x": range(200_000)}).with_columns(pl.col("x").hash())
for write, kind in (
    (lambda: write_parquet(large, folder / "a.parquet"), DataError),
    (lambda: write_text(folder / "a.txt", "x" * 20_000), StateError),
    (lambda: save_file({"x": torch.zeros(200_000)}, folder / "a.safetensors"), (OSError, SafetensorError)),
):
    try:
        write()
    except kind as error:
        print(refusal(error).errno if isinstance(error, (OSError, SafetensorError)) else error)
"""


def test_what_the_system_refuses_is_said_whoever_writes(tmp_path: Path) -> None:
    """Python, polars and safetensors, in a process whose files may not grow: each word of it comes from the system."""
    command = [sys.executable, "-c", LIMITED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    assert lines[0].startswith(f"{tmp_path}/a.parquet can't be written (File too large): ")
    assert lines[1].startswith(f"{tmp_path}/a.txt can't be written (File too large): ")
    assert lines[2] == str(errno.EFBIG)
    assert [path.name for path in tmp_path.iterdir() if path.name != "a.safetensors"] == []


def test_an_unfinished_file_is_not_found_by_a_reader(tmp_path: Path) -> None:
    write_parquet(FRAME, tmp_path / "a" / "part.parquet")
    left = unfinished_path(tmp_path / "a" / "part.parquet")
    left.write_bytes(b"half")
    assert pl.read_parquet(tmp_path / "**" / "*.parquet").height == 2


def test_a_file_that_another_writer_puts_in_place_meanwhile_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Listed while it was unfinished, and gone when it is looked at: seen once in 50 runs of two processes at once."""
    gone = tmp_path / ".part.parquet.1.aside"
    monkeypatch.setattr(Path, "glob", lambda path, pattern: iter([gone]))
    write_parquet(FRAME, tmp_path / "part.parquet")
    with place_of(str(tmp_path / "other.parquet")).writing() as sink:
        sink.write(b"all of it")
    assert (tmp_path / "other.parquet").read_bytes() == b"all of it"


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
