"""A student in a walk: what served it, what is judged already, and which weights that needs.

Belongs here: looking back (which checkpoint served a slice) and ahead (which weights a walk needs, and may drop).
Not here: the order of work on a slice (student_walk.py), metrics (slice_metrics.py).
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import polars as pl

from exfm.learning import Student
from exfm.project import digest
from exfm.stream import Slice
from models.errors import CheckpointError
from models.manifest import Manifest
from pipeline.evaluation.slice_metrics import served_index
from pipeline.registry.incremental_model import IncrementalModel
from pipeline.registry.lineage import data_of
from pipeline.registry.restoring import again, first_new
from pipeline.releases.release import released_versions
from pipeline.tables import DataError
from pipeline.training.teacher_lead import control_version
from pipeline.workspace import Workspace

STUDENT, CONTROL, EVALUATION = "student", "control", "evaluation"


@dataclass(frozen=True)
class StudentRequest:
    """Which parts of a student are materialised: any of ``student``, ``control``, ``evaluation``."""

    student: Student
    parts: frozenset[str]


@dataclass
class StudentRun:
    """A student with its two chains, and older checkpoints to judge and to measure leads by.

    Args:
        again: by part, slices whose stored checkpoints are trained once more, for their weights.
        error: why it was left behind in this walk; the others go on.
        told: whether that was reported.
    """

    asked: StudentRequest
    student: IncrementalModel
    control: IncrementalModel
    served: dict[str, IncrementalModel]
    again: dict[str, frozenset[int]] = field(default_factory=dict)
    error: ValueError | None = None
    told: bool = False

    @contextmanager
    def left_behind_on_error(self) -> Iterator[None]:
        """What can't be done for this student is its own trouble: it is noted, and the walk goes on without it."""
        try:
            yield
        except ValueError as error:  # DataError, CheckpointError, LearningError, RetrievalError
            self.error = error


def data(work: Workspace, one: StudentRun, index: int, taught: bool) -> dict[str, str]:
    """What a slice's checkpoint of the student, or of its control, is made of."""
    slice_ = work.project.stream.slice_at(index)
    read = data_of(work, slice_, one.asked.student, supervised=taught)
    if taught and one.asked.student.lead is not None:
        read |= control_version(one.served[CONTROL], slice_)
    return read


def newest_of_both(one: StudentRun, index: int) -> int:
    """The newest slice up to ``index`` that student and control both trained on; below 0: none that may serve.

    It is ``index`` itself where every slice is trained on. Students that are refreshed only when there is a reason
    have gaps, and what served then is what was there. A checkpoint of fewer labelled rows than ``Gate.rows`` serves
    nobody: a network that has hardly learnt would be judged beside those that have.
    """
    stream = one.student.checkpoints.work.project.stream
    while index >= 0 and not all(model.checkpoints.has(stream.slice_at(index)) for model in one.served.values()):
        index -= 1
    return index if all(_has_learnt(one, model, index) for model in one.served.values()) else -1


def _has_learnt(one: StudentRun, model: IncrementalModel, index: int) -> bool:
    """Has the checkpoint learnt from ``Gate.rows`` labelled rows? Told by the first few slices of its chain."""
    least, learnt = one.asked.student.gate.rows, 0
    for place in range(index + 1):
        if learnt >= least:
            break
        learnt += model.checkpoints.rows_at(model.checkpoints.work.project.stream.slice_at(place))
    return learnt >= least


def manifests(one: StudentRun, served: int) -> dict[str, Manifest]:
    """Of the student and the control that served; of nobody below 0."""
    if served < 0:
        return {}
    at = one.student.checkpoints.work.project.stream.slice_at(served)
    return {name: model.checkpoints.manifest(at) for name, model in one.served.items()}


def made_of(work: Workspace, one: StudentRun, slice_: Slice, judged: Mapping[str, Manifest]) -> str:
    """What an evaluation depends on: who is judged, on which data."""
    versions = {name: manifest.version for name, manifest in judged.items()}
    student = one.asked.student
    return digest(student.name, versions, data_of(work, slice_, student, supervised=True))


def judged_already(work: Workspace, one: StudentRun, slice_: Slice, of: str) -> pl.DataFrame | None:
    """The slice's evaluation, if it is stored, made of the same."""
    table = work.evaluations(one.asked.student.name)
    stored = table.read([slice_]) if table.sound(slice_) else pl.DataFrame()
    return stored if stored.height and (stored["evaluation"] == of).all() else None


