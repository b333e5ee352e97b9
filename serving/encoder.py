"""Raw features as what a release's graph takes: the same treatment as in training, in numpy.

Belongs here: hashing, numbers, lists, embedding rows. Not here: where features come from (features.py), the graph
(model.py). Training does the same on polars frames (pipeline/transforms/inputs.py); a test holds that both agree.

A column is a sequence of N values, one a candidate, or of one value that holds for all candidates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exfm.encoding import Encoding
from models.hashing import stable_hash
from serving.errors import RequestError
from serving.tables import Rows

Column = Sequence[Any]
Arrays = dict[str, NDArray[Any]]
_LARGEST = 2**63
_TEXT, _NUMBER = {str, type(None)}, {int, float, type(None)}


@dataclass(frozen=True)
class IdInput:
    """An id column, or a list of ids, and its rows in the embedding table."""

    name: str
    encoding: Encoding
    first: int
    rows: int


@dataclass(frozen=True)
class Signature:
    """What goes into a release's graph, in its order; ``signature.json`` of a release.

    Args:
        numbers, vectors: by name.
        lists: histories and bags, then what stands beside their ids; ``pooled``: the first ones, by name.
        sides: what stands beside ids -> its list.
        quantiles: ids that are a number's range -> edges between the ranges, ``None`` while nothing was seen of it.
        parts: columns that ids are made of and that are none themselves.
    """

    version: str
    tasks: tuple[str, ...]
    ids: tuple[IdInput, ...]
    numbers: Mapping[str, Encoding]
    vectors: Mapping[str, Encoding]
    lists: tuple[IdInput, ...]
    pooled: tuple[str, ...]
    sides: Mapping[str, str]
    quantiles: Mapping[str, NDArray[np.float64] | None]
    parts: Mapping[str, Encoding]

    @property
    def columns(self) -> tuple[str, ...]:
        """All raw columns that are read, each once."""
        encodings = {each.name: each.encoding for each in self.ids}
        stored = [name for name, encoding in encodings.items() if not encoding.is_derived]
        derived = [part for encoding in encodings.values() if encoding.is_derived for part in encoding.of]
        lists = [each.name for each in self.lists]
        return tuple(dict.fromkeys((*stored, *derived, *self.numbers, *self.vectors, *lists)))

    def encoding_of(self, name: str) -> Encoding | None:
        """Of a raw column; ``None`` of a number that is only made into ids."""
        of = {each.name: each.encoding for each in (*self.ids, *self.lists)}
        return {**self.parts, **self.numbers, **self.vectors, **of}.get(name)


class Encoder:
    """Raw columns -> the inputs of the graph.

    Args:
        table: (R, E), embedding rows.
    """

    def __init__(self, signature: Signature, table: Rows) -> None:
        self.signature, self.table = signature, table
        self._encodings = {each.name: each.encoding for each in signature.ids} | dict(signature.parts)
        self._at = {each.name: at for at, each in enumerate(signature.lists)}

    def inputs(self, columns: Mapping[str, Column], rows: int, now: float) -> Arrays:
        """For N candidates.

        Args:
            columns: all that ``Signature.columns`` names; each of N values or of one.
            now: seconds since 1970, of the request: what ages are counted from.

        Raises:
            RequestError: for a value that is of another type than the column's.
        """
        given: Arrays = {"fields": self._fields(columns, rows), "numbers": self._numbers(columns, rows)}
        for each, (hashes, lengths) in self._lists(columns, now).items():
            given[f"list:{each}"] = self._padded(self.signature.lists[self._at[each]], hashes, lengths)
            if each in self.signature.pooled:
                given[f"length:{each}"] = lengths
        return given

    def _fields(self, columns: Mapping[str, Column], rows: int) -> NDArray[np.float32]:
        """Embeddings of id columns, (N, F, E)."""
        width = self.table.shape[1]
        fields = np.empty((rows, len(self.signature.ids), width), dtype=np.float32)
        for at, each in enumerate(self.signature.ids):
            hashes = self._hashes(each.name, columns)
            fields[:, at] = self.table[np.remainder(hashes, each.rows) + each.first]
        return fields

    def _hashes(self, name: str, columns: Mapping[str, Column]) -> NDArray[np.int64]:
        """Of an id column, or of an id that is made of others; (N,) or (1,)."""
        encoding = self._encodings[name]
        salt = str(encoding.salt)
        if encoding.kind == "cross":
            mixed, *others = (self._hashes(part, columns) for part in encoding.of)
            for other in others:
                mixed = mixed * np.int64(6364136223846793005) + other
            return stable_hash(np.ascontiguousarray(mixed), salt=salt)
        if encoding.kind == "bucket":
            numbers = _floats(encoding.of[0], columns)
            ranges = np.searchsorted(np.asarray(encoding.edges), numbers, side="right")
            return stable_hash(ranges.astype(np.int64), salt=salt, nulls=np.isnan(numbers))
        if encoding.kind == "quantile":
            return self._ranges(name, columns)
        return hashed(name, columns[name], encoding)

    def _ranges(self, name: str, columns: Mapping[str, Column]) -> NDArray[np.int64]:
        """Of a number between running quantiles: the range's number, and one more where nothing is known."""
        encoding, edges = self._encodings[name], self.signature.quantiles[name]
        values = treated(encoding.of[0], columns, encoding)
        last = next(each.rows for each in self.signature.ids if each.name == name) - 1
        if edges is None:
            return np.full(len(values), last, dtype=np.int64)
        ranges = np.searchsorted(edges, values.astype(np.float64), side="right").astype(np.int64)
        return np.where(np.isfinite(values), ranges, last)

    def _numbers(self, columns: Mapping[str, Column], rows: int) -> NDArray[np.float32]:
        """Numbers as they were logged, then vectors; NaN where missing: (N, D)."""
        widths = [encoding.width or 0 for encoding in self.signature.vectors.values()]
        numbers = np.empty((rows, len(self.signature.numbers) + sum(widths)), dtype=np.float32)
        for at, (name, encoding) in enumerate(self.signature.numbers.items()):
            numbers[:, at] = treated(name, columns, encoding)
        at = len(self.signature.numbers)
        for name, width in zip(self.signature.vectors, widths, strict=True):
            numbers[:, at : at + width] = _vectors(name, columns[name], width)
            at += width
        return numbers

    def _lists(
        self, columns: Mapping[str, Column], now: float
    ) -> dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Hashes one after the other, and lengths (N or 1,), of each list."""
        read = {each.name: _listed(each, columns[each.name], now) for each in self.signature.lists}
        for side, of in self.signature.sides.items():
            if not np.array_equal(read[side][1], read[of][1]):
                raise RequestError(f"{side}: it is not as long as {of}: pass both place by place")
        return read

    def _padded(self, each: IdInput, hashes: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.float32]:
        """Embeddings of lists, zero behind their ends: (N or 1, L, E)."""
        longest = int(lengths.max(initial=0))
        keys = np.zeros((len(lengths), longest, self.table.shape[1]), dtype=np.float32)
        keys[np.arange(longest) < lengths[:, None]] = self.table[np.remainder(hashes, each.rows) + each.first]
        return keys


def hashed(name: str, values: Column, encoding: Encoding) -> NDArray[np.int64]:
    """Hashes of ids; a missing one has its own.

    Raises:
        RequestError: for one of another type, or a whole number beyond 64 bits.
    """
    types = set(map(type, values))  # in one pass outside of Python: a request has thousands of values
    if encoding.dtype == "str":
        if not types <= _TEXT:
            wrong = next(value for value in values if type(value) not in _TEXT)
            raise RequestError(f"{name}: {_shown(wrong)} is no text: pass a string, or null if unknown")
        try:
            return stable_hash(np.asarray(values, dtype=object), salt=str(encoding.salt))
        except UnicodeEncodeError as error:
            raise RequestError(f"{name}: {error.object!r:.60} is no Unicode text: pass one") from error
    if types == {int}:
        try:
            return stable_hash(np.array(values, dtype=np.int64), salt=str(encoding.salt))
        except OverflowError:
            pass  # the slow way says which
    nulls = np.fromiter((value is None for value in values), dtype=bool, count=len(values))
    numbers = [0 if value is None else _whole(name, value) for value in values]
    return stable_hash(np.asarray(numbers, dtype=np.int64), salt=str(encoding.salt), nulls=nulls)


def treated(name: str, columns: Mapping[str, Column], encoding: Encoding) -> NDArray[np.float32]:
    """A number as the network's normaliser takes it: NaN where missing."""
    numbers = _floats(name, columns)
    numbers[~np.isfinite(numbers)] = 0.0 if encoding.null == "zero" else np.nan
    if encoding.treatment == "log1p":
        with np.errstate(invalid="ignore", divide="ignore"):
            numbers = np.log1p(numbers)
    if encoding.treatment == "signed_log1p":
        numbers = np.sign(numbers) * np.log1p(np.abs(numbers))
    return numbers.astype(np.float32)


