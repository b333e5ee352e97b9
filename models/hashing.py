"""The hash that turns ids into 64-bit words, the same on every machine.

Belongs here: ids to hashes. Not here: hashes to embedding rows (embedding.py).
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.errors import LearningError

NULL_HASH = -(2**63)  # of a missing id; no other id hashes to it


def _splitmix64(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014): a bijection of 64-bit words, so ints never collide."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def _word(text: str, salt: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=salt.encode()[:64]).digest(), "little")


def stable_hash(
    column: NDArray[np.generic] | Sequence[object], salt: str, nulls: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """64-bit hashes of ids, the same on every machine, version and run.

    Args:
        column: (N,) integers or strings; ``None`` stands for a missing id.
        salt: the column's name, so that equal ids of two columns get different hashes.
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
