"""Parts of a slice as tensors on disk: encoded once, read back by each further pass over a slice of several parts.

Belongs here: writing and reading them. Not here: what they are made of (slice_inputs.py).
"""

import shutil
import weakref
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from models.batch import SliceTensors
from models.jagged import Jagged
from pipeline.parts import aside_folder


@dataclass(frozen=True)
class _Names:
    ids: tuple[str, ...]
    numbers: tuple[str, ...]
    histories: tuple[str, ...]


class EncodedParts:
    """The first parts of a slice, without labels. Their folder goes with this object.

    Args:
        beside: the folder in whose file system they lie.
    """

    def __init__(self, beside: Path) -> None:
        self._folder = aside_folder(beside, "encoded")
        self._names: list[_Names] = []
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def __len__(self) -> int:
        return len(self._names)

    def add(self, part: SliceTensors) -> None:
        """Keep the next part."""
        plain = {"ids": part.ids, "numbers": part.numbers}
        for name, lists in part.histories.items():
            plain |= {f"{name}/values": lists.values, f"{name}/offsets": lists.offsets}
        save_file({name: tensor.contiguous() for name, tensor in plain.items()}, self._path(len(self)))
        self._names.append(_Names(part.id_names, part.number_names, tuple(part.histories)))

    def read(self, index: int) -> SliceTensors:
        """A part that was kept."""
        plain, names = load_file(self._path(index)), self._names[index]
        return SliceTensors(
            ids=plain["ids"], numbers=plain["numbers"], labels=torch.empty(len(plain["ids"]), 0),
            id_names=names.ids, number_names=names.numbers, task_names=(),
            histories={name: Jagged(plain[f"{name}/values"], plain[f"{name}/offsets"]) for name in names.histories},
        )  # fmt: skip

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:06}.safetensors"
