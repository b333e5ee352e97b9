"""Feature interactions: how embedded fields and numbers meet.

Belongs here: layers from (B, D) to (B, D') or to (B, T, D').
Not here: the embedding table, heads, losses, anything that knows what a task means.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn


class CrossNet(nn.Module):
    """Explicit crosses of all inputs, order by order (DCN-v2, arXiv 2008.13535).

    x_{l+1} = x_0 * (W_l x_l + b_l) + x_l, so L layers hold every cross up to order L + 1.

    Args:
        width: D, the flattened input's width.
        depth: L; 0 hands the input through.
        rank: factors each W_l into (D, r) (r, D): 2Dr weights instead of D^2. ``None`` keeps it full.

    Shape:
        (B, D) -> (B, D)

    Raises:
        ValueError: if ``rank`` would not save anything.

    Example::

        >>> CrossNet(width=8, depth=2)(torch.zeros(4, 8)).shape
        torch.Size([4, 8])
    """

    def __init__(self, width: int, depth: int, rank: int | None = None) -> None:
        super().__init__()
        if rank is not None and rank >= width / 2:
            raise ValueError(f"Network.cross_rank: {rank} saves nothing at width {width}: use one below it by half")
        self.layers = nn.ModuleList(self._mix(width, rank) for _ in range(depth))

    @staticmethod
    def _mix(width: int, rank: int | None) -> nn.Module:
        if rank is None:
            return nn.Linear(width, width)
        return nn.Sequential(nn.Linear(width, rank, bias=False), nn.Linear(rank, width))

    def forward(self, x0: Tensor) -> Tensor:
        x = x0
        for mix in self.layers:
            x = torch.addcmul(x, x0, mix(x))  # (B, D): one kernel for x + x0 * mix(x)
        return x


class MLP(nn.Module):
    """Linear layers, each followed by a ReLU.

    Shape:
        (B, D) -> (B, hidden[-1])
    """

    def __init__(self, width: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise((width, *hidden)))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


class GatedExperts(nn.Module):
    """Multi-gate mixture of experts (MMoE, Ma et al., KDD 2018): each task mixes the experts with its own gate.

    h_t = sum_k softmax(G_t x)_k expert_k(x). The gate sees the whole input, the surface's embedding among it, so
    the mixture differs by task and by surface.

    Args:
        width: D.
        hidden: widths of every expert's layers.
        experts: K.
        tasks: T.

    Shape:
        (B, D) -> (B, T, hidden[-1])
    """

    def __init__(self, width: int, hidden: tuple[int, ...], experts: int, tasks: int) -> None:
        super().__init__()
        self.experts, self.tasks = experts, tasks
        self.first = nn.Linear(width, experts * hidden[0])
        towers = [[nn.Linear(a, b) for a, b in pairwise(hidden)] for _ in range(experts)]
        depth = range(len(hidden) - 1)
        self.weights = nn.ParameterList(torch.stack([t[i].weight.detach().T for t in towers]) for i in depth)
        self.biases = nn.ParameterList(torch.stack([t[i].bias.detach() for t in towers]).unsqueeze(1) for i in depth)
        self.gate = nn.Linear(width, tasks * experts)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x)).unflatten(1, (self.experts, -1)).transpose(0, 1)  # (B, D) -> (K, B, H)
        for weight, bias in zip(self.weights, self.biases, strict=True):
            h = torch.relu(torch.baddbmm(bias, h, weight))  # (K, B, H) -> (K, B, H')
        gate = self.gate(x).unflatten(1, (self.tasks, self.experts)).softmax(dim=2)  # (B, D) -> (B, T, K)
        return torch.bmm(gate.to(h.dtype), h.transpose(0, 1))  # (B, T, K) (B, K, H') -> (B, T, H')
