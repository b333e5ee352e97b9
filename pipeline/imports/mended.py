"""Rows that were mended by hand, kept beside what they were: a file that is read anew gets them again.

Belongs here: keeping them, finding them among the rows that are refused now. Not here: reading them in (mending.py).
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from exfm.atomic_write import atomic_write
from pipeline.imports.importing import kept_path

Values = Mapping[str, Any] | str


@dataclass(frozen=True)
class Kept:
    """A mended row.

    Args:
        place: of the row in its file; ``was``: its values there; ``values``: what they were mended to.
    """

    place: str
    was: Values
    values: Values


def read_kept(log: Path, table: str, name: str) -> list[Kept]:
    """The mended rows of a file, none where nobody mended any."""
    path = kept_path(log, table, name)
    if not path.is_file():
        return []
    return [Kept(**json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]


def keep(log: Path, table: str, name: str, rows: Iterable[Kept]) -> None:
    """Keep mended rows of a file; one that was mended before is as it is mended now."""
    every = {(row.place, _text(row.was)): row for row in [*read_kept(log, table, name), *rows]}
    path = kept_path(log, table, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write("".join(json.dumps(asdict(row)) + "\n" for row in every.values()).encode())


def inherit(log: Path, table: str, before: str, name: str) -> None:
    """Let a file under another name have what was mended of it."""
    path = kept_path(log, table, before)
    if path.is_file():
        path.replace(kept_path(log, table, name))


def mended_values(refused: Sequence[tuple[str, Values]], kept: Sequence[Kept]) -> dict[str, Values]:
    """What rows that are refused now were mended to before: by their place.

    Those at the place where they were, then those that stand elsewhere, for rows were put in or taken out before them.

    Args:
        refused: place and values of each.
    """
    by_place = {(row.place, _text(row.was)): row for row in kept}
    found = {place: by_place[place, text] for place, values in refused if (place, text := _text(values)) in by_place}
    taken, elsewhere = {(row.place, _text(row.was)) for row in found.values()}, defaultdict[str, list[Kept]](list)
    for key, row in by_place.items():
        if key not in taken:
            elsewhere[key[1]].append(row)
    for place, values in refused:
        if place not in found and elsewhere[_text(values)]:
            found[place] = elsewhere[_text(values)].pop(0)
    return {place: row.values for place, row in found.items()}


def _text(values: Values) -> str:
    return json.dumps(values, sort_keys=True)
