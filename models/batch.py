"""A slice as resident tensors, and the hash that turns ids into them.

Belongs here: the shape contract between whoever reads a slice and whoever learns from it.
Not here: reading, joining or logging (exfm_assets/), embedding rows of one network (models/embedding.py).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import LearningError

NULL_HASH = -(2**63)  # of a missing id; no other id hashes to it


def _splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words, so ints never collide."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _word(text: str, salt: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=salt.encode()[:64]).digest(), "little")


def stable_hash(
    column: NDArray[np.generic] | Sequence[object], salt: str, nulls: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """64-bit hashes of ids, the same on every machine, version and run.

    Args:
        column: (N,) integers or strings; ``None`` stands for a missing id.
        salt: the column's name, so that equal ids of two columns are told apart.
        nulls: (N,) where ids are missing, for an integer array that can't hold ``None``.

    Returns:
        (N,) hashes; ``NULL_HASH`` for a missing id.

    Raises:
        LearningError: for values that are neither integers nor strings (a float id has lost digits already).
    """
    values = column if isinstance(column, np.ndarray) else np.asarray(column, dtype=object)
    missing = np.zeros(len(values), dtype=bool) if nulls is None else nulls
    if values.dtype.kind == "O":
        missing = missing | np.fromiter((value is None for value in values), dtype=bool, count=len(values))
    present = values[~missing].tolist() if values.dtype.kind not in "iub" else []
    if values.dtype.kind in "iub":
        words = _splitmix64(values.astype(np.uint64) ^ np.uint64(_word("", salt)))
    elif all(isinstance(value, str) for value in present):
        words = np.zeros(len(values), dtype=np.uint64)
        table = {value: _word(value, salt) for value in dict.fromkeys(present)}
        words[~missing] = np.fromiter(map(table.__getitem__, present), dtype=np.uint64, count=len(present))
    elif all(isinstance(value, int) for value in present):
        words = np.zeros(len(values), dtype=np.uint64)
        words[~missing] = stable_hash(np.asarray(present, dtype=np.int64), salt).view(np.uint64)
    else:
        kind = next(type(value).__name__ for value in present if not isinstance(value, int))
        raise LearningError(f"column {salt}: ids of type {kind} have no stable hash: pass integers or strings")
    hashes = words.view(np.int64)
    hashes[hashes == NULL_HASH] = NULL_HASH + 1
    hashes[missing] = NULL_HASH
    return hashes


def bucketize(hashes: Tensor, rows: Tensor | int) -> Tensor:
    """Embedding rows of hashes: the non-negative remainder, in [0, rows)."""
    return torch.remainder(hashes, rows)


@dataclass(frozen=True)
class SliceTensors:
    """A slice of logged inputs, closed labels and teacher predictions; every model picks its columns by name.

    Args:
        ids: (N, F) int64, hashes by ``stable_hash``, one column each.
        numbers: (N, D) float32, NaN where missing; counts already log1p'ed.
        labels: (N, T) float32 in {0, 1}, NaN where unknown.
        id_names, number_names, task_names: names of the F, D and T columns.
        teachers: teacher's name -> (N, T) float32 logits, NaN where it left no prediction.

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

    def __post_init__(self) -> None:
        rows = len(self.ids)
        self._check("ids", self.ids, (rows, len(self.id_names)), torch.int64)
        self._check("numbers", self.numbers, (rows, len(self.number_names)), torch.float32)
        self._check("labels", self.labels, (rows, len(self.task_names)), torch.float32)
        for name, logits in self.teachers.items():
            self._check(f"teachers[{name!r}]", logits, (rows, len(self.task_names)), torch.float32)

    @staticmethod
    def _check(name: str, tensor: Tensor, shape: tuple[int, int], dtype: torch.dtype) -> None:
        if tuple(tensor.shape) != shape or tensor.dtype != dtype:
            raise LearningError(
                f"SliceTensors.{name}: {tuple(tensor.shape)} {tensor.dtype} does not fit its names and rows: "
                f"pass {shape} {dtype}"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def _map(self, ids: Tensor, numbers: Tensor, labels: Tensor, teachers: dict[str, Tensor]) -> "SliceTensors":
        return SliceTensors(ids, numbers, labels, self.id_names, self.number_names, self.task_names, teachers)

    def to(self, device: torch.device | str) -> "SliceTensors":
        teachers = {name: logits.to(device) for name, logits in self.teachers.items()}
        return self._map(self.ids.to(device), self.numbers.to(device), self.labels.to(device), teachers)

    def take(self, rows: Tensor) -> "SliceTensors":
        """The rows of an index (M,) int64 or a mask (N,) bool: one student's surface, for example."""
        teachers = {name: logits[rows] for name, logits in self.teachers.items()}
        return self._map(self.ids[rows], self.numbers[rows], self.labels[rows], teachers)


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
