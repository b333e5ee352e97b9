"""The table of a project: each student against its control and its teacher, over all evaluated slices.

Belongs here: averaging the evaluations. Not here: showing them (report/, main_job.py).
"""

import polars as pl

from exfm_assets.learning.releasing import current_release, evaluations_of, judge_gate
from exfm_assets.resources import Workspace
from projects.distillation import AuxiliaryHead, AuxiliaryTower, KnowledgeDistillation, StudentAdapter
from projects.learning import Student
from projects.project import Project

METRICS = ("ne", "auc", "log_loss", "calibration")


def summary(work: Workspace) -> pl.DataFrame:
    """One row a student: means over the slices that student and control both served, and the transfer ratio.

    ``gain`` is the relative fall of NE against the control. The transfer ratio
    (NE_control - NE_student) / (NE_control - NE_teacher) is null where the teacher does not lead, and
    ``closed`` is the share of the distance from control to the best possible NE (simulated streams only).
    """
    return pl.DataFrame([_row(work, student) for student in work.project.students])


def _row(work: Workspace, student: Student) -> dict[str, object]:
    evaluations = evaluations_of(work, student).filter(pl.col("ne").is_finite())
    served = [set(evaluations.filter(pl.col("model") == model)["slice"].to_list()) for model in ("student", "control")]
    common = evaluations.filter(pl.col("slice").is_in(list(served[0] & served[1])))
    means = {
        model: {metric: _mean(common.filter(pl.col("model") == model), metric) for metric in METRICS}
        for model in ("student", "control", "teacher", "best")
    }
    ne = {model: values["ne"] for model, values in means.items()}
    release, gate = current_release(work, student), judge_gate(student, evaluations_of(work, student))
    return {
        "student": student.name,
        "surface": str(student.surface) if student.surface is not None else "all",
        "task": student.task,
        "distillation": how(work.project, student),
        "slices": len(served[0] & served[1]),
        "rows": int(common.filter(pl.col("model") == "student")["rows"].sum()),
        **{f"{metric}_{model}": value for model, values in means.items() for metric, value in values.items()},
        "gain": _ratio(ne["control"], ne["student"], ne["control"], 0.0),
        "transfer_ratio": _ratio(ne["control"], ne["student"], ne["control"], ne["teacher"]),
        "closed": _ratio(ne["control"], ne["student"], ne["control"], ne["best"]),
        "released": release.slice if release is not None else None,
        "not_released": "" if gate.passed else gate.reason,
    }


_WORDS = {KnowledgeDistillation: "KD", AuxiliaryHead: "auxiliary head", AuxiliaryTower: "auxiliary tower"}


def how(project: Project, student: Student) -> str:
    """What a student learns from beside labels, in the words of the docs."""
    second = project.columns_of(student.inputs, where=student.name).of_teachers
    parts = ["teacher features as inputs"] if second else []
    if student.distillation is not None and student.teachers:
        named = [_WORDS[type(student.distillation)]]
        adapter = getattr(student.distillation, "adapter", None)
        if adapter is not None:
            named.append("student adapter" if isinstance(adapter, StudentAdapter) else f"{adapter.kind} recalibration")
        if student.lead is not None:
            named.append("lead-aware")
        parts.append(", ".join(named))
    return "; ".join(parts) or "none"


def _mean(frame: pl.DataFrame, metric: str) -> float | None:
    mean = frame[metric].mean()
    return mean if isinstance(mean, float) else None


def _ratio(a: float | None, b: float | None, c: float | None, d: float | None) -> float | None:
    """(a - b) / (c - d), null where something is unknown or the denominator is not positive."""
    if a is None or b is None or c is None or d is None or c - d <= 0:
        return None
    return (a - b) / (c - d)
