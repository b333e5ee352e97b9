"""A slice as models read it: loaded when first needed, then shared by all that need it.

Belongs here: reading a slice's inputs and labels, and reading the next one ahead. Not here: who learns from it.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property

import numpy as np
import polars as pl

from exfm.learning import Student
from exfm.project import Columns, Project
from exfm.stream import Slice
from models.batch import SliceTensors
from pipeline.tables import DataError
from pipeline.transforms.inputs import slice_tensors
from pipeline.workspace import Workspace


@dataclass
class SliceInputs:
    """One slice's inputs and labels.

    Args:
        columns: of ``logged_inputs``, and of ``logged_teacher_features`` where students read them.
    """

    work: Workspace
    slice: Slice
    device: str
    with_labels: bool
    columns: Columns

    @cached_property
    def frame(self) -> pl.DataFrame:
        logged = self.work.table("logged_inputs").read([self.slice])
        if not self.columns.of_teachers:
            return logged
        theirs = self.work.table("logged_teacher_features").read([self.slice])
        if not theirs["impression_id"].equals(logged["impression_id"]):
            raise DataError(
                f"logged_teacher_features: slice {self.slice.key} has other impressions than logged_inputs: "
                "materialise logged_teacher_features for it again"
            )
        return logged.hstack(theirs.select(self.columns.of_teachers))

    @cached_property
    def on_host(self) -> SliceTensors:
        project = self.work.project
        labels = self.work.table("labels").read([self.slice]) if self.with_labels else None
        listed = {name: project.listed_by(name) for name in self.columns.histories}
        return slice_tensors(self.frame, labels, self.columns, project.stream, listed)

    @cached_property
    def tensors(self) -> SliceTensors:
        return self.on_host.to(self.device)

    def digest(self, table: str) -> str:
        return self.work.table(table).digest(self.slice)

    def labelled(self, tasks: Sequence[str], rows: np.ndarray | None = None) -> bool:
        """Is any label of these tasks known, on these rows?"""
        places = [self.tensors.task_names.index(task) for task in tasks]
        labels = self.tensors.labels[:, places].cpu().numpy()
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
    used = {name for one in listed for name in project.columns_of(one.inputs, where=one.name).of_teachers}
    logged = project.logged_columns
    theirs = tuple(name for name in project.teacher_feature_columns.features if name in used)
    return replace(logged, features=logged.features + theirs, of_teachers=theirs)


def read_ahead(
    work: Workspace, slices: Sequence[Slice], device: str, columns: Columns, *, with_labels: bool
) -> Iterator[SliceInputs]:
    """A desk a slice, in order; while one is worked on, the next is read in a thread of its own.

    What can't be read ahead (it may be missing) fails when it is needed, where the error says what for.
    """
    with ThreadPoolExecutor(max_workers=1) as ahead:
        waiting = [SliceInputs(work, slice_, device, with_labels, columns) for slice_ in slices]
        for place, inputs in enumerate(waiting):
            if place + 1 < len(waiting):
                ahead.submit(_read, waiting[place + 1])
            yield inputs
            waiting[place] = SliceInputs(work, inputs.slice, device, with_labels, columns)  # what was read is let go


def _read(inputs: SliceInputs) -> None:
    try:
        _ = inputs.on_host
    except DataError:
        return
