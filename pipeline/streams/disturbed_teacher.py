"""Predictions of teachers that a simulated stream's events make silent or poison.

Belongs here: what such a teacher says instead. Not here: scoring (training/teacher_walk.py), what is done about it.
"""

import numpy as np

from exfm.project import Project
from exfm.stream import Slice


def disturbed(project: Project, slice_: Slice, logits: np.ndarray) -> np.ndarray:
    """The logits as they are, or what the events of the slice make of them.

    Args:
        logits: (N, T) float32. Silent ones become NaN, which is quarantined as any prediction that is no number.
            Poisoned ones are mirrored at the task's mean: what the teacher holds likely is said to be unlikely.
    """
    if project.simulation is None:
        return logits
    day = (slice_.start - project.stream.first_slice).total_seconds() / 86_400
    for number, event in enumerate(project.simulation.events):
        if event.kind not in ("silent", "poisoned") or not event.day <= day < event.end:
            continue
        generator = np.random.default_rng([project.simulation.seed, slice_.index, number])
        chosen = generator.uniform(size=len(logits)) < event.strength
        instead = np.nan if event.kind == "silent" else 2 * np.nanmean(logits, axis=0, keepdims=True) - logits
        logits = np.where(chosen[:, None], instead, logits).astype(logits.dtype)
    return logits
