"""Columns of ids as hashes of 64 bits.

Belongs here: what a column's type does to them. Not here: the hash itself (models/hashing.py).
"""

import numpy as np
import polars as pl

from exfm.encoding import Encoding
from pipeline.tables import DataError

MANY = 10_000  # texts, of which polars finds the distinct ones sooner than Python does


def hashes_of(values: pl.Series, encoding: Encoding) -> np.ndarray:
    """Hashes of a column of ids. A column of integers with a null would reach numpy as floats, which lose bits."""
    from models.hashing import stable_hash

    assert encoding.salt is not None
    if encoding.dtype == "int" and values.dtype.is_float():  # as pandas keeps integers beside nulls
        values = _whole(values.fill_nan(None))
    if values.dtype == pl.String() and len(values) > MANY:
        return _of_many_texts(values, encoding.salt)
    if not values.dtype.is_integer():
        return stable_hash(values.to_numpy(), salt=encoding.salt)
    return stable_hash(values.fill_null(0).to_numpy(), salt=encoding.salt, nulls=values.is_null().to_numpy())


def _of_many_texts(values: pl.Series, salt: str) -> np.ndarray:
    """The same hashes as of each text: each distinct one is hashed once."""
    from models.hashing import NULL_HASH, stable_hash

    distinct = values.drop_nulls().unique()
    known = pl.DataFrame({"text": distinct, "hash": stable_hash(distinct.to_numpy(), salt=salt)})
    found = values.rename("text").to_frame().join(known, on="text", how="left", maintain_order="left")
    return found["hash"].fill_null(NULL_HASH).to_numpy(writable=True)


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
