"""One file of a log read in: its rows into the log's day folders, those that can't be into the quarantine.

Belongs here: one pass over a file, in memory that does not grow with it, put in place when it is whole. Not here: which
files (run.py), what a column becomes (converting.py).
"""

import errno
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from exfm.stream import Stream
from exfm.writing import StateError, refusal, unwritable
from pipeline.imports.converting import Conversion, Target, conversion_of, names_of
from pipeline.imports.entries import Entry, entry_path, key_of, made_of, write_entry
from pipeline.imports.finding import SourceFile
from pipeline.imports.reading import Relation, literal, naming, quoted, rejected_lines, relation_of
from pipeline.imports.values import hashed
from pipeline.sidecar import sha256_of
from pipeline.streams.contract import TIME
from pipeline.tables import DataError

QUARANTINE = "_quarantine"
MEMORY = "1GB"  # of DuckDB, beyond which it writes aside
ROW_GROUP = 122_880
WATCHED_SECONDS = 0.5
REASON, KEPT, RAW, ROW = "exfm reason", "exfm kept", "exfm raw", "exfm row"


@dataclass(frozen=True)
class Import:
    """Reads files of one log in.

    Args:
        log: the canonical log's folder.
        tell: is called with (share of the file that is read, in [0, 1]) now and then.
    """

    log: Path
    stream: Stream
    tell: Callable[[float], None] = lambda share: None

    def read(self, source: SourceFile, before: Entry | None = None, named: str | None = None) -> Entry:
        """Read a file in, in place of what was read of it before.

        Args:
            named: the name by which ids are made, where that is not its own.

        Raises:
            DataError: if the file is damaged, or lacks what a row needs.
            StateError: if the log's folder can't be written.
        """
        started, stat, sha256 = time.perf_counter(), source.path.stat(), sha256_of(source.path)
        aside = self.log / "_reading" / f"{key_of(source.table, source.name)}-{os.getpid()}"
        try:
            with _folder(aside), connected(aside) as connection:
                read = _Reading(connection, source, self.stream, aside, named or source.name, self.tell)
                counted = read.stage() or Counted()
                parts, refused = (read.parts(), read.quarantine()) if counted.rows else ({}, None)
                written = self._put_in_place(source, parts, refused, before)
        except (OSError, duckdb.Error) as error:
            if isinstance(error, duckdb.Error) and refusal(error) is None and "No space left" not in str(error):
                raise
            told = error if isinstance(error, OSError) else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise StateError(unwritable(self.log, told)) from error
        if sha256_of(source.path) != sha256:
            raise DataError(f"{source.name} changed while it was read: it is read again when it is whole")
        entry = Entry(
            source.table, source.name, made_of(source, self.stream), stat.st_size, stat.st_mtime_ns, sha256,
            counted.rows, counted.left_out, counted.reasons, written, counted.lacking,
            round(time.perf_counter() - started, 3), named, None, source.of_version,
        )  # fmt: skip
        write_entry(self.log, entry)
        return entry

    def note_copy(self, source: SourceFile, sha256: str, of: str) -> Entry:
        """Note a file whose rows are in the log already, of another file with the same bytes."""
        stat = source.path.stat()
        how = made_of(source, self.stream)
        entry = Entry(source.table, source.name, how, stat.st_size, stat.st_mtime_ns, sha256, 0, copy_of=of)
        write_entry(self.log, entry)
        return entry

    def forget(self, entry: Entry) -> None:
        """Take what was read of a file out of the log."""
        for name in entry.written:
            (self.log / name).unlink(missing_ok=True)
        quarantine_path(self.log, entry.table, entry.name).unlink(missing_ok=True)
        entry_path(self.log, entry.table, entry.name).unlink(missing_ok=True)

    def _put_in_place(
        self, source: SourceFile, parts: dict[str, list[tuple[Path, int]]], refused: Path | None, before: Entry | None
    ) -> dict[str, int]:
        """Move a file's parts into the log, each in one step, and take away those that are no longer its."""
        key, written = key_of(source.table, source.name), {}
        for day, paths in sorted(parts.items()):
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
    """What became of a file's rows."""

    rows: int = 0
    left_out: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Reading:
    """One file, read once into a staged copy, from which parts are cut."""

    connection: duckdb.DuckDBPyConnection
    source: SourceFile
    stream: Stream
    aside: Path
    named: str
    tell: Callable[[float], None]

    @property
    def _staged(self) -> str:
        return f"read_parquet({literal(str(self.aside / 'staged.parquet'))}, file_row_number=true)"

    def stage(self) -> Counted | None:
        """Read the whole file, convert each row or say why it can't be, and count; ``None`` if it is empty.

        Raises:
            DataError: as ``Import.read``.
        """
        relation = relation_of(self.connection, self.source, names_of(self.source.files))
        if not relation.columns:
            return None
        conversion = conversion_of(
            self.connection, relation, self.source, Target.of_log(self.stream, self.source.table)
        )
        with naming(self.source):
            self._copy(relation, conversion)
        self._note_rejected()
        rows, left_out = self.connection.sql(
            f"SELECT count(*), count(*) FILTER (NOT {quoted(KEPT)}) FROM {self._staged}"
        ).fetchall()[0]
        reasons = self.connection.sql(
            f"SELECT split_part(reason, ':', 1) AS kind, count(*) AS many FROM {self._refused} GROUP BY kind "
            "ORDER BY many DESC, kind"
        ).fetchall()
        rejected = self.connection.sql("SELECT count(*) FROM rejected_lines").fetchall()[0][0]
        return Counted(rows + rejected, left_out, {str(kind): int(many) for kind, many in reasons}, conversion.lacking)

    def _copy(self, relation: Relation, conversion: Conversion) -> None:
        staged, path = select_rows(relation, conversion, self.source), literal(str(self.aside / "staged.parquet"))
        with explained(self.source), _watched(self.connection, self.tell):
            self.connection.execute(f"COPY ({staged}) TO {path} (FORMAT parquet, COMPRESSION lz4)")

    def _note_rejected(self) -> None:
        self.connection.execute("CREATE TEMP TABLE rejected_lines (line BIGINT, reason VARCHAR, raw VARCHAR)")
        lines = rejected_lines(self.connection)
        if lines:
            rows = [(line, f"no row of a CSV: {why}", text) for line, why, text in lines]
            self.connection.executemany("INSERT INTO rejected_lines VALUES (?, ?, ?)", rows)

    @property
    def _refused(self) -> str:
        return (
            f"(SELECT {quoted(REASON)} AS reason, file_row_number + 1 AS row, NULL::BIGINT AS line, "
            f"{quoted(RAW)} AS raw FROM {self._staged} WHERE {quoted(REASON)} IS NOT NULL "
            "UNION ALL SELECT reason, NULL, line, raw FROM rejected_lines)"
        )

    def quarantine(self) -> Path | None:
        """The rows that were refused, with the reason, where they stood and what they were; ``None`` if none was."""
        path = self.aside / "refused.parquet"
        query = f"SELECT reason, {literal(self.source.name)} AS file, row, line, raw FROM {self._refused}"
        self.connection.execute(f"COPY ({query}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)")
        return path if self._rows_of(path) else None

    def _rows_of(self, path: Path) -> int:
        counted = self.connection.sql(
            f"SELECT count(*) FROM read_parquet({literal(str(path))}, hive_partitioning=false)"
        )
        return int(counted.fetchall()[0][0])

    def parts(self) -> dict[str, list[tuple[Path, int]]]:
        """The rows by their UTC day: day -> files, each with its rows."""
        folder, clock = self.aside / "days", quoted(TIME[self.source.table])
        names = self.connection.sql(f"SELECT * FROM {self._staged} LIMIT 0").columns
        own = [quoted(name) for name in names if name not in (KEPT, REASON, RAW, "file_row_number")]
        if "impression_id" not in names and self.source.table == "impressions":
            made = hashed(f"{literal(self.named)} || '|' || (file_row_number + 1)")
            own = [f"{made} AS impression_id", *own]
        day = f"strftime(({clock})::DATE, '%Y-%m-%d')"
        query = (
            f"SELECT {', '.join(own)}, {day} AS day FROM {self._staged} "
            f"WHERE {quoted(KEPT)} AND {quoted(REASON)} IS NULL"
        )
        self.connection.execute(
            f"COPY ({query}) TO {literal(str(folder))} (FORMAT parquet, COMPRESSION zstd, PARTITION_BY (day), "
            f"ROW_GROUP_SIZE {ROW_GROUP})"
        )
        found: dict[str, list[tuple[Path, int]]] = {}
        for path in sorted(folder.glob("day=*/*.parquet")):
            found.setdefault(path.parent.name.removeprefix("day="), []).append((path, self._rows_of(path)))
        return found


