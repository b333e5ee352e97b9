"""Which checkpoint the gate judges, and on which slices.

Belongs here: choosing, by what is stored. Not here: scores (judging.py), retention's side of it
(training/student_records.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import polars as pl

from exfm.learning import Student
from exfm.stream import Slice
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.slices.withdrawals import touching
from pipeline.tables import SliceTable
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class Candidate:
    """The newest checkpoint after which enough closed slices have come.

    Args:
        slice: the last one that it learnt from.
        judged: the newest closed slices with labelled rows, oldest first; all are later than ``slice``.
        rows: labelled rows of the student's surface in them.
    """

    slice: Slice
    judged: tuple[Slice, ...]
    rows: int


def candidate_of(work: Workspace, student: Student) -> Candidate | str:
    """The candidate, or why there is none yet, in a sentence.

    Raises:
        DataError: if labels or inputs of a slice are damaged.
    """
    gate, judged, rows = student.gate, [], 0
    for slice_, labelled in newest_labelled(work, student):
        judged.append(slice_)
        rows += labelled
        if len(judged) >= gate.slices and rows >= gate.judged_rows:
            break
    else:
        return (
            f"{rows:,} labelled rows in the newest {len(judged)} closed slices: "
            f"the gate judges on {gate.judged_rows:,} of at least {gate.slices}"
        )
    first = judged[-1]
    models = [CheckpointStore.of(work, student, control=control) for control in _needed(student)]
    for slice_ in reversed(list(work.project.stream.slices(work.project.stream.first_slice, first.start))):
        if all(store.has_weights(slice_) for store in models):
            if (learnt := _learnt(models[0], work, slice_)) < gate.rows:
                return (
                    f"slice {slice_.key} has learnt from {learnt:,} labelled rows, fewer than Gate.rows={gate.rows:,}"
                )
            stored = models[0].manifest(slice_)
            created, taught_by = stored.made_with.get("created", ""), stored.teacher_checkpoints
            if (gone := touching(work, student.name, slice_.key, created, taught_by)) is not None:
                return (
                    f"slice {slice_.key} has learnt from what was withdrawn ({gone.model} {gone.slice}: {gone.why}): "
                    "it is made again first"
                )
            return Candidate(slice_, tuple(reversed(judged)), rows)
    kinds = " and ".join(store.name for store in models)
    return f"no checkpoint of {kinds} is from before slice {first.key}, the first of those that it would be judged on"


def _needed(student: Student) -> tuple[bool, ...]:
    """Of which models checkpoints must be there: a student that is not taught is its own control."""
    return (False, True) if student.is_taught else (False,)


def _learnt(store: CheckpointStore, work: Workspace, slice_: Slice) -> int:
    """Labelled rows of all slices up to one, by the manifests."""
    stream = work.project.stream
    return sum(store.rows_at(before) for before in stream.slices(stream.first_slice, slice_.end))


def newest_labelled(work: Workspace, student: Student) -> Iterator[tuple[Slice, int]]:
    """Slices that can be judged on, newest first, with their labelled rows; those without any are passed over."""
    stream, tables = work.project.stream, tables_of(work, student)
    stored = [slice_ for slice_ in tables[0].stored(stream) if all(table.has(slice_) for table in tables)]
    for slice_ in reversed(stored[-work.project.upkeep.look_back :]):
        if labelled := labelled_rows(work, student, slice_):
            yield slice_, labelled


def tables_of(work: Workspace, student: Student) -> list[SliceTable]:
    """What a slice needs so that a student can be judged on it."""
    names = ["labels", "logged_inputs"]
    if work.project.columns_of(student.inputs, where=student.name).of_teachers:
        names.append("logged_teacher_features")
    return [work.table(name) for name in names]


def labelled_rows(work: Workspace, student: Student, slice_: Slice) -> int:
    """Rows of a student's surface whose label of its task is known."""
    labels, impressions = work.table("labels"), work.table("impressions")
    known = (part[student.task].is_not_null() for part in labels.parts(slice_, [student.task]))
    if student.surface is None:
        return sum(int(part.sum()) for part in known)
    if labels.rows(slice_) != impressions.rows(slice_):
        return 0  # labels of other impressions than are stored: its check says so
    name = work.project.stream.surface.name
    shown = ((part[name] == student.surface).fill_null(False) for part in impressions.parts(slice_, [name]))
    return sum(int((is_known & is_mine).sum()) for is_known, is_mine in zip(known, shown, strict=True))


def user_codes(users: pl.Series) -> pl.Series:
    """A number for each user, in the order of their ids; 0 where the log has none."""
    return users.rank("dense").fill_null(0).cast(pl.Int64)
