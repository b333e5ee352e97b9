"""What of the log a read saw: its files by content, so that a late or corrected one is noticed later.

Belongs here: which files of a window matter, and their digest. Not here: reading rows (reader.py).

A file matters to a window if one of its rows may lie in it. A new file of the same day with later rows changes nothing,
nor does a file that was copied or touched: what counts is its bytes, read again only where size or time of it changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from exfm.declaration import digest
from pipeline.sidecar import LogFile, sha256_of
from pipeline.streams.footers import may_hold
from pipeline.streams.layout import LogFiles


@dataclass(frozen=True)
class Seen:
    """The files of a window: a digest of those that matter, and all that were looked at, by their path in the log."""

    digest: str
    files: Mapping[str, LogFile]


def seen_of(listed: LogFiles, start: datetime, end: datetime, before: Mapping[str, LogFile] | None = None) -> Seen:
    """What a read of [start, end) of a table of the log would see now.

    Args:
        listed: the table's files.
        before: what an earlier look at this very window saw.
    """
    known = before or {}
    files: dict[str, LogFile] = {}
    log, table = listed.folder.parent, listed.table
    for day, found in listed.found_between(start, end):
        for name, (path, size, changed) in found.items():
            entry = known.get(name)
            if entry is None or entry[0] != size or entry[1] != changed:
                matters = may_hold(path, day, table, start, end)
                entry = (size, changed, sha256_of(path)[:12] if matters else None)
            files[name] = entry
    # A day that was taken out of the log as a whole is not a correction: what was read of it holds.
    files |= {name: entry for name, entry in known.items() if name not in files and not (log / name).parent.is_dir()}
    return Seen(digest_of(files), files)


def digest_of(files: Mapping[str, LogFile]) -> str:
    """A digest of the files that matter to a window, of those that were looked at."""
    return digest(sorted([name, entry[2]] for name, entry in files.items() if entry[2] is not None))
