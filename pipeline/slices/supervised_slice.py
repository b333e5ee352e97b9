"""A slice as all students share it: rows of each surface, and each teacher's predictions, read once.

Belongs here: what students read of a slice. Not here: who learns it (student_walk.py), its inputs (slice_inputs.py).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from exfm.learning import Student
from models.batch import SliceTensors
from pipeline.slices.predictions import Supervision, read_supervision_of
from pipeline.slices.slice_inputs import SliceInputs
from pipeline.workspace import Workspace

EVERY = "all surfaces"


class SupervisedSlice:
    """A slice's tensors and supervision, for several students."""

    def __init__(self, work: Workspace, inputs: SliceInputs, students: Sequence[Student]) -> None:
        self.work, self.inputs, self.students = work, inputs, students
        self._supervision: dict[str, Supervision] = {}
        self._tensors: dict[tuple[str, tuple[str, ...]], SliceTensors] = {}

    @staticmethod
    def rows_name(student: Student) -> str:
        """Students of one surface share rows, and this name of them."""
        return EVERY if student.surface is None else str(student.surface)

    def rows_of(self, name: str) -> np.ndarray:
        """Places of the impressions of some rows in the slice."""
        frame = self.inputs.frame
        if name == EVERY:
            return np.arange(frame.height)
        stream = self.work.project.stream
        surface = next(value for value in stream.surfaces if str(value) == name)
        return np.flatnonzero((frame[stream.surface.name] == surface).fill_null(False).to_numpy())

    def supervision(self, teacher_name: str) -> Supervision:
        if teacher_name not in self._supervision:
            taught = [f"{one.name}_supervision" for one in self.students if teacher_name in one.teachers]
            teacher = self.work.project.teacher(teacher_name)
            self._supervision[teacher_name] = read_supervision_of(self.work, teacher, self.inputs.slice, taught)
        return self._supervision[teacher_name]

    def teacher_logits(self, teacher_name: str, task: str, rows: np.ndarray) -> np.ndarray:
        """(N,) float32 of a task on some rows, NaN where there is none."""
        place = self.work.project.teacher(teacher_name).tasks.index(task)
        logits: np.ndarray = self.supervision(teacher_name).logits[rows, place]
        return logits

    def tensors(self, rows: str, teachers: tuple[str, ...] = ()) -> SliceTensors:
        """The slice on some rows, with the logits of some teachers."""
        if (rows, teachers) not in self._tensors:
            self._tensors[rows, teachers] = self._read(rows, teachers)
        return self._tensors[rows, teachers]

    def _read(self, name: str, teachers: tuple[str, ...]) -> SliceTensors:
        rows = self.rows_of(name)
        if teachers:
            taken = self.tensors(name)
        elif name == EVERY:
            return self.inputs.tensors
        else:
            return self.inputs.tensors.take(torch.from_numpy(rows).to(self.inputs.device))
        logits, staleness = {}, {}
        for teacher in teachers:
            known = torch.full(taken.labels.shape, torch.nan)
            for place, task in enumerate(self.work.project.teacher(teacher).tasks):
                at = taken.task_names.index(task)
                known[:, at] = torch.from_numpy(self.supervision(teacher).logits[rows, place])
            logits[teacher] = known.to(self.inputs.device)
            hours = self.supervision(teacher).staleness[rows]
            staleness[teacher] = torch.from_numpy(hours).to(self.inputs.device)
        return replace(taken, teachers=logits, staleness=staleness)
