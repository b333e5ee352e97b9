"""Are the stored files still what was written? Read whole, newest slices first.

Belongs here: which files there are, and what the online store was loaded from. Not here: what they are made of
(tables_current.py, models_current.py).
"""

import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

from exfm.atomic_write import atomic_write
from exfm.stream import Slice
from pipeline.sidecar import as_written
from pipeline.slices.provenance import of_online
from pipeline.tables import SliceTable, is_whole
from pipeline.verify import models_current
from pipeline.verify.models_current import Fault
from pipeline.workspace import Workspace

READ_AT_ONCE = 2 << 30  # bytes: about a second or two; what is older is looked at by its size, and when it is read
REPORTS = {"drift_report": "drift.parquet", "freshness_cost": "freshness_cost.parquet"}
ONLINE_NOTE, ONLINE_FILE = "online.json", "online.db"
EMBEDDED = "embedded"  # in the note: the online store is a file of ours


def damaged_files(work: Workspace) -> Iterator[tuple[str, Slice | None]]:
    """Assets and slices whose stored file is damaged, or gone from its folder."""
    budget = READ_AT_ONCE
    for asset, table, slice_ in _newest_first(work):
        path = table.path(slice_)
        if not path.is_file():
            yield asset, slice_
            continue
        budget -= path.stat().st_size
        if not is_whole(path) or (budget >= 0 and not as_written(path)):
            yield asset, slice_
    yield from models_current.predictions_damaged(work)
    yield from models_current.weights_damaged(work)
    for asset, name in REPORTS.items():
        path = work.state.reports / name
        if path.is_file() and not (is_whole(path) and as_written(path)):
            yield asset, None


def _newest_first(work: Workspace) -> list[tuple[str, SliceTable, Slice]]:
    project = work.project
    names = ["impressions", "outcomes", "interactions", "labels", "logged_inputs", "logged_teacher_features"]
    tables = [work.table(name) for name in names]
    tables += [work.features(view.name) for view in (*project.feature_views, *project.prediction_views)]
    tables += [work.evaluations(student.name) for student in project.students]
    tables += [work.quarantine(name) for name in (*names[:3], *(teacher.view for teacher in project.teachers))]
    slices = list(project.stream.slices(project.stream.first_slice, work.now()))
    listed = [
        (table.asset or table.name, table, slice_)
        for table in tables
        for slice_ in slices
        if table.path(slice_).parent.is_dir()
    ]
    return sorted(listed, key=lambda entry: entry[2].start, reverse=True)


def note_online(work: Workspace, made_of: Mapping[str, str]) -> None:
    """Write down what the online store was loaded from, and mark its file, so that another one is noticed."""
    path = work.state.feast / ONLINE_FILE
    embedded = {EMBEDDED: ONLINE_FILE} if path.is_file() else {}
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


def online_faults(work: Workspace) -> Iterator[Fault]:
    """Views whose newest slices are not what was loaded."""
    path, database = work.state.feast / ONLINE_NOTE, work.state.feast / ONLINE_FILE
    if not path.is_file():
        return
    note = path.read_bytes()
    try:
        loaded = dict(json.loads(note))
    except (ValueError, TypeError):
        yield None, f"{ONLINE_NOTE}, which says what was loaded, is damaged"
        return
    if EMBEDDED in loaded and _mark_of(database) != _mark(note):
        yield None, f"{ONLINE_FILE} is missing, damaged, or not the one that was loaded"
        return
    now = of_online(work)
    if differ := sorted(name for name in now if loaded.get(name) != now[name]):
        yield None, f"loaded from other {', '.join(differ)} than are stored now"
