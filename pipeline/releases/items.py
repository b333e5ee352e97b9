"""The items that a student with two towers retrieves from, beside its releases: ``items.parquet``.

Belongs here: which items those are, keeping them current. Not here: their vectors and the index, which the server makes
(serving/retrievers.py).

They are the items that the log has shown on the student's surface within ``HORIZON``, and those that a source view of
items lists (a catalogue), shown or not; those that were shown last first. With each stand the columns of the log that
say something of the item alone, as they were logged last. A new slice is read once, and added.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import polars as pl

from exfm.atomic_write import atomic_write
from exfm.columns import views_of
from exfm.declaration import digest
from exfm.learning import Student
from exfm.source_views import SourceView
from exfm.stream import Slice
from exfm.writing import StateError
from pipeline.tables import UNREADABLE, DataError, SliceTable
from pipeline.workspace import Workspace

FILE = "items.parquet"
SEEN, UNTIL = "$seen", "$until"  # when an item was shown or listed last, and how long that counts; of no log
HORIZON = timedelta(days=30)
MOST = 5_000_000
_CLOCK, _MADE_OF = "event_timestamp", "exfm_made_of"


@dataclass(frozen=True)
class _Source:
    """A slice that items are read from.

    Args:
        counts: how long after its time a row says that there is the item.
        of_log: whether it is of the log: then only rows of the student's surface count, and columns are kept.
    """

    table: SliceTable
    slice: Slice
    counts: timedelta
    of_log: bool


def retrieving(work: Workspace) -> list[Student]:
    """The students that retrieve."""
    return [student for student in work.project.students if student.network.two_sided]


def refresh_items(work: Workspace, student: Student) -> int:
    """Bring the items of a student up to date with what is stored; how many there are. Safe to do again.

    Raises:
        DataError: if a table that is to be read is damaged, or the system refuses to write.
    """
    newest = work.table("impressions").newest(work.project.stream)
    if newest is None:
        return 0
    path, declared = work.state.release(student.name) / FILE, _declared(work, student)
    stored = {f"{each.table.name}/{each.slice.key}": each for each in _sources(work, student)}
    sources = {name: each for name, each in stored.items() if each.slice.end + each.counts > newest.end}
    made_of = {name: each.table.noted(each.slice) or "" for name, each in sources.items()} | {"declared": declared}
    known, before = _read(path)
    if known is not None and before == made_of:
        return known.height
    # What was read and is out of reach by now counts no more; where anything else is not as it was, all is read again.
    stands = known is not None and before.get("declared") == declared and all(
        made_of.get(name) == of or (name in stored and name not in sources) for name, of in before.items()
    )  # fmt: skip
    frames = [known] if known is not None and stands else []
    for name, source in sources.items():
        if not stands or name not in before:
            frames += _items_of(work, student, source)
    items = _last(work, pl.concat(frames, how="diagonal_relaxed")) if frames else None
    if items is None:
        return 0
    kept = items.filter(pl.col(UNTIL) > newest.end).head(MOST)
    _write(path, kept, made_of)
    return kept.height


def refreshed(work: Workspace, student: Student) -> str:
    """The same beside other work, which it never stops; what became of it, in a few words."""
    try:
        return f"{refresh_items(work, student):,} items to retrieve from"
    except DataError as error:
        return f"the items to retrieve from stay as they were: {error}"


def _declared(work: Workspace, student: Student) -> str:
    stream = work.project.stream
    return digest(stream.item, student.surface, *_columns(work), HORIZON, MOST)


def _columns(work: Workspace) -> list[str]:
    """Of the log, what says something of the item alone."""
    return [each.name for each in work.project.stream.logged_inputs if each.of_item]


def _sources(work: Workspace, student: Student) -> Iterator[_Source]:
    """All slices that are there and could list items, oldest first."""
    project, stream = work.project, work.project.stream
    read = views_of(project.columns_of(student.inputs, where=student.name).of_views)
    for view in map(project.view, read):
        if isinstance(view, SourceView) and view.entities == (stream.item.name,):
            table = work.features(view.name)
            yield from (_Source(table, each, view.ttl, False) for each in table.stored(stream))
    impressions = work.table("impressions")
    yield from (_Source(impressions, each, HORIZON, True) for each in impressions.stored(stream))


def _items_of(work: Workspace, student: Student, source: _Source) -> Iterator[pl.DataFrame]:
    """The items of a slice, each once a part, with ``SEEN`` and ``UNTIL``."""
    stream = work.project.stream
    surface = [stream.surface.name] if source.of_log and student.surface is not None else []
    columns = _columns(work) if source.of_log else []
    try:
        for part in source.table.parts(source.slice, [stream.item.name, _CLOCK, *surface, *columns]):
            rows = part.filter(pl.col(stream.item.name).is_not_null())
            rows = rows.filter(pl.col(surface[0]) == student.surface).drop(surface) if surface else rows
            seen = pl.col(_CLOCK).cast(pl.Datetime("us", "UTC"))
            yield _last(work, rows.select(pl.exclude(_CLOCK), seen.alias(SEEN), (seen + source.counts).alias(UNTIL)))
    except (*UNREADABLE, pl.exceptions.ColumnNotFoundError) as error:
        why = str(error).partition(";")[0]
        remedy = f"materialise {source.table.name} for it again"
        raise DataError(f"{source.table.name}: slice {source.slice.key} can't be read ({why}): {remedy}") from error


def _last(work: Workspace, rows: pl.DataFrame) -> pl.DataFrame:
    """Each item once, those that were seen last first; its columns as they were logged last."""
    item, columns = work.project.stream.item.name, [name for name in _columns(work) if name in rows.columns]
    logged = [pl.col(name).sort_by(SEEN).drop_nulls().last() for name in columns]
    last = rows.group_by(item).agg(*logged, pl.col(SEEN).max(), pl.col(UNTIL).max())
    return last.sort(SEEN, item, descending=[True, False])


def _read(path: Path) -> tuple[pl.DataFrame | None, dict[str, str]]:
    """What is written, and what that was made of; nothing where it can't be read: then it is made again."""
    try:
        return pl.read_parquet(path, glob=False), json.loads(pl.read_parquet_metadata(path)[_MADE_OF])
    except (OSError, KeyError, ValueError, *UNREADABLE):
        return None, {}


def _write(path: Path, items: pl.DataFrame, made_of: Mapping[str, str]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            items.write_parquet(file, metadata={_MADE_OF: json.dumps(made_of)})
    except (OSError, StateError) as error:
        raise DataError(str(error)) from error
