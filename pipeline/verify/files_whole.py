"""Are the stored files still what was written? By their bytes, newest slices first.

Belongs here: which files there are. Not here: what they are made of (tables_current.py, models_current.py).
"""

from collections.abc import Iterator

from exfm.stream import Slice
from pipeline.sidecar import as_written
from pipeline.tables import SliceTable, is_whole
from pipeline.verify import models_current
from pipeline.workspace import Workspace

READ_AT_ONCE = 2 << 30  # bytes: about a second or two; what is older is looked at by its size, and when it is read
REPORTS = {"drift_report": "drift.parquet", "freshness_cost": "freshness_cost.parquet"}


def damaged_files(work: Workspace) -> Iterator[tuple[str, Slice | None]]:
    """Assets and slices whose stored file is damaged, or gone from its folder."""
    budget = READ_AT_ONCE
    for asset, table, slice_ in _newest_first(work):
        path = table.path(slice_)
        if not path.is_file():
            yield asset, slice_
            continue
        budget -= path.stat().st_size
        if not is_whole(path) or (budget >= 0 and not as_written(path, by_bytes=True)):
            yield asset, slice_
    yield from models_current.predictions_damaged(work)
    yield from models_current.weights_damaged(work)
    for asset, name in REPORTS.items():
        path = work.state.reports / name
        if path.is_file() and not (is_whole(path) and as_written(path, by_bytes=True)):
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
