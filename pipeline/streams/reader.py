"""Reading the canonical log: the files of the days that a window touches, checked against the contract.

Belongs here: reading files. Not here: the contract itself (contract.py), where files lie (layout.py), slices on disk
(tables.py).
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import polars as pl

from exfm.stream import Stream
from pipeline.streams.contract import (
    TIME,
    UTC,
    cast_to,
    in_window,
    keys_of,
    may_lack,
    rules,
    schema_of,
    sound_rules,
)
from pipeline.streams.footers import may_hold, may_hold_ids
from pipeline.streams.layout import LogFiles, find_files
from pipeline.tables import UNREADABLE, DataError, is_whole
from pipeline.transforms.quarantine import part

LOOK_BACK = timedelta(days=31)  # how far a repeated impression_id is looked for, if no attribution window is longer


@dataclass(frozen=True)
class LogRead:
    """A window of one table of the log.

    Args:
        frame: rows that keep the contract, by time, then keys.
        quarantine: the others, with ``reason``.
        rows_read: all of them.
    """

    frame: pl.DataFrame
    quarantine: pl.DataFrame
    rows_read: int


def read_log(
    log: Path, stream: Stream, table: str, start: datetime, end: datetime, files: LogFiles | None = None
) -> LogRead:
    """Read [start, end) of ``impressions``, ``outcomes`` or ``interactions``.

    A window without any file is empty: a stream may pause. An ``impression_id`` that a sound row before this one has,
    in the window or up to ``LOOK_BACK`` (or the longest attribution window and lateness) before it, is quarantined.
    What is kept depends on the log alone, not on which slices were read before.

    Args:
        files: of the table, if they are listed already.

    Raises:
        DataError: if the log's folders, a column or a type is not as the contract says, or a file is cut short.
    """
    listed = files or find_files(log, table)
    wanted = in_window(table, start, end, stream.first_slice)
    rows = _read(listed, stream, _of_window(listed, start, end), wanted)
    kept, broken = part(rows, rules(stream, table))
    if table == "impressions":
        kept, repeated = _part_repeated(kept, _earlier(listed, stream, start, kept["impression_id"]))
        broken = pl.concat([broken, repeated])
    return LogRead(frame=kept.drop("_day"), quarantine=broken.drop("_day"), rows_read=rows.height)


def _of_window(files: LogFiles, start: datetime, end: datetime) -> list[tuple[date, Path]]:
    """The files that may hold rows of a window: a day may have many files, and each slice reads its own."""
    return [(day, path) for day, path in files.between(start, end) if may_hold(path, day, files.table, start, end)]


def _read(files: LogFiles, stream: Stream, chosen: Iterable[tuple[date, Path]], wanted: pl.Expr) -> pl.DataFrame:
    """The wanted rows of some files, in the contract's order, with ``_day``."""
    expected = schema_of(stream, files.table)
    empty = pl.DataFrame(schema={**expected, "_day": pl.Date})
    lacking = may_lack(stream, files.table)
    frames = [_read_file(path, day, files, expected, wanted, lacking) for day, path in chosen]
    order = [TIME[files.table], *keys_of(stream, files.table)]
    return pl.concat([empty, *frames]).sort(order, maintain_order=True, nulls_last=True)


def _file(
    path: Path, files: LogFiles, expected: dict[str, pl.DataType], lacking: frozenset[str] = frozenset()
) -> pl.LazyFrame:
    """A file's columns as the contract has them, not yet read."""
    with _naming(path, files):
        if not is_whole(path):
            raise pl.exceptions.ComputeError("its ends are not those of a parquet file")
        frame = pl.scan_parquet(path, hive_partitioning=False, glob=False)
        return cast_to(frame, expected, files.table, files.where(path), lacking)


def _read_file(
    path: Path,
    day: date,
    files: LogFiles,
    expected: dict[str, pl.DataType],
    wanted: pl.Expr,
    lacking: frozenset[str] = frozenset(),
) -> pl.DataFrame:
    """A file's wanted rows; file by file, so that a damaged one can be named."""
    frame = _file(path, files, expected, lacking)
    with _naming(path, files):
        return frame.with_columns(pl.lit(day).alias("_day")).filter(wanted).collect()


