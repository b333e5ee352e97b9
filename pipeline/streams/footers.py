"""What the footers of the log's files say: which files can't hold a row of a window, without reading any row.

Belongs here: ranges of columns, read once a process for as long as a file stays the same. Not here: rows (reader.py).
"""

import json
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.streams.contract import TIME

Range = tuple[Any, Any] | None
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"milliseconds": 1_000, "microseconds": 1_000_000, "nanoseconds": 1_000_000_000}


def may_hold(path: Path, day: date, table: str, start: datetime, end: datetime) -> bool:
    """May a row of a file count for [start, end)?

    Rows without a time, and rows of another day than their folder's, may count anywhere.

    Args:
        day: of the file's folder.
    """
    times = _range_of(path, TIME[table])
    if times is None or not in_its_day(path, day, table):
        return True
    return _utc(times[0]) < end and _utc(times[1]) >= start


def in_its_day(path: Path, day: date, table: str) -> bool:
    """Does the footer say that every row of a file has a time, and that of its folder's day?"""
    first, times = datetime.combine(day, time(), UTC), _range_of(path, TIME[table])
    try:
        return times is not None and first <= _utc(times[0]) and _utc(times[1]) < first + timedelta(days=1)
    except (TypeError, AttributeError):  # no times
        return False


def may_hold_ids(path: Path, column: str, least: int, most: int) -> bool:
    """May a row of a file have an id in [least, most]?"""
    ids = _range_of(path, column)
    if ids is None or not all(isinstance(bound, int) for bound in ids):
        return True
    return bool(ids[0] <= most and ids[1] >= least)


def rows_of(path: Path) -> int:
    """How many rows a file has; 0 of one that can't be read."""
    stat = path.stat()
    return _rows(path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=100_000)
def _rows(path: Path, identity: tuple[int, ...]) -> int:
    try:
        return int(_footer(path).num_rows)
    except (pa.ArrowException, OSError, ValueError):
        return 0


def _footer(path: Path) -> pq.FileMetaData:
    """As ``pq.read_metadata(path)``, which takes 20 ms to open the first path of a process."""
    with path.open("rb") as file:
        return pq.read_metadata(file)


def _range_of(path: Path, column: str) -> Range:
    stat = path.stat()
    return _read(path, column, (stat.st_ino, stat.st_size, stat.st_mtime_ns))


@lru_cache(maxsize=100_000)
def _read(path: Path, column: str, identity: tuple[int, ...]) -> Range:
    """The least and the greatest value of a column; ``None`` where the footer does not know, or some rows have none."""
    try:
        footer = _footer(path)
        # Of leaves, not of fields: one that is nested before it has several.
        index = [footer.schema.column(leaf).path for leaf in range(footer.num_columns)].index(column)
        groups = [footer.row_group(group).column(index).statistics for group in range(footer.num_row_groups)]
        if not all(stats is not None and stats.has_min_max and stats.null_count == 0 for stats in groups) or not groups:
            return None
        if (per_second := _per_second(groups[0])) is not None:
            # Of times pyarrow would make Python's, and import pandas for it, which takes as long as a small plan.
            least, most = min(stats.min_raw for stats in groups), max(stats.max_raw for stats in groups)
            return _moment(least, per_second), _moment(most, per_second)
        return min(stats.min for stats in groups), max(stats.max for stats in groups)
    except (pa.ArrowException, OSError, ValueError, TypeError, AttributeError, OverflowError):
        return None


def _per_second(statistics: Any) -> int | None:
    """The unit of a column of times; ``None`` of any other."""
    kind = json.loads(statistics.logical_type.to_json())
    return _UNITS.get(kind.get("timeUnit")) if kind.get("Type") == "Timestamp" else None


def _moment(since: int, per_second: int) -> datetime:
    return _EPOCH + timedelta(seconds=since // per_second, microseconds=since % per_second * 1_000_000 // per_second)


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
