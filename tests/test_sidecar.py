"""Sidecars: a file is what was written or is not read; one without a readable sidecar is taken as it is."""

import hashlib
import json
from pathlib import Path

import polars as pl
import pytest

from exfm.writing import StateError
from pipeline.sidecar import FORMAT, hashed_beside, read_sidecar, sha256_of, sidecar_of, write_stored
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
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.write_bytes(b"what is in it")
    with hashed_beside([gone, there]):
        pass
    monkeypatch.setattr(hashlib, "file_digest", None)  # nothing is read again
    assert sha256_of(there) == hashlib.sha256(b"what is in it").hexdigest()
    with pytest.raises(FileNotFoundError):
        sha256_of(gone)
