"""Which input each position of a weight belongs to, so that a trained weight finds its place in a larger network.

Belongs here: names of inputs, and of the positions of a weight. Not here: which weights those are (each trunk and layer
says it of its own), placing them (growth.py).
"""

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

Labels = tuple[Hashable, ...]
Each = TypeVar("Each")


class Axes(NamedTuple):
    """What the positions of a weight belong to, where that depends on the inputs.

    Args:
        reads: along its first axis, what is read: what is added there begins at zero, so that nothing new is read yet.
        makes: along its last axis, what is made: what is added there begins as in a fresh network.
    """

    reads: Labels | None = None
    makes: Labels | None = None


@dataclass(frozen=True)
class InputNames:
    """What a trunk's inputs are called, in its order.

    Args:
        fields: id columns and histories; ``numbers``: number columns; ``width``: E of a field.
    """

    fields: tuple[str, ...]
    numbers: tuple[str, ...]
    width: int

    def flat(self, fields: Iterable[str], numbers: Iterable[str] = ()) -> Labels:
        """Of each position of flattened fields, with numbers behind them."""
        return (*((name, at) for name in fields for at in range(self.width)), *numbers)

    @property
    def all_flat(self) -> Labels:
        return self.flat(self.fields, self.numbers)


def below(module: str, of: Mapping[str, Each]) -> dict[str, Each]:
    """What is said of a module's parameters, by their names in what holds it."""
    return {f"{module}.{name}": each for name, each in of.items()}
