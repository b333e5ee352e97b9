"""Files of a log that are others under another name, and what is left of them: moves, copies, rotations, versions.

Belongs here: which rows are whose. Not here: reading them (importing.py).
"""

import logging
import re
from collections.abc import Iterable
from dataclasses import replace

from exfm.log_files import Files
from pipeline.imports.entries import Entry, entry_path, made_of, read_entries, write_entry
from pipeline.imports.finding import SourceFile
from pipeline.imports.importing import Import, kept_path, quarantine_path
from pipeline.imports.mended import inherit
from pipeline.imports.mending_again import mended_rows
from pipeline.imports.reading import FILENAME, naming
from pipeline.sidecar import sha256_of
from pipeline.workspace import Workspace

_log = logging.getLogger(__name__)
_PART = re.compile(r"[0-9a-f]{16}-(mended)?\d+\.parquet")


def read_one(reader: Import, source: SourceFile, known: dict[str, Entry], there: set[tuple[str, str]]) -> Entry:
    """Read a file in. A copy of another is only noted; one that was moved keeps its rows, and the ids made for them.

    Args:
        known: what was read of its table's files, by name; kept up to date.
        there: table and name of files that are there as they were read.

    Raises:
        DataError, StateError: as ``Import.read``.
    """
    before = known.get(source.name)
    named, sha256, moved = before.named if before is not None else None, None, None
    if (before is None or before.copy_of is not None) and source.version_of is None:
        others = _others(known, source.name)
        with naming(source):
            # Elsewhere it is hashed while it is read.
            if source.path.stat().st_size in {entry.size for entry in others if entry.rows} or (
                any((entry.named or entry.name) == source.name for entry in others)
            ):
                sha256 = sha256_of(source.path)
    if sha256 is not None:
        alike = made_of(source, reader.stream) if not _reads_name(source.files) else None
        for same in _with_bytes(known.values(), sha256, source.name):
            if (same.table, same.name) in there:
                if same.made_of == alike:
                    return _kept(known, reader.note_copy(source, sha256, same.name))
                continue  # the same bytes mean something else here
            _log.info("%s was moved to %s", same.name, source.name)
            if same.made_of == alike:
                return _kept(known, _renamed(reader, source, same, known))
            named, moved = same.named or same.name, same
            break
        if named is None and any((entry.named or entry.name) == source.name for entry in others):
            named = f"{source.name}@{sha256[:12]}"  # rows of the file that had this name before keep their ids
    entry = reader.read(source, before, named, sha256)
    if moved is not None:
        inherit(reader.log, moved.table, moved.name, source.name)
        reader.forget(moved, entry)
        known.pop(moved.name, None)
    return _kept(known, entry)


def _kept(known: dict[str, Entry], entry: Entry) -> Entry:
    known[entry.name] = entry
    return entry


def _others(known: dict[str, Entry], name: str) -> list[Entry]:
    return [entry for entry in known.values() if entry.name != name and entry.copy_of is None]


def _with_bytes(entries: Iterable[Entry], sha256: str, but: str) -> list[Entry]:
    return [e for e in entries if e.sha256 == sha256 and e.name != but and e.rows and e.copy_of is None]


def _reads_name(files: Files) -> bool:
    """Do its rows hang on what the file is called?"""
    time = files.time.sql or files.time.of or "" if files.time is not None else ""
    told = [time, files.where or "", *(str(column.sql or column.of) for column in files.columns), str(files.id)]
    return any(FILENAME in text for text in told)


def _renamed(reader: Import, source: SourceFile, entry: Entry, known: dict[str, Entry]) -> Entry:
    """Let a file under another name have the rows that were read of it."""
    stat, log = source.path.stat(), reader.log
    named = entry.named or entry.name
    renamed = replace(entry, name=source.name, size=stat.st_size, changed=stat.st_mtime_ns, named=named)
    inherit(log, entry.table, entry.name, source.name)
    refused = quarantine_path(log, entry.table, entry.name)
    if refused.is_file():
        refused.replace(quarantine_path(log, entry.table, source.name))
    write_entry(log, renamed)
    for path in (entry_path, kept_path):
        path(log, entry.table, entry.name).unlink(missing_ok=True)
    known.pop(entry.name, None)
    return renamed


def sweep(work: Workspace, table: str, there: set[str]) -> int:
    """Take out what killed imports left, and what a table with versions no longer has.

    Args:
        there: names of the table's files.

    Returns:
        How many rows that were mended went out with it.
    """
    log, entries = work.state.log, read_entries(work.state.log, table)
    reader, mended = Import(log, work.project.stream), 0
    for entry in list(entries.values()):
        if entry.name in there:
            continue
        heirs = [other for other in entries.values() if other.name in there and other.sha256 == entry.sha256]
        named = [other for other in heirs if (other.named or other.name) == (entry.named or entry.name)]
        for heir in named:
            inherit(log, table, entry.name, heir.name)
        if any(set(other.written) & set(entry.written) for other in heirs):  # a move that was not finished
            entry_path(log, table, entry.name).unlink(missing_ok=True)
        elif named or _is_replaced(work, entry):
            mended += mended_rows([entry])
            reader.forget(entry, mended=bool(named))
        else:
            continue
        del entries[entry.name]
    written = {name for entry in entries.values() for name in entry.written}
    for path in (log / table).glob("day=*/*.parquet"):
        if _PART.fullmatch(path.name) and path.relative_to(log).as_posix() not in written:
            path.unlink()
    return mended


def _is_replaced(work: Workspace, entry: Entry) -> bool:
    """Is it of a table with versions that is still there?"""
    return entry.version_of is not None and (work.state.data / entry.version_of / "_delta_log").is_dir()
