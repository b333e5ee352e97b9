"""Many texts are hashed as one by one."""

import numpy as np
import polars as pl

from exfm.encoding import id_encoding
from models.hashing import stable_hash
from pipeline.transforms.hashes import MANY, hashes_of


def test_many_texts_have_the_hashes_of_each() -> None:
    texts = [None if index % 50 == 0 else str(index % 7_000) for index in range(2 * MANY)] + ["", "é"]
    made = hashes_of(pl.Series(texts), id_encoding("user", str))
    assert np.array_equal(made, stable_hash(texts, salt="user")) and made.flags.writeable
    assert np.array_equal(hashes_of(pl.Series(texts[:100]), id_encoding("user", str)), made[:100])
    nothing = hashes_of(pl.Series([None] * 2 * MANY, dtype=pl.String), id_encoding("user", str))
    assert np.array_equal(nothing, stable_hash([None] * 2 * MANY, salt="user"))
