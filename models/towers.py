"""The towers of a ``TwoTower`` apart: vectors whose inner product, and an offset, is the logit.

Belongs here: which inputs each tower reads, whether they meet nowhere before the end, one tower over its inputs alone.
Not here: both together (serving_network.py), writing them as ONNX (export.py), an index of items (serving/).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from exfm.encoding import Encoding
from models.learner import Learner
from models.network_spec import NetworkSpec, positions_of
from models.serving_network import ServingNetwork
from models.trunks import TwoTower

USER, ITEM = "user", "item"  # the order of the trunk's towers
SIDES = (USER, ITEM)


@dataclass(frozen=True)
class TowerInputs:
    """What one tower reads, by name, in the order of the whole network's inputs.

    Args:
        lists: bags, then what stands beside their ids; ``pooled``: the bags alone.
    """

    ids: tuple[str, ...]
    numbers: tuple[str, ...]
    vectors: tuple[str, ...]
    lists: tuple[str, ...]
    pooled: tuple[str, ...]

    @classmethod
    def of(cls, spec: NetworkSpec, side: str) -> "TowerInputs":
        def mine(names: tuple[str, ...], items: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name for name in names if (name in items) == (side == ITEM))

        pooled = mine(spec.pooled, spec.item_ids)
        beside = tuple(each.name for each in spec.sides if each.list in pooled)
        vectors = mine(tuple(name for name, _ in spec.vectors), spec.item_ids)
        ids, numbers = mine(spec.id_names, spec.item_ids), mine(spec.numbers, spec.item_numbers)
        return cls(ids, numbers, vectors, (*pooled, *beside), pooled)


def joined_by(spec: NetworkSpec, encoder: Mapping[str, Encoding]) -> str | None:
    """What makes one tower's vector depend on the other's inputs, in a few words; ``None``: nothing does."""
    if len(spec.tasks) > 1:
        return f"it predicts {len(spec.tasks)} tasks, which have products of their own"
    attended = [name for name, _ in spec.histories]
    attended += [bag.name for bag in spec.bags if bag.pooling == "attention"]
    if attended:
        return f"{attended[0]} is pooled by attention to the item"
    items, read = {*spec.item_ids, *spec.item_numbers}, {*spec.fields, *spec.numbers}
    for name in spec.id_names:
        # What is read only as a part has no side here: of that the server asks the project.
        for part in sorted({*_parts(name, encoder)} & read):
            if (part in items) != (name in items):
                return f"{name} is made of {part}, which is of the other tower"
    return None


def _parts(name: str, encoder: Mapping[str, Encoding]) -> Iterator[str]:
    """All columns that an id is made of."""
    for part in encoder[name].of if name in encoder else ():
        yield part
        yield from _parts(part, encoder)


class Tower(nn.Module):
    """One side's vector: v_user = w * tower(request), v_item = tower(item), so that v_user . v_item + offset = logit.

    The weights w of the serving head are the request's, so that the item's vectors are of the tower alone.

    Shape:
        fields (N, F', E) of its id columns, numbers (N, D') of its numbers and vectors, its lists as in
        ``ServingNetwork`` -> (N, H)
    """

    def __init__(self, network: ServingNetwork, side: str) -> None:
        super().__init__()
        self.network, self.side, self.inputs = network, side, TowerInputs.of(network.spec, side)
        self.trunk, self.head = cast(TwoTower, network.trunk), network.serving
        spec, mine = network.spec, self.inputs
        vectors = {position for name, width in spec.vectors if name in mine.vectors
                   for position in positions_of(name, width)}  # fmt: skip
        self.fields_at = _places(spec.id_names, set(mine.ids))
        self.numbers_at = _places((*spec.numbers, *spec.positions), {*mine.numbers, *vectors})

    def forward(self, fields: Tensor, numbers: Tensor, *lists: Tensor) -> Tensor:
        rows, width = fields.shape[0], fields.shape[2]
        count = len(self.inputs.lists)
        keys = dict(zip(self.inputs.lists, lists[:count], strict=True))
        lengths = dict(zip(self.inputs.pooled, lists[count:], strict=True))
        # What the other tower reads is zero here, and nothing of it is read.
        fields = torch.cat([fields, fields.new_zeros(rows, 1, width)], dim=1)[:, self.fields_at]
        numbers = torch.cat([numbers, numbers.new_zeros(rows, 1)], dim=1)[:, self.numbers_at]
        nothing, none = fields.new_zeros(1, 1, width), torch.zeros(1, dtype=torch.int64, device=fields.device)
        both = self.network.read(
            fields,
            numbers,
            *(keys.get(name, nothing) for name, _ in self.network.spec.lists),
            *(lengths.get(name, none) for name in self.network.spec.pooled),
        )
        vector = self.trunk.sides(*both)[SIDES.index(self.side)].squeeze(0)
        return vector * self.head.weight[0, 0] if self.side == USER else vector

    @property
    def names(self) -> Iterator[tuple[str, list[str | int]]]:
        """Inputs by name with their shapes, as of the whole network."""
        shapes, mine = dict(self.network.names()), self.inputs
        yield "fields", ["rows", len(mine.ids), shapes["fields"][2]]
        widths = dict(self.network.spec.vectors)
        yield "numbers", ["rows", len(mine.numbers) + sum(widths[name] for name in mine.vectors)]
        yield from ((f"list:{name}", shapes[f"list:{name}"]) for name in mine.lists)
        yield from ((f"length:{name}", shapes[f"length:{name}"]) for name in mine.pooled)


def _places(names: tuple[str, ...], mine: set[str]) -> list[int]:
    """Of each input of the whole network its place among a tower's own; behind them, where there is a zero, if none."""
    own = [name for name in names if name in mine]
    return [own.index(name) if name in mine else len(own) for name in names]


def towers_of(learner: Learner) -> dict[str, Tower]:
    """Both, of a learner whose inputs are ``joined_by`` nothing."""
    network = ServingNetwork(learner)
    return {side: Tower(network, side) for side in SIDES}


def offset_of(learner: Learner) -> float:
    """What is added to the product of both vectors: the serving head's bias."""
    return float(learner.networks.serving.bias.detach()[0, 0])
