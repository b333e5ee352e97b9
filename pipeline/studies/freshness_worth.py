"""Whether a declared freshness is worth what it costs: what the studies of age say beside what is declared.

Belongs here: weighing and wording. Not here: measuring (losses.py and the studies).

Learning costs the same however rarely it is asked for: every slice is learnt once. What a rarer refresh saves is runs,
gates and published snapshots; what it costs is NE.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

import polars as pl

from exfm.learning import Student, Teacher
from exfm.project import Project
from pipeline.studies.losses import Loss
from pipeline.upkeep.durations import seconds_a_slice
from pipeline.workspace import Workspace

Verdict = Literal["agrees", "too old", "fresher than needed", "too noisy to tell"]
TEACHER_COLUMNS = ("loss_student", "error_student")
STUDENT_COLUMNS = ("loss", "error")


@dataclass(frozen=True)
class Advice:
    """One declared policy beside what was measured.

    Args:
        of: what it is declared of, as ``Teacher(large)``.
        declared, advised: age in slices at most; ``advised`` is ``None`` where nothing can be said.
        loses: what the declared age loses, with its error.
        says: all of it in a sentence, with the fields to change.
    """

    of: str
    verdict: Verdict
    declared: int
    advised: int | None
    loses: Loss
    says: str

    @property
    def disagrees(self) -> bool:
        return self.verdict in ("too old", "fresher than needed")


def weighed(measured: Sequence[Loss], declared: int, bearable: float) -> tuple[Verdict, int | None]:
    """What the declared age is, and which one is advised.

    Args:
        measured: by age, the freshest first.
        declared: in slices, from the freshest on.
        bearable: loss of NE, relative, that is taken for a rarer refresh.
    """
    costly = [each.age for each in measured if each.loss - each.error > bearable]
    sound: list[int] = []  # ages that are shown to lose no more than that, without a gap
    for each in measured:
        if each.loss + each.error > bearable:
            break
        sound.append(each.age)
    not_costly = [each.age for each in measured if each.age < min(costly, default=each.age + 1)]
    if costly and declared >= min(costly):
        return "too old", max(not_costly)
    if sound[-1] > declared:
        return "fresher than needed", sound[-1]
    if declared <= sound[-1]:
        return "agrees", declared
    return "too noisy to tell", None


def at_age(measured: Sequence[Loss], age: int) -> Loss:
    """The loss at an age, on the line between those measured; of the oldest beyond it."""
    before = max((each for each in measured if each.age <= age), key=lambda each: each.age)
    after = min((each for each in measured if each.age >= age), key=lambda each: each.age, default=before)
    if after.age == before.age:
        return Loss(age, before.loss, before.error)
    share = (age - before.age) / (after.age - before.age)
    mixed = [(1 - share) * old + share * new for old, new in ((before.loss, after.loss), (before.error, after.error))]
    return Loss(age, *mixed)


def advice(work: Workspace, by_lag: pl.DataFrame, by_refresh: pl.DataFrame) -> list[Advice]:
    """Of each teacher and student that the studies measured, those that disagree first."""
    found = [*_of_teachers(work, by_lag), *_of_students(work, by_refresh)]
    return sorted(found, key=lambda each: not each.disagrees)


def _of_teachers(work: Workspace, rows: pl.DataFrame) -> Iterator[Advice]:
    """A teacher is as old as its most demanding student lets it be."""
    bearable = work.project.upkeep.bearable_loss
    for teacher in work.project.teachers:
        mine = rows.filter(pl.col("teacher") == teacher.name)
        if mine.is_empty():
            continue
        declared = teacher.lag + teacher.publish_every - 1
        each = {
            name: _measured(part, "lag", TEACHER_COLUMNS)
            for (name,), part in mine.group_by("student", maintain_order=True)
        }
        told = {str(name): weighed(measured, declared, bearable) for name, measured in each.items()}
        name = min(told, key=lambda student: (_ORDER.index(told[student][0]), told[student][1] or 0))
        verdict, advised = told[name]
        loses = at_age(each[name], declared)
        yield Advice(f"Teacher({teacher.name})", verdict, declared, advised, loses,
                     _says_teacher(teacher, verdict, advised, name, loses))  # fmt: skip


_ORDER: tuple[Verdict, ...] = ("too old", "too noisy to tell", "agrees", "fresher than needed")


def _of_students(work: Workspace, rows: pl.DataFrame) -> Iterator[Advice]:
    project = work.project
    for student in project.students:
        mine = rows.filter(pl.col("student") == student.name)
        if mine.is_empty():
            continue
        measured, declared = _measured(mine, "behind", STUDENT_COLUMNS), slices_behind(project, student)
        verdict, advised = weighed(measured, declared, project.upkeep.bearable_loss)
        loses = at_age(measured, declared)
        yield Advice(f"Student({student.name})", verdict, declared, advised, loses,
                     _says_student(work, student, verdict, advised, loses))  # fmt: skip


def slices_behind(project: Project, student: Student) -> int:
    """How many slices more than at best a student's release may be old before it is refreshed."""
    declared = project.release_limits(student)
    return max((declared.warn - declared.best) // project.stream.slice_length, 0)


def _measured(rows: pl.DataFrame, age: str, columns: tuple[str, str]) -> list[Loss]:
    return [Loss(*row) for row in rows.sort(age).select(age, *columns).iter_rows()]


def _says_teacher(teacher: Teacher, verdict: Verdict, advised: int | None, student: str, loses: Loss) -> str:
    of = f"teacher/{teacher.name}: scorers up to {loses.age} slices old cost student/{student} {_percent(loses)} of NE"
    if verdict == "too old":
        return f"{of}: use Teacher.lag + Teacher.publish_every - 1 = {advised} at most"
    if verdict == "fresher than needed":
        return f"{of}, and {advised} slices are shown to cost no more than Upkeep.bearable_loss: publish more rarely"
    return f"{of}: {verdict}"


def _says_student(work: Workspace, student: Student, verdict: Verdict, advised: int | None, loses: Loss) -> str:
    parts = ("checkpoint", "control", "evaluation")
    seconds = [seconds_a_slice(work, f"student/{student.name}/{part}") for part in parts]
    spent = sum(value for value in seconds if value is not None)
    of = f"student/{student.name}: refreshed up to {loses.age} slices late it loses {_percent(loses)} of NE"
    of += f" ({spent:.1f} s of learning and judging a slice, however rarely)" if spent else ""
    declared = work.project.release_limits(student)
    if verdict == "too old":
        assert advised is not None
        warn = declared.best + (advised + 0.5) * work.project.stream.slice_length
        return f"{of}: use Student.freshness with warn={warn} at most"
    if verdict == "fresher than needed":
        assert advised is not None
        warn = declared.best + (advised + 0.5) * work.project.stream.slice_length
        return f"{of}, and {advised} are shown to lose no more than Upkeep.bearable_loss: warn={warn} will do"
    return f"{of}: {verdict}"


def _percent(loss: Loss) -> str:
    band = f" ±{loss.error:.2%}" if isfinite(loss.error) else ""
    return f"{loss.loss:+.2%}{band}"


def stored_advice(work: Workspace) -> list[Advice]:
    """What the last ``freshness_cost`` says of what is declared now; empty where it was never made."""
    paths = [work.state.reports / name for name in ("freshness_cost.parquet", "refresh_cost.parquet")]
    frames = [pl.read_parquet(path, glob=False) if path.is_file() else pl.DataFrame() for path in paths]
    whole: Iterable[tuple[pl.DataFrame, tuple[str, str]]] = zip(frames, (TEACHER_COLUMNS, STUDENT_COLUMNS), strict=True)
    if any(not set(columns) <= set(frame.columns) for frame, columns in whole):
        return []  # never made, or by an earlier version
    return advice(work, *frames)
