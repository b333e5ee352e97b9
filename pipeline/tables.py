"""Sliced parquet tables: one folder a slice, one file in it, replaced in one step.

Belongs here: writing so that no reader sees half a file, reading so that a damaged file says what to do.
Not here: what a table holds (streams/contract.py), where it lies (exfm/state.py).
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from exfm.atomic_write import atomic_write
from exfm.stream import PART_ROWS, Slice, Stream
from exfm.writing import StateError
from pipeline.sidecar import (
    LogFile,
    Sidecar,
    Written,
    as_written,
    known_as,
    put_sidecar,
    read_sidecar,
    sha256_of,
    write_stored,
)

PART = "part.parquet"
UNREADABLE = (pl.exceptions.ComputeError, pl.exceptions.InvalidOperationError)  # what a damaged footer or page raises


class DataError(ValueError):
    """Data that can't be used: one sentence that names the table, the file or slice, and the remedy."""


class UnsettledError(DataError):
    """Two tables that are not of the same rows: one of them is being made again, or has to be."""


@contextmanager
def naming_damage(*looks: Callable[[], object]) -> Iterator[None]:
    """For a reader that is not ours: where it fails, look whether it is for a damaged file of ours, and say which.

    Args:
        looks: each raises a DataError if it finds one.
    """
    try:
        yield
    except DataError:
        raise
    except Exception:
        for look in looks:
            look()
        raise


def write_parquet(frame: pl.DataFrame, path: Path) -> None:
    """Write a frame so that ``path`` holds either what it held before or all of the frame.

    Raises:
        DataError: if the system refuses to write (no room, read-only, no permission).
    """
    try:
        with atomic_write(path) as file:
            frame.write_parquet(file, compression="zstd", statistics=True)
    except StateError as error:
        raise DataError(str(error)) from error


