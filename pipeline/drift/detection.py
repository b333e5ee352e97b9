"""Detection of a change in a sequence of one number a slice.

Belongs here: sequential tests and bands. Not here: which numbers (findings.py).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

LEAST = 5  # values before anything is detected
CLIPPED = 4.0  # one slice alone, however odd, is no change
SLACK = 0.5  # standard deviations that a mean may be off: smaller changes are not looked for


def spread(values: Sequence[float], sizes: Sequence[float]) -> float:
    """Standard deviation of one value about a slowly changing mean.

    By successive differences, so that a trend or a jump counts little: their median (Iglewicz and Hoaglin 1993, with
    the factor of the normal distribution). Not below what the slice's size alone makes.

    Args:
        sizes: standard error of each value by the size of its slice, at the least.
    """
    by_size = float(np.median(sizes))
    if len(values) < LEAST:
        return 2 * by_size
    differences = np.abs(np.diff(values))
    return max(float(np.median(differences)) / (0.6745 * math.sqrt(2)), by_size)


def first_change(values: Sequence[float], sizes: Sequence[float], *, up: bool, threshold: float) -> int | None:
    """Position at which a change of the mean is detected by the Page-Hinkley test (``river``); ``None``: none is.

    Args:
        up: whether a rise is looked for, or a fall.
        threshold: of the cumulated excess, in standard deviations.
    """
    from river.drift.page_hinkley import PageHinkley

    test = PageHinkley(min_instances=LEAST, delta=SLACK, threshold=threshold, alpha=1.0, mode="up" if up else "down")
    centre = float(np.median(values[:LEAST])) if values else 0.0
    for position in range(len(values)):
        # The scale is that of the values so far: what comes later is not known yet.
        scale = spread(values[: position + 1], sizes[: position + 1])
        test.update(float(np.clip((values[position] - centre) / max(scale, 1e-12), -CLIPPED, CLIPPED)))
        if test.drift_detected:
            return position
    return None


def beyond(now: Sequence[float], before: Sequence[float], error: float, limit: Callable[[float], float]) -> bool:
    """Is the mean of some values above a limit that follows from the mean before, by more than two standard errors?"""
    reference, mean = float(np.mean(before)), float(np.mean(now))
    return mean - limit(reference) > 2 * error * math.sqrt(1 / len(now) + 1 / len(before))
