"""Trunks: from embedded fields and numbers to the backbone's output, one class a family.

Belongs here: how a declared family is put together, under the name that it has in exfm/networks.py.
Not here: its layers (interactions.py), heads, the table.
Every trunk maps fields (S, B, F, E) and numbers (S, B, D) to (S, B, T or 1, H).
"""

from itertools import combinations
from typing import cast

import torch
from torch import Tensor, nn

from exfm import networks
from models.axes import Axes, InputNames, below
from models.interactions import CrossNet, PooledPairs, pair_products
from models.layers import MLP, Linear
from models.trunk_parts import NUMBERS, Sizes, Trunk, axes_of_layers, by_task, flat, layers_of, tower
from models.wukong import WukongLayer


class DCNv2(Trunk):
    """Crosses, then layers or gated experts."""

    def __init__(self, members: int, network: networks.DCNv2, sizes: Sizes) -> None:
        super().__init__()
        fields, numbers, tasks = sizes[:3]
        width = fields * network.embedding + numbers
        self.cross = CrossNet(members, width, network.cross, network.cross_rank)
        self.layers = layers_of(members, width, network, tasks)

    def forward(self, fields: Tensor, numbers: Tensor) -> Tensor:
        return by_task(self.layers(self.cross(flat(fields, numbers))))

    def axes(self, names: InputNames) -> dict[str, Axes]:
        labels = names.all_flat
        return {**below("cross", self.cross.axes(labels)), **below("layers", axes_of_layers(self.layers, labels))}


class Wukong(Trunk):
    """Numbers become fields; stacked factorisation machines; layers or gated experts."""

    keeps_late_apart = True

    def __init__(self, members: int, network: networks.Wukong, sizes: Sizes) -> None:
        super().__init__()
        fields, numbers, tasks = sizes[:3]
        width, out = network.embedding, network.fields
        self.width = width
        self.dense = Linear(members, numbers, out * width) if numbers else None
        before = [fields + (out if numbers else 0), *[2 * out] * (network.layers - 1)]
        late = [*sizes.late, *(range(fields, before[0]) if sizes.late_numbers else ())]
        self.stack = nn.ModuleList(
            WukongLayer(members, n, out, width, network.rank, network.mixer, () if index else late)
            for index, n in enumerate(before)
        )
        self.layers = layers_of(members, 2 * out * width, network, tasks)

    def forward(self, fields: Tensor, numbers: Tensor) -> Tensor:
        if self.dense is not None:
            fields = torch.cat([fields, self.dense(numbers).unflatten(2, (-1, self.width)).to(fields.dtype)], dim=2)
        for layer in self.stack:
            fields = layer(fields)
        return by_task(self.layers(fields.flatten(2)))

    def axes(self, names: InputNames) -> dict[str, Axes]:
        first = cast(WukongLayer, self.stack[0])
        made = [(NUMBERS, index) for index in range(first.fields)] if self.dense is not None else []
        return {**below("stack.0", first.axes((*names.fields, *made))), "dense.weight": Axes(reads=names.numbers)}

    def implied(self) -> dict[str, Tensor]:
        return below("stack.0", cast(WukongLayer, self.stack[0]).implied())


class DLRM(Trunk):
    """Numbers become one more field; dot products of all pairs; layers."""

    def __init__(self, members: int, network: networks.DLRM, sizes: Sizes) -> None:
        super().__init__()
        fields, numbers = sizes.fields, sizes.numbers
        self.bottom = MLP(members, numbers, (network.embedding,)) if numbers else None
        count, dense = (fields + 1, network.embedding) if numbers else (fields, 0)
        self.layers = MLP(members, count * (count - 1) // 2 + fields * network.embedding + dense, network.hidden)

    def forward(self, fields: Tensor, numbers: Tensor) -> Tensor:
        if self.bottom is not None:
            fields = torch.cat([fields, self.bottom(numbers).unsqueeze(2).to(fields.dtype)], dim=2)
        return by_task(self.layers(torch.cat([pair_products(fields), fields.flatten(2)], dim=2)))

    def axes(self, names: InputNames) -> dict[str, Axes]:
        fields = (*names.fields, *((NUMBERS,) if self.bottom is not None else ()))
        read = (*map(frozenset, combinations(fields, 2)), *names.flat(fields))
        return {"layers.layers.0.weight": Axes(reads=read), "bottom.layers.0.weight": Axes(reads=names.numbers)}


class DeepFM(Trunk):
    """Layers beside a factorisation machine; the head weighs the machine's pooled pairs instead of summing them."""

    keeps_late_apart = True

    def __init__(self, members: int, network: networks.DeepFM, sizes: Sizes) -> None:
        super().__init__()
        self.layers = MLP(members, sizes.fields * network.embedding + sizes.numbers, network.hidden)
        self.machine = PooledPairs(members, sizes.fields, sizes.late)

    def forward(self, fields: Tensor, numbers: Tensor) -> Tensor:
        deep = self.layers(flat(fields, numbers))
        return by_task(torch.cat([deep, self.machine(fields).to(deep.dtype)], dim=2))

    def axes(self, names: InputNames) -> dict[str, Axes]:
        late = tuple(names.fields[at] for at in self.machine.late)
        return {"layers.layers.0.weight": Axes(reads=names.all_flat), "machine.weight": Axes(makes=late)}


class TwoTower(Trunk):
    """A tower over the item's fields and numbers, one over all else, multiplied.

    The head's weights fold into either side, so serving is an inner product and an index can be built of items.
    """

    def __init__(self, members: int, network: networks.TwoTower, sizes: Sizes) -> None:
        super().__init__()
        fields, numbers, _, item_fields, item_numbers = sizes[:5]
        self.item = (list(item_fields), list(item_numbers))
        self.other = (
            [index for index in range(fields) if index not in item_fields],
            [index for index in range(numbers) if index not in item_numbers],
        )
        widths = [len(side[0]) * network.embedding + len(side[1]) for side in (self.other, self.item)]
        self.below = network.hidden[:-1]
        self.towers = nn.ModuleList(tower(members, width, network.hidden) for width in widths)

    def sides(self, fields: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """The request's and the item's vector: (S, B, H) each."""
        parts = (flat(fields[:, :, side[0]], numbers[:, :, side[1]]) for side in (self.other, self.item))
        request, item = (side(part) for side, part in zip(self.towers, parts, strict=True))
        return request, item

    def forward(self, fields: Tensor, numbers: Tensor) -> Tensor:
        request, item = self.sides(fields, numbers)
        return by_task(request * item)

    def axes(self, names: InputNames) -> dict[str, Axes]:
        axes = {}
        first = "0.layers.0" if self.below else "1"
        for side, (fields, numbers) in enumerate((self.other, self.item)):
            read = names.flat([names.fields[at] for at in fields], [names.numbers[at] for at in numbers])
            axes[f"towers.{side}.{first}.weight"] = Axes(reads=read)
        return axes
