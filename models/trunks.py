"""Trunks: from embedded fields and numbers to the backbone's output, one class a family.

Belongs here: how a declared family is put together, under the name that it has in exfm/networks.py.
Not here: its layers (interactions.py), heads, the table.
Every trunk maps fields (S, B, F, E) and numbers (S, B, D) to (S, B, T or 1, H).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from exfm import networks
from exfm.networks import Network
from models.interactions import CrossNet, GatedExperts, WukongLayer, pair_products, pooled_pairs
from models.layers import MLP, Linear


class Sizes(NamedTuple):
    """What a trunk is built for.

    Args:
        fields: F embeddings and attended histories; ``numbers``: D number columns; ``tasks``: T.
        item_fields, item_numbers: positions of the item's own, for a family with two sides.
    """

    fields: int
    numbers: int
    tasks: int
    item_fields: tuple[int, ...] = ()
    item_numbers: tuple[int, ...] = ()


def layers_of(members: int, width: int, network: Network, tasks: int) -> nn.Module:
    """The layers above the interactions: gated experts where declared, else one MLP."""
    if network.gated_experts > 1:
        return GatedExperts(members, width, network.hidden, network.gated_experts, tasks)
    return MLP(members, width, network.hidden)


def by_task(hidden: Tensor) -> Tensor:
    """(S, B, H) -> (S, B, 1, H): without experts all tasks share one output."""
    return hidden if hidden.dim() == 4 else hidden.unsqueeze(2)


def flat(fields: Tensor, numbers: Tensor) -> Tensor:
    """(S, B, F, E), (S, B, D) -> (S, B, F E + D)"""
    return torch.cat([fields.flatten(2), numbers.to(fields.dtype)], dim=2)


class DCNv2(nn.Module):
    """Crosses, then layers or gated experts."""

    def __init__(self, members: int, network: networks.DCNv2, sizes: Sizes) -> None:
        super().__init__()
        fields, numbers, tasks = sizes[:3]
        width = fields * network.embedding + numbers
        self.cross = CrossNet(members, width, network.cross, network.cross_rank)
        self.layers = layers_of(members, width, network, tasks)

    def forward(self, fields: Tensor, numbers: Tensor) -> Tensor:
        return by_task(self.layers(self.cross(flat(fields, numbers))))


class Wukong(nn.Module):
    """Numbers become fields; stacked factorisation machines; layers or gated experts."""

    def __init__(self, members: int, network: networks.Wukong, sizes: Sizes) -> None:
        super().__init__()
        fields, numbers, tasks = sizes[:3]
        width, out = network.embedding, network.fields
        self.width = width
        self.dense = Linear(members, numbers, out * width) if numbers else None
        before = [fields + (out if numbers else 0), *[2 * out] * (network.layers - 1)]
        self.stack = nn.ModuleList(WukongLayer(members, n, out, width, network.rank, network.mixer) for n in before)
        self.layers = layers_of(members, 2 * out * width, network, tasks)

    def forward(self, fields: Tensor, numbers: Tensor) -> Tensor:
        if self.dense is not None:
            fields = torch.cat([fields, self.dense(numbers).unflatten(2, (-1, self.width)).to(fields.dtype)], dim=2)
        for layer in self.stack:
            fields = layer(fields)
        return by_task(self.layers(fields.flatten(2)))


class DLRM(nn.Module):
    """Numbers become one more field; dot products of all pairs; layers."""

    def __init__(self, members: int, network: networks.DLRM, sizes: Sizes) -> None:
        super().__init__()
        fields, numbers = sizes.fields, sizes.numbers
        self.bottom = MLP(members, numbers, (network.embedding,)) if numbers else None
        count = fields + (1 if numbers else 0)
        dense = network.embedding if numbers else 0
        self.layers = MLP(members, count * (count - 1) // 2 + fields * network.embedding + dense, network.hidden)

    def forward(self, fields: Tensor, numbers: Tensor) -> Tensor:
        if self.bottom is not None:
            fields = torch.cat([fields, self.bottom(numbers).unsqueeze(2).to(fields.dtype)], dim=2)
        return by_task(self.layers(torch.cat([pair_products(fields), fields.flatten(2)], dim=2)))


class DeepFM(nn.Module):
    """Layers beside a factorisation machine; the head weighs the machine's pooled pairs instead of summing them."""

    def __init__(self, members: int, network: networks.DeepFM, sizes: Sizes) -> None:
        super().__init__()
        fields, numbers = sizes.fields, sizes.numbers
        self.layers = MLP(members, fields * network.embedding + numbers, network.hidden)

    def forward(self, fields: Tensor, numbers: Tensor) -> Tensor:
        deep = self.layers(flat(fields, numbers))
        return by_task(torch.cat([deep, pooled_pairs(fields).to(deep.dtype)], dim=2))


class TwoTower(nn.Module):
    """A tower over the item's fields and numbers, one over all else, multiplied.

    The head's weights fold into either side, so serving is an inner product and an index can be built of items.
    """

    def __init__(self, members: int, network: networks.TwoTower, sizes: Sizes) -> None:
        super().__init__()
        fields, numbers, _, item_fields, item_numbers = sizes
        self.item = (list(item_fields), list(item_numbers))
        self.other = (
            [index for index in range(fields) if index not in item_fields],
            [index for index in range(numbers) if index not in item_numbers],
        )
        widths = [len(side[0]) * network.embedding + len(side[1]) for side in (self.other, self.item)]
        *below, out = network.hidden
        self.towers = nn.ModuleList(_tower(members, width, tuple(below), out) for width in widths)

    def sides(self, fields: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The request's and the item's vector: (S, B, H) each."""
        parts = [flat(fields[:, :, side[0]], numbers[:, :, side[1]]) for side in (self.other, self.item)]
        request, item = (tower(part) for tower, part in zip(self.towers, parts, strict=True))
        return request, item

    def forward(self, fields: Tensor, numbers: Tensor) -> Tensor:
        request, item = self.sides(fields, numbers)
        return by_task(request * item)


def _tower(members: int, width: int, below: tuple[int, ...], out: int) -> nn.Module:
    return nn.Sequential(MLP(members, width, below), Linear(members, below[-1] if below else width, out))
