"""The students' walk over the slices: judge what would have been serving, then learn, student beside control.

Belongs here: the order of evaluation and training, and what they share: one load of the slice, one read of each
teacher's predictions. Not here: what served and which weights are needed (served.py), losses and learners (models/).
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl

from exfm_assets.learning.chain import Chain
from exfm_assets.learning.cohort import Advanced, Cohorts, Study
from exfm_assets.learning.desk import desks, students_columns
from exfm_assets.learning.evaluation import Judged, evaluation_rows, served_index, true_logits
from exfm_assets.learning.leading import led
from exfm_assets.learning.lesson import Lesson
from exfm_assets.learning.predictions import Supervision
from exfm_assets.learning.served import (
    CONTROL,
    EVALUATION,
    STUDENT,
    Asked,
    Class,
    data,
    judged_already,
    made_of,
    manifests,
    newest_of_both,
    retain,
    weights_needed,
)
from exfm_assets.learning.shelf import Shelf
from exfm_assets.learning.specs import member_of
from exfm_assets.resources import Workspace
from projects.learning import Student
from projects.stream import Slice


@dataclass(frozen=True)
class Studied:
    """What a slice's visit did for one student; ``None`` where it was not asked for.

    Args:
        failed: why the student could not go on; it is left out of the slices after this one.
    """

    student: Student
    piece: Slice
    evaluation: pl.DataFrame | None
    trained: Advanced | None
    control: Advanced | None
    supervision: Supervision | None
    seconds: float
    failed: str | None = None


def student_chain(work: Workspace, student: Student, device: str, *, control: bool) -> Chain:
    member = member_of(work.project, student, control=control)
    return Chain(Shelf.of(work, student, control=control), member, student.training, device)


def walk_students(
    work: Workspace, asked: Sequence[Asked], pieces: Sequence[Slice], *, device: str
) -> Iterator[Studied]:
    """Visit slices in order, and on each slice all students: first all are judged, then all learn.

    A student that can't go on is left behind with the reason; the others go on without it.

    Raises:
        DataError: if nobody can go on, for the reason that the first one had.
    """
    classes, cohorts = [_class(work, one, device) for one in asked], Cohorts()
    for one in classes:
        with one.staying_behind():
            one.again = weights_needed(work, one, pieces)
    columns = students_columns(work.project, [one.student for one in asked])
    for desk in desks(work, pieces, device, columns, with_labels=True):
        lesson = Lesson(work, desk, [one.student for one in asked])
        yield from _visit(work, [one for one in classes if not one.told], cohorts, lesson)
        _unless_all_failed(classes)


def _unless_all_failed(classes: list[Class]) -> None:
    errors = [one.error for one in classes if one.error is not None]
    if errors and len(errors) == len(classes):
        raise errors[0]


def _class(work: Workspace, asked: Asked, device: str) -> Class:
    def chain(control: bool) -> Chain:
        return student_chain(work, asked.student, device, control=control)

    return Class(asked, chain(False), chain(True), {STUDENT: chain(False), CONTROL: chain(True)})


def _visit(work: Workspace, classes: list[Class], cohorts: Cohorts, lesson: Lesson) -> Iterator[Studied]:
    evaluations: dict[str, pl.DataFrame] = {}
    seconds: dict[str, float] = {}
    for one in classes:
        started = time.perf_counter()
        if EVALUATION in one.asked.parts and one.error is None:
            with one.staying_behind():
                evaluations[one.asked.student.name] = _evaluate(work, one, lesson)
        seconds[one.asked.student.name] = time.perf_counter() - started
    started = time.perf_counter()
    trained = _learn(classes, cohorts, lesson)
    shared = (time.perf_counter() - started) / max(len(classes), 1)  # a pass over the slice is one for all in it
    for one in classes:
        student = one.asked.student
        mine, control = trained.get((student.name, STUDENT)), trained.get((student.name, CONTROL))
        read = lesson.supervision(student.teachers[0]) if mine and mine.fit and student.teachers else None
        if one.error is None:
            retain(work, one, lesson.desk.piece)
        one.told = one.error is not None
        yield Studied(
            student,
            lesson.desk.piece,
            evaluations.get(student.name),
            mine,
            control,
            read,
            seconds[student.name] + shared,
            None if one.error is None else str(one.error),
        )


def _learn(classes: list[Class], cohorts: Cohorts, lesson: Lesson) -> dict[tuple[str, str], Advanced]:
    """Train what is asked for: by student's name and part."""
    studies: dict[tuple[str, str], Study] = {}
    by_name = {one.asked.student.name: one for one in classes}
    for one in classes:
        # The control first: a lead is measured against it as it was before this slice, whichever trains first.
        mine = {}
        for part, chain in ((CONTROL, one.control), (STUDENT, one.student)):
            if part in one.asked.parts and one.error is None:
                with one.staying_behind():
                    mine[one.asked.student.name, part] = _study(one, chain, lesson)
                    cohorts.check(mine[one.asked.student.name, part], lesson.desk.piece)
        studies |= mine if one.error is None else {}
    advanced = cohorts.advance(
        list(studies.values()),
        lesson.desk.piece,
        lesson.tensors,
        lambda rows: lesson.desk.newest(lesson.rows_of(rows)),
    )
    done = {}
    for (name, part), result in zip(studies, advanced, strict=True):
        if isinstance(result, Advanced):
            done[name, part] = result
        else:
            by_name[name].error = result
    return done


