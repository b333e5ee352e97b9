"""A slice as models learn from it: rows of each surface, and each teacher's predictions, read once.

Belongs here: what is read of a slice. Not here: who learns from it (training/), its inputs (slice_inputs.py), where
predictions come from (supervision.py).
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
import torch

from exfm.stream import Slice, Stream
from models.batch import SliceTensors
from pipeline.slices.slice_inputs import SliceInputs
from pipeline.slices.supervision import Supervision

EVERY = "all surfaces"


def rows_name(surface: int | str | None) -> str:
    """Students of one surface share rows, and this name of them."""
    return EVERY if surface is None else str(surface)


class SupervisedSlice:
    """A slice's tensors and supervision, for several models.

    Args:
        read: a teacher's name -> its predictions of the slice, as known now; asked for once each.
    """

    def __init__(self, inputs: SliceInputs, stream: Stream, read: Callable[[str], Supervision]) -> None:
        self.inputs, self.stream = inputs, stream
        self._read_supervision = read
        self._supervision: dict[str, Supervision] = {}
        self._tensors: dict[tuple[str, tuple[str, ...]], SliceTensors] = {}
        self._computed: dict[Hashable, np.ndarray] = {}

    @property
    def slice(self) -> Slice:
        return self.inputs.slice

    def rows_of(self, name: str) -> np.ndarray:
        """Positions of the impressions of some rows in the slice."""
        frame = self.inputs.frame
        if name == EVERY:
            return np.arange(frame.height)
        surface = next(value for value in self.stream.surfaces if str(value) == name)
        return np.flatnonzero((frame[self.stream.surface.name] == surface).fill_null(False).to_numpy())

    def newest(self, rows: str) -> datetime | None:
        """The newest impression of some rows, ``None`` of none."""
        return self.inputs.newest(None if rows == EVERY else self.rows_of(rows))

    def labelled(self, tasks: Sequence[str], rows: str) -> bool:
        """Is any label of these tasks known, on these rows?"""
        return self.inputs.labelled(tasks, None if rows == EVERY else self.rows_of(rows))

    def labels(self, task: str, rows: str) -> np.ndarray:
        """(N,) labels of a task on some rows, NaN where not known."""
        tensors = self.tensors(rows)
        labels: np.ndarray = tensors.labels[:, tensors.task_names.index(task)].cpu().numpy()
        return labels

    def weights(self, rows: str) -> np.ndarray | None:
        """(N,) how many rows each of some rows stands for; ``None``: one each."""
        weights = self.tensors(rows).weights
        return None if weights is None else weights.cpu().numpy()

    def supervision(self, teacher: str) -> Supervision:
        if teacher not in self._supervision:
            self._supervision[teacher] = self._read_supervision(teacher)
        return self._supervision[teacher]

    def teacher_logits(self, teacher: str, task: str, rows: str) -> np.ndarray:
        """(N,) float32 of a task on some rows, NaN where there is none."""
        read = self.supervision(teacher)
        logits: np.ndarray = read.logits[self.rows_of(rows), read.tasks.index(task)]
        return logits

    def once(self, key: Hashable, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """What is computed of this slice for several that need it."""
        if key not in self._computed:
            self._computed[key] = compute()
        return self._computed[key]

    def tensors(self, rows: str, teachers: tuple[str, ...] = ()) -> SliceTensors:
        """The slice on some rows, with the logits of some teachers."""
        if (rows, teachers) not in self._tensors:
            self._tensors[rows, teachers] = self._built(rows, teachers)
        return self._tensors[rows, teachers]

    def _built(self, name: str, teachers: tuple[str, ...]) -> SliceTensors:
        rows = self.rows_of(name)
        if teachers:
            chosen = self.tensors(name)
        elif name == EVERY:
            return self.inputs.tensors
        else:
            return self.inputs.tensors.take(torch.from_numpy(rows).to(self.inputs.device))
        logits, staleness = {}, {}
        for teacher in teachers:
            read = self.supervision(teacher)
            known = torch.full(chosen.labels.shape, torch.nan)
            for index, task in enumerate(read.tasks):
                known[:, chosen.task_names.index(task)] = torch.from_numpy(read.logits[rows, index])
            logits[teacher] = known.to(self.inputs.device)
            staleness[teacher] = torch.from_numpy(read.staleness[rows]).to(self.inputs.device)
        return replace(chosen, teachers=logits, staleness=staleness)


def without_teachers(teacher: str) -> Supervision:
    """For walks in which nobody learns from a teacher."""
    raise LookupError(f"nobody was to learn from teacher {teacher!r}")
