"""The drift report: what has drifted of each student and teacher, as a table that is stored.

Belongs here: gathering findings, its rows, its words. Not here: the measures (findings.py), plots (report/plots.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import polars as pl

from exfm.learning import Student, Teacher
from pipeline.drift.findings import Finding, Judged, Profiles, mended, of_inputs, of_judged, of_rows, psi_of
from pipeline.drift.judged import judged_slices
from pipeline.drift.predicted import of_predicted, predicted_slices
from pipeline.drift.profile import of_surface, profile_table, profiles
from pipeline.drift.tries import DRIFTED, LEFT, TRAINED, Tries
from pipeline.registry.plain_manifests import manifests_of
from pipeline.releases.release import current_release
from pipeline.slices.teaching import teaching
from pipeline.tables import UNREADABLE
from pipeline.workspace import Workspace

SCHEMA: dict[str, pl.DataType] = {
    "model": pl.String(),
    "measure": pl.String(),
    "slice": pl.String(),
    "drifted": pl.Boolean(),
    "state": pl.String(),
    "reason": pl.String(),
}
FILE = "drift.parquet"
OPEN = (DRIFTED, TRAINED, LEFT)  # what serves has not learnt from it


def drift_rows(work: Workspace) -> pl.DataFrame:
    """One row a finding, and one of measure ``none`` for a model without any.

    ``drifted``: what serves has not learnt from it. Then ``state`` says whether it asks for training (tries.py).

    Raises:
        DataError: if inputs or evaluations are damaged.
    """
    project, stream = work.project, work.project.stream
    newest = work.table("logged_inputs").stored(stream)[-project.upkeep.look_back :]
    made = profiles(work, newest)
    rows: list[dict[str, object]] = []
    of_teacher: dict[str, list[Finding]] = {}
    for teacher in project.teachers:
        found = of_teacher[teacher.name] = list(_of_teacher(work, teacher, made))
        rows += _rows(work, f"teacher/{teacher.name}", found, [], None, None)
    for student in project.students:
        judged = judged_slices(work, student)
        tries = Tries(work, student)
        found = list(_of_student(work, student, made, judged, tries))
        released = _released(work, student)
        now = stream.index_at(work.now())
        teachers = [teaching(work, name, now).name for name in student.teachers]
        taught = (finding for name in teachers for finding in of_teacher[name] if finding.measure == "inputs")
        found += [
            replace(finding, reason=f"its teacher: {finding.reason}", handled=released >= finding.index)
            for finding in taught
        ]
        rows += _rows(work, f"student/{student.name}", found, judged, len(judged), tries)
    return pl.DataFrame(rows, schema=SCHEMA)


def _of_student(
    work: Workspace, student: Student, made: dict[int, pl.DataFrame], judged: Sequence[Judged], tries: Tries
) -> Iterator[Finding]:
    limits, released = work.project.drift, _released(work, student)
    yield from of_judged(judged, limits, released)
    mine = {index: of_surface(profile, student.surface) for index, profile in made.items()}
    of_teachers = work.project.columns_of(student.inputs, where=student.name).of_teachers
    inputs = list(of_inputs(mine, _columns(work, student), limits, released, of_teachers))
    yield from inputs
    if any(tries.of(finding.index)[0] == LEFT for finding in inputs):
        # What is left alone must not hide what changes later: that is told from the slices that were tried.
        later = of_inputs(mine, _columns(work, student), limits, tries.newest, of_teachers)
        yield from (finding for finding in later if finding.index not in {found.index for found in inputs})
    yield from of_rows(mine, released)


def _of_teacher(work: Workspace, teacher: Teacher, made: dict[int, pl.DataFrame]) -> Iterator[Finding]:
    """Of all surfaces: what it reads, since it was trained last, and what it predicted. Students look at its lead."""
    trained = [slice_.index for slice_ in manifests_of(work, f"teacher/{teacher.name}")]
    whole: Profiles = {index: of_surface(profile, None) for index, profile in made.items()}
    yield from of_inputs(whole, _columns(work, teacher), work.project.drift, max(trained, default=-1))
    yield from of_predicted(predicted_slices(work, teacher), max(trained, default=-1))


def _columns(work: Workspace, model: Student | Teacher) -> list[str]:
    """What is compared of a model's inputs: its columns, and who is new."""
    columns, stream = work.project.columns_of(model.inputs, where=model.name), work.project.stream
    new = [f"new {name}" for name in (stream.user.name, stream.item.name) if name in columns.ids]
    sides = [name for name in columns.sides if "__" in name]
    return [*columns.of_log, *columns.features, *columns.histories, *sides, *new]


