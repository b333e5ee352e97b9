"""Columns of ids as hashes of 64 bits.

Belongs here: what a column's type does to them. Not here: the hash itself (models/hashing.py).
"""

import numpy as np
import polars as pl

from exfm.encoding import Encoding
from pipeline.tables import DataError


def hashes_of(values: pl.Series, encoding: Encoding) -> np.ndarray:
    """Hashes of a column of ids. A column of integers with a null would reach numpy as floats, which lose bits."""
    from models.hashing import stable_hash

    assert encoding.salt is not None
    if encoding.dtype == "int" and values.dtype.is_float():  # as pandas keeps integers beside nulls
        values = _whole(values.fill_nan(None))
    if not values.dtype.is_integer():
        return stable_hash(values.to_numpy(), salt=encoding.salt)
    return stable_hash(values.fill_null(0).to_numpy(), salt=encoding.salt, nulls=values.is_null().to_numpy())


def _whole(values: pl.Series) -> pl.Series:
    """Floats that are integers, as integers.

    Raises:
        DataError: for one that is none, or so large (2**53) that a float may have rounded it.
    """
    off = values.filter((values.floor() != values) | (values.abs() >= 2.0**53))
    if len(off):
        raise DataError(
            f"{values.name}: {off[0]!r} as a float is no integer id, or too large to be sure of: "
            "pass the column as integers (in pandas: Int64)"
        )
    return values.cast(pl.Int64)
