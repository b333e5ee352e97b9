"""Parts of a slice: cut alike however rows come, written as one file, sorted, merged; errors keep their names."""

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from exfm.writing import StateError
from pipeline.column_digests import ColumnDigests, column_digests
from pipeline.parts import Spool, cut, folder_aside, sink, with_progress
from pipeline.sidecar import read_sidecar, write_stored
from pipeline.sorted_parts import Merged, sorted_parts

RNG = np.random.default_rng(0)
FRAME = pl.DataFrame({
    "id": RNG.integers(0, 2**62, 1000), "share": RNG.normal(size=1000).astype(np.float32),
    "text": [f"x{i % 17}" for i in range(1000)], "list": [[i, i + 1][: i % 3] for i in range(1000)],
})  # fmt: skip


def pieces(frame: pl.DataFrame, *bounds: int) -> Iterator[pl.DataFrame]:
    for first, last in zip((0, *bounds), (*bounds, frame.height), strict=True):
        yield frame[first:last]


@pytest.mark.parametrize("bounds", [(), (1,), (300, 300, 301), (999,), (10, 500, 510)])
def test_equal_rows_make_equal_parts(bounds: tuple[int, ...]) -> None:
    for rows in (1, 7, 300, 999, 1000, 1001):
        parts = list(cut(pieces(FRAME, *bounds), rows))
        assert [part.height for part in parts[:-1]] == [rows] * (len(parts) - 1) and 0 < parts[-1].height <= rows
        assert pl.concat(parts).equals(FRAME)
    (empty,) = cut(pieces(FRAME.clear()), 10)
    assert empty.equals(FRAME.clear())


def test_a_files_bytes_follow_from_its_rows_alone(tmp_path: Path) -> None:
    whole = io.BytesIO()
    FRAME.write_parquet(whole, compression="zstd", statistics=True)
    stored = {}
    for name, bounds in {"at once": (), "in two": (400,), "in many": (1, 2, 350, 700)}.items():
        for rows in (1000, 300):
            path = tmp_path / f"{name}-{rows}.parquet"
            written = write_stored(pieces(FRAME, *bounds), path, by_column=True, part_rows=rows)
            assert (written.rows, dict(written.schema)) == (1000, dict(FRAME.schema))
            assert pl.read_parquet(path).equals(FRAME)
            stored.setdefault(rows, set()).add((path.read_bytes(), str(read_sidecar(path).columns)))  # type: ignore[union-attr]
    assert {rows: len(versions) for rows, versions in stored.items()} == {1000: 1, 300: 1}
    ((content, columns),) = stored[1000]
    assert content == whole.getvalue() and columns == str(column_digests(FRAME))


def test_row_groups_do_not_follow_from_how_rows_came(tmp_path: Path) -> None:
    many, path = pl.DataFrame({"id": RNG.integers(0, 99, 600_000), "list": [[1]] * 600_000}), tmp_path / "part.parquet"
    stored = set()
    for bounds in ((), (200_000,), (125_000, 250_000, 262_144, 300_000), tuple(range(50_000, 600_000, 50_000))):
        for frames in (pieces(many, *bounds), [pl.concat(pieces(many, *bounds), rechunk=False)]):
            write_stored(frames, path)
            stored.add(path.read_bytes())
    assert len(stored) == 1


def test_digests_of_parts_follow_from_values() -> None:
    def of(frame: pl.DataFrame) -> dict[str, str]:
        digests = ColumnDigests()
        for part in cut([frame], 300):
            digests.add(part)
        return digests.of_columns()

    changed = FRAME.with_columns(pl.when(pl.int_range(pl.len()) == 777).then(0).otherwise("share").alias("share"))
    before, after = of(FRAME), of(changed.cast({"share": pl.Float32}))
    assert {name for name in before if before[name] != after[name]} == {"share"}
    assert before != column_digests(FRAME)


def test_an_error_of_making_rows_is_not_one_of_writing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaking() -> Iterator[pl.DataFrame]:
        yield FRAME
        raise OSError(28, "No space left on device")

    path = tmp_path / "part.parquet"
    write_stored(FRAME.head(1), path)
    with pytest.raises(OSError, match="No space left"):
        write_stored(breaking(), path)
    assert pl.read_parquet(path).height == 1 and not list(tmp_path.glob("*aside*"))

    def full(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.LazyFrame, "sink_parquet", full)
    with pytest.raises(StateError, match="can't be written"):
        write_stored(FRAME, path)


