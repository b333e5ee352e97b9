"""What a file calls a column, as the log's contract has it: an expression of DuckDB, and why a value can't be one.

Belongs here: ids, numbers, lists, labels and times of any form. Not here: reading files (reading.py), writing the
result (importing.py).

Nothing is guessed and nothing is rounded: a value that is not just what the contract wants is refused with its row.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import duckdb
import polars as pl

from exfm.log_files import EventTime, Files, From
from exfm.stream import Stream
from pipeline.imports.expressions import is_row_by_row
from pipeline.imports.finding import SourceFile
from pipeline.imports.reading import Relation, literal, quoted
from pipeline.imports.values import (
    EARLIEST,
    LATEST,
    SHOWN,
    apart,
    as_list,
    count,
    hashed,
    moment,
    scalar,
    sql_type,
    whole_number,
    why,
    words,
)
from pipeline.streams.contract import TIME, keys_of, schema_of
from pipeline.tables import DataError

MOST_TYPES = 20_000
_TYPES: dict[tuple[tuple[tuple[str, str], ...], str], str] = {}  # columns of a file, expression -> type


@dataclass(frozen=True)
class Converted:
    """A column of the log, in three expressions, each over the one before, so that none is computed twice.

    Args:
        given: what the file says, ``NULL`` where that means nothing.
        made: that, in the type that the log wants, under ``GIVEN`` and the column's name.
        bad: why a given value can't be that, ``NULL`` where it can; under ``MADE`` and the name.
    """

    name: str
    given: str
    made: str
    bad: str = "NULL::VARCHAR"


def given(name: str) -> str:
    """A column as the file says it."""
    return quoted(f"exfm given {name}")


def made(name: str) -> str:
    """A column as the log wants it."""
    return quoted(f"exfm made {name}")


@dataclass(frozen=True)
class Conversion:
    """How the rows of one file become rows of a table of the log.

    Args:
        lacking: columns of the log that the file does not have; they are null.
        made_id: whether rows get an ``impression_id`` by their place.
    """

    columns: tuple[Converted, ...]
    lacking: tuple[str, ...]
    made_id: bool


@dataclass(frozen=True)
class Target:
    """The table that files become.

    Args:
        clock: its column of time, if it has one; ``keys``: without which a row means nothing; ``id``: whether rows are
            known by an ``impression_id``.
    """

    schema: Mapping[str, pl.DataType]
    clock: str | None
    keys: tuple[str, ...]
    id: bool = False

    @classmethod
    def of_log(cls, stream: Stream, table: str) -> "Target":
        """A table of a stream's log."""
        return cls(schema_of(stream, table), TIME[table], tuple(keys_of(stream, table)), table != "interactions")


def conversion_of(
    connection: duckdb.DuckDBPyConnection, relation: Relation, source: SourceFile, target: Target
) -> Conversion:
    """Work out each column of a table.

    Raises:
        DataError: if the file lacks a column without which a row means nothing, or an expression is no SQL.
    """
    files, column = source.files, _Column(connection, relation, source)
    columns: list[Converted] = []
    lacking: list[str] = []
    made_id = target.id and files.id is None
    for name, dtype in target.schema.items():
        if name == target.clock:
            assert files.time is not None
            columns.append(column.time(name, files.time))
        elif name == "impression_id" and target.id:
            columns += [] if made_id else [column.id(files.id)]
        else:
            origin = column.origin(files.column(name))
            if origin is None and name in target.keys:
                raise DataError(column.absent(name, files.column(name)))
            lacking += [] if origin is not None else [name]
            columns.append(column.of_type(name, origin, dtype, files.column(name)))
    return Conversion(tuple(columns), tuple(lacking), made_id)


def names_of(files: Files) -> list[str]:
    """The columns of its files that a declaration names one by one."""
    named = [files.time.of] if files.time is not None else []
    named += [files.id] if isinstance(files.id, str) else list(files.id or ())
    for column in files.columns:
        named += [column.of] if isinstance(column.of, str) else list(column.of or ())
    return [name for name in named if name is not None and "*" not in name]


