"""Sidecars: a file is what was written or is not read; one without a readable sidecar is taken as it is."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from exfm.writing import StateError
from pipeline import sidecar
from pipeline.sidecar import (
    FORMAT,
    SAME_MOMENT,
    as_written,
    hashed_beside,
    read_sidecar,
    sidecar_of,
    write_stored,
)
from pipeline.tables import DataError, SliceTable
from projects.simulated import STREAM
from tests.graph.damage import flipped

PIECE = STREAM.slice_at(0)
FRAME = pl.DataFrame({"impression_id": range(500), "click": [0, 1] * 250})


@pytest.fixture
def table(tmp_path: Path) -> SliceTable:
    table = SliceTable(tmp_path / "labels", "labels")
    table.write(PIECE, FRAME, {"impressions": "abc"})
    return table


def test_it_says_what_a_file_holds_and_was_made_of(table: SliceTable) -> None:
    noted = read_sidecar(table.path(PIECE))
    assert noted is not None
    assert (noted.rows, noted.size, noted.made_of) == (500, table.path(PIECE).stat().st_size, {"impressions": "abc"})
    assert noted.sha256[:12] == table.digest(PIECE) == table.noted(PIECE)


def test_bytes_that_changed_are_noticed_by_every_way_to_read(table: SliceTable) -> None:
    path = table.path(PIECE)
    path.write_bytes(flipped(path.read_bytes()))
    assert not table.sound(PIECE)
    ways = (table.read, table.scan, lambda slices: table.rows(slices[0]), lambda slices: table.digest(slices[0]))
    for look in (*ways, table.check, lambda slices: table.sound_path(slices[0])):
        with pytest.raises(DataError, match="labels for slice 2026-01-01 again"):
            look([PIECE])
    table.write(PIECE, FRAME)
    assert table.read([PIECE]).equals(FRAME)


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stored file that was hashed long enough after it was written, and that no process has hashed yet."""
    path = tmp_path / "part.parquet"
    write_stored(FRAME, path)
    told = sidecar_of(path).stat()
    os.utime(sidecar_of(path), ns=(told.st_atime_ns, told.st_mtime_ns + SAME_MOMENT))
    sidecar._hashed.cache_clear()
    return path


def hashes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files, as they are hashed from now on."""
    names: list[str] = []
    digest = hashlib.file_digest

    def noted(file: Any, kind: str) -> Any:
        names.append(Path(file.name).name)
        return digest(file, kind)

    monkeypatch.setattr(hashlib, "file_digest", noted)
    return names


def test_a_file_that_is_untouched_since_it_was_hashed_is_not_hashed_to_be_read(
    trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = hashes(monkeypatch)
    assert as_written(trusted) and names == []
    assert as_written(trusted, by_bytes=True) and names == ["part.parquet"]


def test_a_file_that_was_touched_or_copied_is_hashed(trusted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = hashes(monkeypatch)
    trusted.touch()
    assert as_written(trusted) and len(names) == 1
    copied = trusted.parent / "copy" / "part.parquet"
    shutil.copytree(trusted.parent, copied.parent, ignore=shutil.ignore_patterns("copy"))
    assert as_written(copied) and len(names) == 2
    stored, told = copied.read_bytes(), copied.stat()
    copied.write_bytes(flipped(stored))
    os.utime(copied, ns=(told.st_atime_ns, told.st_mtime_ns))  # of its size, and as old as before
    assert not as_written(copied)


def test_a_sidecar_of_the_same_moment_is_not_trusted(table: SliceTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """What changes right after it was hashed may keep its times."""
    path = table.path(PIECE)
    changed = path.stat().st_ctime_ns
    os.utime(sidecar_of(path), ns=(changed, changed + SAME_MOMENT))
    sidecar._hashed.cache_clear()
    names = hashes(monkeypatch)
    assert as_written(path) and names == ["part.parquet"]


def test_bytes_that_changed_behind_the_file_system_show_by_bytes(
    trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = trusted.stat()
    trusted.write_bytes(flipped(trusted.read_bytes()))
    really = Path.stat
    monkeypatch.setattr(Path, "stat", lambda path, **named: told if path == trusted else really(path, **named))
    assert as_written(trusted) and not as_written(trusted, by_bytes=True)


def test_damage_behind_the_file_system_does_not_stand_and_is_not_blessed(
    table: SliceTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, noted = table.path(PIECE), table.sidecar(PIECE)
    assert noted is not None and table.standing(PIECE, noted.made_of) == noted
    told, really = path.stat(), Path.stat
    path.write_bytes(flipped(path.read_bytes()))
    monkeypatch.setattr(Path, "stat", lambda of, **named: told if of == path else really(of, **named))
    sidecar._hashed.cache_clear()
    table.note(PIECE, noted, {"outcomes": {"part.parquet": (1, 2, None)}})
    assert table.noted(PIECE) == noted.digest
    assert table.standing(PIECE, noted.made_of) is None and not table.sound(PIECE)
    with pytest.raises(DataError, match="labels for slice 2026-01-01 again"):
        table.check([PIECE])


def test_a_sidecar_that_does_not_say_when_it_hashed_is_checked_by_bytes(
    trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier exfm wrote none."""
    plain = json.loads(sidecar_of(trusted).read_text(encoding="utf-8"))
    del plain["identity"]
    sidecar_of(trusted).write_text(json.dumps(plain), encoding="utf-8")
    names = hashes(monkeypatch)
    assert as_written(trusted) and names == ["part.parquet"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", '"a"', "{}", json.dumps({"format": FORMAT + 1}), json.dumps({"format": FORMAT})],
)
def test_a_sidecar_that_cannot_be_read_is_as_none(table: SliceTable, text: str) -> None:
    sidecar_of(table.path(PIECE)).write_text(text)
    assert read_sidecar(table.path(PIECE)) is None
    assert table.read([PIECE]).equals(FRAME)


