"""Reading the canonical log: the files of the days that a window touches, checked against the contract.

Belongs here: finding and reading files. Not here: the contract itself (contract.py), slices on disk (tables.py).
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from exfm_assets.streams.contract import TIME, cast_to, in_window, keys_of, rules, schema_of
from exfm_assets.tables import UNREADABLE, DataError, is_whole
from exfm_assets.transforms.quarantine import part
from projects.stream import Stream

HIDDEN = "._"  # how writers begin the name of a file that is not finished, and engines agree not to read it


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


def read_log(log: Path, stream: Stream, table: str, start: datetime, end: datetime) -> LogRead:
    """Read [start, end) of ``impressions``, ``outcomes`` or ``interactions``.

    A window without any file is empty: a stream may pause. A repeated ``impression_id`` is found within the window;
    across windows the first slice's row stands, and the check on the labels' keys tells.

    Raises:
        DataError: if the log's folder, a column or a type is not as the contract says, or a file is cut short.
    """
    folder = log / table
    if not folder.is_dir():
        raise DataError(f"log: {log} has no folder {table}/: set EXFM_DATA to the folder that holds it")
    expected = schema_of(stream, table)
    wanted = in_window(table, start, end)
    frames = [_read_file(path, day, table, expected, wanted) for path, day in window_files(log, table, start, end)]
    empty = pl.DataFrame(schema={**expected, "_day": pl.Date})
    order = [TIME[table], *keys_of(stream, table)]
    rows = pl.concat([empty, *frames]).sort(order, maintain_order=True, nulls_last=True)
    kept, broken = part(rows, rules(stream, table))
    return LogRead(frame=kept.drop("_day"), quarantine=broken.drop("_day"), rows_read=rows.height)


def window_files(log: Path, table: str, start: datetime, end: datetime) -> list[tuple[Path, datetime]]:
    """The files that a read of [start, end) looks at, with their folder's day, in the order of reading."""
    return [
        (path, day)
        for day in _days(start, end)
        for path in sorted((log / table / f"day={day:%Y-%m-%d}").glob("*.parquet"))
        if path.name[0] not in HIDDEN
    ]


def _days(start: datetime, end: datetime) -> list[datetime]:
    first = start.replace(hour=0, minute=0, second=0, microsecond=0)
    return [
        first + timedelta(days=day)
        for day in range((end - first) // timedelta(days=1) + 1)
        if first + timedelta(days=day) < end
    ]


def _read_file(
    path: Path, day: datetime, table: str, expected: dict[str, pl.DataType], wanted: pl.Expr
) -> pl.DataFrame:
    """A file's wanted rows; file by file, so that a damaged one can be named."""
    where = f"{path.parent.name}/{path.name}"
    damaged = f"{table}: {where} is not a whole parquet file (cut short or overwritten): write it again"
    if not is_whole(path):
        raise DataError(damaged)
    try:
        rows = cast_to(pl.scan_parquet(path, hive_partitioning=False), expected, table, where)
        return rows.with_columns(pl.lit(day.date()).alias("_day")).filter(wanted).collect()
    except UNREADABLE as error:
        raise DataError(damaged) from error
