"""Computed views: a query or a function, run on the log as it was at each stamp.

Belongs here: cutting the log, running, checking what comes back. Not here: which slices are read (assets/features.py).
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

import duckdb
import polars as pl

from exfm.computed_views import PythonView, SqlView
from exfm.inputs import Vector
from exfm.stream import Stream
from pipeline.tables import DataError
from pipeline.transforms.aligned import first_misaligned
from pipeline.transforms.inputs import stored_type

ComputedView = SqlView | PythonView
Frames = dict[str, pl.LazyFrame]
UTC = pl.Datetime("us", "UTC")
KNOWN_AT = {"impressions": "event_timestamp", "outcomes": "outcome_timestamp", "interactions": "event_timestamp"}


def computed_needed_since(view: ComputedView, stream: Stream, start: datetime) -> datetime:
    """How far back the log must reach for rows stamped after ``start``: an outcome may be of an older impression."""
    return start - view.reach - (stream.longest_window if "outcomes" in view.reads else timedelta(0))


def computed(
    view: ComputedView,
    stream: Stream,
    impressions: pl.LazyFrame,
    outcomes: pl.LazyFrame,
    interactions: pl.LazyFrame,
    start: datetime,
    end: datetime,
) -> pl.DataFrame:
    """Rows of a view stamped in (start, end], of what had happened in [stamp - reach, stamp) and was known by then.

    Args:
        impressions, outcomes, interactions: tables of the log since ``computed_needed_since``; outcomes as
            ``with_labelled`` has them.

    Returns:
        entities, ``event_timestamp`` (the stamp), ``created_timestamp`` (+ delay), features; by stamp, then entities.

    Raises:
        DataError: if the query or the function fails, or gives other columns or types than were declared.
    """
    # A label beside an impression is not known yet when it is shown: it is seen as an outcome.
    shown = impressions.drop([str(task.label) for task in stream.labelled_tasks], strict=False)
    tables = {"impressions": shown, "interactions": interactions}
    if "outcomes" in view.reads:
        tables["outcomes"] = _known(stream, shown, outcomes)
    read: Frames = {name: tables[name] for name in view.reads}
    return pl.concat(
        [_schema_frame(view, stream), *(_at(view, stream, read, at) for at in _stamps(view, stream, start, end))]
    )


def _known(stream: Stream, impressions: pl.LazyFrame, outcomes: pl.LazyFrame) -> pl.LazyFrame:
    """The first outcome of each impression and task inside its window, with the impression's columns beside."""
    windows = pl.LazyFrame({"task": stream.task_names, "window": [task.window for task in stream.tasks]})
    windows = windows.with_columns(pl.col("window").cast(pl.Duration("us")))
    age = pl.col("outcome_timestamp") - pl.col("event_timestamp")
    happened = outcomes.join(impressions, on="impression_id").join(windows, on="task")
    inside = happened.filter(age >= timedelta(0), age <= pl.col("window")).drop("window")
    return inside.sort("outcome_timestamp").unique(["impression_id", "task"], keep="first", maintain_order=True)


def _stamps(view: ComputedView, stream: Stream, start: datetime, end: datetime) -> Iterator[datetime]:
    """Stamps in (start, end]; slices begin on one."""
    if not stream.is_even:
        yield from (slice_.end for slice_ in stream.slices(start, end))
        return
    stamp = start + view.every
    while stamp <= end:
        yield stamp
        stamp += view.every


def _at(view: ComputedView, stream: Stream, tables: Frames, stamp: datetime) -> pl.DataFrame:
    seen = {
        name: frame.filter(pl.col(KNOWN_AT[name]) >= stamp - view.reach, pl.col(KNOWN_AT[name]) < stamp)
        for name, frame in tables.items()
    }
    given = _by_sql(view, seen) if isinstance(view, SqlView) else _by_function(view, seen, stamp)
    rows = _checked(view, stream, given)
    stamped = rows.with_columns(event_timestamp=pl.lit(stamp, UTC), created_timestamp=pl.lit(stamp + view.delay, UTC))
    return stamped.select(_schema_frame(view, stream).columns).sort(view.entities)


