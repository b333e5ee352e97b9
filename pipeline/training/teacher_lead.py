"""How far a teacher leads, and what it gave: measured on each slice before it is learnt, used on later slices only.

Belongs here: leads of teachers and of the student over its control. Not here: the share that they deserve
(exfm/distillation.py), what it weighs (models/distillation.py).
"""

import numpy as np

from exfm.distillation import LeadAware
from exfm.learning import Student
from exfm.stream import Slice
from models.metrics import normalised_entropy
from pipeline.registry.incremental_model import UNTRAINED, IncrementalModel
from pipeline.slices.supervised_slice import SupervisedSlice
from pipeline.training.joint_training import DistillationShares

GAIN = "gain"  # of a lead-aware student over its control, among its checkpoint's metrics


def led(
    lead: LeadAware, student: Student, mine: IncrementalModel, control: IncrementalModel, supervised: SupervisedSlice
) -> DistillationShares:
    """The shares that earlier slices deserve, and what this slice says for those that come after.

    Args:
        mine, control: the student's and its control's chains, whose learners may be asked for.

    Raises:
        DataError: if either has no checkpoint of the slice before.
    """
    index = supervised.work.project.stream.index_at(supervised.inputs.slice.start)
    gains = earlier(mine, index, GAIN, lead.proof)
    return DistillationShares(
        shares={
            name: lead.share(earlier(mine, index, f"lead/{name}", lead.slices), gains) for name in student.teachers
        },
        measured=_measured(student, mine, control, index, supervised),
    )


def control_version(control: IncrementalModel, slice_: Slice) -> dict[str, str]:
    """What a lead-aware student's checkpoint depends on beside its own data."""
    parent = control.parent(control.checkpoints.work.project.stream.index_at(slice_.start))
    return {} if parent is None else {"control": parent.version}


def earlier(model: IncrementalModel, index: int, measure: str, slices: int) -> list[float]:
    """The last values of a measure before a slice, oldest first, from the chain's manifests."""
    found: list[float] = []
    stream = model.checkpoints.work.project.stream
    for back in range(index - 1, max(index - 1 - 4 * slices, -1), -1):
        value = model.checkpoints.manifest(stream.slice_at(back)).metrics.get(measure)
        if value is not None:
            found.append(value)
        if len(found) == slices:
            break
    return found[::-1]


def _measured(
    student: Student, mine: IncrementalModel, control: IncrementalModel, index: int, supervised: SupervisedSlice
) -> dict[str, float]:
    """Leads of teachers and the student's own gain over its control on this slice, all as they were before it.

    What can't be said is left out: before the first checkpoint, or where NE is not defined.
    """
    if index - 1 == UNTRAINED:
        return {}
    rows, name = supervised.rows_name(student), student.task
    tensors = supervised.tensors(rows)
    labels = tensors.labels[:, tensors.task_names.index(name)].cpu().numpy()
    base, own = (model.learner_at(index - 1).predict(tensors)[:, 0].cpu().numpy() for model in (control, mine))
    rivals = {
        f"lead/{teacher}": supervised.teacher_logits(teacher, name, supervised.rows_of(rows))
        for teacher in student.teachers
    }
    leads = {measure: lead_of(theirs, base, labels) for measure, theirs in {**rivals, GAIN: own}.items()}
    return {measure: lead for measure, lead in leads.items() if np.isfinite(lead)}


def lead_of(logits: np.ndarray, base: np.ndarray, labels: np.ndarray) -> float:
    """1 - NE / NE_base on the rows that both know, (N,) each with NaN where not known; NaN where NE is not defined."""
    known = np.isfinite(logits) & np.isfinite(base) & np.isfinite(labels)
    ne = normalised_entropy(base[known], labels[known]) if known.any() else 0.0
    return 1 - normalised_entropy(logits[known], labels[known]) / ne if ne > 0 else float("nan")
