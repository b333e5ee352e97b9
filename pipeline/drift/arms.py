"""What the arms of each student said of what was shown, and what happened: served, canary, shadow.

Belongs here: joining the request log with labels, figures of each arm. Not here: deciding on a canary, which takes the
same rows for both (gate/afterwards.py), the request log (served/).

Arms of one slice are of the same days. Served and canary are of different users, drawn by chance; a shadow is of the
same impressions as what was served beside it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from exfm.learning import Student
from exfm.served_inputs import ServedInputs
from exfm.stream import Slice
from models.means import mean
from models.metrics import normalised_entropy
from pipeline.served.files import ID, TIME
from pipeline.served.rows import STUDENT, served_rows
from pipeline.tables import UNREADABLE
from pipeline.workspace import Workspace

FILE = "arms.parquet"
SCHEMA: dict[str, pl.DataType] = {
    "student": pl.String(), "slice": pl.String(), "arm": pl.String(), "release": pl.Int64(), "impressions": pl.Int64(),
    "score": pl.Float64(), "rate": pl.Float64(), "ne": pl.Float64(), "calibration": pl.Float64(),
}  # fmt: skip
_ARM, _RELEASE, _SCORE, _SHADOW = "served_arm", "served_release", "served_score", "served_shadow"
_LEAST = 1e-12  # a float's 0 and 1 are no logits


@dataclass
class Arms:
    """Figures, and what of the request log they are not of.

    Args:
        rows: one an arm and release of a slice.
        passed_over: why -> how many files; ``other_items``: rows whose impression shows another item.
    """

    rows: pl.DataFrame
    passed_over: Counter[str] = field(default_factory=Counter)
    other_items: int = 0

    @property
    def left_out(self) -> list[str]:
        """In sentences."""
        said = [f"{count} files of the request log: {why}" for why, count in self.passed_over.items()]
        items = f"{self.other_items} rows of the request log rank another item than their impression shows"
        return [*said, *([items] if self.other_items else [])]


def compared_students(work: Workspace) -> list[Student]:
    """Students with arms: those that declare a canary or a shadow."""
    return [each for each in work.project.students if each.serving.canary or each.serving.shadow]


def arms_of(work: Workspace) -> Arms:
    """One row an arm and release of the newest slices with closed labels, as many as drift is looked for in."""
    students = {student.name: student for student in compared_students(work)}
    labels, impressions = work.table("labels"), work.table("impressions")
    slices = labels.stored(work.project.stream)[-work.project.drift.slices :] if students else []
    rows: list[dict[str, object]] = []
    arms = Arms(pl.DataFrame(schema=SCHEMA))
    for slice_ in slices:
        if impressions.has(slice_):
            for name, frame in _answered(work, slice_, sorted(students), arms):
                rows += _figures(students[name], slice_, frame)
    arms.rows = pl.DataFrame(rows, schema=SCHEMA).sort("student", "slice", "arm", "release")
    return arms


def _answered(work: Workspace, slice_: Slice, names: Sequence[str], arms: Arms) -> Iterator[tuple[str, pl.DataFrame]]:
    """Student -> its answers among a slice's impressions, with labels: arm, release, score."""
    project = work.project
    weight = [] if project.stream.weight is None else [project.stream.weight]
    parts = [
        part for folder in (work.state.requests, work.state.shadows) for part in _found(work, slice_, folder, arms)
    ]
    found = pl.concat(parts) if parts else pl.DataFrame(schema={ID: pl.Int64(), STUDENT: pl.String()})
    found = found.filter(pl.col(STUDENT).is_in(names))
    if found.is_empty():
        return
    tasks = sorted({project.student(name).task for name in names})
    labelled = pl.concat(
        part.join(found, on=ID, how="inner") for part in work.table("labels").parts(slice_, [ID, *tasks, *weight])
    ).with_columns(pl.col(weight[0]).cast(pl.Float64).alias("weight") if weight else pl.lit(1.0).alias("weight"))
    for (name,), frame in labelled.group_by(STUDENT, maintain_order=True):
        label = pl.col(project.student(str(name)).task).cast(pl.Float64).alias("label")
        yield str(name), frame.select(label, "weight", "arm", _RELEASE, _SCORE).drop_nulls()


def _found(work: Workspace, slice_: Slice, folder: Path, arms: Arms) -> Iterator[pl.DataFrame]:
    """Rows of a log by impression: who answered, as which arm and release, with which score."""
    declared = work.project.served or ServedInputs()
    for shown in work.table("impressions").parts(slice_, [ID, TIME, work.project.stream.item.name]):
        served = served_rows(work, declared, shown, (_ARM, _RELEASE, _SCORE, _SHADOW), folder)
        arms.passed_over |= served.passed_over  # parts meet the same files
        arms.other_items += served.other_items
        for group in served.groups:
            if _SHADOW in group.columns:
                arm = pl.lit("shadow ") + pl.col(_SHADOW)
            else:  # an earlier exfm knew one arm
                arm = pl.col(_ARM) if _ARM in group.columns else pl.lit("served")
            kept = (pl.col(_RELEASE).cast(pl.Int64), pl.col(_SCORE).cast(pl.Float64))
            yield group.select(ID, STUDENT, arm.alias("arm"), *kept)


def _figures(student: Student, slice_: Slice, rows: pl.DataFrame) -> Iterator[dict[str, object]]:
    for (arm, release), mine in rows.group_by("arm", _RELEASE):
        labels, weights = mine["label"].to_numpy(), mine["weight"].to_numpy()
        scores = mine[_SCORE].to_numpy()
        inside = np.clip(scores, _LEAST, 1 - _LEAST)
        rate, score = mean(labels, weights), mean(scores, weights)
        both = 0 < rate < 1
        yield {
            "student": student.name, "slice": slice_.key, "arm": arm, "release": release, "impressions": mine.height,
            "score": score, "rate": rate,
            "ne": normalised_entropy(np.log(inside) - np.log1p(-inside), labels, weights) if both else None,
            "calibration": score / rate if rate else None,
        }  # fmt: skip


def stored_arms(work: Workspace) -> pl.DataFrame | None:
    """As they were looked at last; ``None`` if they were not, or their file is damaged or of another version."""
    try:
        rows = pl.read_parquet(work.state.reports / FILE, glob=False)
    except (*UNREADABLE, OSError):
        return None
    return rows if dict(rows.schema) == SCHEMA else None


def arms_table(rows: pl.DataFrame) -> str:
    """The arms as a markdown table, newest slice first."""
    lines = [
        "| student | slice | arm | release | impressions | mean score | outcome rate | NE | calibration |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows.sort("slice", descending=True, maintain_order=True).iter_rows(named=True):
        ne, calibration = ("–" if row[name] is None else f"{row[name]:.4f}" for name in ("ne", "calibration"))
        lines.append(
            f"| {row['student']} | {row['slice']} | {row['arm']} | {row['release']} | {row['impressions']:,} | "
            f"{row['score']:.4f} | {row['rate']:.4f} | {ne} | {calibration} |"
        )
    return "\n".join(lines)
