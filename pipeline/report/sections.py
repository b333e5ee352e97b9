"""What the status page shows below the students: teachers, quarantine, segments, costs.

Belongs here: gathering each from what is stored, worst first. Not here: students (status.py), what moved
(moved.py), charts (charts.py), layout (page.html.jinja).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from exfm.learning import Student, Teacher
from pipeline.drift.predicted import LEAST_COVERAGE, predicted_slices
from pipeline.releases.verdict import verdict_of
from pipeline.report.status import ORDER, UNJUDGED, Tone, gain_says, tone_of
from pipeline.report.words import interval_says, known
from pipeline.sidecar import read_sidecar
from pipeline.slices.predictions import files_of, scored_slices
from pipeline.slices.teaching import read_takeover
from pipeline.streams.contract import TIME
from pipeline.tables import UNREADABLE
from pipeline.transforms.quarantine import WITHDRAWN, count_reasons
from pipeline.upkeep.ages import Age, ages_of
from pipeline.upkeep.durations import seconds_a_slice
from pipeline.verify.tables_current import assets_of
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class TeacherRow:
    """One teacher.

    Args:
        coverage: share of the newest scored slice's impressions with a prediction; ``least`` over the look-back.
        scorer_age: slices from what the newest slice's scorer had seen to that slice.
        lead: by student that it teaches, 1 - NE of the teacher over NE of the control.
        leaks: refused predictions in the look-back: their checkpoint had seen the impression.
    """

    name: str
    tone: Tone
    checkpoint: Age
    predictions: Age
    coverage: float | None
    least: float | None
    scorer_age: float | None
    lead: dict[str, float]
    leaks: int
    takeover: str


def teachers(work: Workspace, summed: pl.DataFrame) -> list[TeacherRow]:
    """Worst first."""
    rows = [_teacher(work, teacher, summed) for teacher in work.project.teachers]
    return sorted(rows, key=lambda row: ORDER.index(row.tone))


def _teacher(work: Workspace, teacher: Teacher, summed: pl.DataFrame) -> TeacherRow:
    aged, predicted = ages_of(work), predicted_slices(work, teacher)
    checkpoint, predictions = (aged[f"teacher/{teacher.name}/{part}"]() for part in ("checkpoint", "predictions"))
    ne = {row["student"]: (known(row["ne_teacher"]), known(row["ne_control"])) for row in summed.iter_rows(named=True)}
    mine = [student.name for student in work.project.students if teacher.name in student.teachers[:1]]
    lead = {
        name: 1 - ours / control for name in mine for ours, control in [ne[name]] if ours is not None and control
    }  # fmt: skip
    leaks = sum(rows for _, _, rows in _refused(work, teacher.view))
    least = min((each.coverage for each in predicted), default=None)
    takeover = read_takeover(work, teacher)
    looked = leaks > 0 or (least is not None and least < LEAST_COVERAGE)
    tones: list[Tone] = [tone_of(checkpoint), tone_of(predictions), "warn" if looked else "good"]
    return TeacherRow(
        teacher.name,
        min(tones, key=ORDER.index),
        checkpoint,
        predictions,
        coverage=predicted[-1].coverage if predicted else None,
        least=least,
        scorer_age=predicted[-1].age if predicted else None,
        lead=lead,
        leaks=leaks,
        takeover="" if takeover is None else takeover.reason,
    )


@dataclass(frozen=True)
class Refused:
    """Rows of a table that were quarantined for one kind of reason, over the newest slices.

    Args:
        share: of all that came; ``newest`` the last slice that has any.
    """

    table: str
    reason: str
    rows: int
    share: float
    newest: str
    tone: str


def quarantined(work: Workspace) -> list[Refused]:
    """By table and reason, most rows first; what a person withdrew is no fault."""
    found = []
    for table in (*TIME, *(teacher.view for teacher in work.project.teachers)):
        counted: dict[str, tuple[int, str]] = {}
        for key, reason, rows in _refused(work, table):
            counted[reason] = (counted.get(reason, (0, ""))[0] + rows, key)
        came = _kept(work, table) + sum(rows for rows, _ in counted.values())
        found += [
            Refused(table, reason, rows, rows / came, newest, "none" if reason.startswith(WITHDRAWN) else "warn")
            for reason, (rows, newest) in counted.items()
            if rows
        ]
    return sorted(found, key=lambda each: (-each.rows, each.table, each.reason))


def _kept(work: Workspace, name: str) -> int:
    """Rows of the newest slices that count, by their sidecars."""
    of_teacher = {teacher.view: teacher for teacher in work.project.teachers}
    if name in of_teacher:
        scored = scored_slices(work, of_teacher[name])[-work.project.upkeep.look_back :]
        sidecars = [read_sidecar(files_of(work, of_teacher[name], slice_)[-1]) for slice_ in scored]
    else:
        table = work.table(name)
        sidecars = [
            table.sidecar(slice_) for slice_ in table.stored(work.project.stream)[-work.project.upkeep.look_back :]
        ]
    return sum(sidecar.rows for sidecar in sidecars if sidecar is not None)


def _refused(work: Workspace, name: str) -> Iterator[tuple[str, str, int]]:
    """Slice, kind of reason, rows; the newest slices, oldest first."""
    table = work.quarantine(name)
    for slice_ in table.stored(work.project.stream)[-work.project.upkeep.look_back :]:
        sidecar = table.sidecar(slice_)
        if sidecar is not None and not sidecar.rows:
            continue
        try:
            reasons = pl.read_parquet(table.path(slice_), columns=["reason"], glob=False, hive_partitioning=False)
        except (*UNREADABLE, pl.exceptions.ColumnNotFoundError, OSError):
            yield slice_.key, "its file can't be read", 0 if sidecar is None else sidecar.rows
            continue
        yield from ((slice_.key, reason, rows) for reason, rows in count_reasons(reasons).items())


@dataclass(frozen=True)
class Segment:
    """A part of a student's rows, and its gain there with bounds.

    Args:
        where: a surface, or ``new users``.
        source: what the figures are of.
    """

    student: str
    where: str
    rows: int
    ne: float | None
    gain: float | None
    low: float | None
    high: float | None
    says: str
    source: str


def segments(work: Workspace, summed: pl.DataFrame) -> list[Segment]:
    """Surfaces, known and new users and items, values of the context; the lowest gain first, without a gain last."""
    rows = {row["student"]: row for row in summed.iter_rows(named=True)}
    found = [each for student in work.project.students for each in _segments(work, student, rows[student.name])]
    return sorted(found, key=lambda each: float("inf") if each.gain is None else each.gain)


def _segments(work: Workspace, student: Student, row: dict[str, object]) -> Iterator[Segment]:
    """The student's own surface over all judged slices; the segments of its candidate on the newest."""
    gain, error = known(row["gain"]), known(row["gain_error"])
    says = gain_says(student, row)
    if student.surface is not None and says != UNJUDGED:
        low, high = (None, None) if gain is None or error is None else (gain - error, gain + error)
        where, rows = f"surface {student.surface}", int(str(row["rows"]))
        yield Segment(
            student.name, where, rows, known(row["ne_student"]), gain, low, high, says, f"{row['slices']} judged slices"
        )
    verdict = verdict_of(work, student)
    for part in verdict.segments:
        if part.difference is not None and part.low is not None and part.high is not None:
            low, high = -part.high, -part.low
            source = f"gate, slice {', '.join(verdict.slices)}"
            said = interval_says(low, high)
            yield Segment(student.name, part.where, part.rows, part.ne, -part.difference, low, high, said, source)


@dataclass(frozen=True)
class Cost:
    """Seconds that a slice of an asset takes, and their share of all."""

    asset: str
    seconds: float
    share: float


def costs(work: Workspace) -> list[Cost]:
    """Dearest first; assets that don't say are left out."""
    took = {asset: seconds_a_slice(work, asset) for asset in assets_of(work.project)}
    said = {asset: seconds for asset, seconds in took.items() if seconds is not None}
    total = sum(said.values())
    dearest = sorted(said.items(), key=lambda item: -item[1])
    return [Cost(asset, seconds, seconds / total if total else 0.0) for asset, seconds in dearest]
