"""The teacher's walk over the slices: score with what there is, store, then train.

Belongs here: the order of scoring and training, and which checkpoint scores.
Not here: the learner (models/), a chain of checkpoints (incremental_model.py), files of predictions (predictions.py).
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from exfm.learning import Teacher
from exfm.stream import Slice
from models.errors import CheckpointError
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.registry.incremental_model import IncrementalModel
from pipeline.registry.restoring import again, first_new
from pipeline.registry.specs import member_of
from pipeline.slices.predictions import (
    Scorer,
    Stored,
    already_stored,
    files_of,
    named_checkpoints,
    scored_by,
    set_aside_damaged,
    sound,
    store_predictions,
)
from pipeline.slices.slice_inputs import SliceInputs, read_ahead, teachers_columns
from pipeline.tables import DataError
from pipeline.training.joint_training import JointTrainer, TrainRequest, TrainResult
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class TeacherVisit:
    """What a slice's visit did: predictions stored (``None``: not asked, or nobody to score yet), training done."""

    slice: Slice
    stored: Stored | None
    trained: TrainResult | None
    seconds: float


def teacher_model(work: Workspace, teacher: Teacher, device: str) -> IncrementalModel:
    return IncrementalModel(
        CheckpointStore.of(work, teacher), member_of(work.project, teacher), teacher.training, device
    )


def walk_teacher(
    work: Workspace, teacher: Teacher, slices: Sequence[Slice], *, score: bool, train: bool, run_id: str, device: str
) -> Iterator[TeacherVisit]:
    """Visit slices in order; each is scored before anything trains on it.

    Raises:
        DataError: if a checkpoint that must score or be continued does not exist.
    """
    model = teacher_model(work, teacher, device)
    older = teacher_model(work, teacher, device)
    trainer = JointTrainer()
    afresh = _weights_needed(work, teacher, model, slices, score=score, train=train)
    for inputs in read_ahead(work, slices, device, teachers_columns(work.project), with_labels=train):
        started, slice_ = time.perf_counter(), inputs.slice
        stored = _score(work, teacher, model, older, inputs, run_id) if score else None
        trained = _train(trainer, model, inputs, afresh) if train else None
        if train:
            _retain(work, teacher, model, slice_)
        yield TeacherVisit(slice_, stored, trained, time.perf_counter() - started)


def _score(
    work: Workspace,
    teacher: Teacher,
    model: IncrementalModel,
    older: IncrementalModel,
    inputs: SliceInputs,
    run_id: str,
) -> Stored | None:
    index = work.project.stream.index_at(inputs.slice.start)
    by = teacher.scorer_of(index)
    if by < 0:
        return None
    manifest = model.checkpoints.manifest(work.project.stream.slice_at(by))
    if manifest.trained_until is None:
        return None
    scorer = Scorer(manifest.version, datetime.fromisoformat(manifest.trained_until))
    digest = inputs.digest("logged_inputs")
    damaged = set_aside_damaged(work, teacher, inputs.slice)
    if (found := already_stored(work, teacher, inputs.slice, scorer, digest)) is not None:
        return replace(found, damaged=damaged)
    # The newest learner is at hand; with a longer lag, or slower publishing, an older one scores beside it.
    learner = (model if by == index - 1 else older).learner_at(by)
    logits = learner.predict(inputs.tensors).float().cpu().numpy()
    stored = store_predictions(work, teacher, inputs.slice, inputs.frame, logits, scorer, digest, run_id)
    return replace(stored, damaged=damaged)


def _weights_needed(
    work: Workspace, teacher: Teacher, model: IncrementalModel, slices: Sequence[Slice], *, score: bool, train: bool
) -> frozenset[int]:
    """Stored checkpoints that are trained again, since retention dropped weights that score or are continued."""
    stream = work.project.stream
    indices = [stream.index_at(slice_.start) for slice_ in slices]
    new = after = indices[-1] + 1
    try:
        if train:
            new = first_new(model, lambda index: _data(work, stream.slice_at(index)), indices)
        unscored = _first_unscored(work, teacher, model, indices, new) if score else after
    except (DataError, CheckpointError):
        return frozenset()  # the walk itself says what is missing, where it is missed
    scorer = teacher.scorer_of(unscored) if unscored < after else after
    return again(model, new, min(new - 1, scorer), indices, None if train else f"teacher/{teacher.name}/predictions")


def _first_unscored(
    work: Workspace, teacher: Teacher, model: IncrementalModel, indices: Sequence[int], new: int
) -> int:
    """The first slice whose predictions are not stored as they would now be; one after the last if all are."""
    stream = work.project.stream
    for index in indices:
        by, slice_ = teacher.scorer_of(index), stream.slice_at(index)
        if by < 0:
            continue
        refused = work.quarantine(teacher.view)
        if (
            by >= new
            or not refused.sound(slice_)
            or not all(sound(path) for path in files_of(work, teacher, slice_)[-1:])
        ):
            return index
        manifest = model.checkpoints.manifest(stream.slice_at(by))
        made_of = f"{manifest.version}-{work.table('logged_inputs').digest(slice_)}"
        if manifest.trained_until is not None and scored_by(work, teacher, slice_) != made_of:
            return index
    return indices[-1] + 1


def _data(work: Workspace, slice_: Slice) -> dict[str, str]:
    """What a slice's checkpoint is made of."""
    return {table: work.table(table).digest(slice_) for table in ("logged_inputs", "labels")}


def _train(trainer: JointTrainer, model: IncrementalModel, inputs: SliceInputs, afresh: frozenset[int]) -> TrainResult:
    data = _data(inputs.work, inputs.slice)
    index = inputs.work.project.stream.index_at(inputs.slice.start)
    tasks = model.member.spec.tasks
    study = TrainRequest(model, "all", data, labelled=lambda: inputs.labelled(tasks), again=index in afresh)
    trained = trainer.train([study], inputs.slice, lambda rows, teachers: inputs.tensors, lambda rows: inputs.newest())
    if not isinstance(trained[0], TrainResult):
        raise trained[0]
    return trained[0]


def _retain(work: Workspace, teacher: Teacher, model: IncrementalModel, slice_: Slice) -> None:
    """Keep the weights that may still score, and those that stored predictions name."""
    stream = work.project.stream
    index = stream.index_at(slice_.start)
    back = max(work.project.retention.last, teacher.lag + teacher.publish_every)
    model.checkpoints.drop_older(stream.slice_at(index - back + 1), named_checkpoints(work, teacher))
