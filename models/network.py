"""Networks of S members: a trunk, serving heads, and the heads that only distillation uses.

Belongs here: the assembly, and the spec that a checkpoint keeps of it.
Not here: the embedding table (embedding.py), trunks (trunks.py), losses (distillation.py).
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from exfm.declaration import declaration
from exfm.networks import Network
from models import trunks
from models.history import TargetAttention
from models.jagged import Jagged
from models.layers import MLP, Head
from models.trunk_parts import NUMBERS, Sizes, Trunk


@declaration
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
        late: fields that came when the network had learnt (``NUMBERS`` for those made of its first numbers), for a
            family that keeps them apart.
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
    late: tuple[str, ...] = ()

    @property
    def id_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.ids)

    @property
    def fields(self) -> tuple[str, ...]:
        """What has an embedding: id columns, then histories."""
        return (*self.id_names, *(name for name, _ in self.histories))

    @property
    def shape(self) -> "NetworkSpec":
        """What members of one learner must have in common: all but which tasks and which teachers."""
        return replace(self, tasks=tuple("-" for _ in self.tasks), teachers=())

    @property
    def width(self) -> int:
        """D of the flattened input: embeddings, attended histories, numbers."""
        return (len(self.ids) + len(self.histories)) * self.network.embedding + len(self.numbers)


def trunk_of(members: int, spec: NetworkSpec) -> Trunk:
    """The declared family's trunk: the class of its name in trunks.py."""
    family: Callable[[int, Network, Sizes], Trunk] = getattr(trunks, type(spec.network).__name__)
    sizes = Sizes(
        fields=len(spec.ids) + len(spec.histories),
        numbers=len(spec.numbers),
        tasks=len(spec.tasks),
        item_fields=tuple(map(spec.id_names.index, spec.item_ids)),
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
        fields (S, B, F, E), numbers (S, B, D), histories' keys -> backbone's output (S, B, T or 1, H)
    """

    def __init__(
        self, members: int, spec: NetworkSpec, seed: int, heads: dict[str, int], towers: dict[str, int]
    ) -> None:
        super().__init__()
        tasks, width = len(spec.tasks), spec.network.output_width
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
            attend(key, fields[:, :, index], history).unsqueeze(2).to(fields.dtype)
            for attend, index, key, history in zip(self.attention, self.targets, keys, lists, strict=True)
        ]
        hidden: Tensor = self.trunk(torch.cat([fields, *attended], dim=2) if attended else fields, numbers)
        return hidden
