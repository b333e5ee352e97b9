"""The entity rows of a question: pandas, Arrow, polars, SQL or a parquet path, with one checked clock.

Belongs here: what entity rows must look like, what they span. Not here: what is joined to them.
"""

from __future__ import annotations  # held as classes, what they name would be "leaked" at exit, says duckdb 2

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feast_asof.casting import decoded
from feast_asof.connection import Session
from feast_asof.errors import RetrievalError
from feast_asof.types import INT, MOMENT, TIMESTAMP, family

EntityRows: TypeAlias = pd.DataFrame | pa.Table | pl.DataFrame | pl.LazyFrame | str | Path
EVENT_TIMESTAMP = "event_timestamp"
_GIVEN = "asof_given"
_READING = "SELECT * FROM read_parquet"


@dataclass(frozen=True)
class Clock:
    """What the entity rows span: first and last moment in microseconds, and the range of each integer key.

    Args:
        stamped: first and last moment of the views' rows that may be answered with; ``None``: of any.
    """

    first: int
    last: int
    keys: Mapping[str, tuple[int, int]]
    stamped: tuple[int, int] | None = None

    def stamps(self, ttl: int | None) -> tuple[int | None, int]:
        """First and last moment, in microseconds, of rows that may be answered with.

        Args:
            ttl: of their view; 0 or ``None``: it has none.
        """
        first, last = self.first - ttl if ttl else None, self.last
        if self.stamped is None:
            return first, last
        return self.stamped[0] if first is None else max(first, self.stamped[0]), min(last, self.stamped[1])

    @property
    def stands(self) -> bool:
        """Do all rows ask as of the same moment (the supervision clock)?"""
        return self.first == self.last


@dataclass(frozen=True)
class Rows:
    """Entity rows: ``source`` is an Arrow table, or a DuckDB relation's name if they are not to be held in memory."""

    types: Mapping[str, pa.DataType]
    clock: str
    source: pa.Table | str
    session: Session

    @property
    def checked_types(self) -> Mapping[str, pa.DataType]:
        """The types, for checks. Without rows a float counts as null: pandas gives it to a column without values."""
        if isinstance(self.source, str) or self.source.num_rows:
            return self.types
        return {name: pa.null() if dtype == pa.float64() else dtype for name, dtype in self.types.items()}

    def measure(self, keys: Iterable[str]) -> Clock | None:
        """What the rows span in time and in each integer key; ``None`` if no row has a timestamp."""
        names = sorted(key for key in set(keys) if family(self.types[key]) == INT)
        if isinstance(self.source, str):
            clock = f"epoch_us({moment(self.clock, self.types[self.clock])})"
            ends = [f"{end}({value})" for value in (clock, *map(quoted, names)) for end in ("min", "max")]
            [row] = self.session.connection.execute(f"SELECT {', '.join(ends)} FROM {self.source}").fetchall()
            pairs = list(zip(row[::2], row[1::2], strict=True))
        else:
            spans = (pc.min_max(decoded(self.source[name])) for name in names)
            moments = pc.min_max(self.source[self.clock].cast(pa.int64()))
            pairs = [(span["min"].as_py(), span["max"].as_py()) for span in (moments, *spans)]
        first, last = pairs[0]
        if first is None or last is None:
            return None
        ranges = {name: pair for name, pair in zip(names, pairs[1:], strict=True) if None not in pair}
        return Clock(first, last, ranges)

    def table(self) -> pa.Table:
        """All rows, as they were given but for the clock, in their order."""
        if isinstance(self.source, str):
            return _with_clock(self.session.connection.sql(f"FROM {self.source}").to_arrow_table(), self.clock)
        return self.source

    def batches(self, size: int) -> Iterator[pa.Table]:
        """The rows in chunks of at most ``size``; one empty chunk if there are none."""
        if not isinstance(self.source, str):
            yield from (self.source.slice(start, size) for start in range(0, max(1, self.source.num_rows), size))
            return
        empty = True
        for batch in self.session.connection.sql(f"FROM {self.source}").to_arrow_reader(size):
            for start in range(0, batch.num_rows, size):
                yield _with_clock(pa.Table.from_batches([batch.slice(start, size)]), self.clock)
                empty = False
        if empty:
            yield self.table()


def load_rows(session: Session, given: EntityRows, *, stream: bool) -> Rows:
    """Check the entity rows and make their timestamp microseconds UTC (naive ones are UTC).

    Args:
        stream: leave SQL and files in the engine, which may spill them, instead of holding them in memory.

    Raises:
        RetrievalError: if there is no timestamp column, or more than one and none is called ``event_timestamp``.
    """
    table = _query(session.connection, given, stream=stream) if isinstance(given, str | Path) else _typed(_table(given))
    if isinstance(table, str):
        empty = session.connection.sql(f"FROM {table} LIMIT 0").to_arrow_table()
        return Rows(_types(empty), _clock_column(_types(empty)), table, session)
    clock = _clock_column(_types(table))
    return Rows(_types(table), clock, _with_clock(table, clock), session)


def _typed(table: pa.Table) -> pa.Table:
    """A frame without rows often has no types either: then its clock is made a timestamp."""
    if table.num_rows or EVENT_TIMESTAMP not in table.column_names:
        return table
    index = table.column_names.index(EVENT_TIMESTAMP)
    clock = table.schema.field(index).type
    return table if family(clock) == TIMESTAMP else table.set_column(index, EVENT_TIMESTAMP, pa.nulls(0, MOMENT))


def _types(table: pa.Table) -> dict[str, pa.DataType]:
    repeated = sorted({name for name in table.column_names if table.column_names.count(name) > 1})
    if repeated:
        raise _repeated(repeated)
    return {field.name: field.type for field in table.schema}


