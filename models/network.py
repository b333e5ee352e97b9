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
from models.history import Pooled, TargetAttention
from models.jagged import Jagged
from models.layers import MLP, Head, Linear
from models.trunk_parts import NUMBERS, Sizes, Trunk


@declaration
class BagSpec:
    """Several ids of each row, pooled into one field.

    Args:
        of: the id column whose embedding rows they share, or whose embedding they are attended with; ``None``: neither.
        rows: embedding rows of their own; 0: those of ``of``.
        pooling: ``mean``, ``sum`` or ``attention``.
        target: the id column that attention looks at.
    """

    name: str
    of: str | None
    rows: int
    pooling: str
    target: str | None = None


@declaration
class NetworkSpec:
    """All that building a network needs; plain values, so that a manifest can hold it.

    Args:
        ids: (column, embedding rows) of each id column, in order.
        numbers: number columns, in order.
        tasks: T tasks, in order.
        network: the declared family and its sizes.
        histories: (history, the id column whose ids it lists), in order.
        item_ids, item_numbers: fields and numbers of the item alone, for a network with two towers.
        teachers: whose logits supervise it.
        surface: the id column that says where an impression was shown.
        unbounded: numbers of the log, whose statistics outliers may not make.
        bags: lists that are pooled, in order.
        vectors: (vector, its width), each projected to a field, in order.
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
    bags: tuple[BagSpec, ...] = ()
    vectors: tuple[tuple[str, int], ...] = ()
    unbounded: tuple[str, ...] = ()

    @property
    def id_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.ids)

    @property
    def fields(self) -> tuple[str, ...]:
        """What has an embedding: id columns, histories, bags, vectors."""
        lists = (*(name for name, _ in self.histories), *(bag.name for bag in self.bags))
        return (*self.id_names, *lists, *(name for name, _ in self.vectors))

    @property
    def lists(self) -> tuple[tuple[str, str], ...]:
        """(list, the table's column whose rows its ids have) of histories, then bags."""
        own = ((bag.name, bag.of if not bag.rows and bag.of else bag.name) for bag in self.bags)
        return (*self.histories, *own)

    @property
    def table(self) -> tuple[tuple[str, int], ...]:
        """(column, embedding rows) of the table: id columns, then bags with rows of their own."""
        return (*self.ids, *((bag.name, bag.rows) for bag in self.bags if bag.rows))

    @property
    def positions(self) -> tuple[str, ...]:
        """What each position of the vectors is called, after ``numbers``: both are normalised alike."""
        return tuple(position for name, width in self.vectors for position in positions_of(name, width))

    @property
    def shape(self) -> "NetworkSpec":
        """What members of one learner must have in common: all but which tasks and which teachers."""
        return replace(self, tasks=tuple("-" for _ in self.tasks), teachers=())

    @property
    def width(self) -> int:
        """D of the flattened input: fields, numbers."""
        return len(self.fields) * self.network.embedding + len(self.numbers)


def positions_of(vector: str, width: int) -> tuple[str, ...]:
    """The positions of a vector as columns of ``SliceTensors.numbers``."""
    return tuple(f"{vector}[{at}]" for at in range(width))


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
            self.heads, self.towers = nn.ModuleDict(), nn.ModuleDict()
            for kind, count in heads.items():
                # Seeded apart, so that a member begins with the same bits whatever heads it or others have.
                torch.manual_seed(seed + 1 + zlib.crc32(kind.encode()))
                if kind in towers:
                    self.towers[kind] = MLP(count, width, (towers[kind],))
                self.heads[kind] = Head(count, tasks, towers.get(kind, width))

    def forward(self, fields: Tensor, numbers: Tensor, keys: Sequence[Tensor], lists: Sequence[Jagged]) -> Tensor:
        """keys: (S, V, E) of each history, then of each bag."""
        poolings = [*self.attention, *self.bags.values()]
        made = [
            pool(key, fields[:, :, index], each).unsqueeze(2).to(fields.dtype)
            for pool, index, key, each in zip(poolings, self.targets, keys, lists, strict=True)
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