def test_what_is_spooled_comes_back_in_order(tmp_path: Path) -> None:
    with Spool(300, tmp_path) as spool:
        for part in pieces(FRAME, 100, 250, 600, 601):
            spool.add(part)
        assert len(list(tmp_path.glob(".spool-*/*.parquet"))) > 1
        assert pl.concat(spool.frames()).equals(FRAME)
    assert not list(tmp_path.iterdir())


def test_folders_that_dead_processes_left_go(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = {name: tmp_path / f".encoded-{process}-{name}" for name, process in {
        "dead": ended.pid, "dead but young": ended.pid, "alive": os.getpid(),
    }.items()}  # fmt: skip
    for name, folder in left.items():
        folder.mkdir()
        (folder / "000000.safetensors").touch()
        at = time.time() - (10 if name == "dead but young" else 2 * 86_400)
        os.utime(folder, (at, at))
    with folder_aside(tmp_path, "encoded") as mine:
        assert mine.is_dir() and mine.name.startswith(f".encoded-{os.getpid()}-")
        assert {name for name, folder in left.items() if folder.exists()} == {"dead but young", "alive"}
    assert not mine.exists()


def test_rows_are_sorted_in_parts(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}[.parquet" for number in range(3)]
    for file, part in zip(files, pieces(FRAME, 200, 900), strict=True):
        part.write_parquet(file)
    parts = list(sorted_parts(files, pl.col("share") > 0, ("text", "id"), 100))
    assert max(part.height for part in parts) <= 100
    expected = FRAME.filter(pl.col("share") > 0).sort("text", "id")
    assert pl.concat(parts).equals(expected) and sorted(tmp_path.iterdir()) == sorted(files)


@pytest.mark.parametrize("seed", range(3))
def test_sorted_files_are_merged_moment_by_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Against a sort of all rows: moments that only some files have, an empty file, batches that end within one."""
    rng, start = np.random.default_rng(seed), datetime(2026, 1, 1, tzinfo=UTC)
    hours = pl.Series("at", [start + timedelta(hours=int(hour)) for hour in rng.integers(0, 30, 400)])
    rows = pl.DataFrame({"at": hours.cast(pl.Datetime("us", "UTC")), "user": rng.permutation(400)})
    rows = rows.with_columns(last=pl.concat_list("user", pl.col("user") * 2))
    files = []
    for number in range(5):
        mine = rows.filter(pl.col("user") % 4 == number, (pl.col("user") % 4 > 1) | (pl.col("at").dt.hour() > 3))
        files.append(tmp_path / f"{number}[.parquet")
        mine.sort("at", "user").write_parquet(files[-1], row_group_size=int(rng.integers(1, 50)))
    all_rows = pl.concat([pl.read_parquet(file, glob=False) for file in files]).sort("at", "user")
    windows = [(start + timedelta(hours=2), start + timedelta(hours=9)), (start + timedelta(hours=9), datetime.max)]
    with Merged(files, ("at", "user"), batch=7) as merged:
        for first, last in [(low, high.replace(tzinfo=UTC)) for low, high in windows]:
            frames = list(merged.between(first, last))
            assert pl.concat(frames).equals(all_rows.filter(pl.col("at") > first, pl.col("at") <= last))
            assert all(frame["at"].n_unique() == 1 for frame in frames[1:])
        assert list(merged.between(start, start))[0].is_empty()


def test_long_work_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    clock = iter([0.0, 6.0, 7.0, 20.0])
    monkeypatch.setattr("pipeline.parts.time.perf_counter", lambda: next(clock))
    parts = list(with_progress([FRAME] * 3, "labels 2026-01-01", 4_000, said.append))
    assert len(parts) == 3
    assert said == [
        "labels 2026-01-01: 1,000 of 4,000 rows, 167 rows/s, 0:00:18 left",
        "labels 2026-01-01: 3,000 of 4,000 rows, 150 rows/s, 0:00:07 left",
    ]


def test_a_file_of_many_parts_is_a_parquet_file(tmp_path: Path) -> None:
    with (tmp_path / "part.parquet").open("wb") as file:
        sink(cut([FRAME], 100), file)
    assert pl.read_parquet(tmp_path / "part.parquet").equals(FRAME)
