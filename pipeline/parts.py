"""Parts of a slice: a slice may be larger than memory, so it is read, worked on and written by ranges of its rows.

Belongs here: cutting rows into parts. Not here: which rows they are, and what is done with them.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from contextlib import ExitStack, contextmanager, suppress
from datetime import timedelta
from itertools import islice
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import IO, TypeVar

import polars as pl
from polars.io.plugins import register_io_source

NARROW = 4  # parts of few columns are as large together as one of all
SAY_AFTER = 5.0  # seconds
PACE = " rows/s"  # by which a line that says how far something is can be told from one that says that it is done
Rows = TypeVar("Rows", bound=Sized)


def cut(frames: Iterable[pl.DataFrame], rows: int) -> Iterator[pl.DataFrame]:
    """The same rows in parts of just ``rows``, but for the last: at least one part, which may be empty.

    Equal rows make equal parts, however they came: each part is in one chunk, of which row groups are cut.

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
            yield whole.head(rows).rechunk()
            waiting, count, given = [whole.slice(rows)], count - rows, True
    if count or not given:
        yield pl.concat(waiting).rechunk()


def aside_folder(beside: Path, what: str) -> Path:
    """A new folder inside another for what one process needs for a while; what dead processes left there goes.

    No reader looks into it: its name begins with a dot.
    """
    beside.mkdir(parents=True, exist_ok=True)
    for left in beside.glob(f".{what}-*-*"):
        with suppress(OSError, ValueError):
            process, day_old = int(left.name.split("-")[1]), time.time() - left.stat().st_mtime > 86_400
            if day_old and not _is_alive(process):  # younger ones may be another machine's
                rmtree(left, ignore_errors=True)
    return Path(mkdtemp(prefix=f".{what}-{os.getpid()}-", dir=beside))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def folder_aside(beside: Path, what: str) -> Iterator[Path]:
    """``aside_folder`` for as long as a context lasts."""
    folder = aside_folder(beside, what)
    try:
        yield folder
    finally:
        rmtree(folder, ignore_errors=True)


class _Making(Exception):
    """What went wrong while parts were made, on its way through those who write them."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def apart(parts: Iterable[pl.DataFrame]) -> Iterator[Iterator[pl.DataFrame]]:
    """The same parts; an error of making them comes out as it is, and is not taken for one of writing them."""

    def made() -> Iterator[pl.DataFrame]:
        try:
            yield from parts
        except Exception as error:
            raise _Making(error) from error

    try:
        yield made()
    except _Making as making:
        raise making.error from None


def silent(message: str) -> None:
    """Where nobody listens."""


def with_progress(parts: Iterable[Rows], name: str, of: int | None, say: Callable[[str], object]) -> Iterator[Rows]:
    """The same parts; after each that took long, how far they are, how fast, and how long the others will take.

    Held here is none of them.

    Args:
        parts: of so many rows as their ``len``.
        of: rows of all parts, if that is known.
    """
    began = said = time.perf_counter()
    rows, waiting = 0, iter(parts)
    while box := list(islice(waiting, 1)):
        rows += len(box[0])
        yield box.pop()
        now = time.perf_counter()
        if now - said < SAY_AFTER:
            continue
        said, rate = now, rows / (now - began)
        far, left = "", ""
        if of is not None and of > rows and rate:
            far, left = f" of {of:,}", f", {timedelta(seconds=round((of - rows) / rate))} left"
        say(f"{name}: {rows:,}{far} rows, {rate:,.0f}{PACE}{left}")


class Spool:
    """Frames that are needed again later: in memory as long as they are few rows, then in files of a folder that goes.

    Use it as a context.

    Args:
        rows: that are in memory, at most, beside the last frame.
        beside: the folder in whose file system the files lie.
    """

    def __init__(self, rows: int, beside: Path) -> None:
        self._rows, self._beside = rows, beside
        self._held: list[pl.DataFrame] = []
        self._count = 0
        self._files: list[Path] = []

    def __enter__(self) -> "Spool":
        self._left = ExitStack()
        return self

    def __exit__(self, *error: object) -> None:
        self._left.close()

    def add(self, frame: pl.DataFrame) -> None:
        self._held.append(frame)
        self._count += frame.height
        if self._count > self._rows:
            self._spill()

    def _spill(self) -> None:
        if not self._files:
            self._folder = self._left.enter_context(folder_aside(self._beside, "spool"))
        self._files.append(self._folder / f"{len(self._files):06}.parquet")
        pl.concat(self._held, how="diagonal").write_parquet(self._files[-1], compression="lz4")
        self._held, self._count = [self._held[0].clear()], 0

    def frames(self) -> Iterator[pl.DataFrame]:
        """All of them, in the order in which they came."""
        for path in self._files:
            yield pl.read_parquet(path, hive_partitioning=False, glob=False)
        yield from self._held


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
