"""Which users are judged where there are more rows than are judged at once.

Belongs here: the draw. Not here: how many rows there may be (scoring.py, succession.py).
"""

import numpy as np
import polars as pl

from exfm.encoding import Encoding
from models.hashing import NULL_HASH
from pipeline.slices.beside import ID
from pipeline.transforms.hashes import hashes_of

HASHED = Encoding(kind="id", treatment="hash", null="id", salt="judged users")


def drawn(rows: pl.DataFrame, user: str, share: float) -> np.ndarray:
    """(N,) bool: rows of a share of the users, by the hash of their id: the same ones in each slice and process.

    Rows of nobody that the log names are drawn by their own id, one by one.

    Args:
        rows: ``impression_id`` and the column of users.
    """
    hashes = hashes_of(rows[user], HASHED)
    unnamed = hashes == NULL_HASH
    if unnamed.any():
        hashes = np.where(unnamed, hashes_of(rows[ID], HASHED), hashes)
    chosen: np.ndarray = (hashes.view(np.uint64) >> np.uint64(11)) < np.uint64(share * 2**53)
    return chosen
