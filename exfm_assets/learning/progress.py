"""Student progress: what is stored of each student for a slice, and which could not go on, and why.

Belongs here: the rows of that table. Not here: training (studying.py), reporting (assets/).
"""

from collections.abc import Mapping

import polars as pl

from exfm_assets.learning.shelf import Shelf
from exfm_assets.resources import Workspace
from projects.stream import Slice

SCHEMA: dict[str, pl.DataType] = {
    "student": pl.String(),
    "part": pl.String(),
    "version": pl.String(),
    "reason": pl.String(),
}


def progress_rows(work: Workspace, piece: Slice, failed: Mapping[str, str]) -> pl.DataFrame:
    """One row a student and part: the version that is stored (null: none), and why the student failed ("": it did not).

    Args:
        failed: student's name -> the reason.
    """
    rows = []
    for student in work.project.students:
        evaluations = work.evaluations(student.name)
        judged = evaluations.digest(piece) if evaluations.has(piece) else None
        shelves = {part: Shelf.of(work, student, control=part == "control") for part in ("checkpoint", "control")}
        versions = {part: shelf.version_at(piece) for part, shelf in shelves.items()} | {"evaluation": judged}
        reason = failed.get(student.name, "")
        rows += [{"student": student.name, "part": p, "version": v, "reason": reason} for p, v in versions.items()]
    return pl.DataFrame(rows, schema=SCHEMA)
