"""Reading the canonical log: the files of the days that a window touches, checked against the contract.

Belongs here: reading files. Not here: the contract itself (contract.py), where files lie (layout.py), slices on disk
(tables.py).
"""

from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import gettempdir

import polars as pl

from exfm.stream import Stream
from pipeline.parts import NARROW
from pipeline.streams.contract import (
    AGAIN,
    TIME,
    UTC,
    cast_to,
    counted_at,
    in_window,
    keys_of,
    may_lack,
    moment,
    rules,
    schema_of,
    sound_rules,
)
from pipeline.streams.footers import in_its_day, may_hold, may_hold_ids, rows_of
from pipeline.streams.layout import LogFiles, find_files
from pipeline.streams.repeats import Repeats, ids_by_groups
from pipeline.streams.windows import Window, cut_by_time
from pipeline.tables import UNREADABLE, DataError, is_whole
from pipeline.transforms.ordering import in_order
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
    """Read [start, end) of ``impressions``, ``outcomes`` or ``interactions`` whole: see ``read_log_in_parts``."""
    return whole(read_log_in_parts(log, stream, table, start, end, files))


def whole(parts: Iterable[LogRead]) -> LogRead:
    """Parts of a window as one."""
    listed = list(parts)
    return LogRead(
        frame=pl.concat([each.frame for each in listed]),
        quarantine=pl.concat([each.quarantine for each in listed], how="diagonal"),
        rows_read=sum(each.rows_read for each in listed),
    )


def read_log_in_parts(
    log: Path,
    stream: Stream,
    table: str,
    start: datetime,
    end: datetime,
    files: LogFiles | None = None,
    aside: Path | None = None,
) -> Iterator[LogRead]:
    """Read [start, end) of a table in parts of at most ``Stream.part_rows`` rows (of outcomes and interactions, which
    have few columns, ``NARROW`` times as many), one after the other in time.

    A window without any file is empty: a stream may pause. An ``impression_id`` that a sound row before this one has,
    in the window or up to ``LOOK_BACK`` (or the longest attribution window and lateness) before it, is quarantined.
    What is kept depends on the log alone, not on which slices were read before, nor on how large parts are. Rows of one
    moment are in one part, however many they are.

    Args:
        files: of the table, if they are listed already.
        aside: a folder in which ids are put aside that don't fit into memory; the system's own for such files if none.

    Raises:
        DataError: if the log's folders, a column or a type is not as the contract says, or a file is cut short.
    """
    listed = files or find_files(log, table)
    windows, repeats = _windows(listed, stream, start, end), None
    for first, last in windows:
        wanted = in_window(table, first, last, stream.first_slice)
        rows = _read(listed, stream, _of_window(listed, first, last), wanted, (first, last))
        if table == "impressions":
            if repeats is None:
                earlier = partial(_earlier, listed, stream, start)
                read = rows.lazy() if len(windows) == 1 else _ids_in(listed, stream, start, end)
                about = max(rows.height, (len(windows) - 1) * stream.part_rows)
                groups = ids_by_groups(read, about, aside or Path(gettempdir()))
                with _naming_one_of(listed, _of_window(listed, start, end)), closing(groups) as ids:
                    repeats = Repeats.among(ids, earlier)
            rows = repeats.mark(rows, [broken for broken, _ in sound_rules(stream, table)])
        kept, broken = part(rows, rules(stream, table))
        if repeats is not None:
            kept, repeated = repeats.part_earlier(kept)
            broken = pl.concat([broken, repeated])
        yield LogRead(_contract_columns(kept), _contract_columns(broken), rows.height)


