"""A slice as resident tensors.

Belongs here: the shape contract between what reads a slice and what learns from it.
Not here: reading, joining or logging (pipeline/), hashing (hashing.py), embedding rows (embedding.py).
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from models.errors import LearningError
from models.jagged import Jagged


@dataclass(frozen=True)
class SliceTensors:
    """A slice of logged inputs, closed labels and teacher predictions; every model picks its columns by name.

    Args:
        ids: (N, F) int64, hashes by ``stable_hash``, one column each.
        numbers: (N, D) float32, NaN where missing; counts already log1p'ed. Each position of a vector is one of them.
        labels: (N, T) float32 in [0, 1], NaN where unknown.
        id_names, number_names, task_names: names of the F, D and T columns.
        teachers: teacher's name -> (N, T) float32 logits, NaN where it has no prediction.
        histories: name of a history or a bag -> N lists of hashes, hashed as the column whose ids they list; a
            history's oldest first.
        weights: (N,) float32, how many rows each stands for; ``None``: one each.
        staleness: teacher's name -> (N,) float32, hours since the newest impression that the scorer had seen.
        begins: whether a slice begins with these rows; at its other parts, what earlier slices said fades no more.

    Raises:
        LearningError: if a shape or a type does not fit.
    """

    ids: Tensor
    numbers: Tensor
    labels: Tensor
    id_names: tuple[str, ...]
    number_names: tuple[str, ...]
    task_names: tuple[str, ...]
    teachers: Mapping[str, Tensor] = field(default_factory=dict)
    histories: Mapping[str, Jagged] = field(default_factory=dict)
    staleness: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Tensor | None = None
    begins: bool = True

    def __post_init__(self) -> None:
        rows = len(self.ids)
        self._check("ids", self.ids, (rows, len(self.id_names)), torch.int64)
        self._check("numbers", self.numbers, (rows, len(self.number_names)), torch.float32)
        self._check("labels", self.labels, (rows, len(self.task_names)), torch.float32)
        if self.weights is not None:
            self._check("weights", self.weights, (rows,), torch.float32)
        for name, logits in self.teachers.items():
            self._check(f"teachers[{name!r}]", logits, (rows, len(self.task_names)), torch.float32)
        for name, hours in self.staleness.items():
            self._check(f"staleness[{name!r}]", hours, (rows,), torch.float32)
        for name, lists in self.histories.items():
            self._check(f"histories[{name!r}].offsets", lists.offsets, (rows + 1,), torch.int64)

    @staticmethod
    def _check(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise LearningError(
                f"SliceTensors.{name}: {tuple(tensor.shape)} {tensor.dtype} does not fit its names and rows: "
                f"pass {shape} {dtype}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> "SliceTensors":
        return SliceTensors(
            self.ids.to(device), self.numbers.to(device), self.labels.to(device),
            self.id_names, self.number_names, self.task_names,
            {name: logits.to(device) for name, logits in self.teachers.items()},
            {name: lists.to(device) for name, lists in self.histories.items()},
            {name: hours.to(device) for name, hours in self.staleness.items()},
            None if self.weights is None else self.weights.to(device),
            self.begins,
        )  # fmt: skip

    def take(self, rows: Tensor) -> "SliceTensors":
        """The rows of an index (M,) int64 or a mask (N,) bool: one student's surface, for example."""
        indices = rows.nonzero().squeeze(1) if rows.dtype == torch.bool else rows
        return SliceTensors(
            self.ids[indices], self.numbers[indices], self.labels[indices],
            self.id_names, self.number_names, self.task_names,
            {name: logits[indices] for name, logits in self.teachers.items()},
            {name: lists.take(indices) for name, lists in self.histories.items()},
            {name: hours[indices] for name, hours in self.staleness.items()},
            None if self.weights is None else self.weights[indices],
            self.begins,
        )  # fmt: skip


def pick(tensor: Tensor, names: tuple[str, ...], wanted: tuple[str, ...], what: str) -> Tensor:
    """Columns by name, (N, len(names)) -> (N, len(wanted)); no copy if nothing changes.

    Raises:
        LearningError: if the slice lacks one.
    """
    for name in wanted:
        if name not in names:
            raise LearningError(f"slice: {what} {name!r} is not among {names}: log it, or drop it from the inputs")
    if names == wanted:
        return tensor
    return tensor.index_select(
        1, torch.tensor([names.index(name) for name in wanted], dtype=torch.int64, device=tensor.device)
    )


def shuffled(rows: Tensor, batch_size: int, order: str) -> Iterator[Tensor]:
    """Batches of row numbers (M,) in an order that follows from ``order``; even ones: no step for a few last rows."""
    seed = int.from_bytes(hashlib.blake2b(order.encode(), digest_size=7).digest(), "little")
    permutation = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).to(rows.device)
    yield from rows[permutation].tensor_split(-(-len(rows) // batch_size))