def test_a_file_of_an_older_version_that_cannot_be_decoded_is_not_read(table: SliceTable) -> None:
    path = table.path(PIECE)
    sidecar_of(path).unlink()
    stored = path.read_bytes()
    path.write_bytes(stored[:4] + b"\xff" * 200 + stored[204:])
    with pytest.raises(DataError, match="labels for slice 2026-01-01 again"):
        table.scan([PIECE])


def test_a_write_that_fails_keeps_the_file_and_its_sidecar(table: SliceTable, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: object, *arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.LazyFrame, "sink_parquet", full)
    with pytest.raises(StateError, match="No space left"):
        write_stored(FRAME.head(1), table.path(PIECE))
    assert table.read([PIECE]).equals(FRAME)
    assert read_sidecar(table.path(PIECE)) is not None


def test_equal_frames_are_equal_files_however_they_were_made(tmp_path: Path) -> None:
    """A part of a frame and the same rows alone: who reads a table knows it by its file's digest."""
    texts = [["click", "interactions", "a word of more than twelve bytes"][: row % 4] for row in range(60_000)]
    whole = pl.DataFrame(
        {
            "slice": [row // 10_000 for row in range(60_000)],
            "texts": [None if row % 7 == 0 else text for row, text in enumerate(texts)],
            "ids": [list(range(row % 5)) for row in range(60_000)],
            "floats": pl.Series([[row / 3] * 2 for row in range(60_000)], dtype=pl.List(pl.Float32)),
            "text": [f"number {row % 100} of a hundred" for row in range(60_000)],
        }
    )
    part = whole.filter(slice=3)
    alone = pl.DataFrame(part.to_dict(as_series=False), schema=part.schema)
    assert part.equals(alone)
    for number, frame in enumerate((part, alone, part.rechunk(), pl.concat([part.head(5000), part.tail(-5000)]))):
        assert frame.equals(part)
        write_stored(frame, tmp_path / f"{number}.parquet")
    assert len({(tmp_path / f"{number}.parquet").read_bytes() for number in range(4)}) == 1
    assert pl.read_parquet(tmp_path / "0.parquet").equals(part)


def test_files_are_hashed_beside_other_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there, gone = tmp_path / "there.parquet", tmp_path / "gone.parquet"
    write_stored(FRAME, there)
    sidecar._hashed.cache_clear()
    with hashed_beside([gone, there]):
        pass
    monkeypatch.setattr(hashlib, "file_digest", None)  # nothing is read again
    assert as_written(there, by_bytes=True)
    with pytest.raises(FileNotFoundError):
        as_written(gone)
