"""What the quality benchmark compares: methods, students, inputs; and how its slices are made ready.

Belongs here: the arms. Not here: how they are run, summed up and shown (quality.py).
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from rich.console import Console

from exfm import (
    AuxiliaryHead,
    AuxiliaryTower,
    DCNv2,
    Distillation,
    KnowledgeDistillation,
    LeadAware,
    PredictionView,
    Project,
    Recalibration,
    State,
    Student,
    StudentAdapter,
    Teacher,
    load_project,
    load_state,
)
from exfm.columns import ScoreColumns
from exfm.names import LOGGED_TEACHER_FEATURES
from exfm.prediction_views import known_after
from exfm.state import ROOT
from feature_repo.store import apply, read_inputs
from pipeline.slices.supervision import no_supervision
from pipeline.studies.replay import Predictions, Replay
from pipeline.transforms.inputs import rows_of
from pipeline.transforms.predicted import bucket, needed, predicted
from pipeline.workspace import Workspace

TEACHER = "teacher"
METHODS: dict[str, tuple[Distillation, LeadAware | None]] = {
    "none": (None, None),
    "KD 4": (KnowledgeDistillation(weight=4.0), None),
    "AH 4": (AuxiliaryHead(weight=4.0), None),
    "AH 4, lead-aware": (AuxiliaryHead(weight=4.0), LeadAware()),
    "AH 2 + SA 2": (AuxiliaryHead(weight=2.0, adapter=StudentAdapter(weight=2.0)), None),
    "AH 2 + SA 2, staleness": (
        AuxiliaryHead(weight=2.0, adapter=StudentAdapter(weight=2.0, context=("staleness",))),
        None,
    ),
    "AH 2 + SA 2, lead-aware": (
        AuxiliaryHead(weight=2.0, adapter=StudentAdapter(weight=2.0)),
        LeadAware(),
    ),
    "AH 2 + Platt 2": (AuxiliaryHead(weight=2.0, adapter=Recalibration(weight=2.0)), None),
    "AH 2 + isotonic 2": (AuxiliaryHead(weight=2.0, adapter=Recalibration(kind="isotonic", weight=2.0)), None),
    "auxiliary tower 4": (AuxiliaryTower(weight=4.0), None),
}


@dataclass(frozen=True)
class Question:
    """A student whose methods are compared.

    Args:
        inputs: ``fewer`` than the teacher's (as served models have), or the ``same``.
        teacher_features: whether the second channel is among them.
    """

    surface: int | str | None
    task: str
    inputs: str
    teacher_features: bool
    student: Student


def questions(project: Project) -> Iterator[Question]:
    """Each surface and task that a distilled student serves: fewer or the same inputs, one channel or both."""
    students: dict[tuple[object, str], Student] = {}
    for student in project.students:
        if student.is_taught:
            students.setdefault((student.surface, student.task), student)
    second = tuple(view.name for view in project.prediction_views)
    for student in students.values():
        teacher = project.teacher(student.teachers[0])
        fewer = tuple(name for name in student.inputs if name not in second)
        views = {view.name for view in project.all_views if not view.online}
        for inputs, names in (("fewer", fewer), ("same", teacher.inputs)):
            kept = tuple(name for name in names if inputs == "same" or name.partition(":")[0] not in views)
            for both in (False, True) if second else (False,):
                learner = replace(student, inputs=(*kept, *(second if both else ())))
                yield Question(student.surface, student.task, inputs, both, learner)


def about(project: Project) -> Iterator[object]:
    """All of a project's declarations that a comparison depends on: not how its own students distil."""
    yield from (project.stream, project.teachers, project.prediction_views)
    for question in questions(project):
        student = question.student
        teacher = project.teacher(student.teachers[0]).name
        yield (student.surface, student.task, student.inputs, student.network, student.training, teacher)


def single(teacher: Teacher, like: Student) -> Student:
    """One student with all that its teacher reads: what the teacher must lead."""
    network = DCNv2(embedding=16, cross=2, hidden=(64, 32))
    return replace(like, inputs=teacher.inputs, network=network, distillation=None, teacher=None, lead=None)


def stage(console: Console) -> Workspace:
    """The project's inputs and labels, materialised where they are missing."""
    project = load_project()
    work = Workspace(project, load_state(project))
    stream = project.stream
    wanted = list(stream.slices(stream.first_slice, stream.until or work.now()))
    if all(work.table(name).has(slice_) for name in ("logged_inputs", "labels") for slice_ in wanted):
        return work
    console.print(f"{project.name}: making logged_inputs and labels of {len(wanted)} slices")
    select = '+key:"logged_inputs" or +key:"labels"'
    command = [sys.executable, "-m", "exfm_assets.main_job", "--quiet", "--select", select]
    subprocess.run(command, cwd=ROOT, check=True, env=dict(os.environ), stdout=subprocess.DEVNULL)
    return work


def with_teacher_features(replay: Replay, predictions: Mapping[str, Predictions], folder: Path) -> Replay:
    """The same slices with the project's prediction views, made of these predictions as the graph makes them.

    Rows of the views are written to a state of their own and joined by Feast, like those of the graph.

    Args:
        predictions: of each teacher that a view names.
        folder: an empty one, for that state.
    """
    work = replay.work
    project = only_prediction_views(work.project)
    other = Workspace(project, State(folder=folder, log=work.state.log), work.now)
    for view in project.prediction_views:
        _write_view(replay, other, view, project.teacher(view.teacher), predictions[view.teacher])
    apply(project, other.state)
    columns, shown = project.teacher_feature_columns.features, work.table("impressions")
    features = {
        slice_: pl.DataFrame(
            next(read_inputs(other.store, rows_of(shown.sound_path(slice_)), LOGGED_TEACHER_FEATURES))
        ).select("impression_id", *columns)
        for slice_ in replay.slices
    }
    extended = [
        replace(
            inputs,
            columns=replace(inputs.columns, features=inputs.columns.features + columns, of_teachers=columns),
            teacher_features=features.__getitem__,
        )
        for inputs in replay.inputs
    ]
    return Replay(work, replay.device, extended)


def only_prediction_views(project: Project) -> Project:
    """The project with one student that reads all teacher features, for Feast to have a service of them."""
    names = tuple(view.name for view in project.prediction_views)
    first = next(iter(questions(project))).student
    return replace(project, students=(replace(first, inputs=(*first.inputs, *names)),))


def _write_view(
    replay: Replay, work: Workspace, view: PredictionView, teacher: Teacher, predictions: Predictions
) -> None:
    stream, table = work.project.stream, replay.work.table("impressions")
    after = known_after(teacher, stream)
    buckets = {}
    for inputs in replay.inputs:
        slice_ = inputs.slice
        frame = pl.concat(shown.select("impression_id") for shown in inputs.shown())
        scored = predictions.by_slice.get(slice_.index, no_supervision(teacher.tasks, 0))
        newest = frame.head(len(scored.logits)).with_columns(
            pl.lit(predictions.trained_until.get(slice_.index), pl.Datetime("us", "UTC")).alias("trained_until"),
            *(pl.Series(ScoreColumns(task).logit, scored.logits[:, teacher.tasks.index(task)]) for task in view.tasks),
        )
        buckets[slice_.key], _ = bucket(view, table.read([slice_]), newest)
        wanted = {known.key for known in needed(view, stream, after, slice_.end)}
        rows = predicted(view, stream, after, {key: buckets[key] for key in wanted}, slice_.end)
        work.features(view.name).write(slice_, rows)
