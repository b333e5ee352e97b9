"""The teacher's walk over the slices: score with what there is, keep the predictions, then train.

Belongs here: the order of scoring and training, and which checkpoint scores.
Not here: the learner (models/), a model's checkpoints (registry/), files of predictions (slices/predictions.py).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Protocol

import numpy as np

from exfm.learning import Teacher
from exfm.stream import Slice
from models.errors import CheckpointError
from models.manifest import Manifest
from pipeline.parts import silent
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.registry.incremental_model import IncrementalModel
from pipeline.registry.lineage import Data, data_of, known_inputs
from pipeline.registry.restoring import again, first_new
from pipeline.registry.specs import encoder_of, member_of
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
from pipeline.slices.scores import scores_of
from pipeline.slices.slice_inputs import SliceInputs, read_ahead, teachers_columns
from pipeline.slices.supervised_slice import EVERY, SupervisedSlice, without_teachers
from pipeline.slices.withdrawals import withdrawn
from pipeline.streams.disturbed_teacher import disturbed
from pipeline.tables import DataError
from pipeline.training.joint_training import JointTrainer, TrainRequest, TrainResult
from pipeline.workspace import Workspace

Score = Callable[[], np.ndarray]  # -> (N, T) float32 logits


class PredictionSink(Protocol):
    """Where a walk puts predictions."""

    def put(self, inputs: SliceInputs, by: Manifest, score: Score) -> Stored | None:
        """Keep a slice's predictions by a checkpoint; those that are there already are not asked for."""


@dataclass(frozen=True)
class TeacherVisit:
    """What a slice's visit did: predictions stored (``None``: not asked, or nobody to score yet), training done."""

    slice: Slice
    stored: Stored | None
    trained: TrainResult | None
    seconds: float


@dataclass
class TeacherWalk:
    """Slices in order; each is scored before anything trains on it.

    Args:
        model: that is trained; ``older``: the same, to score with what is not at hand.
        scorers: slice's index -> indices of the slices whose checkpoints score it, each with where that goes; an index
            below 0 scores nothing. More than one only where snapshots of several ages are compared.
        data: digests of what a slice's checkpoint is made of, as a checkpoint names it.
        withdrawn: slices of which it learns nothing.
        again: indices of slices whose checkpoints are trained once more, for their weights.
    """

    model: IncrementalModel
    older: IncrementalModel
    scorers: Callable[[int], Sequence[tuple[int, PredictionSink]]]
    data: Callable[[Slice], Data]
    train: bool = True
    again: frozenset[int] = frozenset()
    withdrawn: Callable[[Slice], bool] = lambda slice_: False
    _trainer: JointTrainer = field(default_factory=JointTrainer)

    def over(self, slices: Iterable[SliceInputs]) -> Iterator[TeacherVisit]:
        """Visit slices.

        Raises:
            DataError: if a checkpoint that must score or be continued does not exist.
        """
        for inputs in slices:
            started = time.perf_counter()
            stored = [self._score(inputs, by, sink) for by, sink in self.scorers(inputs.slice.index)]
            trained = self._train(inputs) if self.train else None
            last = stored[-1] if stored else None
            yield TeacherVisit(inputs.slice, last, trained, time.perf_counter() - started)

    def _score(self, inputs: SliceInputs, by: int, sink: PredictionSink) -> Stored | None:
        if by < 0:
            return None
        manifest = self.model.manifest(by)
        if manifest.trained_until is None:
            return None

        def logits() -> np.ndarray:
            # The newest learner is at hand; with a longer lag, or slower publishing, an older one scores beside it.
            learner = (self.model if by == inputs.slice.index - 1 else self.older).learner_at(by)
            return scores_of([learner], inputs.parts())[0]

        return sink.put(inputs, manifest, logits)

    def _train(self, inputs: SliceInputs) -> TrainResult:
        supervised = SupervisedSlice(inputs, self.model.stream, without_teachers)
        request = TrainRequest(
            self.model,
            EVERY,
            self.data(inputs.slice),
            labelled=lambda: supervised.labelled(self.model.member.spec.tasks, EVERY),
            again=inputs.slice.index in self.again,
            withdrawn=self.withdrawn(inputs.slice),
        )
        (result,) = self._trainer.train([request], supervised)
        if not isinstance(result, TrainResult):
            raise result
        return result


@dataclass(frozen=True)
class StoredPredictions:
    """Predictions as files of the workspace."""

    work: Workspace
    teacher: Teacher
    run_id: str

    def put(self, inputs: SliceInputs, by: Manifest, score: Score) -> Stored:
        assert by.trained_until is not None
        work, teacher, slice_ = self.work, self.teacher, inputs.slice
        scorer = Scorer(by.version, datetime.fromisoformat(by.trained_until))
        digest, *others = _names_of_inputs(work, slice_, by)
        damaged = set_aside_damaged(work, teacher, slice_)
        known = (already_stored(work, teacher, slice_, scorer, name) for name in (digest, *others))
        stored = next((stored for stored in known if stored is not None), None)
        if stored is None:
            began, logits = time.perf_counter(), disturbed(work.project, slice_, score())
            spent = time.perf_counter() - began
            stored = store_predictions(work, teacher, slice_, inputs.shown, logits, scorer, digest, self.run_id, spent)
        return replace(stored, damaged=damaged)


