"""The students' walk over the slices: judge what would have been serving, then learn, student beside control.

Belongs here: the order of evaluation and training, and what they share: one load of the slice, one read of each
teacher's predictions. Not here: losses and learners (models/), releases (releasing.py).
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch

from exfm_assets.learning.chain import Advanced, Chain
from exfm_assets.learning.evaluation import Judged, evaluation_rows, served_index, true_logits
from exfm_assets.learning.predictions import Supervision, files_of, read_supervision_of
from exfm_assets.learning.releasing import released_versions
from exfm_assets.learning.shelf import Shelf
from exfm_assets.learning.teaching import Desk, newest_of
from exfm_assets.resources import Workspace
from models.batch import SliceTensors
from models.network import NetworkSpec
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
    """A student with its two chains, and older checkpoints to judge."""

    asked: Asked
    student: Chain
    control: Chain
    served: dict[str, Chain]


def student_chain(work: Workspace, student: Student, device: str, *, control: bool) -> Chain:
    columns = work.project.columns_of(student.inputs, where=student.name)
    distillation = None if control else student.distillation
    spec = NetworkSpec.declare(
        student.network, columns, work.project.stream, (student.task,), distillation, student.teacher
    )
    return Chain(Shelf.of(work, student, control=control), spec, student.training, distillation, device)


def walk_students(
    work: Workspace, asked: Sequence[Asked], pieces: Sequence[Slice], *, device: str
) -> Iterator[Studied]:
    """Visit slices in order, and on each slice all students.

    Raises:
        DataError: if an input, or a checkpoint that must be continued, does not exist.
    """
    classes = [_class(work, one, device) for one in asked]
    for piece in pieces:
        lesson = Lesson(work, Desk(work, piece, device, with_labels=True), [one.student for one in asked])
        for one in classes:
            yield _visit(work, one, lesson)


def _class(work: Workspace, asked: Asked, device: str) -> Class:
    def chain(control: bool) -> Chain:
        return student_chain(work, asked.student, device, control=control)

    return Class(asked, chain(False), chain(True), {STUDENT: chain(False), CONTROL: chain(True)})


class Lesson:
    """A slice as all students share it: tensors, and each teacher's predictions, read once."""

    def __init__(self, work: Workspace, desk: Desk, students: Sequence[Student]) -> None:
        self.work, self.desk, self.students = work, desk, students
        self._supervision: dict[str, Supervision] = {}

    def rows_of(self, student: Student) -> np.ndarray:
        """Places of the student's impressions in the slice."""
        frame = self.desk.frame
        if student.surface is None:
            return np.arange(frame.height)
        surface = self.work.project.stream.surface.name
        return np.flatnonzero((frame[surface] == student.surface).fill_null(False).to_numpy())

    def supervision(self, teacher_name: str) -> Supervision:
        if teacher_name not in self._supervision:
            taught = [f"{one.name}_supervision" for one in self.students if one.teacher == teacher_name]
            teacher = self.work.project.teacher(teacher_name)
            self._supervision[teacher_name] = read_supervision_of(self.work, teacher, self.desk.piece, taught)
        return self._supervision[teacher_name]

    def teacher_logits(self, student: Student, rows: np.ndarray) -> np.ndarray | None:
        """(N,) float32 of the student's task on its rows, NaN where there is none; ``None`` without a teacher."""
        if student.teacher is None:
            return None
        place = self.work.project.teacher(student.teacher).tasks.index(student.task)
        logits: np.ndarray = self.supervision(student.teacher).logits[rows, place]
        return logits

    def tensors(self, student: Student, rows: np.ndarray, *, supervised: bool) -> SliceTensors:
        taken = self.desk.tensors.take(torch.from_numpy(rows).to(self.desk.device))
        if not supervised or student.teacher is None:
            return taken
        logits = torch.full_like(taken.labels, torch.nan)
        for place, task in enumerate(self.work.project.teacher(student.teacher).tasks):
            known = self.supervision(student.teacher).logits[rows, place]
            logits[:, taken.task_names.index(task)] = torch.from_numpy(known).to(logits.device)
        return replace(taken, teachers={student.teacher: logits})

    def data(self, student: Student, *, supervised: bool) -> dict[str, str]:
        """Digests of all that a student reads of the slice."""
        data = {table: self.desk.digest(table) for table in ("logged_inputs", "labels")}
        if supervised and student.teacher is not None:
            # The newest file's name says which checkpoint scored which inputs: the same scores, the same digest.
            files = files_of(self.work, self.work.project.teacher(student.teacher), self.desk.piece)
            data["predictions"] = digest([path.stem.partition("-")[2] for path in files[-1:]])
        return data


def _visit(work: Workspace, one: Class, lesson: Lesson) -> Studied:
    started = time.perf_counter()
    student, parts = one.asked.student, one.asked.parts
    rows = lesson.rows_of(student)
    evaluation = _evaluate(work, one, lesson, rows) if EVALUATION in parts else None
    trained = _advance(one.student, student, lesson, rows, supervised=True) if STUDENT in parts else None
    control = _advance(one.control, student, lesson, rows, supervised=False) if CONTROL in parts else None
    _retain(work, one, lesson.desk.piece)
    read = lesson.supervision(student.teacher) if trained and trained.fit and student.teacher else None
    return Studied(student, lesson.desk.piece, evaluation, trained, control, read, time.perf_counter() - started)


def _advance(chain: Chain, student: Student, lesson: Lesson, rows: np.ndarray, *, supervised: bool) -> Advanced:
    supervised = supervised and chain.distillation is not None

    checkpoints = lesson.supervision(student.teacher).checkpoints if supervised and student.teacher else ()
    return chain.advance(
        lesson.desk.piece,
        lambda: lesson.tensors(student, rows, supervised=supervised),
        lambda: newest_of(lesson.desk.frame["event_timestamp"][rows]),
        lesson.data(student, supervised=supervised),
        checkpoints,
    )


def _evaluate(work: Workspace, one: Class, lesson: Lesson, rows: np.ndarray) -> pl.DataFrame:
    """The evaluation of a slice: stored already, or judged now and written by the caller."""
    student, piece, stream = one.asked.student, lesson.desk.piece, work.project.stream
    served = served_index(stream, student, stream.index_at(piece.start))
    manifests = {}
    if (served := _newest_of_both(one, served)) >= 0:
        at = stream.slice_at(served)
        manifests = {name: chain.shelf.manifest(at) for name, chain in one.served.items()}
    versions = {name: manifest.version for name, manifest in manifests.items()}
    made_of = digest(student.name, versions, lesson.data(student, supervised=True))
    table = work.evaluations(student.name)
    if table.has(piece):
        stored = table.read([piece])
        if stored.height and (stored["evaluation"] == made_of).all():
            return stored
    tensors = lesson.tensors(student, rows, supervised=False)
    judged = [
        Judged.by(name, one.served[name].learner_at(served).predict(tensors)[:, 0].float().cpu().numpy(), manifest)
        for name, manifest in manifests.items()
    ]
    judged += _others(work, student, lesson, rows)
    task = stream.task_names.index(student.task)
    return evaluation_rows(student, piece, tensors.labels[:, task].cpu().numpy(), judged, made_of)


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
    """The teacher by its stored predictions, and the truth where the stream is simulated."""
    others = []
    logits = lesson.teacher_logits(student, rows)
    if logits is not None and np.isfinite(logits).any():
        assert student.teacher is not None
        newest = lesson.supervision(student.teacher).checkpoints[-1]
        others.append(Judged("teacher", logits, newest, None))
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
