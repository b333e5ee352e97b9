"""Skew: in how many rows a column was served otherwise than it is joined afterwards.

Belongs here: comparing two columns of rows, and counting. Not here: which rows (inputs.py), the check
(verify/served_skew.py).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import polars as pl

TOLERANCE = 1e-5  # of floats, relative: what 32 bits and another order of adding up make of one
_PARTS = ("rows", "differ", "served_null", "joined_null")


@dataclass(frozen=True)
class Skew:
    """Of one column.

    Args:
        rows: compared.
        differ: in how many both differ; ``served_null``: of those, in how many nothing was served; ``joined_null``: in
            how many nothing is joined.
    """

    rows: int = 0
    differ: int = 0
    served_null: int = 0
    joined_null: int = 0

    @property
    def share(self) -> float:
        return self.differ / max(self.rows, 1)

    def __add__(self, other: "Skew") -> "Skew":
        return Skew(*(getattr(self, part) + getattr(other, part) for part in _PARTS))

    def plain(self) -> dict[str, int]:
        """As JSON has it."""
        return {part: getattr(self, part) for part in _PARTS}

    @classmethod
    def of_plain(cls, plain: Mapping[str, int]) -> "Skew":
        return cls(*(int(plain.get(part, 0)) for part in _PARTS))


def may_be_compared(served: pl.DataType, joined: pl.DataType) -> bool:
    """Is a served column of a type that a joined one can have? One of an earlier declaration may not be."""
    if isinstance(served, pl.List) and isinstance(joined, pl.List):
        return may_be_compared(served.inner, joined.inner)  # type: ignore[arg-type]
    return served == joined or served == pl.Null() or (served.is_numeric() and joined.is_numeric())


def skews(rows: pl.DataFrame, pairs: Mapping[str, tuple[str, str]], lengths: Mapping[str, int]) -> dict[str, Skew]:
    """How columns differ.

    Args:
        pairs: name -> the column that was served and the one that is joined, of the same type.
        lengths: at most so many of a list were read: the rest was not served.
    """
    if not pairs:
        return {}
    counted = rows.select(
        expression
        for name, (served, joined) in pairs.items()
        for expression in _counts(name, rows.schema[joined], served, joined, lengths.get(name))
    ).row(0, named=True)
    return {name: Skew(rows.height, *(int(counted[f"{name}:{part}"]) for part in _PARTS[1:])) for name in pairs}


def _counts(name: str, dtype: pl.DataType, served: str, joined: str, length: int | None) -> Iterable[pl.Expr]:
    mine, theirs = _comparable(pl.col(served), dtype, length), _comparable(pl.col(joined), dtype, length)
    differ = ~_same(mine, theirs, dtype)
    yield differ.sum().alias(f"{name}:differ")
    yield (differ & mine.is_null()).sum().alias(f"{name}:served_null")
    yield (differ & theirs.is_null()).sum().alias(f"{name}:joined_null")


def _comparable(column: pl.Expr, dtype: pl.DataType, length: int | None) -> pl.Expr:
    if isinstance(dtype, pl.List):
        # Feast's online stores know no empty list, and a network reads it as it reads none.
        cut = column if length is None else column.list.head(length)
        return pl.when(cut.list.len() > 0).then(cut)
    return column.fill_nan(None) if dtype.is_float() else column


def _same(mine: pl.Expr, theirs: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    if not dtype.is_float():
        return mine.eq_missing(theirs)
    apart = (mine - theirs).abs()
    near = apart.is_finite() & (apart <= TOLERANCE * pl.max_horizontal(mine.abs(), theirs.abs()))
    return mine.eq_missing(theirs) | near.fill_null(False)
