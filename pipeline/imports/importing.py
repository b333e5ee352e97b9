"""One file of a log read in: its rows into the log's day folders, those that can't be into the quarantine.

Belongs here: one pass over a file, in memory that does not grow with it, put in place when it is whole. Not here: which
files (run.py), what a column becomes (converting.py).
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow.parquet as pq

from exfm.stream import Stream
from exfm.writing import StateError, unwritable
from pipeline.imports.connection import connected, explained, watched
from pipeline.imports.converting import Conversion, Target, conversion_of, given, made, names_of
from pipeline.imports.entries import Entry, entry_path, key_of, made_of, write_entry
from pipeline.imports.finding import SourceFile
from pipeline.imports.reading import (
    REJECTED,
    SCANNED,
    Relation,
    check_whole,
    literal,
    naming,
    quoted,
    refusal_of,
    rejected_lines,
    relation_of,
)
from pipeline.imports.values import hashed
from pipeline.sidecar import sha256_of
from pipeline.tables import DataError

QUARANTINE = "_quarantine"
ROW_GROUP = 122_880
LEFT_OUT, REFUSED = "left-out", "refused"  # where the day of a row stands that is not in the log
DAY, REASON, KEPT, RAW, ROW = "exfm day", "exfm reason", "exfm kept", "exfm raw", "exfm row"


@dataclass(frozen=True)
class Import:
    """Reads files of one log in.

    Args:
        log: the canonical log's folder.
        tell: is called with (share of the file that is read, in [0, 1]) now and then.
        connection: of DuckDB, for many files; ``None``: each has its own.
    """

    log: Path
    stream: Stream
    tell: Callable[[float], None] = lambda share: None
    connection: duckdb.DuckDBPyConnection | None = None

    def read(
        self, source: SourceFile, before: Entry | None = None, named: str | None = None, sha256: str | None = None
    ) -> Entry:
        """Read a file in, in place of what was read of it before.

        Args:
            sha256: of its bytes, where that is known.
            named: the name by which ids are made, where that is not its own.

        Raises:
            DataError: if the file is damaged, or lacks what a row needs.
            StateError: if the log's folder can't be written.
        """
        started = time.perf_counter()
        with naming(source):
            stat, sha256 = source.path.stat(), sha256 or sha256_of(source.path)
        check_whole(source)
        aside = self.log / "_reading" / f"{key_of(source.table, source.name)}-{os.getpid()}"
        try:
            with _folder(aside), self._connection(aside) as connection:
                counted = _Reading(connection, source, self.stream, aside, named or source.name, self.tell).read()
                with naming(source):
                    after = source.path.stat()
                if (after.st_size, after.st_mtime_ns) != (stat.st_size, stat.st_mtime_ns):
                    raise DataError(f"{source.name} changed while it was read: it is read again when it is whole")
                written = self._put_in_place(source, named or source.name, counted, before)
        except (OSError, duckdb.Error) as error:
            told = error if isinstance(error, OSError) else refusal_of(error)
            if told is None:
                first = str(error).splitlines()[0]
                raise DataError(f"{source.name} can't be read as {source.table}: {first}: mend Files") from error
            raise StateError(unwritable(self.log, told)) from error
        entry = Entry(
            source.table, source.name, made_of(source, self.stream), stat.st_size, stat.st_mtime_ns, sha256,
            counted.rows, counted.left_out, counted.reasons, written, counted.lacking,
            round(time.perf_counter() - started, 3), named, None, source.version_of,
        )  # fmt: skip
        write_entry(self.log, entry)
        return entry

    @contextmanager
    def _connection(self, aside: Path) -> Iterator[duckdb.DuckDBPyConnection]:
        if self.connection is None:
            with connected(aside) as connection:
                yield connection
            return
        for table in (REJECTED, SCANNED, "refused"):
            self.connection.execute(f"DROP TABLE IF EXISTS {table}")
        yield self.connection

    def note_copy(self, source: SourceFile, sha256: str, of: str) -> Entry:
        """Note a file whose rows are in the log already, of another file with the same bytes."""
        stat = source.path.stat()
        how = made_of(source, self.stream)
        entry = Entry(source.table, source.name, how, stat.st_size, stat.st_mtime_ns, sha256, 0, copy_of=of)
        write_entry(self.log, entry)
        return entry

    def forget(self, entry: Entry, heir: Entry | None = None) -> None:
        """Take what was read of a file out of the log.

        Args:
            heir: the file that has its ids now, and with them the names of its parts: those are spared.
        """
        for name in entry.written.keys() - (heir.written.keys() if heir is not None else set()):
            (self.log / name).unlink(missing_ok=True)
        quarantine_path(self.log, entry.table, entry.name).unlink(missing_ok=True)
        entry_path(self.log, entry.table, entry.name).unlink(missing_ok=True)

    def _put_in_place(self, source: SourceFile, named: str, counted: "Counted", before: Entry | None) -> dict[str, int]:
        """Move a file's parts into the log, each in one step, and take away those that are no longer its."""
        key, refused, written = key_of(source.table, named), counted.refused, dict[str, int]()
        for day, paths in sorted(counted.parts.items()):
            for number, (path, rows) in enumerate(paths):
                name = f"{source.table}/day={day}/{key}-{number}.parquet"
                (self.log / name).parent.mkdir(parents=True, exist_ok=True)
                path.replace(self.log / name)
                written[name] = rows
        for name in (before.written if before is not None else {}).keys() - written.keys():
            (self.log / name).unlink(missing_ok=True)
        kept = quarantine_path(self.log, source.table, source.name)
        if refused is None:
            kept.unlink(missing_ok=True)
        else:
            kept.parent.mkdir(parents=True, exist_ok=True)
            refused.replace(kept)
        return written


