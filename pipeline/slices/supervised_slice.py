"""A slice as models learn from it: rows of each surface, and each teacher's predictions, read once.

Belongs here: what is read of a slice. Not here: who learns from it (training/), its inputs (slice_inputs.py), where
predictions come from (supervision.py).
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

import numpy as np
import polars as pl
import torch

from exfm.stream import Slice, Stream
from models.batch import SliceTensors
from pipeline.slices.slice_inputs import SliceInputs, Span
from pipeline.slices.supervision import Supervision

EVERY = "all surfaces"


def rows_name(surface: int | str | None) -> str:
    """Students of one surface share rows, and this name of them."""
    return EVERY if surface is None else str(surface)


class SupervisedSlice:
    """A slice's tensors, labels and supervision, for several models.

    Args:
        read: a teacher's name -> its predictions of the slice, as known now; asked for once each.
    """

    def __init__(self, inputs: SliceInputs, stream: Stream, read: Callable[[str], Supervision]) -> None:
        self.inputs, self.stream = inputs, stream
        self._read_supervision = read
        self._supervision: dict[str, Supervision] = {}
        self._whole: dict[tuple[str, tuple[str, ...]], SliceTensors] = {}
        self._newest: dict[str, datetime | None] = {}
        self._computed: dict[Hashable, np.ndarray] = {}

    @property
    def slice(self) -> Slice:
        return self.inputs.slice

    def at(self, name: str) -> np.ndarray | Span:
        """Where some rows are in the slice, to take them of an array: a mask (N,), or all of it."""
        if name == EVERY:
            return slice(None)
        surfaces = [str(value) for value in self.stream.surfaces]
        mask: np.ndarray = self.inputs.surfaces == surfaces.index(name)
        return mask

    def rows_of(self, name: str) -> np.ndarray:
        """Positions of the impressions of some rows in the slice."""
        positions: np.ndarray = np.arange(self.inputs.rows)[self.at(name)]
        return positions

    def newest(self, rows: str) -> datetime | None:
        """The newest impression of some rows, ``None`` of none."""
        if rows not in self._newest:
            at = self.at(rows)
            times = (
                shown["event_timestamp"]
                if isinstance(at, slice)
                else shown["event_timestamp"].filter(pl.Series(at[span]))
                for span, shown in zip(self.inputs.spans, self.inputs.shown(), strict=True)
            )
            known = [latest for each in times if isinstance(latest := each.max(), datetime)]
            self._newest[rows] = max(known, default=None)
        return self._newest[rows]

    def labelled(self, tasks: Sequence[str], rows: str) -> bool:
        """Is any label of these tasks known, on these rows?"""
        return any(bool(np.isfinite(self.labels(task, rows)).any()) for task in tasks)

    def labels(self, task: str, rows: str) -> np.ndarray:
        """(N,) float32 labels of a task on some rows, NaN where not known."""
        labels: np.ndarray = self.inputs.labels[self.at(rows), self.stream.task_names.index(task)]
        return labels

    def weights(self, rows: str) -> np.ndarray | None:
        """(N,) float32, how many rows each of some rows stands for; ``None``: one each."""
        weights = self.inputs.weights
        return None if weights is None else weights[self.at(rows)]

    def supervision(self, teacher: str) -> Supervision:
        if teacher not in self._supervision:
            self._supervision[teacher] = self._read_supervision(teacher)
        return self._supervision[teacher]

    def teacher_logits(self, teacher: str, task: str, rows: str) -> np.ndarray:
        """(N,) float32 of a task on some rows, NaN where there is none."""
        read = self.supervision(teacher)
        logits: np.ndarray = read.logits[self.at(rows), read.tasks.index(task)]
        return logits

    def once(self, keys: Sequence[Hashable], compute: Callable[[list[int]], list[np.ndarray]]) -> list[np.ndarray]:
        """What is computed of this slice for several that need it.

        Args:
            compute: positions of keys that nobody has asked for yet -> what is theirs, all by one pass.
        """
        if new := [at for at, key in enumerate(keys) if key not in self._computed]:
            self._computed |= zip((keys[at] for at in new), compute(new), strict=True)
        return [self._computed[key] for key in keys]

    def forget_computed(self) -> None:
        """Let go of what was computed ``once``."""
        self._computed.clear()

    def parts(self, rows: str, teachers: tuple[str, ...] = ()) -> Iterator[SliceTensors]:
        """A pass over some rows, with the logits of some teachers, in memory one part of the slice at a time.

        A part may have none of the rows. Of a slice of one part it is the same one each time.
        """
        if not self.inputs.is_whole:
            return self._built(rows, teachers)
        if (rows, teachers) not in self._whole:
            (self._whole[rows, teachers],) = self._built(rows, teachers)
        return iter([self._whole[rows, teachers]])

    def _built(self, rows: str, teachers: tuple[str, ...]) -> Iterator[SliceTensors]:
        # ``map`` lets go of a part as soon as it was given, where a loop would hold it until the next one is there.
        if teachers:
            return map(partial(self._taught, self.at(rows), teachers), self.inputs.spans, self.parts(rows))
        if isinstance(at := self.at(rows), slice):
            return self.inputs.parts()
        return map(partial(self._chosen, at), self.inputs.spans, self.inputs.parts())

    def _chosen(self, mask: np.ndarray, span: Span, part: SliceTensors) -> SliceTensors:
        return part.take(torch.from_numpy(np.flatnonzero(mask[span])).to(self.inputs.device))

    def _taught(self, at: np.ndarray | Span, teachers: tuple[str, ...], span: Span, part: SliceTensors) -> SliceTensors:
        """A part of the slice on some rows, and what teachers say of these."""
        rows = span if isinstance(at, slice) else span.start + np.flatnonzero(at[span])
        logits, staleness = {}, {}
        for teacher in teachers:
            read = self.supervision(teacher)
            known = torch.full(part.labels.shape, torch.nan)
            for index, task in enumerate(read.tasks):
                known[:, part.task_names.index(task)] = torch.from_numpy(read.logits[rows, index])
            logits[teacher] = known.to(self.inputs.device)
            staleness[teacher] = torch.from_numpy(read.staleness[rows]).to(self.inputs.device)
        return replace(part, teachers=logits, staleness=staleness)


def without_teachers(teacher: str) -> Supervision:
    """For walks in which nobody learns from a teacher."""
    raise LookupError(f"nobody was to learn from teacher {teacher!r}")
