"""Rows that were mended before, of files that were read anew: mended again.

Belongs here: of which files, and what is said of those that can't be. Not here: what is kept of them (mended.py),
reading them (mending.py).
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace

from exfm.declaration import digest
from pipeline.imports.entries import Entry, write_entry
from pipeline.imports.importing import quarantine_path
from pipeline.imports.mended import KeptRows, mended_values
from pipeline.imports.mending import MENDED_PART, mend_file, refused_of, take_out
from pipeline.tables import DataError
from pipeline.workspace import Workspace

_log = logging.getLogger(__name__)


def mend_all_again(work: Workspace, table: str, entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """The files of a table, each with what was mended of it. All of them: a process may have died before it did so.

    Raises:
        StateError: if the log's folder can't be written.
    """
    kept = KeptRows(work.state.log, table, entries.values())
    return {name: _mended(work, entry, kept) for name, entry in entries.items()}


def mended_rows(entries: Iterable[Entry]) -> int:
    """How many rows of files are in the log as they were mended."""
    return sum(rows for entry in entries for name, rows in entry.written.items() if MENDED_PART in name)


def say_refused_again(table: str, before: int, after: int) -> None:
    """Say how many rows that were mended are so no longer."""
    if before > after:
        _log.warning(
            "%s: %d rows that were mended are refused again, for they, or how they are read, are others now: "
            "`exfm quarantine %s --to rows.jsonl`, and mend them anew", table, before - after, table,
        )  # fmt: skip


def _mended(work: Workspace, entry: Entry, every: KeptRows) -> Entry:
    path = quarantine_path(work.state.log, entry.table, entry.name)
    if entry.mended and path.is_file():
        take_out(path, entry.mended)  # a mending may have been killed before it did
    kept = every.of(entry) if entry.quarantined else []
    if not kept:
        return entry
    refused = {row.place: row for row in refused_of(work, entry)}
    values = mended_values(((place, row.values) for place, row in refused.items()), kept)
    tried = digest(sorted(values.items()))
    if not values or tried == entry.tried:
        return entry
    try:
        entry, _ = mend_file(work, entry, [replace(refused[place], values=mended) for place, mended in values.items()])
    except DataError as error:
        _log.warning("%s: rows that were mended before can't be read again: %s", entry.name, error)
    left = {place: mended for place, mended in values.items() if place not in entry.mended}
    if left:  # in vain: not with each import anew
        entry = replace(entry, tried=digest(sorted(left.items())))
        write_entry(work.state.log, entry)
    return entry
