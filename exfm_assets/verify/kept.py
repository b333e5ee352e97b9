"""Are the stored files still what was written? Read whole, newest slices first.

Belongs here: which files there are, and what the online store was loaded from. Not here: what they are made of
(current.py, learnt.py).
"""

import json
from collections.abc import Iterator
from pathlib import Path

from exfm_assets.provenance import of_online
from exfm_assets.resources import Workspace
from exfm_assets.sidecar import as_written
from exfm_assets.tables import SliceTable, is_whole
from exfm_assets.verify import learnt
from exfm_assets.verify.learnt import Fault
from projects.stream import Slice

READ_AT_ONCE = 2 << 30  # bytes: about a second or two; what is older is looked at by its size, and when it is read
REPORTS = {"drift_report": "drift.parquet", "freshness_cost": "freshness_cost.parquet"}
ONLINE = "online.json"


def damaged_files(work: Workspace) -> Iterator[tuple[str, Slice | None]]:
    """Assets and slices whose stored file is damaged."""
    left = READ_AT_ONCE
    for asset, table, piece in _newest_first(work):
        path = table.path(piece)
        left -= path.stat().st_size
        if not is_whole(path) or (left >= 0 and not as_written(path)):
            yield asset, piece
    yield from learnt.predictions_damaged(work)
    yield from learnt.weights_damaged(work)
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
    listed = [(table.asset or table.name, table, piece) for table in tables for piece in table.stored(project.stream)]
    return sorted(listed, key=lambda one: one[2].start, reverse=True)


def online_note(work: Workspace) -> Path:
    """Where it is written down what the online store was loaded from."""
    return work.state.feast / ONLINE


def online_faults(work: Workspace) -> Iterator[Fault]:
    """Views whose newest slices are not what was loaded."""
    path = online_note(work)
    if not path.is_file():
        return
    try:
        loaded = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        yield None, f"{ONLINE}, which says what was loaded, is damaged"
        return
    now = of_online(work)
    if differ := sorted(name for name in now if loaded.get(name) != now[name]):
        yield None, f"loaded from other {', '.join(differ)} than are stored now"