def select_rows(relation: Relation, conversion: Conversion, source: SourceFile, more: tuple[str, ...] = ()) -> str:
    """A query of all rows of a file: converted, or with why they can't be and what they were.

    Args:
        more: columns of the file to carry along as they are.
    """
    bads = ", ".join([relation.bad, *(column.bad for column in conversion.columns)])
    where = source.files.where
    kept = "true" if where is None else f"coalesce(({where})::BOOLEAN, false)"
    values = "".join(f", {column.value} AS {quoted(column.name)}" for column in conversion.columns)
    carried = "".join(f", {quoted(name)}" for name in more)
    rows = (
        f"SELECT {kept} AS {quoted(KEPT)}, coalesce({bads}) AS {quoted(REASON)}{values}{carried}, "
        f"({relation.raw})::VARCHAR AS {quoted(RAW)} FROM {relation.sql}"
    )
    sound = f"{quoted(KEPT)} AND {quoted(REASON)} IS NULL"
    names = [quoted(column.name) for column in conversion.columns]
    chosen = ", ".join(f"CASE WHEN {sound} THEN {name} END AS {name}" for name in names)
    refused = f"{quoted(KEPT)} AND {quoted(REASON)} IS NOT NULL"
    return (
        f"SELECT {quoted(KEPT)}, CASE WHEN {quoted(KEPT)} THEN {quoted(REASON)} END AS {quoted(REASON)}, "
        f"{chosen}{carried}, CASE WHEN {refused} THEN {quoted(RAW)} END AS {quoted(RAW)} FROM ({rows})"
    )


@contextmanager
def explained(source: SourceFile) -> Iterator[None]:
    """An expression of the declaration that DuckDB can't make sense of, as a sentence.

    Raises:
        DataError: naming the table and the file.
    """
    try:
        yield
    except (duckdb.BinderException, duckdb.ParserException, duckdb.ConversionException) as error:
        told = str(error).splitlines()[0]
        raise DataError(f"{source.table}: an expression of Files fails over {source.name}: {told}") from error


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _watched(connection: duckdb.DuckDBPyConnection, tell: Callable[[float], None]) -> Iterator[None]:
    """Tell now and then how far the query inside is."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCHED_SECONDS):
            tell(max(connection.query_progress(), 0.0) / 100)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@contextmanager
def connected(aside: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB in bounded memory, by the clock of UTC.

    Args:
        aside: where it writes what does not fit.
    """
    options: dict[str, str | bool | int | float | list[str]] = {
        "memory_limit": MEMORY,
        "temp_directory": str(aside / "spilt"),
        "preserve_insertion_order": True,
    }
    with duckdb.connect(config=options) as connection:
        connection.execute(
            "SET TimeZone = 'UTC'; SET enable_progress_bar = true; SET enable_progress_bar_print = false"
        )
        yield connection
