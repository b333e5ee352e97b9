"""Rows as tensors on disk, dealt to shards: what an epoch reads, shard by shard, without making anything anew.

Belongs here: dealing, writing, reading back. Not here: where rows come from (reading.py).

A shard has rows from all over their files, by a hash of their place: some rows are in memory at a time, and yet an
epoch's batches are mixed, although files are sorted by time or by user.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.batch import SliceTensors
from models.hashing import NULL_HASH, stable_hash
from models.jagged import Jagged

SHARD_ROWS = 2**18
IDS, NUMBERS, LABELS, GROUPS, PLACES = "ids", "numbers", "labels", "groups", "places"


@dataclass(frozen=True)
class Shard:
    """N rows.

    Args:
        places: (N,) which row of its part each was, from 0.
        groups: (N,) a hash of each row's group, ``NULL_HASH`` where it is not known; ``None`` without groups.
    """

    tensors: SliceTensors
    places: Tensor
    groups: Tensor | None


class Shards:
    """Shards of about ``SHARD_ROWS`` rows each, in a folder of their own.

    Args:
        rows: about how many there will be.
    """

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, 0
        self.count = max(-(-rows // SHARD_ROWS), 1)
        self._pieces = 0
        self._names: tuple[tuple[str, ...], ...] = ((), (), ())
        for shard in range(self.count):
            (folder / f"{shard}").mkdir(parents=True)

    def add(self, part: Shard) -> None:
        """Deal some rows."""
        if not len(part.places):
            return
        tensors = part.tensors
        self._names = (tensors.id_names, tensors.number_names, tensors.task_names)
        dealt = stable_hash(part.places.numpy(), salt="shard").view(np.uint64) % np.uint64(self.count)
        for shard in range(self.count):
            rows = torch.from_numpy(np.flatnonzero(dealt == shard))
            if len(rows):
                save_file(_plain(part, rows), self.folder / f"{shard}" / f"{self._pieces:06}.safetensors")
        self._pieces += 1
        self.rows += len(part.places)

    def read(self, shard: int) -> Shard:
        """One shard's rows, in the order of their places."""
        pieces = [load_file(path) for path in sorted((self.folder / f"{shard}").iterdir())]
        names = [name.removesuffix("/offsets") for name in pieces[0] if name.endswith("/offsets")] if pieces else []
        whole = {name: torch.cat([piece[name] for piece in pieces]) for name in (IDS, NUMBERS, LABELS, PLACES)}
        ids, numbers, tasks = self._names
        tensors = SliceTensors(
            ids=whole[IDS], numbers=whole[NUMBERS], labels=whole[LABELS], id_names=ids, number_names=numbers,
            task_names=tasks, histories={name: _joined(pieces, name) for name in names},
        )  # fmt: skip
        groups = torch.cat([piece[GROUPS] for piece in pieces]) if GROUPS in pieces[0] else None
        return Shard(tensors, whole[PLACES], groups)

    @property
    def used(self) -> list[int]:
        """Those that have rows."""
        return [shard for shard in range(self.count) if any((self.folder / f"{shard}").iterdir())]


def _plain(part: Shard, rows: Tensor) -> dict[str, Tensor]:
    taken = part.tensors.take(rows)
    plain = {IDS: taken.ids, NUMBERS: taken.numbers, LABELS: taken.labels, PLACES: part.places[rows]}
    if part.groups is not None:
        plain[GROUPS] = part.groups[rows]
    for name, lists in taken.histories.items():
        plain |= {f"{name}/values": lists.values, f"{name}/offsets": lists.offsets}
    return {name: tensor.contiguous() for name, tensor in plain.items()}


def _joined(pieces: list[dict[str, Tensor]], name: str) -> Jagged:
    """Lists one after the other."""
    lengths = torch.cat([piece[f"{name}/offsets"].diff() for piece in pieces])
    offsets = torch.zeros(len(lengths) + 1, dtype=torch.int64)
    torch.cumsum(lengths, 0, out=offsets[1:])
    return Jagged(torch.cat([piece[f"{name}/values"] for piece in pieces]), offsets)


def group_codes(groups: list[Tensor]) -> np.ndarray:
    """The groups of rows as whole numbers, (N,); -1 where none is known."""
    hashes = torch.cat(groups).numpy()
    _, codes = np.unique(hashes, return_inverse=True)
    return np.where(hashes == NULL_HASH, -1, codes)
