"""What of the log a read saw: its files by content, so that a late or corrected one is noticed later.

Belongs here: which files of a window matter, and their digest. Not here: reading rows (reader.py).

A file matters to a window if one of its rows may lie in it. A new file of the same day with later rows changes nothing,
nor does a file that was copied or touched: what counts is its bytes, read again only where size or time of it changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from exfm.declaration import digest
from pipeline.sidecar import LogFile, sha256_of
from pipeline.streams.contract import TIME
from pipeline.streams.layout import find_files

Range = tuple[datetime, datetime] | None


@dataclass(frozen=True)
class Seen:
    """The files of a window: a digest of those that matter, and all that were looked at, by their path in the log."""

    digest: str
    files: Mapping[str, LogFile]


def seen_of(log: Path, table: str, start: datetime, end: datetime, before: Mapping[str, LogFile] | None = None) -> Seen:
    """What a read of [start, end) of a table of the log would see now.

    Args:
        before: what an earlier look at this very window saw.
    """
    known = before or {}
    files: dict[str, LogFile] = {}
    for date, path in find_files(log, table).between(start, end):
        day = datetime.combine(date, time(), UTC)
        name, stat = path.relative_to(log).as_posix(), path.stat()
        entry = known.get(name)
        if entry is None or entry[:2] != (stat.st_size, stat.st_mtime_ns):
            matters = _may_hold(path, day, table, start, end)
            entry = (stat.st_size, stat.st_mtime_ns, sha256_of(path)[:12] if matters else None)
        files[name] = entry
    # A day that was taken out of the log as a whole is not a correction: what was read of it holds.
    files |= {name: entry for name, entry in known.items() if not (log / name).parent.is_dir()}
    return Seen(digest_of(files), files)


def digest_of(files: Mapping[str, LogFile]) -> str:
    """A digest of the files that matter to a window, of those that were looked at."""
    return digest([[name, entry[2]] for name, entry in sorted(files.items()) if entry[2] is not None])


def _may_hold(path: Path, day: datetime, table: str, start: datetime, end: datetime) -> bool:
    """May a row of the file count for the window? Rows without a time, or of another day, may count anywhere."""
    stat = path.stat()
    times = _times(path, TIME[table], (stat.st_ino, stat.st_size, stat.st_mtime_ns))
    if times is None or not (day <= times[0] and times[1] < day + timedelta(days=1)):
        return True
    return times[0] < end and times[1] >= start


@lru_cache(maxsize=50_000)
def _times(path: Path, column: str, identity: tuple[int, ...]) -> Range:
    """The first and last time of a file by its footer; ``None`` where it does not know, or some rows have none."""
    try:
        footer = pq.read_metadata(path)
        index = footer.schema.to_arrow_schema().names.index(column)
        groups = [footer.row_group(group).column(index).statistics for group in range(footer.num_row_groups)]
        if not all(stats is not None and stats.has_min_max and stats.null_count == 0 for stats in groups) or not groups:
            return None
        return min(_utc(stats.min) for stats in groups), max(_utc(stats.max) for stats in groups)
    except (pa.ArrowException, OSError, ValueError, TypeError, AttributeError, OverflowError):
        return None


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
