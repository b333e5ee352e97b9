"""The parquet files behind a source: which there are, what their footers say, which a question can skip.

Belongs here: paths and footers. Not here: rows (sql.py), what a view wants of them (plan.py).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from glob import glob, has_magic
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_repo.asof.errors import RetrievalError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FOOTERS = 20_000  # a year of hourly slices of two views; a footer's summary takes about 2 kB


@dataclass(frozen=True)
class SourceFile:
    """One file: the types of its columns, and the range of its timestamps in microseconds (``None``: not known)."""

    path: str
    types: dict[str, pa.DataType]
    first: int | None
    last: int | None

    def meets(self, first: int, last: int) -> bool:
        """Can it hold a row with a timestamp in [first, last]?"""
        return self.first is None or self.last is None or (self.first <= last and self.last >= first)


def list_files(source: str, timestamp: str, *, view: str) -> list[SourceFile]:
    """The files of a source, in the order of their paths; names that begin with a dot are not finished and not seen.

    Args:
        source: a file, a folder (searched in depth) or a glob, on this machine.
        timestamp: the column whose range is read from the footers.
        view: who asks, for the error.

    Raises:
        RetrievalError: if there is none, or if the source is not on this machine.
    """
    if "://" in source:
        raise RetrievalError(f"view {view!r}: its source {source!r} is not on this machine: use a local path")
    folder = Path(source)
    if has_magic(source):
        found = [Path(path) for path in glob(source, recursive=True)]
    else:
        found = list(folder.rglob("*.parquet")) if folder.is_dir() else [folder]
    paths = sorted(path for path in found if path.is_file() and not path.name.startswith("."))
    if not paths:
        raise RetrievalError(
            f"view {view!r}: no parquet file matches its source {source!r}: "
            "materialise what writes it first, or correct the source's path and apply again"
        )
    return [_summary(path, timestamp) for path in paths]


def _summary(path: Path, timestamp: str) -> SourceFile:
    seen = path.stat()
    return _read_footer(str(path), (seen.st_ino, seen.st_mtime_ns, seen.st_size), timestamp)


@lru_cache(maxsize=_FOOTERS)
def _read_footer(path: str, _identity: tuple[int, int, int], timestamp: str) -> SourceFile:
    # A slice that is written again is another file under the same path, so the path alone would not do for a key.
    with pq.ParquetFile(path) as file:
        schema, metadata = file.schema_arrow, file.metadata
    first, last = _range(metadata, timestamp)
    return SourceFile(path, {field.name: field.type for field in schema}, first, last)


def _range(metadata: pq.FileMetaData, column: str) -> tuple[int | None, int | None]:
    firsts: list[int] = []
    lasts: list[int] = []
    for index in range(metadata.num_row_groups):
        group = metadata.row_group(index)
        place = next((i for i in range(group.num_columns) if group.column(i).path_in_schema == column), None)
        statistics = None if place is None else group.column(place).statistics
        if statistics is None or not statistics.has_min_max or not isinstance(statistics.min, datetime):
            return None, None
        firsts.append(_microseconds(statistics.min))
        lasts.append(_microseconds(statistics.max))
    return (min(firsts), max(lasts)) if firsts else (None, None)


def _microseconds(moment: datetime) -> int:
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)