def _study(one: Class, chain: Chain, lesson: Lesson) -> Study:
    student, spec = one.asked.student, chain.member.spec
    rows = lesson.rows_name(student)
    index = lesson.work.project.stream.index_at(lesson.desk.piece.start)
    lead = student.lead if spec.teachers else None
    return Study(
        chain,
        rows,
        data(lesson.work, one, index, bool(spec.teachers)),
        labelled=lambda: lesson.desk.labelled(spec.tasks, lesson.rows_of(rows)),
        checkpoints=lambda: tuple(
            dict.fromkeys(version for name in spec.teachers for version in lesson.supervision(name).checkpoints)
        ),
        # Often what served is what was before the slice: the same chains load it once.
        lead=None
        if lead is None
        else cache(lambda: led(lead, student, one.served[STUDENT], one.served[CONTROL], lesson)),
        again=index in one.again.get(STUDENT if chain is one.student else CONTROL, ()),
    )


def _evaluate(work: Workspace, one: Class, lesson: Lesson) -> pl.DataFrame:
    """The evaluation of a slice: stored already, or judged now and written by the caller."""
    student, piece, stream = one.asked.student, lesson.desk.piece, work.project.stream
    served = newest_of_both(one, served_index(stream, student, stream.index_at(piece.start)))
    judging = manifests(one, served)
    of = made_of(work, one, piece, judging)
    if (stored := judged_already(work, one, piece, of)) is not None:
        return stored
    tensors, rows = lesson.tensors(lesson.rows_name(student)), lesson.rows_of(lesson.rows_name(student))
    judged = [
        Judged.by(name, one.served[name].learner_at(served).predict(tensors)[:, 0].float().cpu().numpy(), manifest)
        for name, manifest in judging.items()
    ]
    judged += _others(work, student, lesson, rows)
    task = stream.task_names.index(student.task)
    return evaluation_rows(student, piece, tensors.labels[:, task].cpu().numpy(), judged, of)


def _others(work: Workspace, student: Student, lesson: Lesson, rows: np.ndarray) -> list[Judged]:
    """The (first) teacher by its stored predictions, and the truth where the stream is simulated."""
    others = []
    for name in student.teachers[:1]:
        logits = lesson.teacher_logits(name, student.task, rows)
        if np.isfinite(logits).any():
            others.append(Judged("teacher", logits, lesson.supervision(name).checkpoints[-1], None))
    best = true_logits(work.state.log, lesson.desk.frame, lesson.desk.piece, student.task)
    if work.project.simulation is not None and best is not None:
        others.append(Judged("best", best[rows], None, None))
    return others
