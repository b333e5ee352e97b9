"""Metrics of the order of rows within groups: a user's, or a request's. Vectorised, in float64.

Belongs here: numbers about scores, labels and groups. Not here: metrics of all rows at once (metrics.py).
A metric that is not defined (no group that counts) is NaN, never a guess. Rows of a group below 0 are left out: it is
not known which group they are of.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.means import Floats, mean


def gauc(logits: Floats, labels: Floats, groups: NDArray[np.integer], weights: Floats | None = None) -> float:
    """AUC within each group (a user), weighted by its rows; groups of one class are left out.

    Args:
        groups: (N,) which group each row is of.
    """
    if not (groups >= 0).any():
        return float("nan")
    ranked = _Ranked.of(-logits, groups)
    y = labels[ranked.order].astype(np.float64)
    w = np.ones(len(y)) if weights is None else weights[ranked.order].astype(np.float64)
    positive, negative = (ranked.by_run(w * mine) for mine in (y, 1 - y))
    both = ranked.by_group(positive) * ranked.by_group(negative)  # 0 of a group of one class
    better = positive * (ranked.by_group(negative)[ranked.group] - ranked.until(negative) + negative / 2)
    each = ranked.by_group(better)[both > 0] / both[both > 0]
    return mean(each, ranked.by_group(ranked.by_run(w))[both > 0]) if each.size else float("nan")


def ndcg(logits: Floats, labels: Floats, groups: NDArray[np.integer], top: int) -> float:
    """Normalised discounted cumulative gain of the first ``top`` of each group (a request), the mean over groups.

    A row's gain is its label. Groups without a positive are left out. Rows that score alike share their places'
    discounts evenly (McSherry and Najork, ECIR 2008).

    Args:
        groups: (N,) which group each row is of.
    """
    if not (groups >= 0).any():
        return float("nan")
    ranked = _Ranked.of(-logits, groups)
    positives = ranked.by_run(labels[ranked.order].astype(np.float64))
    discounts = 1 / np.log2(np.arange(2, int(top) + 2))
    until = np.r_[0.0, np.cumsum(discounts)]  # of the first k places
    gained = ranked.by_group(positives * ranked.shared(until))
    best = _Ranked.of(-labels, groups)
    ideal = best.by_group(best.by_run(labels[best.order].astype(np.float64)) * best.shared(until))
    return float((gained[ideal > 0] / ideal[ideal > 0]).mean()) if (ideal > 0).any() else float("nan")


def recall(logits: Floats, labels: Floats, groups: NDArray[np.integer], top: int) -> float:
    """The share of each group's positives that are among its first ``top``, the mean over groups that have any.

    Of labels that are shares, the share of their sum.

    Of rows that score alike across the border, as many are among the first as there is room for, all equally.

    Args:
        groups: (N,) which group (a request) each row is of.
    """
    if not (groups >= 0).any():
        return float("nan")
    ranked = _Ranked.of(-logits, groups)
    positives = ranked.by_run(labels[ranked.order].astype(np.float64))
    found = ranked.by_group(positives * ranked.shared(np.arange(int(top) + 1.0)))
    of = ranked.by_group(positives)
    return float((found[of > 0] / of[of > 0]).mean()) if (of > 0).any() else float("nan")


@dataclass(frozen=True)
class _Ranked:
    """Rows in the order of their groups and, within each, of their places; a run is of rows at one place.

    Args:
        order: (K,) positions of the rows whose group is known, so ordered.
        run: (K,) the run of each row in this order.
        group: (R,) the group of each run.
        before: (R,) rows of the same group that come before a run.
        size: (R,) rows of a run.
    """

    order: NDArray[np.integer]
    run: NDArray[np.integer]
    group: NDArray[np.integer]
    before: NDArray[np.integer]
    size: NDArray[np.integer]

    @classmethod
    def of(cls, values: Floats, groups: NDArray[np.integer]) -> "_Ranked":
        """By (N,) values, lowest first, within (N,) groups."""
        known = np.flatnonzero(groups >= 0)
        _, group = np.unique(groups[known], return_inverse=True)
        ranked = np.lexsort((values[known], group))
        order = known[ranked]
        g, x = group[ranked], values[order]
        first = np.r_[True, (g[1:] != g[:-1]) | (x[1:] != x[:-1])]  # where a run begins
        starts = np.flatnonzero(first)
        size = np.diff(np.r_[starts, len(x)])
        group_starts = np.r_[0, np.cumsum(np.bincount(g))[:-1]]
        return cls(order, np.cumsum(first) - 1, g[starts], starts - group_starts[g[starts]], size)

    def by_run(self, values: Floats) -> NDArray[np.float64]:
        """(R,) sums over runs of (K,) values in this order."""
        sums: NDArray[np.float64] = np.bincount(self.run, weights=values, minlength=len(self.size)).astype(np.float64)
        return sums

    def by_group(self, values: Floats) -> NDArray[np.float64]:
        """(G,) sums over groups of (R,) values of runs."""
        sums: NDArray[np.float64] = np.bincount(self.group, weights=values).astype(np.float64)
        return sums

    def until(self, values: Floats) -> NDArray[np.float64]:
        """(R,) sums of (R,) values over the runs of the group up to each, itself included."""
        sums = np.cumsum(values)
        of_groups = np.r_[0.0, np.cumsum(self.by_group(values))[:-1]]
        running: NDArray[np.float64] = sums - of_groups[self.group]
        return running

    def shared(self, until: NDArray[np.float64]) -> NDArray[np.float64]:
        """(R,) what each row of a run has of its places; ``until`` is of the first k places, the last one of all."""
        last = len(until) - 1
        end = until[np.minimum(self.before + self.size, last)]
        share: NDArray[np.float64] = (end - until[np.minimum(self.before, last)]) / self.size
        return share
