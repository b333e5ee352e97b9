"""Slices of several parts: the tiny project's state read in parts, and walks over it.

Belongs here: what tests of parts share. Not here: what they expect.
"""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from exfm.stream import Slice
from feature_repo.store import apply
from models.state import learner_state
from pipeline.registry.checkpoint_store import CheckpointStore
from pipeline.slices.slice_inputs import SliceInputs, students_columns
from pipeline.slices.supervised_slice import SupervisedSlice
from pipeline.slices.supervision import Supervision, stored_supervision
from pipeline.training.student_run import CONTROL, EVALUATION, STUDENT, StudentRequest
from pipeline.training.student_walk import walk_students
from pipeline.training.teacher_walk import walk_teacher
from pipeline.workspace import Workspace
from tests.conftest import Ran
from tests.tiny import tiny_workspace

PART = 400  # of about 1,500 rows a slice
EVERYTHING = frozenset({STUDENT, CONTROL, EVALUATION})


class Killed(BaseException):
    """As if the process had ended there."""


def in_parts(work: Workspace, rows: int) -> Workspace:
    """The same state, read in parts."""
    return Workspace(replace(work.project, stream=replace(work.project.stream, part_rows=rows)), work.state)


def untrained(ran: Ran, folder: Path, rows: int, *, predicted: bool = False) -> Workspace:
    """A copy without checkpoints, or predictions, to be walked over in parts."""
    work = in_parts(tiny_workspace(folder), rows)
    shutil.copytree(ran.work.state.folder, work.state.folder)
    shutil.rmtree(work.state.folder / "checkpoints")
    if not predicted:
        shutil.rmtree(work.state.folder / "tables" / "predictions")
    apply(work.project, work.state)  # sources are absolute paths
    return work


def slices_of(work: Workspace) -> list[Slice]:
    return list(work.project.stream.slices(work.project.stream.first_slice, work.now()))


def walked(work: Workspace, first: int = 3) -> None:
    """All models, over the first slices."""
    teacher, slices = work.project.teachers[0], slices_of(work)[:first]
    for _ in walk_teacher(work, teacher, slices, score=True, train=True, run_id="parts", device="cpu"):
        pass
    requests = [StudentRequest(student, EVERYTHING) for student in work.project.students]
    for visit in walk_students(work, requests, slices, device="cpu"):
        assert visit.failed is None


def stores(work: Workspace) -> list[CheckpointStore]:
    students = [
        CheckpointStore.of(work, s, control=control) for s in work.project.students for control in (False, True)
    ]
    return [CheckpointStore.of(work, work.project.teachers[0]), *students]


def learnt(work: Workspace, index: int = 2) -> list[dict[str, torch.Tensor]]:
    """What each model has learnt by a slice."""
    return [learner_state(store.load(slices_of(work)[index], "cpu")[0], 0) for store in stores(work)]


def same_bits(mine: Sequence[dict[str, torch.Tensor]], theirs: Sequence[dict[str, torch.Tensor]]) -> bool:
    return all(
        all(torch.equal(value, other[name]) for name, value in each.items())
        for each, other in zip(mine, theirs, strict=True)
    )


def supervised(work: Workspace, slice_: Slice) -> SupervisedSlice:
    inputs = SliceInputs(work, slice_, "cpu", True, students_columns(work.project))
    services = ["feed_click_supervision", "feed_convert_supervision"]

    def read(name: str) -> Supervision:
        return stored_supervision(work, work.project.teacher(name), slice_, services)

    return SupervisedSlice(inputs, work.project.stream, read)
