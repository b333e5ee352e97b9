"""The students' walk over the slices: judge what would have been serving, then learn, student beside control.

Belongs here: the order of evaluation and training, and what they share: one load of the slice, one read of each
teacher's predictions. Not here: what served and which weights are needed (student_run.py), losses (models/).
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import polars as pl

from exfm.learning import Student
from exfm.stream import Slice
from pipeline.evaluation.slice_metrics import Judged, evaluation_rows, served_index, true_logits
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.registry.incremental_model import IncrementalModel
from pipeline.registry.specs import member_of
from pipeline.slices.predictions import Supervision
from pipeline.slices.slice_inputs import read_ahead, students_columns
from pipeline.slices.supervised_slice import SupervisedSlice
from pipeline.training.joint_training import JointTrainer, TrainRequest, TrainResult
from pipeline.training.student_run import (
    CONTROL,
    EVALUATION,
    STUDENT,
    StudentRequest,
    StudentRun,
    data,
    judged_already,
    made_of,
    manifests,
    newest_of_both,
    retain,
    weights_needed,
)
from pipeline.training.teacher_lead import led
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class StudentVisit:
    """What a slice's visit did for one student; ``None`` where it was not asked for.

    Args:
        failed: why the student could not go on; it is left out of the slices after this one.
    """

    student: Student
    slice: Slice
    evaluation: pl.DataFrame | None
    trained: TrainResult | None
    control: TrainResult | None
    supervision: Supervision | None
    seconds: float
    failed: str | None = None


def student_model(work: Workspace, student: Student, device: str, *, control: bool) -> IncrementalModel:
    member = member_of(work.project, student, control=control)
    return IncrementalModel(CheckpointStore.of(work, student, control=control), member, student.training, device)


def walk_students(
    work: Workspace, asked: Sequence[StudentRequest], slices: Sequence[Slice], *, device: str
) -> Iterator[StudentVisit]:
    """Visit slices in order, and on each slice all students: first all are judged, then all learn.

    A student that can't go on is left behind with the reason; the others go on without it.

    Raises:
        DataError: if nobody can go on, for the reason that the first one had.
    """
    runs, trainer = [_run(work, one, device) for one in asked], JointTrainer()
    for one in runs:
        with one.left_behind_on_error():
            one.again = weights_needed(work, one, slices)
    columns = students_columns(work.project, [one.student for one in asked])
    for inputs in read_ahead(work, slices, device, columns, with_labels=True):
        supervised = SupervisedSlice(work, inputs, [one.student for one in asked])
        yield from _visit(work, [one for one in runs if not one.told], trainer, supervised)
        _unless_all_failed(runs)


def _unless_all_failed(runs: list[StudentRun]) -> None:
    errors = [one.error for one in runs if one.error is not None]
    if errors and len(errors) == len(runs):
        raise errors[0]


def _run(work: Workspace, asked: StudentRequest, device: str) -> StudentRun:
    def model(control: bool) -> IncrementalModel:
        return student_model(work, asked.student, device, control=control)

    return StudentRun(asked, model(False), model(True), {STUDENT: model(False), CONTROL: model(True)})


def _visit(
    work: Workspace, runs: list[StudentRun], trainer: JointTrainer, supervised: SupervisedSlice
) -> Iterator[StudentVisit]:
    evaluations: dict[str, pl.DataFrame] = {}
    seconds: dict[str, float] = {}
    for one in runs:
        started = time.perf_counter()
        if EVALUATION in one.asked.parts and one.error is None:
            with one.left_behind_on_error():
                evaluations[one.asked.student.name] = _evaluate(work, one, supervised)
        seconds[one.asked.student.name] = time.perf_counter() - started
    started = time.perf_counter()
    trained = _learn(runs, trainer, supervised)
    shared = (time.perf_counter() - started) / max(len(runs), 1)  # a pass over the slice is one for all in it
    for one in runs:
        student = one.asked.student
        mine, control = trained.get((student.name, STUDENT)), trained.get((student.name, CONTROL))
        read = supervised.supervision(student.teachers[0]) if mine and mine.fit and student.teachers else None
        if one.error is None:
            retain(work, one, supervised.inputs.slice)
        one.told = one.error is not None
        yield StudentVisit(
            student,
            supervised.inputs.slice,
            evaluations.get(student.name),
            mine,
            control,
            read,
            seconds[student.name] + shared,
            None if one.error is None else str(one.error),
        )


def _learn(
    runs: list[StudentRun], trainer: JointTrainer, supervised: SupervisedSlice
) -> dict[tuple[str, str], TrainResult]:
    """Train what is asked for: by student's name and part."""
    requests: dict[tuple[str, str], TrainRequest] = {}
    by_name = {one.asked.student.name: one for one in runs}
    for one in runs:
        # The control first: a lead is measured against it as it was before this slice, whichever trains first.
        mine = {}
        for part, model in ((CONTROL, one.control), (STUDENT, one.student)):
            if part in one.asked.parts and one.error is None:
                with one.left_behind_on_error():
                    mine[one.asked.student.name, part] = _request(one, model, supervised)
                    trainer.check(mine[one.asked.student.name, part], supervised.inputs.slice)
        requests |= mine if one.error is None else {}
    trained = trainer.train(
        list(requests.values()),
        supervised.inputs.slice,
        supervised.tensors,
        lambda rows: supervised.inputs.newest(supervised.rows_of(rows)),
    )
    done = {}
    for (name, part), result in zip(requests, trained, strict=True):
        if isinstance(result, TrainResult):
            done[name, part] = result
        else:
            by_name[name].error = result
    return done


