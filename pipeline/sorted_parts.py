"""Rows of several files in one order, more of them than fit into memory.

Belongs here: merging files that are sorted already, moment by moment, and sorting by DuckDB. Not here: which rows they
are.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from pipeline.imports.connection import connected
from pipeline.parts import folder_aside
from pipeline.transforms.inputs import rows_of

LEAST_BATCH, MOST_BATCH = (
    1 << 8,
    1 << 16,
)  # rows of a file that are read at once: of fewer it is slow, of more no faster


class _File:
    """A file's rows in their order, of which those that were taken are gone."""

    def __init__(self, path: Path, by: str, schema: pl.Schema, batch: int) -> None:
        self._file, self._by, self._schema = pq.ParquetFile(path), by, schema
        self._batches = self._file.iter_batches(batch)
        self._rows = pl.DataFrame(schema=schema)

    def first(self) -> datetime | None:
        """The moment of the first row that is left, if one is."""
        while self._rows.is_empty():
            batch = next(self._batches, None)
            if batch is None:
                return None
            self._rows = pl.DataFrame(pl.from_arrow(batch)).cast(self._schema)
        moment: datetime = self._rows[self._by][0]
        return moment

    def until(self, moment: datetime) -> Iterator[pl.DataFrame]:
        """Take the rows up to a moment, which is one of theirs."""
        while (first := self.first()) is not None and first <= moment:
            count = int(self._rows[self._by].search_sorted(moment, side="right"))
            yield self._rows.head(count)
            self._rows = self._rows.slice(count)

    def close(self) -> None:
        self._file.close()


class Merged:
    """Parquet files, each sorted by a moment and keys, as one: in memory are a moment's rows, and a batch of each file.

    Use it as a context. It is read once, from the earliest moment to the last.

    Args:
        files: at least one, all of one schema; all are open.
        order: a moment, and keys of which no row of that moment has those of another; without nulls.
        batch: rows of a file that are read at once, and those of its row groups.
    """

    def __init__(self, files: Sequence[Path], order: Sequence[str], batch: int = MOST_BATCH) -> None:
        self._by, self._keys = order[0], list(order[1:])
        self._empty = pl.DataFrame(schema=pl.scan_parquet(files[0], glob=False).collect_schema())
        self._files = [_File(path, self._by, self._empty.schema, batch) for path in files]

    def __enter__(self) -> "Merged":
        return self

    def __exit__(self, *error: object) -> None:
        for file in self._files:
            file.close()

    def between(self, start: datetime, end: datetime) -> Iterator[pl.DataFrame]:
        """The rows in (start, end], a moment's at a time, at least one frame; those before it are left out."""
        yield self._empty
        while (moment := self._next()) is not None and moment <= end:
            rows = pl.concat([self._empty, *(rows for file in self._files for rows in file.until(moment))])
            if moment > start:
                yield rows.sort(self._keys)

    def _next(self) -> datetime | None:
        return min((first for file in self._files if (first := file.first()) is not None), default=None)


def sorted_parts(files: Sequence[Path], chosen: pl.Expr, order: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:
    """The chosen rows of parquet files in parts, at least one, sorted in bounded memory.

    Args:
        files: of one schema, in one folder, in which what does not fit is written aside.
        order: columns without nulls; no two rows are alike in all of them.
        rows: of a part.
    """
    every = pl.scan_parquet(list(files), hive_partitioning=False, glob=False)
    schema, keys = every.collect_schema(), ", ".join(f'"{name}"' for name in order)
    yield pl.DataFrame(schema=schema)
    with folder_aside(files[0].parent, "sorted") as aside, connected(aside) as connection:
        every.filter(chosen).sink_parquet(aside / "chosen.parquet", compression="lz4")
        answer = connection.sql(f"{rows_of(aside / 'chosen.parquet')} ORDER BY {keys}")
        for batch in answer.to_arrow_reader(rows):
            yield pl.DataFrame(pl.from_arrow(batch)).cast(schema)
