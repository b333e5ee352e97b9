"""The contract of the canonical log: tables, columns, types, and which rows break it.

Belongs here: what a log must be. Not here: finding and reading its files (reader.py).
"""

from datetime import datetime

import polars as pl

from exfm.inputs import Bag, Vector
from exfm.log_columns import Column, Request
from exfm.stream import Stream
from pipeline.tables import DataError
from pipeline.transforms.aligned import misaligned
from pipeline.transforms.stamps import EPOCH, MICROSECOND

UTC = pl.Datetime("us", "UTC")
TIME = {"impressions": "event_timestamp", "outcomes": "outcome_timestamp", "interactions": "event_timestamp"}
Rule = tuple[pl.Expr, pl.Expr]
AGAIN = "_again"  # whether a sound row before it, in the window, has a row's id
DAY = 86_400_000_000  # microseconds
LARGEST = 2**63 - 1  # of an Int64
LABEL, NO_LABEL = pl.Int8(), -1  # 0, 1 or null; NO_LABEL where the log has something else


def moment(at: datetime) -> pl.Expr:
    """A time, in a tenth of what ``pl.lit`` takes for one of a zone: that makes a series of it."""
    return pl.lit((at - EPOCH) // MICROSECOND).cast(UTC)


def _dtype(column: Column | Request) -> pl.DataType:
    return pl.Int64() if column.dtype is int else pl.String()


def schema_of(stream: Stream, table: str) -> dict[str, pl.DataType]:
    """The columns of a table of the log that the project reads, in order."""
    roles = {column.name: _dtype(column) for column in (stream.user, stream.item)}
    if table == "interactions":
        return {"event_timestamp": UTC, **roles}
    if table == "outcomes":
        return {"impression_id": pl.Int64(), "task": pl.String(), "outcome_timestamp": UTC}
    columns = (stream.user, stream.item, stream.surface, *stream.context)
    inputs: dict[str, pl.DataType] = {
        **{number.name: pl.Float64() for number in stream.numbers},
        **{vector.name: pl.List(pl.Float32()) for vector in stream.vectors},
        **{bag.name: pl.List(_dtype_of_bag(stream, bag)) for bag in stream.bags},
    }
    labels: dict[str, pl.DataType] = {
        str(task.label): pl.Float64() if task.reads_values else LABEL for task in stream.labelled_tasks
    }
    ids = {column.name: _dtype(column) for column in columns}
    weight = {} if stream.weight is None else {stream.weight: pl.Float64()}
    request = {} if stream.request is None else {stream.request.name: _dtype(stream.request)}
    return {"impression_id": pl.Int64(), "event_timestamp": UTC, **ids, **inputs, **labels, **weight, **request}


def _dtype_of_bag(stream: Stream, bag: Bag) -> pl.DataType:
    dtypes = {column.name: column.dtype for column in stream.id_columns}
    dtype = bag.dtype if bag.of is None else dtypes.get(bag.of, bag.dtype)  # a view's ids: exfm/bag_checks.py
    return pl.Int64() if dtype is int else pl.String()


def keys_of(stream: Stream, table: str) -> list[str]:
    """Columns without which a row means nothing; also the order in which rows are stored, after their time."""
    if table == "impressions":
        return ["impression_id", stream.user.name, stream.item.name, stream.surface.name]
    return ["impression_id", "task"] if table == "outcomes" else [stream.user.name, stream.item.name]


def may_lack(stream: Stream, table: str) -> frozenset[str]:
    """Columns without which a file is read as one of nulls: the request, which is often logged from some day on."""
    return frozenset({stream.request.name} if stream.request is not None and table == "impressions" else ())


def cast_to(
    frame: pl.LazyFrame, expected: dict[str, pl.DataType], table: str, file: str, lacking: frozenset[str] = frozenset()
) -> pl.LazyFrame:
    """The contract's columns in the contract's types; those of ``lacking`` are null where the file has none.

    Integers of any width, timestamps of any unit or zone, numbers of any kind where a number is wanted, and lists of
    fixed size are converted; nothing else is.

    Raises:
        DataError: for a missing column, another type, timestamps that do not say their zone, or too large an integer.
    """
    schema = frame.collect_schema()
    gone = {name: pl.lit(None, expected[name]) for name in lacking if schema.get(name, pl.Null()) == pl.Null()}
    frame, schema = frame.with_columns(**gone), pl.Schema({**schema, **{name: expected[name] for name in gone}})
    for name, dtype in expected.items():
        if name not in schema:
            raise DataError(f"{table}.{name}: no such column in {file}: write it as {dtype}")
        actual = schema[name]
        if isinstance(actual, pl.Datetime) and dtype == UTC:
            if actual.time_zone is None:
                raise DataError(f"{table}.{name} is naive ({actual}) in {file}: write it as timestamp[us, UTC]")
        elif not _may_stand_for(actual, dtype):
            raise DataError(f"{table}.{name} is {actual} in {file}: write it as {dtype}")
        if actual == pl.UInt64:
            _refuse_too_large(frame, f"{table}.{name}", name, file)
    return frame.select(_converted(name, schema[name], dtype) for name, dtype in expected.items())


def _converted(name: str, actual: pl.DataType, wanted: pl.DataType) -> pl.Expr:
    column = pl.col(name)
    if wanted == UTC:
        return column.dt.convert_time_zone("UTC").dt.cast_time_unit("us")
    if wanted == LABEL:
        value = column.cast(pl.Float64).fill_nan(None)
        either = pl.when(value.is_in([0.0, 1.0])).then(value).otherwise(NO_LABEL).cast(LABEL)
        return pl.when(value.is_not_null()).then(either).alias(name)
    return column.cast(wanted)


def _may_stand_for(actual: pl.DataType, wanted: pl.DataType) -> bool:
    """May a column of a type be converted without changing what it says?"""
    if isinstance(wanted, pl.List):
        inner = actual.inner if isinstance(actual, pl.List | pl.Array) else None
        return actual == pl.Null() or inner is not None and (inner == pl.Null() or _may_stand_for(inner, wanted.inner))  # type: ignore[arg-type]
    if wanted == LABEL:
        return actual.is_numeric() or actual in (pl.Boolean(), pl.Null())
    if wanted.is_float():
        return actual.is_numeric() or actual == pl.Null()
    return actual == wanted or (actual.is_integer() and wanted.is_integer())


def _refuse_too_large(frame: pl.LazyFrame, field: str, name: str, file: str) -> None:
    """Hashed ids are often 64 bits without a sign; a cast would stop at the first that has its highest bit set."""
    largest = frame.select(pl.col(name).max()).collect().item()
    if largest is not None and largest > LARGEST:
        raise DataError(
            f"{field} holds {largest} in {file}, too large for Int64: write it as Int64, the same bits with a sign"
        )


def rules(stream: Stream, table: str) -> list[Rule]:
    """What makes a row of a table unusable, most basic first. Rows carry ``_day``, their folder's day.

    Impressions carry ``AGAIN`` too: whether a sound row before one has its id already.
    """
    checks = sound_rules(stream, table)
    if table == "impressions":
        checks.append((pl.col(AGAIN), pl.format("repeated impression_id: {}", pl.col("impression_id"))))
    return checks


def sound_rules(stream: Stream, table: str) -> list[Rule]:
    """The rules that a row breaks by itself, independent of other rows."""
    time, names = TIME[table], keys_of(stream, table)
    checks: list[Rule] = [(pl.col(name).is_null(), pl.lit(f"null {name}")) for name in (time, *names)]
    misfiled = pl.format(
        "outside its day folder: {} in day={}", pl.col(time).dt.to_string("iso:strict"), pl.col("_day")
    )
    checks.append((pl.col(time).dt.date() != pl.col("_day"), misfiled))
    if table == "impressions":
        surface = stream.surface.name
        known = pl.Series(stream.surfaces, dtype=_dtype(stream.surface))
        unknown = pl.format("unknown surface: {}", pl.col(surface).cast(pl.String))
        checks.append((~pl.col(surface).is_in(known.implode()), unknown))
        checks += [] if stream.weight is None else [_weight_rule(stream.weight)]
        checks += [_label_rule(str(task.label)) for task in stream.labelled_tasks if not task.reads_values]
        values = dict.fromkeys(str(task.label) for task in stream.labelled_tasks if task.reads_values)
        checks += [(pl.col(name).is_infinite(), pl.lit(f"{name} is infinite")) for name in values]
        shares = dict.fromkeys(str(task.label) for task in stream.labelled_tasks if task.ceiling is not None)
        checks += [(pl.col(name) < 0, pl.format(f"{name} is below 0: {{}}", pl.col(name))) for name in shares]
        checks += [rule for vector in stream.vectors for rule in _vector_rules(vector)]
        checks += misaligned(stream.bags)
    if table == "outcomes":
        tasks = pl.Series(stream.outcome_tasks, dtype=pl.String)
        checks.append((~pl.col("task").is_in(tasks.implode()), pl.format("unknown task: {}", pl.col("task"))))
    return checks


def _label_rule(name: str) -> Rule:
    return pl.col(name) == NO_LABEL, pl.lit(f"{name} is neither 0 nor 1, and its Task has no above or ceiling")


def _weight_rule(name: str) -> Rule:
    weight = pl.col(name)
    broken = weight.is_null() | ~weight.is_finite() | (weight <= 0)
    return broken, pl.format(f"{name} is no positive number: {{}}", weight.cast(pl.String).fill_null("null"))


def _vector_rules(vector: Vector) -> list[Rule]:
    values, width = pl.col(vector.name), pl.col(vector.name).list.len()
    wide = pl.format(f"{vector.name} is a vector of another width: {{}} floats, not {vector.width}", width)
    holes = pl.lit(f"{vector.name} is a vector with a null")
    return [(width != vector.width, wide), (values.list.drop_nulls().list.len() != width, holes)]


def in_window(table: str, start: datetime, end: datetime, since: datetime) -> pl.Expr:
    """Rows that a read of [start, end) must account for.

    By their own time; those without one, or in a wrong day's folder, by the start of their folder's day (of the first
    day: by the stream's start, ``since``), so that adjacent windows account for every row of the log exactly once.
    """
    at = counted_at(table, since)
    return (at >= moment(start)) & (at < moment(end))


def counted_at(table: str, since: datetime) -> pl.Expr:
    """The moment of which a row counts: see ``in_window``."""
    time = pl.col(TIME[table])
    midnight = (pl.col("_day").cast(pl.Int64) * DAY).cast(UTC)
    folder = pl.when(pl.col("_day") == since.date()).then(moment(since)).otherwise(midnight)
    misfiled = (time.dt.date() != pl.col("_day")) | time.is_null()
    return pl.when(misfiled).then(folder).otherwise(time)
