"""The gate: may a student's newest checkpoint be released?

Belongs here: comparing student and control over the newest evaluated slices.
Not here: publishing (releases/), when that happens (exfm_assets/).
"""

import json
from dataclasses import dataclass

import polars as pl

from exfm.learning import Student
from pipeline.evaluation.evaluations import evaluations_of
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class GateResult:
    """Mean NE of student and control over the slices that the gate looked at."""

    passed: bool
    reason: str
    slices: int
    ne_student: float | None
    ne_control: float | None


def gate_of(work: Workspace, student: Student) -> GateResult:
    """The gate, by the evaluations of checkpoints that are stored under the present declaration and data."""
    evaluations = evaluations_of(work, student)
    newest = evaluations.filter(pl.col("model") == "student").sort("slice_start").tail(student.gate.slices)
    stored = _stored_versions(work, student)
    gone = newest.filter(~pl.col("checkpoint").is_in(list(stored)))
    if gone.height:
        slices = ", ".join(gone["slice"].to_list())
        reason = (
            f"slices {slices} were judged by checkpoints that are not the present ones (the declaration or the data "
            f"changed since): materialise student/{student.name}/* for them again"
        )
        return GateResult(False, reason, 0, None, None)
    return judge_gate(student, evaluations)


def _stored_versions(work: Workspace, student: Student) -> set[str]:
    """Versions of the student's stored checkpoints, with or without weights; importing no torch for it (1.5 s)."""
    versions = set()
    for path in work.state.checkpoints(f"student/{student.name}").glob("slice=*/manifest.json"):
        try:
            versions.add(json.loads(path.read_text(encoding="utf-8"))["version"])
        except (OSError, ValueError, KeyError):
            continue  # a damaged one is said where it is read
    return versions


# Relative NE. A student that was not taught is its control, but beside others its products round differently.
ROUNDING = 1e-6


def judge_gate(student: Student, evaluations: pl.DataFrame) -> GateResult:
    """Compare student and control over the last evaluated slices of the gate."""
    gate = student.gate
    per_slice = (
        evaluations.filter(pl.col("ne").is_finite(), pl.col("model").is_in(["student", "control"]))
        .pivot(on="model", index=["slice", "slice_start", "rows"], values="ne")
        .sort("slice_start")
    )
    if not {"student", "control"} <= set(per_slice.columns):
        return GateResult(False, "no slice has been judged yet: materialise its evaluation first", 0, None, None)
    newest = per_slice.drop_nulls(["student", "control"]).tail(gate.slices)
    ne_student, ne_control = (_weighted(newest, model) for model in ("student", "control"))
    worse = ne_student / ne_control - 1
    worse = worse if abs(worse) > ROUNDING else 0.0
    # With as many digits as tell them apart: two numbers that look alike are no reason.
    word = "above" if worse > 0 else "below"
    comparison = f"NE {ne_student:.4f} is {100 * abs(worse):.3g} % {word} the control's {ne_control:.4f}"
    comparison = comparison if worse else f"NE {ne_student:.4f} is level with the control's"
    comparison = f"{comparison}, over {newest.height} {'slice' if newest.height == 1 else 'slices'}"
    if newest.height < gate.slices:
        reason = f"{comparison}: the gate needs {gate.slices} judged slices"
    elif worse > gate.tolerance:
        reason = f"{comparison}: the gate allows {100 * gate.tolerance:+.3g} %"
    elif ne_student > 1 + max(gate.tolerance, 0.0):
        reason = f"{comparison}: above 1, worse than a constant"
    else:
        return GateResult(True, comparison, newest.height, ne_student, ne_control)
    return GateResult(False, reason, newest.height, ne_student, ne_control)


def _weighted(per_slice: pl.DataFrame, model: str) -> float:
    """Mean over the rows that were judged, not over slices: a short slice says less."""
    total = float(per_slice["rows"].sum())
    return float((per_slice[model] * per_slice["rows"]).sum()) / total if total else float("nan")
