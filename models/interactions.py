"""Feature interactions: how embedded fields and numbers meet.

Belongs here: layers of S members from (S, B, D) or fields (S, B, F, E). Not here: table, heads, losses.
"""

import math
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from models.layers import MLP, LayerNorm, Linear, alike


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


class WukongLayer(nn.Module):
    """A factorisation-machine block beside a linear compression, with residual and norm (arXiv 2403.02545).

    FMB(X) = MLP(LN(flat(X (X^T Y)))) with a learned Y (F, r) in place of X X^T, so it costs F r E and not F^2 E;
    LCB(X) = W X. The next layer's fields are LN([FMB(X), LCB(X)] + R X), R the identity where the fields are as many.

    Args:
        members: S.
        before, fields: F fields come in; twice ``fields`` go out, half of each block.
        width: E.
        rank: r.
        mixer: width of the MLP's hidden layer.

    Shape:
        (S, B, F, E) -> (S, B, 2 fields, E)
    """

    def __init__(self, members: int, before: int, fields: int, width: int, rank: int, mixer: int) -> None:
        super().__init__()
        self.fields, self.width = fields, width
        self.project = Linear(members, before, rank, bias=False)
        self.norm_pairs = LayerNorm(members, before * rank)
        self.mix = MLP(members, before * rank, (mixer,))
        self.spread = Linear(members, mixer, fields * width)
        self.compress = Linear(members, before, fields, bias=False)
        self.residual = Linear(members, before, 2 * fields, bias=False) if before != 2 * fields else None
        self.norm = LayerNorm(members, width)

    @staticmethod
    def _over_fields(layer: nn.Module, turned: Tensor) -> Tensor:
        """A linear layer across fields: (S, B, E, F) -> (S, B, E, F')."""
        mixed: Tensor = layer(turned.flatten(1, 2))
        return mixed.view(*turned.shape[:3], mixed.shape[2])

    def forward(self, x: Tensor) -> Tensor:
        turned = x.transpose(2, 3)  # (S, B, F, E) -> (S, B, E, F)
        pairs = torch.matmul(x, self._over_fields(self.project, turned))  # (S, B, F, E) (S, B, E, r) -> (S, B, F, r)
        machine: Tensor = self.spread(self.mix(self.norm_pairs(pairs.flatten(2))))  # (S, B, fields E)
        machine = machine.unflatten(2, (self.fields, self.width))
        linear = self._over_fields(self.compress, turned).transpose(2, 3)  # (S, B, fields, E)
        kept = x if self.residual is None else self._over_fields(self.residual, turned).transpose(2, 3)
        return cast(Tensor, self.norm(torch.cat([machine.to(linear.dtype), linear], dim=2) + kept))


def pair_products(fields: Tensor) -> Tensor:
    """Dot products of all pairs of fields: (S, B, F, E) -> (S, B, F (F - 1) / 2)."""
    count = fields.shape[2]
    products = torch.matmul(fields, fields.transpose(2, 3))  # (S, B, F, F)
    left, right = torch.triu_indices(count, count, offset=1, device=fields.device)
    return products[:, :, left, right]


def pooled_pairs(fields: Tensor) -> Tensor:
    """Sum over all pairs of fields of their elementwise product, in linear time: (S, B, F, E) -> (S, B, E)."""
    return 0.5 * (fields.sum(dim=2).square() - fields.square().sum(dim=2))
