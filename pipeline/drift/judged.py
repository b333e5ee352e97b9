"""The judged slices of a student, as drift is looked for in them.

Belongs here: reading evaluations, and what is noted beside them. Not here: what has changed (findings.py).
"""

from typing import Any

import numpy as np

from exfm.learning import Student
from pipeline.drift.findings import Judged
from pipeline.evaluation.evaluations import evaluations_of
from pipeline.evaluation.schema import DISAGREEMENT, HISTOGRAM
from pipeline.workspace import Workspace


def judged_slices(work: Workspace, student: Student) -> list[Judged]:
    """Oldest first; slices in which nobody served are left out."""
    stream, table, found = work.project.stream, work.evaluations(student.name), []
    for (key,), rows in evaluations_of(work, student).sort("slice_start").group_by("slice", maintain_order=True):
        by: dict[str, dict[str, Any]] = {row["model"]: row for row in rows.iter_rows(named=True)}
        if "student" not in by:
            continue
        mine, slice_ = by["student"], stream.slice_of(str(key))
        sidecar = table.sidecar(slice_)
        notes = {} if sidecar is None else sidecar.notes
        until = mine["trained_until"]
        found.append(
            Judged(
                slice_.index,
                learnt=-1 if until is None else stream.index_at(until),
                positives=int(mine["positives"]),
                ne=_number(mine["ne"]),
                calibration=_number(mine["calibration"]),
                lead=_lead(by),
                disagreement=_number(notes.get(DISAGREEMENT)),
                histogram=dict(notes.get(HISTOGRAM, {})),
            )
        )
    return found


def _lead(by: dict[str, dict[str, Any]]) -> float:
    """1 - NE of the teacher over that of the control: both on the same rows, so little of it is chance."""
    if "teacher" not in by or "control" not in by:
        return float("nan")
    teacher, control = _number(by["teacher"]["ne"]), _number(by["control"]["ne"])
    return 1 - teacher / control if control > 0 else float("nan")


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float(np.nan)
