"""Few columns of a slice that are gone through several times.

Belongs here: when they stay in memory between. Not here: reading a slice (tables.py).
"""

from collections.abc import Iterator, Sequence
from functools import cached_property

import polars as pl

from exfm.stream import Slice
from pipeline.parts import NARROW
from pipeline.tables import SliceTable


class NarrowSlice:
    """Some columns of a slice: read once where they are at most ``NARROW`` parts, else each time.

    Nothing is read before it is asked for.

    Args:
        table: whose slice it is.
        columns: names of them.

    Attributes:
        noted: ``SliceTable.noted`` before anything of it was read, so that a change in between shows as one.
    """

    def __init__(self, table: SliceTable, slice_: Slice, columns: Sequence[str]) -> None:
        self.table, self.slice_ = table, slice_
        self.noted = table.noted(slice_)
        self._columns = list(columns)

    @cached_property
    def height(self) -> int:
        """How many rows there are.

        Raises:
            DataError: if the slice is missing or damaged; so do the others.
        """
        return self.table.rows(self.slice_)

    @cached_property
    def _held(self) -> pl.DataFrame | None:
        if self.height > NARROW * self.table.part_rows:
            return None
        return self.table.read([self.slice_], self._columns).rechunk()  # once, not in every part

    def lazy(self) -> pl.LazyFrame:
        """All rows."""
        if self._held is not None:
            return self._held.lazy()
        return self.table.scan([self.slice_]).select(self._columns)

    def parts(self) -> Iterator[pl.DataFrame]:
        """All rows, in the parts of ``SliceTable.parts``."""
        if self._held is None:
            yield from self.table.parts(self.slice_, self._columns, NARROW)
            return
        for first in range(0, max(self.height, 1), self.table.part_rows):
            yield self._held.slice(first, self.table.part_rows)