def weights_needed(work: Workspace, one: StudentRun, slices: Sequence[Slice]) -> dict[str, frozenset[int]]:
    """By part, which stored checkpoints are trained again: looked up before the walk, for it never turns back.

    Raises:
        DataError: if that takes slices or assets that were not asked for.
    """
    stream, student, parts = work.project.stream, one.asked.student, one.asked.parts
    indices = [stream.index_at(slice_.start) for slice_ in slices]
    after = indices[-1] + 1
    models, new = {CONTROL: one.control, STUDENT: one.student}, {CONTROL: after, STUDENT: after}
    leading = student.lead is not None and bool(student.teachers)
    try:
        if CONTROL in parts:
            new[CONTROL] = first_new(one.control, partial(data, work, one, taught=False), indices)
        # A lead-aware student is made of its control, too: where that is new, so is the student one slice later.
        looked_at = [index for index in indices if not leading or index <= new[CONTROL]]
        if STUDENT in parts and looked_at:
            new[STUDENT] = first_new(one.student, partial(data, work, one, taught=bool(student.teachers)), looked_at)
        unjudged = _first_unjudged(work, one, indices, min(new.values())) if EVALUATION in parts else after
    except (DataError, CheckpointError):
        return {}  # the walk itself says what is missing, where it is missed
    judging = newest_of_both(one, served_index(stream, student, unjudged)) if unjudged < after else after
    needed = {part: min(new[part] - 1, judging) for part in models}
    if leading:
        needed[CONTROL] = min(needed[CONTROL], new[STUDENT] - 1)
    return {
        part: again(model, new[part], needed[part], indices, None if part in parts else f"student/{student.name}")
        for part, model in models.items()
    }


def _first_unjudged(work: Workspace, one: StudentRun, indices: Sequence[int], new: int) -> int:
    """The first slice whose evaluation is not stored as it would now be; one after the last if all are."""
    stream, student = work.project.stream, one.asked.student
    for index in indices:
        served = newest_of_both(one, served_index(stream, student, index))
        if served < 0:
            continue  # nobody's weights are needed
        slice_ = stream.slice_at(index)
        if served >= new:
            return index
        if judged_already(work, one, slice_, made_of(work, one, slice_, manifests(one, served))) is None:
            return index
    return indices[-1] + 1


def retain(work: Workspace, one: StudentRun, slice_: Slice) -> None:
    """Keep the weights that may still serve, be continued or be judged, and those released."""
    stream, student = work.project.stream, one.asked.student
    index = stream.index_at(slice_.start)
    last = index - work.project.retention.last + 1
    kept = min(last, served_index(stream, student, index), _needed_by_pending(work, one, index), _both_at(one, index))
    models = {STUDENT: one.student, CONTROL: one.control}
    for model in (models[part] for part in models if part in one.asked.parts):
        model.checkpoints.drop_older(stream.slice_at(kept), released_versions(work, student))


def _both_at(one: StudentRun, index: int) -> int:
    """The newest slice up to ``index`` that the one that is behind has reached, student or control.

    Where the other went ahead alone, its weights from there on are needed yet: to measure a lead, and to be judged.
    """
    stream = one.student.checkpoints.work.project.stream
    reached = index
    for model in one.served.values():
        while reached >= 0 and not model.checkpoints.has(stream.slice_at(reached)):
            reached -= 1
    return max(reached, 0)


def _needed_by_pending(work: Workspace, one: StudentRun, index: int) -> int:
    """The oldest slice whose weights an evaluation up to slice ``index`` needs that is not stored as it would now be.

    An evaluation may come long after the training: it waits for labels, was not asked for, or was made of checkpoints
    that have been trained anew since. Those are told from the newest slice down to the first that is up to date.
    """
    stream, student = work.project.stream, one.asked.student
    judged = {slice_.start for slice_ in work.evaluations(student.name).stored(stream)}
    pending = {place for place in range(index + 1) if stream.slice_at(place).start not in judged}
    place = index
    while place >= 0 and (place in pending or _is_outdated(work, one, place)):
        pending.add(place)
        place -= 1
    served = [newest_of_both(one, served_index(stream, student, place)) for place in sorted(pending)]
    return min((place for place in served if place >= 0), default=index)  # nobody's weights are needed below 0


def _is_outdated(work: Workspace, one: StudentRun, index: int) -> bool:
    """Was the slice judged by other checkpoints than those that served it by now?"""
    stream, student = work.project.stream, one.asked.student
    table, slice_ = work.evaluations(student.name), stream.slice_at(index)
    if not table.sound(slice_):
        return True
    rows = table.read([slice_], columns=["model", "checkpoint"])
    by = dict(rows.filter(pl.col("model").is_in([STUDENT, CONTROL])).iter_rows())
    served = newest_of_both(one, served_index(stream, student, index))
    now = {} if served < 0 else {n: c.checkpoints.version_at(stream.slice_at(served)) for n, c in one.served.items()}
    return bool(by != now)
