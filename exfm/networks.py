"""Networks: which function a teacher or a student is, and how wide.

Belongs here: families, their sizes, how many weights those are. Not here: their maths (models/trunks.py, where the
class of the same name builds a family's trunk), what they read (a model's ``inputs``).
Naming a history among the inputs gives any of them target attention over it (DIN).
"""

from collections.abc import Sequence
from functools import reduce
from itertools import pairwise
from operator import or_
from typing import TYPE_CHECKING, ClassVar

from exfm.declaration import Declaration, declaration
from exfm.errors import DeclarationError, at_least, at_most, not_empty

MOST_LAYERS = 1_000  # each is a module of its own


@declaration
class _Network(Declaration):
    """What all families have.

    Args:
        embedding: width of an id's embedding.
        hidden: widths of the layers above the interactions; the last one is the backbone's output.
        attention: width of the layer that scores a history's items against the target.

    Attributes:
        two_sided: whether the item's inputs and all others meet only at the end, so that neither side may be empty.
    """

    two_sided: ClassVar[bool] = False
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

    @property
    def gated_experts(self) -> int:
        """Gated experts; 1 for a family without."""
        return 1

    @property
    def output_width(self) -> int:
        """H, the width of the backbone's output."""
        return self.hidden[-1]

    def dense_weights(self, fields: int, numbers: int, tasks: int) -> int:
        """Weights beside the embedding table: here those of layers over the flattened inputs.

        Args:
            fields: embeddings and attended histories.
            numbers: D of the number columns.
            tasks: T.
        """
        return mlp_weights((self._input_width(fields, numbers), *self.hidden))

    def row_width(self, fields: int, numbers: int) -> int:
        """Floats that one row of a batch takes: its inputs, and what the layers make of them."""
        return self._input_width(fields, numbers) + self.gated_experts * sum(self.hidden)

    def check_width(self, where: str, width: int) -> None:
        """Refuse sizes that make the network larger where they should make it smaller.

        Args:
            width: of the flattened inputs.

        Raises:
            DeclarationError: with what to write.
        """

    def _input_width(self, fields: int, numbers: int) -> int:
        return fields * self.embedding + numbers

    def _layers(self, width: int, tasks: int) -> int:
        """Weights of the layers above the interactions, with the gates of experts."""
        experts = self.gated_experts
        return experts * mlp_weights((width, *self.hidden)) + (width * tasks * experts if experts > 1 else 0)


def mlp_weights(widths: Sequence[int]) -> int:
    """Weights of layers between these widths, but for their biases."""
    return sum(before * after for before, after in pairwise(widths))


@declaration
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

    @property
    def gated_experts(self) -> int:
        return self.experts

    def check_width(self, where: str, width: int) -> None:
        if self.cross_rank is not None and self.cross_rank >= width / 2:
            raise DeclarationError(
                f"{where}: cross_rank={self.cross_rank} saves nothing at width {width}: use one below half of it"
            )

    def dense_weights(self, fields: int, numbers: int, tasks: int) -> int:
        width = self._input_width(fields, numbers)
        cross = width * width if self.cross_rank is None else 2 * width * self.cross_rank
        return self.cross * cross + self._layers(width, tasks)

    def row_width(self, fields: int, numbers: int) -> int:
        return super().row_width(fields, numbers) + self.cross * self._input_width(fields, numbers)


@declaration
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

    @property
    def gated_experts(self) -> int:
        return self.experts

    def dense_weights(self, fields: int, numbers: int, tasks: int) -> int:
        out, dense = self.fields, numbers * self.fields * self.embedding
        before = fields + (out if numbers else 0)
        later = (self.layers - 1) * self._layer(2 * out)
        return dense + self._layer(before) + later + self._layers(2 * out * self.embedding, tasks)

    def row_width(self, fields: int, numbers: int) -> int:
        out = 2 * self.fields
        projected = (fields + (self.layers - 1) * out) * self.rank
        return super().row_width(fields, numbers) + projected + self.layers * (self.mixer + out * self.embedding)

    def _layer(self, before: int) -> int:
        mixed = before * self.rank * self.mixer + self.mixer * self.fields * self.embedding
        return mixed + before * (self.rank + 3 * self.fields)


@declaration
class DLRM(_Network):
    """Dot products of all pairs of embeddings, beside a layer over the numbers (arXiv 1906.00091): early ranking."""

    def dense_weights(self, fields: int, numbers: int, tasks: int) -> int:
        count, bottom = fields + (1 if numbers else 0), self.embedding if numbers else 0
        pairs = count * (count - 1) // 2
        return numbers * bottom + mlp_weights((pairs + fields * self.embedding + bottom, *self.hidden))


@declaration
class DeepFM(_Network):
    """A factorisation machine beside layers, over the same embeddings (arXiv 1703.04247): early ranking."""

    @property
    def output_width(self) -> int:
        return self.hidden[-1] + self.embedding


@declaration
class TwoTower(_Network):
    """The inner product of a tower over the item and one over all else: retrieval.

    Item side are the item column and the views whose only entity it is; the rest is the request's side.
    """

    two_sided: ClassVar[bool] = True
    hidden: tuple[int, ...] = (64, 32)

    def dense_weights(self, fields: int, numbers: int, tasks: int) -> int:
        # Both first layers share the width.
        return super().dense_weights(fields, numbers, tasks) + mlp_weights(self.hidden)


if TYPE_CHECKING:
    Network = _Network
else:
    Network = reduce(or_, _Network.__subclasses__())  # all families of this file: a value is read back as its own


def student_network(where: str, network: Network) -> None:
    """Refuse what only a teacher can use.

    Raises:
        DeclarationError: for gated experts.
    """
    if network.gated_experts > 1:
        raise DeclarationError(f"{where}: experts={network.gated_experts} is for teachers: use experts=1")
