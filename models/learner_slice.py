"""A slice as a learner's loop reads it: its columns, rows of its table, its members' labels and teachers.

Belongs here: what is done once a slice so that it is not done every step. Not here: the loop (learner.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.batch import SliceTensors, pick
from models.embedding import EmbeddingTable
from models.errors import LearningError
from models.jagged import Jagged
from models.network_spec import NetworkSpec
from models.quantiles import Quantiles
from models.supervision_pairs import SupervisionPairs


@dataclass(frozen=True)
class Inputs:
    """What networks read of N rows: (N, F) rows of the table; (N, D) numbers, vectors among them; lists of rows."""

    rows: Tensor
    numbers: Tensor
    histories: tuple[Jagged, ...]

    @property
    def listed(self) -> float:
        """How many ids a row's histories and bags, and what is beside them, list together, in the mean."""
        return sum(history.values.numel() for history in self.histories) / max(len(self.rows), 1)

    def take(self, indices: Tensor) -> "Inputs":
        return Inputs(
            self.rows[indices], self.numbers[indices], tuple(history.take(indices) for history in self.histories)
        )


@dataclass(frozen=True)
class LearnerSlice:
    """A slice for S members with P pairs.

    Args:
        labels: (S, N, T), NaN where not known.
        teacher_logits: (P, N, T) teachers' logits, ``None`` without pairs.
        known: (M,) rows with a known label of any task of the stream: the same for every set of members.
        weights: (N,), 1 in the mean of known rows; ``None``: 1 each.
    """

    inputs: Inputs
    labels: Tensor
    teacher_logits: Tensor | None
    known: Tensor
    weights: Tensor | None = None

    def take(self, rows: Tensor) -> "LearnerSlice":
        """Some rows of it, as a batch."""
        logits = None if self.teacher_logits is None else self.teacher_logits[:, rows]
        weights = None if self.weights is None else self.weights[rows]
        return LearnerSlice(self.inputs.take(rows), self.labels[:, rows], logits, rows, weights)


def inputs_of(tensors: SliceTensors, spec: NetworkSpec, table: EmbeddingTable, quantiles: Quantiles) -> Inputs:
    """A slice's inputs by name.

    Raises:
        LearningError: if the slice lacks a column or a history.
    """
    histories, columns = [], [name for name, _ in spec.table]
    for name, of in spec.lists:
        if name not in tensors.histories:
            raise LearningError(f"slice: history {name!r} is missing: log it, or drop it from the inputs")
        lists = tensors.histories[name]
        histories.append(Jagged(table.rows_in(columns.index(of), lists.values), lists.offsets))
    for side, beside in zip(spec.sides, histories[len(spec.pooled) :], strict=True):
        if len(beside.values) != len(histories[spec.pooled.index(side.list)].values):
            raise LearningError(f"slice: {side.name!r} does not stand beside each id of {side.list!r}: align them")
    return Inputs(
        table.rows_of(_ids(tensors, spec, quantiles)),
        pick(tensors.numbers, tensors.number_names, (*spec.numbers, *spec.positions), "number"),
        tuple(histories),
    )


def _ids(tensors: SliceTensors, spec: NetworkSpec, quantiles: Quantiles) -> Tensor:
    """(N, F) hashes, and ranges of numbers, in the spec's order."""
    hashed = tuple(name for name in spec.id_names if name not in quantiles.names)
    ids = pick(tensors.ids, tensors.id_names, hashed, "id")
    if not quantiles.names:
        return ids
    both = torch.cat([ids, quantiles.ids(tensors)], dim=1)
    return pick(both, (*hashed, *quantiles.names), spec.id_names, "id")


def learner_slice(
    tensors: SliceTensors,
    specs: Sequence[NetworkSpec],
    table: EmbeddingTable,
    pairs: SupervisionPairs,
    quantiles: Quantiles,
) -> LearnerSlice:
    """All that a fit reads of a slice.

    Raises:
        LearningError: if the slice lacks a column, a history or a teacher.
    """
    labels = torch.stack([pick(tensors.labels, tensors.task_names, spec.tasks, "task") for spec in specs])
    for pair in pairs.all:
        if pair.teacher not in tensors.teachers:
            raise LearningError(f"fit: the slice has no logits of teacher {pair.teacher!r}: pass them, NaN if none")
    teacher_logits = [
        pick(tensors.teachers[pair.teacher], tensors.task_names, specs[pair.member].tasks, "task") for pair in pairs.all
    ]
    known = tensors.labels.isfinite().any(dim=1).nonzero().squeeze(1)
    weights = tensors.weights
    if weights is not None and len(known):
        weights = weights / weights[known].mean()  # so that the step's size does not depend on their unit
    stacked = torch.stack(teacher_logits) if teacher_logits else None
    return LearnerSlice(inputs_of(tensors, specs[0], table, quantiles), labels, stacked, known, weights)


def weighted_rate(labels: Tensor, weights: Tensor) -> Tensor:
    """The mean of known labels, (S, N, T), by the weights of their rows, (N,) -> (S, T); NaN where none is known."""
    known = labels.isfinite() * weights.view(1, -1, 1)
    return (labels.nan_to_num(0.0) * known).sum(dim=1) / known.sum(dim=1)
