"""Where the log's files lie: every file below a table's folder, by the UTC day that its folder names.

Belongs here: folders and names; nothing in them is passed over in silence. Not here: what is in the files (reader.py).
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

from pipeline.tables import DataError
from pipeline.workspace import Workspace

HIDDEN = "._"  # how writers begin the name of a file that is not finished, and engines agree not to read it
_DAY = re.compile(r"day=(\d{4})-(\d{1,2})-(\d{1,2})")
Found = tuple[Path, int, int]  # a file, its size in bytes, and when it changed, in nanoseconds


@dataclass(frozen=True)
class LogFiles:
    """The files of one table of the log.

    Args:
        days: parquet files by the day of their folder, each day's in the order of their names.
        unread: files of other kinds, relative to ``folder``.
    """

    table: str
    folder: Path
    days: Mapping[date, tuple[Path, ...]]
    unread: tuple[str, ...]
    _found: dict[date, dict[str, Found]] = field(default_factory=dict, repr=False, compare=False)

    def where(self, path: Path) -> str:
        """How messages call a file: relative to the table's folder."""
        return path.relative_to(self.folder).as_posix()

    def between(self, start: datetime, end: datetime) -> Iterator[tuple[date, Path]]:
        """The files of the days that [start, end) touches, oldest day first."""
        day = start.date()
        while datetime.combine(day, datetime.min.time(), start.tzinfo) < end:
            yield from ((day, path) for path in self.days.get(day, ()))
            day += timedelta(days=1)

    def found_between(self, start: datetime, end: datetime) -> Iterator[tuple[date, Mapping[str, Found]]]:
        """By day, those files by their path in the log, as they were when they were looked at first."""
        day = start.date()
        while datetime.combine(day, datetime.min.time(), start.tzinfo) < end:
            if day not in self._found:
                log = self.folder.parent
                looked_at = ((path, path.stat()) for path in self.days.get(day, ()))
                self._found[day] = {
                    path.relative_to(log).as_posix(): (path, stat.st_size, stat.st_mtime_ns) for path, stat in looked_at
                }
            yield day, self._found[day]
            day += timedelta(days=1)


Listing = dict[tuple[Path, str], LogFiles]
_listing: ContextVar[Listing | None] = ContextVar("listing", default=None)


@contextmanager
def listed_once(listing: Listing) -> Iterator[None]:
    """For looks at one moment: inside, each table is listed and each of its files looked at once, for all slices.

    Else a look at all slices lists all files for each of them.

    Args:
        listing: what was listed so far, for as long as the moment lasts.
    """
    token = _listing.set(listing)
    try:
        yield
    finally:
        _listing.reset(token)


def find_files(log: Path, table: str, *, required: bool = True) -> LogFiles:
    """The files of a table; within ``listed_once`` as they were when they were listed first.

    Args:
        required: whether it is an error if the table has no folder; else it has no files.

    Raises:
        DataError: as ``_listed``.
    """
    if not required and not (log / table).is_dir():
        return LogFiles(table, log / table, {}, ())
    listing = _listing.get()
    if listing is None:
        return _listed(log, table)
    if (log, table) not in listing:
        listing[log, table] = _listed(log, table)
    return listing[log, table]


def log_files(work: Workspace, table: str) -> LogFiles:
    """The files of a table of a workspace's log; none where it is missing and nothing reads it.

    Raises:
        DataError: as ``_listed``.
    """
    return find_files(work.state.log, table, required=work.project.reads_log(table))


def _listed(log: Path, table: str) -> LogFiles:
    """List a table's files: ``day=YYYY-MM-DD/*.parquet``, or in folders below a day (``hour=07/``).

    A day may be written without zeros. Names that begin with ``.`` or ``_`` are unfinished: they and all below them are
    no part of the log.

    Raises:
        DataError: if the table has no folder, a folder can't be listed, a parquet file lies in no day's folder, or two
            folders are of the same day.
    """
    folder = log / table
    if not folder.is_dir():
        raise DataError(f"log: {log} has no folder {table}/: set EXFM_DATA to the folder that holds it")
    folder_names: dict[date, str] = {}
    paths_by_day: dict[date, list[Path]] = {}
    unread: list[str] = []
    misplaced: list[str] = []
    for path in sorted(_below(folder, table)):
        relative = path.relative_to(folder)
        day = _day_of(relative.parts[0]) if len(relative.parts) > 1 else None
        if path.suffix != ".parquet":
            unread.append(relative.as_posix())
        elif day is None:
            misplaced.append(relative.as_posix())
        elif folder_names.setdefault(day, relative.parts[0]) != relative.parts[0]:
            raise DataError(
                f"{table}: {folder_names[day]} and {relative.parts[0]} are the same day: move their files into one"
            )
        else:
            paths_by_day.setdefault(day, []).append(path)
    if misplaced:
        more = f" (and {len(misplaced) - 1:,} more)" if len(misplaced) > 1 else ""
        raise DataError(
            f"{table}: {misplaced[0]}{more} is in no day's folder, so it is not read: move it to "
            f"{table}/day=YYYY-MM-DD/, the UTC day of its rows' own time, or begin its name with '_' to leave it out"
        )
    days = {day: tuple(paths) for day, paths in sorted(paths_by_day.items())}
    return LogFiles(table, folder, days, tuple(unread))


def _day_of(name: str) -> date | None:
    match = _DAY.fullmatch(name)
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:  # no such day
        return None


def _below(folder: Path, table: str) -> Iterator[Path]:
    """All files but hidden ones; a day's folder may be a link."""

    def refuse(error: OSError) -> None:
        raise DataError(f"{table}: {error.filename} can't be listed ({error.strerror}): make it readable")

    for inside, folders, files in os.walk(folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if name[0] not in HIDDEN]
        yield from (Path(inside) / name for name in files if name[0] not in HIDDEN)
