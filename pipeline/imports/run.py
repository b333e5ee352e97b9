"""A log read in: all its files that are new, or others than they were; and what came of each row.

Belongs here: which files, in which order, one process at a time; the account of all. Not here: one file
(importing.py).
"""

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import duckdb

from exfm.writing import alone
from pipeline.imports.connection import connected
from pipeline.imports.entries import Due, Entry, due_files, read_entries
from pipeline.imports.finding import TABLES, Found, SourceFile, find_sources, tables_to_import
from pipeline.imports.importing import Import
from pipeline.imports.mending_again import mend_all_again, mended_rows, say_refused_again
from pipeline.imports.moving import read_one, sweep
from pipeline.tables import DataError
from pipeline.workspace import Workspace

_log = logging.getLogger(__name__)
LEAST_JUDGED = 100  # rows, of which a share can be too large
NAMED = 3  # files that a sentence names


@dataclass(frozen=True)
class Progress:
    """How far a log is read in.

    Args:
        done, all: bytes.
    """

    source: SourceFile
    number: int
    count: int
    done: int
    all: int

    @property
    def share(self) -> float:
        return self.done / max(self.all, 1)


@dataclass
class TableAccount:
    """What became of the rows of one table's files, of those that stand and those read in now."""

    table: str
    files: int = 0
    read: int = 0
    kept: int = 0
    left_out: int = 0
    gone: int = 0
    repeated: list[str] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    lacking: Counter[str] = field(default_factory=Counter)

    def add(self, entry: Entry) -> None:
        if entry.copy_of is not None:
            self.repeated.append(f"{entry.name} (of {entry.copy_of})")
            return
        self.files += 1
        self.read += entry.rows
        self.kept += entry.kept
        self.left_out += entry.left_out
        self.reasons.update(entry.reasons)
        self.lacking.update(entry.lacking)

    @property
    def quarantined(self) -> int:
        return sum(self.reasons.values())

    @property
    def needs_attention(self) -> bool:
        return bool(self.reasons or self.repeated or not self.kept)

    def sentence(self) -> str:
        """All of it in one sentence: rows read = in the log + quarantined + left out."""
        files = f"{self.files:,} file{'' if self.files == 1 else 's'}"
        message = (
            f"{self.table}: {files}, {self.read:,} rows = {self.kept:,} in the log + {self.quarantined:,} quarantined"
        )
        if self.reasons:
            message += " (" + ", ".join(f"{why} {count:,}" for why, count in self.reasons.most_common(5)) + ")"
        message += f" + {self.left_out:,} left out by Files.where" if self.left_out else ""
        lacking = [f"{name} (of {count:,} files)" for name, count in self.lacking.most_common()]
        more = [
            f"null, for files have no such column: {_some(lacking)}" if lacking else "",
            f"{self.gone:,} files are gone from EXFM_DATA, what was read of them stays" if self.gone else "",
            f"not read, for they are copies of others byte for byte: {_some(self.repeated)}" if self.repeated else "",
        ]
        return "; ".join([message, *(part for part in more if part)])


@dataclass(frozen=True)
class Account:
    """What a look at the whole log found.

    Args:
        read_in: files that were read in now.
        refused: sentences of files that can't be.
    """

    tables: tuple[TableAccount, ...]
    read_in: tuple[Entry, ...] = ()
    refused: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def sentences(self) -> list[str]:
        """One a table, and what else is to be said."""
        said = [table.sentence() for table in self.tables]
        said += list(self.refused)
        if self.unread:
            said.append(f"not read, for their endings say of no kind (Files.kind does): {_some(self.unread)}")
        return said

    @property
    def needs_attention(self) -> bool:
        return bool(self.refused) or any(table.needs_attention for table in self.tables)


def sources_of(work: Workspace) -> Found:
    """The files of a workspace's log.

    Raises:
        DataError: as ``find_sources``.
    """
    assert work.project.log is not None
    return find_sources(work.project.log, work.state.data, tables_to_import(work))


