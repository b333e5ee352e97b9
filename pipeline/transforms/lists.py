"""Lists of ids as hashes: histories, bags, and what stands beside their ids.

Belongs here: cutting them, ages, whether they are aligned. Not here: single ids (inputs.py), pooling (models/).
"""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from exfm.encoding import Encoding
from pipeline.tables import DataError
from pipeline.transforms.hashes import hashes_of

CLOCK = "event_timestamp"
Lists = tuple[np.ndarray, np.ndarray]  # (V,) int64 hashes, (N + 1,) offsets


def hashed_lists(frame: pl.DataFrame, names: Sequence[str], encoder: Mapping[str, Encoding]) -> dict[str, Lists]:
    """Lists of ids as hashes of the column that they list, and offsets; null is an empty list.

    Args:
        frame: N rows; where ages are among the lists, with ``event_timestamp``.

    Raises:
        DataError: if a list that stands beside another one is not as long as it.
    """
    hashed = {name: _hashed_list(frame, name, encoder[name]) for name in names}
    for name in names:
        for of in encoder[name].of:
            if of in hashed and not np.array_equal(hashed[name][1], hashed[of][1]):
                row = int(np.flatnonzero(np.diff(hashed[name][1]) != np.diff(hashed[of][1]))[0])
                lengths = (int(np.diff(hashed[each][1])[row]) for each in (name, of))
                raise DataError(
                    f"{name} is not as long as {of}: {next(lengths)} beside {next(lengths)} in row {row}: pass them "
                    "place by place"
                )
    return hashed


def _hashed_list(frame: pl.DataFrame, name: str, encoding: Encoding) -> Lists:
    lists = frame[name] if encoding.length is None else frame[name].list.head(encoding.length)
    lengths = lists.list.len().fill_null(0).to_numpy()
    offsets = np.concatenate([[0], lengths.cumsum()]).astype(np.int64)
    values = lists.filter(lists.list.len() > 0).explode()  # an empty list would explode to a null
    if encoding.kind != "ages":
        return hashes_of(values, encoding), offsets
    moments = frame[CLOCK].dt.epoch("s").to_numpy().repeat(lengths)
    return _hashed_ages(moments - values.cast(pl.Int64).to_numpy(), encoding), offsets


def _hashed_ages(seconds: np.ndarray, encoding: Encoding) -> np.ndarray:
    """Hashes of how many half octaves of a second ago: (V,) seconds; what is said to come later was just now."""
    from models.hashing import stable_hash

    assert encoding.salt is not None
    octaves = np.floor(2 * np.log2(1.0 + np.maximum(seconds, 0)))
    return stable_hash(octaves.astype(np.int64), salt=encoding.salt)
