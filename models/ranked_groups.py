"""Rows in the order of their groups, some groups in memory at a time.

Belongs here: which rows are of which group, and in what place. Not here: metrics of that (ranking.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models import means
from models.means import Floats

Ids = NDArray[np.integer]
Figures = NDArray[np.float64]


def of_groups(within: Callable[[Ids], tuple[Figures, Figures]], groups: Ids) -> tuple[Figures, Figures]:
    """Two figures of each group that has them, in the order of the groups; some groups are in memory at a time.

    Args:
        within: positions of rows, all that their groups have -> both figures of these groups.
    """
    found = [within(rows) for rows in _blocks(groups)]
    nothing = np.zeros(0)
    first, second = (np.concatenate([nothing, *each]) for each in (zip(*found, strict=True) if found else ((), ())))
    return first, second


def _blocks(groups: Ids) -> Iterator[Ids]:
    """Positions of the rows of some groups after the other: of some chunk's rows, or of one group that has more."""
    if groups.size <= means.CHUNK:
        known = np.flatnonzero(groups >= 0)
        yield from [known] if known.size else []
        return
    numbers, sizes = np.unique(groups[groups >= 0], return_counts=True)
    block = (np.cumsum(sizes) - 1) // means.CHUNK
    starts = numbers[np.flatnonzero(np.diff(block, prepend=-1))]
    block_of = np.empty(groups.size, dtype=np.uint16 if starts.size < 2**16 else np.uint32)  # a row's; 0: not known
    for rows in means.chunks(groups.size):
        block_of[rows] = np.searchsorted(starts, groups[rows], "right")
    for number in range(1, starts.size + 1):
        yield np.flatnonzero(block_of == number)


@dataclass(frozen=True)
class Ranked:
    """Rows in the order of their groups and, within each, of their places; a run is of rows at one place.

    Args:
        order: (K,) positions of the rows, so ordered.
        run: (K,) the run of each row in this order.
        group: (R,) the group of each run.
        before: (R,) rows of the same group that come before a run.
        size: (R,) rows of a run.
    """

    order: Ids
    run: Ids
    group: Ids
    before: Ids
    size: Ids

    @classmethod
    def of(cls, values: Floats, groups: Ids) -> "Ranked":
        """By (N,) values, lowest first, within (N,) groups."""
        _, group = np.unique(groups, return_inverse=True)
        order = np.lexsort((values, group))
        g, x = group[order], values[order]
        first = np.r_[True, (g[1:] != g[:-1]) | (x[1:] != x[:-1])]  # where a run begins
        starts = np.flatnonzero(first)
        size = np.diff(np.r_[starts, len(x)])
        group_starts = np.r_[0, np.cumsum(np.bincount(g))[:-1]]
        return cls(order, np.cumsum(first) - 1, g[starts], starts - group_starts[g[starts]], size)

    def by_run(self, values: Floats) -> Figures:
        """(R,) sums over runs of (K,) values in this order."""
        sums: Figures = np.bincount(self.run, weights=values, minlength=len(self.size)).astype(np.float64)
        return sums

    def by_group(self, values: Floats) -> Figures:
        """(G,) sums over groups of (R,) values of runs."""
        sums: Figures = np.bincount(self.group, weights=values).astype(np.float64)
        return sums

    def until(self, values: Floats) -> Figures:
        """(R,) sums of (R,) values over the runs of the group up to each, itself included."""
        sums = np.cumsum(values)
        before = np.r_[0.0, np.cumsum(self.by_group(values))[:-1]]
        running: Figures = sums - before[self.group]
        return running

    def shared(self, until: Figures) -> Figures:
        """(R,) what each row of a run has of its places; ``until`` is of the first k places, the last one of all."""
        last = len(until) - 1
        end = until[np.minimum(self.before + self.size, last)]
        share: Figures = (end - until[np.minimum(self.before, last)]) / self.size
        return share
