"""Networks: which function a teacher or a student is, and how wide.

Belongs here: families and their sizes. Not here: their maths (models/), what they read (a model's ``inputs``).
Naming a history among the inputs gives any of them target attention over it (DIN).
"""

from dataclasses import dataclass

from exfm.declaration import Declaration
from exfm.errors import DeclarationError, at_least, at_most, not_empty

MOST_LAYERS = 1_000  # each is a module of its own


@dataclass(frozen=True, kw_only=True)
class _Network(Declaration):
    """What all families have.

    Args:
        embedding: width of an id's embedding.
        hidden: widths of the layers above the interactions; the last one is the backbone's output.
        attention: width of the layer that scores a history's items against the target.
    """

    embedding: int = 8
    hidden: tuple[int, ...] = (64,)
    attention: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        name = type(self).__name__
        not_empty(f"{name}.hidden", self.hidden, what="layer")
        at_least(f"{name}.hidden", min(self.hidden), 1)
        at_most(f"{name}.hidden", len(self.hidden), MOST_LAYERS)
        for field in ("embedding", "attention"):
            at_least(f"{name}.{field}", getattr(self, field), 1)


@dataclass(frozen=True, kw_only=True)
class DCNv2(_Network):
    """Crosses of all inputs, then layers or gated experts (arXiv 2008.13535): final ranking, and teachers.

    Args:
        cross: cross layers over the flattened input, 0 for none.
        cross_rank: factor of their weights (``None``: full).
        experts: gated experts per task and surface (MMoE), 1 for one shared trunk.
    """

    cross: int = 1
    cross_rank: int | None = None
    experts: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("DCNv2.cross", self.cross, 0)
        at_most("DCNv2.cross", self.cross, MOST_LAYERS)
        at_least("DCNv2.experts", self.experts, 1)
        if self.cross_rank is not None:
            at_least("DCNv2.cross_rank", self.cross_rank, 1)


@dataclass(frozen=True, kw_only=True)
class Wukong(_Network):
    """Stacked factorisation machines (arXiv 2403.02545): a teacher that grows by ``layers`` and ``fields``.

    Args:
        layers: each doubles the order of the interactions.
        fields: embeddings that a layer gives to the next, from factorisation machines and from linear compression each.
        rank: columns of the learned projection in place of all pairs of fields.
        mixer: width of the layer that turns a factorisation machine's pairs into embeddings.
        experts: as in ``DCNv2``.
    """

    layers: int = 2
    fields: int = 8
    rank: int = 8
    mixer: int = 64
    experts: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in ("layers", "fields", "rank", "mixer", "experts"):
            at_least(f"Wukong.{field}", getattr(self, field), 1)
        at_most("Wukong.layers", self.layers, MOST_LAYERS)


@dataclass(frozen=True, kw_only=True)
class DLRM(_Network):
    """Dot products of all pairs of embeddings, beside a layer over the numbers (arXiv 1906.00091): early ranking."""


@dataclass(frozen=True, kw_only=True)
class DeepFM(_Network):
    """A factorisation machine beside layers, over the same embeddings (arXiv 1703.04247): early ranking."""


@dataclass(frozen=True, kw_only=True)
class TwoTower(_Network):
    """The inner product of a tower over the item and one over all else: retrieval.

    Item side are the item column and the views whose only entity it is; the rest is the request's side.
    """

    hidden: tuple[int, ...] = (64, 32)


Network = DCNv2 | Wukong | DLRM | DeepFM | TwoTower
FAMILIES: dict[str, type[Network]] = {family.__name__: family for family in (DCNv2, Wukong, DLRM, DeepFM, TwoTower)}


def experts_of(network: Network) -> int:
    """Gated experts; 1 for a family without."""
    return network.experts if isinstance(network, DCNv2 | Wukong) else 1


def student_network(where: str, network: Network) -> None:
    """Refuse what only a teacher can use.

    Raises:
        DeclarationError: for gated experts.
    """
    if experts_of(network) > 1:
        raise DeclarationError(f"{where}: experts={experts_of(network)} is for teachers: use experts=1")
