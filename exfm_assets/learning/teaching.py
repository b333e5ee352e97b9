"""The teacher's walk over the slices: score with what there is, store, then train.

Belongs here: the order of scoring and training, and which checkpoint scores.
Not here: the learner (models/), a chain of checkpoints (chain.py), files of predictions (predictions.py).
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from exfm_assets.learning.chain import Chain
from exfm_assets.learning.cohort import Advanced, Cohorts, Study
from exfm_assets.learning.desk import Desk, desks, teachers_columns
from exfm_assets.learning.predictions import (
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
from exfm_assets.learning.restoring import again, first_new
from exfm_assets.learning.shelf import Shelf
from exfm_assets.learning.specs import member_of
from exfm_assets.resources import Workspace
from exfm_assets.tables import DataError
from models.errors import CheckpointError
from projects.learning import Teacher
from projects.stream import Slice


@dataclass(frozen=True)
class Taught:
    """What a slice's visit did: predictions stored (``None``: not asked, or nobody to score yet), training done."""

    piece: Slice
    stored: Stored | None
    advanced: Advanced | None
    seconds: float


def teacher_chain(work: Workspace, teacher: Teacher, device: str) -> Chain:
    return Chain(Shelf.of(work, teacher), member_of(work.project, teacher), teacher.training, device)


def walk_teacher(
    work: Workspace, teacher: Teacher, pieces: Sequence[Slice], *, score: bool, train: bool, run_id: str, device: str
) -> Iterator[Taught]:
    """Visit slices in order; each is scored before anything trains on it.

    Raises:
        DataError: if a checkpoint that must score or be continued does not exist.
    """
    chain = teacher_chain(work, teacher, device)
    older = teacher_chain(work, teacher, device)
    cohorts = Cohorts()
    afresh = _weights_needed(work, teacher, chain, pieces, score=score, train=train)
    for desk in desks(work, pieces, device, teachers_columns(work.project), with_labels=train):
        started, piece = time.perf_counter(), desk.piece
        stored = _score(work, teacher, chain, older, desk, run_id) if score else None
        advanced = _train(cohorts, chain, desk, afresh) if train else None
        if train:
            _retain(work, teacher, chain, piece)
        yield Taught(piece, stored, advanced, time.perf_counter() - started)


def _score(work: Workspace, teacher: Teacher, chain: Chain, older: Chain, desk: Desk, run_id: str) -> Stored | None:
    index = work.project.stream.index_at(desk.piece.start)
    by = teacher.scorer_of(index)
    if by < 0:
        return None
    manifest = chain.shelf.manifest(work.project.stream.slice_at(by))
    if manifest.trained_until is None:
        return None
    scorer = Scorer(manifest.version, datetime.fromisoformat(manifest.trained_until))
    inputs = desk.digest("logged_inputs")
    damaged = set_aside_damaged(work, teacher, desk.piece)
    if (found := already_stored(work, teacher, desk.piece, scorer, inputs)) is not None:
        return replace(found, damaged=damaged)
    # The newest learner is at hand; with a longer lag, or slower publishing, an older one scores beside it.
    learner = (chain if by == index - 1 else older).learner_at(by)
    logits = learner.predict(desk.tensors).float().cpu().numpy()
    stored = store_predictions(work, teacher, desk.piece, desk.frame, logits, scorer, inputs, run_id)
    return replace(stored, damaged=damaged)


def _weights_needed(
    work: Workspace, teacher: Teacher, chain: Chain, pieces: Sequence[Slice], *, score: bool, train: bool
) -> frozenset[int]:
    """Stored checkpoints that are trained again, since retention dropped weights that score or are continued."""
    stream = work.project.stream
    indices = [stream.index_at(piece.start) for piece in pieces]
    new = after = indices[-1] + 1
    try:
        if train:
            new = first_new(chain, lambda index: _data(work, stream.slice_at(index)), indices)
        unscored = _first_unscored(work, teacher, chain, indices, new) if score else after
    except (DataError, CheckpointError):
        return frozenset()  # the walk itself says what is missing, where it is missed
    scorer = teacher.scorer_of(unscored) if unscored < after else after
    return again(chain, new, min(new - 1, scorer), indices, None if train else f"teacher/{teacher.name}/predictions")


def _first_unscored(work: Workspace, teacher: Teacher, chain: Chain, indices: Sequence[int], new: int) -> int:
    """The first slice whose predictions are not stored as they would now be; one after the last if all are."""
    stream = work.project.stream
    for index in indices:
        by, piece = teacher.scorer_of(index), stream.slice_at(index)
        if by < 0:
            continue
        refused = work.quarantine(teacher.view)
        if (
            by >= new
            or not refused.sound(piece)
            or not all(sound(path) for path in files_of(work, teacher, piece)[-1:])
        ):
            return index
        manifest = chain.shelf.manifest(stream.slice_at(by))
        made_of = f"{manifest.version}-{work.table('logged_inputs').digest(piece)}"
        if manifest.trained_until is not None and scored_by(work, teacher, piece) != made_of:
            return index
    return indices[-1] + 1


def _data(work: Workspace, piece: Slice) -> dict[str, str]:
    """What a slice's checkpoint is made of."""
    return {table: work.table(table).digest(piece) for table in ("logged_inputs", "labels")}


def _train(cohorts: Cohorts, chain: Chain, desk: Desk, afresh: frozenset[int]) -> Advanced:
    data = _data(desk.work, desk.piece)
    index = desk.work.project.stream.index_at(desk.piece.start)
    tasks = chain.member.spec.tasks
    study = Study(chain, "all", data, labelled=lambda: desk.labelled(tasks), again=index in afresh)
    advanced = cohorts.advance([study], desk.piece, lambda rows, teachers: desk.tensors, lambda rows: desk.newest())
    if not isinstance(advanced[0], Advanced):
        raise advanced[0]
    return advanced[0]


def _retain(work: Workspace, teacher: Teacher, chain: Chain, piece: Slice) -> None:
    """Keep the weights that may still score, and those that stored predictions name."""
    stream = work.project.stream
    index = stream.index_at(piece.start)
    back = max(work.project.retention.last, teacher.lag + teacher.publish_every)
    chain.shelf.drop_older(stream.slice_at(index - back + 1), named_checkpoints(work, teacher))
