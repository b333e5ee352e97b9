"""The files behind a source: which there are, what their footers say, which a question can skip.

Belongs here: listing parquet and Delta, footers. Not here: rows (reading.py, sql.py), what a view wants (plan.py).
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
from feast.data_format import DeltaFormat, ParquetFormat
from feast.infra.offline_stores.file_source import FileSource

from feast_asof.errors import NoFilesError, RetrievalError
from feast_asof.locations import Location, SourcePath, place_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FOOTERS = 20_000  # a year of hourly slices of two views; a footer's summary takes about 4 kB
_LARGE = 64  # files of which each row group is known; of a thousand of them some 300 kB
_TOGETHER = 16  # footers read at once: on an object store each is a round trip


@dataclass(frozen=True)
class SourceFile:
    """One file. Ranges of timestamps (microseconds) and integers, where the footer knows them, are by column.

    ``partitions`` are columns that only the names of its folders (or the Delta log) hold; ``identity`` tells versions
    of the file apart.
    """

    path: str
    types: Mapping[str, pa.DataType]
    rows: int
    ranges: Mapping[str, tuple[int, int]]
    partitions: Mapping[str, str | None]
    identity: tuple[int, ...] = ()

    def meets(self, column: str, low: int, high: int) -> bool:
        """Can it hold a row with a value in [low, high]?"""
        first, last = self.ranges.get(column, (low, high))
        return first <= high and last >= low

    def has(self, column: str) -> bool:
        return column in self.types or column in self.partitions


def list_files(source: FileSource, path: str, *, view: str) -> tuple[Location, list[SourceFile]]:
    """Where a source lies, and its files in the order of their paths.

    Args:
        path: its full path: a file, a folder (searched in depth), a glob, a Delta table's folder; local or a URI.
        view: the name of the view, for the error.

    Raises:
        NoFilesError: if there is none.
        RetrievalError: if a file is not readable parquet.
    """
    location = place_of(path, endpoint=source.s3_endpoint_override or None, credentials=source.resolve_credentials())
    if isinstance(source.file_format, DeltaFormat):
        from feast_asof.delta import find_in_delta

        files = find_in_delta(source, path, view=view)
    elif source.file_format is None or isinstance(source.file_format, ParquetFormat):
        files = location.find()
    else:
        raise RetrievalError(
            f"view {view!r}: its files are {type(source.file_format).__name__}: use ParquetFormat() or DeltaFormat()"
        )
    if not files:
        raise NoFilesError(
            f"view {view!r}: no parquet file matches its source {path!r}: "
            "materialise what writes it first, or correct the source's path and apply again"
        )
    if location.system is None:
        return location, [_summary(file, None) for file in files]
    with ThreadPoolExecutor(_TOGETHER) as pool:
        return location, list(pool.map(lambda file: _summary(file, location.system), files))


def bare(path: str) -> str:
    """A file's name within its file system: without the scheme."""
    return path.partition("://")[2] or path


def _summary(file: SourcePath, system: pafs.FileSystem | None) -> SourceFile:
    # A slice that is written again is another file under the same path, so the path alone is no cache key.
    try:
        types, rows, ranges = _read_footer(_FooterKey(file.path, file.identity, system))
    except (pa.ArrowException, OSError) as error:
        raise RetrievalError(f"file {file.path!r}: it is not readable parquet ({error}): write it again") from None
    partitions = {name: value for name, value in file.partitions if name not in types}
    return SourceFile(file.path, types, rows, ranges, partitions, file.identity)


Footer = tuple[dict[str, pa.DataType], int, dict[str, tuple[int, int]]]


@dataclass(frozen=True)
class _FooterKey:
    path: str
    identity: tuple[int, ...]
    system: pafs.FileSystem | None = field(compare=False)


@lru_cache(maxsize=_FOOTERS)
def _read_footer(key: _FooterKey) -> Footer:
    path = bare(key.path) if key.system else key.path
    with pq.ParquetFile(path, filesystem=key.system) as file:
        schema, metadata = file.schema_arrow, file.metadata
    types = {field.name: field.type for field in schema}
    return types, metadata.num_rows, _ranges(metadata, types)


def _ranges(metadata: pq.FileMetaData, types: Mapping[str, pa.DataType]) -> dict[str, tuple[int, int]]:
    """Smallest and largest value of each timestamp and integer column of which all row groups know them."""
    if not metadata.num_row_groups:
        return {}
    ranges = {}
    group = metadata.row_group(0)
    for column in range(metadata.num_columns):
        name = group.column(column).path_in_schema
        dtype = types.get(name)
        if dtype is None or not (pa.types.is_integer(dtype) or pa.types.is_timestamp(dtype)):
            continue
        groups = (metadata.row_group(index).column(column).statistics for index in range(metadata.num_row_groups))
        ends = [end for statistics in groups for end in _ends(statistics)]
        known = [end for end in ends if end is not None]
        if known and len(known) == len(ends):
            ranges[name] = (min(known), max(known))
    return ranges


def _ends(statistics: pq.Statistics | None) -> tuple[int | None, ...]:
    if statistics is None or not statistics.has_min_max:
        return (None,)
    try:
        return _number(statistics.min), _number(statistics.max)
    except OverflowError:  # beyond the years that Python's dates reach
        return (None,)


Ranges = Mapping[str, tuple[int, int]]


def row_groups(file: SourceFile, system: pafs.FileSystem | None, columns: Sequence[str]) -> list[tuple[int, Ranges]]:
    """Rows of each row group of a file, and the ranges of some columns in it, or else in the file.

    Args:
        columns: timestamps or integers, of which the file's ranges are known.
    """
    groups = _read_groups(_FooterKey(file.path, file.identity, system), tuple(columns))
    return [
        (rows, {name: span or file.ranges[name] for name, span in zip(columns, spans, strict=True)})
        for rows, spans in groups
    ]


@lru_cache(maxsize=_LARGE)
def _read_groups(key: _FooterKey, columns: tuple[str, ...]) -> list[tuple[int, list[tuple[int, int] | None]]]:
    path = bare(key.path) if key.system else key.path
    with pq.ParquetFile(path, filesystem=key.system) as opened:
        metadata = opened.metadata
    places = {metadata.schema.column(index).path: index for index in range(metadata.num_columns)}
    groups = []
    for number in range(metadata.num_row_groups):
        group, spans = metadata.row_group(number), list[tuple[int, int] | None]()
        for name in columns:
            known = [end for end in _ends(group.column(places[name]).statistics) if end is not None]
            spans.append((known[0], known[1]) if len(known) == 2 else None)
        groups.append((group.num_rows, spans))
    return groups


def _number(value: object) -> int | None:
    if isinstance(value, datetime):
        return microseconds(value)
    return value if isinstance(value, int) else None


def microseconds(moment: datetime) -> int:
    """A moment as microseconds UTC; a naive one is UTC."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def meeting(files: Iterable[SourceFile], bounds: Mapping[str, tuple[int, int]]) -> tuple[SourceFile, ...]:
    """The files that can hold a row inside all bounds."""
    return tuple(file for file in files if all(file.meets(name, *ends) for name, ends in bounds.items()))
