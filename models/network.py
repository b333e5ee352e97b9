"""Networks of teachers and students: a backbone, serving heads, and the heads that only distillation uses.

Belongs here: the assembly, and the spec that a checkpoint keeps of it.
Not here: the embedding table (embedding.py), layers (interactions.py), losses (distillation.py).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.interactions import MLP, CrossNet, GatedExperts
from projects.learning import AuxiliaryHead, Distillation, Network
from projects.project import Columns
from projects.stream import Stream

AUXILIARY, ADAPTER = "auxiliary", "adapter"


def distillation_heads(distillation: Distillation) -> tuple[str, ...]:
    """The heads that a distillation adds to the served one."""
    if not isinstance(distillation, AuxiliaryHead):
        return ()
    return (AUXILIARY,) if distillation.adapter is None else (AUXILIARY, ADAPTER)


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """All that building a network needs; plain values, so that a manifest can hold it.

    Args:
        ids: (column, embedding rows) of each id column, in order.
        numbers: number columns, in order.
        tasks: T tasks, in order.
        heads: distillation heads beside the serving head, of ``auxiliary`` and ``adapter``.
        teacher: whose logits they learn from.
    """

    ids: tuple[tuple[str, int], ...]
    numbers: tuple[str, ...]
    tasks: tuple[str, ...]
    embedding: int
    cross: int
    cross_rank: int | None
    hidden: tuple[int, ...]
    experts: int
    heads: tuple[str, ...] = ()
    teacher: str | None = None

    @classmethod
    def declare(
        cls,
        network: Network,
        columns: Columns,
        stream: Stream,
        tasks: Sequence[str],
        distillation: Distillation = None,
        teacher: str | None = None,
    ) -> "NetworkSpec":
        """The spec of a declared network."""
        rows = {column.name: column.rows for column in stream.id_columns}
        return cls(
            ids=tuple((name, rows[name]) for name in columns.ids),
            numbers=columns.features,
            tasks=tuple(tasks),
            heads=distillation_heads(distillation),
            teacher=teacher if distillation is not None else None,
            **asdict(network),
        )

    @classmethod
    def from_json(cls, plain: dict[str, Any]) -> "NetworkSpec":
        """Back from what ``dataclasses.asdict`` and JSON made of it."""
        listed: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
        }
        return cls(**{**listed, "ids": tuple((name, rows) for name, rows in plain["ids"])})

    @property
    def width(self) -> int:
        """D, the flattened input: embeddings, then numbers."""
        return len(self.ids) * self.embedding + len(self.numbers)


class Head(nn.Module):
    """A logit a task from the backbone's output: (B, T, H) -> (B, T)."""

    def __init__(self, tasks: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(tasks, width).uniform_(-1, 1) / math.sqrt(width))
        self.bias = nn.Parameter(torch.zeros(tasks))

    def forward(self, hidden: Tensor) -> Tensor:
        return (hidden.float() * self.weight).sum(dim=2) + self.bias  # (B, T, H) -> (B, T)


class DCN(nn.Module):
    """Crosses, then layers or gated experts, then a head a task (DCN-v2, arXiv 2008.13535; MMoE, KDD 2018).

    Shape:
        embedded (B, F, E), numbers (B, D) -> backbone's output (B, T, H), or (B, 1, H) without experts
    """

    def __init__(self, spec: NetworkSpec, seed: int) -> None:
        super().__init__()
        tasks, width = len(spec.tasks), spec.hidden[-1]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.cross = CrossNet(spec.width, spec.cross, spec.cross_rank)
            self.layers = (
                GatedExperts(spec.width, spec.hidden, spec.experts, tasks)
                if spec.experts > 1
                else MLP(spec.width, spec.hidden)
            )
            self.serving = Head(tasks, width)
            # Seeded apart, so that a student with heads and its control without begin with the same bits.
            torch.manual_seed(seed + 1)
            self.heads = nn.ModuleDict({name: Head(tasks, width) for name in spec.heads})

    def forward(self, embedded: Tensor, numbers: Tensor) -> Tensor:
        x = torch.cat([embedded.flatten(1), numbers], dim=1)  # (B, F, E), (B, D) -> (B, FE + D)
        hidden: Tensor = self.layers(self.cross(x))
        return hidden if hidden.dim() == 3 else hidden.unsqueeze(1)  # (B, H) -> (B, 1, H)
