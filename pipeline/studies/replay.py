"""Replays: the walks over a project's slices in memory, as often as a comparison needs; nothing is stored.

Belongs here: what the walks of training/ need in memory: slices, predictions, checkpoints; and judging many at once.
Not here: which comparisons (teacher_lag_study.py, benchmarks/), the order of work on a slice (training/).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, partial

import numpy as np
import polars as pl

from exfm.columns import Columns
from exfm.learning import Gate, Student, Teacher
from exfm.stream import Slice, Stream
from models.manifest import Manifest
from models.members import Member
from models.metrics import evaluate
from pipeline.evaluation.slice_metrics import Evaluation, known_to_all
from pipeline.registry.checkpoints import CheckpointsInMemory
from pipeline.registry.incremental_model import IncrementalModel
from pipeline.registry.specs import member_of
from pipeline.slices.slice_inputs import SliceInputs
from pipeline.slices.supervised_slice import SupervisedSlice, rows_name, without_teachers
from pipeline.slices.supervision import Supervision, no_supervision, staleness
from pipeline.training.student_records import NoRecords
from pipeline.training.student_run import CONTROL, EVALUATION, STUDENT, StudentRequest, StudentRun
from pipeline.training.student_walk import StudentWalk, stored_truth
from pipeline.training.teacher_walk import Score, TeacherWalk
from pipeline.workspace import Workspace

Scores = Sequence[np.ndarray | None]  # of each slice: (N,) logits, None where nobody was there to score


@dataclass
class Replay:
    """Slices with inputs and labels: what was read stays in memory, but for slices of several parts.

    Args:
        inputs: of adjacent slices, oldest first, the stream's first among them: nobody knows anything before it.
    """

    work: Workspace
    device: str
    inputs: Sequence[SliceInputs]

    @classmethod
    def of(cls, work: Workspace, device: str, columns: Columns) -> "Replay":
        """Every slice whose tables are stored: inputs, labels, and teacher features where the columns name any."""
        tables = ["logged_inputs", "labels", *(["logged_teacher_features"] if columns.of_teachers else [])]
        stored = [{slice_.key for slice_ in work.table(name).stored(work.project.stream)} for name in tables]
        whole = set.intersection(*stored)
        slices = [slice_ for slice_ in work.table("labels").stored(work.project.stream) if slice_.key in whole]
        return cls(work, device, [SliceInputs(work, slice_, device, True, columns) for slice_ in slices])

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def stream(self) -> Stream:
        return self.work.project.stream

    @property
    def slices(self) -> list[Slice]:
        return [inputs.slice for inputs in self.inputs]

    def supervised(self, teachers: Mapping[str, "Predictions"]) -> Iterator[SupervisedSlice]:
        """The slices as students learn from them."""
        for inputs in self.inputs:
            yield SupervisedSlice(inputs, self.stream, partial(_supervision, teachers, inputs))

    @cached_property
    def _unsupervised(self) -> list[SupervisedSlice]:
        return [SupervisedSlice(inputs, self.stream, without_teachers) for inputs in self.inputs]

    def labels(self, index: int, surface: int | str | None, task: str) -> np.ndarray:
        """(N,) labels of a task on a surface's rows of the slice at a position, NaN where not known."""
        return self._unsupervised[index].labels(task, rows_name(surface))

    def weights(self, index: int, surface: int | str | None) -> np.ndarray | None:
        """(N,) how many rows each of a surface's rows stands for; ``None``: one each."""
        return self._unsupervised[index].weights(rows_name(surface))

    def rows(self, index: int, surface: int | str | None) -> np.ndarray:
        """Positions of a surface's impressions in the slice at a position."""
        return self._unsupervised[index].rows_of(rows_name(surface))


@dataclass
class Predictions:
    """A teacher's predictions of every slice, in memory.

    Args:
        by_slice: index of the slice -> supervision of all its rows.
        trained_until: index of the slice -> the newest impression that the scorer had seen.
    """

    tasks: tuple[str, ...]
    by_slice: dict[int, Supervision] = field(default_factory=dict)
    trained_until: dict[int, datetime] = field(default_factory=dict)

    def put(self, inputs: SliceInputs, by: Manifest, score: Score) -> None:
        assert by.trained_until is not None
        until = self.trained_until[inputs.slice.index] = datetime.fromisoformat(by.trained_until)
        seen = pl.lit(until, pl.Datetime("us", "UTC"))
        hours = np.concatenate([staleness(shown, seen) for shown in inputs.shown()])
        self.by_slice[inputs.slice.index] = Supervision(self.tasks, score(), hours, (by.version,), 0, 1.0)

    def scores(self, replay: Replay, surface: int | str | None, task: str) -> Scores:
        """Of one task on one surface."""
        column = self.tasks.index(task)
        read = [self.by_slice.get(slice_.index) for slice_ in replay.slices]
        return [None if s is None else s.logits[replay.rows(i, surface), column] for i, s in enumerate(read)]