def rows_of_file(files: LogFiles, path: Path) -> int:
    """How many rows a file has, from its footer."""
    with _naming(path, files):
        return int(pl.scan_parquet(path, hive_partitioning=False, glob=False).select(pl.len()).collect().item())


def columns_of_file(files: LogFiles, path: Path) -> list[str]:
    """The names of a file's columns, from its footer."""
    with _naming(path, files):
        return pl.scan_parquet(path, hive_partitioning=False, glob=False).collect_schema().names()


def times_of_file(files: LogFiles, path: Path) -> pl.Series:
    """The times of a file's rows, UTC."""
    time = TIME[files.table]
    with _naming(path, files):
        return _file(path, files, {time: UTC}).collect()[time]


@contextmanager
def _naming(path: Path, files: LogFiles) -> Iterator[None]:
    """Damage as a sentence that names the file."""
    where = f"{files.table}: {files.where(path)}"
    try:
        yield
    except UNREADABLE as error:
        raise DataError(f"{where} is not a whole parquet file (cut short or overwritten): write it again") from error
    except OSError as error:
        raise DataError(f"{where} can't be read ({error.strerror or error}): make it readable") from error


def _earlier(files: LogFiles, stream: Stream, start: datetime, ids: pl.Series) -> pl.DataFrame:
    """Which of these ids a sound row before ``start`` has: ``impression_id`` and ``_slice``, its first row's slice.

    Only the ids are read of files that hold none of them; where ids grow with time, footers tell without reading any.
    """
    no_rows = pl.DataFrame(schema={"impression_id": pl.Int64, "_slice": pl.String})
    since = max(start - max(LOOK_BACK, stream.longest_window + stream.lateness), stream.first_slice)
    if ids.is_empty() or since >= start:
        return no_rows
    before = in_window("impressions", since, start, stream.first_slice)
    chosen = _files_with_ids(files, _of_window(files, since, start), ids)
    rows = _read(files, stream, chosen, before & pl.col("impression_id").is_in(ids.implode()))
    sound, _ = part(rows, sound_rules(stream, "impressions"))
    first = sound.group_by("impression_id").agg(pl.col("event_timestamp").min())
    keys = [stream.slice_at(stream.index_at(moment)).key for moment in first["event_timestamp"]]
    return pl.concat([no_rows, first.select("impression_id", _slice=pl.Series(keys, dtype=pl.String))])


def _files_with_ids(files: LogFiles, chosen: list[tuple[date, Path]], ids: pl.Series) -> list[tuple[date, Path]]:
    """Those files that hold any of these ids: by their footers, then in one pass over the id columns of those left."""
    least, most = int(ids.min()), int(ids.max())  # type: ignore[arg-type]
    chosen = [(day, path) for day, path in chosen if may_hold_ids(path, "impression_id", least, most)]
    requested = pl.LazyFrame({"impression_id": ids})
    schema: dict[str, pl.DataType] = {"impression_id": pl.Int64()}
    within = pl.col("impression_id").is_between(least, most)
    columns = [
        _file(path, files, schema).filter(within).with_columns(pl.lit(index, pl.Int32).alias("file"))
        for index, (_, path) in enumerate(chosen)
    ]
    if not columns:
        return []
    try:
        matches = pl.concat(columns).join(requested, on="impression_id", how="semi").select("file").unique().collect()
    except UNREADABLE as error:
        for day, path in chosen:
            _read_file(path, day, files, schema, within)
        raise DataError(f"impressions: files before the slice can't be read ({error}): write them again") from error
    return [chosen[index] for index in sorted(matches["file"])]


def _part_repeated(kept: pl.DataFrame, earlier: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rows whose id no earlier slice has, and the others with the reason."""
    joined = kept.join(earlier, on="impression_id", how="left", maintain_order="left")
    reason = pl.format("repeated impression_id: {} is in slice {} already", pl.col("impression_id"), pl.col("_slice"))
    repeated = joined.filter(pl.col("_slice").is_not_null()).with_columns(reason=reason).drop("_slice")
    return joined.filter(pl.col("_slice").is_null()).drop("_slice"), repeated
