"""A slice's inputs and labels, part by part: read when they are needed, then shared by all that need them.

Belongs here: reading a slice, and reading ahead. Not here: who learns from it.

However large a slice is, in memory are its labels and weights, and of its inputs one part that is worked on and one
that is read meanwhile. A slice of one part is read once; one of several is encoded once, and each further pass over it
reads what was kept of that.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import chain, islice

import numpy as np
import polars as pl
import torch

from exfm.columns import Columns
from exfm.learning import Student
from exfm.project import Project
from exfm.stream import Slice
from models.batch import SliceTensors
from pipeline.parts import cut, silent, with_progress
from pipeline.slices.beside import ID, beside
from pipeline.slices.encoded_parts import EncodedParts
from pipeline.tables import SliceTable, UnsettledError
from pipeline.transforms.inputs import known_labels, known_weights, slice_tensors
from pipeline.workspace import Workspace

Span = slice  # of rows


@dataclass
class SliceInputs:
    """One slice's inputs and labels.

    Args:
        columns: of ``logged_inputs``, and of ``logged_teacher_features`` where students read them.
        teacher_features: slice -> ``impression_id`` and teacher features; ``None``: those that are stored.
        following: the slice to be read while this one is worked on.
        thread: that reads ahead.
        say: is told how far a pass over a slice of several parts is.
    """

    work: Workspace
    slice: Slice
    device: str
    with_labels: bool
    columns: Columns
    teacher_features: Callable[[Slice], pl.DataFrame] | None = None
    following: "SliceInputs | None" = None
    thread: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, max_workers=1))
    say: Callable[[str], object] = silent
    _whole: SliceTensors | None = field(default=None, init=False)
    _shown: pl.DataFrame | None = field(default=None, init=False)
    _begun: Future[Iterator[SliceTensors]] | None = field(default=None, init=False)

    @cached_property
    def rows(self) -> int:
        return self._table("logged_inputs").rows(self.slice)

    @property
    def spans(self) -> list[Span]:
        """Which of the slice's rows each part has."""
        size = self.work.project.stream.part_rows
        return [slice(start, min(start + size, self.rows)) for start in range(0, max(self.rows, 1), size)]

    @property
    def is_whole(self) -> bool:
        """Is the slice one part?"""
        return self.rows <= self.work.project.stream.part_rows

    def parts(self) -> Iterator[SliceTensors]:
        """A pass over its rows, in memory one part at a time; of a slice of one part it is the same one each time.

        A pass that meets several leaves the next slice alone: what is read of it would be one more in memory.
        """
        if not self.is_whole:
            yield from with_progress(self._pass(), f"a pass over {self.slice.key}", self.rows, self.say)
            return
        if self._whole is None:
            (part,) = self._read_first() if (begun := self._taken_begun()) is None else begun
            if self.following is not None:
                self.following.begin()
            self._whole = part.to(self.device)
        yield self._whole

    def begin(self) -> None:
        """Read the first part ahead, for a pass that comes.

        What can't be read ahead (it may be missing) fails when it is needed, where the error says what for.
        """
        if self._whole is None and self._begun is None:
            self._begun = self.thread.submit(self._read_first)

    def shown(self) -> Iterator[pl.DataFrame]:
        """Which impressions its rows are, by part: ids, moments, surfaces."""
        if not self.is_whole:
            yield from self._table("logged_inputs").parts(self.slice, self._telling)
            return
        if self._shown is None:
            (self._shown,) = self._table("logged_inputs").parts(self.slice, self._telling)
        yield self._shown

    @property
    def labels(self) -> np.ndarray:
        """(N, T) float32, NaN where not known."""
        return self._told[0]

    @property
    def weights(self) -> np.ndarray | None:
        """(N,) float32, how many rows each stands for; ``None``: one each."""
        return self._told[1]

    @cached_property
    def _told(self) -> tuple[np.ndarray, np.ndarray | None]:
        stream = self.work.project.stream
        tasks, weight = stream.task_names, [stream.weight] if stream.weight is not None else []
        labels = np.full((self.rows, len(tasks)), np.nan, dtype=np.float32)
        if not self.with_labels:
            return labels, None
        weights = np.ones(self.rows, dtype=np.float32) if weight else None
        told = beside(self._table("labels"), self.slice, self.shown(), [*tasks, *weight])
        for rows, part in zip(self.spans, told, strict=True):
            labels[rows] = known_labels(part, tasks)
            if weights is not None:
                weights[rows] = known_weights(part, weight[0])
        return labels, weights

    @cached_property
    def surfaces(self) -> np.ndarray:
        """(N,) int8, of many surfaces int16: which of the stream's surfaces each row is of, -1 of none of them."""
        stream = self.work.project.stream
        places = {value: place for place, value in enumerate(stream.surfaces)}
        codes = np.empty(self.rows, dtype=np.int8 if len(places) < 128 else np.int16)
        for rows, part in zip(self.spans, self.shown(), strict=True):
            values = part[stream.surface.name]
            codes[rows] = values.replace_strict(places, default=-1, return_dtype=pl.Int16).fill_null(-1).to_numpy()
        return codes

    def _pass(self) -> Iterator[SliceTensors]:
        """The parts; while one is worked on, the next is read. Held here is none of them."""
        begun = self._taken_begun()
        parts, coming = self._read_first() if begun is None else begun, list[Future[SliceTensors]]()
        for left in reversed(range(len(self.spans))):
            yield self._next(parts, coming, more=left > 0)

    def _next(self, parts: Iterator[SliceTensors], coming: list[Future[SliceTensors]], *, more: bool) -> SliceTensors:
        part = coming.pop().result() if coming else next(parts)
        if more:
            coming.append(self.thread.submit(next, parts))
        return part.to(self.device)

    def _taken_begun(self) -> Iterator[SliceTensors] | None:
        """What was read ahead, if it could be."""
        begun, self._begun = self._begun, None
        return None if begun is None or begun.exception() is not None else begun.result()

    def _read_first(self) -> Iterator[SliceTensors]:
        """The parts on the host, the first of them read, the others read when they are asked for."""
        parts = map(self._with_labels, self.spans, self._encoded())
        return chain([next(parts)], parts)

    def _encoded(self) -> Iterator[SliceTensors]:
        """The parts without labels. Of several each is encoded once: further passes read what is kept of it."""
        encoder, frames = self.work.project.encoder(self.columns), None
        for place in range(len(self.spans)):
            if self._kept is not None and place < len(self._kept):
                yield self._kept.read(place)
                continue
            frames = islice(self._frames(), place, None) if frames is None else frames
            frame = next(frames)
            if self.is_whole:
                self._shown = frame.select(self._telling)
            part = slice_tensors(frame, None, self.columns, (), encoder)
            del frame
            if self._kept is not None and place == len(self._kept):
                self._kept.add(part)
            yield part

    @cached_property
    def _kept(self) -> EncodedParts | None:
        return None if self.is_whole else EncodedParts(self.work.table("logged_inputs").folder)

    def _with_labels(self, rows: Span, tensors: SliceTensors) -> SliceTensors:
        labels, weights = self._told
        return replace(
            tensors,
            labels=torch.from_numpy(labels[rows]),
            task_names=self.work.project.stream.task_names,
            weights=None if weights is None else torch.from_numpy(weights[rows]),
            begins=rows.start == 0,
        )

    def _frames(self) -> Iterator[pl.DataFrame]:
        logged = self._table("logged_inputs").parts(self.slice)
        if not self.columns.of_teachers:
            return logged
        rows, features = self._features()
        if rows != self.rows:
            raise self._unsettled()
        return map(self._with_features, logged, features)

    def _features(self) -> tuple[int, Iterator[pl.DataFrame]]:
        """How many rows teacher features have, and they by part."""
        if self.teacher_features is not None:
            given = self.teacher_features(self.slice)
            return given.height, cut([given], self.work.project.stream.part_rows)
        table = self._table("logged_teacher_features")
        return table.rows(self.slice), table.parts(self.slice, [ID, *self.columns.of_teachers])

    def _with_features(self, logged: pl.DataFrame, features: pl.DataFrame) -> pl.DataFrame:
        if not features[ID].equals(logged[ID]):
            raise self._unsettled()
        return logged.hstack(features.select(self.columns.of_teachers))

    def _unsettled(self) -> UnsettledError:
        return UnsettledError(
            f"logged_teacher_features: slice {self.slice.key} has other impressions than logged_inputs: "
            "materialise logged_teacher_features for it again"
        )

    @property
    def _telling(self) -> list[str]:
        return [ID, "event_timestamp", self.work.project.stream.surface.name]

    def _table(self, name: str) -> SliceTable:
        return self.work.table(name)


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
    work: Workspace,
    slices: Sequence[Slice],
    device: str,
    columns: Columns,
    *,
    with_labels: bool,
    say: Callable[[str], object] = silent,
) -> Iterator[SliceInputs]:
    """The inputs of each slice, in order; while one is worked on, the next is read in a thread of its own.

    A slice of which nothing is read, since all that would be made of it is there, has nothing read after it either.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        waiting = [SliceInputs(work, slice_, device, with_labels, columns, thread=thread, say=say) for slice_ in slices]
        waiting.reverse()
        while waiting:
            inputs = waiting.pop()
            inputs.following = waiting[-1] if waiting else None
            yield inputs
