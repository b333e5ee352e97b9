"""Drift: is what serves still as good as it was? By NE and calibration of the evaluated slices.

Belongs here: comparing newest slices with those before. Not here: acting on it (automation.py).
"""

import polars as pl

from exfm.learning import Student
from exfm.project import Drift
from pipeline.evaluation.evaluations import evaluations_of
from pipeline.workspace import Workspace

SCHEMA: dict[str, pl.DataType] = {
    "student": pl.String(),
    "slices": pl.Int64(),
    "ne_reference": pl.Float64(),
    "ne_newest": pl.Float64(),
    "calibration": pl.Float64(),
    "drifted": pl.Boolean(),
    "reason": pl.String(),
}


def drift_rows(work: Workspace) -> pl.DataFrame:
    """One row a student; a student with fewer than two windows of evaluated slices has not drifted yet."""
    limits = work.project.drift
    rows = [judge_drift(student, limits, evaluations_of(work, student)) for student in work.project.students]
    return pl.DataFrame(rows, schema=SCHEMA)


def judge_drift(student: Student, limits: Drift, evaluations: pl.DataFrame) -> dict[str, object]:
    """Mean NE over the newest slices against the same number before them, and their mean calibration."""
    served = evaluations.filter(pl.col("model") == "student", pl.col("ne").is_finite()).sort("slice_start")
    newest, before = served.tail(limits.slices), served.head(-limits.slices).tail(limits.slices)
    row: dict[str, object] = {"student": student.name, "slices": newest.height, "drifted": False, "reason": ""}
    if before.height < limits.slices:
        return {**row, "reason": f"{served.height} evaluated slices are too few to tell"}
    reference, now, calibration = (
        _mean(frame, name) for frame, name in ((before, "ne"), (newest, "ne"), (newest, "calibration"))
    )
    reasons = []
    if now > reference * (1 + limits.ne_rise):
        reasons.append(f"NE rose from {reference:.4f} to {now:.4f}, more than {limits.ne_rise:.0%}")
    if abs(calibration - 1) > limits.calibration_error:
        reasons.append(f"calibration {calibration:.3f} is more than {limits.calibration_error} from 1")
    reason = "; ".join(reasons) or f"NE {now:.4f} after {reference:.4f}, calibration {calibration:.3f}"
    values = {"ne_reference": reference, "ne_newest": now, "calibration": calibration}
    return {**row, **values, "drifted": bool(reasons), "reason": reason}


def _mean(frame: pl.DataFrame, column: str) -> float:
    mean = frame[column].mean()
    assert isinstance(mean, float)
    return mean


def drift_table(rows: pl.DataFrame) -> str:
    """The report as a markdown table."""
    lines = ["| student | drifted | why |", "|---|---|---|"]
    lines += [
        f"| {r['student']} | {'yes' if r['drifted'] else 'no'} | {r['reason']} |" for r in rows.iter_rows(named=True)
    ]
    return "\n".join(lines)