def teacher_model(work: Workspace, teacher: Teacher, device: str) -> IncrementalModel:
    """A teacher with its stored checkpoints."""
    member = member_of(work.project, teacher)
    return IncrementalModel(
        CheckpointStore.of(work, teacher),
        work.project.stream,
        member,
        teacher.training,
        encoder_of(work.project, teacher),
        device,
    )


def walk_teacher(
    work: Workspace,
    teacher: Teacher,
    slices: Sequence[Slice],
    *,
    score: bool,
    train: bool,
    run_id: str,
    device: str,
    say: Callable[[str], object] = silent,
) -> Iterator[TeacherVisit]:
    """The walk over stored slices, with stored predictions and checkpoints.

    Args:
        say: is told how far a pass over a large slice is.

    Raises:
        DataError: if a checkpoint that must score or be continued does not exist.
    """
    model, sink = teacher_model(work, teacher, device), StoredPredictions(work, teacher, run_id)
    walk = TeacherWalk(
        model,
        teacher_model(work, teacher, device),
        lambda index: [(teacher.scorer_of(index), sink)] if score else [],
        partial(_data, work, teacher),
        train,
        _weights_needed(work, teacher, model, slices, score=score, train=train),
        lambda slice_: withdrawn(work, f"teacher/{teacher.name}", slice_.key) is not None,
    )
    inputs = read_ahead(work, slices, device, teachers_columns(work.project), with_labels=train, say=say)
    for visit in walk.over(inputs):
        if train:
            _retain(work, teacher, model, visit.slice)
        yield visit


def _weights_needed(
    work: Workspace, teacher: Teacher, model: IncrementalModel, slices: Sequence[Slice], *, score: bool, train: bool
) -> frozenset[int]:
    """Stored checkpoints that are trained again, since retention dropped weights that score or are continued."""
    stream = work.project.stream
    indices = [slice_.index for slice_ in slices]
    new = after = indices[-1] + 1
    try:
        if train:
            new = first_new(model, lambda index: _data(work, teacher, stream.slice_at(index)), indices)
        unscored = _first_unscored(work, teacher, model, indices, new) if score else after
    except (DataError, CheckpointError):
        return frozenset()  # the walk itself says what is missing, where it is missed
    scorer = teacher.scorer_of(unscored) if unscored < after else after
    return again(model, new, min(new - 1, scorer), indices, None if train else f"teacher/{teacher.name}/predictions")


def _first_unscored(
    work: Workspace, teacher: Teacher, model: IncrementalModel, indices: Sequence[int], new: int
) -> int:
    """The first slice whose predictions are not stored as they would now be; one after the last if all are."""
    refused = work.quarantine(teacher.view)
    for index in indices:
        by, slice_ = teacher.scorer_of(index), work.project.stream.slice_at(index)
        if by < 0:
            continue
        if by >= new:
            return index
        manifest = model.manifest(by)
        if manifest.trained_until is None:  # it has seen no impression, so it scores none
            continue
        newest = files_of(work, teacher, slice_)[-1:]
        if not refused.sound(slice_) or not all(sound(path) for path in newest):
            return index
        made_of = [f"{manifest.version}-{name}" for name in _names_of_inputs(work, slice_, manifest)]
        if scored_by(work, teacher, slice_) not in made_of:
            return index
    return indices[-1] + 1


def _data(work: Workspace, teacher: Teacher, slice_: Slice) -> Data:
    """What a slice's checkpoint is made of, looked up before the slice is read."""
    now = data_of(work, slice_, teacher, supervised=False)
    return lambda stored: now if stored is None else data_of(work, slice_, teacher, supervised=False, stored=stored)


def _names_of_inputs(work: Workspace, slice_: Slice, by: Manifest) -> tuple[str, ...]:
    """How files of predictions name the inputs that a checkpoint scores, the one for new ones first.

    Raises:
        DataError: if they are missing or damaged.
    """
    work.table("logged_inputs").sound_path(slice_)
    return known_inputs(work, slice_, by.encoder)


def _retain(work: Workspace, teacher: Teacher, model: IncrementalModel, slice_: Slice) -> None:
    """Keep the weights that may still score, those that a correction would continue, those that predictions name."""
    back = max(work.project.retention.last, work.project.upkeep.retrain + teacher.lag + teacher.publish_every)
    assert isinstance(model.checkpoints, CheckpointStore)
    oldest = work.project.stream.slice_at(slice_.index - back + 1)
    model.checkpoints.drop_older(oldest, named_checkpoints(work, teacher))
