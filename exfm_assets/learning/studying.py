"""The students' walk over the slices: judge what would have been serving, then learn, student beside control.

Belongs here: the order of evaluation and training, and what they share: one load of the slice, one read of each
teacher's predictions. Not here: losses and learners (models/), releases (releasing.py).
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import polars as pl

from exfm_assets.learning.chain import Chain
from exfm_assets.learning.cohort import Advanced, Cohorts, Study
from exfm_assets.learning.desk import desks, students_columns
from exfm_assets.learning.evaluation import Judged, evaluation_rows, served_index, true_logits
from exfm_assets.learning.leading import control_version, led
from exfm_assets.learning.lesson import Lesson
from exfm_assets.learning.lineage import data_of
from exfm_assets.learning.predictions import Supervision
from exfm_assets.learning.releasing import released_versions
from exfm_assets.learning.restoring import again, first_new
from exfm_assets.learning.shelf import Shelf
from exfm_assets.learning.specs import member_of
from exfm_assets.resources import Workspace
from exfm_assets.tables import DataError
from models.errors import CheckpointError
from models.manifest import Manifest
from projects.learning import Student
from projects.project import digest
from projects.stream import Slice

STUDENT, CONTROL, EVALUATION = "student", "control", "evaluation"


@dataclass(frozen=True)
class Asked:
    """Which parts of a student are materialised: any of ``student``, ``control``, ``evaluation``."""

    student: Student
    parts: frozenset[str]


@dataclass(frozen=True)
class Studied:
    """What a slice's visit did for one student; ``None`` where it was not asked for."""

    student: Student
    piece: Slice
    evaluation: pl.DataFrame | None
    trained: Advanced | None
    control: Advanced | None
    supervision: Supervision | None
    seconds: float


@dataclass
class Class:
    """A student with its two chains, and older checkpoints to judge and to measure leads by.

    Args:
        again: by part, slices whose stored checkpoints are trained once more, for their weights.
    """

    asked: Asked
    student: Chain
    control: Chain
    served: dict[str, Chain]
    again: dict[str, frozenset[int]] = field(default_factory=dict)


def student_chain(work: Workspace, student: Student, device: str, *, control: bool) -> Chain:
    member = member_of(work.project, student, control=control)
    return Chain(Shelf.of(work, student, control=control), member, student.training, device)


def walk_students(
    work: Workspace, asked: Sequence[Asked], pieces: Sequence[Slice], *, device: str
) -> Iterator[Studied]:
    """Visit slices in order, and on each slice all students: first all are judged, then all learn.

    Raises:
        DataError: if an input, or a checkpoint that must be continued, does not exist.
    """
    classes, cohorts = [_class(work, one, device) for one in asked], Cohorts()
    for one in classes:
        one.again = _weights_needed(work, one, pieces)
    for desk in desks(work, pieces, device, students_columns(work.project), with_labels=True):
        lesson = Lesson(work, desk, [one.student for one in asked])
        yield from _visit(work, classes, cohorts, lesson)


def _class(work: Workspace, asked: Asked, device: str) -> Class:
    def chain(control: bool) -> Chain:
        return student_chain(work, asked.student, device, control=control)

    return Class(asked, chain(False), chain(True), {STUDENT: chain(False), CONTROL: chain(True)})


