"""Parts of a slice: a slice may be larger than memory, so it is read, worked on and written by ranges of its rows.

Belongs here: cutting rows into parts. Not here: which rows they are, and what is done with them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import polars as pl
from polars.io.plugins import register_io_source


def cut(frames: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The same rows in parts of just ``rows``, but for the last: at least one part, which may be empty.

    Equal rows make equal parts, however they came.

    Args:
        frames: at least one, of one schema.
    """
    waiting: list[pl.DataFrame] = []
    count, given = 0, False
    for frame in frames:
        waiting.append(frame)
        count += frame.height
        while count > rows:
            whole = pl.concat(waiting)
            yield whole.head(rows)
            waiting, count, given = [whole.slice(rows)], count - rows, True
    if count or not given:
        yield pl.concat(waiting)


def sink(parts: Iterable[pl.DataFrame], file: IO[bytes]) -> None:
    """Write parts, one after the other, as one parquet file; of one part the bytes are those of writing it whole."""
    waiting = iter(parts)
    first = next(waiting)

    def read(
        with_columns: Sequence[str] | None, predicate: pl.Expr | None, n_rows: int | None, batch_size: int | None
    ) -> Iterator[pl.DataFrame]:
        yield first
        yield from waiting

    source = register_io_source(read, schema=first.schema, is_pure=False)
    source.sink_parquet(file, compression="zstd", statistics=True)