def _by_sql(view: SqlView, seen: Frames) -> pl.DataFrame:
    with duckdb.connect(":memory:", config={"enable_external_access": "false"}) as connection:
        for name, frame in seen.items():
            connection.register(name, frame.collect().to_arrow())
        try:
            return pl.DataFrame(connection.sql(view.sql).to_arrow_table())
        except (duckdb.Error, AttributeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"SqlView({view.name}).sql: {reason}: mend the query, it sees {_seen(seen)}") from error


def _seen(tables: Frames) -> str:
    """Tables with their columns, for a person; labels are none of them, they are outcomes once they are known."""
    return "; ".join(f"{name}({', '.join(frame.collect_schema().names())})" for name, frame in tables.items())


def _by_function(view: PythonView, seen: Frames, stamp: datetime) -> pl.DataFrame:
    module, _, name = view.function.partition(":")
    try:
        function: Any = getattr(import_module(module), name)
        given = function(**seen, stamp=stamp)
    except Exception as error:
        why = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(f"PythonView({view.name}).function: {view.function} failed ({why}): mend it") from error
    if isinstance(given, pl.LazyFrame):
        return given.collect()
    if isinstance(given, pl.DataFrame):
        return given
    raise DataError(
        f"PythonView({view.name}).function: {view.function} gave a {type(given).__name__}: return a polars frame"
    )


def _schema(view: ComputedView, stream: Stream) -> dict[str, pl.DataType]:
    dtypes = {column.name: column.dtype for column in stream.id_columns}
    keys = {name: pl.String() if dtypes[name] is str else pl.Int64() for name in view.entities}
    return {**keys, **{name: stored_type(view.encoding(name, dtypes)) for name in view.features}}


def _schema_frame(view: ComputedView, stream: Stream) -> pl.DataFrame:
    schema = _schema(view, stream)
    keys = {name: schema.pop(name) for name in view.entities}
    return pl.DataFrame(schema={**keys, "event_timestamp": UTC, "created_timestamp": UTC, **schema})


def _checked(view: ComputedView, stream: Stream, given: pl.DataFrame) -> pl.DataFrame:
    """The declared columns in their types; one row an entity, and none without one.

    Raises:
        DataError: for a column that is missing or can't be converted, a repeated entity, a vector of another width.
    """
    where = f"{type(view).__name__}({view.name})"
    for name, dtype in _schema(view, stream).items():
        if name not in given.columns:
            raise DataError(f"{where}: it gives {', '.join(given.columns)}, and no {name!r}: name a column so")
        try:
            given = given.with_columns(pl.col(name).cast(dtype))
        except pl.exceptions.PolarsError as error:
            raise DataError(f"{where}.{name}: {given.schema[name]} can't be read as {dtype}: cast it") from error
    known = given.drop_nulls(list(view.entities))
    if known.select(pl.struct(view.entities).n_unique()).item() != known.height and known.height:
        raise DataError(f"{where}: several rows of one {', '.join(view.entities)}: group by them")
    for vector in view.inputs:
        if isinstance(vector, Vector) and (known[vector.name].drop_nulls().list.len() != vector.width).any():
            raise DataError(f"{where}.{vector.name}: a vector of another width than {vector.width}: declare its width")
    if why := first_misaligned(known, view.inputs):
        raise DataError(f"{where}: {why}: give them place by place")
    return known


def sees_no_future(
    view: ComputedView,
    stream: Stream,
    impressions: pl.DataFrame,
    outcomes: pl.DataFrame,
    interactions: pl.DataFrame,
    start: datetime,
    end: datetime,
) -> bool:
    """Does deleting all that happens from each stamp on change nothing? For tests of one's own views.

    The log is cut before anything is computed, so only a function that reads elsewhere can fail.
    """
    whole = computed(view, stream, impressions.lazy(), outcomes.lazy(), interactions.lazy(), start, end)
    parts = []
    for stamp in _stamps(view, stream, start, end):
        cut = (
            impressions.filter(pl.col("event_timestamp") < stamp).lazy(),
            outcomes.filter(pl.col("outcome_timestamp") < stamp).lazy(),
            interactions.filter(pl.col("event_timestamp") < stamp).lazy(),
        )
        parts.append(computed(view, stream, *cut, stamp - view.every, stamp))
    return pl.concat([whole.clear(), *parts]).equals(whole)