def _supervision(teachers: Mapping[str, Predictions], inputs: SliceInputs, teacher: str) -> Supervision:
    predictions = teachers[teacher]
    stored = predictions.by_slice.get(inputs.slice.index)
    return stored if stored is not None else no_supervision(predictions.tasks, inputs.rows)


def teach(replay: Replay, teacher: Teacher, lags: Sequence[int]) -> dict[int, Predictions]:
    """A teacher's predictions of every slice for each lag, by the checkpoint that would have been published then."""
    predictions = {lag: Predictions(teacher.tasks) for lag in lags}
    snapshots = {lag: replace(teacher, lag=lag) for lag in lags}
    checkpoints = CheckpointsInMemory(f"teacher/{teacher.name}", weights=max(lags) + teacher.publish_every)
    member = member_of(replay.work.project, teacher)
    model, older = (
        IncrementalModel(checkpoints, replay.stream, member, teacher.training, {}, replay.device) for _ in range(2)
    )
    walk = TeacherWalk(
        model,
        older,
        scorers=lambda index: [(snapshots[lag].scorer_of(index), predictions[lag]) for lag in lags],
        data=lambda slice_: lambda stored: {},
    )
    for _ in walk.over(replay.inputs):
        pass
    return predictions


def study(
    replay: Replay,
    students: Sequence[Student],
    teachers: Mapping[str, Predictions],
    serving_lag: int | None = None,
) -> dict[str, Scores]:
    """Students of one surface, task and network side by side: scores by those that would have served each slice.

    Args:
        students: they share inputs, network and training, and so one control; the first one's.
        serving_lag: slices back to the checkpoint that serves; ``None``: as the stream's labels allow.

    Returns:
        by student's name, and ``control``, ``teacher`` (the first student's) and ``best`` where there is one.
    """
    project, runs = replay.work.project, []
    lag = serving_lag or replay.stream.serving_lag(students[0].task)

    def model(name: str, member: Member) -> tuple[IncrementalModel, IncrementalModel]:
        checkpoints = CheckpointsInMemory(name, weights=lag + 1)
        training = students[0].training
        pair = [IncrementalModel(checkpoints, replay.stream, member, training, {}, replay.device) for _ in range(2)]
        return pair[0], pair[1]

    control, served_control = model("control", member_of(project, students[0], control=True))
    for position, declared in enumerate(students):
        student = replace(declared, gate=Gate(rows=0))
        mine, served = model(f"student/{student.name}", member_of(project, student))
        parts = {STUDENT, EVALUATION, *([CONTROL] if position == 0 else [])}
        request = StudentRequest(student, frozenset(parts))
        runs.append(StudentRun(request, mine, control, {STUDENT: served, CONTROL: served_control}, lag))
    scores: dict[str, list[np.ndarray | None]] = {}
    positions = {slice_.index: position for position, slice_ in enumerate(replay.slices)}
    walk = StudentWalk(runs, NoRecords(), partial(stored_truth, replay.work), keeps_scores=True)
    for visit in walk.over(replay.supervised(teachers)):
        if visit.failed is not None:
            raise ValueError(visit.failed)
        assert isinstance(visit.evaluation, Evaluation)
        for judged in visit.evaluation.judged:
            name = visit.student.name if judged.model == STUDENT else judged.model
            of = scores.setdefault(name, [None] * len(replay))
            if of[positions[visit.slice.index]] is None:
                of[positions[visit.slice.index]] = judged.logits
    return dict(scores)


def judge(replay: Replay, surface: int | str | None, task: str, scores: Mapping[str, Scores]) -> pl.DataFrame:
    """NE, AUC, log loss and calibration of several models, a row a slice and model, all on the same rows.

    Args:
        scores: by model; a slice that one of them did not score, or without both classes, is left out for all.
    """
    rows = []
    for index, slice_ in enumerate(replay.slices):
        logits = {name: of[index] for name, of in scores.items()}
        scored = {name: values for name, values in logits.items() if values is not None}
        if len(scored) < len(logits):
            continue
        labels = replay.labels(index, surface, task)
        known = known_to_all(labels, list(scored.values()))
        if not 0 < labels[known].sum() < known.sum():
            continue
        weights = replay.weights(index, surface)
        of_known = None if weights is None else weights[known]
        for name, values in scored.items():
            metrics = evaluate(values[known], labels[known], weights=of_known)
            rows.append({"slice": slice_.key, "place": index, "model": name, "rows": int(known.sum()), **metrics})
    return pl.DataFrame(rows)
