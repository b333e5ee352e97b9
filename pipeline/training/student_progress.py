"""Student progress: what is stored of each student for a slice, and which could not go on, and why.

Belongs here: the rows of that table. Not here: training (student_walk.py), reporting (assets/).
"""

from collections.abc import Mapping

import polars as pl

from exfm.stream import Slice
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.workspace import Workspace

SCHEMA: dict[str, pl.DataType] = {
    "student": pl.String(),
    "part": pl.String(),
    "version": pl.String(),
    "reason": pl.String(),
}


def progress_rows(work: Workspace, slice_: Slice, failed: Mapping[str, str]) -> pl.DataFrame:
    """One row a student and part: the version that is stored (null: none), and why the student failed ("": it did not).

    Args:
        failed: student's name -> the reason.
    """
    rows = []
    for student in work.project.students:
        evaluations = work.evaluations(student.name)
        judged = evaluations.digest(slice_) if evaluations.has(slice_) else None
        stores = {
            part: CheckpointStore.of(work, student, control=part == "control") for part in ("checkpoint", "control")
        }
        versions = {part: checkpoints.version_at(slice_) for part, checkpoints in stores.items()} | {
            "evaluation": judged
        }
        reason = failed.get(student.name, "")
        rows += [{"student": student.name, "part": p, "version": v, "reason": reason} for p, v in versions.items()]
    return pl.DataFrame(rows, schema=SCHEMA)
