"""Scores of a slice's rows, part by part: of inputs, one part is in memory at a time, of scores all.

Belongs here: predicting. Not here: who scores, and what becomes of it.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from models.batch import SliceTensors
from models.learner import Learner


def scores_of(learners: Sequence[Learner], parts: Iterable[SliceTensors]) -> list[np.ndarray]:
    """Of each learner (N, T) float32 logits of its serving heads, all by one pass over the parts."""
    scores: list[list[np.ndarray]] = [[] for _ in learners]
    for tensors in parts:
        for learner, mine in zip(learners, scores, strict=True):
            mine.append(learner.predict(tensors).float().cpu().numpy())
    return [mine[0] if len(mine) == 1 else np.concatenate(mine) for mine in scores]