def quarantine_path(log: Path, table: str, name: str) -> Path:
    """Where the rows of a file lie that could not be read in."""
    return log / QUARANTINE / table / f"{key_of(table, name)}.parquet"


@dataclass(frozen=True)
class Counted:
    """What became of a file's rows.

    Args:
        parts: day -> files aside, each with its rows; ``refused``: the file aside of those that were.
    """

    rows: int = 0
    left_out: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()
    parts: dict[str, list[tuple[Path, int]]] = field(default_factory=dict)
    refused: Path | None = None


@dataclass(frozen=True)
class _Reading:
    """One file, read once: its rows cut by day, the refused ones apart.

    Args:
        named: by which ids are made.
    """

    connection: duckdb.DuckDBPyConnection
    source: SourceFile
    stream: Stream
    aside: Path
    named: str
    tell: Callable[[float], None]

    def read(self) -> Counted:
        """Read the whole file, convert each row or say why it can't be, and count.

        Raises:
            DataError: as ``Import.read``.
        """
        target = Target.of_log(self.stream, self.source.table)
        relation = relation_of(self.connection, self.source, [*names_of(self.source.files), *target.schema])
        if not relation.columns:
            return Counted()  # an empty file
        conversion = conversion_of(self.connection, relation, self.source, target)
        with naming(self.source), explained(self.source), watched(self.connection, self.tell):
            self.connection.execute(
                f"COPY ({self._by_day(relation, conversion, target)}) TO {literal(str(self.aside / 'days'))} "
                f"(FORMAT parquet, COMPRESSION zstd, PARTITION_BY ({quoted(DAY)}), ROW_GROUP_SIZE {ROW_GROUP})"
            )
        parts = self._parts()
        left_out = sum(rows for _, rows in parts.pop(LEFT_OUT, []))
        refused, reasons = None, dict[str, int]()
        if parts.pop(REFUSED, []) or rejected_lines(self.connection):
            refused, reasons = self._refused(relation, conversion)
        kept = sum(rows for paths in parts.values() for _, rows in paths)
        rows = kept + left_out + sum(reasons.values())
        return Counted(rows, left_out, reasons, conversion.lacking, parts, refused)

    def _by_day(self, relation: Relation, conversion: Conversion, target: Target) -> str:
        """Every row in one pass, with its UTC day, or what became of it instead."""
        columns, rows = [quoted(column.name) for column in conversion.columns], self._rows(relation, conversion)
        if conversion.made_id:
            named = hashed(f"{literal(self.named)} || '|' || {quoted(ROW)}")
            columns, rows = [f"{named} AS impression_id", *columns], self._rows(relation, conversion, counted=True)
        assert target.clock is not None
        day = (
            f"CASE WHEN NOT {quoted(KEPT)} THEN '{LEFT_OUT}' WHEN {quoted(REASON)} IS NOT NULL THEN '{REFUSED}' "
            f"ELSE strftime({quoted(target.clock)}::DATE, '%Y-%m-%d') END"
        )
        return f"SELECT {', '.join(columns)}, {day} AS {quoted(DAY)} FROM {rows}"

    def _rows(self, relation: Relation, conversion: Conversion, *, counted: bool = False) -> str:
        """All rows; ``counted``: with their places. Counting makes one thread read a text, so it is done on demand."""
        if not counted:
            return f"({select_rows(relation, conversion, self.source)})"
        if relation.row is not None:
            return f"({select_rows(relation, conversion, self.source, {ROW: relation.row})})"
        return (
            f"(SELECT *, row_number() OVER () AS {quoted(ROW)} FROM ({select_rows(relation, conversion, self.source)}))"
        )

    def _parts(self) -> dict[str, list[tuple[Path, int]]]:
        """Day, or what became of rows instead -> files, each with its rows."""
        found: dict[str, list[tuple[Path, int]]] = {}
        for path in sorted((self.aside / "days").glob("*/*.parquet")):
            day = path.parent.name.rpartition("=")[2]
            found.setdefault(day, []).append((path, pq.read_metadata(path).num_rows))
        return found

    def _refused(self, relation: Relation, conversion: Conversion) -> tuple[Path, dict[str, int]]:
        """The rows that were refused, with the reason, where they stood and what they were; and how many for what."""
        lines = rejected_lines(self.connection)
        rows = self._rows(relation, conversion, counted=True)
        self.connection.execute(
            f"CREATE TEMP TABLE refused AS SELECT {quoted(REASON)} AS reason, {quoted(ROW)}::BIGINT AS row, "
            f"NULL::BIGINT AS line, {quoted(RAW)} AS raw FROM {rows} WHERE {quoted(REASON)} IS NOT NULL"
        )
        if lines:
            values = [(f"no row of a CSV: {why}", line, text) for line, why, text in lines]
            self.connection.executemany("INSERT INTO refused (reason, line, raw) VALUES (?, ?, ?)", values)
        path = self.aside / "refused.parquet"
        query = f"SELECT reason, {literal(self.source.name)} AS file, row, line, raw FROM refused ORDER BY row, line"
        self.connection.execute(f"COPY ({query}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)")
        counted = self.connection.sql(
            "SELECT split_part(reason, ':', 1) AS kind, count(*) AS many FROM refused GROUP BY kind "
            "ORDER BY many DESC, kind"
        ).fetchall()
        return path, {str(kind): int(many) for kind, many in counted}


