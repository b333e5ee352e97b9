"""What the online store was loaded from: written down beside it, compared with what is stored now.

Belongs here: the note, and what is left to load. Not here: loading (assets/features.py).
"""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

from exfm.atomic_write import atomic_write
from exfm.online import View
from pipeline.slices.provenance import of_online
from pipeline.verify.models_current import Fault
from pipeline.workspace import Workspace

ONLINE_NOTE, ONLINE_FILE = "online.json", "online.db"
EMBEDDED = "embedded"  # in the note: the online store is a file of ours
LAYOUT, ROWS = "layout", "rows"  # in the note: how that file keeps its values; one of another layout is loaded again
INSTANT = timedelta(microseconds=1)
Loaded = Mapping[str, Mapping[str, str]]  # by ``features/<view>``, the slices that it was loaded from -> their digests


def note_online(work: Workspace, made_of: Loaded) -> None:
    """Write down what the online store was loaded from, and mark its file, so that another one is noticed."""
    path = work.state.feast / ONLINE_FILE
    embedded = {EMBEDDED: ONLINE_FILE, LAYOUT: ROWS} if path.is_file() else {}
    note = json.dumps({**made_of, **embedded}, indent=1).encode()
    with atomic_write(work.state.feast / ONLINE_NOTE) as file:
        file.write(note)
    if embedded:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            connection.execute(f"PRAGMA user_version = {_mark(note)}")


def _mark_of(path: Path) -> int | None:
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(path, timeout=60)) as connection:
            return int(connection.execute("PRAGMA user_version").fetchone()[0])
    except sqlite3.DatabaseError:
        return None


def _mark(note: bytes) -> int:
    return zlib.crc32(note) & 0x7FFFFFFF  # of a new file it is 0


def loaded_online(work: Workspace) -> Loaded | None:
    """What the online store was loaded from; ``None`` if that is not known, or its file is another one since."""
    try:
        note = (work.state.feast / ONLINE_NOTE).read_bytes()
        loaded = dict(json.loads(note))
    except (OSError, ValueError, TypeError):
        return None
    if EMBEDDED in loaded and (loaded.get(LAYOUT) != ROWS or _mark_of(work.state.feast / ONLINE_FILE) != _mark(note)):
        return None
    return {view: slices for view, slices in loaded.items() if isinstance(slices, dict)}


def window_to_load(work: Workspace, view: View, before: Loaded | None, now: Loaded) -> tuple[datetime, datetime] | None:
    """The first and last stamp of the rows that a view has to load; ``None`` if all of them are loaded.

    New slices after those that were loaded add rows. Where an older one changed, rows that it no longer has must make
    way for older ones still, so all that holds is loaded again.
    """
    stream, name = work.project.stream, f"features/{view.name}"
    slices, loaded = now.get(name, {}), (before or {}).get(name)
    changed = [key for key, digest in slices.items() if loaded is None or loaded.get(key) != digest]
    if not changed:
        return None
    newest = stream.slice_of(max(slices))
    end = newest.end + INSTANT
    if loaded and min(changed) > max(loaded):
        return stream.slice_of(max(loaded)).end + INSTANT, end
    return newest.end - view.ttl, end


def online_faults(work: Workspace) -> Iterator[Fault]:
    """Views whose newest slices are not what was loaded."""
    path, database = work.state.feast / ONLINE_NOTE, work.state.feast / ONLINE_FILE
    if not path.is_file():
        return
    note = path.read_bytes()
    try:
        loaded = dict(json.loads(note))
    except (ValueError, TypeError):
        yield Fault(None, f"{ONLINE_NOTE}, which says what was loaded, is damaged")
        return
    if EMBEDDED in loaded and loaded.get(LAYOUT) != ROWS:
        yield Fault(None, f"{ONLINE_FILE} is of an earlier exfm, which kept a row a feature: it is loaded again")
        return
    if EMBEDDED in loaded and _mark_of(database) != _mark(note):
        yield Fault(None, f"{ONLINE_FILE} is missing, damaged, or not the one that was loaded")
        return
    now = of_online(work)
    if differ := sorted(name for name in now if loaded.get(name) != now[name]):
        yield Fault(None, f"loaded from other {', '.join(differ)} than are stored now")
