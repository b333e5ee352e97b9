"""Rows that were mended by hand, kept beside what they were: a file that is read anew gets them again.

Belongs here: keeping them, finding them among the rows that are refused now. Not here: reading them in (mending.py).

A row is known again by its place and its values, in the file of this name, or in one of the same bytes under another
(a copy, a move). One that stands elsewhere now is another row.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from exfm.atomic_write import atomic_write
from pipeline.imports.entries import Entry
from pipeline.imports.importing import MENDED, kept_path, quarantine_path

Values = Mapping[str, Any] | str


@dataclass(frozen=True)
class Kept:
    """A mended row.

    Args:
        place: of the row in its file; ``was``: its values there; ``values``: what they were mended to.
        sha256: of the file, when it was mended.
    """

    place: str
    was: Values
    values: Values
    sha256: str


def read_kept(path: Path) -> list[Kept]:
    """The mended rows of a file, none where nobody mended any."""
    if not path.is_file():
        return []
    return [Kept(**json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]


def keep(log: Path, table: str, name: str, rows: Iterable[Kept]) -> None:
    """Keep mended rows of a file; one that was mended before is as it is mended now."""
    path = kept_path(log, table, name)
    before = read_kept(path)
    every = {(row.place, _text(row.was)): row for row in [*before, *rows]}
    if list(every.values()) == before:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write("".join(json.dumps(asdict(row)) + "\n" for row in every.values()).encode())


def inherit(log: Path, table: str, before: str, name: str) -> None:
    """Let a file under another name have what was mended of it, too; what is its own stays as it is."""
    if rows := read_kept(kept_path(log, table, before)):
        keep(log, table, name, [*rows, *read_kept(kept_path(log, table, name))])


class KeptRows:
    """All that was mended of a table's files, read once: an import looks at every file."""

    def __init__(self, log: Path, table: str, entries: Iterable[Entry]) -> None:
        folder = quarantine_path(log, table, "").parent
        bytes_of = {kept_path(log, table, entry.name).name: entry.sha256 for entry in entries}
        self._log, self._by_bytes = log, defaultdict[str, list[Kept]](list)
        self._by_file = {path.name: read_kept(path) for path in sorted(folder.glob(f"*{MENDED}"))}
        for name, rows in self._by_file.items():
            for row in rows:
                if row.sha256 != bytes_of.get(name):  # else it stands in its own file: another one of these bytes
                    self._by_bytes[row.sha256].append(row)  # may mean something else, and be mended otherwise

    def of(self, entry: Entry) -> list[Kept]:
        """What was mended of a file, under this name, or of these bytes under a name that has others now, or none.

        What is its own stands last.
        """
        own = kept_path(self._log, entry.table, entry.name).name
        return [*self._by_bytes.get(entry.sha256, ()), *self._by_file.get(own, ())]


def mended_values(refused: Iterable[tuple[str, Values]], kept: Iterable[Kept]) -> dict[str, Values]:
    """What rows that are refused now were mended to before: by their place.

    Args:
        refused: place and values of each.
        kept: of two of one row the last one counts.
    """
    known = {(row.place, _text(row.was)): row.values for row in kept}
    return {place: known[place, text] for place, values in refused if (place, text := _text(values)) in known}


def _text(values: Values) -> str:
    return json.dumps(values, sort_keys=True)
