"""How far a teacher leads: measured on each slice before anything trains on it, used on later slices only.

Belongs here: the lead of a teacher over a student's control. Not here: what it weighs (models/distillation.py).
"""

import numpy as np

from exfm_assets.learning.chain import UNTRAINED, Chain
from exfm_assets.learning.cohort import Led
from exfm_assets.learning.lesson import Lesson
from models.metrics import normalised_entropy
from projects.distillation import LeadAware
from projects.learning import Student
from projects.stream import Slice


def led(lead: LeadAware, student: Student, chain: Chain, control: Chain, lesson: Lesson) -> Led:
    """The shares that earlier slices' leads deserve, and this slice's leads for those that come after.

    Raises:
        DataError: if the control has no checkpoint of the slice before.
    """
    index = lesson.work.project.stream.index_at(lesson.desk.piece.start)
    earlier = {name: earlier_leads(chain, index, name, lead.slices) for name in student.teachers}
    return Led(
        shares={name: lead.share(leads) for name, leads in earlier.items()},
        measured=_measured(student, control, index, lesson),
    )


def control_version(control: Chain, piece: Slice) -> dict[str, str]:
    """What a lead-aware student's checkpoint depends on beside its own data."""
    parent = control.parent(control.shelf.work.project.stream.index_at(piece.start))
    return {} if parent is None else {"control": parent.version}


def earlier_leads(chain: Chain, index: int, teacher: str, slices: int) -> list[float]:
    """The last measured leads before a slice, oldest first, from the chain's manifests."""
    found: list[float] = []
    stream = chain.shelf.work.project.stream
    for back in range(index - 1, max(index - 1 - 4 * slices, -1), -1):
        lead = chain.shelf.manifest(stream.slice_at(back)).metrics.get(f"lead/{teacher}")
        if lead is not None:
            found.append(lead)
        if len(found) == slices:
            break
    return found[::-1]


def _measured(student: Student, control: Chain, index: int, lesson: Lesson) -> dict[str, float]:
    """1 - NE_teacher / NE_control on this slice, both as they were before it; nothing where it can't be said."""
    if index - 1 == UNTRAINED:
        return {}
    rows, name = lesson.rows_name(student), student.task
    tensors = lesson.tensors(rows)
    labels = tensors.labels[:, tensors.task_names.index(name)].cpu().numpy()
    own = control.learner_at(index - 1).predict(tensors)[:, 0].cpu().numpy()
    leads = {}
    for teacher in student.teachers:
        theirs = lesson.teacher_logits(teacher, name, lesson.rows_of(rows))
        both = np.isfinite(theirs) & np.isfinite(labels)
        lead = lead_of(theirs[both], own[both], labels[both])
        if np.isfinite(lead):
            leads[teacher] = lead
    return leads


def lead_of(teacher: np.ndarray, control: np.ndarray, labels: np.ndarray) -> float:
    """Relative lead in NE on the same rows, (N,) logits each; NaN where NE is not defined."""
    ne = normalised_entropy(control, labels)
    return 1 - normalised_entropy(teacher, labels) / ne if ne > 0 else float("nan")