def _request(one: StudentRun, model: IncrementalModel, supervised: SupervisedSlice) -> TrainRequest:
    student, spec = one.asked.student, model.member.spec
    rows = supervised.rows_name(student)
    index = supervised.work.project.stream.index_at(supervised.inputs.slice.start)
    lead = student.lead if spec.teachers else None
    return TrainRequest(
        model,
        rows,
        data(supervised.work, one, index, bool(spec.teachers)),
        labelled=lambda: supervised.inputs.labelled(spec.tasks, supervised.rows_of(rows)),
        teacher_checkpoints=lambda: tuple(
            dict.fromkeys(version for name in spec.teachers for version in supervised.supervision(name).checkpoints)
        ),
        # Often what served is what was before the slice: the same chains load it once.
        lead=None
        if lead is None
        else cache(lambda: led(lead, student, one.served[STUDENT], one.served[CONTROL], supervised)),
        again=index in one.again.get(STUDENT if model is one.student else CONTROL, ()),
    )


def _evaluate(work: Workspace, one: StudentRun, supervised: SupervisedSlice) -> pl.DataFrame:
    """The evaluation of a slice: stored already, or judged now and written by the caller."""
    student, slice_, stream = one.asked.student, supervised.inputs.slice, work.project.stream
    served = newest_of_both(one, served_index(stream, student, stream.index_at(slice_.start)))
    judging = manifests(one, served)
    of = made_of(work, one, slice_, judging)
    if (stored := judged_already(work, one, slice_, of)) is not None:
        return stored
    tensors, rows = supervised.tensors(supervised.rows_name(student)), supervised.rows_of(supervised.rows_name(student))
    judged = [
        Judged.by(name, one.served[name].learner_at(served).predict(tensors)[:, 0].float().cpu().numpy(), manifest)
        for name, manifest in judging.items()
    ]
    judged += _others(work, student, supervised, rows)
    task = stream.task_names.index(student.task)
    return evaluation_rows(student, slice_, tensors.labels[:, task].cpu().numpy(), judged, of)


def _others(work: Workspace, student: Student, supervised: SupervisedSlice, rows: np.ndarray) -> list[Judged]:
    """The (first) teacher by its stored predictions, and the truth where the stream is simulated."""
    others = []
    for name in student.teachers[:1]:
        logits = supervised.teacher_logits(name, student.task, rows)
        if np.isfinite(logits).any():
            others.append(Judged("teacher", logits, supervised.supervision(name).checkpoints[-1], None))
    best = true_logits(work.state.log, supervised.inputs.frame, supervised.inputs.slice, student.task)
    if work.project.simulation is not None and best is not None:
        others.append(Judged("best", best[rows], None, None))
    return others