def _repeated(names: list[str]) -> RetrievalError:
    return RetrievalError(f"entity rows: columns {names} are there twice: keep one of each")


def _table(given: pd.DataFrame | pa.Table | pl.DataFrame | pl.LazyFrame) -> pa.Table:
    if isinstance(given, pa.Table):
        return given
    if isinstance(given, pl.LazyFrame):
        given = given.collect()
    if isinstance(given, pl.DataFrame):
        return given.to_arrow()
    if not isinstance(given, pd.DataFrame):
        raise RetrievalError(
            f"entity rows: a {type(given).__name__}: pass a pandas or polars frame, an Arrow table, a SELECT or a path"
        )
    if not given.columns.is_unique:
        raise _repeated(sorted(map(str, given.columns[given.columns.duplicated()].unique())))
    try:
        return pa.Table.from_pandas(given, preserve_index=False)
    except (pa.ArrowException, TypeError, ValueError) as error:
        # Arrow's own text names the column and the value.
        raise RetrievalError(f"entity rows: {'; '.join(map(str, error.args))}: give each column one type") from None


def _query(connection: duckdb.DuckDBPyConnection, given: str | Path, *, stream: bool) -> pa.Table | str:
    """Run a SELECT, or read a path; streamed, a file stays where it is and an answer goes to a table that may spill."""
    query = _as_query(given)
    try:
        if _is_path(given):
            _refuse_alike(connection, query, given)
        if not stream:
            return connection.sql(query).to_arrow_table()
        # An answer is read twice (what it spans, then its rows), and a query need not give the same rows twice.
        kind = "VIEW" if _is_path(given) else "TABLE"
        connection.execute(f"CREATE TEMP {kind} {_GIVEN} AS {query}")
    except duckdb.Error as error:
        raise RetrievalError(f"entity rows: DuckDB refused {str(given)!r}: {first_line(error)}") from None
    return _GIVEN


def _refuse_alike(connection: duckdb.DuckDBPyConnection, query: str, given: str | Path) -> None:
    """DuckDB would rename a file's columns whose names differ in case alone."""
    result = connection.execute(query.replace(_READING, "SELECT file FROM glob", 1).split(", hive")[0] + ") LIMIT 1")
    files = result.fetchall()
    names = pq.read_schema(files[0][0]).names if files else []
    alike = sorted(name for name in names if [other.lower() for other in names].count(name.lower()) > 1)
    if alike:
        raise RetrievalError(
            f"entity rows: columns {alike} of {str(given)!r} differ in case alone, which SQL can't tell apart: "
            "read the file, and pass the table"
        )


def first_line(error: Exception) -> str:
    """An engine's error message, without the query that it repeats."""
    return str(error).strip().splitlines()[0]


def quoted(name: str) -> str:
    """An SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """An SQL string."""
    return "'" + value.replace("'", "''") + "'"


def literal(path: str) -> str:
    """The path of one file for a DuckDB function, which takes ``*``, ``?`` and ``[`` for a pattern."""
    return re.sub(r"([*?\[])", r"[\1]", path)


def is_fine(dtype: pa.DataType) -> bool:
    """Is it a timestamp finer than a microsecond?"""
    return bool(pa.types.is_timestamp(dtype) and dtype.unit == "ns")


def moment(column: str, dtype: pa.DataType = MOMENT) -> str:
    """SQL for a timestamp of any unit as microseconds UTC; a naive one is UTC (the session's zone)."""
    if is_fine(dtype):  # a cast would round, and show a row up to half a microsecond early
        return f"make_timestamptz(epoch_ns({quoted(column)}) // 1000)"
    return f"CAST({quoted(column)} AS TIMESTAMPTZ)"


def _is_path(given: str | Path) -> bool:
    """Is it the path of files, not a SELECT (which has blanks)?"""
    return not (isinstance(given, str) and re.search(r"\s", given.strip()))


def _as_query(given: str | Path) -> str:
    """The SELECT itself, or one that reads a parquet path (a text without blanks, or a Path)."""
    if not _is_path(given):
        return str(given).strip().rstrip(";")
    path = str(given).strip()
    if "://" in path:
        raise RetrievalError(f"entity rows: path {path!r} is not on this machine: read it, and pass the table")
    if Path(path).exists():
        path = literal(path) + ("/**/*.parquet" if Path(path).is_dir() else "")
    return f"{_READING}({text(path)}, hive_partitioning = false)"


def _with_clock(table: pa.Table, clock: str) -> pa.Table:
    index = table.column_names.index(clock)
    column = table[clock]
    if column.type == MOMENT:
        return table
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("us"))
    # Below a microsecond Feast, Arrow's readers and both engines tell nothing apart: it is cut off here.
    return table.set_column(index, clock, column.cast(MOMENT, safe=False))


def _clock_column(types: Mapping[str, pa.DataType]) -> str:
    timestamps = [name for name, dtype in types.items() if family(dtype) == TIMESTAMP]
    if EVENT_TIMESTAMP in timestamps:
        return EVENT_TIMESTAMP
    if EVENT_TIMESTAMP in types:
        raise RetrievalError(
            f"entity rows: column {EVENT_TIMESTAMP!r} is {types[EVENT_TIMESTAMP]}, not a timestamp: cast it to one"
        )
    if len(timestamps) != 1:
        raise RetrievalError(
            f"entity rows: {len(timestamps)} timestamp columns {timestamps} and none is called "
            f"{EVENT_TIMESTAMP!r}: name the clock {EVENT_TIMESTAMP!r}"
        )
    return timestamps[0]
