"""Distillation: how a student learns from its teachers' predictions.

Belongs here: the parts and their knobs. Not here: the losses (models/distillation.py); symbols follow docs/method.md.
"""

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from exfm.clocks import MOST_SLICES
from exfm.declaration import Declaration, declaration
from exfm.errors import DeclarationError, above_zero, at_least, at_most, choose_from, unique

STALENESS, SURFACE = "staleness", "surface"
FEWEST_GAINS = 4  # with fewer, a standard error says nothing


@declaration
class KnowledgeDistillation(Declaration):
    """Plain KD on the served head: h(y_S, y) + weight * h(y_S, p)."""

    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("KnowledgeDistillation.weight", self.weight, 0)


@declaration
class StudentAdapter(Declaration):
    """A small MLP g on the teacher's logit, fitted to fresh labels; a second head learns from SG(g(p)).

    Args:
        hidden: width of g's one hidden layer.
        learning_rate: of g's own Adam.
        weight: of the second head's loss.
        context: what g sees beside the logit, of ``staleness`` (age of the teacher's snapshot) and ``surface``.
    """

    hidden: int = 8
    learning_rate: float = 1e-2
    weight: float = 1.0
    context: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("StudentAdapter.hidden", self.hidden, 1)
        at_least("StudentAdapter.weight", self.weight, 0)
        unique("StudentAdapter.context", self.context)
        for name in self.context:
            choose_from("StudentAdapter.context", name, (STALENESS, SURFACE), what="thing to tell")
        above_zero("StudentAdapter.learning_rate", self.learning_rate)


@declaration
class Recalibration(Declaration):
    """The teacher's probability recalibrated on the slices before this one; a second head learns from it.

    The baselines of a student adapter: a map of one scalar, fitted in closed form instead of by steps.

    Args:
        kind: ``platt`` (a logit's scale and shift) or ``isotonic`` (any rising map).
        half_life: slices after which an old one counts half.
        weight: of the second head's loss.
    """

    kind: str = "platt"
    half_life: float = 3.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        choose_from("Recalibration.kind", self.kind, ("platt", "isotonic"), what="map")
        at_least("Recalibration.weight", self.weight, 0)
        above_zero("Recalibration.half_life", self.half_life)


@declaration
class AuxiliaryHead(Declaration):
    """h(y_S, y) + weight * h(y_D, min(label_scale * p, 1)); its gradient into the backbone is times ``gradient_scale``.

    Args:
        weight: w, loss weighting.
        gradient_scale: beta, gradient scaling.
        label_scale: alpha, label scaling; above 1 only where rates are tiny.
        adapter: a student adapter, or a recalibration in its place; ``None`` for neither.
    """

    weight: float = 1.0
    gradient_scale: float = 1.0
    label_scale: float = 1.0
    adapter: StudentAdapter | Recalibration | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("AuxiliaryHead.weight", self.weight, 0)
        at_least("AuxiliaryHead.gradient_scale", self.gradient_scale, 0)
        above_zero("AuxiliaryHead.label_scale", self.label_scale)


@declaration
class AuxiliaryTower(Declaration):
    """A layer and a head of its own that learn labels and teacher: h(y_S, y) + h(y_T, y) + weight * h(y_T, p).

    Both of its terms reach the backbone times ``gradient_scale`` (Rec-Distill, arXiv 2605.29755).

    Args:
        weight: of the teacher's term.
        gradient_scale: as in ``AuxiliaryHead``.
        hidden: width of its layer.
    """

    weight: float = 1.0
    gradient_scale: float = 1.0
    hidden: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("AuxiliaryTower.weight", self.weight, 0)
        at_least("AuxiliaryTower.gradient_scale", self.gradient_scale, 0)
        at_least("AuxiliaryTower.hidden", self.hidden, 1)


@declaration
class LeadAware(Declaration):
    """Distil as much as the teacher's measured lead deserves, down to nothing.

    All of it is measured on earlier slices, each scored before anything trained on it; never on the slice that is being
    learned. The teacher's lead is 1 - NE_teacher / NE_control, the student's own gain 1 - NE_student / NE_control.

    A large lead is trusted: the distillation's weight rises from nothing at a mean lead of ``none_at`` to all of it at
    ``full_at``. A smaller one must have helped this student: as long as the teacher leads at all, the weight is what
    the gain is beyond chance, from nothing at one standard error over zero to all of it at two.

    Args:
        none_at: relative lead that is not yet trusted by itself; 0 trusts any.
        full_at: relative lead from which the whole weight is given.
        slices: how many earlier slices with a measured lead are averaged.
        proof: how many earlier slices with a measured gain count; 0: a lead below ``none_at`` is never enough.
    """

    none_at: float = 0.008
    full_at: float = 0.018
    slices: int = 6
    proof: int = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least("LeadAware.slices", self.slices, 1)
        at_least("LeadAware.proof", self.proof, 0)
        for name in ("slices", "proof"):
            at_most(f"LeadAware.{name}", getattr(self, name), MOST_SLICES)
        if not 0 <= self.none_at < self.full_at:
            raise DeclarationError(
                f"LeadAware.full_at: {self.full_at!r} is not above none_at {self.none_at!r}, or that is below 0: "
                "use 0 <= none_at < full_at"
            )

    def share(self, leads: Sequence[float], gains: Sequence[float] = ()) -> float:
        """Share of the distillation's weight, in [0, 1], from earlier slices' leads and gains, oldest first."""
        seen = leads[-self.slices :]
        if not seen:
            return 0.0
        lead = fmean(seen)
        trusted = _within((lead - self.none_at) / (self.full_at - self.none_at))
        ahead = _within(2 * lead / self.none_at) if self.none_at else float(lead > 0)  # rising: no switch at zero
        return max(trusted, ahead * self._proved(gains))

    def _proved(self, gains: Sequence[float]) -> float:
        """How far the mean gain is beyond chance: 0 at one standard error, 1 at two."""
        seen = gains[-self.proof :] if self.proof else ()
        if len(seen) < FEWEST_GAINS or fmean(seen) <= 0:
            return 0.0
        error = stdev(seen) / math.sqrt(len(seen))
        return _within(fmean(seen) / error - 1) if error else 1.0


def _within(share: float) -> float:
    return min(max(share, 0.0), 1.0)


Distillation = KnowledgeDistillation | AuxiliaryHead | AuxiliaryTower | None
