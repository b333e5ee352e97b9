"""Losses: labels, and what is learned from teachers' logits.

Belongs here: the maths of each term (docs/method.md has the table), for S members at once.
Not here: adapters (adapters.py), optimiser steps (learner.py).
h is the binary cross-entropy on logits; unknown labels and predictions are NaN and left out of their terms.
"""

import torch.nn.functional as F
from torch import Tensor

from models.network import Networks
from models.supervision_pairs import ADAPTER, SERVED, SupervisionPairs


def masked_bce(logits: Tensor, targets: Tensor, weights: Tensor | None = None) -> Tensor:
    """Sum over tasks of the mean h over rows with a known target: (S, B, T), (S, B, T) -> (S,).

    A task without any known target in the batch adds 0, not NaN. Targets may be soft.

    Args:
        weights: (B,), 1 in the mean of a slice: a row's h counts so often.
    """
    known = targets.isnan().logical_not()  # two kernels where isfinite takes four: a small step is bound by them
    each = F.binary_cross_entropy_with_logits(logits, targets.nan_to_num(0.0), reduction="none") * known  # (S, B, T)
    each = each if weights is None else each * weights.view(1, -1, 1)
    return (each.sum(dim=1) / known.sum(dim=1).clamp(min=1)).sum(dim=1)


def scale_gradient(x: Tensor, scale: Tensor) -> Tensor:
    """The same value; ``scale`` times the gradient (the auxiliary head's beta)."""
    return x.detach() + scale * (x - x.detach())


def losses(
    networks: Networks,
    pairs: SupervisionPairs,
    hidden: Tensor,
    labels: Tensor,
    teacher_logits: Tensor | None,
    calibrated: Tensor | None,
    share: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """The whole loss of each member on a batch, (S,); members share no parameter, so their sum trains each alone.

    Args:
        hidden: (S, B, T or 1, H), the backbone's output.
        labels: (S, B, T).
        teacher_logits: (P, B, T) teachers' logits of each pair, ``None`` without pairs.
        calibrated: (A, B, T) recalibrated probabilities of pairs with an adapter; no gradient goes through them.
        share: (P,) of each pair's weight that is given, ``None`` for all.
        weights: (B,) of the rows, in every term; ``None``: 1 each.
    """
    served = networks.serving(hidden)
    total = masked_bce(served, labels, weights)
    for kind, term in pairs.terms.items() if teacher_logits is not None else ():
        assert teacher_logits is not None
        p = teacher_logits[term.pairs].sigmoid()
        if kind == SERVED:
            each = term.weight * masked_bce(served[term.members], p, weights)
        else:
            x = hidden[term.members]
            x = x if term.gradient_scale is None else scale_gradient(x, term.gradient_scale)
            if kind in networks.towers:
                x = networks.towers[kind](x.flatten(1, 2)).unflatten(1, x.shape[1:3])
            logits = networks.heads[kind](x)
            if kind == ADAPTER:
                assert calibrated is not None
                p = calibrated
            p = p if term.label_scale is None else (term.label_scale * p).clamp(max=1.0)
            each = term.weight * masked_bce(logits, p, weights)
            if kind in networks.towers:
                # What the tower learns of labels counts only where it learns of the teacher: it is there for both.
                each = each + masked_bce(logits, labels[term.members], weights)
        each = each if share is None else each * share[term.pairs]
        total = total.index_add(0, term.members, each)
    return total
