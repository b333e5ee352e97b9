"""Feature interactions: how embedded fields and numbers meet.

Belongs here: layers of S members from (S, B, D) or fields (S, B, F, E). Not here: table, heads, losses.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from models.axes import Axes, Labels, below
from models.layers import Linear, alike


class CrossNet(nn.Module):
    """Explicit crosses of all inputs, order by order (DCN-v2, arXiv 2008.13535).

    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l, so L layers hold every cross up to order L + 1.

    Args:
        members: S.
        width: D, the flattened input's width.
        depth: L; 0 hands the input through.
        rank: factors each W_l into (D, r) (r, D): 2Dr weights instead of D^2. ``None`` keeps it full.

    Shape:
        (S, B, D) -> (S, B, D)

    Raises:
        ValueError: if ``rank`` would not save anything.

    Example::

        >>> CrossNet(members=1, width=8, depth=2)(torch.zeros(1, 4, 8)).shape
        torch.Size([1, 4, 8])
    """

    def __init__(self, members: int, width: int, depth: int, rank: int | None = None) -> None:
        super().__init__()
        if rank is not None and rank >= width / 2:
            raise ValueError(f"DCNv2.cross_rank: {rank} saves nothing at width {width}: use one below it by half")
        self.layers = nn.ModuleList(self._mix(members, width, rank) for _ in range(depth))

    @staticmethod
    def _mix(members: int, width: int, rank: int | None) -> nn.Module:
        if rank is None:
            return Linear(members, width, width)
        return nn.Sequential(Linear(members, width, rank, bias=False), Linear(members, rank, width))

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for mix in self.layers:
            x = torch.addcmul(x, x0, mix(x))  # (S, B, D): one kernel for x + x0 * mix(x)
        return x

    def axes(self, labels: Labels) -> dict[str, Axes]:
        """Of every weight, by the labels of the D inputs: each reads and makes all of them, or has two factors."""
        axes: dict[str, Axes] = {}
        for index, mix in enumerate(self.layers):
            if isinstance(mix, nn.Sequential):
                factors = {"0.weight": Axes(reads=labels), "1.weight": Axes(makes=labels), "1.bias": Axes(makes=labels)}
            else:
                factors = {"weight": Axes(reads=labels, makes=labels), "bias": Axes(makes=labels)}
            axes |= below(f"layers.{index}", factors)
        return axes


class GatedExperts(nn.Module):
    """Multi-gate mixture of experts (MMoE, Ma et al., KDD 2018): each task mixes the experts with its own gate.

    h_t = sum_k softmax(G_t x)_k expert_k(x). The gate sees the whole input, the surface's embedding among it, so
    the mixture differs by task and by surface.

    Args:
        members, width, experts, tasks: S, D, K, T.
        hidden: widths of every expert's layers.

    Shape:
        (S, B, D) -> (S, B, T, hidden[-1])
    """

    def __init__(self, members: int, width: int, hidden: tuple[int, ...], experts: int, tasks: int) -> None:
        super().__init__()
        self.members, self.experts, self.tasks = members, experts, tasks
        self.first = Linear(members, width, experts * hidden[0])
        towers = [(1 / math.sqrt(a), a, b) for a, b in pairwise(hidden)]
        self.weights = nn.ParameterList(
            alike(members, torch.empty(experts, a, b).uniform_(-bound, bound)) for bound, a, b in towers
        )
        self.biases = nn.ParameterList(
            alike(members, torch.empty(experts, 1, b).uniform_(-bound, bound)) for bound, _, b in towers
        )
        self.gate = Linear(members, width, tasks * experts)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x)).unflatten(2, (self.experts, -1))  # (S, B, D) -> (S, B, K, H)
        h = h.transpose(1, 2).flatten(0, 1)  # (S, B, K, H) -> (SK, B, H)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = torch.relu(torch.baddbmm(bias.flatten(0, 1), h, weight.flatten(0, 1)))  # (SK, B, H) -> (SK, B, H')
        gate = self.gate(x).unflatten(2, (self.tasks, self.experts)).softmax(dim=3)  # (S, B, D) -> (S, B, T, K)
        h = h.unflatten(0, (self.members, self.experts)).transpose(1, 2)  # (SK, B, H') -> (S, B, K, H')
        return torch.matmul(gate.to(h.dtype), h)  # (S, B, T, K) (S, B, K, H') -> (S, B, T, H')


def pair_products(fields: Tensor) -> Tensor:
    """Dot products of all pairs of fields: (S, B, F, E) -> (S, B, F (F - 1) / 2)."""
    count = int(fields.shape[2])  # a constant in a graph
    products = torch.matmul(fields, fields.transpose(2, 3))  # (S, B, F, F)
    left, right = torch.triu_indices(count, count, offset=1, device=fields.device)
    return products[:, :, left, right]


def pooled_pairs(fields: Tensor) -> Tensor:
    """Sum over all pairs of fields of their elementwise product, in linear time: (S, B, F, E) -> (S, B, E)."""
    return 0.5 * (fields.sum(dim=2).square() - fields.square().sum(dim=2))


class PooledPairs(nn.Module):
    """The same; it has no weights that could read late fields apart, so each of them has one, from zero on.

    Args:
        members, fields: S, F.
        late: positions of fields that came when the network had learnt.

    Shape:
        (S, B, F, E) -> (S, B, E)
    """

    def __init__(self, members: int, fields: int, late: tuple[int, ...]) -> None:
        super().__init__()
        self.fields, self.late = fields, late
        self.weight = alike(members, torch.zeros(len(late))) if late else None

    def forward(self, fields: Tensor) -> Tensor:
        if self.weight is not None:
            weights = self.weight.new_ones(len(self.weight), self.fields)
            weights[:, list(self.late)] = self.weight
            fields = fields * weights[:, None, :, None]  # (S, B, F, E) (S, 1, F, 1)
        return pooled_pairs(fields)