@dataclass(frozen=True)
class _Column:
    """Makes expressions over the columns of one file."""

    connection: duckdb.DuckDBPyConnection
    relation: Relation
    source: SourceFile

    def absent(self, name: str, column: From) -> str:
        """What is said of a column that a file lacks."""
        wanted = column.of if isinstance(column.of, str) else name
        near = get_close_matches(wanted, self.relation.columns, n=1, cutoff=0.5)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        listed = ", ".join(list(self.relation.columns)[:12]) + (", ..." if len(self.relation.columns) > 12 else "")
        time = self.source.files.time
        remedy = f"From(name={name!r}, of=...) into Files.columns"
        if time is not None and time.of == wanted:
            remedy = "its name into Files.time"
        elif name == "impression_id":
            remedy = "its name into Files.id"
        return (
            f"{self.source.table}.{name}: {self.source.name} has no column {wanted!r}{meant}: it has {listed}; "
            f"write {remedy}"
        )

    def origin(self, column: From) -> tuple[str, ...] | str | None:
        """Where a column comes from: names of the file's columns, or an expression; ``None`` if the file has it not."""
        if column.sql is not None:
            self._check_rows(column.sql, column.name)
            return column.sql
        assert column.of is not None
        if isinstance(column.of, str):
            return self._named(column.of)
        names = [name for pattern in column.of for name in self._matching(pattern)]
        return tuple(names) if names else None

    def _named(self, name: str) -> str | None:
        return quoted(name) if name in self.relation.columns else None

    def _matching(self, pattern: str) -> list[str]:
        if "*" not in pattern:
            return [pattern] if pattern in self.relation.columns else []
        form = re.compile(re.escape(pattern).replace(r"\*", r"(\d+)"))
        found = [(int(match[1]), name) for name in self.relation.columns if (match := form.fullmatch(name))]
        return [name for _, name in sorted(found)]

    @property
    def _shape(self) -> tuple[tuple[str, str], ...]:
        return tuple(self.relation.columns.items())

    def _asks(self, what: str) -> bool:
        """Is something asked of this shape of files for the first time?"""
        key = (self._shape, what)
        if key in _TYPES:
            return False
        _TYPES[key] = ""
        return True

    def _type(self, expression: str, field: str) -> str:
        """The type of an expression; of files of one shape it is asked once, of a column of theirs it is known."""
        for name, kind in self.relation.columns.items():
            if expression in (quoted(name), f"({quoted(name)})"):
                return kind
        key = (self._shape, expression)
        if key not in _TYPES:
            if len(_TYPES) > MOST_TYPES:
                _TYPES.clear()
            _TYPES[key] = self._described(expression, field)
        return _TYPES[key]

    def _described(self, expression: str, field: str) -> str:
        try:
            described = self.connection.sql(f"DESCRIBE SELECT {expression} AS value FROM {self.relation.sql}")
            return str(described.fetchall()[0][1])
        except duckdb.Error as error:
            told = str(error).splitlines()[0]
            texts = "" if self.source.kind == "parquet" else "; its columns are texts: write try_cast(... AS DOUBLE)"
            raise DataError(
                f"{self.source.table}.{field}: {expression} is no expression over {self.source.name}: {told}{texts}"
            ) from error

    def _check_rows(self, expression: str, field: str) -> None:
        """Refuse an expression that makes several rows of one, or none."""
        if self._asks(f"rows of {expression}") and not is_row_by_row(self.connection, self.relation, expression):
            raise DataError(
                f"{self.source.table}.{field}: {expression} gives not one value for each row: write one that does"
            )

    def _known(self, expression: str, kind: str) -> str:
        """An expression whose texts that mean nothing are null."""
        if kind != "VARCHAR":
            return expression
        nulls = ", ".join(literal(text) for text in self.source.files.nulls)
        return f"CASE WHEN {expression} NOT IN ({nulls}) THEN {expression} END" if nulls else expression

    def id(self, id_: str | tuple[str, ...] | None) -> Converted:
        """The impression: a whole number as it is, else the first 63 bits of the MD5 of its text."""
        names = (id_,) if isinstance(id_, str) else id_ or ()
        for name in names:
            if name not in self.relation.columns:
                raise DataError(self.absent("impression_id", From(name="impression_id", of=name)))
        if len(names) > 1:
            parts = [self._known(quoted(name), self.relation.columns[name]) for name in names]
            every = " AND ".join(f"{part} IS NOT NULL" for part in parts)
            joined = " || '|' || ".join(apart(part) for part in parts)
            return Converted("impression_id", f"CASE WHEN {every} THEN {joined} END", hashed(given("impression_id")))
        kind, value = self.relation.columns[names[0]], given("impression_id")
        made = f"coalesce({whole_number(value, kind)}, {hashed(f'({value})::VARCHAR')})"
        return Converted("impression_id", self._known(quoted(names[0]), kind), made)

    def of_type(self, name: str, origin: tuple[str, ...] | str | None, dtype: pl.DataType, column: From) -> Converted:
        """A column in the type that the contract wants."""
        if origin is None:
            return Converted(name, "NULL", f"NULL::{sql_type(dtype)}")
        if isinstance(dtype, pl.List):
            return self._list(name, origin, dtype, column)
        if isinstance(origin, tuple):
            parts = [self._known(quoted(part), self.relation.columns[part]) for part in origin]
            origin = "(" + " || '-' || ".join(f"({part})::VARCHAR" for part in parts) + ")"
        kind, value = self._type(origin, name), given(name)
        known = self._known(f"({origin})", kind)
        if self.source.files.decimal == "," and kind == "VARCHAR" and dtype.is_numeric():
            known = f"replace({known}, ',', '.')"
        bad = why(name, value, kind, made(name), dtype)
        return Converted(name, known, scalar(value, kind, dtype), bad)

    def _list(self, name: str, origin: tuple[str, ...] | str, dtype: pl.List, column: From) -> Converted:
        inner = dtype.inner
        assert isinstance(inner, pl.DataType)
        value = given(name)
        if isinstance(origin, tuple):
            parts = [self._known(quoted(part), self.relation.columns[part]) for part in origin]
            known, values, kind = f"[{', '.join(f'({part})::VARCHAR' for part in parts)}]", value, "VARCHAR"
        else:
            kind = self._type(origin, name)
            known, values = self._known(f"({origin})", kind), as_list(value, kind, column.split)
            kind = kind[: kind.rindex("[")] if kind.endswith("]") else kind
        lost = f"{count(made(name))} < {count(values)}"
        shown = f"left(({value})::VARCHAR, {SHOWN})"
        bad = f"CASE WHEN {lost} THEN {literal(f'{name} is no list of {words(inner)}: ')} || {shown} END"
        return Converted(name, known, f"list_transform({values}, lambda each: {scalar('each', kind, inner)})", bad)

    def time(self, name: str, time: EventTime) -> Converted:
        """A moment, UTC."""
        if time.of is not None and time.of not in self.relation.columns:
            raise DataError(self.absent(name, From(name=name, of=time.of)))
        origin = quoted(time.of) if time.of is not None else f"({time.sql})"
        kind, value, at = self._type(origin, name), given(name), made(name)
        shown = f"left(({value})::VARCHAR, {SHOWN})"
        ranged = f"{at} >= '{EARLIEST}'::TIMESTAMPTZ AND {at} < '{LATEST}'::TIMESTAMPTZ"
        bad = (
            f"CASE WHEN {ranged} THEN NULL WHEN {value} IS NULL THEN {literal(f'null {name}')} "
            f"WHEN {at} IS NULL THEN {literal(f'{name} is no time: ')} || {shown} "
            f"ELSE {literal(f'{name} is not between 1970 and 2200: ')} || {shown} END"
        )
        return Converted(name, self._known(origin, kind), moment(value, kind, time), bad)
