"""Ids of impressions: one a candidate of an answer, by which a sender logs what it shows.

Belongs here: making them. Not here: where they are logged (request_log.py), the log's contract (pipeline/streams/).
"""

from uuid import UUID

import numpy as np
from numpy.typing import NDArray

_BITS = np.uint64(2**63 - 1)  # a log's ids are int64, and these are positive
_HALF = 2**64


def impression_ids(request: UUID, places: int) -> NDArray[np.int64]:
    """Positive ids of the places 0, 1, ... of an answer's order, (places,).

    Those of one answer are all different, and those of two as likely the same as any two draws of 63 bits.
    """
    high, low = np.array(divmod(request.int, _HALF), dtype=np.uint64).reshape(2, 1)
    # Some bits of each half are the same in all UUIDs: one half is mixed before both meet.
    place: NDArray[np.uint64] = np.arange(places, dtype=np.uint64)
    ids = _mixed(_mixed(high ^ _mixed(low)) + place)
    return np.maximum(ids.astype(np.int64), 1)  # one value of 63 bits is mixed to 0


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's finaliser in 63 bits: each step can be undone, so different values stay different."""
    mixed = values & _BITS
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor) & _BITS
    last: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return last