def select_rows(
    relation: Relation, conversion: Conversion, source: SourceFile, more: Mapping[str, str] | None = None
) -> str:
    """A query of all rows of a file: converted, or with why they can't be and what they were.

    Args:
        more: expressions over the file's columns to carry along, by their names.
    """
    where = source.files.where
    kept = "true" if where is None else f"coalesce(({where})::BOOLEAN, false)"
    givens = "".join(f", {column.given} AS {given(column.name)}" for column in conversion.columns)
    mades = "".join(f", {column.made} AS {made(column.name)}" for column in conversion.columns)
    bads = ", ".join([relation.bad, *(column.bad for column in conversion.columns)])
    values = "".join(f", {made(column.name)} AS {quoted(column.name)}" for column in conversion.columns)
    also = "".join(f", {quoted(name)}" for name in more or {})
    carried = "".join(f", {expression} AS {quoted(name)}" for name, expression in (more or {}).items())
    rows = (
        f"SELECT {kept} AS {quoted(KEPT)}, coalesce({bads}) AS {quoted(REASON)}{values}{carried}, "
        f"({relation.raw})::VARCHAR AS {quoted(RAW)} "
        f"FROM (SELECT *{mades} FROM (SELECT *{givens} FROM {relation.sql}))"
    )
    sound = f"{quoted(KEPT)} AND {quoted(REASON)} IS NULL"
    names = [quoted(column.name) for column in conversion.columns]
    chosen = ", ".join(f"CASE WHEN {sound} THEN {name} END AS {name}" for name in names)
    refused = f"{quoted(KEPT)} AND {quoted(REASON)} IS NOT NULL"
    return (
        f"SELECT {quoted(KEPT)}, CASE WHEN {quoted(KEPT)} THEN {quoted(REASON)} END AS {quoted(REASON)}, "
        f"{chosen}{also}, CASE WHEN {refused} THEN {quoted(RAW)} END AS {quoted(RAW)} FROM ({rows})"
    )


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(path, ignore_errors=True)
