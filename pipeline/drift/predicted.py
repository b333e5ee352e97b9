"""How whole and how fresh a teacher's predictions are, slice by slice.

Belongs here: coverage and age, as files and manifests say them. Not here: what a teacher reads (findings.py), the check
of coverage that stops students (verify/predictions_sound.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from exfm.learning import Teacher
from pipeline.drift.detection import LEAST
from pipeline.drift.findings import USUAL_SLICES, Finding
from pipeline.registry.plain_manifests import manifests_of
from pipeline.sidecar import read_sidecar
from pipeline.slices.predictions import PredictionFile, files_of, scored_slices
from pipeline.workspace import Workspace

LEAST_COVERAGE = 0.99


@dataclass(frozen=True)
class Predicted:
    """A scored slice.

    Args:
        coverage: share of its impressions with a prediction.
        age: slices from the newest impression that the scorer had seen to the slice.
    """

    index: int
    coverage: float
    age: float


def predicted_slices(work: Workspace, teacher: Teacher) -> list[Predicted]:
    """The newest scored slices, oldest first; those whose files or manifests don't say are left out."""
    length, found = work.project.stream.slice_length, []
    until = {
        manifest["version"]: manifest.get("trained_until")
        for manifest in manifests_of(work, f"teacher/{teacher.name}").values()
        if manifest is not None
    }
    for slice_ in scored_slices(work, teacher)[-work.project.upkeep.look_back :]:
        newest = files_of(work, teacher, slice_)[-1]
        sidecar, inputs = read_sidecar(newest), work.table("logged_inputs").sidecar(slice_)
        seen = until.get(PredictionFile.of(newest).checkpoint)
        if sidecar is None or inputs is None or seen is None or not inputs.rows:
            continue
        age = (slice_.start - datetime.fromisoformat(seen)) / length
        found.append(Predicted(slice_.index, sidecar.rows / inputs.rows, age))
    return found


def of_predicted(predicted: list[Predicted], learnt: int) -> Iterator[Finding]:
    """Slices whose predictions are not whole, or by an older checkpoint than usual: said, and no reason to train."""
    for position, each in enumerate(predicted):
        if each.coverage < LEAST_COVERAGE:
            reason = f"{each.coverage:.1%} of the impressions have a prediction"
            yield Finding("coverage", each.index, reason, learnt >= each.index)
        before = [one.age for one in predicted[max(position - USUAL_SLICES, 0) : position]]
        usual = float(np.median(before)) if len(before) >= LEAST else float("inf")
        if each.age > usual + 1:
            reason = f"scored by a checkpoint {each.age:.1f} slices old, usually {usual:.1f}"
            yield Finding("age", each.index, reason, learnt >= each.index)
