"""Which rows are judged where there are more than are judged at once.

Belongs here: the draw. Not here: how many rows there may be (scoring.py, succession.py).
"""

import numpy as np
import polars as pl

from exfm.encoding import Encoding
from pipeline.transforms.hashes import hashes_of

HASHED = Encoding(kind="id", treatment="hash", null="id", salt="judged rows")


def drawn(ids: pl.Series, share: float) -> np.ndarray:
    """(N,) bool: a share of the rows by the hash of their id, so the same ones in each process.

    Rows are drawn, not users: each user keeps about so large a share of theirs. So one with very many rows is neither
    all of what is judged nor left out, and intervals from resampled users are those of the rows that are judged.

    Args:
        ids: of impressions, which differ.
    """
    chosen: np.ndarray = (hashes_of(ids, HASHED).view(np.uint64) >> np.uint64(11)) < np.uint64(share * 2**53)
    return chosen
