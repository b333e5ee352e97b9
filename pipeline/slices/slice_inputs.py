"""A slice's inputs and labels: loaded when first needed, then shared by all that need them.

Belongs here: reading a slice, and reading the next one ahead. Not here: who learns from it.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property, partial
from itertools import pairwise

import numpy as np
import polars as pl

from exfm.columns import Columns
from exfm.learning import Student
from exfm.project import Project
from exfm.stream import Slice
from models.batch import SliceTensors
from pipeline.tables import DataError, UnsettledError
from pipeline.transforms.inputs import slice_tensors
from pipeline.workspace import Workspace


@dataclass
class SliceInputs:
    """One slice's inputs and labels.

    Args:
        columns: of ``logged_inputs``, and of ``logged_teacher_features`` where students read them.
        teacher_features: slice -> ``impression_id`` and teacher features; ``None``: those that are stored.
        when_read: called when somebody takes its tensors.
    """

    work: Workspace
    slice: Slice
    device: str
    with_labels: bool
    columns: Columns
    teacher_features: Callable[[Slice], pl.DataFrame] | None = None
    when_read: Callable[[], object] | None = None

    @cached_property
    def frame(self) -> pl.DataFrame:
        logged = self.work.table("logged_inputs").read([self.slice])
        if not self.columns.of_teachers:
            return logged
        read = self.teacher_features or (lambda slice_: self.work.table("logged_teacher_features").read([slice_]))
        features = read(self.slice)
        if not features["impression_id"].equals(logged["impression_id"]):
            raise UnsettledError(
                f"logged_teacher_features: slice {self.slice.key} has other impressions than logged_inputs: "
                "materialise logged_teacher_features for it again"
            )
        return logged.hstack(features.select(self.columns.of_teachers))

    @cached_property
    def on_host(self) -> SliceTensors:
        project = self.work.project
        labels = self.work.table("labels").read([self.slice]) if self.with_labels else None
        encoder = project.encoder(self.columns)
        stream = project.stream
        return slice_tensors(self.frame, labels, self.columns, stream.task_names, encoder, stream.weight)

    @cached_property
    def tensors(self) -> SliceTensors:
        on_host = self.on_host
        if self.when_read is not None:
            self.when_read()
        return on_host.to(self.device)

    def resident(self) -> "SliceInputs":
        """The same with its tensors in memory, and of its rows only what says which they are."""
        _ = self.tensors
        kept = ["impression_id", "event_timestamp", self.work.project.stream.surface.name]
        self.frame = self.frame.select(kept)  # a cached property is a plain attribute once it was asked for
        return self

    def labelled(self, tasks: Sequence[str], rows: np.ndarray | None = None) -> bool:
        """Is any label of these tasks known, on these rows?"""
        indices = [self.tensors.task_names.index(task) for task in tasks]
        labels = self.tensors.labels[:, indices].cpu().numpy()
        return bool(np.isfinite(labels if rows is None else labels[rows]).any())

    def newest(self, rows: np.ndarray | None = None) -> datetime | None:
        """The newest impression of these rows, ``None`` of none."""
        times = self.frame["event_timestamp"]
        latest = (times if rows is None else times[rows]).max()
        return latest if isinstance(latest, datetime) else None


def teachers_columns(project: Project) -> Columns:
    """What teachers read of a slice."""
    return project.logged_columns


def students_columns(project: Project, students: Sequence[Student] | None = None) -> Columns:
    """What students (all, if none are named) read of a slice: teacher features only if one of them has any as input."""
    listed = project.students if students is None else students
    used = {name for student in listed for name in project.columns_of(student.inputs, where=student.name).of_teachers}
    logged = project.logged_columns
    theirs = tuple(name for name in project.teacher_feature_columns.features if name in used)
    return replace(logged, features=logged.features + theirs, of_teachers=theirs)


def read_ahead(
    work: Workspace, slices: Sequence[Slice], device: str, columns: Columns, *, with_labels: bool
) -> Iterator[SliceInputs]:
    """The inputs of each slice, in order; while one is worked on, the next is read in a thread of its own.

    A slice of which nothing is read, since all that would be made of it is there, has nothing read after it either.
    What can't be read ahead (it may be missing) fails when it is needed, where the error says what for.
    """
    with ThreadPoolExecutor(max_workers=1) as ahead:
        waiting = [SliceInputs(work, slice_, device, with_labels, columns) for slice_ in slices]
        for inputs, following in pairwise(waiting):
            inputs.when_read = partial(ahead.submit, _read, following)
        for index, inputs in enumerate(waiting):
            yield inputs
            waiting[index] = SliceInputs(work, inputs.slice, device, with_labels, columns)  # what was read is let go


def _read(inputs: SliceInputs) -> None:
    try:
        _ = inputs.on_host
    except DataError:
        return
