"""What was read in of each file of a log: beside the log, one small file for each.

Belongs here: reading and writing them, telling which files are new or others than they were. Not here: reading the
files themselves (importing.py).
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from exfm.atomic_write import atomic_write
from exfm.declaration import digest
from exfm.stream import Stream
from pipeline.imports.finding import SourceFile
from pipeline.sidecar import sha256_of
from pipeline.streams.contract import schema_of

FOLDER = "_imported"  # beside the log's tables; readers of a log pass over names that begin with an underscore
CODE = 1  # raised where the same file and declaration now become other rows
OF_SEVERAL = 1  # the same, of files whose ids are made of several columns


@dataclass(frozen=True)
class Entry:
    """A file that was read in.

    Args:
        made_of: digest of how it was read: its declaration, and what the stream wants of it.
        size, changed, sha256: of its bytes then; ``changed`` in nanoseconds.
        rows: all that it has; ``left_out``: by ``Files.where``; ``reasons``: how many were refused, and why.
        written: files of the log, relative to it, with their rows.
        mended: places of refused rows that were mended, and are in the log; ``tried``: a digest of those that were
            mended before, and could not be read again.
        lacking: columns of the log that it does not have.
        named: the name by which ids were made, where it was moved since.
        copy_of: the file whose bytes it has, for which it was not read.
        version_of: the table with versions that it is a part of.
    """

    table: str
    name: str
    made_of: str
    size: int
    changed: int
    sha256: str
    rows: int
    left_out: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)
    written: Mapping[str, int] = field(default_factory=dict)
    lacking: tuple[str, ...] = ()
    seconds: float = 0.0
    named: str | None = None
    copy_of: str | None = None
    version_of: str | None = None
    mended: tuple[str, ...] = ()
    tried: str = ""

    @property
    def kept(self) -> int:
        """Rows in the log."""
        return sum(self.written.values())

    @property
    def quarantined(self) -> int:
        return sum(self.reasons.values())


def key_of(table: str, name: str) -> str:
    """What a file's parts in the log are called."""
    return hashlib.sha256(f"{table}/{name}".encode()).hexdigest()[:16]


def made_of(source: SourceFile, stream: Stream, of_several: int = OF_SEVERAL) -> str:
    """A digest of how a file is read.

    Args:
        of_several: how ids were made of several columns; 0: as they were made first.
    """
    schema = {name: str(dtype) for name, dtype in schema_of(stream, source.table).items()}
    is_joined = isinstance(source.files.id, tuple) and len(source.files.id) > 1
    return digest(source.files, schema, CODE, source.levels, *([of_several] if is_joined and of_several else []))


def entry_path(log: Path, table: str, name: str) -> Path:
    return log / FOLDER / table / f"{key_of(table, name)}.json"


def write_entry(log: Path, entry: Entry) -> None:
    """Note a file as read in."""
    with atomic_write(entry_path(log, entry.table, entry.name)) as file:
        file.write(json.dumps(asdict(entry), indent=1, sort_keys=True).encode())


def read_entries(log: Path, table: str) -> dict[str, Entry]:
    """The files that were read in, by name. One whose note can't be read counts as new."""
    found = {}
    for path in sorted((log / FOLDER / table).glob("*.json")):
        try:
            plain = json.loads(path.read_text(encoding="utf-8"))
            entry = Entry(**{**plain, **{name: tuple(plain.get(name, ())) for name in ("lacking", "mended")}})
        except (OSError, ValueError, TypeError, KeyError):
            continue
        found[entry.name] = entry
    return found


@dataclass(frozen=True)
class Due:
    """A file that is to be read in, and why."""

    source: SourceFile
    why: str


def standing(
    log: Path, entry: Entry | None, source: SourceFile, stream: Stream, others: Mapping[str, Entry]
) -> str | None:
    """Why a file must be read in; ``None`` if it stands. Its bytes are read only where its size or time is another.

    Args:
        others: what is known of its table's files, by name.
    """
    if entry is None:
        return "new"
    if entry.copy_of is not None and (
        (first := others.get(entry.copy_of)) is None or (first.sha256, first.made_of) != (entry.sha256, entry.made_of)
    ):
        return "new"  # what it was a copy of is something else by now
    if entry.made_of != made_of(source, stream):
        return "declared otherwise"
    stat = source.path.stat()
    if (stat.st_size, stat.st_mtime_ns) != (entry.size, entry.changed) and (
        stat.st_size != entry.size or sha256_of(source.path) != entry.sha256
    ):
        return "changed"
    if any(not (log / name).is_file() for name in entry.written):
        return "no longer whole in the log"
    return None


def due_files(log: Path, sources: Sequence[SourceFile], stream: Stream) -> list[Due]:
    """The files that are to be read in, new ones first: one may be an old one under another name."""
    entries: dict[str, dict[str, Entry]] = {}
    found: list[Due] = []
    for source in sources:
        if source.table not in entries:
            entries[source.table] = read_entries(log, source.table)
        known = entries[source.table]
        try:
            why = standing(log, known.get(source.name), source, stream, known)
        except OSError:  # said when it is read
            why = "changed"
        if why is not None:
            found.append(Due(source, why))
    changed = {(each.source.table, each.source.name) for each in found}
    for source in sources:  # a copy of what is something else from now on
        known_as = entries[source.table].get(source.name)
        if known_as is not None and (source.table, known_as.copy_of) in changed:
            found += [Due(source, "new")] if (source.table, source.name) not in changed else []
    return sorted(found, key=lambda each: each.why != "new")