def _floats(name: str, columns: Mapping[str, Column]) -> NDArray[np.float64]:
    """Numbers, NaN where missing."""
    values = columns[name]
    if not set(map(type, values)) <= _NUMBER:
        wrong = next(
            (value for value in values if type(value) not in _NUMBER and not isinstance(value, np.number)), None
        )
        if wrong is not None:
            raise RequestError(f"{name}: {_shown(wrong)} is no number: pass one, or null if unknown")
    try:
        return np.array(values, dtype=np.float64)  # a null becomes NaN
    except OverflowError:
        raise RequestError(f"{name}: a number is too large for 64 bits: pass a smaller one") from None


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise RequestError(f"{name}: {_shown(value)} is no whole number: pass one, or null if unknown")
    if not -_LARGEST <= value < _LARGEST:
        raise RequestError(f"{name}: {_shown(value)} is too large for 64 bits: pass the id as it was logged")
    return int(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:50]}..."


def _vectors(name: str, values: Column, width: int) -> NDArray[np.float32]:
    """(N or 1, width), NaN where missing."""
    read = np.full((len(values), width), np.nan, dtype=np.float32)
    for row, value in enumerate(values):
        if value is None:
            continue
        if not isinstance(value, Sequence | np.ndarray) or isinstance(value, str) or len(value) != width:
            raise RequestError(f"{name}: {_shown(value)} is no vector of {width} numbers: pass one, or null if unknown")
        if any(one is None for one in value):
            raise RequestError(f"{name}: {_shown(value)} has a null inside: pass a whole vector, or null if unknown")
        read[row] = _floats(name, {name: list(value)})
    return read


def _listed(each: IdInput, values: Column, now: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Hashes of lists one after the other, and their lengths."""
    lists = []
    for value in values:
        if value is not None and (isinstance(value, str) or not isinstance(value, Sequence | np.ndarray)):
            raise RequestError(f"{each.name}: {_shown(value)} is no list of ids: pass one, or null if there is none")
        lists.append([] if value is None else list(value)[: each.encoding.length])
    flat = [value for one in lists for value in one]
    lengths = np.array([len(one) for one in lists], dtype=np.int64)
    if each.encoding.kind != "ages":
        return (hashed(each.name, flat, each.encoding) if flat else np.empty(0, dtype=np.int64)), lengths
    moments = np.array([_whole(each.name, value) for value in flat], dtype=np.float64)
    octaves = np.floor(2 * np.log2(1.0 + np.maximum(np.floor(now) - moments, 0)))
    return stable_hash(octaves.astype(np.int64), salt=str(each.encoding.salt)), lengths
