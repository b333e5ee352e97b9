"""Paired comparisons on the same rows, with intervals from resampled users or rows.

Belongs here: the statistics. Not here: who is compared, and what follows (judging.py).

The bootstrap resamples whole groups of rows, for the impressions of one user are alike (Efron and Tibshirani 1993,
section 8.5), with Poisson weights in place of counts (Chamandy et al., Google 2012): one matrix for all comparisons, so
that differences are paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import factorial

import numpy as np

RESAMPLES = 2_000
# Poisson weights by the quantile of 16 random bits: a tenth of the time of drawing them one by one.
_CHANCES = np.cumsum([np.exp(-1) / factorial(weight) for weight in range(12)])
_POISSON = np.searchsorted(_CHANCES, (np.arange(1 << 16) + 0.5) / (1 << 16)).astype(np.float64)
MOST_GROUPS = 5_000  # of more groups several are resampled as one: intervals stay valid, and cost is bounded


@dataclass(frozen=True)
class Interval:
    """A ratio of sums, and one-sided bounds of it, each at the same confidence."""

    value: float
    low: float
    high: float


def _interval(
    above: np.ndarray, below: np.ndarray, drawn_above: np.ndarray, drawn_below: np.ndarray, confidence: float
) -> Interval:
    """Of sums by group (G,) and by resample (RESAMPLES,)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.float64(above.sum()) / below.sum()
        resampled = drawn_above / drawn_below
    known = resampled[np.isfinite(resampled)]
    if not known.size:
        return Interval(float(value), float("nan"), float("nan"))
    low, high = np.quantile(known, [1 - confidence, confidence])
    return Interval(float(value), float(low), float(high))


@dataclass(frozen=True)
class Resampled:
    """Resamples of some rows, the same for every ratio that is asked for.

    Args:
        groups: (N,) int64, which rows are resampled together.
        seed: of the resamples: the same rows and seed give the same interval.
    """

    groups: np.ndarray
    seed: int

    def ratio(self, numerator: np.ndarray, denominator: np.ndarray, confidence: float) -> Interval:
        """Sum over sum, of (N,) each; bounds are NaN where no resample has a denominator."""
        above, below = (np.bincount(self._codes, weights=values) for values in (numerator, denominator))
        return _interval(above, below, self._weights @ above, self._weights @ below, confidence)

    def ratios(
        self, numerator: np.ndarray, denominator: np.ndarray, parts: Sequence[np.ndarray], confidence: float
    ) -> list[Interval]:
        """The ratio of each part of the rows, (N,) bool; one product for all, so many cost about what one does."""
        if not parts:
            return []
        above, below = (
            np.stack([np.bincount(self._codes, weights=np.where(part, values, 0.0)) for part in parts], axis=1)
            for values in (numerator, denominator)
        )
        drawn_above, drawn_below = self._weights @ above, self._weights @ below
        return [
            _interval(above[:, at], below[:, at], drawn_above[:, at], drawn_below[:, at], confidence)
            for at in range(len(parts))
        ]

    @cached_property
    def _codes(self) -> np.ndarray:
        _, codes = np.unique(self.groups, return_inverse=True)
        if codes.size and codes.max() >= MOST_GROUPS:
            # Groups go together by chance, not by id: neighbours in id may be alike.
            order = np.random.default_rng(self.seed).permutation(codes.max() + 1)
            codes = order[codes] % MOST_GROUPS
        return codes.astype(np.int64)

    @cached_property
    def _weights(self) -> np.ndarray:
        count = int(self._codes.max()) + 1 if self._codes.size else 0
        drawn = np.random.default_rng([self.seed, 1]).integers(0, len(_POISSON), (RESAMPLES, count), dtype=np.uint16)
        return _POISSON[drawn]
