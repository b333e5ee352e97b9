"""The spec of a network: all that building it needs, as a checkpoint's manifest keeps it.

Belongs here: plain values, and what follows from them. Not here: the network (network.py), what is declared of inputs
(exfm/inputs.py).
"""

from dataclasses import replace

from exfm.declaration import declaration
from exfm.networks import Network


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
class SideSpec:
    """What happened beside each id of a list: one id more at each of its places.

    Args:
        list: the history or the bag.
        of: the column of the table whose embedding rows it shares; ``None``: it has rows of its own. Of an id column
            the impression's own id is added to what attention looks at.
        rows: embedding rows of its own, or 0.
    """

    name: str
    list: str
    of: str | None
    rows: int


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
        quantiles: (id column, ranges K) of those ids that are a number's range between running quantiles.
        sides: what stands beside the ids of histories and bags, in order.
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
    sides: tuple[SideSpec, ...] = ()
    quantiles: tuple[tuple[str, int], ...] = ()

    @property
    def id_names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.ids)

    @property
    def fields(self) -> tuple[str, ...]:
        """What has an embedding: id columns, histories, bags, vectors."""
        return (*self.id_names, *self.pooled, *(name for name, _ in self.vectors))

    @property
    def lists(self) -> tuple[tuple[str, str], ...]:
        """(list, the table's column whose rows its ids have) of histories, then bags, then what is beside them."""
        own = ((bag.name, bag.of if not bag.rows and bag.of else bag.name) for bag in self.bags)
        return (*self.histories, *own, *((side.name, side.of or side.name) for side in self.sides))

    @property
    def pooled(self) -> tuple[str, ...]:
        """Those lists that become a field each."""
        return (*(name for name, _ in self.histories), *(bag.name for bag in self.bags))

    @property
    def table(self) -> tuple[tuple[str, int], ...]:
        """(column, embedding rows) of the table: id columns, then bags and sides that have rows of their own."""
        bags = ((bag.name, bag.rows) for bag in self.bags if bag.rows)
        return (*self.ids, *bags, *((side.name, side.rows) for side in self.sides if side.rows))

    @property
    def positions(self) -> tuple[str, ...]:
        """What each position of the vectors is called, after ``numbers``: both are normalised alike."""
        return tuple(position for name, width in self.vectors for position in positions_of(name, width))

    @property
    def shape(self) -> "NetworkSpec":
        """What members of one learner must have in common: all but which tasks and which teachers."""
        return replace(self, tasks=tuple("-" for _ in self.tasks), teachers=())

    @property
    def loose(self) -> list[int]:
        """Positions, among numbers and those of vectors, of those that nobody has bounded."""
        names = {*self.unbounded, *self.positions}
        return [at for at, name in enumerate((*self.numbers, *self.positions)) if name in names]

    @property
    def width(self) -> int:
        """D of the flattened input: fields, numbers."""
        return len(self.fields) * self.network.embedding + len(self.numbers)


def positions_of(vector: str, width: int) -> tuple[str, ...]:
    """The positions of a vector as columns of ``SliceTensors.numbers``."""
    return tuple(f"{vector}[{at}]" for at in range(width))
