"""Networks of S members: a trunk, serving heads, and the heads that only distillation uses.

Belongs here: the assembly. Not here: what it is built from (network_spec.py), the table (embedding.py), trunks
(trunks.py), losses (distillation.py).
"""

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from exfm.networks import Network
from models import trunks
from models.history import Pooled, TargetAttention
from models.jagged import Jagged
from models.layers import MLP, Head, Linear
from models.network_spec import BagSpec, NetworkSpec
from models.sides import Sides
from models.trunk_parts import NUMBERS, Sizes, Trunk


def trunk_of(members: int, spec: NetworkSpec) -> Trunk:
    """The declared family's trunk: the class of its name in trunks.py."""
    family: Callable[[int, Network, Sizes], Trunk] = getattr(trunks, type(spec.network).__name__)
    sizes = Sizes(
        fields=len(spec.fields),
        numbers=len(spec.numbers),
        tasks=len(spec.tasks),
        item_fields=tuple(map(spec.fields.index, spec.item_ids)),
        item_numbers=tuple(map(spec.numbers.index, spec.item_numbers)),
        late=tuple(at for at, name in enumerate(spec.fields) if name in spec.late),
        late_numbers=NUMBERS in spec.late,
    )
    return family(members, spec.network, sizes)


class Networks(nn.Module):
    """S networks of one shape, with a serving head a task.

    Args:
        heads: kind of distillation head -> how many members' pairs have one; ``towers``: widths of their own layer.

    Shape:
        fields (S, B, F, E), numbers (S, B, D and vectors), keys (S, V, E) -> backbone's output (S, B, T or 1, H)
    """

    def __init__(
        self, members: int, spec: NetworkSpec, seed: int, heads: dict[str, int], towers: dict[str, int]
    ) -> None:
        super().__init__()
        tasks, width = len(spec.tasks), spec.network.output_width
        self.targets = [spec.id_names.index(of) for _, of in spec.histories]
        self.targets += [spec.id_names.index(bag.target) if bag.target else 0 for bag in spec.bags]
        self.widths = [len(spec.numbers), *(wide for _, wide in spec.vectors)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk = trunk_of(members, spec)
            self.serving = Head(members, tasks, width)
            sizes = (spec.network.embedding, spec.network.attention)
            self.attention = nn.ModuleList(TargetAttention(members, *sizes) for _ in spec.histories)
            # By name, so that a grown network finds them.
            self.bags = nn.ModuleDict({bag.name: _pooling(bag, members, sizes) for bag in spec.bags})
            self.vectors = nn.ModuleDict({name: Linear(members, wide, sizes[0]) for name, wide in spec.vectors})
            self.sides = Sides(members, spec)
            self.heads, self.towers = nn.ModuleDict(), nn.ModuleDict()
            for kind, count in heads.items():
                # Seeded apart, so that a member begins with the same bits whatever heads it or others have.
                torch.manual_seed(seed + 1 + zlib.crc32(kind.encode()))
                if kind in towers:
                    self.towers[kind] = MLP(count, width, (towers[kind],))
                self.heads[kind] = Head(count, tasks, towers.get(kind, width))

    @torch.no_grad()
    def begin_at(self, logits: Tensor, members: Mapping[str, Tensor]) -> None:
        """Let heads predict these logits (S, T), whatever is read.

        Args:
            members: kind of distillation head -> which member each is of.
        """
        self.serving.bias.copy_(logits)
        for kind, head in self.heads.items():
            cast(Head, head).bias.copy_(logits[members[kind]])

    def forward(self, fields: Tensor, numbers: Tensor, keys: Sequence[Tensor], lists: Sequence[Jagged]) -> Tensor:
        """keys: (S, V, E) of each history, then of each bag, then of what stands beside them."""
        poolings = [*self.attention, *self.bags.values()]
        targets = [fields[:, :, index] for index in self.targets]
        keys, targets = self.sides(keys, targets, fields)
        made = [
            pool(key, target, each).unsqueeze(2).to(fields.dtype)
            for pool, target, key, each in zip(poolings, targets, keys, lists[: len(poolings)], strict=True)
        ]
        numbers, *vectors = numbers.split(self.widths, dim=2)
        made += [
            project(vector).unsqueeze(2).to(fields.dtype)
            for project, vector in zip(self.vectors.values(), vectors, strict=True)
        ]
        hidden: Tensor = self.trunk(torch.cat([fields, *made], dim=2) if made else fields, numbers)
        return hidden


def _pooling(bag: BagSpec, members: int, sizes: tuple[int, int]) -> nn.Module:
    return TargetAttention(members, *sizes) if bag.pooling == "attention" else Pooled(mean=bag.pooling == "mean")
