"""What the quality benchmark compares: methods, students, inputs; and how its slices are made ready.

Belongs here: the arms. Not here: how they are run, summed up and shown (quality.py).
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from rich.console import Console

from exfm.distillation import (
    AuxiliaryHead,
    AuxiliaryTower,
    Distillation,
    KnowledgeDistillation,
    LeadAware,
    Recalibration,
    StudentAdapter,
)
from exfm.learning import Student, Teacher
from exfm.load import load_project, load_state
from exfm.networks import DCNv2
from exfm.prediction_views import PredictionView, known_after
from exfm.project import Columns, Project
from exfm.state import ROOT
from models.batch import SliceTensors
from pipeline.studies.replay import Replay, Scores
from pipeline.transforms.inputs import numbers
from pipeline.transforms.predicted import bucket, empty, needed, predicted
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
    asked: dict[tuple[object, str], Student] = {}
    for student in project.students:
        if student.distillation is not None:
            asked.setdefault((student.surface, student.task), student)
    second = tuple(view.name for view in project.prediction_views)
    for student in asked.values():
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


def with_teacher_features(replay: Replay, scores: Mapping[str, Scores]) -> Replay:
    """The same slices with the project's prediction views, made of these scores as the graph makes them.

    Args:
        scores: of each teacher that a view names.
    """
    work, views = replay.work, replay.work.project.prediction_views
    shown = [work.table("impressions").read([slice_]) for slice_ in replay.slices]
    rows = {
        view.name: _view_rows(replay, view, work.project.teacher(view.teacher), scores[view.teacher], shown)
        for view in views
    }
    columns = Columns(ids=(), features=tuple(f"{view.name}__{name}" for view in views for name in view.features))
    extended = []
    for place in range(len(replay)):
        joined = replay.frame(place).select("impression_id", "event_timestamp")
        for view in views:
            joined = _joined(joined, shown[place], view, rows[view.name])
        extended.append((_extended(replay.tensors(place), columns, numbers(joined, columns)), replay.frame(place)))
    featured = Replay(work, replay.slices, replay.device, replay.columns)
    featured.__dict__["_read"] = extended
    return featured


def _view_rows(
    replay: Replay, view: PredictionView, teacher: Teacher, scores: Scores, shown: list[pl.DataFrame]
) -> pl.DataFrame:
    stream, tasks = replay.work.project.stream, replay.tensors(0).task_names
    after = known_after(teacher, stream)
    buckets, frames = {}, [empty(view, stream)]
    for place, slice_ in enumerate(replay.slices):
        scored = scores[place]
        logits = scored if scored is not None else np.zeros((0, len(tasks)), dtype=np.float32)
        ids = replay.frame(place)["impression_id"][: len(logits)]
        seen = replay.frame(max(place - teacher.lag, 0))["event_timestamp"].max()
        said = pl.DataFrame({"impression_id": ids}).with_columns(
            pl.lit(seen, pl.Datetime("us", "UTC")).alias("trained_until"),
            *(pl.Series(f"{task}_logit", logits[:, tasks.index(task)]) for task in view.tasks),
        )
        buckets[slice_.key], _ = bucket(view, shown[place], said)
        wanted = {one.key for one in needed(view, stream, after, slice_.end)}
        frames.append(predicted(view, stream, after, {key: buckets[key] for key in wanted}, slice_.end))
    return pl.concat(frames)


def _joined(joined: pl.DataFrame, shown: pl.DataFrame, view: PredictionView, rows: pl.DataFrame) -> pl.DataFrame:
    """As Feast joins a view: the newest row of the key at or before the impression, not older than the ttl."""
    keys = list(view.entities)
    asked = joined.join(shown.select("impression_id", *keys), on="impression_id", how="left", maintain_order="left")
    newest = rows.drop("created_timestamp").sort("event_timestamp")
    asked = asked.with_row_index("row").sort("event_timestamp")
    found = asked.join_asof(newest, on="event_timestamp", by=keys, tolerance=view.ttl, check_sortedness=False).sort(
        "row"
    )
    return joined.hstack(found.select(pl.col(name).alias(f"{view.name}__{name}") for name in view.features))


def _extended(tensors: SliceTensors, columns: Columns, values: np.ndarray) -> SliceTensors:
    more = torch.from_numpy(np.ascontiguousarray(values)).to(tensors.numbers.device)
    names = tensors.number_names + columns.features
    return replace(tensors, numbers=torch.cat([tensors.numbers, more], dim=1), number_names=names)
