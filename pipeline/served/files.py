"""The request log's files: parquet of a day, and spools that servers are appending to.

Belongs here: which files may hold a request of a window, and their batches. Not here: writing them
(serving/request_log.py), which rows are whose (rows.py).

A spool becomes parquet files at any moment, and goes then. So spools are listed first, and one that is gone is read by
the files that it has become: a row is found in one of both, or in both.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from exfm.declaration import digest
from pipeline.sidecar import LogFile
from pipeline.streams.footers import may_hold

SPOOL = ".arrows"
ID, TIME = "impression_id", "event_timestamp"
ROWS_AT_ONCE = 1 << 14  # of a file, with all columns that are asked for
DAMAGED = "damaged, or gone since they were listed"


@dataclass(frozen=True)
class RequestFile:
    """A file of the request log, and the student who answered."""

    path: Path
    student: str

    @property
    def is_spool(self) -> bool:
        return self.path.suffix == SPOOL

    @property
    def became(self) -> list[Path]:
        """The parquet files of a spool, one a day: there before it goes."""
        student, version, begun = self.path.name.removesuffix(SPOOL).split(".", 2)
        return sorted((self.path.parent / student).glob(f"day=*/{version}-{begun}.parquet"))


def files_between(folder: Path, start: datetime, end: datetime) -> list[RequestFile]:
    """Files that may hold a request in [start, end), of all students; spools last."""
    spools = _spools(folder)
    parquet = [
        RequestFile(path, within.parent.name)
        for day, within in _folders(folder, start, end)
        for path in sorted(within.glob("*.parquet"))
        if _may_hold(path, day, start, end)
    ]
    return [*parquet, *(file for file in spools if _spool_may_hold(file, start, end))]


def looked_at(folder: Path, start: datetime, end: datetime) -> dict[str, LogFile]:
    """By what it is seen whether a file came: spools that may hold a request of a window, and folders of its days."""
    paths = [file.path for file in _spools(folder) if _spool_may_hold(file, start, end)]
    paths += [within for _, within in _folders(folder, start, end)]
    return _stats(folder, paths)


def digest_of_files(folder: Path, start: datetime, end: datetime) -> str:
    """Of the files that may hold a request of a window: of their names, as those that are whole never change."""
    stats = _stats(folder, (file.path for file in files_between(folder, start, end)))
    return digest(sorted([name, size] for name, (size, _, _) in stats.items()))


def _stats(folder: Path, paths: Iterable[Path]) -> dict[str, LogFile]:
    """Paths below the log with sizes (of folders none) and when they changed; what is gone by now is left out."""
    found: dict[str, LogFile] = {}
    for path in paths:
        with suppress(FileNotFoundError):
            stat = path.stat()
            name, size = path.relative_to(folder).as_posix(), 0 if path.is_dir() else stat.st_size
            found[name] = (size, stat.st_mtime_ns, None)
    return found


def _spools(folder: Path) -> list[RequestFile]:
    return [RequestFile(path, path.name.partition(".")[0]) for path in sorted(folder.glob(f"*{SPOOL}"))]


def _folders(folder: Path, start: datetime, end: datetime) -> Iterator[tuple[date, Path]]:
    """Those of a window's days that are there, of each student."""
    days = list(_days(start, end))
    for student in sorted(path for path in folder.glob("*") if path.is_dir()):
        yield from ((day, within) for day in days if (within := student / f"day={day}").is_dir())


def _days(start: datetime, end: datetime) -> Iterator[date]:
    day = start.astimezone(UTC).date()
    while datetime.combine(day, datetime.min.time(), UTC) < end:
        yield day
        day += timedelta(days=1)


def fault_of(file: RequestFile, item: str, dtype: type) -> str | None:
    """Why a file is passed over; ``None`` if it is read.

    Args:
        item: the log's item column, and its declared type.
    """
    try:
        schema = _schema_of(file)
    except (pa.ArrowException, OSError):
        return DAMAGED
    if schema is None:
        return None
    if ID not in schema.names or schema.field(ID).type != pa.int64():
        return "of an earlier exfm, whose impression_id is no int64"
    if item not in schema.names or schema.field(item).type != (pa.string() if dtype is str else pa.int64()):
        return f"of another declaration, whose {item} is of another type"
    return None


def _schema_of(file: RequestFile) -> pa.Schema | None:
    """``None`` of a spool without a whole batch."""
    if not file.is_spool:
        return pq.read_schema(file.path)
    try:
        return next((batch.schema for batch in _of_spool(file.path)), None)
    except FileNotFoundError:
        return next(map(pq.read_schema, file.became), None)


def batches_of(file: RequestFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """A file's rows, with those of some columns that it has: of a spool up to its last whole batch."""
    if not file.is_spool:
        yield from _of_parquet(file.path, columns)
        return
    try:
        whole = _of_spool(file.path)
        first = next(whole, None)
    except FileNotFoundError:
        for path in file.became:
            yield from _of_parquet(path, columns)
        return
    if first is not None:
        names = [name for name in columns if name in first.schema.names]
        yield first.select(names)
        yield from (batch.select(names) for batch in whole)


def _of_parquet(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        names = set(file.schema_arrow.names)
        yield from file.iter_batches(ROWS_AT_ONCE, columns=[name for name in columns if name in names])


def _of_spool(path: Path) -> Iterator[pa.RecordBatch]:
    """Whole batches; where a server is writing, or was killed, the file ends inside of one.

    Raises:
        FileNotFoundError: if it is gone, as it has become parquet files.
    """
    with path.open("rb") as file:
        try:
            with pa.ipc.open_stream(file) as stream:
                yield from stream
        except (pa.ArrowInvalid, OSError):
            return


def _may_hold(path: Path, day: date, start: datetime, end: datetime) -> bool:
    try:
        return may_hold(path, day, "impressions", start, end)
    except FileNotFoundError:  # deleted since it was listed
        return False


def _spool_may_hold(file: RequestFile, start: datetime, end: datetime) -> bool:
    try:
        stat = file.path.stat()
        times = _times_of(file.path, (stat.st_ino, stat.st_size, stat.st_mtime_ns))
    except FileNotFoundError:
        return True  # its parquet files say it
    return times is None or (times[0] < end and times[1] >= start)


@lru_cache(maxsize=1_000)
def _times_of(path: Path, identity: tuple[int, ...]) -> tuple[datetime, datetime] | None:
    """The first and the last request of a spool; ``None`` of one without any, or of another format."""
    bounds: list[datetime] = []
    for batch in _of_spool(path):
        if TIME not in batch.schema.names or not batch.num_rows:
            continue
        least, most = pc.min_max(batch[TIME]).as_py().values()
        bounds = [min([least, *bounds]), max([most, *bounds])]
    return (bounds[0], bounds[1]) if bounds else None
