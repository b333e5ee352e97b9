"""The embedding table: one weight for all id columns, updated by row-wise Adagrad where a batch touched it.

Belongs here: looking rows up, and the one optimiser that never reads an untouched row.
Not here: hashing ids (hashing.py), dense parameters (the learner's Adam).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Touched:
    """The rows of a batch: a leaf of autograd, so that ``values.grad`` sums the gradients of equal rows.

    Args:
        rows: (U,) distinct rows, ascending.
        values: (U, S E) their weights, requiring a gradient.
        indices: for each requested tensor of rows, the indices of its rows in ``rows``; same shapes.
    """

    rows: Tensor
    values: Tensor
    indices: tuple[Tensor, ...]


class EmbeddingTable:
    """One (sum of rows, S, E) weight with an offset per column, and one float of Adagrad state per row and member.

    With G the summed gradient of a touched row (Duchi 2011; row-wise as in torchrec's ``RowWiseAdagrad``):
    s += mean(G^2), row -= learning_rate * G / (sqrt(s) + eps). Cost grows with the batch, never with the table.
    The rows of S members lie side by side, so that one pass finds, gathers and updates them for all.

    Args:
        rows: embedding rows of each of the F columns.
        width: E.
        members: S.
        generator: of the initial weights, the same for all; always drawn on the CPU, so that every device begins alike.
        device: where the table lies.
    """

    EPS = 1e-8
    INITIAL_STD = 0.01

    def __init__(
        self,
        rows: Sequence[int],
        width: int,
        members: int,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
    ) -> None:
        sizes = torch.tensor(rows, dtype=torch.int64)
        self.members, self.width = members, width
        self.sizes = sizes.to(device)
        self.offsets = (sizes.cumsum(0) - sizes).to(device)
        drawn = torch.empty(int(sizes.sum()), 1, width).normal_(0, self.INITIAL_STD, generator=generator)
        self.weight = drawn.to(device) if members == 1 else drawn.repeat(1, members, 1).to(device)
        self.accumulator = torch.zeros(len(self.weight), members, device=device)

    def rows_of(self, hashes: Tensor) -> Tensor:
        """Row numbers of a whole slice's hashes, (N, F) -> (N, F): once per slice, not per step."""
        columns = hashes.shape[1]  # bags with rows of their own come behind them
        return torch.remainder(hashes, self.sizes[:columns]).add_(self.offsets[:columns])

    def rows_in(self, column: int, hashes: Tensor) -> Tensor:
        """Row numbers of hashes of one column, any shape: a history shares the rows of the column that it lists."""
        return torch.remainder(hashes, self.sizes[column]).add_(self.offsets[column])

    def lookup(self, rows: Tensor) -> Tensor:
        """Weights for scoring: (...) -> (..., S E)."""
        return F.embedding(rows, self.weight.flatten(1))

    def touch(self, *rows: Tensor) -> Touched:
        """Weights for training, from tensors of rows of any shapes."""
        flat = torch.cat([tensor.flatten() for tensor in rows]) if len(rows) > 1 else rows[0].flatten()
        distinct, inverse = torch.unique(flat, return_inverse=True)
        values = self.weight.flatten(1).index_select(0, distinct).requires_grad_()
        parts = inverse.split([tensor.numel() for tensor in rows])
        return Touched(distinct, values, tuple(part.view_as(tensor) for part, tensor in zip(parts, rows, strict=True)))

    @torch.no_grad()
    def update(self, touched: Touched, learning_rate: float) -> None:
        """One step of row-wise Adagrad after the backward pass; rows outside the batch keep their bits."""
        if touched.values.grad is None:
            return
        gradient = touched.values.grad.unflatten(1, (self.members, self.width))  # (U, S, E)
        state = self.accumulator.index_select(0, touched.rows) + gradient.square().mean(dim=2)  # (U, S)
        self.accumulator.index_copy_(0, touched.rows, state)
        step = gradient * (learning_rate / (state.sqrt() + self.EPS)).unsqueeze(2)  # (U, S, E)
        self.weight.index_copy_(0, touched.rows, touched.values.detach().view_as(step) - step)

    def state(self, member: int) -> dict[str, Tensor]:
        """Views of a member's (R, E) weights and (R,) accumulator."""
        return {"weight": self.weight[:, member], "accumulator": self.accumulator[:, member]}
