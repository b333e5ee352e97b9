"""A slice as one learner's loop reads it: its columns, rows of its table, its members' labels and teachers.

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
from models.network import NetworkSpec
from models.pairs import Pairs


@dataclass(frozen=True)
class Inputs:
    """What networks read of N rows: (N, F) rows of the table, (N, D) numbers, histories as rows of the table."""

    rows: Tensor
    numbers: Tensor
    histories: tuple[Jagged, ...]

    @property
    def listed(self) -> float:
        """How many ids a row's histories list together, in the mean."""
        return sum(one.values.numel() for one in self.histories) / max(len(self.rows), 1)

    def take(self, places: Tensor) -> "Inputs":
        return Inputs(self.rows[places], self.numbers[places], tuple(one.take(places) for one in self.histories))


@dataclass(frozen=True)
class Prepared:
    """A slice for S members with P pairs.

    Args:
        labels: (S, N, T), NaN where not known.
        taught: (P, N, T) teachers' logits, ``None`` without pairs.
        known: (M,) rows with a known label of any task of the stream: the same whoever learns beside whom.
    """

    inputs: Inputs
    labels: Tensor
    taught: Tensor | None
    known: Tensor


def inputs_of(piece: SliceTensors, spec: NetworkSpec, table: EmbeddingTable) -> Inputs:
    """A slice's inputs by name.

    Raises:
        LearningError: if the slice lacks a column or a history.
    """
    histories = []
    for name, of in spec.histories:
        if name not in piece.histories:
            raise LearningError(f"slice: history {name!r} is missing: log it, or drop it from the inputs")
        lists = piece.histories[name]
        histories.append(Jagged(table.rows_in(spec.id_names.index(of), lists.values), lists.offsets))
    return Inputs(
        table.rows_of(pick(piece.ids, piece.id_names, spec.id_names, "id")),
        pick(piece.numbers, piece.number_names, spec.numbers, "number"),
        tuple(histories),
    )


def prepare(piece: SliceTensors, specs: Sequence[NetworkSpec], table: EmbeddingTable, pairs: Pairs) -> Prepared:
    """All that a fit reads of a slice.

    Raises:
        LearningError: if the slice lacks a column, a history or a teacher.
    """
    labels = torch.stack([pick(piece.labels, piece.task_names, one.tasks, "task") for one in specs])
    for pair in pairs.all:
        if pair.teacher not in piece.teachers:
            raise LearningError(f"fit: the slice has no logits of teacher {pair.teacher!r}: pass them, NaN if none")
    taught = [
        pick(piece.teachers[pair.teacher], piece.task_names, specs[pair.member].tasks, "task") for pair in pairs.all
    ]
    known = piece.labels.isfinite().any(dim=1).nonzero().squeeze(1)
    return Prepared(inputs_of(piece, specs[0], table), labels, torch.stack(taught) if taught else None, known)
