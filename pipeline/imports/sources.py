"""Tables that somebody else keeps: their rows as those of a view, and whether they are what they were.

Belongs here: reading a source view's files, or its Feast repository. Not here: which slices (assets/features.py).
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import polars as pl

from exfm.declaration import digest
from exfm.inputs import Vector
from exfm.source_views import SourceView
from exfm.stream import Stream
from pipeline.imports.converting import Target
from pipeline.imports.side_tables import NULLED, read_side_table, side_files
from pipeline.streams.contract import UTC, cast_to
from pipeline.tables import UNREADABLE, DataError
from pipeline.transforms.aligned import first_misaligned
from pipeline.transforms.inputs import stored_type

T = TypeVar("T")
CLOCK, CREATED = "event_timestamp", "created_timestamp"


def source_digest(view: SourceView, log: Path) -> str:
    """A digest of the source's files by name, size and time; a repository can't be asked, and counts as what it was."""
    if view.feast is not None:
        return digest(view.feast, view.view)
    if view.files is not None:
        named = side_files(view.name, view.files, log)
        return digest(view.files, [[each.name, *(_stat(each.path) or ())] for each in named])
    if _is_delta(folder := _path(view, log)):
        with suppress(DataError):
            return digest(str(folder), _of_delta(view, folder, lambda table: table.version()))
        return digest(str(folder), None)
    # A file that is gone, or goes meanwhile, is said where it is read: looking is no reason to stop.
    return digest([seen for path in _found(view, log) if (seen := _stat(path)) is not None])


def _stat(path: Path) -> list[str | int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return [path.name, stat.st_size, stat.st_mtime_ns]


@dataclass(frozen=True)
class SourceRead:
    """What was read of a source.

    Args:
        frame: entities, ``event_timestamp``, ``created_timestamp`` (+ delay), features; by stamp, then entities.
        without_key, without_time, repeated: rows that were left out.
        refused: why rows could not be read -> how many.
    """

    frame: pl.DataFrame
    without_key: int = 0
    without_time: int = 0
    repeated: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)

    def sentence(self, view: SourceView) -> str:
        """What was left out, if anything was."""
        said = {
            f"without {' or '.join(view.entities)}": self.without_key,
            f"without {view.timestamp or 'a time'}": self.without_time,
            "repeated, of which the last one counts": self.repeated,
        } | {f"for {why}": count for why, count in self.refused.items() if not why.startswith(NULLED)}
        nulled = {why.removeprefix(NULLED): count for why, count in self.refused.items() if why.startswith(NULLED)}
        listed = ", ".join(f"{count:,} {why}" for why, count in said.items() if count)
        null = ", ".join(f"{count:,} for {why}" for why, count in nulled.items())
        parts = [f"rows left out: {listed}" if listed else "", f"values that are null: {null}" if null else ""]
        told = "; ".join(part for part in parts if part)
        return f"SourceView({view.name}): {told}" if told else ""


def source_rows(view: SourceView, stream: Stream, log: Path, start: datetime, end: datetime) -> SourceRead:
    """Rows of a view that hold from a moment in (start, end] on; from the first slice's start, also all from before.

    Of several rows of one key and moment the last one counts; a row without a key belongs to nobody and is left out.

    Args:
        log: the folder in which relative paths lie.

    Raises:
        DataError: if there is no file, or one lacks a column, has another type, or a vector of another width.
    """
    first = start <= stream.first_slice
    if view.is_timeless and not first:
        return SourceRead(_empty(view, stream))
    since = None if first else start
    refused: Counter[str] = Counter()
    parts = [_kept(view, stream, part, since, end) for part in _parts(view, stream, log, since, end, refused)]
    rows = pl.concat([_empty(view, stream), *(frame for frame, _ in parts)])
    keys = list(view.entities)
    known = rows.filter(pl.col(key).is_not_null() for key in keys)
    newest = known.unique([*keys, CLOCK], keep="last", maintain_order=True).sort(CLOCK, *keys)
    without_time = sum(count for _, count in parts) if first else 0
    told = dict(refused) if first else {}
    return SourceRead(newest, rows.height - known.height, without_time, known.height - newest.height, told)


def _schema(view: SourceView, stream: Stream) -> dict[str, pl.DataType]:
    dtypes = {column.name: column.dtype for column in stream.id_columns}
    ids = {name: pl.String() if dtype is str else pl.Int64() for name, dtype in dtypes.items()}
    values = {name: stored_type(view.encoding(name, dtypes)) for name in view.features}
    return {**{entity: ids[entity] for entity in view.entities}, **values}


def _empty(view: SourceView, stream: Stream) -> pl.DataFrame:
    schema = _schema(view, stream)
    keys = {entity: schema.pop(entity) for entity in view.entities}
    return pl.DataFrame(schema={**keys, CLOCK: UTC, CREATED: UTC, **schema})


def _files(view: SourceView, log: Path) -> list[Path]:
    found = _found(view, log)
    if not found:
        path = _path(view, log)
        raise DataError(f"SourceView({view.name}).path: {path} is no parquet file and holds none: write it there")
    return found


def _path(view: SourceView, log: Path) -> Path:
    assert view.path is not None
    return Path(view.path) if Path(view.path).is_absolute() else log / view.path


def _is_delta(path: Path) -> bool:
    return (path / "_delta_log").is_dir()


def _of_delta(view: SourceView, path: Path, ask: Callable[[Any], T]) -> T:
    """What a Delta table answers.

    Raises:
        DataError: if deltalake is not installed, or can't read the table.
    """
    try:
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError
    except ImportError as missing:
        raise DataError(
            f"SourceView({view.name}).path: {path} is a Delta table, and deltalake is not installed: "
            "pip install 'exfm[delta]'"
        ) from missing
    try:
        return ask(DeltaTable(path))
    except (DeltaError, OSError) as error:
        raise DataError(f"SourceView({view.name}).path: {path} can't be read as a Delta table: {error}") from error


def _found(view: SourceView, log: Path) -> list[Path]:
    path = _path(view, log)
    return [path] if path.is_file() else sorted(path.rglob("*.parquet")) if path.is_dir() else _matching(path)


def _matching(pattern: Path) -> list[Path]:
    anchor = Path(pattern.anchor)
    return sorted(path for path in anchor.glob(str(pattern.relative_to(anchor))) if path.is_file())


def _parts(
    view: SourceView, stream: Stream, log: Path, since: datetime | None, end: datetime, refused: Counter[str]
) -> Iterator[tuple[str, pl.LazyFrame]]:
    """Where rows come from, and the rows, with their time under ``event_timestamp`` if they have one.

    Args:
        refused: gets why rows could not be read, and how many.
    """
    if view.files is not None:
        clock = None if view.is_timeless else CLOCK
        schema = {**_schema(view, stream), **({} if clock is None else {clock: UTC})}
        for read in read_side_table(f"SourceView({view.name})", view.files, log, Target(schema, clock, view.entities)):
            refused.update(read.refused)
            yield read.source.name, read.frame.lazy()
        return
    if view.feast is not None:
        from feature_repo.other_repositories import rows_of_view

        repository = Path(view.feast) if Path(view.feast).is_absolute() else log / view.feast
        table = rows_of_view(repository, view.view or view.name, view.features, since, end)
        yield f"Feast repository {repository}", pl.DataFrame(table).lazy()
        return
    if _is_delta(folder := _path(view, log)):
        yield f"Delta table {folder}", _of_delta(view, folder, pl.scan_delta)
        return
    for path in _files(view, log):
        yield path.name, pl.scan_parquet(path, hive_partitioning=False, glob=False)


def _kept(
    view: SourceView, stream: Stream, part: tuple[str, pl.LazyFrame], since: datetime | None, end: datetime
) -> tuple[pl.DataFrame, int]:
    """The rows of one part that hold from a moment of the window on, and how many have no time."""
    where, frame = part
    clock = view.timestamp or CLOCK  # as the source calls it, for messages
    expected = {**_schema(view, stream), **({} if view.is_timeless else {clock: UTC})}
    try:
        cast = cast_to(frame, expected, f"SourceView({view.name})", where)
        moment = pl.lit(stream.first_slice, UTC) if view.is_timeless else pl.col(clock)
        rows = cast.with_columns(moment.alias(CLOCK)).collect()
    except UNREADABLE as error:
        raise DataError(f"SourceView({view.name}): {where} can't be read ({error}): write it again") from error
    after = pl.lit(True) if since is None else pl.col(CLOCK) > since
    kept = rows.filter(pl.col(CLOCK) <= end, after).with_columns((pl.col(CLOCK) + view.delay).alias(CREATED))
    for vector in view.inputs:
        if isinstance(vector, Vector):
            widths = kept[vector.name].drop_nulls().list.len()
            if len(wrong := widths.filter(widths != vector.width)):
                raise DataError(
                    f"SourceView({view.name}).{vector.name}: a vector of {wrong[0]} floats in {where}, not "
                    f"{vector.width}: declare its width, or write null"
                )
    if why := first_misaligned(kept, view.inputs):
        raise DataError(f"SourceView({view.name}): {why} in {where}: write them place by place")
    return kept.select(_empty(view, stream).columns), rows[CLOCK].null_count()
