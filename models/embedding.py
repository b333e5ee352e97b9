"""The embedding table: one weight for all id columns, updated by row-wise Adagrad where a batch touched it.

Belongs here: looking rows up, and the one optimiser that never reads an untouched row.
Not here: hashing ids (models/batch.py), dense parameters (the learner's Adam).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.batch import bucketize


@dataclass(frozen=True)
class Touched:
    """The rows of a batch: a leaf of autograd, so that ``values.grad`` sums the gradients of equal rows.

    Args:
        rows: (U,) distinct rows, ascending.
        values: (U, E) their weights, requiring a gradient.
        embedded: (B, F, E) the batch, gathered from ``values``.
    """

    rows: Tensor
    values: Tensor
    embedded: Tensor


class EmbeddingTable:
    """One (sum of rows, E) weight with an offset per column, and one float of Adagrad state per row.

    With G the summed gradient of a touched row (Duchi 2011; row-wise as in torchrec's ``RowWiseAdagrad``):
    s += mean(G^2), row -= learning_rate * G / (sqrt(s) + eps). Cost grows with the batch, never with the table.

    Args:
        rows: embedding rows of each of the F columns.
        width: E.
        generator: of the initial weights; always drawn on the CPU, so that every device begins alike.
        device: where the table lies.
    """

    EPS = 1e-8
    INITIAL_STD = 0.01

    def __init__(
        self, rows: Sequence[int], width: int, generator: torch.Generator, device: torch.device | str = "cpu"
    ) -> None:
        sizes = torch.tensor(rows, dtype=torch.int64)
        self.sizes = sizes.to(device)
        self.offsets = (sizes.cumsum(0) - sizes).to(device)
        self.weight = torch.empty(int(sizes.sum()), width).normal_(0, self.INITIAL_STD, generator=generator).to(device)
        self.accumulator = torch.zeros(len(self.weight), device=device)

    def rows_of(self, hashes: Tensor) -> Tensor:
        """Row numbers of a whole slice's hashes, (N, F) -> (N, F): once per slice, not per step."""
        return bucketize(hashes, self.sizes) + self.offsets

    def lookup(self, rows: Tensor) -> Tensor:
        """Weights for scoring, (B, F) -> (B, F, E)."""
        return F.embedding(rows, self.weight)

    def touch(self, rows: Tensor) -> Touched:
        """Weights for training, from rows (B, F)."""
        distinct, place = torch.unique(rows, return_inverse=True)
        values = self.weight.index_select(0, distinct).requires_grad_()
        return Touched(distinct, values, F.embedding(place, values))

    @torch.no_grad()
    def update(self, touched: Touched, learning_rate: float) -> None:
        """One step of row-wise Adagrad after the backward pass; rows outside the batch keep their bits."""
        if touched.values.grad is None:
            return
        gradient = touched.values.grad  # (U, E)
        state = self.accumulator.index_select(0, touched.rows) + gradient.square().mean(dim=1)  # (U,)
        self.accumulator.index_copy_(0, touched.rows, state)
        step = gradient * (learning_rate / (state.sqrt() + self.EPS)).unsqueeze(1)  # (U, E)
        self.weight.index_copy_(0, touched.rows, touched.values.detach() - step)

    def state(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "accumulator": self.accumulator}