def due(work: Workspace) -> list[Due]:
    """The files that are to be read in."""
    return due_files(work.state.log, sources_of(work).files, work.project.stream)


def import_log(work: Workspace, tell: Callable[[Progress], None] = lambda progress: None) -> Account:
    """Read in what is new, and give the account of the whole log.

    Files that can't be read don't stop the others; a killed import goes on where it was.

    Raises:
        DataError: if a path names nothing; after all others were read in, if a file is refused, or of a table more rows
            than ``Stream.quarantine_limit`` allows.
        StateError: if the log's folder can't be written.
    """
    log = work.state.log
    with alone(log / "_reading.lock", "reading the log in"):
        shutil.rmtree(log / "_reading", ignore_errors=True)  # of a process that was killed
        found = sources_of(work)
        for table in TABLES:
            (log / table).mkdir(parents=True, exist_ok=True)
        swept = {
            table: sweep(work, table, {source.name for source in found.files if source.table == table})
            for table in tables_to_import(work)
        }
        with connected(log / "_reading") as connection:
            account = _import(work, found, tell, connection, swept)
        shutil.rmtree(log / "_reading", ignore_errors=True)
    if account.refused:
        raise DataError("; ".join(account.refused))
    for counted in account.tables:
        limit = work.project.stream.quarantine_limit
        if counted.read >= LEAST_JUDGED and counted.quarantined > limit * (counted.read - counted.left_out):
            raise DataError(
                f"{counted.sentence()}: more than Stream.quarantine_limit ({limit:.0%}) allows: mend the files or the "
                "declaration, or raise the limit; `exfm quarantine` shows the rows"
            )
    return account


def _import(
    work: Workspace,
    found: Found,
    tell: Callable[[Progress], None],
    connection: duckdb.DuckDBPyConnection,
    swept: Mapping[str, int],
) -> Account:
    waiting = due_files(work.state.log, found.files, work.project.stream)
    sizes = [_size(each.source) for each in waiting]
    known = {table: read_entries(work.state.log, table) for table in tables_to_import(work)}
    changed = {(each.source.table, each.source.name) for each in waiting if each.why != "new"}
    there = {(source.table, source.name) for source in found.files} - changed
    mended = {table: swept[table] + mended_rows(entries.values()) for table, entries in known.items()}
    read_in: list[Entry] = []
    refused: list[str] = []
    for number, each in enumerate(waiting):
        done = sum(sizes[:number])

        def of_file(share: float, number: int = number, done: int = done, source: SourceFile = each.source) -> None:
            tell(Progress(source, number, len(waiting), done + int(share * sizes[number]), sum(sizes)))

        of_file(0.0)
        reader = Import(work.state.log, work.project.stream, of_file, connection)
        try:
            read_in.append(read_one(reader, each.source, known[each.source.table], there))
        except DataError as error:
            refused.append(str(error))
    for table, entries in known.items():
        known[table] = mend_all_again(work, table, entries)
        say_refused_again(table, mended[table], mended_rows(known[table].values()))
    read_in = [known[entry.table][entry.name] for entry in read_in]
    tables = tuple(_account(work, table, found) for table in tables_to_import(work))
    return Account(tables, tuple(read_in), tuple(refused), found.unread)


def _size(source: SourceFile) -> int:
    try:
        return source.path.stat().st_size
    except OSError:  # said when it is read
        return 0


def _account(work: Workspace, table: str, found: Found) -> TableAccount:
    account = TableAccount(table)
    there = {source.name for source in found.files if source.table == table}
    for entry in read_entries(work.state.log, table).values():
        account.add(entry)
        account.gone += entry.name not in there
    return account


def account_of(work: Workspace) -> Account:
    """What was read in so far, without reading anything."""
    found = sources_of(work)
    return Account(tuple(_account(work, table, found) for table in tables_to_import(work)), unread=found.unread)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = f" and {len(listed) - NAMED:,} more" if listed[NAMED:] else ""
    return ", ".join(listed[:NAMED]) + more
