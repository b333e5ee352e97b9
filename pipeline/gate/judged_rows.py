"""What gates read, for several students that are judged one after the other: each slice is read once for all.

Belongs here: reading, and keeping what was read for a moment. Not here: scores (scoring.py), verdicts (judging.py).
"""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping

import polars as pl

from exfm.learning import Student
from exfm.stream import Slice
from pipeline.slices.slice_inputs import SliceInputs, students_columns
from pipeline.slices.supervised_slice import SupervisedSlice, without_teachers
from pipeline.verify.tables_sound import data_fault
from pipeline.workspace import Workspace

KEPT = 4  # slices at a time: most students are judged on the same one or two
KEPT_ROWS = 2**24  # of slices that are kept beside the newest one
Seen = Mapping[str, pl.Series]  # by column: the users and items of the slices before


class JudgedRows:
    """Rows of a workspace, as they are at one moment: made anew for each judgement of all.

    Args:
        device: where models score them.
    """

    def __init__(self, work: Workspace, device: str) -> None:
        self.work, self.device = work, device
        self._slices: OrderedDict[Hashable, SupervisedSlice] = OrderedDict()
        self._seen: dict[Slice, Seen] = {}
        self._faults: dict[tuple[Slice, ...], str | None] = {}

    def of(self, student: Student, slice_: Slice) -> SupervisedSlice:
        """A slice's inputs and labels, with what the student reads."""
        columns = students_columns(self.work.project, [student])
        key = slice_, columns
        if key not in self._slices:
            inputs = SliceInputs(self.work, slice_, self.device, with_labels=True, columns=columns)
            self._slices[key] = SupervisedSlice(inputs, self.work.project.stream, without_teachers)
        self._slices.move_to_end(key)
        while len(self._slices) > KEPT or (len(self._slices) > 1 and self._rows() > KEPT_ROWS):
            self._slices.popitem(last=False)
        return self._slices[key]

    def _rows(self) -> int:
        return sum(kept.inputs.rows for kept in self._slices.values())

    def seen_before(self, first: Slice) -> Seen:
        """The users and items of the ``Upkeep.look_back`` slices before one; empty where none of those is stored."""
        if first not in self._seen:
            self._seen[first] = _seen_before(self.work, first)
        return self._seen[first]

    def fault(self, slices: Iterable[Slice]) -> str | None:
        """What is wrong with the data of slices; ``None`` if its checks hold."""
        looked_at = tuple(slices)
        if looked_at not in self._faults:
            self._faults[looked_at] = data_fault(self.work, list(looked_at))
        return self._faults[looked_at]


def _seen_before(work: Workspace, first: Slice) -> Seen:
    stream, table = work.project.stream, work.table("impressions")
    since = stream.slice_at(max(first.index - work.project.upkeep.look_back, 0))
    before = [slice_ for slice_ in stream.slices(since.start, first.start) if table.has(slice_)]
    if not before:
        return {}
    seen = {name: Distinct() for name in (stream.user.name, stream.item.name)}
    for part in (part for slice_ in before for part in table.parts(slice_, list(seen))):
        for name, distinct in seen.items():
            distinct.add(part[name])
    return {name: distinct.values() for name, distinct in seen.items()}


class Distinct:
    """The distinct values of a column that is given part by part: in memory are at most about twice as many."""

    def __init__(self) -> None:
        self._parts: list[pl.Series] = []  # the first one has all that were merged

    def add(self, values: pl.Series) -> None:
        """Those of a part too. They are merged when they are as many as are known: so each is in few merges."""
        self._parts.append(values.unique())
        if sum(map(len, self._parts[1:])) > len(self._parts[0]):
            self._parts = [self.values()]

    def values(self) -> pl.Series:
        return pl.concat(self._parts).unique()
