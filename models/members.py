"""The members of a learner, and what a pass over a slice reports of them.

Belongs here: plain values. Not here: the loop (learner.py).
"""

from dataclasses import dataclass

from models.network import NetworkSpec
from projects.distillation import Distillation


@dataclass(frozen=True)
class Member:
    """One network of a learner, and what it learns from beside labels."""

    spec: NetworkSpec
    distillation: Distillation = None


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

    @property
    def loss(self) -> float | None:
        """The first member's."""
        return self.losses[0]

    def of(self, member: int) -> "FitReport":
        """One member's part; the pass and its seconds are shared."""
        return FitReport(self.rows, self.steps, (self.labelled[member],), (self.losses[member],), self.seconds)

    @property
    def examples_per_second(self) -> float:
        return self.rows / max(self.seconds, 1e-9)
