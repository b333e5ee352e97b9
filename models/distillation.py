"""Losses: labels, and what is learned from a teacher's logits.

Belongs here: the maths of each term (docs/method.md has the table). Not here: optimiser steps (learner.py).
h is the binary cross-entropy on logits; unknown labels and predictions are NaN and left out of their terms.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.network import ADAPTER, AUXILIARY, DCN
from projects.learning import AuxiliaryHead, Distillation, KnowledgeDistillation, StudentAdapter


def masked_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum over tasks of the mean h over rows with a known target: (B, T), (B, T) -> ().

    A task without any known target in the batch adds 0, not NaN. Targets may be soft.
    """
    known = targets.isfinite()
    each = F.binary_cross_entropy_with_logits(logits, targets.nan_to_num(0.0), reduction="none") * known  # (B, T)
    return (each.sum(dim=0) / known.sum(dim=0).clamp(min=1)).sum()


def scale_gradient(x: Tensor, scale: float) -> Tensor:
    """The same value; ``scale`` times the gradient (the auxiliary head's beta)."""
    return x if scale == 1.0 else x.detach() + scale * (x - x.detach())


def teacher_probability(logits: Tensor) -> Tensor:
    """p, NaN where the teacher left no prediction."""
    return logits.sigmoid()


class Adapter(nn.Module):
    """g: a small MLP on the teacher's logit that follows fresh labels: (B, T) -> (B, T), each task on its own.

    It starts as the identity, so that it recalibrates from the teacher and not from noise.
    """

    def __init__(self, declared: StudentAdapter, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 2)
            self.inner = nn.Linear(1, declared.hidden)
            self.outer = nn.Linear(declared.hidden, 1)
            nn.init.zeros_(self.outer.weight)
            nn.init.zeros_(self.outer.bias)

    def forward(self, logits: Tensor) -> Tensor:
        bent: Tensor = self.outer(torch.tanh(self.inner(logits.unsqueeze(2)))).squeeze(
            2
        )  # (B, T) -> (B, T, 1) -> (B, T)
        return logits + bent


def adapter_loss(adapter: Adapter, teacher: Tensor, labels: Tensor) -> Tensor:
    """h(g(p), y) over rows with both: what g alone learns from."""
    both = teacher.isfinite() & labels.isfinite()
    targets = torch.where(both, labels, torch.nan)
    return masked_bce(adapter(teacher.nan_to_num(0.0)), targets)


def student_loss(
    network: DCN,
    hidden: Tensor,
    labels: Tensor,
    teacher: Tensor | None,
    distillation: Distillation,
    adapter: Adapter | None,
) -> Tensor:
    """The whole loss of a batch.

    Args:
        hidden: (B, T, H), the backbone's output.
        labels: (B, T).
        teacher: (B, T) logits, ``None`` without a teacher.
        adapter: fitted already in this step; no gradient reaches it.
    """
    served = network.serving(hidden)
    loss = masked_bce(served, labels)
    if distillation is None or teacher is None:
        return loss
    p = teacher_probability(teacher)
    if isinstance(distillation, KnowledgeDistillation):
        return loss + distillation.weight * masked_bce(served, p)
    return (
        loss
        + auxiliary_loss(network, hidden, p, distillation)
        + _adapted(network, hidden, teacher, distillation, adapter)
    )


def auxiliary_loss(network: DCN, hidden: Tensor, p: Tensor, head: AuxiliaryHead) -> Tensor:
    """w h(y_D, min(alpha p, 1)), its gradient into the backbone times beta."""
    distilled = network.heads[AUXILIARY](scale_gradient(hidden, head.gradient_scale))
    return head.weight * masked_bce(distilled, (head.label_scale * p).clamp(max=1.0))


def _adapted(
    network: DCN, hidden: Tensor, teacher: Tensor, head: AuxiliaryHead, adapter: Adapter | None
) -> Tensor | float:
    """h(y_D2, SG(g(p))), with the same gradient scaling as the head beside it."""
    if head.adapter is None or adapter is None:
        return 0.0
    with torch.no_grad():
        bent = adapter(teacher.nan_to_num(0.0)).sigmoid()
        target = torch.where(teacher.isfinite(), bent, torch.nan)
    distilled = network.heads[ADAPTER](scale_gradient(hidden, head.gradient_scale))
    return head.adapter.weight * masked_bce(distilled, target)
