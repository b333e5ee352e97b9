"""The students' walk over the slices: judge what would have been serving, then learn, student beside control.

Belongs here: the order of evaluation and training, and what they share: one load of the slice, one read of each
teacher's predictions. Not here: what served (student_run.py), what is stored (student_records.py), losses (models/).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import polars as pl

from exfm.learning import Student
from exfm.names import supervision_service
from exfm.stream import Slice
from pipeline.evaluation.groups import Groups, groups_of
from pipeline.evaluation.slice_metrics import Evaluation, Judged, Measured, true_logits
from pipeline.parts import silent
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.registry.incremental_model import IncrementalModel
from pipeline.registry.specs import encoder_of, member_of
from pipeline.slices.slice_inputs import SliceInputs, read_ahead, students_columns
from pipeline.slices.supervised_slice import SupervisedSlice, rows_name
from pipeline.slices.supervision import Supervision, stored_supervision
from pipeline.slices.teaching import teaching
from pipeline.training.joint_training import DistillationShares, JointTrainer, TrainRequest, TrainResult
from pipeline.training.student_records import StoredRecords, StudentRecords
from pipeline.training.student_run import CONTROL, EVALUATION, STUDENT, StudentRequest, StudentRun
from pipeline.training.teacher_lead import distillation_shares, scores
from pipeline.workspace import Workspace

Truth = Callable[[SliceInputs, str], np.ndarray | None]  # a slice, a task -> (N,) true logits, if they are known


@dataclass(frozen=True)
class StudentVisit:
    """What a slice's visit did for one student; ``None`` where it was not asked for.

    Args:
        evaluation: rows of the evaluation table that are stored already, what was measured now, or who was judged.
        failed: why the student could not go on; it is left out of the slices after this one.
    """

    student: Student
    slice: Slice
    evaluation: pl.DataFrame | Measured | Evaluation | None
    trained: TrainResult | None
    control: TrainResult | None
    supervision: Supervision | None
    seconds: float
    failed: str | None = None

    def evaluation_rows(self) -> pl.DataFrame:
        """The slice's rows of the evaluation table."""
        assert isinstance(self.evaluation, pl.DataFrame | Measured)
        return self.evaluation.rows if isinstance(self.evaluation, Measured) else self.evaluation


@dataclass
class StudentWalk:
    """Slices in order, and on each slice all students: first all are judged, then all learn.

    Args:
        runs: of each student.
        records: what is stored of them, or ``NoRecords``.
        truth: of a simulated stream.
        keeps_scores: whether visits have who was judged, with all their scores, instead of what was measured.
    """

    runs: Sequence[StudentRun]
    records: StudentRecords
    truth: Truth
    keeps_scores: bool = False

    def __post_init__(self) -> None:
        self._trainer = JointTrainer()
        self._grouped: tuple[Slice, Groups] | None = None

    def over(self, slices: Iterable[SupervisedSlice]) -> Iterator[StudentVisit]:
        """Visit slices; a student that can't go on is left behind with the reason, the others go on without it.

        Raises:
            DataError: if nobody can go on, for the reason that the first one had.
        """
        for supervised in slices:
            yield from self._visit([run for run in self.runs if not run.reported], supervised)
            errors = [run.error for run in self.runs if run.error is not None]
            if errors and len(errors) == len(self.runs):
                raise errors[0]

    def _visit(self, runs: list[StudentRun], supervised: SupervisedSlice) -> Iterator[StudentVisit]:
        evaluations: dict[str, pl.DataFrame | Measured | Evaluation] = {}
        seconds: dict[str, float] = {}
        for run in runs:
            started = time.perf_counter()
            if EVALUATION in run.request.parts and run.error is None:
                with run.left_behind_on_error():
                    evaluations[run.declared.name] = self._evaluated(run, supervised)
            seconds[run.declared.name] = time.perf_counter() - started
        self._grouped = None
        if not any(run.declared.lead for run in runs):  # a lead is measured by the same scores
            supervised.forget_computed()
        started = time.perf_counter()
        trained = self._train(runs, supervised)
        shared = (time.perf_counter() - started) / max(len(runs), 1)  # a pass over the slice is one for all in it
        for run in runs:
            student = run.declared
            mine, control = trained.get((student.name, STUDENT)), trained.get((student.name, CONTROL))
            read = supervised.supervision(student.teachers[0]) if mine and mine.fit and student.is_taught else None
            if run.error is None:
                with run.left_behind_on_error():
                    self.records.retain(run, supervised.slice)
            run.reported = run.error is not None
            evaluation = evaluations.get(student.name)
            failed = None if run.error is None else str(run.error)
            spent = seconds[student.name] + shared
            yield StudentVisit(student, supervised.slice, evaluation, mine, control, read, spent, failed)

    def _evaluated(self, run: StudentRun, supervised: SupervisedSlice) -> pl.DataFrame | Measured | Evaluation:
        """The evaluation of a slice: stored already, or judged now, to be written by the caller.

        Of a slice's scores no more is held here than is asked for: what a model learns next needs the memory.
        """
        served = run.served_at(supervised.slice.index)
        manifests = run.judged(served)
        made_of = self.records.made_of(run, supervised.slice, manifests)
        if (stored := self.records.evaluated(run, supervised.slice, made_of)) is not None:
            return stored
        rows = rows_name(run.declared.surface)
        logits = scores([run.served[name] for name in manifests], served, supervised, rows)
        judged = [Judged.by(*each) for each in zip(manifests, logits, manifests.values(), strict=True)]
        judged += self._others(run.declared, supervised)
        labels = supervised.labels(run.declared.task, rows)
        weights = supervised.weights(rows)
        groups = self._groups(supervised).take(supervised.at(rows))
        found = Evaluation(run.declared, supervised.slice, labels, tuple(judged), made_of[0], weights, groups)
        return found if self.keeps_scores else found.measured()

    def _groups(self, supervised: SupervisedSlice) -> Groups:
        """Users and requests of a slice, read once for all students."""
        inputs = supervised.inputs
        if self._grouped is None or self._grouped[0] != supervised.slice:
            self._grouped = supervised.slice, groups_of(inputs.work, supervised.slice, inputs.shown())
        return self._grouped[1]

    def _others(self, student: Student, supervised: SupervisedSlice) -> list[Judged]:
        """The (first) teacher by its predictions, and the truth where the stream is simulated."""
        others, rows = [], rows_name(student.surface)
        for name in student.teachers[:1]:
            logits = supervised.teacher_logits(name, student.task, rows)
            if np.isfinite(logits).any():
                others.append(Judged("teacher", logits, supervised.supervision(name).checkpoints[-1], None))
        best = self.truth(supervised.inputs, student.task)
        if best is not None:
            others.append(Judged("best", best[supervised.at(rows)], None, None))
        return others

    def _train(self, runs: list[StudentRun], supervised: SupervisedSlice) -> dict[tuple[str, str], TrainResult]:
        """Train what is asked for: by student's name and part."""
        requests: dict[tuple[str, str], TrainRequest] = {}
        by_name = {run.declared.name: run for run in runs}
        for run in runs:
            # The control first: a lead is measured against it as it was before this slice, whichever trains first.
            mine = {}
            for part in (CONTROL, STUDENT):
                if part in run.request.parts and run.error is None:
                    with run.left_behind_on_error():
                        mine[run.declared.name, part] = self._request(run, part, supervised)
                        self._trainer.check(mine[run.declared.name, part], supervised.slice)
            requests |= mine if run.error is None else {}
        results = self._trainer.train(list(requests.values()), supervised)
        done = {}
        for (name, part), result in zip(requests, results, strict=True):
            if isinstance(result, TrainResult):
                done[name, part] = result
            else:
                by_name[name].error = result
        return done

    def _request(self, run: StudentRun, part: str, supervised: SupervisedSlice) -> TrainRequest:
        student, model = run.declared, run.model(part)
        spec, rows = model.member.spec, rows_name(student.surface)
        is_gone = self.records.withdrawn(run, supervised.slice)
        is_taught = part == STUDENT and student.is_taught
        names = student.teachers if is_taught else ()
        lead = student.lead if is_taught and not is_gone else None

        @cache
        def shares() -> DistillationShares:
            # Often what served is what was before the slice: the same models load it once.
            assert lead is not None
            return distillation_shares(lead, student, run.served[STUDENT], run.served[CONTROL], supervised)

        return TrainRequest(
            model,
            rows,
            self.records.data(run, supervised.slice.index, is_taught=is_taught),
            labelled=lambda: supervised.labelled(spec.tasks, rows),
            teacher_checkpoints=lambda: tuple(
                dict.fromkeys(version for name in names for version in supervised.supervision(name).checkpoints)
            ),
            lead=None if lead is None else shares,
            again=supervised.slice.index in run.again.get(part, ()),
            withdrawn=is_gone,
        )


