"""What age costs: the NE that models lose slice by slice against the freshest of them, with an error band.

Belongs here: pairing by slice. Not here: the replays (teacher_lag_study.py, student_refresh_study.py), what follows
(freshness_worth.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import polars as pl


@dataclass(frozen=True)
class Loss:
    """Of a model of some age against the freshest one, on the same rows.

    Args:
        age: in slices; that of the freshest loses nothing.
        loss: mean over slices of NE / NE of the freshest - 1; above 0 it is worse.
        error: two standard errors of that mean; infinite with one slice.
    """

    age: int
    loss: float
    error: float


def losses(judged: pl.DataFrame, models: Sequence[tuple[int, str]]) -> list[Loss]:
    """Of some models, freshest first.

    Args:
        judged: ``slice``, ``model``, ``ne``: a row a slice and model.
        models: (age, name) of each.
    """
    (first, freshest), *others = models
    base = judged.filter(pl.col("model") == freshest).select("slice", base="ne")
    found = [Loss(first, 0.0, 0.0)]
    for age, name in others:
        both = judged.filter(pl.col("model") == name).join(base, on="slice")
        ratio = both["ne"] / both["base"] - 1
        spread = ratio.std()
        error = 2 * float(spread) / sqrt(len(ratio)) if isinstance(spread, float) else float("inf")
        mean = ratio.mean()
        if isinstance(mean, float):
            found.append(Loss(age, mean, error))
    return found
