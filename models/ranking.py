"""Metrics of the order of rows within groups: a user's, or a request's. Vectorised, in float64.

Belongs here: numbers about scores, labels and groups. Not here: metrics of all rows at once (metrics.py).
A metric that is not defined (no group that counts) is NaN, never a guess. Rows of a group below 0 are left out: it is
not known which group they are of.
"""

import numpy as np

from models.means import Floats, mean
from models.ranked_groups import Figures, Ids, Ranked, of_groups


def gauc(logits: Floats, labels: Floats, groups: Ids, weights: Floats | None = None) -> float:
    """AUC within each group (a user), weighted by its rows; groups of one class are left out.

    Args:
        groups: (N,) which group each row is of.
    """

    def within(rows: Ids) -> tuple[Figures, Figures]:
        ranked = Ranked.of(-logits[rows], groups[rows])
        y = labels[rows][ranked.order].astype(np.float64)
        w = np.ones(len(y)) if weights is None else weights[rows][ranked.order].astype(np.float64)
        positive, negative = (ranked.by_run(w * mine) for mine in (y, 1 - y))
        both = ranked.by_group(positive) * ranked.by_group(negative)  # 0 of a group of one class
        better = positive * (ranked.by_group(negative)[ranked.group] - ranked.until(negative) + negative / 2)
        return ranked.by_group(better)[both > 0] / both[both > 0], ranked.by_group(ranked.by_run(w))[both > 0]

    each, stands_for = of_groups(within, groups)
    return mean(each, stands_for) if each.size else float("nan")


def ndcg(logits: Floats, labels: Floats, groups: Ids, top: int) -> float:
    """Normalised discounted cumulative gain of the first ``top`` of each group (a request), the mean over groups.

    A row's gain is its label. Groups without a positive are left out. Rows that score alike share their places'
    discounts evenly (McSherry and Najork, ECIR 2008).

    Args:
        groups: (N,) which group each row is of.
    """
    discounts = 1 / np.log2(np.arange(2, int(top) + 2))
    until = np.r_[0.0, np.cumsum(discounts)]  # of the first k places

    def within(rows: Ids) -> tuple[Figures, Figures]:
        ranked, best = (Ranked.of(-values[rows], groups[rows]) for values in (logits, labels))
        gained, ideal = (
            order.by_group(order.by_run(labels[rows][order.order].astype(np.float64)) * order.shared(until))
            for order in (ranked, best)
        )
        return gained[ideal > 0], ideal[ideal > 0]

    return _mean_ratio(*of_groups(within, groups))


def recall(logits: Floats, labels: Floats, groups: Ids, top: int) -> float:
    """The share of each group's positives that are among its first ``top``, the mean over groups that have any.

    Of labels that are shares, the share of their sum.

    Of rows that score alike across the border, as many are among the first as there is room for, all equally.

    Args:
        groups: (N,) which group (a request) each row is of.
    """

    def within(rows: Ids) -> tuple[Figures, Figures]:
        ranked = Ranked.of(-logits[rows], groups[rows])
        positives = ranked.by_run(labels[rows][ranked.order].astype(np.float64))
        found = ranked.by_group(positives * ranked.shared(np.arange(int(top) + 1.0)))
        of = ranked.by_group(positives)
        return found[of > 0], of[of > 0]

    return _mean_ratio(*of_groups(within, groups))


def _mean_ratio(found: Figures, of: Figures) -> float:
    return float((found / of).mean()) if of.size else float("nan")
