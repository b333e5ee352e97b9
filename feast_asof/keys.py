"""Keys as small integers, so that finding the rows of a key is an array access.

Belongs here: from key columns to codes. Not here: rows and clocks (history.py).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

Codes = npt.NDArray[np.integer]
NONE = -1  # the code of a key that no row of the view has, and of a null
_SPARSE = 4  # integers this many times wider apart than there are rows are hashed instead
_FEW = 1 << 20


class Coder(Protocol):
    """Gives each key of a view a code in [0, size)."""

    @property
    def size(self) -> int: ...

    def codes(self, keys: pl.DataFrame) -> Codes:
        """The code of each row of key columns, in their order; ``NONE`` where the view has no such key."""
        ...


@dataclass(frozen=True)
class OneCoder:
    """A view without keys: all rows share one code."""

    size: int = 1

    def codes(self, keys: pl.DataFrame) -> Codes:
        return np.zeros(keys.height, np.int64)


@dataclass(frozen=True)
class DenseCoder:
    """One integer key whose values lie close together: the distance from the smallest."""

    low: int
    size: int

    def codes(self, keys: pl.DataFrame) -> Codes:
        column = keys.to_series()
        inside = column.is_between(self.low, self.low + self.size - 1).fill_null(False).to_numpy()
        values = column.cast(pl.Int64, strict=False).fill_null(self.low).to_numpy() - self.low
        return values if inside.all() else np.where(inside, values, NONE)


@dataclass(frozen=True)
class HashCoder:
    """Keys of any types, and as many columns as there are: the row of the key in a table of all keys."""

    table: pl.DataFrame
    code: str

    @property
    def size(self) -> int:
        return self.table.height

    def codes(self, keys: pl.DataFrame) -> Codes:
        # A value that the keys' type can't hold is not one of them: it becomes null, and matches nothing.
        given = pl.DataFrame(
            [
                comparable(column).cast(dtype, strict=False).alias(name)
                for column, (name, dtype) in zip(keys.get_columns(), self.table.schema.items(), strict=False)
            ]
        )
        joined = given.join(self.table, on=given.columns, how="left", maintain_order="left")
        return joined[self.code].fill_null(NONE).to_numpy()


def comparable(column: pl.Series) -> pl.Series:
    """The column as a type that equal keys share: one integer, float, string and timestamp type."""
    dtype = column.dtype
    if dtype.is_integer():
        return column.cast(pl.Int128 if dtype == pl.UInt64 else pl.Int64)
    if dtype.is_float():
        return column.cast(pl.Float64)
    if isinstance(dtype, pl.Categorical | pl.Enum) or dtype == pl.Null:
        return column.cast(pl.String)
    return column.cast(pl.Datetime("us", dtype.time_zone)).to_physical() if isinstance(dtype, pl.Datetime) else column


def coder_for(keys: pl.DataFrame) -> Coder:
    """A coder for the keys that a view's rows have (without nulls)."""
    if not keys.width:
        return OneCoder()
    if keys.width == 1 and keys.to_series().dtype.is_integer() and keys.height:
        low, high = int(keys.to_series().min()), int(keys.to_series().max())  # type: ignore[arg-type]
        if high - low + 1 <= max(_SPARSE * keys.height, _FEW) and abs(high) < 2**62 and abs(low) < 2**62:
            return DenseCoder(low, high - low + 1)
    code = "code"
    while code in keys.columns:
        code = f"{code}_"
    table = pl.DataFrame([comparable(column) for column in keys.get_columns()]).unique(maintain_order=True)
    return HashCoder(table.with_columns(pl.int_range(pl.len(), dtype=pl.Int64).alias(code)), code)