def _weights_needed(work: Workspace, one: Class, pieces: Sequence[Slice]) -> dict[str, frozenset[int]]:
    """By part, which stored checkpoints are trained again: looked up before the walk, for it never turns back."""
    stream, student, parts = work.project.stream, one.asked.student, one.asked.parts
    indices = [stream.index_at(piece.start) for piece in pieces]
    after = indices[-1] + 1
    chains, new = {CONTROL: one.control, STUDENT: one.student}, {CONTROL: after, STUDENT: after}
    leading = student.lead is not None and bool(student.teachers)
    try:
        if CONTROL in parts:
            new[CONTROL] = first_new(one.control, partial(_data, work, one, taught=False), indices)
        # A lead-aware student is made of its control, too: where that is new, so is the student one slice later.
        looked_at = [index for index in indices if not leading or index <= new[CONTROL]]
        if STUDENT in parts and looked_at:
            new[STUDENT] = first_new(one.student, partial(_data, work, one, taught=bool(student.teachers)), looked_at)
        unjudged = _first_unjudged(work, one, indices, min(new.values())) if EVALUATION in parts else after
    except (DataError, CheckpointError):
        return {}  # the walk itself says what is missing, where it is missed
    judging = _newest_of_both(one, served_index(stream, student, unjudged)) if unjudged < after else after
    needed = {part: min(new[part] - 1, judging) for part in chains}
    if leading:
        needed[CONTROL] = min(needed[CONTROL], new[STUDENT] - 1)
    return {
        part: again(chain, new[part], needed[part], indices, None if part in parts else f"student/{student.name}")
        for part, chain in chains.items()
    }


def _first_unjudged(work: Workspace, one: Class, indices: Sequence[int], new: int) -> int:
    """The first slice whose evaluation is not stored as it would now be; one after the last if all are."""
    stream, student = work.project.stream, one.asked.student
    for index in indices:
        served = _newest_of_both(one, served_index(stream, student, index))
        if served < 0:
            continue  # nobody's weights are needed
        piece = stream.slice_at(index)
        if served >= new:
            return index
        if _judged_already(work, one, piece, _made_of(work, one, piece, _manifests(one, served))) is None:
            return index
    return indices[-1] + 1


def _data(work: Workspace, one: Class, index: int, taught: bool) -> dict[str, str]:
    """What a slice's checkpoint of the student, or of its control, is made of."""
    piece = work.project.stream.slice_at(index)
    data = data_of(work, piece, one.asked.student, supervised=taught)
    if taught and one.asked.student.lead is not None:
        data |= control_version(one.served[CONTROL], piece)
    return data


def _visit(work: Workspace, classes: list[Class], cohorts: Cohorts, lesson: Lesson) -> Iterator[Studied]:
    evaluations, judging = {}, {}
    for one in classes:
        started = time.perf_counter()
        wanted = EVALUATION in one.asked.parts
        evaluations[one.asked.student.name] = _evaluate(work, one, lesson) if wanted else None
        judging[one.asked.student.name] = time.perf_counter() - started
    started = time.perf_counter()
    trained = _learn(classes, cohorts, lesson)
    shared = (time.perf_counter() - started) / len(classes)  # a pass over the slice is one for all that share it
    for one in classes:
        student = one.asked.student
        mine, control = trained.get((student.name, STUDENT)), trained.get((student.name, CONTROL))
        _retain(work, one, lesson.desk.piece)
        read = lesson.supervision(student.teachers[0]) if mine and mine.fit and student.teachers else None
        seconds = judging[student.name] + shared
        yield Studied(student, lesson.desk.piece, evaluations[student.name], mine, control, read, seconds)


def _learn(classes: list[Class], cohorts: Cohorts, lesson: Lesson) -> dict[tuple[str, str], Advanced]:
    """Train what is asked for: by student's name and part."""
    studies: dict[tuple[str, str], Study] = {}
    for one in classes:
        # The control first: a lead is measured against it as it was before this slice, whichever trains first.
        for part, chain in ((CONTROL, one.control), (STUDENT, one.student)):
            if part in one.asked.parts:
                studies[one.asked.student.name, part] = _study(one, chain, lesson)
    advanced = cohorts.advance(
        list(studies.values()),
        lesson.desk.piece,
        lesson.tensors,
        lambda rows: lesson.desk.newest(lesson.rows_of(rows)),
    )
    return dict(zip(studies, advanced, strict=True))


