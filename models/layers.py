"""Layers of S networks at once: every weight has a leading dimension of members, every product is batched over it.

Belongs here: what any network is made of. Not here: how features meet (interactions.py), which network (trunks.py).

Small networks are bound by the number of operations, not by their size: S of them cost little more than one. Members
begin with the same bits, so each is drawn once. The same members give the same bits; a member alone and beside others
agree to rounding, for a matrix product's last digit depends on where in memory its operands begin.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def alike(members: int, drawn: Tensor) -> nn.Parameter:
    """One draw for all members: (...) -> (S, ...)."""
    return nn.Parameter(drawn.unsqueeze(0).repeat(members, *[1] * drawn.dim()))


class Linear(nn.Module):
    """x W + b, drawn as ``torch.nn.Linear`` is.

    Shape:
        (S, B, D) -> (S, B, D')
    """

    def __init__(self, members: int, width: int, out: int, bias: bool = True) -> None:
        super().__init__()
        bound = 1 / math.sqrt(width)
        self.weight = alike(members, torch.empty(out, width).uniform_(-bound, bound).T)
        self.bias = alike(members, torch.empty(1, out).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return torch.bmm(x, self.weight) if self.bias is None else torch.baddbmm(self.bias, x, self.weight)


class MLP(nn.Module):
    """Linear layers, each followed by a ReLU.

    Shape:
        (S, B, D) -> (S, B, hidden[-1])
    """

    def __init__(self, members: int, width: int, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Linear(members, before, after) for before, after in pairwise((width, *hidden)))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.relu(layer(x))
        return x


class LayerNorm(nn.Module):
    """Over the last dimension, with weights of each member's own.

    Args:
        members, width: S, D.
        counted: the positions whose mean and variance all are normalised by; ``None``: all of them.

    Shape:
        (S, ..., D) -> (S, ..., D)
    """

    EPS = 1e-5
    counted: Tensor | None

    def __init__(self, members: int, width: int, counted: Sequence[int] | None = None) -> None:
        super().__init__()
        self.width = width
        self.weight = alike(members, torch.ones(width))
        self.bias = alike(members, torch.zeros(width))
        positions = None if counted is None else torch.tensor(counted, dtype=torch.int64)
        self.register_buffer("counted", positions, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        shape = (len(self.weight), *[1] * (x.dim() - 2), self.width)  # (S, D) -> (S, 1, ..., D)
        return self._normalised(x) * self.weight.view(shape) + self.bias.view(shape)

    def _normalised(self, x: Tensor) -> Tensor:
        if self.counted is None:
            return F.layer_norm(x, (self.width,))
        x = x.float()
        variance, mean = torch.var_mean(x.index_select(-1, self.counted), dim=-1, correction=0, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + self.EPS)


class Head(nn.Module):
    """A logit a task from the backbone's output, in float32.

    Shape:
        (S, B, T or 1, H) -> (S, B, T)
    """

    def __init__(self, members: int, tasks: int, width: int) -> None:
        super().__init__()
        self.weight = alike(members, torch.empty(tasks, width).uniform_(-1, 1) / math.sqrt(width))
        self.bias = alike(members, torch.zeros(tasks))

    def forward(self, hidden: Tensor) -> Tensor:
        each = (hidden.float() * self.weight.unsqueeze(1)).sum(dim=3)  # (S, B, T, H) -> (S, B, T)
        return each + self.bias.unsqueeze(1)
