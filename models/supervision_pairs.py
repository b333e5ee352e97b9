"""Pairs: which member learns from which teacher, by the kind of term that joins them.

Belongs here: which pairs, and their weights. Not here: the losses (distillation.py).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from exfm.distillation import AuxiliaryHead, AuxiliaryTower, Distillation, KnowledgeDistillation

Shares = Sequence[Mapping[str, float]]  # of each member: teacher -> share
SERVED, AUXILIARY, ADAPTER, TOWER = "served", "auxiliary", "adapter", "tower"


@dataclass(frozen=True)
class Pair:
    """A member of a learner, and a teacher that supervises it."""

    member: int
    teacher: str
    declared: KnowledgeDistillation | AuxiliaryHead | AuxiliaryTower


@dataclass(frozen=True)
class Term:
    """The pairs that a kind of term joins, and their knobs.

    Args:
        pairs: (n,) positions among all pairs; members: (n,) their members.
        weight: (n,); gradient_scale: (n, 1, 1, 1); label_scale: (n, 1, 1); ``None`` where all are 1.
    """

    pairs: Tensor
    members: Tensor
    weight: Tensor
    gradient_scale: Tensor | None
    label_scale: Tensor | None


def terms_of(declared: object) -> dict[str, float]:
    """Kinds of terms that a distillation adds, with the weight of each."""
    if isinstance(declared, KnowledgeDistillation):
        return {SERVED: declared.weight}
    if isinstance(declared, AuxiliaryTower):
        return {f"{TOWER}_{declared.hidden}": declared.weight}
    if isinstance(declared, AuxiliaryHead):
        beside = {} if declared.adapter is None else {ADAPTER: declared.adapter.weight}
        return {AUXILIARY: declared.weight, **beside}
    return {}


class SupervisionPairs:
    """All pairs of a learner's members with their teachers, by kind of term.

    Args:
        teachers, distillations: of each member, in order.
    """

    def __init__(self, teachers: Sequence[tuple[str, ...]], distillations: Sequence[Distillation], device: str) -> None:
        members = enumerate(zip(teachers, distillations, strict=True))
        self.all = [Pair(member, name, d) for member, (names, d) in members if d is not None for name in names]
        kinds = sorted({kind for pair in self.all for kind in terms_of(pair.declared)})
        self.terms = {kind: self._term(kind, device) for kind in kinds}

    def _term(self, kind: str, device: str) -> Term:
        indices = [index for index, pair in enumerate(self.all) if kind in terms_of(pair.declared)]
        declared = [self.all[index].declared for index in indices]
        knobs = {
            "weight": [terms_of(distillation)[kind] for distillation in declared],
            "gradient_scale": [getattr(distillation, "gradient_scale", 1.0) for distillation in declared],
            "label_scale": [getattr(distillation, "label_scale", 1.0) for distillation in declared],
        }
        weight, beta, alpha = (torch.tensor(values, dtype=torch.float32, device=device) for values in knobs.values())
        return Term(
            torch.tensor(indices, device=device),
            torch.tensor([self.all[index].member for index in indices], device=device),
            weight,
            None if bool((beta == 1).all()) else beta.view(-1, 1, 1, 1),
            None if bool((alpha == 1).all()) else alpha.view(-1, 1, 1),
        )  # fmt: skip

    def shares(self, given: Shares) -> Tensor:
        """(P,) shares of the pairs, 1 where none is named."""
        return torch.tensor([given[pair.member].get(pair.teacher, 1.0) for pair in self.all])

    @property
    def heads(self) -> dict[str, int]:
        """How many heads each kind needs."""
        return {kind: len(term.pairs) for kind, term in self.terms.items() if kind != SERVED}

    @property
    def towers(self) -> dict[str, int]:
        """Widths of the layers that only distillation has."""
        return {kind: int(kind.rpartition("_")[2]) for kind in self.terms if kind.startswith(TOWER)}
