"""One file of a log read in: its rows into the log's day folders, those that can't be into the quarantine.

Belongs here: putting what was read of a file in place when it is whole, and taking it out. Not here: which files
(run.py), reading them (by_day.py).
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from exfm.stream import Stream
from exfm.writing import StateError, unwritable
from pipeline.imports.by_day import Counted, Reading
from pipeline.imports.connection import connected, refusing
from pipeline.imports.entries import Entry, entry_path, key_of, made_of, write_entry
from pipeline.imports.finding import SourceFile
from pipeline.imports.reading import forget_lines, naming
from pipeline.sidecar import sha256_of
from pipeline.tables import DataError

QUARANTINE = "_quarantine"
MENDED = ".mended.jsonl"  # how files of mended rows end


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
            stat = source.path.stat()
        aside = self.log / "_reading" / f"{key_of(source.table, source.name)}-{os.getpid()}"
        try:
            with (
                refusing(source), _folder(aside), self._connection(aside) as connection, ThreadPoolExecutor(1) as pool
            ):  # fmt: skip
                hashing = None if sha256 else pool.submit(sha256_of, source.path)  # beside the reading
                counted = Reading(connection, source, self.stream, aside, named or source.name, self.tell).read()
                with naming(source):
                    sha256 = sha256 or (hashing.result() if hashing else "")
                    after = source.path.stat()
                if (after.st_size, after.st_mtime_ns) != (stat.st_size, stat.st_mtime_ns):
                    raise DataError(f"{source.name} changed while it was read: it is read again when it is whole")
                written = self._put_in_place(source, named or source.name, counted, before)
        except OSError as error:
            raise StateError(unwritable(self.log, error)) from error
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
        forget_lines(self.connection)
        self.connection.execute("DROP TABLE IF EXISTS refused")
        yield self.connection

    def note_copy(self, source: SourceFile, sha256: str, of: str) -> Entry:
        """Note a file whose rows are in the log already, of another file with the same bytes."""
        stat = source.path.stat()
        how = made_of(source, self.stream)
        entry = Entry(source.table, source.name, how, stat.st_size, stat.st_mtime_ns, sha256, 0, copy_of=of)
        write_entry(self.log, entry)
        return entry

    def forget(self, entry: Entry, heir: Entry | None = None, *, mended: bool = True) -> None:
        """Take what was read of a file out of the log.

        Args:
            heir: the file that has its ids now, and with them the names of its parts: those are spared.
            mended: also what was mended of it, which it else has again if its bytes come again.
        """
        for name in entry.written.keys() - (heir.written.keys() if heir is not None else set()):
            (self.log / name).unlink(missing_ok=True)
        for path in (quarantine_path, *([kept_path] if mended else [])):
            path(self.log, entry.table, entry.name).unlink(missing_ok=True)
        entry_path(self.log, entry.table, entry.name).unlink(missing_ok=True)

    def _put_in_place(self, source: SourceFile, named: str, counted: Counted, before: Entry | None) -> dict[str, int]:
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


def kept_path(log: Path, table: str, name: str) -> Path:
    """Where the rows of a file are kept that were mended by hand."""
    return quarantine_path(log, table, name).with_suffix(MENDED)


@contextmanager
def _folder(path: Path) -> Iterator[None]:
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield
    finally:
        shutil.rmtree(path, ignore_errors=True)
