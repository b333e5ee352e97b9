"""What trunks of all families have: sizes, names of what each weight reads, layers above the interactions.

Belongs here: the base of trunks, and helpers that several share. Not here: families (trunks.py), how a trained trunk
grows (growth.py).
"""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from exfm.networks import Network
from models.axes import Axes, InputNames, Labels
from models.interactions import GatedExperts
from models.layers import MLP, Linear

NUMBERS = "numbers:"  # the fields that a trunk makes of its numbers; no column is called so


class Sizes(NamedTuple):
    """What a trunk is built for.

    Args:
        fields: F embeddings and attended histories; ``numbers``: D number columns; ``tasks``: T.
        item_fields, item_numbers: positions of the item's own, for a family with two sides.
        late: positions of fields that came when the network had learnt; ``late_numbers``: whether numbers did.
    """

    fields: int
    numbers: int
    tasks: int
    item_fields: tuple[int, ...] = ()
    item_numbers: tuple[int, ...] = ()
    late: tuple[int, ...] = ()
    late_numbers: bool = False


class Trunk(nn.Module):
    """Base of all families: maps fields (S, B, F, E) and numbers (S, B, D) to (S, B, T or 1, H).

    Attributes:
        keeps_late_apart: whether its fields meet before any weight reads them apart (a sum, a norm over all). Then one
            that comes late enters on its own terms, and the network's spec says which did.
    """

    keeps_late_apart: ClassVar[bool] = False

    def axes(self, names: InputNames) -> dict[str, Axes]:
        """By parameter, what depends on the inputs; all others are of the same shape whatever is read."""
        raise NotImplementedError

    def implied(self) -> dict[str, Tensor]:
        """Weights (S, ...) that it does without, and that a grown one needs."""
        return {}


def layers_of(members: int, width: int, network: Network, tasks: int) -> nn.Module:
    """The layers above the interactions: gated experts where declared, else one MLP."""
    if network.gated_experts > 1:
        return GatedExperts(members, width, network.hidden, network.gated_experts, tasks)
    return MLP(members, width, network.hidden)


def axes_of_layers(layers: nn.Module, labels: Labels) -> dict[str, Axes]:
    """The weights of ``layers_of`` that read its input."""
    names = ("first", "gate") if isinstance(layers, GatedExperts) else ("layers.0",)
    return {f"{name}.weight": Axes(reads=labels) for name in names}


def tower(members: int, width: int, hidden: tuple[int, ...]) -> nn.Module:
    """An MLP whose last layer has no ReLU."""
    *below, out = hidden
    return nn.Sequential(MLP(members, width, tuple(below)), Linear(members, below[-1] if below else width, out))


def by_task(hidden: Tensor) -> Tensor:
    """(S, B, H) -> (S, B, 1, H): without experts all tasks share one output."""
    return hidden if hidden.dim() == 4 else hidden.unsqueeze(2)


def flat(fields: Tensor, numbers: Tensor) -> Tensor:
    """(S, B, F, E), (S, B, D) -> (S, B, F E + D)"""
    return torch.cat([fields.flatten(2), numbers.to(fields.dtype)], dim=2)
