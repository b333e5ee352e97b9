"""When a view's rows are stamped: a number for each stamp, so that windows are differences of numbers.

Belongs here: numbering stamps. Not here: what is counted between them (aggregates.py, histories.py).

Stamps meet the ends of slices. Where all slices are of one length they are ``every`` apart; in a time zone that changes
its clock they are the ends of slices themselves, and a window of seven days is one of seven local days.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from exfm.stream import Stream

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CLOCK = pl.Datetime("us", "UTC")


def distinct(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Whole numbers of all parts, sorted, each once.

    ``np.unique`` hashes since numpy 2.3: forty times as long where most differ.
    """
    values = np.sort(np.concatenate(parts))
    each: np.ndarray = values[np.diff(values, prepend=values[:1] - 1) != 0]
    return each


@dataclass(frozen=True)
class Stamps:
    """The stamps of a view of a stream.

    Args:
        every: between two of them.
        span: the time in which they are asked for; it matters where slices differ in length.
    """

    stream: Stream
    every: timedelta
    span: tuple[datetime, datetime]

    def number(self, at: pl.Expr) -> pl.Expr:
        """Int64: the last stamp that is not after a time."""
        if self.stream.is_even:
            return (at.dt.epoch("us") - self._origin) // self._width
        return at.dt.epoch("us").map_batches(self._in_slices, return_dtype=pl.Int64)

    def number_of(self, at: datetime) -> int:
        """The same of one time."""
        microseconds = (at - EPOCH) // MICROSECOND
        if self.stream.is_even:
            return (microseconds - self._origin) // self._width
        return self.stream.index_at(at)

    def time(self, number: pl.Expr) -> pl.Expr:
        """When a stamp is."""
        if self.stream.is_even:
            return (number * self._width + self._origin).cast(CLOCK)
        return number.map_batches(self._starts, return_dtype=pl.Int64).cast(CLOCK)

    def within(self, length: timedelta) -> int:
        """How many stamps a window of some length reaches back."""
        return length // self.every

    @property
    def _width(self) -> int:
        return self.every // MICROSECOND

    @property
    def _origin(self) -> int:
        """Of even stamps: where one is, near the epoch, so that streams of one grid have the same numbers."""
        return (self.stream.first_slice - EPOCH) // MICROSECOND % self._width

    def _in_slices(self, at: pl.Series) -> pl.Series:
        first, edges = self._edges
        return pl.Series(np.searchsorted(edges, at.to_numpy(), side="right") - 1 + first, dtype=pl.Int64)

    def _starts(self, numbers: pl.Series) -> pl.Series:
        first, edges = self._edges
        return pl.Series(edges[numbers.to_numpy() - first], dtype=pl.Int64)

    @property
    def _edges(self) -> tuple[int, np.ndarray]:
        """The first slice of the span, and where it and those after it begin, in microseconds since the epoch."""
        first, last = (self.stream.index_at(moment) for moment in self.span)
        starts = [self.stream.slice_at(index).start for index in range(first, last + 2)]
        return first, np.array([(start - EPOCH) // MICROSECOND for start in starts], dtype=np.int64)
