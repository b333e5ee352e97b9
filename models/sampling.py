"""Learning from a share of the rows without a positive: which ones, and how many each of them stands for.

Belongs here: the draw, and weights that make up for it. Not here: steps (learner.py), weights of the log (batch.py).
"""

import hashlib
from dataclasses import replace

import torch

from models.batch import SliceTensors


def with_fewer_negatives(tensors: SliceTensors, share: float, order: str) -> SliceTensors:
    """All rows with a positive label of any task, and a share of the others, each of which counts 1 / share.

    Sums over rows are in expectation those of all rows, so what learns from them is calibrated as ever and needs no
    correction of its logits, nor do students and teachers who are sampled otherwise (importance weights; that a logit
    can be corrected instead is in King and Zeng, Political Analysis 2001).

    Args:
        share: in (0, 1].
        order: the draw follows from it, and from the number of rows.

    Shape:
        N rows -> about P + share (N - P)
    """
    if share == 1.0:
        return tensors
    seed = int.from_bytes(hashlib.blake2b(f"negatives/{order}".encode(), digest_size=7).digest(), "little")
    drawn = torch.rand(len(tensors), generator=torch.Generator().manual_seed(seed)).to(tensors.labels.device)
    positive = (tensors.labels > 0).any(dim=1)  # of any task, so that it is the same rows whoever else learns from them
    weights = torch.ones_like(drawn) if tensors.weights is None else tensors.weights
    weighted = replace(tensors, weights=torch.where(positive, weights, weights / share))
    return weighted.take(positive | (drawn < share))