def _contract_columns(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.drop("_day", AGAIN, strict=False)


def _windows(files: LogFiles, stream: Stream, start: datetime, end: datetime) -> list[Window]:
    """The window, cut so that each part's rows fit into memory: by footers where those say that all of it does."""
    chosen = _of_window(files, start, end)
    most = stream.part_rows if files.table == "impressions" else NARROW * stream.part_rows
    if sum(rows_of(path) for _, path in chosen) <= most:
        return [(start, end)]
    time = TIME[files.table]

    def count(first: datetime, last: datetime, step: timedelta) -> pl.DataFrame:
        at = counted_at(files.table, stream.first_slice)
        number = (at - first).dt.total_microseconds() // int(step / timedelta(microseconds=1))
        wanted = (at >= first) & (at < last)
        counted = [
            _file(path, files, {time: UTC}).with_columns(pl.lit(day).alias("_day")).filter(wanted).select(step=number)
            for day, path in _of_window(files, first, last)
        ]
        return _collected(pl.concat(counted).group_by("step").len(), files, _of_window(files, first, last))

    return cut_by_time(start, end, most, count)


def _ids_in(files: LogFiles, stream: Stream, start: datetime, end: datetime) -> pl.LazyFrame:
    """``impression_id`` of the window's rows that have a time in it, to be read when it is collected."""
    time, schema = pl.col(TIME["impressions"]), {"impression_id": pl.Int64(), TIME["impressions"]: UTC}
    frames = [_file(path, files, schema) for _, path in _of_window(files, start, end)]
    return pl.concat(frames).filter(time >= start, time < end).select("impression_id")


def _collected(rows: pl.LazyFrame, files: LogFiles, chosen: Iterable[tuple[date, Path]]) -> pl.DataFrame:
    """Rows of several files at once.

    Raises:
        DataError: for the file that is damaged.
    """
    with _naming_one_of(files, chosen):
        return rows.collect(engine="streaming")


@contextmanager
def _naming_one_of(files: LogFiles, chosen: Iterable[tuple[date, Path]]) -> Iterator[None]:
    """Damage in one of several files as a sentence that names it."""
    try:
        yield
    except UNREADABLE as error:
        for _, path in chosen:
            with _naming(path, files):
                pl.scan_parquet(path, hive_partitioning=False, glob=False).collect(engine="streaming")
        raise DataError(f"{files.table}: files can't be read ({error}): write them again") from error


def _of_window(files: LogFiles, start: datetime, end: datetime) -> list[tuple[date, Path]]:
    """The files that may hold rows of a window: a day may have many files, and each slice reads its own."""
    return [(day, path) for day, path in files.between(start, end) if may_hold(path, day, files.table, start, end)]


def _read(
    files: LogFiles,
    stream: Stream,
    chosen: Iterable[tuple[date, Path]],
    wanted: pl.Expr,
    window: Window,
) -> pl.DataFrame:
    """The wanted rows of some files, in the contract's order, with ``_day``."""
    expected = schema_of(stream, files.table)
    empty = pl.DataFrame(schema={**expected, "_day": pl.Date})
    lacking = may_lack(stream, files.table)
    frames = [_read_file(path, day, files, expected, wanted, window, lacking) for day, path in chosen]
    order = [TIME[files.table], *keys_of(stream, files.table)]
    return in_order(pl.concat([empty, *frames]), order)


def _file(
    path: Path,
    files: LogFiles,
    expected: dict[str, pl.DataType],
    lacking: frozenset[str] = frozenset(),
    only: Window | None = None,
) -> pl.LazyFrame:
    """A file's columns as the contract has them, not yet read.

    Args:
        only: rows outside it are not read, where the file tells their time without a cast.
    """
    time = TIME[files.table]
    with _naming(path, files):
        if not is_whole(path):
            raise pl.exceptions.ComputeError("its ends are not those of a parquet file")
        frame = pl.scan_parquet(path, hive_partitioning=False, glob=False)
        if only is not None and frame.collect_schema().get(time) == UTC:
            frame = frame.filter(pl.col(time) >= moment(only[0]), pl.col(time) < moment(only[1]))
        return cast_to(frame, expected, files.table, files.where(path), lacking)


def _read_file(
    path: Path,
    day: date,
    files: LogFiles,
    expected: dict[str, pl.DataType],
    wanted: pl.Expr,
    window: Window,
    lacking: frozenset[str] = frozenset(),
) -> pl.DataFrame:
    """A file's wanted rows; file by file, so that a damaged one can be named."""
    frame = _file(path, files, expected, lacking, window if in_its_day(path, day, files.table) else None)
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
    rows = _read(files, stream, chosen, before & pl.col("impression_id").is_in(ids.implode()), (since, start))
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
    matches = pl.concat(columns).join(requested, on="impression_id", how="semi").select("file").unique()
    held = _collected(matches, files, chosen)["file"]
    return [chosen[index] for index in held.sort()]
