"""Releases: which checkpoint of a student is served, and the gate it must pass.

Belongs here: the gate, and what is served now. Not here: publishing a checkpoint's serving part (publishing.py), when
that happens (automation.py).

A release is a folder a version (``serving.safetensors``, ``manifest.json``) and ``current.json``, which names the
served one. It is replaced in one step, so a server that reads it never sees half a release.
"""

import json
from dataclasses import dataclass, fields

import polars as pl

from exfm_assets.resources import Workspace
from projects.learning import Student

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
    from exfm_assets.learning.evaluation import SCHEMA

    table = work.evaluations(student.name)
    stored = table.stored(work.project.stream)
    return table.read(stored) if stored else pl.DataFrame(schema=dict(SCHEMA))


def judge_gate(student: Student, evaluations: pl.DataFrame) -> GateResult:
    """Compare student and control over the last evaluated slices of the gate."""
    per_slice = (
        evaluations.filter(pl.col("ne").is_finite(), pl.col("model").is_in(["student", "control"]))
        .pivot(on="model", index=["slice", "slice_start"], values="ne")
        .sort("slice_start")
    )
    if not {"student", "control"} <= set(per_slice.columns):
        return GateResult(False, "no slice has been evaluated yet: materialise its evaluation first", 0, None, None)
    newest = per_slice.drop_nulls(["student", "control"]).tail(student.gate.slices)
    ne_student, ne_control = float(newest["student"].mean()), float(newest["control"].mean())  # type: ignore[arg-type]
    limit = ne_control * (1 + student.gate.tolerance)
    passed = ne_student <= limit
    said = f"NE {ne_student:.4f} against the control's {ne_control:.4f} over {newest.height} slices"
    reason = said if passed else f"{said} is above the limit {limit:.4f}: the release stays as it is"
    return GateResult(passed, reason, newest.height, ne_student, ne_control)


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
