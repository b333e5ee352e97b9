"""Means over rows, in float64 where they are of figures; of many rows no more than a chunk of figures is in memory.

Belongs here: sums over rows and their weights. Not here: which figures (metrics.py).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
CHUNK = 2**20  # rows


def mean(values: Floats, weights: Floats | None = None) -> float:
    """The mean of rows, by their weights."""
    if weights is None:
        return float(values.mean())
    return float((values * weights).sum(dtype=np.float64) / weights.sum(dtype=np.float64))


def mean_of(
    figure: Callable[[Floats, Floats], Floats], logits: Floats, labels: Floats, weights: Floats | None = None
) -> float:
    """The mean of a figure of each row, by their weights: (N,) each."""
    if labels.size <= CHUNK:
        return mean(figure(logits, labels), weights)
    total = 0.0
    for rows in chunks(labels.size):
        each = figure(logits[rows], labels[rows])
        total += float((each if weights is None else each * weights[rows]).sum(dtype=np.float64))
    return total / (labels.size if weights is None else float(weights.sum(dtype=np.float64)))


def chunks(size: int) -> list[slice]:
    return [slice(start, start + CHUNK) for start in range(0, size, CHUNK)]