@dataclass(frozen=True)
class SliceTable:
    """A table cut into slices, ``<folder>/slice=<key>/part.parquet``.

    Args:
        name: how messages call it, and the asset that makes it.
        asset: the asset that makes it, where that is called otherwise.
        by_column: whether its readers want some columns, and so digests of each.
        part_rows: how many rows are read and written at once.
    """

    folder: Path
    name: str
    asset: str | None = None
    by_column: bool = False
    part_rows: int = PART_ROWS

    def path(self, slice_: Slice) -> Path:
        return self.folder / slice_.folder / PART

    def has(self, slice_: Slice) -> bool:
        return self.path(slice_).is_file()

    def sound(self, slice_: Slice) -> bool:
        """Is the slice there, as it was written, by its bytes?"""
        return self.has(slice_) and is_whole(self.path(slice_)) and as_written(self.path(slice_), by_bytes=True)

    def check(self, slices: Iterable[Slice]) -> None:
        """Look at the bytes of the slices that are there, for readers that are not ours.

        Raises:
            DataError: if one of them is not what was written.
        """
        for slice_ in slices:
            if self.has(slice_):
                self._check(slice_, by_bytes=True)

    def check_all(self, stream: Stream) -> None:
        """The same of every slice that is there."""
        self.check(self.stored(stream))

    def sound_path(self, slice_: Slice) -> Path:
        """The slice's file, for readers that are not ours.

        Raises:
            DataError: if it is missing or is not what was written.
        """
        self._check(slice_)
        return self.path(slice_)

    def write(
        self,
        slice_: Slice,
        rows: pl.DataFrame | Iterable[pl.DataFrame],
        made_of: Mapping[str, str] | None = None,
        log: Mapping[str, Mapping[str, LogFile]] | None = None,
        notes: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None,
    ) -> Written:
        """Write a slice, whole or in parts; beside it what it was made of and what is reported of it (sidecar.py)."""
        try:
            return write_stored(rows, self.path(slice_), made_of, log, notes, self.by_column, self.part_rows)
        except StateError as error:
            raise DataError(str(error)) from error

    def standing(self, slice_: Slice, made_of: Mapping[str, str]) -> Sidecar | None:
        """The sidecar of a slice that need not be made again: it is whole, and made of just this; else ``None``."""
        if not self.has(slice_):
            return None
        sidecar = read_sidecar(self.path(slice_))
        if sidecar is None or dict(sidecar.made_of) != dict(made_of) or not self.sound(slice_):
            return None
        return sidecar

    def note(self, slice_: Slice, sidecar: Sidecar, log: Mapping[str, Mapping[str, LogFile]]) -> None:
        """Write a slice's sidecar again, with the files of the log as they are now."""
        put_sidecar(self.path(slice_), replace(sidecar, log=log))

    def sidecar(self, slice_: Slice) -> Sidecar | None:
        """What a slice's file was when it was written; ``None`` if it is not there, or does not say."""
        return read_sidecar(self.path(slice_)) if self.has(slice_) else None

    def stored(self, stream: Stream) -> list[Slice]:
        """The slices that are there, oldest first."""
        folders = {path.parent.name for path in self.folder.glob(f"slice=*/{PART}")}
        return [slice_ for slice_ in stream.slices(stream.first_slice, datetime.now(UTC)) if slice_.folder in folders]

    def newest(self, stream: Stream) -> Slice | None:
        """The newest slice that is there."""
        stored = self.stored(stream)
        return stored[-1] if stored else None

    def scan(self, slices: Iterable[Slice]) -> pl.LazyFrame:
        """The slices one after the other, read when collected.

        Raises:
            DataError: if a slice is missing, its file is not what was written, or slices differ in their columns.
                Damage inside the pages of a file without a sidecar shows only when they are read: ``read`` words it,
                here it is an error of polars.
        """
        listed = list(slices)
        if not listed:
            raise DataError(f"{self.name}: no slice was asked for: name at least one")
        first, *others = listed
        columns = self.schema(first)
        for slice_ in others:
            self._check_same(first, columns, slice_, self.schema(slice_))
        return pl.concat([pl.scan_parquet(self.path(slice_), hive_partitioning=False, glob=False) for slice_ in listed])

    def read(self, slices: Iterable[Slice], columns: Sequence[str] | None = None) -> pl.DataFrame:
        """The slices one after the other.

        Raises:
            DataError: if a slice is missing, its file is not whole, or it lacks a column or has others than the rest.
        """
        listed = list(slices)
        schema = self.scan(listed).collect_schema()
        for column in columns or ():
            if column not in schema:
                where = f"no such column in slice {listed[0].key}"
                raise DataError(f"{self.name}.{column}: {where}: materialise {self._maker} for it again")
        return pl.concat([self._collect(slice_, columns) for slice_ in listed])

    def parts(self, slice_: Slice, columns: Sequence[str] | None = None, at_once: int = 1) -> Iterator[pl.DataFrame]:
        """A slice's rows in parts of ``part_rows``, at least one, read when they are asked for.

        Args:
            at_once: so many parts are read together, which is faster where they have few columns.

        Raises:
            DataError: as ``read``.
        """
        together = at_once * self.part_rows
        for start in range(0, max(self.rows(slice_), 1), together):
            waiting = self._cut(self._collect(slice_, columns, start, together))
            while waiting:  # held here is none that was given
                yield waiting.pop(0)

    def _cut(self, rows: pl.DataFrame) -> list[pl.DataFrame]:
        whole = rows.rechunk() if rows.height > self.part_rows else rows  # once, not in every part
        return [whole.slice(first, self.part_rows) for first in range(0, max(rows.height, 1), self.part_rows)]

    def _collect(
        self, slice_: Slice, columns: Sequence[str] | None, start: int = 0, rows: int | None = None
    ) -> pl.DataFrame:
        frame = pl.scan_parquet(self.path(slice_), hive_partitioning=False, glob=False)
        try:
            chosen = frame if columns is None else frame.select(columns)
            return chosen.slice(start, rows).collect()
        except UNREADABLE as error:
            raise self._damaged(slice_) from error

    def rows(self, slice_: Slice) -> int:
        """How many rows a slice has, from the file's footer."""
        count: int = self.scan([slice_]).select(pl.len()).collect().item()
        return count

    def digest(self, slice_: Slice) -> str:
        """Twelve hex digits of the file's content."""
        self._check(slice_)
        sidecar = read_sidecar(self.path(slice_))
        return (sha256_of(self.path(slice_)) if sidecar is None else sidecar.sha256)[:12]

    def noted(self, slice_: Slice) -> str | None:
        """The same by the file's sidecar, without reading the file; ``None`` if the slice is not there."""
        if not self.has(slice_):
            return None
        sidecar = read_sidecar(self.path(slice_))
        return (sidecar.sha256 if sidecar is not None else sha256_of(self.path(slice_)))[:12]

    def known_as(self, slice_: Slice, columns: Iterable[str]) -> tuple[str, ...]:
        """Digests under which some columns of a slice are known, the one to use first; none if it is not there."""
        return known_as(self.path(slice_), columns) if self.has(slice_) else ()

    def _check(self, slice_: Slice, *, by_bytes: bool = False) -> None:
        path = self.path(slice_)
        if not path.is_file():
            raise DataError(f"{self.name} has no slice {slice_.key}: materialise {self._maker} for it first")
        if not is_whole(path) or not as_written(path, by_bytes=by_bytes):
            raise self._damaged(slice_)

    def schema(self, slice_: Slice) -> dict[str, pl.DataType]:
        """The columns of a slice and their types.

        Raises:
            DataError: as in ``scan``.
        """
        self._check(slice_)
        try:
            return dict(pl.scan_parquet(self.path(slice_), hive_partitioning=False, glob=False).collect_schema())
        except UNREADABLE as error:
            raise self._damaged(slice_) from error

    def _check_same(
        self, first: Slice, columns: dict[str, pl.DataType], other: Slice, others: dict[str, pl.DataType]
    ) -> None:
        if list(columns.items()) == list(others.items()):
            return
        differing = sorted({name for name, _ in columns.items() ^ others.items()})
        raise DataError(
            f"{self.name}: slice {other.key} has other columns than slice {first.key} "
            f"({', '.join(differing) or 'their order'}): materialise {self._maker} for both again"
        )

    def _damaged(self, slice_: Slice) -> DataError:
        path = self.path(slice_)
        return DataError(
            f"{self.name}: {path.parent.name}/{path.name} is not a whole parquet file (cut short or overwritten): "
            f"materialise {self._maker} for slice {slice_.key} again"
        )

    @property
    def _maker(self) -> str:
        return self.asset or self.name


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
