"""Sliced parquet tables: one folder a slice, one file in it, replaced in one step.

Belongs here: writing so that nobody sees half, reading so that a damaged file says what to do.
Not here: what a table holds (streams/contract.py), where it lies (projects/state.py).
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from projects.aside import aside_of
from projects.stream import Slice, Stream
from projects.writing import refusal, unwritable

PART = "part.parquet"
UNREADABLE = (pl.exceptions.ComputeError, pl.exceptions.InvalidOperationError)  # what a damaged footer or page raises


class DataError(ValueError):
    """Data that can't be used: one sentence that names the table, the file or slice, and the mend."""


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame so that ``path`` holds either what it held before or all of the frame.

    The name of the unfinished file ends in neither ``.parquet`` nor anything else that a reader globs.

    Raises:
        DataError: if the system refuses to write (no room, read-only, no permission).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = aside_of(path)
        try:
            with aside.open("wb") as file:
                frame.write_parquet(file, compression="zstd", statistics=True)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    except (OSError, pl.exceptions.ComputeError) as error:
        refused = refusal(error)
        if refused is None:
            raise
        raise DataError(unwritable(path, refused)) from error


@dataclass(frozen=True)
class SliceTable:
    """A table cut into slices, ``<folder>/slice=<key>/part.parquet``.

    Args:
        name: how messages call it, and the asset that makes it.
    """

    folder: Path
    name: str

    def path(self, piece: Slice) -> Path:
        return self.folder / piece.folder / PART

    def has(self, piece: Slice) -> bool:
        return self.path(piece).is_file()

    def write(self, piece: Slice, frame: pl.DataFrame) -> None:
        write_parquet(frame, self.path(piece))

    def stored(self, stream: Stream) -> list[Slice]:
        """The slices that are there, oldest first."""
        folders = {path.parent.name for path in self.folder.glob(f"slice=*/{PART}")}
        return [piece for piece in stream.slices(stream.first_slice, datetime.now(UTC)) if piece.folder in folders]

    def newest(self, stream: Stream) -> Slice | None:
        """The newest slice that is there."""
        stored = self.stored(stream)
        return stored[-1] if stored else None

    def scan(self, pieces: Iterable[Slice]) -> pl.LazyFrame:
        """The slices one after the other, read when collected.

        Raises:
            DataError: if a slice is missing, its file is not whole, or slices differ in their columns. Damage inside
                a file's pages shows only when they are read: ``read`` words it, here it is an error of polars.
        """
        listed = list(pieces)
        if not listed:
            raise DataError(f"{self.name}: no slice was asked for: name at least one")
        first, *others = listed
        columns = self._schema(first)
        for piece in others:
            self._check_same(first, columns, piece, self._schema(piece))
        return pl.concat([pl.scan_parquet(self.path(piece), hive_partitioning=False, glob=False) for piece in listed])

    def read(self, pieces: Iterable[Slice], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The slices one after the other.

        Raises:
            DataError: if a slice is missing, its file is not whole, or it lacks a column or has others than the rest.
        """
        listed = list(pieces)
        found = self.scan(listed).collect_schema()
        for column in columns or ():
            if column not in found:
                where = f"no such column in slice {listed[0].key}"
                raise DataError(f"{self.name}.{column}: {where}: materialise {self.name} for it again")
        return pl.concat([self._collect(piece, columns) for piece in listed])

    def _collect(self, piece: Slice, columns: Sequence[str] | None) -> pl.DataFrame:
        frame = pl.scan_parquet(self.path(piece), hive_partitioning=False, glob=False)
        try:
            return (frame if columns is None else frame.select(columns)).collect()
        except UNREADABLE as error:
            raise self._damaged(piece) from error

    def rows(self, piece: Slice) -> int:
        """How many rows a slice has, from the file's footer."""
        count: int = self.scan([piece]).select(pl.len()).collect().item()
        return count

    def digest(self, piece: Slice) -> str:
        """Twelve hex digits of the file's content."""
        self._check(piece)
        with self.path(piece).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:12]

    def _check(self, piece: Slice) -> None:
        path = self.path(piece)
        if not path.is_file():
            raise DataError(f"{self.name} has no slice {piece.key}: materialise {self.name} for it first")
        if not is_whole(path):
            raise self._damaged(piece)

    def _schema(self, piece: Slice) -> dict[str, pl.DataType]:
        self._check(piece)
        try:
            return dict(pl.scan_parquet(self.path(piece), hive_partitioning=False, glob=False).collect_schema())
        except UNREADABLE as error:
            raise self._damaged(piece) from error

    def _check_same(
        self, first: Slice, columns: dict[str, pl.DataType], other: Slice, others: dict[str, pl.DataType]
    ) -> None:
        if list(columns.items()) == list(others.items()):
            return
        differing = sorted({name for name, _ in columns.items() ^ others.items()})
        raise DataError(
            f"{self.name}: slice {other.key} has other columns than slice {first.key} "
            f"({', '.join(differing) or 'their order'}): materialise {self.name} for both again"
        )

    def _damaged(self, piece: Slice) -> DataError:
        path = self.path(piece)
        return DataError(
            f"{self.name}: {path.parent.name}/{path.name} is not a whole parquet file (cut short or overwritten): "
            f"materialise {self.name} for slice {piece.key} again"
        )


def is_whole(path: Path) -> bool:
    """Does the file begin and end as a parquet file does, with a footer that fits into it?"""
    size = path.stat().st_size
    if size < 12:
        return False
    with path.open("rb") as file:
        head = file.read(4)
        file.seek(-8, os.SEEK_END)
        footer, tail = int.from_bytes(file.read(4), "little"), file.read(4)
    return head == tail == b"PAR1" and footer <= size - 12
