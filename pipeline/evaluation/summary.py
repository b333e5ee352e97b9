"""The table of a project: each student against its control and its teacher, over all judged impressions.

Belongs here: averaging the evaluations. Not here: showing them (report/, main_job.py).
"""

import numpy as np
import polars as pl

from exfm.distillation import AuxiliaryHead, AuxiliaryTower, KnowledgeDistillation, StudentAdapter
from exfm.learning import Student
from exfm.project import Project
from pipeline.evaluation.evaluations import evaluations_of
from pipeline.evaluation.schema import METRICS
from pipeline.releases.release import current_release
from pipeline.releases.verdict import verdict_of
from pipeline.workspace import Workspace


def summary(work: Workspace) -> pl.DataFrame:
    """One row a student: means over the slices that student and control both served, weighted by their judged rows.

    ``gain`` is the relative fall of NE against the control, and ``gain_error`` two standard errors of it: the slices
    are left out one by one (the jackknife), so it holds as far as slices are alike and independent. The transfer ratio
    (NE_control - NE_student) / (NE_control - NE_teacher) is null where the teacher does not lead, and
    ``closed`` is the share of the distance from control to the best possible NE (simulated streams only). ``since`` is
    the first slice that counts: before it no checkpoint had learnt from ``Gate.rows`` labelled rows.
    """
    return pl.DataFrame([_row(work, student) for student in work.project.students], infer_schema_length=None)


def _row(work: Workspace, student: Student) -> dict[str, object]:
    both, common = _served_by_both(evaluations_of(work, student))
    means = {
        model: {metric: _mean(common.filter(pl.col("model") == model), metric) for metric in METRICS}
        for model in ("student", "control", "teacher", "best")
    }
    ne = {model: values["ne"] for model, values in means.items()}
    release, gate = current_release(work, student), verdict_of(work, student)
    is_taught = student.is_taught  # else it is its own control, and has no gain to show
    return {
        "student": student.name,
        "surface": str(student.surface) if student.surface is not None else "all",
        "task": student.task,
        "distillation": how(work.project, student),
        "slices": len(both),
        "since": both[0] if both else None,
        "rows": int(common.filter(pl.col("model") == "student")["rows"].sum()),
        **{f"{metric}_{model}": value for model, values in means.items() for metric, value in values.items()},
        "gain": _ratio(ne["control"], ne["student"], ne["control"], 0.0) if is_taught else None,
        "gain_error": _gain_error(common) if is_taught else None,
        "transfer_ratio": _ratio(ne["control"], ne["student"], ne["control"], ne["teacher"]),
        "closed": _ratio(ne["control"], ne["student"], ne["control"], ne["best"]),
        "released": release.slice if release is not None else None,
        "not_released": (release.hold if release else "") or ("" if gate.passed else gate.reason),
    }


def gain_error_of(evaluations: pl.DataFrame) -> float | None:
    """Two standard errors of a student's gain, as the summary has them."""
    return _gain_error(_served_by_both(evaluations)[1])


def _served_by_both(evaluations: pl.DataFrame) -> tuple[list[str], pl.DataFrame]:
    """Keys of the slices that student and control both served, oldest first, and the evaluations of those."""
    known = evaluations.filter(pl.col("ne").is_finite()).sort("slice_start")
    served = [known.filter(pl.col("model") == model)["slice"].to_list() for model in ("student", "control")]
    both = [key for key in served[0] if key in set(served[1])]
    return both, known.filter(pl.col("slice").is_in(both))


def _gain_error(common: pl.DataFrame) -> float | None:
    """Two standard errors of the gain, by the jackknife over slices; null with fewer than two."""
    if common.is_empty():
        return None
    sides = [common.filter(pl.col("model") == model).sort("slice_start") for model in ("student", "control")]
    if sides[0].height < 2:
        return None
    rows, student, control = (sides[0]["rows"].to_numpy(), *(side["ne"].to_numpy() for side in sides))
    lost, of = rows * (control - student), rows * control
    without = (lost.sum() - lost) / (of.sum() - of)  # the gain without each slice
    count = len(without)
    return float(2 * np.sqrt((count - 1) / count * ((without - without.mean()) ** 2).sum()))


_WORDS = {KnowledgeDistillation: "KD", AuxiliaryHead: "auxiliary head", AuxiliaryTower: "auxiliary tower"}


def how(project: Project, student: Student) -> str:
    """What a student learns from beside labels, in the words of the docs."""
    second = project.columns_of(student.inputs, where=student.name).of_teachers
    parts = ["teacher features as inputs"] if second else []
    if student.distillation is not None:
        named = [_WORDS[type(student.distillation)]]
        adapter = getattr(student.distillation, "adapter", None)
        if adapter is not None:
            named.append("student adapter" if isinstance(adapter, StudentAdapter) else f"{adapter.kind} recalibration")
        if student.lead is not None:
            named.append("lead-aware")
        parts.append(", ".join(named))
    return "; ".join(parts) or "none"


def _mean(frame: pl.DataFrame, metric: str) -> float | None:
    """Mean over judged rows; a slice in which the metric is not defined (as AUC with one class) is left out."""
    known = frame.filter(pl.col(metric).is_finite())
    total = float(known["rows"].sum())
    return float((known[metric] * known["rows"]).sum()) / total if total else None


def _ratio(a: float | None, b: float | None, c: float | None, d: float | None) -> float | None:
    """(a - b) / (c - d), null where something is unknown or the denominator is not positive."""
    if a is None or b is None or c is None or d is None or c - d <= 0:
        return None
    return (a - b) / (c - d)
