"""Digests of columns: the same values in the same rows have the same digest, however a file holds them.

Belongs here: a frame's columns as bytes that follow from values alone. Not here: where digests are kept (sidecar.py).
"""

import hashlib
from collections.abc import Iterator

import numpy as np
import polars as pl


def column_digests(frame: pl.DataFrame) -> dict[str, str]:
    """Twelve hex digits of each column: of its type, and of its values in the order of rows."""
    return {series.name: _digest(series) for series in frame}


class ColumnDigests:
    """Digests of the columns of rows that come in parts: of one part those of ``column_digests``."""

    def __init__(self) -> None:
        self._parts: list[dict[str, str]] = []

    def add(self, part: pl.DataFrame) -> None:
        self._parts.append(column_digests(part))

    def of_columns(self) -> dict[str, str]:
        """Twelve hex digits of each column."""
        if len(self._parts) < 2:
            return self._parts[0] if self._parts else {}
        return {name: _of_parts([part[name] for part in self._parts]) for name in self._parts[0]}


def _of_parts(digests: list[str]) -> str:
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:12]


def _digest(values: pl.Series) -> str:
    sha = hashlib.sha256(f"{values.dtype} {len(values)}".encode())
    for part in _bytes(values):
        sha.update(part)
    return sha.hexdigest()[:12]


def _letters(texts: pl.Series) -> bytes:
    """Texts without nulls, one after the other, in UTF-8: as Arrow's oldest layout keeps them."""
    array = texts.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, ends, letters = array.buffers()
    if letters is None:
        return b""
    first, last = np.frombuffer(ends, dtype=np.int64)[[array.offset, array.offset + len(array)]]
    return bytes(memoryview(letters)[first:last])


def _bytes(values: pl.Series) -> Iterator[bytes]:
    """Which are null, then the values: numbers as they lie in memory, texts and lists after their lengths."""
    yield np.packbits(values.is_null().to_numpy()).tobytes()
    if isinstance(values.dtype, pl.List):
        yield values.list.len().fill_null(0).to_numpy().astype(np.uint32).tobytes()
        yield from _bytes(values.filter(values.list.len() > 0).explode())  # an empty list would explode to a null
    elif values.dtype == pl.String:
        texts = values.fill_null("")
        yield texts.str.len_bytes().to_numpy().astype(np.uint32).tobytes()
        yield _letters(texts)
    else:
        physical = values.to_physical()
        zero = False if physical.dtype == pl.Boolean else 0
        yield np.ascontiguousarray(physical.fill_null(zero).to_numpy()).tobytes()
