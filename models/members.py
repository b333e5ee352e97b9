"""The members of a learner, and what a pass over a slice reports of them.

Belongs here: plain values, and how many members one pass takes. Not here: the loop (learner.py).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from exfm.distillation import Distillation
from models.network_spec import NetworkSpec

# glibc maps a larger block anew whenever it is asked for, page by page: steps took 1.4 times as long per member.
LARGEST_BLOCK = 32 * 2**20
Each = TypeVar("Each")


@dataclass(frozen=True)
class Member:
    """One network of a learner, and what it learns from beside labels."""

    spec: NetworkSpec
    distillation: Distillation = None


def abreast(members: Sequence[Each], spec: NetworkSpec, batch_size: int, device: str) -> list[list[Each]]:
    """Members in the fewest passes, as even as can be, in which a batch's inputs of all fit into one cheap block.

    On a GPU it is always one: its memory is pooled, and more members cost it least.
    """
    each = 4 * batch_size * max(spec.width, *spec.network.hidden)  # bytes of float32
    most = max(LARGEST_BLOCK // each, 1) if device == "cpu" else len(members)
    passes = -(-len(members) // most)
    bounds = [len(members) * index // passes for index in range(passes + 1)]
    return [list(members[bounds[index] : bounds[index + 1]]) for index in range(passes)]


@dataclass(frozen=True)
class FitReport:
    """What a pass over a slice did.

    Args:
        rows: that were passed over.
        labelled: how many of them had a known label of each member's task.
        losses: each member's mean over the steps, ``None`` if nothing was learnt.
    """

    rows: int
    steps: int
    labelled: tuple[int, ...]
    losses: tuple[float | None, ...]
    seconds: float

    @classmethod
    def of_parts(cls, parts: Sequence["FitReport"]) -> "FitReport":
        """One of several passes, each over a part of the slice; losses are the mean over all steps."""
        if len(parts) == 1:
            return parts[0]
        steps = sum(part.steps for part in parts)
        each = zip(*(part.losses for part in parts), strict=True)  # member by member
        sums = [sum((loss or 0.0) * part.steps for part, loss in zip(parts, losses, strict=True)) for losses in each]
        return cls(
            rows=sum(part.rows for part in parts),
            steps=steps,
            labelled=tuple(map(sum, zip(*(part.labelled for part in parts), strict=True))),
            losses=tuple(total / steps if steps else None for total in sums),
            seconds=sum(part.seconds for part in parts),
        )

    @property
    def loss(self) -> float | None:
        """The first member's."""
        return self.losses[0]

    @property
    def error(self) -> str | None:
        """What is wrong with the first member's loss, ``None`` if it is finite or nothing was learnt."""
        if self.loss is None or math.isfinite(self.loss):
            return None
        return f"the mean loss is {self.loss} after {self.steps} steps: lower Training.learning_rate"

    def of(self, member: int) -> "FitReport":
        """One member's part; the pass and its seconds are shared."""
        return FitReport(self.rows, self.steps, (self.labelled[member],), (self.losses[member],), self.seconds)

    @property
    def examples_per_second(self) -> float:
        return self.rows / max(self.seconds, 1e-9)