def walk_students(
    work: Workspace,
    requests: Sequence[StudentRequest],
    slices: Sequence[Slice],
    *,
    device: str,
    say: Callable[[str], object] = silent,
) -> Iterator[StudentVisit]:
    """The walk over stored slices, with stored predictions, checkpoints and evaluations.

    Args:
        say: is told how far a pass over a large slice is.

    Raises:
        DataError: if nobody can go on, for the reason that the first one had.
    """
    runs, records = [stored_run(work, request, device) for request in requests], StoredRecords(work)
    for run in runs:
        with run.left_behind_on_error():
            run.again = records.weights_needed(run, slices)
    students = [request.student for request in requests]
    columns = students_columns(work.project, students)
    read = (
        SupervisedSlice(inputs, work.project.stream, _supervision_of(work, inputs.slice, students))
        for inputs in read_ahead(work, slices, device, columns, with_labels=True, say=say)
    )
    yield from StudentWalk(runs, records, partial(stored_truth, work)).over(read)


def _supervision_of(work: Workspace, slice_: Slice, students: Sequence[Student]) -> Callable[[str], Supervision]:
    def read(name: str) -> Supervision:
        services = [supervision_service(student.name) for student in students if name in student.teachers]
        return stored_supervision(work, teaching(work, name, slice_.index), slice_, services)

    return read


def student_model(work: Workspace, student: Student, device: str, *, control: bool) -> IncrementalModel:
    """A student, or its control, with its stored checkpoints."""
    checkpoints = CheckpointStore.of(work, student, control=control)
    member = member_of(work.project, student, control=control)
    return IncrementalModel(
        checkpoints, work.project.stream, member, student.training, encoder_of(work.project, student), device
    )


def stored_run(work: Workspace, request: StudentRequest, device: str) -> StudentRun:
    """A student's part in a walk, with its stored checkpoints."""

    def model(control: bool) -> IncrementalModel:
        return student_model(work, request.student, device, control=control)

    lag = work.project.stream.serving_lag(request.student.task)
    return StudentRun(request, model(False), model(True), {STUDENT: model(False), CONTROL: model(True)}, lag)


def stored_truth(work: Workspace, inputs: SliceInputs, task: str) -> np.ndarray | None:
    """The simulator's true logits of a slice; ``None`` for a real log."""
    if work.project.simulation is None:
        return None
    return true_logits(work.state.log, inputs.shown(), inputs.slice, task)