def _study(one: Class, chain: Chain, lesson: Lesson) -> Study:
    student, spec = one.asked.student, chain.member.spec
    rows = lesson.rows_name(student)
    index = lesson.work.project.stream.index_at(lesson.desk.piece.start)
    data = _data(lesson.work, one, index, bool(spec.teachers))
    lead = student.lead if spec.teachers else None
    return Study(
        chain,
        rows,
        data,
        labelled=lambda: lesson.desk.labelled(spec.tasks, lesson.rows_of(rows)),
        checkpoints=lambda: tuple(
            dict.fromkeys(version for name in spec.teachers for version in lesson.supervision(name).checkpoints)
        ),
        # Often what served is what was before the slice: the same chains load it once.
        lead=None if lead is None else (lambda: led(lead, student, one.served[STUDENT], one.served[CONTROL], lesson)),
        again=index in one.again.get(STUDENT if chain is one.student else CONTROL, ()),
    )


def _evaluate(work: Workspace, one: Class, lesson: Lesson) -> pl.DataFrame:
    """The evaluation of a slice: stored already, or judged now and written by the caller."""
    student, piece, stream = one.asked.student, lesson.desk.piece, work.project.stream
    served = _newest_of_both(one, served_index(stream, student, stream.index_at(piece.start)))
    manifests = _manifests(one, served)
    made_of = _made_of(work, one, piece, manifests)
    if (stored := _judged_already(work, one, piece, made_of)) is not None:
        return stored
    tensors, rows = lesson.tensors(lesson.rows_name(student)), lesson.rows_of(lesson.rows_name(student))
    judged = [
        Judged.by(name, one.served[name].learner_at(served).predict(tensors)[:, 0].float().cpu().numpy(), manifest)
        for name, manifest in manifests.items()
    ]
    judged += _others(work, student, lesson, rows)
    task = stream.task_names.index(student.task)
    return evaluation_rows(student, piece, tensors.labels[:, task].cpu().numpy(), judged, made_of)


def _manifests(one: Class, served: int) -> dict[str, Manifest]:
    """Of the student and the control that served; of nobody below 0."""
    if served < 0:
        return {}
    at = one.student.shelf.work.project.stream.slice_at(served)
    return {name: chain.shelf.manifest(at) for name, chain in one.served.items()}


def _made_of(work: Workspace, one: Class, piece: Slice, manifests: Mapping[str, Manifest]) -> str:
    """What an evaluation depends on: who is judged, on which data."""
    versions = {name: manifest.version for name, manifest in manifests.items()}
    student = one.asked.student
    return digest(student.name, versions, data_of(work, piece, student, supervised=True))


def _judged_already(work: Workspace, one: Class, piece: Slice, made_of: str) -> pl.DataFrame | None:
    """The slice's evaluation, if it is stored, made of the same."""
    table = work.evaluations(one.asked.student.name)
    stored = table.read([piece]) if table.sound(piece) else pl.DataFrame()
    return stored if stored.height and (stored["evaluation"] == made_of).all() else None


def _newest_of_both(one: Class, index: int) -> int:
    """The newest slice up to ``index`` that student and control both trained on; below 0: none.

    It is ``index`` itself where every slice is trained on. Students that are refreshed only when there is a reason
    have gaps, and what served then is what was there.
    """
    stream = one.student.shelf.work.project.stream
    while index >= 0 and not all(chain.shelf.has(stream.slice_at(index)) for chain in one.served.values()):
        index -= 1
    return index


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


def _retain(work: Workspace, one: Class, piece: Slice) -> None:
    """Keep the weights that may still serve or be continued, and those released."""
    stream, student = work.project.stream, one.asked.student
    index = stream.index_at(piece.start)
    back = max(work.project.retention.last, index - served_index(stream, student, index) + 1)
    chains = {STUDENT: one.student, CONTROL: one.control}
    for chain in (chains[part] for part in chains if part in one.asked.parts):
        chain.shelf.drop_older(stream.slice_at(index - back + 1), released_versions(work, student))
