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
from pipeline.imports.finding import SourceFile
from pipeline.imports.reading import Relation, literal, quoted
from pipeline.imports.values import (
    EARLIEST,
    LATEST,
    SHOWN,
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


@dataclass(frozen=True)
class Converted:
    """A column of the log.

    Args:
        value: an expression; ``NULL`` also where the value is refused.
        bad: an expression of why it is, ``NULL`` where it is not.
    """

    name: str
    value: str
    bad: str = "NULL::VARCHAR"


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

    def _type(self, expression: str, field: str) -> str:
        try:
            described = self.connection.sql(f"DESCRIBE SELECT {expression} AS value FROM {self.relation.sql}")
            return str(described.fetchall()[0][1])
        except duckdb.Error as error:
            told = str(error).splitlines()[0]
            texts = "" if self.source.kind == "parquet" else "; its columns are texts: write try_cast(... AS DOUBLE)"
            raise DataError(
                f"{self.source.table}.{field}: {expression} is no expression over {self.source.name}: {told}{texts}"
            ) from error

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
            joined = " || '|' || ".join(f"({part})::VARCHAR" for part in parts)
            return Converted("impression_id", f"CASE WHEN {every} THEN {hashed(joined)} END")
        kind = self.relation.columns[names[0]]
        value = self._known(quoted(names[0]), kind)
        whole = whole_number(value, kind)
        return Converted("impression_id", f"coalesce({whole}, {hashed(f'({value})::VARCHAR')})")

    def of_type(self, name: str, origin: tuple[str, ...] | str | None, dtype: pl.DataType, column: From) -> Converted:
        """A column in the type that the contract wants."""
        if origin is None:
            return Converted(name, f"NULL::{sql_type(dtype)}")
        if isinstance(dtype, pl.List):
            return self._list(name, origin, dtype, column)
        if isinstance(origin, tuple):
            parts = [self._known(quoted(part), self.relation.columns[part]) for part in origin]
            origin = "(" + " || '-' || ".join(f"({part})::VARCHAR" for part in parts) + ")"
        kind = self._type(origin, name)
        value = self._known(f"({origin})", kind)
        made = scalar(value, kind, dtype)
        return Converted(name, made, why(name, value, kind, made, dtype))

    def _list(self, name: str, origin: tuple[str, ...] | str, dtype: pl.List, column: From) -> Converted:
        inner = dtype.inner
        assert isinstance(inner, pl.DataType)
        if isinstance(origin, tuple):
            parts = [self._known(quoted(part), self.relation.columns[part]) for part in origin]
            values = f"[{', '.join(f'({part})::VARCHAR' for part in parts)}]"
            kind, known = "VARCHAR", values
        else:
            kind = self._type(origin, name)
            known = self._known(f"({origin})", kind)
            if kind.endswith("]"):
                values, kind = known, kind[: kind.rindex("[")]
            elif kind == "VARCHAR":
                cut = f"string_split({known}, {literal(column.split)})" if column.split else f"[{known}]"
                parsed = f"from_json({known}, '[\"VARCHAR\"]')"
                values = (
                    f"CASE WHEN starts_with(ltrim({known}), '[') AND json_valid({known}) THEN {parsed} "
                    f"WHEN {known} IS NOT NULL THEN {cut} END"
                )
            else:
                values = f"CASE WHEN {known} IS NOT NULL THEN [{known}] END"
        made = f"list_transform({values}, lambda each: {scalar('each', kind, inner)})"
        lost = f"{count(made)} < {count(values)}"
        shown = f"left(({known})::VARCHAR, {SHOWN})"
        bad = f"CASE WHEN {lost} THEN {literal(f'{name} is no list of {words(inner)}: ')} || {shown} END"
        return Converted(name, made, bad)

    def time(self, name: str, time: EventTime) -> Converted:
        """A moment, UTC."""
        if time.of is not None and time.of not in self.relation.columns:
            raise DataError(self.absent(name, From(name=name, of=time.of)))
        origin = quoted(time.of) if time.of is not None else f"({time.sql})"
        kind = self._type(origin, name)
        value = self._known(origin, kind)
        made = moment(value, kind, time)
        ranged = f"CASE WHEN {made} >= '{EARLIEST}'::TIMESTAMPTZ AND {made} < '{LATEST}'::TIMESTAMPTZ THEN {made} END"
        shown = f"left(({value})::VARCHAR, {SHOWN})"
        bad = (
            f"CASE WHEN {value} IS NULL THEN {literal(f'null {name}')} "
            f"WHEN {made} IS NULL THEN {literal(f'{name} is no time: ')} || {shown} "
            f"WHEN ({ranged}) IS NULL THEN {literal(f'{name} is not between 1970 and 2200: ')} || {shown} END"
        )
        return Converted(name, ranged, bad)
