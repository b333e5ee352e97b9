"""The order of an answer, and how likely it was that each candidate stood where it stands.

Belongs here: drawing, and its probabilities. Not here: scores (model.py), what is logged (answering.py).

With probability 1 - e candidates stand in the order of their scores, with probability e in an order that is drawn, each
of the n! alike. So a candidate stands at a place with probability (1 - e) [it is its own place] + e / n: a sum of two
terms, above 0 everywhere where e is. A draw by scores (Plackett-Luce) would cost less of each answer, but the
probability of a place further down is a sum over all orders above it, which nobody can compute for a hundred.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Order:
    """Candidates as they are returned.

    Args:
        by_place: (N,) which candidate stands at each place.
        propensity: (N,) of each candidate, as they were asked: how likely it was to stand at its place.
        is_drawn: was this order drawn?
    """

    by_place: NDArray[np.int64]
    propensity: NDArray[np.float64]
    is_drawn: bool


def order_of(scores: NDArray[np.float32], exploration: float, draws: np.random.Generator) -> Order:
    """An order of candidates, of equal scores the one first that was asked first.

    Args:
        scores: (N,).
        exploration: the share of orders that are drawn by chance.
    """
    by_score = np.argsort(-scores, kind="stable")
    is_drawn = exploration > 0 and draws.random() < exploration
    by_place = draws.permutation(len(scores)) if is_drawn else by_score
    propensity = np.full(len(scores), exploration / len(scores))
    propensity[by_place[by_place == by_score]] += 1 - exploration
    return Order(by_place, propensity, bool(is_drawn))
