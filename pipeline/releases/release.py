"""Releases: which checkpoint of a student is served, and the gate it must pass.

Belongs here: the gate, and what is served now. Not here: publishing a checkpoint's serving part (publishing.py), when
that happens (automation.py).

A release is a folder a version (``serving.safetensors``, ``manifest.json``) and ``current.json``, which names the
served one. It is replaced in one step, so a server that reads it never sees half a release.
"""

import json
from dataclasses import dataclass, fields

import polars as pl

from exfm.learning import Student
from pipeline.workspace import Workspace

CURRENT = "current.json"


@dataclass(frozen=True)
class GateResult:
    """Mean NE of student and control over the slices that the gate looked at."""

    passed: bool
    reason: str
    slices: int
    ne_student: float | None
    ne_control: float | None


@dataclass(frozen=True)
class Released:
    """What is served now."""

    version: str
    slice: str
    trained_until: str | None
    released_at: str


def evaluations_of(work: Workspace, student: Student) -> pl.DataFrame:
    """All evaluations of a student, oldest slice first; an empty frame before the first."""
    from pipeline.evaluation.slice_metrics import SCHEMA

    table = work.evaluations(student.name)
    stored = table.stored(work.project.stream)
    return table.read(stored) if stored else pl.DataFrame(schema=dict(SCHEMA))


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
    said = f"NE {ne_student:.4f} is {100 * worse:+.3g} % against the control's {ne_control:.4f}"
    said = said if worse else f"NE {ne_student:.4f} is level with the control's"
    said = f"{said}, over {newest.height} {'slice' if newest.height == 1 else 'slices'}"
    if newest.height < gate.slices:
        reason = f"{said}: the gate needs {gate.slices} judged slices"
    elif worse > gate.tolerance:
        reason = f"{said}: the gate allows {100 * gate.tolerance:+.3g} %"
    elif ne_student > 1 + max(gate.tolerance, 0.0):
        reason = f"{said}: above 1, worse than a constant"
    else:
        return GateResult(True, said, newest.height, ne_student, ne_control)
    return GateResult(False, reason, newest.height, ne_student, ne_control)


def _weighted(per_slice: pl.DataFrame, model: str) -> float:
    """Mean over the rows that were judged, not over slices: a short slice says less."""
    total = float(per_slice["rows"].sum())
    return float((per_slice[model] * per_slice["rows"]).sum()) / total if total else float("nan")


def current_release(work: Workspace, student: Student) -> Released | None:
    """What is served now, ``None`` before the first release, or where ``current.json`` can't be read."""
    path = work.state.release(student.name) / CURRENT
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        return Released(**{one.name: plain[one.name] for one in fields(Released)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def released_versions(work: Workspace, student: Student) -> set[str]:
    return {path.parent.name for path in work.state.release(student.name).glob("*/manifest.json")}