def stored_profiles(work: Workspace) -> dict[int, pl.DataFrame]:
    """By the slice's index, the profiles that are stored of the newest slices."""
    table = profile_table(work)
    stored = table.stored(work.project.stream)[-work.project.upkeep.look_back :]
    return {slice_.index: table.read([slice_]) for slice_ in stored}


def psi_over_slices(
    work: Workspace, student: Student, made: Mapping[int, pl.DataFrame], most: int
) -> dict[str, dict[int, float]]:
    """Of the columns that move most, slice's index -> PSI against the slice before.

    Args:
        made: ``stored_profiles``, read once for all students.
    """
    mine = {index: of_surface(profile, student.surface) for index, profile in made.items()}
    pairs = list(zip(sorted(mine), sorted(mine)[1:], strict=False))
    lines = {
        column: {now: psi_of(mine, column, [now], [then]) for then, now in pairs} for column in _columns(work, student)
    }
    moved = sorted(lines, key=lambda column: -max(lines[column].values(), default=0.0))
    return {column: lines[column] for column in moved[:most]}


def _released(work: Workspace, student: Student) -> int:
    """Index of the slice that what serves has learnt from last; -1: nothing serves."""
    served = current_release(work, student)
    return -1 if served is None else work.project.stream.slice_of(served.slice).index


def _rows(
    work: Workspace,
    model: str,
    found: Sequence[Finding],
    judged: Sequence[Judged],
    count: int | None,
    tries: Tries | None,
) -> list[dict[str, object]]:
    stream = work.project.stream
    if not found:
        said = "nothing has changed" if count is None else f"nothing has changed in {count} judged slices"
        return [{"model": model, "measure": "none", "slice": "", "drifted": False, "state": "steady", "reason": said}]
    rows = []
    for finding in sorted(found, key=lambda each: (-each.index, each.measure)):
        since = mended(judged, finding, work.project.drift) if finding.handled else ""
        state = "learnt" if finding.handled else "said"
        if finding.acts:
            state, since = (DRIFTED, "") if tries is None else tries.of(finding.index)
        reason = f"{finding.reason}; {since}" if since else finding.reason
        rows.append(
            {
                "model": model, "measure": finding.measure, "slice": stream.slice_at(finding.index).key,
                "drifted": finding.acts, "state": state, "reason": reason,
            }
        )  # fmt: skip
    return rows


def drifted(rows: pl.DataFrame, model: str) -> str | None:
    """What has changed that what serves has not learnt from, by the report; ``None`` if nothing has."""
    mine = rows.filter(pl.col("model") == model, pl.col("drifted"))
    return "; ".join(f"{row['slice']}: {row['reason']}" for row in mine.iter_rows(named=True)) or None


def asks(work: Workspace, student: Student, rows: pl.DataFrame) -> str | None:
    """Why a student is to be trained, by the report and by what its gate has said since; ``None`` if it is not."""
    found = rows.filter(pl.col("model") == f"student/{student.name}", pl.col("drifted"))
    if found.is_empty():
        return None
    tries, stream = Tries(work, student), work.project.stream
    to_do = [row for row in found.iter_rows(named=True) if tries.of(stream.slice_of(row["slice"]).index)[0] == DRIFTED]
    return "; ".join(f"{row['slice']}: {row['reason']}" for row in to_do) or None


def news(rows: pl.DataFrame, before: pl.DataFrame | None) -> pl.DataFrame:
    """What has drifted that an older report did not name: each measure of a slice once, and once that it is left."""
    found = rows.filter("drifted")
    if before is None:
        return found
    left = (pl.col("state") == LEFT).alias("left")
    return found.with_columns(left).join(
        before.with_columns(left), on=["model", "measure", "slice", "left"], how="anti", maintain_order="left"
    ).select(rows.columns)  # fmt: skip


def stored_drift(work: Workspace) -> pl.DataFrame | None:
    """The report as it was made last; ``None`` if there is none, or it is damaged or of an older version."""
    path = work.state.reports / FILE
    try:
        rows = pl.read_parquet(path, glob=False)
    except (*UNREADABLE, OSError):
        return None
    return rows if dict(rows.schema) == SCHEMA else None


def drift_table(rows: pl.DataFrame, newest: int = 5) -> str:
    """The report as a markdown table: of each model what serves has not learnt from, and its newest findings."""
    lines = ["| model | measure | slice | state | what |", "|---|---|---|---|---|"]
    for (_,), mine in rows.group_by("model", maintain_order=True):
        shown = pl.concat([mine.filter("drifted"), mine.filter(~pl.col("drifted")).head(newest)])
        lines += [
            f"| {row['model']} | {row['measure']} | {row['slice']} | {row['state']} | {row['reason']} |"
            for row in shown.iter_rows(named=True)
        ]
    return "\n".join(lines)
