"""Where the log's files lie: every file below a table's folder, by the UTC day that its folder names.

Belongs here: folders and names; nothing in them is passed over in silence. Not here: what is in the files (reader.py).
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from pipeline.tables import DataError

HIDDEN = "._"  # how writers begin the name of a file that is not finished, and engines agree not to read it
_DAY = re.compile(r"day=(\d{4})-(\d{1,2})-(\d{1,2})")


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

    def where(self, path: Path) -> str:
        """How messages call a file: relative to the table's folder."""
        return path.relative_to(self.folder).as_posix()

    def between(self, start: datetime, end: datetime) -> Iterator[tuple[date, Path]]:
        """The files of the days that [start, end) touches, oldest day first."""
        day = start.date()
        while datetime.combine(day, datetime.min.time(), start.tzinfo) < end:
            yield from ((day, path) for path in self.days.get(day, ()))
            day += timedelta(days=1)


def find_files(log: Path, table: str) -> LogFiles:
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
