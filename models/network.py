"""Networks of S members: a trunk, serving heads, and the heads that only distillation uses.

Belongs here: the assembly, and the spec that a checkpoint keeps of it.
Not here: the embedding table (embedding.py), trunks (trunks.py), losses (distillation.py).
"""

import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from exfm.networks import DLRM, FAMILIES, DCNv2, DeepFM, Network, TwoTower, Wukong
from models import trunks
from models.history import TargetAttention
from models.jagged import Jagged
from models.layers import MLP, Head


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """All that building a network needs; plain values, so that a manifest can hold it.

    Args:
        ids: (column, embedding rows) of each id column, in order.
        numbers: number columns, in order.
        tasks: T tasks, in order.
        network: the declared family and its sizes.
        histories: (history, the id column whose ids it lists), in order.
        item_ids, item_numbers: those of the item alone, for a network with two towers.
        teachers: whose logits supervise it.
        surface: the id column that says where an impression was shown.
    """

    ids: tuple[tuple[str, int], ...]
    numbers: tuple[str, ...]
    tasks: tuple[str, ...]
    network: Network
    histories: tuple[tuple[str, str], ...] = ()
    item_ids: tuple[str, ...] = ()
    item_numbers: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    surface: str = "surface"

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "NetworkSpec":
        """Back from what ``to_json`` and JSON made of it."""
        family = FAMILIES[plain["network"]["type"]]
        sizes = {
            one.name: _tuples(plain["network"][one.name]) for one in fields(family) if one.name in plain["network"]
        }
        values = {one.name: _tuples(plain[one.name]) for one in fields(cls) if one.name in plain}
        return cls(**{**values, "network": family(**sizes)})

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "network": {"type": type(self.network).__name__, **asdict(self.network)}}

    @property
    def id_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.ids)

    @property
    def shape(self) -> "NetworkSpec":
        """What members of one learner must have in common: all but which tasks and which teachers."""
        return replace(self, tasks=tuple("-" for _ in self.tasks), teachers=())

    @property
    def width(self) -> int:
        """D of the flattened input: embeddings, attended histories, numbers."""
        return (len(self.ids) + len(self.histories)) * self.network.embedding + len(self.numbers)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def trunk_of(members: int, spec: NetworkSpec) -> nn.Module:
    """The declared family's trunk."""
    network, tasks = spec.network, len(spec.tasks)
    sizes = (len(spec.ids) + len(spec.histories), len(spec.numbers))
    if isinstance(network, DCNv2):
        return trunks.DCNv2(members, network, *sizes, tasks)
    if isinstance(network, Wukong):
        return trunks.Wukong(members, network, *sizes, tasks)
    if isinstance(network, DLRM):
        return trunks.DLRM(members, network, *sizes, tasks)
    if isinstance(network, DeepFM):
        return trunks.DeepFM(members, network, *sizes, tasks)
    if isinstance(network, TwoTower):
        item_fields = tuple(spec.id_names.index(name) for name in spec.item_ids)
        return trunks.TwoTower(members, network, *sizes, item_fields, tuple(map(spec.numbers.index, spec.item_numbers)))
    raise TypeError(f"network: {type(network).__name__} is no family: use one of {', '.join(FAMILIES)}")


def output_width(network: Network) -> int:
    """H, the width of the backbone's output."""
    return network.hidden[-1] + (network.embedding if isinstance(network, DeepFM) else 0)


class Networks(nn.Module):
    """S networks of one shape, with a serving head a task.

    Args:
        heads: kind of distillation head -> how many members' pairs have one; ``towers``: widths of their own layer.

    Shape:
        fields (S, B, F, E), numbers (S, B, D), histories' keys -> backbone's output (S, B, T or 1, H)
    """

    def __init__(
        self, members: int, spec: NetworkSpec, seed: int, heads: dict[str, int], towers: dict[str, int]
    ) -> None:
        super().__init__()
        tasks, width = len(spec.tasks), output_width(spec.network)
        self.targets = [spec.id_names.index(of) for _, of in spec.histories]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.trunk = trunk_of(members, spec)
            self.serving = Head(members, tasks, width)
            sizes = (spec.network.embedding, spec.network.attention)
            self.attention = nn.ModuleList(TargetAttention(members, *sizes) for _ in spec.histories)
            self.heads, self.towers = nn.ModuleDict(), nn.ModuleDict()
            for kind, count in heads.items():
                # Seeded apart, so that a member begins with the same bits whatever heads it or others have.
                torch.manual_seed(seed + 1 + zlib.crc32(kind.encode()))
                if kind in towers:
                    self.towers[kind] = MLP(count, width, (towers[kind],))
                self.heads[kind] = Head(count, tasks, towers.get(kind, width))

    def forward(self, fields: Tensor, numbers: Tensor, keys: Sequence[Tensor], lists: Sequence[Jagged]) -> Tensor:
        """keys: (S, V, E) of each history."""
        attended = [
            attend(key, fields[:, :, place], history).unsqueeze(2).to(fields.dtype)
            for attend, place, key, history in zip(self.attention, self.targets, keys, lists, strict=True)
        ]
        hidden: Tensor = self.trunk(torch.cat([fields, *attended], dim=2) if attended else fields, numbers)
        return hidden
