"""The embedding table of a release, mapped into memory: rows become float32 as they are read.

Belongs here: the kinds of tables, and single rows of them. Not here: which rows a column has (encoder.py), how a table
is rounded (models/tables.py).
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from serving.errors import ReleaseError

SCALE = "table.scale"
_KINDS = {"F32": "<f4", "BF16": "<u2", "I8": "|i1"}  # of safetensors; numpy has no bfloat16, whose bits are kept


class Rows(Protocol):
    """Embedding rows by their numbers: an array of float32, or what reads as one."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        """(...) -> (..., E)"""
        ...


@dataclass(frozen=True)
class HalfRows:
    """Of bfloat16: the upper 16 bits of a float32.

    Args:
        bits: (R, E).
    """

    bits: NDArray[np.uint16]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.bits.shape

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        numbers: NDArray[np.float32] = np.left_shift(self.bits[rows], 16, dtype=np.uint32).view(np.float32)
        return numbers


@dataclass(frozen=True)
class ByteRows:
    """Of int8, with a scale a row.

    Args:
        numbers: (R, E).
        scale: (R,).
    """

    numbers: NDArray[np.int8]
    scale: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.numbers.shape

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        numbers: NDArray[np.float32] = np.multiply(self.numbers[rows], self.scale[rows][..., None], dtype=np.float32)
        return numbers


def mapped(path: Path, name: str) -> Rows:
    """A table of a safetensors file, mapped into memory: pages are read as rows are asked for.

    Raises:
        ReleaseError: if the file has no such tensor, or one that is kept otherwise.
    """
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
        kind = header[name]["dtype"]
        if kind not in _KINDS:
            raise ReleaseError(f"{path}: {name} is {kind}, not one of {', '.join(_KINDS)}: release it again")
        numbers = _tensor(path, 8 + size, header[name])
        if kind == "BF16":
            return HalfRows(numbers)
        return ByteRows(numbers, _tensor(path, 8 + size, header[SCALE])) if kind == "I8" else numbers
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ReleaseError):
            raise
        raise ReleaseError(f"{path} can't be read ({error}): release it again") from error


def _tensor(path: Path, begin: int, about: dict[str, Any]) -> NDArray[Any]:
    offset = begin + about["data_offsets"][0]
    # An array over the map: a memmap's own indexing takes several times as long.
    return np.asarray(np.memmap(path, _KINDS[about["dtype"]], "r", offset=offset, shape=tuple(about["shape"])))
