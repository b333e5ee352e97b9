"""How far a teacher leads, and what it gave: measured on each slice before it is learnt, used on later slices only.

Belongs here: leads of teachers and of the student over its control. Not here: the share that they deserve
(exfm/distillation.py), what it weighs (models/distillation.py).
"""

from collections.abc import Sequence

import numpy as np

from exfm.distillation import LeadAware
from exfm.learning import Student
from models.metrics import normalised_entropy
from pipeline.registry.incremental_model import UNTRAINED, IncrementalModel
from pipeline.slices.scores import scores_of
from pipeline.slices.supervised_slice import SupervisedSlice, rows_name
from pipeline.training.joint_training import DistillationShares

GAIN = "gain"  # of a lead-aware student over its control, among its checkpoint's metrics


def lead_of_teacher(teacher: str) -> str:
    """The name of a teacher's lead among a checkpoint's metrics."""
    return f"lead/{teacher}"


def distillation_shares(
    lead: LeadAware, student: Student, mine: IncrementalModel, control: IncrementalModel, supervised: SupervisedSlice
) -> DistillationShares:
    """The shares that earlier slices deserve, and what this slice says for those that come after.

    Args:
        mine, control: the student and its control, whose learners may be asked for.

    Raises:
        DataError: if either has no checkpoint of the slice before.
    """
    index = supervised.slice.index
    gains = earlier(mine, index, GAIN, lead.proof)
    return DistillationShares(
        shares={
            teacher: lead.share(earlier(mine, index, lead_of_teacher(teacher), lead.slices), gains)
            for teacher in student.teachers
        },
        measured=_measured(student, mine, control, supervised),
    )


def control_version(control: IncrementalModel, index: int) -> dict[str, str]:
    """What a lead-aware student's checkpoint depends on beside its own data."""
    parent = control.parent(index)
    return {} if parent is None else {"control": parent.version}


def earlier(model: IncrementalModel, index: int, measure: str, slices: int) -> list[float]:
    """The last values of a measure before a slice, oldest first, from the model's manifests."""
    values: list[float] = []
    for back in range(index - 1, max(index - 1 - 4 * slices, -1), -1):
        value = model.manifest(back).metrics.get(measure)
        if value is not None:
            values.append(value)
        if len(values) == slices:
            break
    return values[::-1]


def _measured(
    student: Student, mine: IncrementalModel, control: IncrementalModel, supervised: SupervisedSlice
) -> dict[str, float]:
    """Leads of teachers and the student's own gain over its control on this slice, all as they were before it.

    What can't be said is left out: before the first checkpoint, or where NE is not defined.
    """
    before = supervised.slice.index - 1
    if before == UNTRAINED:
        return {}
    rows, task = rows_name(student.surface), student.task
    labels = supervised.labels(task, rows)
    base, own = scores((control, mine), before, supervised, rows)
    rivals = {lead_of_teacher(name): supervised.teacher_logits(name, task, rows) for name in student.teachers}
    weights = supervised.weights(rows)
    leads = {measure: lead_of(theirs, base, labels, weights) for measure, theirs in {**rivals, GAIN: own}.items()}
    return {measure: lead for measure, lead in leads.items() if np.isfinite(lead)}


def scores(models: Sequence[IncrementalModel], index: int, supervised: SupervisedSlice, rows: str) -> list[np.ndarray]:
    """Of each model (N,) logits of some rows by the checkpoint that trained last on slice ``index``, once a slice."""

    def predict(new: list[int]) -> list[np.ndarray]:
        learners = [models[at].learner_at(index) for at in new]
        # A view would hold the scores of all tasks.
        return [np.ascontiguousarray(logits[:, 0]) for logits in scores_of(learners, supervised.parts(rows))]

    return supervised.once([(model.checkpoints.name, index, rows) for model in models], predict)


def lead_of(logits: np.ndarray, base: np.ndarray, labels: np.ndarray, weights: np.ndarray | None = None) -> float:
    """1 - NE / NE_base on the rows that both know, (N,) each with NaN where not known; NaN where NE is not defined."""
    known = np.isfinite(logits) & np.isfinite(base) & np.isfinite(labels)
    of_known = None if weights is None else weights[known]
    ne = normalised_entropy(base[known], labels[known], of_known) if known.any() else 0.0
    return 1 - normalised_entropy(logits[known], labels[known], of_known) / ne if ne > 0 else float("nan")
