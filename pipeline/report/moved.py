"""What moved, by the drift report and from slice to slice, and what NE did then.

Belongs here: findings and inputs with NE beside them. Not here: finding them (drift/), charts (charts.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from exfm.learning import Student
from pipeline.drift.arms import compared_students, stored_arms
from pipeline.drift.report import OPEN, psi_over_slices, stored_drift, stored_profiles
from pipeline.report import charts
from pipeline.workspace import Workspace

BEFORE = 3  # slices that NE at a finding is compared with


@dataclass(frozen=True)
class Moved:
    """Something that changed, by the drift report, and NE beside it.

    Args:
        ne: of the student in that slice; ``before`` over the slices before it.
    """

    model: str
    measure: str
    slice: str
    state: str
    reason: str
    ne: float | None
    before: float | None

    @property
    def change(self) -> float | None:
        return None if self.ne is None or not self.before else self.ne / self.before - 1

    @property
    def tone(self) -> str:
        return "warn" if self.state in OPEN else "none"


def findings(work: Workspace, evaluations: dict[str, pl.DataFrame]) -> list[Moved] | None:
    """The findings of the drift report, newest and open ones first; ``None`` if it was not made yet."""
    report = stored_drift(work)
    if report is None:
        return None
    found = []
    for row in report.filter(pl.col("measure") != "none").iter_rows(named=True):
        ne, before = ne_at(evaluations.get(row["model"].removeprefix("student/")), row["slice"])
        found.append(
            Moved(row["model"], row["measure"], row["slice"], row["state"], row["reason"], ne=ne, before=before)
        )
    newest = sorted(found, key=lambda each: each.slice, reverse=True)
    return sorted(newest, key=lambda each: each.state not in OPEN)


def ne_at(evaluations: pl.DataFrame | None, slice_key: str) -> tuple[float | None, float | None]:
    """A student's NE in a slice, and its mean over the slices before."""
    if evaluations is None:
        return None, None
    mine = evaluations.filter(pl.col("model") == "student", pl.col("ne").is_finite()).sort("slice_start")
    at, before = mine.filter(pl.col("slice") == slice_key), mine.filter(pl.col("slice") < slice_key).tail(BEFORE)
    return (
        float(at["ne"][0]) if at.height else None,
        float(np.average(before["ne"], weights=before["rows"])) if before["rows"].sum() else None,
    )


@dataclass(frozen=True)
class MovedInput:
    """An input whose distribution moved from one slice to the next by more than the limit.

    Args:
        psi: the most that it moved, at ``slice``; ``newest`` from the last slice but one to the last.
    """

    student: str
    name: str
    psi: float
    slice: str
    newest: float
    ne: float | None
    before: float | None

    @property
    def change(self) -> float | None:
        return None if self.ne is None or not self.before else self.ne / self.before - 1


def moved_inputs(work: Workspace, evaluations: dict[str, pl.DataFrame], most: int = 3) -> list[MovedInput]:
    """Of each student the inputs that moved most, those that move still first."""
    found, stream, made = [], work.project.stream, stored_profiles(work)
    for student in work.project.students:
        for name, points in psi_over_slices(work, student, made, most).items():
            finite = {index: psi for index, psi in points.items() if np.isfinite(psi)}
            if not finite or max(finite.values()) <= work.project.drift.psi:
                continue
            at = stream.slice_at(max(finite, key=lambda index: finite[index])).key
            figures = ne_at(evaluations[student.name], at)
            found.append(MovedInput(student.name, name, max(finite.values()), at, finite[max(finite)], *figures))
    return sorted(found, key=lambda each: (-each.newest, -each.psi))


def arms(work: Workspace) -> list[dict[str, Any]]:
    """Arms of students with a canary or a shadow, as the drift report has them, newest slice first."""
    rows, names = stored_arms(work), [student.name for student in compared_students(work)]
    if rows is None:
        return []
    newest = rows.filter(pl.col("student").is_in(names)).sort("slice", descending=True, maintain_order=True)
    return list(newest.iter_rows(named=True))


def psi_of_findings(
    work: Workspace, student: Student, *, colours: Mapping[str, str], width: int | str, name: str
) -> charts.Spec | None:
    """PSI of a student's inputs with the findings of the drift report; ``None`` where it has none."""
    report, stream = stored_drift(work), work.project.stream
    if report is None:
        return None
    mine = report.filter(pl.col("model") == f"student/{student.name}", pl.col("slice") != "")
    if mine.is_empty():
        return None
    found: list[datetime] = [stream.slice_of(key).start for key in sorted(mine["slice"].unique())]
    lines = {
        column: {stream.slice_at(index).start: psi for index, psi in points.items()}
        for column, points in psi_over_slices(work, student, stored_profiles(work), most=6).items()
    }
    return charts.psi_chart(lines, work.project.drift.psi, found, colours, width=width, name=name)
